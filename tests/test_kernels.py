from __future__ import annotations

import copy
import ctypes
import os
import subprocess
import sys

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
    assert kernels.problem() is None


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


def kept(folder):
    """The one library in the cache."""
    (library,) = (folder / "kernels").glob("*.so")
    return library


def load_in_a_process(**environment):
    """Use the library as a trial does; a library that crashes takes that process along."""
    code = (
        "from study import kernels\n"
        "print(kernels.library('adadelta') is not None, kernels.problem())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout.strip()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with a library in it; returns the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_in_a_process() == "True None"
    return tmp_path / "mnist-study"


DAMAGES = {
    "cut short": lambda content: content[:4096],
    "cut to half": lambda content: content[: len(content) // 2],
    "its end zeroed": lambda content: content[:4096] + bytes(len(content) - 4096),
    "a bit flipped": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "empty": lambda content: b"",
    "of an earlier version": lambda content: content[:-32],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_made_anew(cache, damage):
    whole = kept(cache).read_bytes()
    kept(cache).write_bytes(DAMAGES[damage](whole))
    assert load_in_a_process() == "True None"
    assert len(kept(cache).read_bytes()) == len(whole)


def test_a_library_that_others_may_have_written_is_not_loaded(cache):
    library = kept(cache)
    before = library.stat().st_ino
    os.chown(library, 65534, 65534)
    assert load_in_a_process() == "True None"
    assert library.stat().st_ino != before
    library.chmod(0o666)
    assert load_in_a_process() == "True None"
    assert library.stat().st_mode & 0o022 == 0
    elsewhere = cache / "elsewhere.so"
    library.rename(elsewhere)
    library.symlink_to(elsewhere)
    assert load_in_a_process() == "True None"
    assert not library.is_symlink()


def test_the_cache_is_private(cache):
    folder = cache / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert load_in_a_process() == "True None"
    assert folder.stat().st_mode & 0o777 == 0o700
    os.chown(folder, 65534, 65534)
    library, before = kept(cache), kept(cache).stat()
    assert load_in_a_process() == "True None"  # made anew, for that process alone
    assert (library.stat().st_ino, library.stat().st_mtime) == (before.st_ino, before.st_mtime)


def test_without_a_cache_the_library_is_made_for_the_process(tmp_path, monkeypatch, fresh_cache):
    (tmp_path / "kernels").write_text("a file where the folder should be")
    assert kernels.library("adadelta") is not None


def test_the_compiler_may_have_words_before_it(cache):
    assert load_in_a_process(CC="env A=b cc") == "True None"


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("/bin/false", "The C compiler '/bin/false' fails (exit status 1); set CC to one that works"),
     ("/bin/true", "exits with 0 but makes no library"),
     ("no-such", "No C compiler here ('no-such' is not found); install a C compiler"),
     ("cc --no-such-option", "unrecognized")],
)  # fmt: skip
def test_a_compiler_that_fails_is_told(cache, compiler, reason):
    told = load_in_a_process(CC=compiler)
    assert told.startswith("False ")
    assert reason in told
    assert "\n" not in told


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
