"""Measure networks: their multiply-adds, their state as bytes, and when they are freed."""

from __future__ import annotations

import gc
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from study.training.models import IMAGE_SHAPE


def count_macs(model: nn.Module) -> int:
    """Multiply-adds in the convolutions and linear layers of one image's forward pass."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *IMAGE_SHAPE, device=device))
    model.train(was_training)
    return counter.get_total_flops() // 2


def learning_state(model: nn.Module) -> bytes:
    """The model's parameters and buffers as bytes, to compare two runs exactly."""
    return b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())


@contextmanager
def without_collector():
    """Memory is freed by counting references alone."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
