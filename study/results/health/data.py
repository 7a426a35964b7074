"""Whether the images were the original ones."""

from __future__ import annotations

from study.config.datasets import DATASET_SPECS
from study.results.health.card import FAIL, NOT_APPLICABLE, PASS, Card, search_command
from study.results.tables import StudyResults


def check(results: StudyResults) -> Card:
    """FAIL if study.json names other checksums than the original files have."""
    found, dataset = results.study.sha256, results.study.config.dataset
    if found is None:
        return Card("data", NOT_APPLICABLE, "study.json names no checksums.")
    expected = DATASET_SPECS[dataset].sha256
    if found == expected:
        why = f"The {len(expected)} files of {dataset} have the SHA-256 of the originals."
        return Card("data", PASS, why)
    different = sum(found.get(name) != sha256 for name, sha256 in expected.items())
    why = f"{different} of {len(expected)} files of {dataset} differ from the originals (SHA-256)."
    return Card("data", FAIL, why, search_command(results))
