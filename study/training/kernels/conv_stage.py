"""The convolutional part of `SmallCNN` (up to its first linear layer) as one C kernel."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from study.training.kernels import address, library

POOLED = 12  # side of the features of a 28 x 28 image
# Limits for the two layers. With more channels torch's bf16 is as fast, and the kernel's stack
# use, which grows with the product of both, would be too large (here it is 600 kB).
MAX_CHANNELS = (32, 65)


def conv_stage_library(c1: int, c2: int) -> ctypes.CDLL | None:
    """The compiled `conv_stage.c` for `c1` and `c2` channels.

    None if it cannot be compiled or there are too many channels.
    """
    if c1 > MAX_CHANNELS[0] or c2 > MAX_CHANNELS[1]:
        return None
    return library("conv_stage", C1=c1, C2=c2)


class ConvStage(torch.autograd.Function):
    """Both convolutions, pooling, ReLU and dropout of `SmallCNN`, as one function.

    Computes in float32, whatever autocast says. The images get no gradient.
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
            ctx: Autograd's context.
            images: Float32 (n, 1, 28, 28).
            w1: Weight of the first convolution, (c1, 1, 3, 3).
            b1: Bias of the first convolution.
            w2: Weight of the second convolution, (c2, c1, 3, 3) in channels-last order.
            b2: Bias of the second convolution.
            noise: One random byte per feature, uint8; None for no dropout.
            threshold: A feature is kept if its byte is at least this.
            scale: Factor applied to the features that are kept.
        """
        n, c1, c2 = len(images), len(w1), len(w2)
        lib = conv_stage_library(c1, c2)
        assert lib is not None
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        assert w2.is_contiguous(memory_format=torch.channels_last)
        out = torch.empty(n, POOLED * POOLED * c2)
        code = torch.empty(out.shape, dtype=torch.uint8)
        lib.forward(
            ctypes.c_int64(n),
            *map(address, (images, w1, b1, w2, b2, noise)),
            threshold,
            ctypes.c_float(scale),
            address(out),
            address(code),
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
        grad = grad.contiguous()  # which may be a copy, and must live until C has read it
        grads = [torch.empty_like(parameter) for parameter in (w1, b1, w2, b2)]
        lib.backward(
            ctypes.c_int64(len(images)),
            *map(address, (images, w1, b1, w2, b2, code)),
            ctypes.c_float(ctx.scale),
            *map(address, (grad, *grads)),
        )
        return None, *grads, None, None, None
