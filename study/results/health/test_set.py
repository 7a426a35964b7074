"""Whether the test images are still sealed."""

from __future__ import annotations

from study.data.images import OPENINGS_FILE
from study.results.health.card import FAIL, PASS, WARN, Card, search_command
from study.results.tables import StudyResults


def check(results: StudyResults) -> Card:
    """FAIL if trials were ranked on the test images, WARN if these were opened."""
    if results.study.evaluated != "validation":
        why = f"The trials were ranked on the {results.study.evaluated} images."
        return Card("test set", FAIL, why, search_command(results))
    if (results.path / OPENINGS_FILE).exists():
        why = (
            f"The test images were opened ({OPENINGS_FILE} says when): what was chosen since may "
            "depend on them."
        )
        return Card("test set", WARN, why, search_command(results))
    why = "Trials were ranked on validation images, and no opening of the test images is recorded."
    return Card("test set", PASS, why)
