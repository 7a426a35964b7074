"""The compiled batch norm against torch's in float64."""

from __future__ import annotations

import copy

import pytest
import torch

from study.training.models import BatchNormReLU

SHAPE = (24, 13, 13)  # images, height, width
CHANNELS = [1, 5, 8, 24, 128]


def build(channels):
    torch.manual_seed(channels)
    norm = BatchNormReLU(channels)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
    return norm.train()


def inputs(channels, *, constant, images=SHAPE[0]):
    """Input, residual and gradient; `constant`: 99 of 100 values are equal, as in a background."""
    n, height, width = images, *SHAPE[1:]
    generator = torch.Generator().manual_seed(1)
    x = 1 + 2 * torch.randn(n, channels, height, width, generator=generator)
    if constant:
        x = torch.where(torch.rand(x.shape, generator=generator) < 0.01, x, 3.3)
    residual, gradient = (torch.randn(x.shape, generator=generator) for _ in range(2))
    return [t.to(memory_format=torch.channels_last) for t in (x, residual, gradient)]


def run(norm, x, residual, gradient, dtype, *, compiled, state_dtype=torch.float32):
    """Output, gradients and running statistics, float64."""
    norm = copy.deepcopy(norm).to(state_dtype)
    norm.compiled = compiled
    x = x.detach().to(dtype).requires_grad_()
    residual = None if residual is None else residual.detach().to(dtype).requires_grad_()
    y = norm(x, residual)
    assert y.dtype == dtype
    y.backward(gradient.to(dtype))
    inner = [] if residual is None else [residual.grad]
    leaves = [y.detach(), x.grad, *inner, norm.weight.grad, norm.bias.grad]
    return [t.double() for t in (*leaves, norm.running_mean, norm.running_var)]


def exact(norm, x, residual, gradient):
    return run(
        norm, x, residual, gradient, torch.float64, compiled=False, state_dtype=torch.float64
    )


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_float32(channels, constant, with_residual):
    norm = build(channels)
    x, residual, gradient = inputs(channels, constant=constant)
    residual = residual if with_residual else None
    ours = run(norm, x, residual, gradient, torch.float32, compiled=True)
    for a, b in zip(ours, exact(norm, x, residual, gradient), strict=True):
        assert (a - b).norm() <= 3e-6 * b.norm()


@pytest.mark.parametrize("images", [1, 2, 3, 200])
def test_float32_for_other_numbers_of_images(images):
    norm = build(24)
    tensors = inputs(24, constant=False, images=images)
    ours = run(norm, *tensors, torch.float32, compiled=True)
    for a, b in zip(ours, exact(norm, *tensors), strict=True):
        assert (a - b).norm() <= 3e-6 * b.norm()


@pytest.mark.parametrize("channels", CHANNELS)
def test_bfloat16_differs_by_its_rounding_alone(channels):
    norm = build(channels)
    x, residual, gradient = (t.bfloat16().float() for t in inputs(channels, constant=False))
    ours = run(norm, x, residual, gradient, torch.bfloat16, compiled=True)
    for a, b in zip(ours, exact(norm, x, residual, gradient), strict=True):
        assert (a - b).norm() <= 2**-8 * b.norm()


def test_the_plain_way_keeps_its_digits_too():
    norm = build(8)
    tensors = inputs(8, constant=True)
    plain = run(norm, *tensors, torch.float32, compiled=False)
    for a, b in zip(plain, exact(norm, *tensors), strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_each_time(dtype):
    norm = build(24)
    tensors = inputs(24, constant=False)
    first, second = (run(norm, *tensors, dtype, compiled=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_not_a_number_is_passed_on(dtype):
    norm = build(8)
    x, residual, gradient = inputs(8, constant=False)
    x[3, 2, 5, 5] = torch.nan
    y, dx, _, dweight, _, mean, var = run(norm, x, residual, gradient, dtype, compiled=True)
    assert y[:, 2].isnan().all()
    assert not y[:, 3].isnan().any()
    assert all(t.isnan().any() for t in (dx, dweight, mean, var))


def test_in_evaluation_it_is_torchs_batch_norm():
    norm = build(8)
    x, residual, _ = inputs(8, constant=False)
    norm.compiled = True
    norm(x)
    assert norm.num_batches_tracked == 1
    norm.eval()
    before = norm.running_mean.clone()
    expected = torch.relu(torch.nn.BatchNorm2d.forward(norm, x) + residual)
    assert torch.equal(norm(x, residual), expected)
    assert torch.equal(norm.running_mean, before)
