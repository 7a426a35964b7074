"""Check that the trainer computes the same as plain torch. The benchmarks do so first.

In float32 the trainer's gradients equal those of the plain network with the same dropout masks;
an epoch uses every example once; dropout keeps the right fraction; the numbers of steps and
examples are right; on CUDA, steps that are replayed from a graph do what plain steps do.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from study.config.hyperparameters import OPTIMIZERS
from study.config.trial import TrialConfig
from study.data.images import ImageData, load_splits
from study.training.device import GraphedStep
from study.training.models import MaskDropout
from study.training.trainer import Trainer

GRADIENT_TOLERANCE = 2e-5  # relative, in the 2-norm of a parameter's gradient; 6e-6 was measured
# Of the way from the first parameters. On a CPU the CNN's kernels lead 2e-5 apart, the same dropout
# in each replay 0.3, and lost partial batches, the least of the tested faults, 0.05 to 0.1.
GRAPH_TOLERANCE = 0.02
GRAPH_LR = {"adadelta": 0.1, "sgd": 0.003, "adamw": 1e-4}  # so low that rounding hardly grows
ROUNDING_TOLERANCE = 2.0  # multiple of the plain float32 network's distance from float64
CHECK_EXAMPLES = 2_100  # a few batches; the last one is partial
CHECK_BATCH = {"cnn": 512, "resnet18": 64}


def make_trainer(
    model: str,
    batch_size: int,
    precision: str,
    device: str,
    data_dir: Path,
    *,
    examples: int | None = None,
    compiled: bool = True,
    seed: int = 1,
    epochs: int = 1_000,
    **more: Any,
) -> Trainer:
    """A trainer with the paper's hyperparameters on the first `examples`; see `Trainer`.

    Args:
        model: One of `study.config.trial.MODELS`.
        batch_size: Examples in a step.
        precision: One of `study.config.trial.PRECISIONS`.
        device: ``cpu`` or ``cuda``.
        data_dir: Folder of MNIST.
        examples: Training examples; None: all.
        compiled: Whether to use the kernels on a CPU and graphs on CUDA.
        seed: The trial's.
        epochs: The trial's.
        **more: Other fields of `TrialConfig`.
    """
    train, validation = load_splits("mnist", data_dir)
    if examples is not None:
        evaluated = len(validation) * examples // len(train)
        train = ImageData(train.images[:examples], train.labels[:examples])
        validation = ImageData(validation.images[:evaluated], validation.labels[:evaluated])
    config = TrialConfig(
        model=model, batch_size=batch_size, precision=precision, seed=seed, epochs=epochs, **more
    )
    trainer = Trainer(config, train, validation, torch.device(device), compiled=compiled)
    if not compiled:
        trainer.graphed = None
    return trainer


def gradients(
    model: str, device: str, data_dir: Path, *, plain: bool, double: bool = False
) -> list[Tensor]:
    """The gradient of each parameter on a real batch, as float64.

    The weights and random streams are the same in every call.

    Args:
        model: One of `study.config.trial.MODELS`.
        device: ``cpu`` or ``cuda``.
        data_dir: Folder of MNIST.
        plain: Use the reference network: without the compiled kernels, and the ResNet in
            PyTorch's usual memory order.
        double: Compute in float64, which the compiled kernels do not support.
    """
    size = CHECK_BATCH[model]
    trainer = make_trainer(model, size, "fp32", device, data_dir, compiled=not (plain or double))
    network = trainer.model.train()
    images, labels = trainer.train_data.batch(torch.arange(size, device=device))
    if double:
        network, images = network.double(), images.double()
    if plain and model == "resnet18":
        network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] -- torch's stub lacks this overload
        images = images.clone(memory_format=torch.contiguous_format)
    F.cross_entropy(network(images), labels).backward()
    return [p.grad.double() for p in network.parameters() if p.grad is not None]


def largest_difference(ours: list[Tensor], plain: list[Tensor]) -> float:
    """The largest relative difference of a parameter's gradient, in the 2-norm."""
    whole = norm(plain)
    return max(
        float((a - b).norm() / b.norm())
        for a, b in zip(ours, plain, strict=True)
        if b.norm() > 1e-5 * whole  # a bias before batch norm has only rounding errors
    )


def norm(tensors: list[Tensor]) -> float:
    """The 2-norm of all values."""
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())


def gradient_problems(model: str, device: str, data_dir: Path) -> list[str]:
    """How the trainer's gradients differ from the plain network's, one line per fault.

    The CNN's are compared with those of the plain network in float64, so on CUDA, too, two
    things are compared.

    For the ResNet, no two float32 computations agree to 2e-5: its 21 ReLUs have a kink, and
    rounding decides the side. So the functions are compared in float64. The float32 gradient is
    judged by its distance from the float64 one.
    """
    of = functools.partial(gradients, model, device, data_dir)
    double = model == "resnet18"
    found = []
    exact = of(plain=True, double=True)
    difference = largest_difference(of(plain=False, double=double), exact)
    if not difference <= GRADIENT_TOLERANCE:
        found.append(f"gradients differ by {difference:.1e}, relative to their size")
    if double:
        ours, plain = (
            norm([a - b for a, b in zip(of(plain=plain), exact, strict=True)])
            for plain in (False, True)
        )
        if not ours <= ROUNDING_TOLERANCE * plain:
            found.append(
                f"rounding changes the gradient {ours / plain:.1f} times as much as in plain torch"
            )
    return found


def graph_problems(
    model: str, device: str, data_dir: Path, optimizers: Iterable[str] = OPTIMIZERS
) -> list[str]:
    """How a trainer with graphs differs from one without after five epochs, one line per fault.

    By then a graph of each of the two batch sizes has been captured and replayed. The same
    order, dropout and learning rates must come out of both. On a CPU there are no graphs.

    Args:
        model: One of `study.config.trial.MODELS`.
        device: ``cpu`` or ``cuda``.
        data_dir: Folder of MNIST.
        optimizers: Some of `study.config.hyperparameters.OPTIMIZERS`.
    """
    found = []
    for optimizer in optimizers:
        graphed, plain = (
            make_trainer(
                model,
                CHECK_BATCH[model],
                "fp32",
                device,
                data_dir,
                examples=CHECK_EXAMPLES,
                compiled=compiled,
                optimizer=optimizer,
                lr=GRAPH_LR[optimizer],
            )
            for compiled in (True, False)
        )
        start = [p.detach().double() for p in plain.model.parameters()]
        for _ in range(GraphedStep.PLAIN_RUNS + 2):
            graphed.run_epoch()
            plain.run_epoch()
        ours, theirs = (
            [p.detach().double() for p in trainer.model.parameters()]
            for trainer in (graphed, plain)
        )
        apart = norm([a - b for a, b in zip(ours, theirs, strict=True)])
        share = apart / norm([a - b for a, b in zip(theirs, start, strict=True)])
        if not share <= GRAPH_TOLERANCE:
            found.append(f"graphs lead {share:.1e} of the way apart with {optimizer}")
    return found


def problems(model: str, device: str, data_dir: Path) -> list[str]:
    """What is wrong with the trainer, one line per fault."""
    found = gradient_problems(model, device, data_dir)
    if device == "cuda":
        found += graph_problems(model, device, data_dir)
    batch_size = CHECK_BATCH[model]
    trainer = make_trainer(model, batch_size, "fp32", device, data_dir, examples=CHECK_EXAMPLES)
    record = trainer.run_epoch()
    steps = -(-CHECK_EXAMPLES // batch_size)
    if (record.step, record.examples_seen) != (steps, CHECK_EXAMPLES):
        found.append(f"{record.step} steps on {record.examples_seen} examples")
    if int(trainer.steps_done) != steps or not torch.isfinite(trainer.losses).all():
        found.append("not every step was taken")
    if not torch.equal(trainer.order.sort().values.cpu(), torch.arange(CHECK_EXAMPLES)):
        found.append("an epoch does not use every example once")
    for module in trainer.model.modules():
        if isinstance(module, MaskDropout):
            noise = module.noise(1_000_000, trainer.device)
            kept = (noise >= module.threshold).float().mean().item()
            if abs(kept - (1 - module.p)) > 4 * np.sqrt(module.p * (1 - module.p) / 1e6):
                found.append(f"dropout of {module.p} keeps {kept:.4f}")
    return found


def require(model: str, device: str, data_dir: Path) -> None:
    """End the process if the trainer does not match the plain network."""
    if found := problems(model, device, data_dir):
        sys.exit("Fix this before trusting any timing: " + "; ".join(found))
