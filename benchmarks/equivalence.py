"""Check that the trainer computes and learns the same as plain torch.

Only then its speed counts.

Quick checks (`require`, which the other benchmarks run first): in float32 the trainer's
gradients equal those of the plain network with the same dropout masks; an epoch uses every
example once; dropout keeps the right fraction; the numbers of steps and examples are right.

Over seeds (this command): compares the trainer's final validation accuracy, in fp32 and in
bf16, with the plain float32 path, paired by seed. The check passes if the lower end of the
95% interval of the mean difference is above minus the margin.

    python -m benchmarks.equivalence --seeds 10
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from benchmarks import machine
from study.config.trial import MODELS, TrialConfig
from study.data.images import ImageData, load_splits
from study.data.sources import default_data_dir
from study.training.models import MaskDropout
from study.training.trainer import Trainer

GRADIENT_TOLERANCE = 1e-5  # relative, in the 2-norm of a parameter's gradient
ROUNDING_TOLERANCE = 2.0  # multiple of the plain float32 network's distance from float64
MARGIN = 0.10  # percentage points of accuracy
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
) -> Trainer:
    """A trainer with the paper's hyperparameters on the first `examples`; see `Trainer`."""
    train, validation = load_splits("mnist", data_dir)
    if examples is not None:
        evaluated = len(validation) * examples // len(train)
        train = ImageData(train.images[:examples], train.labels[:examples])
        validation = ImageData(validation.images[:evaluated], validation.labels[:evaluated])
    config = TrialConfig(
        model=model, batch_size=batch_size, precision=precision, seed=seed, epochs=epochs
    )
    return Trainer(config, train, validation, torch.device(device), compiled=compiled)


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

    For the ResNet, no two float32 computations agree to 1e-5: its 21 ReLUs have a kink, and
    rounding decides the side. So the functions are compared in float64. The float32 gradient is
    judged by its distance from the float64 one.
    """
    of = functools.partial(gradients, model, device, data_dir)
    double = model == "resnet18"
    found = []
    exact = of(plain=True, double=double)
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


def problems(model: str, device: str, data_dir: Path) -> list[str]:
    """What is wrong with the trainer, one line per fault."""
    found = gradient_problems(model, device, data_dir)
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


ARMS = {"plain fp32": ("fp32", False), "fp32": ("fp32", True), "bf16": ("bf16", True)}


@dataclass(frozen=True)
class Run:
    """One training run of the comparison over seeds."""

    arm: str
    seed: int
    model: str
    batch_size: int
    epochs: int
    device: str
    data_dir: Path

    def accuracy(self) -> float:
        """Train to the end. Returns the final validation accuracy."""
        torch.set_num_threads(1)
        precision, compiled = ARMS[self.arm]
        trainer = make_trainer(
            self.model,
            self.batch_size,
            precision,
            self.device,
            self.data_dir,
            compiled=compiled,
            seed=self.seed,
            epochs=self.epochs,
        )
        while not trainer.finished:
            trainer.run_epoch()
        return trainer.epochs[-1].eval_accuracy


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    require(arguments.model, arguments.device, arguments.data_dir)
    fixed = (arguments.model, arguments.batch_size, arguments.epochs, arguments.device)
    runs = [
        Run(arm, seed, *fixed, arguments.data_dir)
        for seed in range(1, arguments.seeds + 1)
        for arm in ARMS
    ]
    accuracies: dict[str, list[float]] = {arm: [] for arm in ARMS}
    workers = 1 if arguments.device == "cuda" else os.cpu_count()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, (run, accuracy) in enumerate(
            zip(runs, pool.map(Run.accuracy, runs), strict=True), 1
        ):
            accuracies[run.arm].append(accuracy)
            print(f"{done}/{len(runs)} {run.arm} {accuracy:.2%}", file=sys.stderr, flush=True)
    rows, passed = [], True
    for arm, values in accuracies.items():
        plain = accuracies["plain fp32"]
        differences = [100 * (a - b) for a, b in zip(values, plain, strict=True)]
        mean = statistics.fmean(differences)
        low, high = stats.ttest_1samp(differences, 0).confidence_interval()
        holds = arm == "plain fp32" or low > -MARGIN
        passed = passed and holds
        rows.append(
            [
                arm,
                f"{statistics.fmean(values):.3%}",
                "" if arm == "plain fp32" else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]",
                "" if arm == "plain fp32" else ("yes" if holds else "not shown"),
            ]
        )
    machine.show(
        f"{arguments.model}, batch {arguments.batch_size}, {arguments.epochs} epochs, "
        f"n = {arguments.seeds} seeds: final validation accuracy",
        ("", "mean", "minus plain fp32, points (95% t)", f"not worse by {MARGIN:.2f}"),
        rows,
    )
    settings = {**vars(arguments), "data_dir": str(arguments.data_dir)}
    settings.pop("json")
    machine.write(arguments.json, {"settings": settings, "accuracies": accuracies})
    if not passed:
        sys.exit("Equivalence is not shown. Use more --seeds to narrow the interval.")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equivalence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=MODELS, default="cnn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: cuda: torch sees no GPU here; leave it out to use the CPU")
    if arguments.seeds < 2:
        parser.error(f"--seeds: {arguments.seeds} gives no interval; use at least 2")
    return arguments


if __name__ == "__main__":
    main()
