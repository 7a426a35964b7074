"""Which modules import which, and what a fresh process loads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from importlinter.cli import lint_imports

from tests.helpers.studies import ROOT

HEAVY = {"torch", "ray", "optuna", "pandas"}
BORDERS = {
    "study": {*HEAVY, "numpy"},
    "study.config.search": {*HEAVY, "numpy"},
    "study.config.comparison": {*HEAVY, "numpy"},
    "study.config.questions": {*HEAVY, "numpy"},
    "study.run": {"torch", "pandas"},  # so that --help and errors are fast
    "study.compare": {"torch", "pandas"},
    "study.predict": HEAVY,
    "study.replay": {"torch", "ray", "optuna"},
    "study.results.tables": {"torch", "ray", "optuna"},
    "study.results.final_model": {"ray", "optuna"},
    "study.search.searcher": {"torch", "torchvision"},
    "study.search.trainable": {"optuna"},
    "benchmarks.training": {"ray", "optuna", "pandas"},  # for a bare GPU machine
    "analysis": HEAVY,
    "analysis.report": {"torch", "ray", "optuna", "sklearn", "opda"},
}


def loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_rooms_import_only_what_is_below_them():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, (
        "the contracts are in pyproject.toml; move what is imported to a lower room, or the import "
        "to a higher one"
    )


@pytest.mark.parametrize("module", BORDERS)
def test_module_does_not_import(module):
    assert not BORDERS[module] & loaded_by(module)


def test_the_check_can_fail():
    assert "torch" in loaded_by("study.training.trainer")
