"""Whether all trials ran with the same code, packages and processor."""

from __future__ import annotations

from typing import Any

from study.console.text import shown
from study.results.health.card import PASS, WARN, Card, finalize_command
from study.results.study_file import SessionRecord
from study.results.tables import StudyResults
from study.results.versions import PACKAGES

LONGEST = 30  # characters of a version that is shown: a commit's would fill the line


def check(results: StudyResults) -> Card:
    """WARN if the trials differ in more than their hyperparameters and seeds."""
    sessions = [_made_with(session) for session in results.study.sessions]
    devices = sorted(results.trials["device"].dropna().unique())
    facts = {name: [session[name] for session in sessions] for name in sessions[0]}
    facts = {**facts, "processor": devices}
    different = [
        f"{name} {' and '.join(shown(value, LONGEST) for value in unique)}"
        for name, values in facts.items()
        if len(unique := [v for i, v in enumerate(values) if v not in values[:i]]) > 1
    ]
    if different:
        why = f"The trials ran with different {', '.join(different)}."
        return Card("versions", WARN, why, finalize_command(results))
    count = f"{len(sessions)} session{'s' if len(sessions) > 1 else ''}"
    return Card("versions", PASS, f"{count}, with the same code, packages and processor.")


def _made_with(session: SessionRecord) -> dict[str, Any]:
    packages = {name: session.versions.get(name) for name in PACKAGES}
    commit = session.git["commit"][:10] if session.git else None
    return {"python": session.python, **packages, "commit": commit}
