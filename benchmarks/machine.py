"""Shared by the benchmarks: description and peak of the machine, display of figures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from study.training.models import IMAGE_SHAPE, build_model

PACKAGES = ("torch", "torchvision", "ray", "numpy")  # Ray is optional
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def environment() -> dict[str, Any]:
    """The machine and the package versions, as plain JSON values."""
    cuda = torch.cuda.is_available()
    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "cores": os.cpu_count(),
        "bf16": {
            name: torch.cpu.get_capabilities().get(name, False)
            for name in ("avx512_bf16", "amx_bf16")
        },
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES if find_spec(name)},
    }


def matmul_peak(device: str, precision: str, repeats: int = 10) -> float:
    """The best rate of some square matrix products, in FLOP/s: what a library can reach."""
    size = MATMUL_SIZE[device]
    a, b = (torch.randn(size, size, dtype=DTYPES[precision], device=device) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def wait(device: str) -> None:
    """Wait until the device has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def training_flops(model: str) -> int:
    """Floating-point operations of one example's forward and backward pass at width 1."""
    network = build_model(model).train()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, *IMAGE_SHAPE)).sum().backward()
    return counter.get_total_flops() // 2


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range, e.g. ``3.52 [3.40, 3.61]``."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:  # for a file or pipe Rich would assume 80 columns
        console.width = 160
    console.print(table)


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Write a benchmark's figures as JSON if a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), **content}, indent=2) + "\n")
