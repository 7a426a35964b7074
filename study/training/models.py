"""The paper's two networks, with adjustable width, dropout and batch norm.

Both compute in channels-last order, which is several times faster on a CPU.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from study.config.datasets import NUM_CLASSES
from study.training.kernels.batch_norm import NormReLU, batch_norm_library
from study.training.kernels.conv_stage import ConvStage, conv_stage_library

IMAGE_SHAPE = (1, 28, 28)  # channels, height, width


class MaskDropout(nn.Module):
    """Dropout with its own random stream.

    On a CPU, torch's dropout draws its mask serially from the global generator, which takes
    several times as long as the layers around it. Here the mask is made from random bytes. So
    the rate must be a multiple of 1/256, as the paper's 0.25 and 0.5 are.

    Args:
        p: Probability that a value is zeroed; a multiple of 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = round(p * 256)
        if self.threshold != p * 256 or not 0 <= p < 1:
            raise ValueError(f"p = {p} is not a multiple of 1/256 in [0, 1)")
        self.p = p
        self.scale = 1 / (1 - p)
        self.generator: torch.Generator | None = None  # set by the trainer

    def forward(self, x: Tensor) -> Tensor:
        """Zero a fraction `p` of `x` (any dense layout) and scale the rest by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return x
        mask = (self.noise(x.numel(), x.device) >= self.threshold).as_strided(x.shape, x.stride())
        return x * (mask * x.new_full((), self.scale))

    def noise(self, count: int, device: torch.device) -> Tensor:
        """`count` random bytes; a value is kept if its byte is at least `threshold`."""
        words = torch.empty((count + 7) // 8, dtype=torch.int64, device=device)
        # Sets all 64 bits of each word. With the default upper bound one would stay unset.
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[:count]

    def extra_repr(self) -> str:
        """Text for the printed model."""
        return f"p={self.p}"


def make_dropout(usual: float, *, on: bool, rate: float | None) -> MaskDropout:
    """A dropout layer.

    Args:
        usual: The rate in the paper's network.
        on: Whether it drops anything.
        rate: The rate to use, rounded to a multiple of 1/256; None: `usual`.
    """
    return MaskDropout((usual if rate is None else round(rate * 256) / 256) if on else 0.0)


class SmallCNN(nn.Module):
    """The paper's CNN (Appendix A): 149,418 parameters at ``width_mult = 1``.

    Two rearrangements make it faster without changing the function. Pooling comes before the
    ReLU (both are monotone). The features are flattened in (height, width, channel) order, which
    only permutes the columns of ``fc1``.

    Args:
        width_mult: Factor applied to the hidden widths 8, 16 and 64.
        dropout: Whether to drop features (rate 0.25) and hidden units (0.5), as the paper does.
        dropout_rate: Rate of both dropout layers; None: 0.25 and 0.5.
        batch_norm: Whether each convolution is followed by batch norm, as in the ResNet.

    Attributes:
        compiled: Whether to compute the features with `kernels.conv_stage` (only on a CPU).
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        *,
        dropout: bool = True,
        dropout_rate: float | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        first, second, hidden = (scale_width(width, width_mult) for width in (8, 16, 64))
        self.compiled = False
        self.batch_norm = batch_norm
        self.conv1 = nn.Conv2d(1, first, 3)
        self.conv2 = nn.Conv2d(first, second, 3)
        if batch_norm:
            self.bn1 = BatchNormReLU(first)
            self.bn2 = BatchNormReLU(second)
        self.dropout1 = make_dropout(0.25, on=dropout, rate=dropout_rate)
        self.fc1 = nn.Linear(second * 12 * 12, hidden)
        self.dropout2 = make_dropout(0.5, on=dropout, rate=dropout_rate)
        self.fc2 = nn.Linear(hidden, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- torch's stub lacks this overload

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n, 10), of images of shape (n, 1, 28, 28)."""
        features = self._compiled_features(x) if self.compiled else self._features(x)
        return self.fc2(self.dropout2(F.relu(self.fc1(features))))

    def can_compile(self) -> bool:
        """Whether this machine has a compiler and there is a kernel for this network."""
        channels = self.conv1.out_channels, self.conv2.out_channels
        return not self.batch_norm and conv_stage_library(*channels) is not None

    def _features(self, x: Tensor) -> Tensor:
        if self.batch_norm:
            x = self.bn2(self.conv2(self.bn1(self.conv1(x))))
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(self.conv1(x))
            x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.dropout1(x).permute(0, 2, 3, 1).flatten(1)

    def _compiled_features(self, x: Tensor) -> Tensor:
        conv1, conv2, dropout = self.conv1, self.conv2, self.dropout1
        drops = self.training and dropout.p > 0
        noise = dropout.noise(len(x) * self.fc1.in_features, x.device) if drops else None
        scale = dropout.scale if drops else 1.0
        weights = (conv1.weight, conv1.bias, conv2.weight, conv2.bias)
        return ConvStage.apply(x, *weights, noise, dropout.threshold, scale)  # pyright: ignore[reportReturnType] -- torch's stub


class BatchNormReLU(nn.BatchNorm2d):
    """Batch norm, then the sum with a residual if one is given, then ReLU.

    Args:
        channels: Number of input channels.

    Attributes:
        compiled: Whether to train with `study.training.kernels.batch_norm` (only on a CPU).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.compiled = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] -- torch's calls it `input`
        """``relu(norm(x) + residual)``."""
        if not (self.compiled and self.training):
            if self.training and x.is_cpu:
                # In channels-last order torch sums naively on a CPU. Over an image's constant
                # background this loses so many digits that the gradient is wrong by 5%.
                x = x.contiguous()
            y = super().forward(x)
            return F.relu(y if residual is None else residual + y)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        residual = None if residual is None else residual.to(x.dtype)
        state = (self.weight, self.bias, self.running_mean, self.running_var)
        return NormReLU.apply(x, residual, *state, self.momentum, self.eps)  # pyright: ignore[reportReturnType] -- torch's stub

    def can_compile(self) -> bool:
        """Whether the kernel can be compiled on this machine."""
        return None not in map(batch_norm_library, (torch.float32, torch.bfloat16))


class SumReLU(nn.Module):
    """Drop-in replacement for `BatchNormReLU` without batch norm."""

    def __init__(self, _channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``relu(x + residual)``."""
        return F.relu(x if residual is None else residual + x)


class Residual(nn.Module):
    """The paper's residual block (Appendix C). Its shortcut has no batch norm."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool = True) -> None:
        super().__init__()
        norm = BatchNormReLU if batch_norm else SumReLU
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv3 = (
            nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        )
        self.bn1 = norm(out_channels)
        self.bn2 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, in_channels, h, w) -> (n, out_channels, h, w)."""
        y = self.conv2(self.bn1(self.conv1(x)))
        return self.bn2(y, x if self.conv3 is None else self.conv3(x))


class ModifiedResNet18(nn.Module):
    """The paper's ResNet18 (Appendix C): 745,626 parameters at ``width_mult = 1``.

    This follows the paper's code, not its Table I: the pooling has stride 2, all
    blocks work at 13 x 13, and a 2 x 2 average pool precedes the classifier.

    Args:
        width_mult: Factor applied to the hidden widths 8, 16, 32, 64 and 128.
        dropout: Whether half of the features are dropped before the classifier, as in the CNN.
        dropout_rate: Rate of that dropout; None: 0.5.
        batch_norm: Whether each 3 x 3 convolution is followed by batch norm, as in the paper.
    """

    def __init__(
        self,
        width_mult: float = 1.0,
        *,
        dropout: bool = False,
        dropout_rate: float | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        stem, *widths = (scale_width(width, width_mult) for width in (8, 16, 32, 64, 128))
        self.conv1 = nn.Conv2d(1, stem, 3)
        self.bn1 = (BatchNormReLU if batch_norm else SumReLU)(stem)
        ins = [stem, *(width for width in widths for _ in range(2))]
        self.blocks = nn.Sequential(
            *(Residual(a, b, batch_norm=batch_norm) for a, b in pairwise(ins))
        )
        self.dropout = make_dropout(0.5, on=dropout, rate=dropout_rate)
        self.fc = nn.Linear(widths[-1] * 6 * 6, NUM_CLASSES)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- torch's stub lacks this overload

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n, 10), of images of shape (n, 1, 28, 28)."""
        x = F.max_pool2d(self.bn1(self.conv1(x)), 2)
        x = F.avg_pool2d(self.blocks(x), 2)
        return self.fc(self.dropout(x).permute(0, 2, 3, 1).flatten(1))


def use_kernels(model: nn.Module) -> bool:
    """Make `model`, which is on a CPU, use the C kernels if possible. Returns whether it does."""
    parts = [m for m in model.modules() if isinstance(m, (SmallCNN, BatchNormReLU))]
    for part in parts:
        part.compiled = part.can_compile()
    return any(part.compiled for part in parts)


def scale_width(width: int, width_mult: float) -> int:
    """`width` times `width_mult`, rounded; at least 1."""
    return max(1, round(width * width_mult))


def build_model(
    name: str,
    width_mult: float = 1.0,
    *,
    dropout: bool | None = None,
    dropout_rate: float | None = None,
    batch_norm: bool | None = None,
) -> SmallCNN | ModifiedResNet18:
    """A new network, with weights drawn from torch's global generator.

    Args:
        name: One of `study.config.trial.MODELS`.
        width_mult: Factor applied to every hidden width.
        dropout: Whether it has dropout; None: as in the paper, or yes if `dropout_rate` is given.
        dropout_rate: Rate of every dropout layer; None: the paper's rates.
        batch_norm: Whether it has batch norm; None: as in the paper.
    """
    if dropout is None and dropout_rate is not None:
        dropout = True
    given = {"dropout": dropout, "dropout_rate": dropout_rate, "batch_norm": batch_norm}
    options = {name: value for name, value in given.items() if value is not None}
    return {"cnn": SmallCNN, "resnet18": ModifiedResNet18}[name](width_mult, **options)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
