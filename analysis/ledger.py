"""The ledger: all claims of the paper, each with its verdict and with what on the page shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from analysis import paper, places
from analysis.claims import batch_size, cnn, resnet
from analysis.evidence import Evidence
from analysis.places import Place
from analysis.verdicts import NO_EVIDENCE, Finding, NoEvidence
from study.config.questions import BATCH_SIZE, MODELS, REGULARIZATION, TRAINING_SIZE, Question


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        judge: Makes its entry from the evidence.
        question: The question whose results judge it; None if it needs no results.
        shown_in: The figure or table that shows its number, from the same question.
    """

    judge: Callable[[Evidence], Finding]
    question: Question | None
    shown_in: Place

    def __post_init__(self) -> None:
        if self.shown_in.question not in (None, self.question):
            raise ValueError(
                f"{self.judge.__name__}: {self.shown_in.name} answers another question"
            )

    def entry(self, evidence: Evidence) -> Finding:
        """The ledger's entry, with what shows it or the command that makes the missing results."""
        number = self.judge.__name__.upper()
        try:
            found = replace(self.judge(evidence), claim=number)
        except NoEvidence:
            command = self.question.command if self.question else ""
            return Finding(NO_EVIDENCE, "", "To judge it, run:", claim=number, command=command)
        if self.question and evidence.get(self.question) is None:
            return found
        return replace(found, shown_in=self.shown_in)


CLAIMS = (
    Claim(batch_size.c1, BATCH_SIZE, places.DIFFERENCES),
    Claim(batch_size.c2, BATCH_SIZE, places.ACCURACY_BY_EPOCH),
    Claim(batch_size.c3, BATCH_SIZE, places.DIFFERENCES),
    Claim(batch_size.c4, BATCH_SIZE, places.DIFFERENCES),
    Claim(batch_size.c5, BATCH_SIZE, places.THROUGHPUT),
    Claim(batch_size.c6, BATCH_SIZE, places.LOSS_NOISE),
    Claim(batch_size.c7, BATCH_SIZE, places.NOISE_SCALE),
    Claim(batch_size.c8, BATCH_SIZE, places.LOSS_BY_BATCH),
    Claim(cnn.c9, BATCH_SIZE, places.ACCURACY_BY_EPOCH),
    Claim(cnn.c10, BATCH_SIZE, places.by_arm(BATCH_SIZE)),
    Claim(cnn.c11, BATCH_SIZE, places.CONFIDENCES),
    Claim(cnn.c12, BATCH_SIZE, places.RELIABILITY),
    Claim(cnn.c13, BATCH_SIZE, places.CONFIDENCES),
    Claim(cnn.c14, BATCH_SIZE, places.ERROR_OVERLAP),
    Claim(cnn.c15, TRAINING_SIZE, places.LEARNING_CURVE),
    Claim(resnet.c16, REGULARIZATION, places.regularization("cnn")),
    Claim(resnet.c17, MODELS, places.DIFFERENCES),
    Claim(resnet.c18, MODELS, places.MODELS_TO_TARGET),
    Claim(resnet.c19, MODELS, places.by_arm(MODELS)),
    Claim(resnet.c20, None, places.layers("resnet18")),
    Claim(resnet.c21, MODELS, places.by_arm(MODELS)),
)


def ledger(evidence: Evidence) -> list[Finding]:
    """All claims, in order."""
    return [claim.entry(evidence) for claim in CLAIMS]


def as_frame(findings: list[Finding]) -> pd.DataFrame:
    """The ledger as a table, with each claim's words and their place in the paper."""
    rows = []
    for finding in findings:
        said = paper.STATEMENTS[finding.claim]
        rows.append(
            {
                "claim": finding.claim,
                "verdict": finding.verdict,
                "reported": said.reported,
                **vars(finding),
                "shown_in": finding.shown_in.name if finding.shown_in else "",
                "place": said.place,
                "quote": said.quote,
                "trials": " ".join(finding.trials),
            }
        )
    return pd.DataFrame(rows)
