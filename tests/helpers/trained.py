"""A study without Ray whose complete trials have real, trained final models."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from study.config.search import SearchConfig
from study.config.trial import TrialConfig
from study.results.history import STATE_FILE
from study.results.storage import Storage
from study.results.tables import StudyResults, load_study
from study.training.trainer import Trainer
from tests.helpers.simulated import run_study, search_config

WIDTH = {"name": "CategoricalDistribution", "attributes": {"choices": [0.5]}}
BATCH = {"name": "CategoricalDistribution", "attributes": {"choices": [32]}}


def small_search(**more) -> SearchConfig:
    """Six trials of a small network, in fp32."""
    config = search_config(6, precision="fp32", **more)
    return replace(config, space={**config.space, "batch_size": BATCH, "width_mult": WIDTH})


def trained_study(folder: Path, config, digits) -> dict[str, Trainer]:
    """Run a study; returns the trainers of its complete trials, without kernels, by trial id."""
    run_study(folder, config)
    return {trial_id: train_final_model(folder, trial_id, digits) for trial_id in complete(folder)}


def complete(folder: Path) -> list[str]:
    trials = load_study(folder).trials
    return trials.loc[trials["status"] == "complete", "trial_id"].tolist()


def last_checkpoint(folder: Path, trial_id: str) -> Path:
    return max((folder / "ray" / trial_id).glob("checkpoint_*"))


def train_final_model(folder: Path, trial_id: str, digits) -> Trainer:
    history = Storage(folder).history_in(str(last_checkpoint(folder, trial_id)))
    trainer = Trainer(TrialConfig(**history.config), *digits, torch.device("cpu"), compiled=False)
    trainer.run_epoch()
    replace_state(folder, trial_id, trainer.state_dict())
    return trainer


def replace_state(folder: Path, trial_id: str, state) -> None:
    """Put `state` into a trial's last checkpoint, and its digest into the history there."""
    checkpoint = last_checkpoint(folder, trial_id)
    history = Storage(folder).history_in(str(checkpoint))
    torch.save(state, checkpoint / STATE_FILE)
    digest = hashlib.sha256((checkpoint / STATE_FILE).read_bytes()).hexdigest()
    replace(history, state_sha256=digest).save(checkpoint)


def best_of(results: StudyResults) -> str:
    """By hand, unlike `rank_trials`."""
    done = [row for row in results.trials.to_dict("records") if row["status"] == "complete"]
    return max(done, key=lambda row: row["last_eval_accuracy"])["trial_id"]
