"""The adapter between Ray Tune and the trainer: one epoch per step, one checkpoint per epoch."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from study.config.trial import TrialConfig
from study.data.images import ImageData
from study.results.history import STATE_FILE, History, in_half_precision
from study.training.device import device_name, pick_device, set_threads
from study.training.kernels import keep_freed_memory
from study.training.models import BatchNormReLU, MaskDropout, count_parameters
from study.training.trainer import Trainer


class TrialTrainable(tune.Trainable):
    """A trial for Ray Tune. Each call of `step` is one epoch, followed by a checkpoint.

    Its config is a `TrialConfig` as a dict. The actor is reused for the next trial. Everything
    that belongs to one trial is in its `Trainer`, which `setup` replaces.
    """

    def setup(
        self, config: dict[str, Any], keep: bool = False, gpu: bool = False, **data: Any
    ) -> None:
        """Build the trial.

        Args:
            config: A `TrialConfig` as a dict.
            keep: Whether to record the final model's predictions, and the gradient's noise after
                each epoch. A search does not need them.
            gpu: Whether the trial has a GPU. Torch may see one that it must leave to others.
            **data: The splits' arrays, shared through the object store.
        """
        self.keep = keep
        set_threads()
        keep_freed_memory()
        self.__dict__.pop("trainer", None)  # frees the memory of the previous trial
        torch.cuda.empty_cache()  # for the other trials of the GPU; has no effect on a CPU
        self.trainer = Trainer(
            TrialConfig(**config),
            ImageData(data["train_images"], data["train_labels"]),
            ImageData(data["eval_images"], data["eval_labels"]),
            pick_device() if gpu else torch.device("cpu"),
            measure_noise=keep,
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turn this actor into the next trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch. The result holds the epoch's record."""
        record = self.trainer.run_epoch()
        return {
            **asdict(record),
            "training_iteration": record.epoch,  # Ray's own count restarts on resuming
            "diverged": record.diverged,
            "done": self.trainer.finished,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trainer's state and the history so far."""
        folder = Path(checkpoint_dir)
        torch.save(self.trainer.state_dict(), folder / STATE_FILE)
        with (folder / STATE_FILE).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        replace(self.history(), state_sha256=digest).save(folder)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a folder written by `save_checkpoint`."""
        assert isinstance(checkpoint, str)
        path = Path(checkpoint) / STATE_FILE
        self.trainer.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))

    def history(self) -> History:
        """The trial's measurements so far."""
        trainer = self.trainer
        modules = list(trainer.model.modules())
        final = self.keep and trainer.finished and not trainer.epochs[-1].diverged
        return History(
            epochs=[asdict(record) for record in trainer.epochs],
            step_losses=[losses.numpy() for losses in trainer.step_losses],
            batch_sizes=trainer.batch_sizes(),
            facts={
                "num_params": count_parameters(trainer.model),
                "precision": trainer.precision,
                "train_examples": len(trainer.train_data),
                "dropout": any(isinstance(m, MaskDropout) and m.p > 0 for m in modules),
                "batch_norm": any(isinstance(m, BatchNormReLU) for m in modules),
                "node": platform.node(),
                "device": device_name(trainer.device),
            },
            log_p=in_half_precision(trainer.log_probabilities().numpy()) if final else None,
            config=asdict(trainer.config),
        )
