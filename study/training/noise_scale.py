"""How noisy a gradient is: what the simple noise scale of McCandlish et al. (2018) is made of.

A gradient from few examples is longer than one from many, as it holds more noise. From the
squared lengths at two batch sizes follow, without bias, the noise tr(Sigma) and the squared
length of the true gradient (their appendix A.1); `analysis.noise` turns them into the scale.
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

    In evaluation mode: dropout would add noise of its own, and batch norm in training mode
    would make an example's gradient depend on the others of its batch.

    Args:
        model: Its mode and its gradients are left as they are.
        images: Float32 (`BIG_BATCH`, 1, 28, 28), distinct random training examples.
        labels: Of the images, int64 (`BIG_BATCH`,).

    Returns:
        The mean over batches of `SMALL_BATCH`, and that of all together.
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
