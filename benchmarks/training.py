"""Measure the samples per second of one training run: our trainer against the paper's loop.

The arms take turns, each in its own process. In each round an arm runs a block of training and
an evaluation. The first round is dropped. Ratios are taken within a round, so that other work
on the machine affects both sides. The `benchmarks.checks` must pass first.

    python -m benchmarks.training                      # the CNN, whole epochs
    python -m benchmarks.training --model resnet18     # part of an epoch on a CPU
    python -m benchmarks.training --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import checks, machine
from benchmarks.workers import Worker
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.data.sources import default_data_dir
from study.training.kernels import keep_freed_memory

ARMS = ("report", "example", "fp32", "bf16")  # the last two are ours
# One ResNet18 epoch of the paper's loop takes many minutes on one core.
CPU_EXAMPLES = {"cnn": NUM_TRAIN_EXAMPLES, "resnet18": 2_560}


@dataclass(frozen=True)
class Block:
    """The block that an arm runs in each round."""

    arm: str
    model: str
    batch_size: int
    device: str
    examples: int
    threads: int
    data_dir: Path


@dataclass(frozen=True)
class Timing:
    """Seconds of one block: training and evaluation."""

    train: float
    evaluate: float

    @property
    def epoch(self) -> float:
        """Training and evaluation together."""
        return self.train + self.evaluate


class Runner:
    """An arm in a worker process. Each call runs a block."""

    def __init__(self, block: Block) -> None:
        torch.set_num_threads(block.threads)
        if block.arm in ("fp32", "bf16"):
            keep_freed_memory()
            self.trainer = checks.make_trainer(
                block.model,
                block.batch_size,
                block.arm,
                block.device,
                block.data_dir,
                examples=block.examples,
            )
            self.loop = None
        else:
            from benchmarks import reference

            kind = {"report": reference.ReportLoop, "example": reference.ExampleLoop}[block.arm]
            data = reference.loader_splits(block.data_dir, block.examples)
            self.loop = kind(block.model, block.batch_size, data, block.device)

    def __call__(self) -> Timing:
        """Run one block: an epoch of the block's examples, and an evaluation."""
        if self.loop is None:
            record = self.trainer.run_epoch()
            return Timing(record.epoch_seconds - record.eval_seconds, record.eval_seconds)
        start = time.perf_counter()
        self.loop.train()
        trained = time.perf_counter()
        self.loop.evaluate()
        return Timing(trained - start, time.perf_counter() - trained)


def measure(blocks: list[Block], rounds: int) -> dict[str, list[Timing]]:
    """The timings of each arm, one per round. The arms take turns; the first round is dropped."""
    workers = {block.arm: Worker(Runner, block) for block in blocks}
    timings: dict[str, list[Timing]] = {block.arm: [] for block in blocks}
    try:
        for number in range(rounds + 1):
            for arm, worker in workers.items():
                timing = worker.run()
                if number:
                    timings[arm].append(timing)
    finally:
        for worker in workers.values():
            worker.stop()
    return timings


def measure_together(block: Block, count: int, rounds: int) -> list[float]:
    """Samples per second of `count` runs at once in as many processes, one value per round."""
    workers = [Worker(Runner, block) for _ in range(count)]
    try:
        rates = []
        for number in range(rounds + 1):
            start = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.result()
            if number:
                rates.append(count * block.examples / (time.perf_counter() - start))
        return rates
    finally:
        for worker in workers:
            worker.stop()


def rows_of(
    timings: dict[str, list[Timing]], block: Block, peaks: dict[str, float], flops: int
) -> list[list[str]]:
    """The printed rows, one per arm."""
    rows = []
    for arm, measured in timings.items():
        rate = [block.examples / t.train for t in measured]
        precision = "bf16" if arm == "bf16" else "fp32"
        share = flops * statistics.median(rate) / peaks[precision]
        pairs = list(zip(timings.get("report", measured), measured, strict=True))
        rows.append(
            [
                f"{block.model} {block.batch_size} {arm}",
                machine.spread([r / 1000 for r in rate]),
                machine.spread([a.epoch / b.epoch for a, b in pairs]),
                machine.spread([a.evaluate / b.evaluate for a, b in pairs], 1),
                f"{share:.0%} of {peaks[precision] / 1e9:.0f} GFLOP/s",
            ]
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    checks.require(arguments.model, arguments.device, arguments.data_dir)
    peaks = {p: machine.matmul_peak(arguments.device, p) for p in machine.DTYPES}
    flops = machine.training_flops(arguments.model)
    rows, results = [], []
    for batch_size in arguments.batch_size:
        blocks = [
            Block(
                arm,
                arguments.model,
                batch_size,
                arguments.device,
                arguments.examples,
                arguments.threads,
                arguments.data_dir,
            )
            for arm in arguments.arms
        ]
        timings = measure(blocks, arguments.rounds)
        rows += rows_of(timings, blocks[0], peaks, flops)
        together = {
            count: measure_together(blocks[-1], count, arguments.rounds)
            for count in arguments.together
        }
        for count, rates in together.items():
            name = f"{arguments.model} {batch_size} {blocks[-1].arm}, {count} at once"
            rows.append([name, machine.spread([r / 1000 for r in rates]), "", "", ""])
        results.append(
            {
                "batch_size": batch_size,
                "seconds": {arm: [asdict(t) for t in ts] for arm, ts in timings.items()},
                "samples_per_second_together": together,
            }
        )
        print(f"batch {batch_size}: {arguments.rounds} rounds", file=sys.stderr, flush=True)
    machine.show(
        f"{arguments.model} on {arguments.device}, {arguments.threads} thread(s), blocks of "
        f"{arguments.examples} examples, {arguments.rounds} rounds: median [range]",
        ("", "1000 samples/s", "x report, with evaluation", "x evaluation alone", "of matmul peak"),
        rows,
    )
    settings: dict[str, Any] = {**vars(arguments), "data_dir": str(arguments.data_dir)}
    settings.pop("json")
    content = {"settings": settings, "matmul_flop_s": peaks, "flop_per_example": flops}
    machine.write(arguments.json, {**content, "results": results})


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=tuple(CPU_EXAMPLES), default="cnn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32, 64, 512])
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per run (default: 1)")
    parser.add_argument(
        "--examples",
        type=int,
        help="examples per block (default: an epoch; 2560 for the ResNet on a CPU)",
    )
    parser.add_argument(
        "--together",
        type=int,
        nargs="*",
        default=[],
        metavar="N",
        help="also time the last arm with N runs at once, each in its own process",
    )
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: cuda: torch sees no GPU here; leave it out to use the CPU")
    if min(arguments.rounds, arguments.threads, *arguments.batch_size, *arguments.together) < 1:
        parser.error("--rounds, --threads, --batch-size and --together must be at least 1")
    if arguments.examples is None:
        on_cpu = CPU_EXAMPLES[arguments.model]
        arguments.examples = on_cpu if arguments.device == "cpu" else NUM_TRAIN_EXAMPLES
    if not max(arguments.batch_size) <= arguments.examples <= NUM_TRAIN_EXAMPLES:
        parser.error(
            f"--examples: {arguments.examples} must be between the batch size and "
            f"{NUM_TRAIN_EXAMPLES}"
        )
    return arguments


if __name__ == "__main__":
    main()
