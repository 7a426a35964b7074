"""The training engine: pure torch, one trial on one device.

A `Trainer` runs epoch by epoch. Everything that decides its future is in
`Trainer.state_dict`, so a trial resumed after any epoch ends with the same
bits as one that was never interrupted (on one CPU).
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.config import TrialConfig, UserError
from study.data import DATASET_SPECS, ImageData
from study.kernels import FusedAdadelta, library
from study.models import MaskDropout, SmallCNN, build_model

# Images evaluated at once: small enough for a CPU's cache, large enough for a GPU.
EVAL_CHUNK = {"cpu": 250, "cuda": 5000}


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch measured.

    Attributes:
        epoch: 1-based.
        step: Optimizer updates done so far.
        examples_seen: Training examples used so far.
        lr: Learning rate of the epoch.
        train_loss: Mean over the epoch's examples, in training mode, of the loss at the time.
        val_loss: Mean cross-entropy on the validation split after the epoch.
        val_accuracy: Fraction right on the validation split after the epoch.
        seconds: Wall time of the epoch, evaluation included.
        eval_seconds: Wall time of the evaluation.
    """

    epoch: int
    step: int
    examples_seen: int
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float
    eval_seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.val_loss))


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 where the hardware multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)
    return "bf16" if fast else "fp32"


def make_optimizer(
    name: str, parameters: Any, lr: float, *, compiled: bool
) -> torch.optim.Optimizer:
    """The optimizer `name` with torch's defaults; SGD with Nesterov momentum 0.9."""
    match name:
        case "adadelta" if compiled:
            return FusedAdadelta(parameters, lr=lr)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=lr, foreach=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, fused=True)
    raise ValueError(name)


class DeviceImages:
    """A split on a device, as uint8, normalised batch by batch.

    Args:
        data: The split; its arrays may be read-only and are shared, not copied, on a CPU.
        dataset: One of `study.config.DATASETS`, for the pixel statistics.
        device: Where the images lie.
    """

    def __init__(self, data: ImageData, dataset: str, device: torch.device) -> None:
        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.images = torch.from_numpy(data.images).unsqueeze(1).to(device)
            self.labels = torch.from_numpy(data.labels).long().to(device)
        spec = DATASET_SPECS[dataset]
        # (pixel / 255 - mean) / std, as one multiplication and one addition.
        self.scale = 1 / (255 * spec.std)
        self.shift = -spec.mean / spec.std

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 (n, 1, 28, 28), and labels, int64 (n,)."""
        images = self.images[index].float().mul_(self.scale).add_(self.shift)
        return images, self.labels[index]


class Trainer:
    """One trial.

    Args:
        config: What to train.
        train: Training split.
        validation: Validation split.
        device: Where; `pick_device()` where omitted.
        compiled: Use `study.kernels` where they are of use and a compiler is there.

    Raises:
        UserError: The batch size is larger than the training split.
    """

    def __init__(
        self,
        config: TrialConfig,
        train: ImageData,
        validation: ImageData,
        device: torch.device | None = None,
        *,
        compiled: bool = True,
    ) -> None:
        if config.batch_size > len(train):
            raise UserError(
                f"batch_size: {config.batch_size} is larger than the training split of "
                f"{len(train)} examples"
            )
        self.config = config
        self.device = device or pick_device()
        self.precision = resolve_precision(config.precision, self.device)
        self.train_data = DeviceImages(train, config.dataset, self.device)
        self.val_data = DeviceImages(validation, config.dataset, self.device)

        init_seed, order_seed, dropout_seed = (
            int(child.generate_state(1, np.uint64)[0] >> 1)
            for child in np.random.SeedSequence(config.seed).spawn(3)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(init_seed)
            self.model = build_model(config.model, config.width_mult).to(self.device)
        self.order_rng = torch.Generator(self.device).manual_seed(order_seed)
        self.dropout_rng = torch.Generator(self.device).manual_seed(dropout_seed)
        for module in self.model.modules():
            if isinstance(module, MaskDropout):
                module.generator = self.dropout_rng

        compiled = compiled and self.device.type == "cpu"
        if compiled and isinstance(self.model, SmallCNN):
            self.model.compiled = self.model.can_compile()
        self.optimizer = make_optimizer(
            config.optimizer,
            self.model.parameters(),
            config.lr,
            compiled=compiled and library("adadelta") is not None,
        )
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, config.gamma)
        self.epochs: list[EpochRecord] = []
        self.step_losses: list[Tensor] = []  # one float32 tensor an epoch, on the CPU

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer updates in an epoch, the last partial batch included."""
        return math.ceil(len(self.train_data) / self.config.batch_size)

    @property
    def finished(self) -> bool:
        """Whether every epoch is done or the loss has left the finite numbers."""
        last = self.epochs[-1] if self.epochs else None
        return last is not None and (last.epoch >= self.config.epochs or last.diverged)

    def run_epoch(self) -> EpochRecord:
        """Train one epoch, evaluate, and move the learning rate on."""
        start = time.perf_counter()
        lr = self.optimizer.param_groups[0]["lr"]
        losses = self._train_epoch().cpu()  # the epoch's only wait for the device
        sizes = torch.tensor(self.batch_sizes(), dtype=torch.float64)
        eval_start = time.perf_counter()
        val_loss, val_accuracy = self.evaluate(self.val_data)
        end = time.perf_counter()
        self.scheduler.step()
        epoch = len(self.epochs) + 1
        record = EpochRecord(
            epoch=epoch,
            step=epoch * self.steps_per_epoch,
            examples_seen=epoch * len(self.train_data),
            lr=lr,
            train_loss=float(losses.double() @ sizes / sizes.sum()),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=end - start,
            eval_seconds=end - eval_start,
        )
        self.epochs.append(record)
        self.step_losses.append(losses)
        return record

    def batch_sizes(self) -> list[int]:
        """Examples in each step of an epoch."""
        size, total = self.config.batch_size, len(self.train_data)
        return [min(size, total - start) for start in range(0, total, size)]

    def _train_epoch(self) -> Tensor:
        """One pass in a fresh random order; the loss of each step, float32, on the device."""
        self.model.train()
        order = torch.randperm(len(self.train_data), generator=self.order_rng, device=self.device)
        losses = torch.empty(self.steps_per_epoch, device=self.device)
        for i, index in enumerate(order.split(self.config.batch_size)):
            images, labels = self.train_data.batch(index)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self._logits(images), labels)
            loss.backward()
            self.optimizer.step()
            losses[i] = loss.detach()
        return losses

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False
        ):
            return self.model(images).float()

    @torch.inference_mode()
    def evaluate(self, data: DeviceImages) -> tuple[float, float]:
        """Mean cross-entropy (nats) and accuracy on a split, in evaluation mode."""
        self.model.eval()
        chunk = EVAL_CHUNK[self.device.type]
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for start in range(0, len(data), chunk):
            images, labels = data.batch(slice(start, start + chunk))
            logits = self._logits(images)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
        return loss.item() / len(data), right.item() / len(data)

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to go on; loads with ``weights_only=True``."""
        return {
            "config": asdict(self.config),
            "precision": self.precision,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "order_rng": self.order_rng.get_state(),
            "dropout_rng": self.dropout_rng.get_state(),
            "epochs": [asdict(record) for record in self.epochs],
            "step_losses": self.step_losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: The state belongs to another configuration.
        """
        if state["config"] != asdict(self.config):
            raise ValueError(f"checkpoint of {state['config']}, not of {asdict(self.config)}")
        self.precision = state["precision"]  # as it began, whatever this machine prefers
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.order_rng.set_state(state["order_rng"])
        self.dropout_rng.set_state(state["dropout_rng"])
        self.epochs = [EpochRecord(**record) for record in state["epochs"]]
        self.step_losses = list(state["step_losses"])


def learning_state(model: nn.Module) -> bytes:
    """The model's parameters and buffers as bytes, for comparing two runs exactly."""
    return b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())
