"""How close a trial that was trained again comes to what the tables hold of it.

With the same code, versions and processor it is the same bit for bit. Otherwise the first
step's loss differs by rounding. From then on the difference grows until the two runs are as far
apart as two seeds. So a later value is judged by how far apart seeds come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.console.text import escape, one_line
from study.results.study_file import SessionRecord
from study.training.epoch import TIMES, EpochRecord

CHANGED = " with changes"  # which no two checkouts need have in common
PACKAGES = ("torch", "numpy", "mnist-study")  # that decide what a trial computes
# Relative difference that rounding may make to the first step's loss: one unit roundoff of bf16;
# for fp32 that of TF32, in which GPUs convolved in earlier versions.
FIRST_STEP = {"bf16": 2**-8, "fp32": 2**-11}
# The largest factor between two values, and what may come on top. In results/paper (96 runs of 15
# arms, Adadelta, 4,665 pairs of two seeds after the same epoch) no pair exceeds the factor of
# train_loss, 4 that of eval_loss, and 2 that of the share of errors.
LIMITS = {
    **dict.fromkeys(("epoch", "step", "examples_seen"), (1, 0)),
    "epoch_lr": (1 + 1e-12, 0),
    "train_loss": (1.4, 0),
    "eval_loss": (2, 0),
    "eval_accuracy": (2, 0.002),  # of errors; a factor on a handful of errors says nothing
}


@dataclass(frozen=True)
class RecordedEpoch:
    """What the tables hold of one epoch.

    Attributes:
        values: Its row in ``epochs.parquet``.
        losses: Of its steps, float64 (steps,); empty if they are lost.
        first_step: The number of its first step in the trial, from 1.
        diverged: Whether the trial diverged in it.
    """

    values: dict[str, Any]
    losses: np.ndarray
    first_step: int
    diverged: bool

    def first_difference(self, record: EpochRecord, losses: np.ndarray) -> str:
        """Where it is not bit for bit what was measured again; empty if it is.

        Times are not compared, nor what is lost: it is empty in the tables.

        Args:
            record: The epoch as it was measured again.
            losses: The losses of its steps, float32 (steps,).
        """
        if len(self.losses) and len(self.losses) != len(losses):
            return f"{len(self.losses)} steps recorded, {len(losses)} now"
        now = losses.astype(float)
        if len(self.losses) and len(other := np.flatnonzero(~_same(self.losses, now))):
            first = int(other[0])
            return (
                f"{len(other)} of {len(now)} step losses, the first at step "
                f"{self.first_step + first}: {_both(self.losses[first], now[first])}"
            )
        if self.diverged != record.diverged:
            return self._divergence()
        for name, value in asdict(record).items():
            recorded = self.values[name]
            is_lost = pd.isna(recorded) and not self.diverged
            if name in TIMES or value is None or is_lost:
                continue
            if not _same(recorded, value):
                return f"{name}: {_both(recorded, value)}"
        return ""

    def beyond_tolerance(
        self, record: EpochRecord, losses: np.ndarray, first_step: float | None
    ) -> str:
        """Which value is further from what was measured again than the tolerance; empty if none.

        Args:
            record: The epoch as it was measured again.
            losses: The losses of its steps, float32 (steps,).
            first_step: Tolerance of the trial's first step; None if it is not comparable.
        """
        if self.diverged or record.diverged:
            return "" if self.diverged == record.diverged else self._divergence()
        if first_step is not None and self.first_step == 1 and len(self.losses):
            recorded, now = float(self.losses[0]), float(losses[0])
            if not math.isclose(recorded, now, rel_tol=first_step):
                return f"loss of step 1: {_both(recorded, now)}"
        for name, (factor, slack) in LIMITS.items():
            recorded, now = self.values[name], getattr(record, name)
            share = name == "eval_accuracy"  # of which the errors are compared
            low, high = sorted((1 - recorded, 1 - now) if share else (recorded, now))
            if high > factor * low + slack:
                return f"{name}: {_both(recorded, now)}"
        return ""

    def _divergence(self) -> str:
        return "diverged in the record, not now" if self.diverged else "diverged now"


def tolerance_in_words(first_step: float | None) -> str:
    """What `RecordedEpoch.beyond_tolerance` asks for.

    Args:
        first_step: As there.
    """
    (train, _), (evaluated, _) = LIMITS["train_loss"], LIMITS["eval_loss"]
    errors, more = LIMITS["eval_accuracy"]
    first = f"the first step's loss within {first_step:.2%}; " if first_step else ""
    return (
        f"{first}after each epoch the training loss within a factor of {train:g}, the evaluated "
        f"loss within {evaluated:g}, the share of errors within {errors:g} plus {100 * more:g} "
        "points (two seeds differ by as much)"
    )


def recorded_epochs(
    row: dict[str, Any], epochs: pd.DataFrame, steps: pd.DataFrame
) -> list[RecordedEpoch]:
    """What the tables hold of a trial, by epoch.

    Args:
        row: Its row in ``trials.parquet``.
        epochs: ``epochs.parquet``.
        steps: ``steps.parquet``.

    Raises:
        ValueError: A step belongs to no epoch.
    """
    own = epochs[epochs["trial_id"] == row["trial_id"]].sort_values("epoch")
    own_steps = steps[steps["trial_id"] == row["trial_id"]].sort_values("step")
    losses = {epoch: part["loss"].to_numpy() for epoch, part in own_steps.groupby("epoch")}
    if strange := losses.keys() - set(range(1, len(own) + 1)):
        raise ValueError(f"a step of epoch {min(strange)}, of {len(own)}")
    found: list[RecordedEpoch] = []
    for number, values in enumerate(own.to_dict("records"), 1):
        first = 1 + sum(len(epoch.losses) for epoch in found)
        ended = row["status"] == "diverged" and number == row["epochs_run"]
        of_epoch = losses.get(number, np.empty(0))
        found.append(RecordedEpoch({str(k): v for k, v in values.items()}, of_epoch, first, ended))
    return found


def other_circumstances(
    sessions: Sequence[SessionRecord], *, devices: tuple[str, str]
) -> list[str]:
    """What is known to be other than in the record, and may so explain other bits.

    The record does not say which of a study's sessions trained a trial: each counts.

    Args:
        sessions: The study's.
        devices: The name of the trial's processor or GPU, and of that which is used here.
    """
    here = SessionRecord.of_this_process(None, nodes=1, concurrent_trials=1, gpus_per_trial=0)
    pairs = [({f"device {devices[0]}"}, f"device {devices[1]}")]
    for name in PACKAGES:
        pairs.append(({_version(session, name) for session in sessions}, _version(here, name)))
    pairs.append(({_code(session) for session in sessions}, _code(here)))
    return [
        escape(f"{' or '.join(sorted(recorded))} (here {now})", keep="")
        for recorded, now in pairs
        if recorded != {now} or now.endswith(CHANGED)
    ]


def _version(session: SessionRecord, package: str) -> str:
    return f"{package} {one_line(session.versions.get(package) or 'unknown', 80)}"


def _code(session: SessionRecord) -> str:
    git = session.git or {"commit": "unknown", "dirty": False}
    return f"commit {git['commit'][:10]}{CHANGED if git['dirty'] else ''}"


def _same(one: Any, other: Any) -> Any:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def _both(recorded: Any, now: Any) -> str:
    return f"{recorded!s} recorded, {now!s} now"
