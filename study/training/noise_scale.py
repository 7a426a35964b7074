"""Squared gradient norms at two batch sizes, for the simple noise scale (McCandlish et al. 2018).

A gradient from few examples is longer than one from many, because it holds more noise. The
squared lengths at two batch sizes give unbiased estimates of the noise tr(Sigma) and of the
squared length of the true gradient (their appendix A.1). `analysis.noise` computes the noise
scale from them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL_BATCH = 64
NUM_BATCHES = 32
BIG_BATCH = SMALL_BATCH * NUM_BATCHES


def squared_gradient_norms(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Squared 2-norms of the loss's gradient from few and from many examples.

    The model is used in evaluation mode. In training mode dropout would add noise, and batch
    norm would make an example's gradient depend on the other examples of its batch.

    Args:
        model: The network. Its mode and gradients are left unchanged.
        images: Distinct random training examples, float32 (`BIG_BATCH`, 1, 28, 28).
        labels: The images' labels, int64 (`BIG_BATCH`,).

    Returns:
        The mean over batches of `SMALL_BATCH` examples, and the value for all examples together.
    """
    was_training = model.training
    model.eval()
    parameters = list(model.parameters())
    total = torch.zeros((), device=images.device)
    small = torch.zeros((), dtype=torch.float64, device=images.device)
    for image, label in zip(images.split(SMALL_BATCH), labels.split(SMALL_BATCH), strict=True):
        loss = F.cross_entropy(model(image).float(), label)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        small += gradient.double().square().sum()
        total = total + gradient
    model.train(was_training)
    batches = len(images) // SMALL_BATCH
    return small.item() / batches, (total / batches).double().square().sum().item()
