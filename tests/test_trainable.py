"""What Ray's actor does with one trial after another. Ray itself is left out."""

from __future__ import annotations

import weakref
from dataclasses import asdict

import pytest
import torch

from study.config.trial import TrialConfig
from study.search import trainable
from study.search.trainable import TrialTrainable
from study.training.trainer import Trainer
from tests.helpers.networks import without_collector


def new_actor(monkeypatch):
    monkeypatch.setattr(trainable, "keep_freed_memory", lambda: None)
    return object.__new__(TrialTrainable)


def arrays(digits):
    return {
        f"{split}_{part}": getattr(data, part)
        for split, data in zip(("train", "eval"), digits, strict=True)
        for part in ("images", "labels")
    }


def test_an_actor_holds_one_trainer_however_many_trials_it_has_run(digits, monkeypatch):
    alive, most = weakref.WeakSet(), 0
    init = Trainer.__init__
    monkeypatch.setattr(
        Trainer, "__init__", lambda self, *a, **kw: (alive.add(self), init(self, *a, **kw))[1]
    )
    actor = new_actor(monkeypatch)
    with without_collector():
        for seed in range(40):
            config = TrialConfig(batch_size=32, epochs=1, seed=seed, width_mult=0.25)
            actor.setup(asdict(config), keep=True, **arrays(digits))
            assert actor.step()["done"]
            most = max(most, len(alive))
    assert most == 1


@pytest.mark.parametrize("gpu", [False, True])
def test_a_trial_without_a_gpu_leaves_those_that_torch_sees_to_others(digits, monkeypatch, gpu):
    asked = []

    def pick_device():
        asked.append("cuda")
        return torch.device("cpu")

    monkeypatch.setattr(trainable, "pick_device", pick_device)
    monkeypatch.setattr("study.training.trainer.pick_device", lambda: torch.device("cuda"))
    actor = new_actor(monkeypatch)
    actor.setup(asdict(TrialConfig(batch_size=32, epochs=1)), gpu=gpu, **arrays(digits))
    assert actor.trainer.device.type == "cpu"
    assert asked == ["cuda"] * gpu
