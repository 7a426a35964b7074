from __future__ import annotations

import copy

import pytest
import torch

from study.training.kernels.adadelta import FusedAdadelta


def parameters():
    torch.manual_seed(0)
    shapes = [(16, 8, 3, 3), (64, 2304), (10,), (1,)]
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def gradients(step, like, *, other_order=False):
    generator = torch.Generator().manual_seed(step)
    grads = [torch.randn(p.shape, generator=generator) * 10.0 ** -(step % 4) for p in like]
    if other_order:
        grads[0] = grads[0].to(memory_format=torch.channels_last)
        grads[1] = grads[1].t().contiguous().t()
    return grads


def update(optimizer, ours, steps, **kwargs):
    for step in steps:
        for parameter, grad in zip(ours, gradients(step, ours, **kwargs), strict=True):
            parameter.grad = grad
        optimizer.step()


@pytest.mark.parametrize("other_order", [False, True])
def test_it_is_torchs_adadelta(other_order):
    ours, theirs = parameters(), parameters()
    fused = FusedAdadelta(ours, lr=0.7)
    plain = torch.optim.Adadelta(theirs, lr=0.7, foreach=False)
    start = parameters()
    update(fused, ours, range(20), other_order=other_order)
    update(plain, theirs, range(20))
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert not torch.equal(a, before)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fused_first", [True, False])
def test_either_goes_on_from_the_others_state(fused_first):
    kinds = [FusedAdadelta, torch.optim.Adadelta]
    first, second = kinds if fused_first else kinds[::-1]
    whole, parts = parameters(), parameters()
    update(torch.optim.Adadelta(whole, lr=0.7), whole, range(10))
    begun = first(parts, lr=0.7)
    update(begun, parts, range(5))
    goes_on = second(parts, lr=0.7)
    goes_on.load_state_dict(copy.deepcopy(begun.state_dict()))
    update(goes_on, parts, range(5, 10))
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_parameter_without_a_gradient_stays_and_a_new_rate_counts():
    (parameter, unused) = parameters()[:2]
    before = [p.detach().clone() for p in (parameter, unused)]
    optimizer = FusedAdadelta([parameter, unused], lr=1.0)
    optimizer.param_groups[0]["lr"] = 0.0
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(parameter, before[0])
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert not torch.equal(parameter, before[0])
    assert torch.equal(unused, before[1])


def test_not_a_number_is_passed_on():
    (parameter,) = parameters()[:1]
    parameter.grad = torch.full_like(parameter, torch.nan)
    FusedAdadelta([parameter], lr=1.0).step()
    assert parameter.isnan().all()
