"""The final model of a trial: found in its last checkpoint, described, exported."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from study.config.datasets import DATASET_SPECS
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import command_line, one_line, shown
from study.results.history import NUM_CLASSES
from study.results.storage import RAY_FOLDER, Storage
from study.results.study_file import StudyFile
from study.results.tables import StudyResults, load_study, rank_trials
from study.training.export import FORMAT_VERSION, Classifier, save_model


def final_model(folder: Path, trial_id: str | None = None) -> Classifier:
    """A complete trial's final model, as `study.training.export.load_model` returns it.

    Args:
        folder: The study's.
        trial_id: Which trial; None: the best one of a study whose trials compete.

    Raises:
        UserError: There is no such trial, it is not complete, or its model is not there.
    """
    results = load_study(folder)
    trial = _chosen(results, trial_id)
    study, trial_id = results.study, str(trial["trial_id"])
    try:
        params = {name: trial[name] for name in study.config.draws(trial)}
        config = replace(study.config.trial_config(params, 0), seed=trial["seed"])
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{folder / 'trials.parquet'}: damaged ({trial_id}: {one_line(error, 100)}); restore "
            "it from a copy"
        ) from None
    storage = Storage(folder, study.storage)
    found = storage.newest_checkpoint(trial_id, config, resumable=True)
    state = None
    if found is not None and len(found[1].epochs) == trial["epochs_run"]:
        state = storage.state_in(*found)
    place = storage.trial_folder(trial_id)
    if state is None:
        raise UserError(
            f"{place}: no intact final model there; bring the folder {RAY_FOLDER}/ from where the "
            "study ran, or choose another trial with --trial"
        )
    about = _description(study, config, trial)
    try:
        kept = torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")
        return Classifier(about, kept["model"])
    except Exception as error:  # what was changed on purpose gives errors of any kind
        raise UserError(
            f"{place}: the final model is damaged ({one_line(error, 100)}); restore it from a copy"
        ) from None


def export_model(folder: Path, trial_id: str | None, into: Path) -> None:
    """Write the final model of a trial of the study in `folder` to the folder `into`.

    Args:
        folder: The study's.
        trial_id: As `final_model` takes it.
        into: Holds ``model.safetensors`` and ``model.json`` afterwards; made if it is missing.

    Raises:
        UserError: There is no such model, or `into` cannot be written.
    """
    save_model(final_model(folder, trial_id), into)


def _chosen(results: StudyResults, trial_id: str | None) -> dict[str, Any]:
    """The row of the trial that is meant, in plain Python values."""
    path, trials = results.path, results.trials
    complete = rank_trials(trials[trials["status"] == "complete"])
    if complete.empty:
        raise UserError(
            f"{path}: no trial is complete, so there is no final model; see "
            + command_line("study.status", path)
        )
    best = complete["trial_id"].iloc[0]
    if trial_id is None and not results.study.config.is_ranked:
        raise UserError(
            f"{path}: its trials do not compete, so none is the best; choose one with --trial, "
            f"such as {best}"
        )
    rows = trials[trials["trial_id"] == (best if trial_id is None else trial_id)]
    if rows.empty:
        raise UserError(f"--trial: {shown(trial_id)} is not in {path}; a complete one is {best}")
    (row,) = rows.to_dict("records")
    if row["status"] != "complete":
        raise UserError(
            f"--trial: {trial_id} is {row['status']}; only complete trials have a final model, "
            f"such as {best}"
        )
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _description(study: StudyFile, config: TrialConfig, trial: dict[str, Any]) -> dict[str, Any]:
    """What model.json says of a trial's final model."""
    spec = DATASET_SPECS[config.dataset]
    of_session = ("started", "python", "versions", "git")
    return {
        "format_version": FORMAT_VERSION,
        "config": asdict(config),
        "normalisation": {"mean": spec.mean, "std": spec.std},
        "classes": [str(label) for label in range(NUM_CLASSES)],
        "num_params": trial["num_params"],
        "scores": {
            "evaluated": study.evaluated,
            "images": study.num_evaluated,
            "accuracy": trial["last_eval_accuracy"],
            "loss": trial["last_eval_loss"],
            "chose_it": study.config.is_ranked,
        },
        "provenance": {
            "study": study.config.name,
            "kind": study.config.kind,
            "trial_id": trial["trial_id"],
            "seed": config.seed,
            "precision": trial["precision"],  # of the training, and of the scores
            "data": study.to_json()["data"],
            "sessions": [
                {name: asdict(session)[name] for name in of_session} for session in study.sessions
            ],
        },
    }
