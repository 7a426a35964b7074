"""The table of the results folders that the page is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.evidence import Evidence, folder_name
from analysis.parts import Table
from study.results.study_file import SessionRecord
from study.results.tables import StudyResults


def sources(evidence: Evidence) -> Table:
    """The results folders that the numbers come from, one row per folder."""
    loaded = [*evidence.searches, *(c.results for c in evidence.comparisons.values())]
    frame = pd.DataFrame([_source(results) for results in loaded])
    return Table("sources", "The results that this page is made from.", frame, frame.astype(str))


def _source(results: StudyResults) -> dict[str, Any]:
    trials, study = results.trials, results.study

    def of_all(fact: Callable[[SessionRecord], str]) -> str:
        """A fact of the sessions, in order. A value that occurs again is not repeated."""
        return "; then ".join(filter(None, dict.fromkeys(map(fact, study.sessions))))

    return {
        "results": folder_name(results),
        "trials": len(trials),
        "made by": of_all(lambda session: f"python {session.command}"),
        "data": f"{study.config.dataset}: trained on {study.num_train:,} images, evaluated on "
        f"{study.num_evaluated:,} {study.evaluated} images",
        "device": ", ".join(sorted(trials["device"].dropna().unique())),
        "precision": ", ".join(sorted(trials["precision"].dropna().unique())),
        "seed": study.config.seed,
        "versions": of_all(_versions),
        "commit": of_all(_commit),
        "started": study.sessions[0].started,
    }


def _versions(session: SessionRecord) -> str:
    known = [f"{name} {version}" for name, version in session.versions.items() if version]
    return ", ".join([*known, f"Python {session.python}"])


def _commit(session: SessionRecord) -> str:
    git = session.git
    return f"{git['commit'][:10]}{' (uncommitted changes)' if git['dirty'] else ''}" if git else ""
