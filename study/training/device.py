"""The device of a trial: CPU or CUDA, its precision, the images on it, CUDA graphs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from study.config.datasets import DATASET_SPECS
from study.data.images import ImageData


def pick_device() -> torch.device:
    """CUDA if it is available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 if the hardware multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)
    return "bf16" if fast else "fp32"


class DeviceImages:
    """A split on a device, as uint8, normalised batch by batch.

    Args:
        data: The split. On a CPU its arrays are shared, not copied; they may be read-only.
        dataset: One of `study.config.datasets.DATASETS`, for the pixel statistics.
        device: Where the images are kept.
    """

    def __init__(self, data: ImageData, dataset: str, device: torch.device) -> None:
        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.images = torch.from_numpy(data.images).to(device)
            self.labels = torch.from_numpy(data.labels).long().to(device)
        spec = DATASET_SPECS[dataset]
        # (pixel / 255 - mean) / std, as one multiplication and one addition.
        self.scale = 1 / (255 * spec.std)
        self.shift = -spec.mean / spec.std

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 (n, 1, 28, 28) in channels-last order, and labels (n,)."""
        images = self.images[index].float().mul_(self.scale).add_(self.shift)
        # With one channel, channels-last differs from the usual order only in its strides.
        return images.unsqueeze(3).permute(0, 3, 1, 2), self.labels[index]


class GraphedStep:
    """A training step on CUDA that becomes a single graph launch.

    A step has about a hundred kernels, and launching them one by one takes longer than running
    them. The first runs for each batch size are plain, so that all libraries and the optimizer's
    state are set up. Then the step is captured once, and replayed from then on. No address may
    change after the capture, so the step reads its examples and learning rate from fixed device
    memory, and writes its loss there.

    Args:
        step: Queues one step for a batch of the given size, without waiting.
        generators: Random streams that the step draws from.
        stream: The stream that the step runs on.
    """

    PLAIN_RUNS = 3

    def __init__(
        self,
        step: Callable[[int], None],
        generators: list[torch.Generator],
        stream: torch.cuda.Stream,
    ) -> None:
        self.step = step
        self.generators = generators
        self.stream = stream
        self.runs: Counter[int] = Counter()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle()  # shared, because no two graphs run at once

    def __call__(self, size: int) -> None:
        """Queue a step for a batch of `size`."""
        self.runs[size] += 1
        if self.runs[size] <= self.PLAIN_RUNS:
            self.step(size)
            return
        if size not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            for generator in self.generators:
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph, self.pool, self.stream):
                self.step(size)
            self.graphs[size] = graph
        self.graphs[size].replay()
