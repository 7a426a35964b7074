"""The borders between the parts, each checked in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

BORDERS = {
    "study": {"torch", "ray", "optuna", "pandas", "numpy"},
    "study.epoch": {"torch", "ray", "optuna", "pandas", "numpy"},
    "study.config": {"torch", "ray", "optuna", "pandas", "numpy"},
    "study.space": {"torch", "ray", "pandas"},
    "study.data": {"torch", "torchvision", "ray", "optuna", "pandas"},
    "study.kernels.conv_stage": {"ray", "optuna", "pandas"},
    "study.models": {"ray", "optuna", "pandas"},
    "study.train": {"ray", "optuna", "pandas"},
    "study.results": {"torch", "ray", "optuna"},
    "study.trainable": {"optuna"},
    "study.searcher": {"torch", "torchvision"},
    "study.comparison": {"torch", "ray", "optuna", "pandas", "numpy"},
    "study.questions": {"torch", "ray", "optuna", "pandas", "numpy"},
    "study.run": {"torch", "pandas"},  # --help and bad input answer fast
    "study.compare": {"torch", "pandas"},
    "benchmarks.training": {"ray", "optuna", "pandas"},  # for a bare GPU machine
    "analysis": {"torch", "ray", "optuna", "pandas"},
    "analysis.search_frames": {"torch", "ray", "optuna"},
    "analysis.plots.search": {"torch", "ray", "optuna"},
    "analysis.ledger": {"torch", "ray", "optuna"},
    "analysis.report": {"torch", "ray", "optuna"},
}


def loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", BORDERS)
def test_module_does_not_import(module):
    assert not BORDERS[module] & loaded_by(module)


def test_the_check_can_fail():
    assert "torch" in loaded_by("study.train")
