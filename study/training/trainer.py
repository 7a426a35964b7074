"""Train one trial on one device, epoch by epoch, in pure torch.

Everything that determines the rest of a trial is in `Trainer.state_dict`. So on a CPU a trial
that is resumed after any epoch ends with the same bits as one that was never interrupted. This
takes the same kind of processor, number of threads, torch and C compiler. On a GPU sums are added
in no fixed order.
"""

from __future__ import annotations

import math
import operator
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.data.images import ImageData, stratified_split
from study.training.device import (
    DeviceImages,
    GraphedStep,
    pick_device,
    resolve_precision,
    use_whole_float32,
)
from study.training.epoch import EpochRecord, renamed
from study.training.kernels import library
from study.training.kernels.adadelta import FusedAdadelta
from study.training.models import MaskDropout, build_model, use_kernels
from study.training.noise_scale import BIG_BATCH, squared_gradient_norms

# Images evaluated at once: small enough for a CPU's cache, large enough for a GPU.
EVAL_CHUNK = {"cpu": 250, "cuda": 5000}


def make_optimizer(
    config: TrialConfig, parameters: Any, device: torch.device, *, compiled: bool
) -> torch.optim.Optimizer:
    """The trial's optimizer. Settings that `config` lacks have torch's defaults.

    On CUDA its learning rate is a tensor, so that it can be captured in a graph.

    Args:
        config: Names the optimizer and its hyperparameters.
        parameters: The parameters to update.
        device: Where the parameters are.
        compiled: Whether to use `study.training.kernels` if possible.
    """
    cuda = device.type == "cuda"
    rate: Any = torch.tensor(config.lr, device=device) if cuda else config.lr
    momentum, decay = config.momentum or 0.0, config.weight_decay or 0.0
    match config.optimizer:
        case "adadelta" if compiled and not cuda and library("adadelta") is not None:
            return FusedAdadelta(parameters, lr=config.lr)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=rate, foreach=True, capturable=cuda)
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=rate,
                momentum=momentum,
                nesterov=momentum > 0,
                weight_decay=decay,
                fused=True,
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters,
                lr=rate,
                betas=(momentum, 0.999),
                weight_decay=decay,
                fused=True,
                capturable=cuda,
            )
    raise ValueError(config.optimizer)


class Trainer:
    """One trial.

    Args:
        config: The trial's configuration.
        train: Images to train on.
        validation: Images to evaluate on.
        device: Where to train, a CPU or CUDA; by default `pick_device()`.
        compiled: Whether to use `study.training.kernels` if possible.
        measure_noise: Whether to measure the gradient's norm at two batch sizes after each
            epoch.

    Raises:
        UserError: The batch size is larger than the number of images to train on.
    """

    def __init__(
        self,
        config: TrialConfig,
        train: ImageData,
        validation: ImageData,
        device: torch.device | None = None,
        *,
        compiled: bool = True,
        measure_noise: bool = False,
    ) -> None:
        init_seed, order_seed, dropout_seed, noise_seed, subset_seed = (
            int(child.generate_state(1, np.uint64)[0] >> 1)
            for child in np.random.SeedSequence(config.seed).spawn(5)
        )
        if config.train_examples is not None and config.train_examples < len(train):
            chosen, _ = stratified_split(train.labels, config.train_examples, subset_seed)
            train = ImageData(train.images[chosen], train.labels[chosen])
        if config.batch_size > len(train):
            raise UserError(
                f"batch_size: {config.batch_size} is larger than the training split of "
                f"{len(train)} examples"
            )
        self.config = config
        self.noise_seed = noise_seed if measure_noise else None
        self.device = device or pick_device()
        self.precision = resolve_precision(config.precision, self.device)
        use_whole_float32()
        self.train_data = DeviceImages(train, config.dataset, self.device)
        self.eval_data = DeviceImages(validation, config.dataset, self.device)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(init_seed)
            self.model = build_model(
                config.model,
                config.width_mult,
                dropout=config.dropout,
                dropout_rate=config.dropout_rate,
                batch_norm=config.batch_norm,
            ).to(self.device)
        self.order_rng = torch.Generator(self.device).manual_seed(order_seed)
        self.dropout_rng = torch.Generator(self.device).manual_seed(dropout_seed)
        for module in self.model.modules():
            if isinstance(module, MaskDropout):
                module.generator = self.dropout_rng

        self.compiled = compiled and self.device.type == "cpu" and use_kernels(self.model)
        self.optimizer = make_optimizer(
            config, self.model.parameters(), self.device, compiled=compiled
        )

        # The memory that a step reads and writes. CUDA graphs need it to stay in place.
        self.order = torch.empty(len(train), dtype=torch.int64, device=self.device)
        self.within_batch = torch.arange(config.batch_size, device=self.device)
        self.steps_done = torch.zeros(1, dtype=torch.int64, device=self.device)  # in the epoch
        self.losses = torch.empty(self.steps_per_epoch, device=self.device)
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.graphed = GraphedStep([self.dropout_rng], self.stream) if self.stream else None
        self.epochs: list[EpochRecord] = []
        self.step_losses: list[Tensor] = []  # one float32 tensor per epoch, on the CPU

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer updates per epoch, including the last, partial batch."""
        return math.ceil(len(self.train_data) / self.config.batch_size)

    @property
    def finished(self) -> bool:
        """Whether every epoch is done or the loss is no longer finite."""
        return bool(self.epochs) and self.epochs[-1].ends(self.config.epochs)

    def run_epoch(self) -> EpochRecord:
        """Train one epoch and evaluate."""
        start = time.perf_counter()
        lr = self._set_lr()
        if self.stream:  # setup and loading ran on another stream
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):  # has no effect on a CPU
            self._train_epoch()
            trained = self._now()
            sums = self._evaluate(self.eval_data)
            evaluated = self._now()
            # The only wait for the device in an epoch.
            *losses, eval_loss, eval_right = torch.cat([self.losses, sums]).tolist()
        epoch = len(self.epochs) + 1
        record = EpochRecord(
            epoch=epoch,
            step=epoch * self.steps_per_epoch,
            examples_seen=epoch * len(self.train_data),
            epoch_lr=lr,
            train_loss=math.fsum(map(operator.mul, losses, self.batch_sizes()))
            / len(self.train_data),
            eval_loss=eval_loss / len(self.eval_data),
            eval_accuracy=eval_right / len(self.eval_data),
            epoch_seconds=time.perf_counter() - start,
            eval_seconds=_seconds_between(trained, evaluated),
            epoch_ended=round(time.time(), 3),
            **self._gradient_noise(epoch),
        )
        self.epochs.append(record)
        self.step_losses.append(torch.tensor(losses))
        return record

    def _set_lr(self) -> float:
        """Set the optimizer's learning rate for the next epoch (StepLR)."""
        lr = self.config.lr * self.config.gamma ** len(self.epochs)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        return lr

    def _now(self) -> float | torch.cuda.Event:
        """The current time; on CUDA, an event queued in the stream."""
        if self.stream is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self.stream)
        return event

    def batch_sizes(self) -> list[int]:
        """Examples in each step of an epoch."""
        size, total = self.config.batch_size, len(self.train_data)
        return [min(size, total - start) for start in range(0, total, size)]

    def _train_epoch(self) -> None:
        """Train one pass in a new random order. Leaves the loss of each step in `losses`."""
        self.model.train()
        torch.randperm(len(self.order), generator=self.order_rng, out=self.order)
        self.steps_done.zero_()
        for size in self.batch_sizes():
            if self.graphed:
                self.graphed(self._step, size)
            else:
                self._step(size)

    def _step(self, size: int) -> None:
        """Make one update with the next `size` examples of `order`, without waiting for it."""
        first = self.steps_done * self.config.batch_size
        images, labels = self.train_data.batch(self.order[first + self.within_batch[:size]])
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self._logits(images), labels)
        loss.backward()
        self.optimizer.step()
        self.losses.index_copy_(0, self.steps_done, loss.detach().view(1))
        self.steps_done += 1

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False
        ):
            return self.model(images).float()

    @torch.inference_mode()
    def _evaluate(self, data: DeviceImages) -> Tensor:
        """Sum of cross-entropies (nats) and number of correct predictions, float64 (2,)."""
        self.model.eval()
        chunk = EVAL_CHUNK[self.device.type]
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for start in range(0, len(data), chunk):
            images, labels = data.batch(slice(start, start + chunk))
            logits = self._logits(images)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(1) == labels).sum()
        return sums

    @torch.inference_mode()
    def log_probabilities(self) -> Tensor:
        """Log-probability of each class for each evaluated image, float32 (n, 10) on the CPU."""
        self.model.eval()
        chunk = EVAL_CHUNK[self.device.type]
        logits = [
            self._logits(self.eval_data.batch(slice(start, start + chunk))[0])
            for start in range(0, len(self.eval_data), chunk)
        ]
        return torch.cat(logits).log_softmax(1).cpu()

    def _gradient_noise(self, epoch: int) -> dict[str, float]:
        if self.noise_seed is None or len(self.train_data) < BIG_BATCH:
            return {}
        rng = np.random.default_rng([self.noise_seed, epoch])
        chosen = rng.choice(len(self.train_data), BIG_BATCH, replace=False)
        batch = self.train_data.batch(torch.from_numpy(chosen).to(self.device))
        small, big = squared_gradient_norms(self.model, *batch)
        return {"grad_sq_small": small, "grad_sq_big": big}

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to continue. Loads with ``weights_only=True``."""
        return {
            "config": asdict(self.config),
            "precision": self.precision,
            "device": self.device.type,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order_rng": self.order_rng.get_state(),
            "dropout_rng": self.dropout_rng.get_state(),
            "epochs": [asdict(record) for record in self.epochs],
            "step_losses": self.step_losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make a new trainer continue from `state`.

        If the state is from another kind of device, the random streams start from the seed again.

        Raises:
            ValueError: The state belongs to another configuration.
        """
        if TrialConfig(**state["config"]) != self.config:
            raise ValueError(f"checkpoint of {state['config']}, not of {asdict(self.config)}")
        self.precision = state["precision"]  # as at the start, whatever suits this machine
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]  # this device's own settings
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state.get("device", "cpu") == self.device.type:
            self.order_rng.set_state(state["order_rng"].cpu())
            self.dropout_rng.set_state(state["dropout_rng"].cpu())
        self.epochs = [EpochRecord(**renamed(record)) for record in state["epochs"]]
        self.step_losses = list(state["step_losses"])


def _seconds_between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return start.elapsed_time(end) / 1000
    assert isinstance(start, float)
    assert isinstance(end, float)
    return end - start
