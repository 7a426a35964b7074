"""The measurements of one trial, as stored in its checkpoints and in ``histories/``."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import IO, Any

import numpy as np
import pandas as pd

from study.config.datasets import NUM_CLASSES
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import is_writable
from study.training.epoch import COUNTS, NOISE, TIMES, VALUES, renamed

# The files of a checkpoint: the trainer's state, and the trial's measurements.
STATE_FILE = "state.pt"
HISTORY_FILE = "history.npz"
NO_EPOCHS = {"epochs_run": 0, "steps_run": 0, "seconds": 0.0}
LATEST_S = 7e9  # no time is later, in seconds since 1970; pandas ends in 2262
# The columns of `trials` that are known only once a trial runs.
FACTS = {
    "num_params": int,
    "precision": str,
    "train_examples": int,
    "dropout": bool,
    "batch_norm": bool,
    "node": str,
    "device": str,
}
ENDS = ("complete", "pruned", "diverged", "failed")


def in_half_precision(log_p: np.ndarray) -> np.ndarray:
    """Log-probabilities, (n, classes), rounded to float16 so that the predicted class stays.

    If two classes round to the same value, the larger one is raised to the next float16.
    """
    half = log_p.astype(np.float16)
    best = log_p.argmax(1)
    tied = np.flatnonzero(half.argmax(1) != best)
    half[tied, best[tied]] = np.nextafter(half[tied, best[tied]], np.float16(0))
    return half


@dataclass(frozen=True)
class History:
    """The measurements of one trial so far.

    Attributes:
        epochs: One record per epoch, with the columns of ``epochs.parquet``.
        step_losses: One array of step losses per epoch; none if they are lost.
        batch_sizes: Examples in each step of an epoch.
        facts: Facts about the run, under the names in `FACTS`.
        log_p: The final model's log-probabilities, float16 (n, 10), if the trial is complete and
            belongs to no search.
        config: The `TrialConfig` as a dict; None in files of earlier versions.
        status: How the trial ended; None if it has not ended.
        error: Why it failed or diverged; otherwise empty.
        state_sha256: In a checkpoint, the digest of the trainer's state that belongs to it.
    """

    epochs: list[dict[str, Any]]
    step_losses: list[np.ndarray]
    batch_sizes: list[int]
    facts: dict[str, Any]
    log_p: np.ndarray | None = None
    config: dict[str, Any] | None = None
    status: str | None = None
    error: str = ""
    state_sha256: str | None = None

    def save(self, folder: Path) -> None:
        """Write ``history.npz`` into `folder`."""
        with (folder / HISTORY_FILE).open("wb") as file:
            self.write(file)

    def write(self, file: IO[bytes]) -> None:
        """Write an npz file."""
        meta = {
            "epochs": self.epochs,
            "batch_sizes": self.batch_sizes,
            "facts": self.facts,
            "config": self.config,
            "status": self.status,
            "error": self.error,
            "state_sha256": self.state_sha256,
        }
        losses = [np.asarray(losses, np.float32) for losses in self.step_losses]
        arrays: dict[str, Any] = {
            "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
            "losses": np.stack(losses) if losses else np.empty((0, len(self.batch_sizes))),
        }
        if self.log_p is not None:
            arrays["log_p"] = self.log_p
        np.savez(file, **arrays)

    @classmethod
    def read(cls, content: bytes) -> History:
        """Read the history in an npz file.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(part.file_size for part in archive.infolist()) > len(content):
                    raise ValueError("compressed; no history is, and it may exceed the memory")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                meta = json.loads(arrays["meta"].tobytes())
                losses = list(arrays["losses"])
                log_p = arrays.get("log_p")
            found = cls(
                [renamed(epoch) for epoch in meta["epochs"]],
                losses,
                meta["batch_sizes"],
                meta["facts"],
                log_p,
                meta.get("config"),
                meta.get("status"),
                meta.get("error", ""),
                meta.get("state_sha256"),
            )
            found._check()
        except Exception as error:  # a zip file with flipped bits raises nearly anything
            raise ValueError(f"not a history ({error!r})") from None
        return found

    def _check(self) -> None:
        """Raise `ValueError` unless every value has the type and range that readers rely on."""
        numbers = [epoch["epoch"] for epoch in self.epochs]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("epochs are missing")
        if self.step_losses and len(self.step_losses) != len(numbers):
            raise ValueError("the steps of some epochs are missing")
        if any(losses.shape != (len(self.batch_sizes),) for losses in self.step_losses):
            raise ValueError("steps are missing")
        kinds = {
            **{f"epoch {e['epoch']}": _is_epoch(e) for e in self.epochs},
            "batch_sizes": all(map(_is_count, self.batch_sizes)),
            "facts": all(
                type(value) is FACTS[name]
                and (FACTS[name] is not int or _is_count(value))
                and is_writable(str(value))
                for name, value in self.facts.items()
            ),
            "log_p": self.log_p is None
            or (self.log_p.dtype == np.float16 and self.log_p.shape[1:] == (NUM_CLASSES,)),
            "config": isinstance(self.config, dict | NoneType),
            "status": self.status in (None, *ENDS),
            "error": isinstance(self.error, str) and is_writable(self.error),
        }
        if wrong := [name for name, is_right in kinds.items() if not is_right]:
            raise ValueError(f"{wrong[0]} is invalid")

    def is_of(self, config: TrialConfig) -> bool:
        """Whether this was measured with `config`; True if the file does not say."""
        if self.config is None:
            return True
        try:
            return TrialConfig(**self.config) == config
        except (TypeError, UserError):  # written by a version with other fields
            return False

    def step_columns(self) -> dict[str, np.ndarray]:
        """This trial's part of ``steps.parquet``, without the trial's id."""
        per_epoch, epochs = len(self.batch_sizes), len(self.step_losses)
        return {
            "step": np.arange(1, per_epoch * epochs + 1),
            "epoch": np.repeat(np.arange(1, epochs + 1), per_epoch),
            "num_examples": np.tile(np.asarray(self.batch_sizes, np.int64), epochs),
            "loss": np.concatenate([np.empty(0), *self.step_losses]),
        }

    def summary(self) -> dict[str, Any]:
        """The columns of ``trials.parquet`` that follow from the history."""
        if not self.epochs:
            return {**self.facts, **NO_EPOCHS}
        last = self.epochs[-1]
        finite = [e for e in self.epochs if np.isfinite(e["eval_accuracy"])]
        best = max(finite, key=lambda e: (e["eval_accuracy"], -e["eval_loss"]), default=None)
        return {
            **self.facts,
            "epochs_run": last["epoch"],
            "steps_run": last["step"],
            "best_epoch": best["epoch"] if best else pd.NA,
            "best_eval_accuracy": best["eval_accuracy"] if best else np.nan,
            "best_eval_loss": min((e["eval_loss"] for e in finite), default=np.nan),
            "last_train_loss": last["train_loss"],
            "last_eval_loss": last["eval_loss"],
            "last_eval_accuracy": last["eval_accuracy"],
            "seconds": sum(e["epoch_seconds"] for e in self.epochs),
            "started": self.epochs[0]["epoch_ended"] - self.epochs[0]["epoch_seconds"],
            "ended": last["epoch_ended"],
        }


def _is_epoch(record: dict[str, Any]) -> bool:
    return (
        record.keys() - NOISE == {*COUNTS, *VALUES}
        and all(_is_count(record[name]) for name in COUNTS)
        and all(_is_number(record[name]) for name in VALUES)
        and all(record.get(name) is None or _is_number(record[name]) for name in NOISE)
        and 0 <= record["epoch_lr"] < math.inf
        and (math.isnan(record["epoch_ended"]) or 0 <= record["epoch_ended"] < LATEST_S)
        and not (record["eval_accuracy"] < 0 or record["eval_accuracy"] > 1)
    )


def _is_count(value: Any) -> bool:
    """Whether `value` is a whole number above zero that fits in a table."""
    return type(value) is int and 0 < value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


NOTHING = History([], [], [], {})


def history_from_values(
    values: Mapping[int, float], config: TrialConfig, num_train: int
) -> History:
    """A history made from the journal alone, which holds only a trial's accuracies.

    Args:
        values: The accuracy after each epoch, by epoch.
        config: The trial's configuration.
        num_train: Images in the training split.
    """
    examples = min(config.train_examples or num_train, num_train)
    steps = math.ceil(examples / config.batch_size)
    unknown = ("train_loss", "eval_loss", *TIMES)
    epochs = [
        {
            "epoch": epoch,
            "step": epoch * steps,
            "examples_seen": epoch * examples,
            "epoch_lr": config.lr * config.gamma ** (epoch - 1),
            **dict.fromkeys(unknown, math.nan),
            "eval_accuracy": values.get(epoch, math.nan),
        }
        for epoch in range(1, max(values, default=0) + 1)
    ]
    return History(epochs, [], [], {}, config=asdict(config))
