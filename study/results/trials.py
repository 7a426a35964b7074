"""What the rows of table ``trials`` say: which trials are best, which has the paper's settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.trial import TrialConfig


def differs(value: Any, expected: Any) -> bool:
    """Whether a table's `value` differs from `expected`. The table's NA equals None."""
    return (not pd.isna(value)) if expected is None else bool(pd.isna(value) or value != expected)


def rank_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials, best first: complete ones by their last validation accuracy, then the others."""
    order = trials.assign(_other=trials["status"] != "complete")
    by = ["_other", "last_eval_accuracy", "last_eval_loss"]
    return order.sort_values(by, ascending=[True, False, True]).drop(columns="_other")


def complete_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The complete trials with a finite accuracy, the most accurate first."""
    is_measured = np.isfinite(trials["last_eval_accuracy"].astype(float))
    return rank_trials(trials[(trials["status"] == "complete") & is_measured])


def have_papers_settings(trials: pd.DataFrame) -> list[bool]:
    """Whether each trial has the paper's hyperparameters."""
    paper = TrialConfig()
    return [
        not any(differs(row[name], getattr(paper, name)) for name in HYPERPARAMETERS)
        for row in trials.to_dict("records")
    ]
