"""The device of a trial: CPU or CUDA, its precision, the images on it, CUDA graphs."""

from __future__ import annotations

import os
import platform
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from study.config.datasets import DATASET_SPECS
from study.console.text import one_line
from study.data.images import ImageData


def pick_device() -> torch.device:
    """CUDA if it is available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cuda_problem() -> str | None:
    """Why torch cannot use a GPU here, in one line; None if it can."""
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # torch without CUDA; no driver, or an old one
        return one_line(error)
    return "torch.cuda.is_available() is False"


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name, as well as torch knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.machine())


def set_threads() -> None:
    """Give this process the threads of a trial.

    One on a CPU unless ``OMP_NUM_THREADS`` says otherwise: several trials at once beat one with
    several threads.
    """
    torch.set_num_threads(omp_threads(os.environ.get("OMP_NUM_THREADS", "")))


def omp_threads(value: str) -> int:
    """The threads that ``OMP_NUM_THREADS`` asks for at the outermost level; 1 if it is unclear.

    OpenMP allows a list, one number for each level of nesting: ``4,2``.
    """
    first = value.partition(",")[0].strip()
    return max(1, int(first)) if first.isascii() and first.isdigit() and len(first) < 5 else 1


def use_whole_float32() -> None:
    """Make fp32 mean float32 in this process, on a GPU too. A CPU computes as before.

    Torch's default lets cuDNN convolve float32 in TF32, whose fraction has 10 bits, not 23.
    """
    torch.backends.cudnn.allow_tf32 = False


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


def normalised(images: Tensor, mean: float, std: float) -> Tensor:
    """Images as the networks take them: float32 (n, 1, 28, 28) in channels-last order.

    Args:
        images: Pixels from 0 to 255, (n, 28, 28); left as they are.
        mean: Of the training images' pixels, in [0, 1].
        std: Their standard deviation.
    """
    # (pixel / 255 - mean) / std, as one multiplication and one addition.
    pixels = images.to(torch.float32, copy=True).mul_(1 / (255 * std)).add_(-mean / std)
    # With one channel, only the strides tell channels-last from the usual order.
    return pixels.unsqueeze(3).permute(0, 3, 1, 2)


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
        self.spec = DATASET_SPECS[dataset]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 (n, 1, 28, 28) in channels-last order, and labels (n,)."""
        images = normalised(self.images[index], self.spec.mean, self.spec.std)
        return images, self.labels[index]


class GraphedStep:
    """A training step on CUDA that becomes a single graph launch.

    A step has about a hundred kernels, and launching them one by one takes longer than running
    them. The first runs for each batch size are plain, so that all libraries and the optimizer's
    state are set up. Then the step is captured once, and replayed from then on. No address may
    change after the capture, so the step reads its examples and learning rate from fixed device
    memory, and writes its loss there.

    It does not keep the step, which belongs to its owner: the two would hold each other, and the
    memory of a trial that has ended would be freed only when Python looks for cycles.

    Args:
        generators: Random streams that the step draws from.
        stream: The stream that the step runs on.
    """

    PLAIN_RUNS = 3

    def __init__(self, generators: list[torch.Generator], stream: torch.cuda.Stream) -> None:
        self.generators = generators
        self.stream = stream
        self.runs: Counter[int] = Counter()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.pool = torch.cuda.graph_pool_handle()  # shared, because no two graphs run at once

    def __call__(self, step: Callable[[int], None], size: int) -> None:
        """Queue a step for a batch of `size`.

        Args:
            step: Queues one step for a batch of the given size, without waiting; the same in
                each call.
            size: Examples in the batch.
        """
        self.runs[size] += 1
        if self.runs[size] <= self.PLAIN_RUNS:
            step(size)
            return
        if size not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            for generator in self.generators:
                _register(graph, generator)
            with torch.cuda.graph(graph, self.pool, self.stream):
                step(size)
            self.graphs[size] = graph
        self.graphs[size].replay()


def _register(graph: torch.cuda.CUDAGraph, generator: torch.Generator) -> None:
    """Make each replay of `graph` draw new numbers from `generator`.

    Torch 2.11 needs this call. Later versions do it without, warn that the method is deprecated,
    and will drop it.
    """
    register = getattr(graph, "register_generator_state", None)
    if register is not None:
        with warnings.catch_warnings(action="ignore"):
            register(generator)
