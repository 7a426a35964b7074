"""Adadelta with a C kernel that makes each update in one pass over memory."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from study.training.kernels import address, library


class FusedAdadelta(torch.optim.Adadelta):
    """`torch.optim.Adadelta` on float32 CPU parameters, each updated in one pass over memory.

    Torch's own makes a dozen passes. The state is the same, and the arithmetic is but for
    rounding. Torch's other options, such as weight decay, are not supported.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)

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
                # The kernel works element by element, so both need the same memory order.
                grad = parameter.grad
                if grad.stride() != parameter.stride():
                    grad = torch.empty_like(parameter).copy_(grad)
                lib.adadelta(
                    ctypes.c_int64(parameter.numel()),
                    *map(address, (parameter, grad, state["square_avg"], state["acc_delta"])),
                    lr,
                    rho,
                    eps,
                )
