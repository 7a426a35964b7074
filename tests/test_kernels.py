from __future__ import annotations

import copy
import ctypes

import pytest
import torch

from study import kernels
from study.config import TrialConfig
from study.kernels.adadelta import FusedAdadelta
from study.models import SmallCNN
from study.train import Trainer, learning_state

CPU = torch.device("cpu")
CONFIG = TrialConfig(batch_size=32, epochs=1, precision="fp32")


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder, and nothing loaded."""
    monkeypatch.setattr(kernels.platformdirs, "user_cache_dir", lambda _: str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path / "kernels"
    kernels.library.cache_clear()


def test_a_compiler_is_at_hand_here():
    """Without one the tests of the kernels would test nothing."""
    assert kernels.compiler() is not None


def test_a_library_is_compiled_once_and_kept(fresh_cache, monkeypatch):
    library = kernels.library("adadelta")
    assert isinstance(library, ctypes.CDLL)
    (file,) = fresh_cache.iterdir()
    assert file.suffix == ".so"
    kernels.library.cache_clear()
    monkeypatch.setattr(kernels, "_compile", lambda *_: pytest.fail("compiled again"))
    assert kernels.library("adadelta") is not None


def test_macros_and_processors_have_libraries_of_their_own(fresh_cache, monkeypatch):
    kernels.library("conv_stage", C1=1, C2=2)
    kernels.library("conv_stage", C1=2, C2=2)
    kernels.library.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "another"})
    kernels.library("conv_stage", C1=2, C2=2)
    assert len(list(fresh_cache.iterdir())) == 3


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_without_a_working_compiler_torch_does_the_work(
    fresh_cache, monkeypatch, digits, compiler, model
):
    monkeypatch.setenv("CC", compiler)
    config = TrialConfig(model=model, batch_size=32, epochs=1, precision="fp32", width_mult=0.5)
    trainer = Trainer(config, *digits, CPU)
    assert not trainer.compiled
    assert not isinstance(trainer.optimizer, FusedAdadelta)
    trainer.run_epoch()
    plain = Trainer(config, *digits, CPU, compiled=False)
    plain.run_epoch()
    assert learning_state(trainer.model) == learning_state(plain.model)


def test_where_the_cache_cannot_be_written_torch_does_the_work(tmp_path, monkeypatch, fresh_cache):
    (tmp_path / "kernels").write_text("a file where the folder should be")
    assert kernels.library("adadelta") is None


def test_with_a_compiler_they_are_used_and_can_be_left_out(digits):
    trainer = Trainer(CONFIG, *digits, CPU)
    assert isinstance(trainer.model, SmallCNN)
    assert trainer.compiled
    assert isinstance(trainer.optimizer, FusedAdadelta)
    plain = Trainer(CONFIG, *digits, CPU, compiled=False)
    assert not plain.compiled
    assert not isinstance(plain.optimizer, FusedAdadelta)


def test_a_checkpoint_of_either_way_goes_on_in_the_other(digits):
    for first, second in ((True, False), (False, True)):
        begun = Trainer(CONFIG, *digits, CPU, compiled=first)
        begun.run_epoch()
        ends = []
        for compiled in (first, second):
            trainer = Trainer(CONFIG, *digits, CPU, compiled=compiled)
            trainer.load_state_dict(copy.deepcopy(begun.state_dict()))
            ends.append(trainer.run_epoch().val_loss)
        assert ends[0] == pytest.approx(ends[1], rel=1e-4)


def test_freed_memory_is_kept():
    kernels.keep_freed_memory()  # nothing to see but that it is there on Linux
    assert hasattr(ctypes.CDLL(None), "mallopt")
