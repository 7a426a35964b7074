"""The gradient's squared norms against exact per-example gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from study.config.trial import TrialConfig
from study.training import noise_scale
from study.training.models import build_model
from study.training.noise_scale import squared_gradient_norms
from study.training.trainer import Trainer
from tests.helpers.networks import learning_state

SMALL, BATCHES = 4, 6


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(noise_scale, "SMALL_BATCH", SMALL)


def per_example_gradients(model, images, labels):
    """One row per example, float64."""
    model = model.double().eval()
    rows = []
    for image, label in zip(images.double(), labels, strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())]))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_norms_are_those_of_the_mean_per_example_gradients(name):
    torch.manual_seed(0)
    model = build_model(name, 0.5)
    images, labels = torch.randn(SMALL * BATCHES, 1, 28, 28), torch.randint(0, 10, (24,))
    model(images)  # moves batch norm's running statistics from their start
    before = learning_state(model)
    small, big = squared_gradient_norms(model.train(), images, labels)
    assert learning_state(model) == before
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    each = per_example_gradients(model, images, labels)
    batches = each.reshape(BATCHES, SMALL, -1).mean(1)
    assert small == pytest.approx((batches**2).sum(1).mean(), rel=1e-4)
    assert big == pytest.approx((each.mean(0) ** 2).sum(), rel=1e-4)


def test_trials_measure_it_when_asked_and_train_the_same(digits, monkeypatch):
    monkeypatch.setattr("study.training.trainer.BIG_BATCH", SMALL * BATCHES)
    config = TrialConfig(batch_size=32, epochs=2, width_mult=0.5)
    asked = Trainer(config, *digits, measure_noise=True)
    plain = Trainer(config, *digits)
    for trainer in (asked, plain):
        trainer.run_epoch()
        trainer.run_epoch()
    assert learning_state(asked.model) == learning_state(plain.model)
    assert all(e.grad_sq_small is None for e in plain.epochs)
    norms = np.array([(e.grad_sq_small, e.grad_sq_big) for e in asked.epochs])
    assert (norms[:, 0] > norms[:, 1]).all()  # fewer examples, more noise
    assert len(np.unique(norms)) == 4
