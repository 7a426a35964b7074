"""Batch norm in training mode, with the sum and ReLU that follow it, as one C kernel."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from study.training.kernels import address, library


def batch_norm_library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled `batch_norm.c` for float32 or bfloat16; None if it cannot be compiled."""
    return library("batch_norm", BF16=int(dtype == torch.bfloat16))


class NormReLU(torch.autograd.Function):
    """``relu(batch_norm(x) + residual)`` of CPU tensors, as one function.

    Torch makes a pass over memory for each part, and two to four for the norm. Its sums in
    channels-last order lose most of float32's digits over constant backgrounds.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """The result, with `x`'s shape and type, in channels-last order.

        Args:
            ctx: Autograd's context.
            x: Float32 or bfloat16 (n, channels, height, width).
            residual: Added before the ReLU; has `x`'s shape and type, or is None.
            weight: Float32 (channels,), like the next three.
            bias: Added after the norm.
            running_mean: Updated in place.
            running_var: Updated in place, with the unbiased variance.
            momentum: Weight of this batch in the running statistics.
            eps: Added to the variance.
        """
        lib = batch_norm_library(x.dtype)
        assert lib is not None
        assert x.dtype in (torch.float32, torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last)
        if residual is not None:
            assert (residual.shape, residual.dtype) == (x.shape, x.dtype)
            residual = residual.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        y = torch.empty_like(x)
        stats = torch.empty(2, channels, dtype=torch.float64)
        lib.forward(
            ctypes.c_int64(x.numel() // channels),
            ctypes.c_int64(channels),
            *map(address, (x, residual, weight, bias)),
            ctypes.c_float(eps),
            ctypes.c_float(momentum),
            *map(address, (running_mean, running_var, y, stats)),
        )
        ctx.save_for_backward(x, y, weight, stats)
        ctx.has_residual = residual is not None
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] -- torch's takes *args
        """The gradients of `x`, `residual`, `weight` and `bias`."""
        x, y, weight, stats = ctx.saved_tensors
        lib = batch_norm_library(x.dtype)
        assert lib is not None
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dresidual = torch.empty_like(x) if ctx.has_residual else None
        dweight, dbias = torch.empty_like(weight), torch.empty_like(weight)
        lib.backward(
            ctypes.c_int64(x.numel() // len(weight)),
            ctypes.c_int64(len(weight)),
            *map(address, (grad, x, y, weight, stats, dx, dresidual, dweight, dbias)),
        )
        return dx, dresidual, dweight, dbias, None, None, None, None
