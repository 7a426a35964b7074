"""Whether the test images are still sealed."""

from __future__ import annotations

from study.console.errors import cannot_be_read
from study.console.text import shown
from study.data.images import OPENINGS_FILE, openings
from study.results.health.card import FAIL, PASS, WARN, Card, search_command
from study.results.tables import StudyResults


def check(results: StudyResults) -> Card:
    """FAIL if trials were ranked on the test images, WARN if these were opened more than once.

    Raises:
        StorageError: The record of the openings cannot be read.
    """
    if results.study.evaluated != "validation":
        why = f"The trials were ranked on the {results.study.evaluated} images."
        return Card("test set", FAIL, why, search_command(results))
    record = results.path / OPENINGS_FILE
    try:
        reasons = dict.fromkeys(openings(record))  # a session that goes on repeats its own
    except OSError as error:
        raise cannot_be_read(record, error) from None
    if len(reasons) > 1:
        why = (
            f"The test images were opened for {len(reasons)} reasons ({OPENINGS_FILE} has them): "
            "what was chosen after the first may depend on them."
        )
        return Card("test set", WARN, why, search_command(results))
    opened = "no opening of the test images is recorded"
    if reasons:
        opened = f"the test images were opened once: {shown(next(iter(reasons)), 120)}"
    return Card("test set", PASS, f"Trials were ranked on validation images, and {opened}.")
