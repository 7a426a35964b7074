"""Counts the shapes, parameters and multiply-adds of the paper's networks; holds its Table I."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import pandas as pd

# Each row of Table I as printed, and what the code of Appendix C does instead.
TABLE_I = [
    ("conv1", "3 x 3, 8, stride 1", "the same; no padding, so 28 x 28 becomes 26 x 26"),
    (
        "conv2_x",
        "2 x 2 max pool, stride 1; two blocks of 16",
        "stride 2: 26 x 26 becomes 13 x 13. "
        "With stride 1 the classifier would need 18,432 features. The code has 4,608.",
    ),
    ("conv3_x", "two blocks of 32", "at 13 x 13; no block shrinks the image"),
    ("conv4_x", "two blocks of 64", "at 13 x 13"),
    ("conv5_x", "two blocks of 128", "at 13 x 13"),
    (
        "",
        "average pool, 10-d fc, softmax",
        "2 x 2 average pool, not a global one. The softmax is part of the loss.",
    ),
]


@cache
def layers(model: str) -> pd.DataFrame:
    """The layers with weights, in order.

    Args:
        model: One of `study.config.trial.MODELS`.

    Returns:
        One row per layer: ``layer``, ``kind``, ``output`` (channels x height x width),
        ``parameters``, and ``multiply_adds`` for one image.
    """
    # Imported here, so that reading results does not need torch.
    import torch
    from torch import nn

    from study.training.models import IMAGE_SHAPE, build_model

    network = build_model(model).eval()
    rows = []

    def record(name: str, module: nn.Module, _: object, output: Any) -> None:
        weights = sum(p.numel() for p in module.parameters())
        adds = 0
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            places = output[0, 0].numel() if output.ndim == 4 else 1
            adds = module.weight.numel() * places
        kind = (
            f"{module.kernel_size[0]} x {module.kernel_size[1]} convolution"
            if isinstance(module, nn.Conv2d)
            else {"Linear": "linear"}.get(type(module).__name__, "batch norm")
        )
        rows.append(
            {
                "layer": name,
                "kind": kind,
                "output": " x ".join(map(str, output.shape[1:])),
                "parameters": weights,
                "multiply_adds": adds,
            }
        )

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            module.register_forward_hook(partial(record, name))
    with torch.inference_mode():
        network(torch.zeros(1, *IMAGE_SHAPE))
    return pd.DataFrame(rows)


def shortcut_parameters() -> tuple[int, int]:
    """Number of parameters in the ResNet's 1 x 1 shortcut convolutions, and of convolutions."""
    table = layers("resnet18")
    shortcuts = table[table["kind"] == "1 x 1 convolution"]
    return int(shortcuts["parameters"].sum()), len(shortcuts)


def times_the_cnn(column: str) -> float:
    """The ResNet's ``parameters`` or ``multiply_adds``, divided by the CNN's."""
    return float(layers("resnet18")[column].sum() / layers("cnn")[column].sum())
