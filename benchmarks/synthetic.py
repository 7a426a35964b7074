"""A trial that trains nothing, for `benchmarks.scale_driver`.

It reports and saves the same things as a real trial, with made-up values. Ray's worker processes
import this module, so it must not import torch.
"""

from __future__ import annotations

import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.results.history import HISTORY_FILE, STATE_FILE, History

START_UP_S = 300.0


class SyntheticTrainable(tune.Trainable):
    """A stand-in for `TrialTrainable`; its config is a `TrialConfig` as a dict."""

    def setup(self, config: dict[str, Any], crew: Path | None = None, slots: int = 1) -> None:
        """Draw the trial's quality.

        Args:
            config: A `TrialConfig` as a dict.
            crew: A folder in which each process creates a file; None: do not wait for the others.
            slots: The number of processes.
        """
        if crew is not None:
            _wait_for_all(crew, slots)
        self.trial = config
        self.rng = np.random.default_rng(config["seed"])
        # Best at a learning rate of 1, with some noise, so that samplers and ASHA have work.
        self.quality = 0.99 - 0.02 * math.log10(config["lr"]) ** 2 + self.rng.normal(0, 0.003)
        full, rest = divmod(NUM_TRAIN_EXAMPLES, config["batch_size"])
        self.batch_sizes = [config["batch_size"]] * full + [rest] * (rest > 0)
        self.epochs: list[dict[str, Any]] = []
        self.losses: list[np.ndarray] = []

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turn this actor into the next trial."""
        self.setup(new_config)  # `tune.with_parameters` adds the rest
        return True

    def step(self) -> dict[str, Any]:
        """Make up one epoch."""
        epoch, steps = len(self.epochs) + 1, len(self.batch_sizes)
        accuracy = self.quality - 0.1 / epoch + self.rng.normal(0, 0.001)
        self.losses.append(self.rng.lognormal(-1.0 - 0.2 * epoch, 0.3, steps).astype(np.float32))
        self.epochs.append(
            {
                "epoch": epoch,
                "step": epoch * steps,
                "examples_seen": epoch * NUM_TRAIN_EXAMPLES,
                "epoch_lr": self.trial["lr"] * self.trial["gamma"] ** (epoch - 1),
                "train_loss": float(self.losses[-1].mean()),
                "eval_loss": 3.0 * (1.0 - accuracy),
                "eval_accuracy": accuracy,
                "epoch_seconds": 1.0,
                "eval_seconds": 0.1,
                "epoch_ended": round(time.time(), 3),
                "grad_sq_small": None,
                "grad_sq_big": None,
            }
        )
        return {
            **self.epochs[-1],
            "training_iteration": epoch,
            "diverged": False,
            "done": epoch >= self.trial["epochs"],
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a history as long as a real one, and an empty state."""
        facts = {
            "num_params": 1,
            "precision": "fp32",
            "train_examples": NUM_TRAIN_EXAMPLES,
            "dropout": False,
            "batch_norm": True,
            "node": platform.node(),
            "device": "none",
        }
        with (Path(checkpoint_dir) / STATE_FILE).open("wb") as file:
            np.savez(file, nothing=np.zeros(1))  # a zip, like torch's
        History(self.epochs, self.losses, self.batch_sizes, facts).save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a folder written by `save_checkpoint`."""
        assert isinstance(checkpoint, str)
        history = History.read((Path(checkpoint) / HISTORY_FILE).read_bytes())
        self.epochs, self.losses = history.epochs, history.step_losses


def _wait_for_all(crew: Path, slots: int) -> None:
    """Wait until every slot has its process, so that all take part.

    Processes take seconds to start. Meanwhile the first one could finish all the short trials.
    """
    (crew / str(os.getpid())).touch()
    end = time.monotonic() + START_UP_S
    while len(list(crew.iterdir())) < slots and time.monotonic() < end:
        time.sleep(0.1)
