"""The compiled convolutions against torch's in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from study.training.kernels import conv_stage
from study.training.models import SmallCNN

# (first, second) channels: the searched widths, full and partial vector registers, few channels.
WIDTHS = {0.5: (4, 8), 1.0: (8, 16), 2.0: (16, 32), 1.5: (12, 24), 0.1: (1, 2), 0.6: (5, 10)}


def build(width, seed=3):
    torch.manual_seed(seed)
    model = SmallCNN(width)
    assert (model.conv1.out_channels, model.conv2.out_channels) == WIDTHS[width]
    model.compiled = model.can_compile()
    assert model.compiled
    return model


def features_and_gradients(model, images, dtype, *, compiled):
    """Features, and gradients of a weighted sum of them, in float64, for a given random stream."""
    model = copy.deepcopy(model).to(dtype)
    model.compiled = compiled
    model.dropout1.generator = torch.Generator().manual_seed(1)
    features = (model._compiled_features if compiled else model._features)(images.to(dtype))
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    if features.requires_grad:
        (features * weights.to(dtype)).sum().backward()
    grads = [p.grad for conv in (model.conv1, model.conv2) for p in (conv.weight, conv.bias)]
    return [t.double() for t in (features.detach(), *grads) if t is not None]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", [1, 7, 64])
def test_features_and_gradients_with_the_same_masks(width, n):
    model = build(width).train()
    images = torch.randn(n, 1, 28, 28)
    ours = features_and_gradients(model, images, torch.float32, compiled=True)
    exact = features_and_gradients(model, images, torch.float64, compiled=False)
    assert len(ours) == 5
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("width", WIDTHS)
def test_features_in_evaluation(width):
    model = build(width).eval()
    images = torch.randn(9, 1, 28, 28)
    with torch.no_grad():
        (ours,) = features_and_gradients(model, images, torch.float32, compiled=True)
        (exact,) = features_and_gradients(model, images, torch.float64, compiled=False)
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-6)


def test_a_wide_network_is_left_to_torch():
    assert SmallCNN(4.0).can_compile()
    assert not SmallCNN(4.2).can_compile()
    assert conv_stage.conv_stage_library(8, 66) is None


def test_the_check_sees_another_mask():
    model = build(1.0).train()
    images = torch.randn(8, 1, 28, 28)
    ours = features_and_gradients(model, images, torch.float32, compiled=True)
    model.dropout1.threshold += 64
    other = features_and_gradients(model, images, torch.float64, compiled=False)
    assert all((a - b).norm() > 0.01 * b.norm() for a, b in zip(ours, other, strict=True))


@pytest.mark.parametrize("order", ["expanded", "transposed"])
def test_a_gradient_in_another_memory_order(monkeypatch, order):
    """Its copy must live until the kernel has read it."""
    model = build(1.0).eval()
    images = torch.randn(4, 1, 28, 28)
    gradient = (
        torch.randn(2304, 4).t() if order == "transposed" else torch.randn(()).expand(4, 2304)
    )
    assert not gradient.is_contiguous()
    reuse_freed_memory(monkeypatch)
    found = []
    for same in (gradient, gradient.contiguous()):
        model.zero_grad()
        model._compiled_features(images).backward(same)
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 4
    for ours, expected in zip(*found, strict=True):
        assert torch.equal(ours, expected)


def reuse_freed_memory(monkeypatch):
    """Fill what was freed just before the backward kernel runs with NaN."""
    library = conv_stage.conv_stage_library(8, 16)

    def backward(*arguments):
        poison = [torch.full((4, 2304), torch.nan) for _ in range(8)]
        library.backward(*arguments)
        assert poison

    patched = SimpleNamespace(forward=library.forward, backward=backward)
    monkeypatch.setattr(conv_stage, "conv_stage_library", lambda *_: patched)


@pytest.mark.parametrize("place", ["image", "weight", "gradient"])
def test_not_a_number_is_passed_on(place):
    model = build(1.0).train()
    model.dropout1.generator = torch.Generator()
    images = torch.randn(4, 1, 28, 28)
    if place == "image":
        images[2, 0, 14, 14] = torch.nan
    if place == "weight":
        model.conv2.weight.data[5, 3, 1, 1] = torch.nan
    features = model._compiled_features(images)
    assert features.isnan().any() == (place != "gradient")
    gradient = torch.ones_like(features)
    if place == "gradient":
        gradient[:] = torch.nan
    features.backward(gradient)
    reached = model.conv1 if place == "weight" else model.conv2
    assert reached.weight.grad.isnan().any()


@pytest.mark.parametrize("pixel", [(0, 0), (0, 27), (27, 0), (27, 27)])
def test_not_a_number_is_passed_on_from_each_place_of_a_window(pixel):
    """A corner's pixel reaches one value of the second layer, each at another place."""
    images = torch.randn(2, 1, 28, 28)
    images[1, 0, pixel[0], pixel[1]] = torch.nan
    model = build(1.0).eval()
    ours, plain = (
        features_and_gradients(model, images, torch.float32, compiled=compiled)
        for compiled in (True, False)
    )
    assert int(ours[0].isnan().sum()) == 16  # channels
    for a, b in zip(ours, plain, strict=True):
        assert torch.equal(a.isnan(), b.isnan())


def test_the_images_order_and_type_are_checked():
    model = build(1.0)
    with pytest.raises(AssertionError):
        model._compiled_features(torch.zeros(2, 1, 28, 28, dtype=torch.float64))
