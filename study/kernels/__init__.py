"""The CPU's inner loops, in C: the small CNN's convolutions, and Adadelta.

The machine's C compiler makes a library for this very processor (and, of
`conv_stage.c`, for each pair of channel counts) in about half a second, once:
libraries are kept in the user's cache folder. Where there is no compiler, callers
take their plain torch path.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 60
POOLED = 12  # side of the features of a 28 x 28 image


def compiler() -> str | None:
    """The C compiler: ``$CC``, else ``cc``; None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


@functools.cache
def library(name: str, **macros: int) -> ctypes.CDLL | None:
    """The compiled ``<name>.c``; None where it cannot be compiled.

    Args:
        name: A C file of this folder.
        **macros: What to define for it.
    """
    cc = compiler()
    if cc is None:
        return None
    source = Path(__file__).with_name(f"{name}.c")
    command = [cc, *FLAGS, *(f"-D{key}={value}" for key, value in macros.items())]
    # The processor is part of the name: machines of several kinds may share a home folder.
    identity = [source.read_text(), command, dict(torch.cpu.get_capabilities())]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(platformdirs.user_cache_dir("mnist-study")) / "kernels" / f"{name}-{digest}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _compile([*command, str(source)], path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name  # renamed when whole: others may be loading it
        subprocess.run(
            [*command, "-o", str(made), "-lm"],
            check=True,
            capture_output=True,
            timeout=COMPILE_TIMEOUT_S,
        )
        made.replace(path)


def conv_stage_library(c1: int, c2: int) -> ctypes.CDLL | None:
    """`conv_stage.c` for `c1` and `c2` channels, or None."""
    return library("conv_stage", C1=c1, C2=c2)


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, up to blocks of 32 MiB.

    A training step frees and asks for the same large blocks again and again. glibc gives
    them back to the system each time, which then clears each page anew: a tenth of the
    CNN's time at batch 512. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class ConvStage(torch.autograd.Function):
    """Both convolutions, pooling, ReLU and dropout of `study.models.SmallCNN`, as one function.

    Float32 whatever the autocast. The images get no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        noise: Tensor | None,
        threshold: int,
        scale: float,
    ) -> Tensor:
        """Features, float32 (n, 144 * channels) in (height, width, channel) order.

        Args:
            ctx: Autograd's.
            images: Float32 (n, 1, 28, 28).
            w1: Weight of the first convolution, (c1, 1, 3, 3).
            b1: Its bias.
            w2: Weight of the second, (c2, c1, 3, 3) in channels-last order.
            b2: Its bias.
            noise: A random byte a feature, uint8; None for no dropout.
            threshold: A feature is kept where its byte is at least this.
            scale: Factor on what is kept.
        """
        n, c1, c2 = len(images), len(w1), len(w2)
        lib = conv_stage_library(c1, c2)
        assert lib is not None
        assert images.is_contiguous()
        assert w2.is_contiguous(memory_format=torch.channels_last)
        out = torch.empty(n, POOLED * POOLED * c2)
        code = torch.empty(out.shape, dtype=torch.uint8)
        lib.forward(
            ctypes.c_int64(n),
            *map(_address, (images, w1, b1, w2, b2, noise)),
            threshold,
            ctypes.c_float(scale),
            _address(out),
            _address(code),
        )
        ctx.save_for_backward(images, w1, b1, w2, b2, code)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] -- torch's takes *args
        """The gradients of the four parameters."""
        images, w1, b1, w2, b2, code = ctx.saved_tensors
        lib = conv_stage_library(len(w1), len(w2))
        assert lib is not None
        grads = [torch.empty_like(parameter) for parameter in (w1, b1, w2, b2)]
        lib.backward(
            ctypes.c_int64(len(images)),
            *map(_address, (images, w1, b1, w2, b2, code)),
            ctypes.c_float(ctx.scale),
            *map(_address, (grad.contiguous(), *grads)),
        )
        return None, *grads, None, None, None


class FusedAdadelta(torch.optim.Adadelta):
    """`torch.optim.Adadelta` on float32 CPU parameters, each updated in one pass over memory.

    Torch's own passes a dozen times over each; its state and arithmetic are the same.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- no closure here
        """Update every parameter that has a gradient."""
        lib = library("adadelta")
        assert lib is not None
        assert closure is None
        for group in self.param_groups:
            lr, rho, eps = (ctypes.c_float(group[name]) for name in ("lr", "rho", "eps"))
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["square_avg"] = torch.zeros_like(parameter)
                    state["acc_delta"] = torch.zeros_like(parameter)
                state["step"] += 1
                # Element by element: any memory order will do, if it is the same.
                grad = parameter.grad
                if grad.stride() != parameter.stride():
                    grad = torch.empty_like(parameter).copy_(grad)
                lib.adadelta(
                    ctypes.c_int64(parameter.numel()),
                    *map(_address, (parameter, grad, state["square_avg"], state["acc_delta"])),
                    lr,
                    rho,
                    eps,
                )
