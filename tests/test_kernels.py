from __future__ import annotations

import copy
import ctypes
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from study.config.trial import TrialConfig
from study.training import kernels
from study.training.kernels.adadelta import FusedAdadelta
from study.training.models import SmallCNN
from study.training.trainer import Trainer
from tests.helpers.networks import learning_state

CPU = torch.device("cpu")
CONFIG = TrialConfig(batch_size=32, epochs=1, precision="fp32")
OTHER_USER = 65534  # nobody
# In continuous integration they must not be skipped.
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ, reason="only root can give files away"
)


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder, with no library loaded."""
    monkeypatch.setattr(kernels.platformdirs, "user_cache_dir", lambda _: str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path / "kernels"
    kernels.library.cache_clear()


def test_a_compiler_is_at_hand_here():
    """Without a compiler the tests of the kernels would test nothing."""
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


@pytest.mark.parametrize("cc", ["env cc", "env A='b c' cc", ""])
def test_the_compiler_may_be_several_words(fresh_cache, monkeypatch, cc):
    monkeypatch.setenv("CC", cc)
    assert kernels.problem() is None
    assert isinstance(kernels.library("adadelta"), ctypes.CDLL)


@pytest.mark.parametrize(
    ("cc", "reason"),
    [
        ("no-such-compiler", "No C compiler found ('no-such-compiler')"),
        ("'", "No closing quotation"),
        ("false", "The C compiler 'false' fails (exit status 1); set CC to one that works"),
        ("true", "'true' fails (it exits with status 0 but writes no library)"),
        ("cc -no-such-option", "error: unrecognized command"),
    ],
)
def test_a_compiler_that_does_not_work_is_reported(fresh_cache, monkeypatch, cc, reason):
    monkeypatch.setenv("CC", cc)
    problem = kernels.problem()
    assert problem is not None
    assert reason in problem
    assert "\n" not in problem
    assert kernels.library("adadelta") is None


def test_a_compiler_that_fails_at_one_kernel_is_reported_with_its_first_error(
    fresh_cache, monkeypatch, tmp_path
):
    """As clang does, which ends with a count of the errors."""
    compiler = tmp_path / "compiler"
    compiler.write_text(
        """#!/bin/sh
case "$*" in *conv_stage.c*) ;; *) exec cc "$@" ;; esac
echo 'In file included from x.c:1:' >&2
echo 'x.c:9: error: no such builtin' >&2
echo 'x.c:12: error: of no use' >&2
echo '2 errors generated.' >&2
exit 1
"""
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert kernels.problem() == (
        f"The C compiler '{compiler}' fails (x.c:9: error: no such builtin); set CC to one that "
        "works"
    )


def test_without_a_problem_all_libraries_are_kept(fresh_cache):
    assert kernels.problem() is None
    kept = {file.name.partition("-")[0] for file in fresh_cache.iterdir()}
    assert kept == {"adadelta", "batch_norm", "conv_stage"}


# The cache is private and intact, and never makes a run slow or crash.


def _use(cache: str, scratch: str | None, umask: int) -> None:
    """Exits with 0 for a cached library, and with `COMPILED` for one compiled again."""
    os.environ["XDG_CACHE_HOME"] = cache
    tempfile.tempdir = scratch
    os.umask(umask)
    compile_, compiled = kernels._compile, []

    def noted(command: list[str], path: Path) -> None:
        compiled.append(path)
        compile_(command, path)

    kernels._compile = noted
    library = kernels.library("adadelta")
    assert library is not None
    parameter, *others = torch.ones(4, 1000)
    rates = map(ctypes.c_float, (1.0, 0.9, 1e-6))
    library.adadelta(ctypes.c_int64(1000), *map(kernels.address, (parameter, *others)), *rates)
    assert (parameter < 1).all()
    sys.exit(COMPILED if compiled else 0)


COMPILED = 10


def use(cache: Path | str, scratch: Path | None = None, umask: int = 0o022) -> str:
    """Use the library in its own process. Returns "compiled" or "kept"."""
    forks = multiprocessing.get_context(
        "forkserver"
    )  # each process starts without a loaded library
    forks.set_forkserver_preload([__name__])
    process = forks.Process(target=_use, args=(str(cache), scratch and str(scratch), umask))
    process.start()
    process.join()
    assert process.exitcode in (0, COMPILED)  # a negative one is the signal that killed it
    return "compiled" if process.exitcode else "kept"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache folder that holds the Adadelta library."""
    cache = tmp_path_factory.mktemp("filled")
    assert use(cache) == "compiled"
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of that cache. Returns the cache and the library's file."""
    shutil.copytree(filled, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "mnist-study" / "kernels").iterdir()
    return tmp_path / "cache", file


def assert_compiled_again(cache, file, good):
    assert use(cache) == "compiled"
    assert (file.lstat().st_uid, file.lstat().st_mode) == (os.geteuid(), 0o100644)
    assert file.read_bytes()[:4] == b"\x7fELF"
    assert len(file.read_bytes()) == len(good)
    assert use(cache) == "kept"


DAMAGES = {
    "empty": lambda good: b"",
    "a few bytes": lambda good: good[:100],
    "a page": lambda good: good[:4096],
    "last byte lost": lambda good: good[:-1],
    "digest lost": lambda good: good[:-32],
    "zeros": lambda good: bytes(len(good)),
    "zero tail": lambda good: good[:4096] + bytes(len(good) - 4096),
    "flipped bit": lambda good: good[:4200] + bytes([good[4200] ^ 1]) + good[4201:],
    "longer": lambda good: good + b"x",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_library_is_compiled_again(cache, how):
    folder, file = cache
    good = file.read_bytes()
    file.write_bytes(DAMAGES[how](good))
    assert_compiled_again(folder, file, good)


@pytest.mark.parametrize("how", ["group may write", "all may write", "link", "pipe"])
def test_a_library_that_others_may_have_written_is_compiled_again(cache, tmp_path, how):
    folder, file = cache
    good = file.read_bytes()
    if how == "link":
        file.rename(tmp_path / "elsewhere.so")
        file.symlink_to(tmp_path / "elsewhere.so")
    elif how == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        file.chmod(0o664 if how == "group may write" else 0o666)
    assert_compiled_again(folder, file, good)


@needs_root
def test_a_library_planted_by_another_user_is_never_loaded(cache, tmp_path):
    folder, file = cache
    good = file.read_bytes()
    source, marker = tmp_path / "planted.c", tmp_path / "marker"
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void) {"
        f' fclose(fopen("{marker}", "w")); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", file], check=True)
    # Not in this process, because the file is overwritten below.
    load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    subprocess.run([sys.executable, "-c", load, str(file)], check=True)
    assert marker.exists()  # a loaded library does run its code
    marker.unlink()
    planted = file.read_bytes()
    file.write_bytes(planted + hashlib.sha256(planted).digest())
    os.chown(file, OTHER_USER, -1)
    assert_compiled_again(folder, file, good)
    assert not marker.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_folder_is_private(tmp_path, umask):
    assert use(tmp_path, umask=umask) == "compiled"
    folder = tmp_path / "mnist-study" / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert use(tmp_path) == "kept"


def test_a_folder_of_ours_that_all_may_write_is_made_private(cache):
    folder, file = cache
    file.parent.chmod(0o777)
    assert use(folder) == "kept"
    assert file.parent.stat().st_mode & 0o777 == 0o700


@needs_root
def test_the_folder_of_another_user_is_not_used(cache):
    folder, file = cache
    os.chown(file.parent, OTHER_USER, -1)
    before = file.parent.stat().st_mtime_ns
    assert use(folder) == "compiled"
    assert file.parent.stat().st_mtime_ns == before
    assert file.parent.stat().st_uid == OTHER_USER


def test_a_linked_folder_is_not_used(cache, tmp_path):
    folder, file = cache
    file.parent.rename(tmp_path / "elsewhere")
    file.parent.symlink_to(tmp_path / "elsewhere")
    assert use(folder) == "compiled"


@pytest.mark.parametrize("place", ["/proc/none", "/dev/null"])
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, place):
    """Places where not even root can create a folder."""
    assert use(place, scratch=tmp_path) == "compiled"
    assert not list(tmp_path.iterdir())


def test_where_the_caches_place_is_taken_there_is_no_problem(tmp_path, fresh_cache):
    (tmp_path / "kernels").write_text("a file where the folder should be")
    assert kernels.problem() is None
    assert kernels.library("adadelta") is not None


def test_a_library_is_on_the_disk_before_it_has_its_name(fresh_cache, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or fsync(fd))
    assert kernels.library("adadelta") is not None
    (file,) = fresh_cache.iterdir()
    assert file.stat().st_ino in synced


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
            ends.append(trainer.run_epoch().eval_loss)
        assert ends[0] == pytest.approx(ends[1], rel=1e-4)


def test_freed_memory_is_kept():
    kernels.keep_freed_memory()  # its effect is invisible; check that it exists on Linux
    assert hasattr(ctypes.CDLL(None), "mallopt")
