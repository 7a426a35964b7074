"""What the rows of table ``trials`` say: how good trials are, and how they were configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from study.config.hyperparameters import HYPERPARAMETERS
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import format_value, one_line, shown
from study.results.earlier import CONFIGURED
from study.results.tables import StudyResults


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


def arm_settings(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The network and hyperparameters of a trial, as the settings of an arm.

    Args:
        row: The trial's, in ``trials.parquet``.
    """
    values = {name: row[name] for name in HYPERPARAMETERS if not pd.isna(row[name])}
    return {
        "model": row["model"],
        **{name: HYPERPARAMETERS[name].type(value) for name, value in values.items()},
    }


def in_words(settings: Mapping[str, Any]) -> str:
    """Hyperparameters as text: ``batch 64, lr 0.5, gamma 0.7``. Leaves out other keys."""
    return ", ".join(
        f"{HYPERPARAMETERS[name].label} {format_value(value)}"
        for name, value in settings.items()
        if name in HYPERPARAMETERS and not pd.isna(value)
    )


def trained_config(results: StudyResults, row: Mapping[str, Any]) -> TrialConfig:
    """The configuration that a trial was trained with: its own seed, and the precision it had.

    Args:
        results: The study.
        row: The trial's, in ``trials.parquet``.

    Raises:
        UserError: The table holds what the study cannot have run.
    """
    study, known = results.study.config, {n: v for n, v in row.items() if not pd.isna(v)}
    try:
        params = {name: known[name] for name in study.distributions() if name in known}
        ran = {"seed": row["seed"], "precision": known.get("precision", study.precision)}
        config = replace(study.trial_config(params, 0), **ran)
        wrong = [name for name in CONFIGURED if differs(row[name], getattr(config, name))]
        wrong += ["seed"] * (config.seed < 0) + ["epochs_run"] * (row["epochs_run"] > config.epochs)
        if wrong:
            raise UserError(f"{wrong[0]}: {shown(row[wrong[0]])} is not of its configuration")
    except (KeyError, UserError) as error:
        why = f"no arm {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(
            f"{results.path / 'trials.parquet'}: damaged ({row['trial_id']}: {why}); restore it "
            "from a copy"
        ) from None
    return config
