"""C kernels for the CPU: the small CNN's convolutions, batch norm and Adadelta.

Each module has a C file and the code that calls it. The machine's C compiler builds a library
for this exact processor (and, from `conv_stage.c`, for each pair of channel counts) in about
half a second. It does so once: libraries are kept in a private folder in the user's cache, each
with its digest at its end. A library that is damaged or belongs to another user is not loaded
but compiled again. Without a compiler, callers use plain torch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from study.files import replacing

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 60
# Each kernel, for the paper's networks. What compiles these compiles them for any width.
SAMPLES = (("adadelta", {}), ("batch_norm", {"BF16": 0}), ("conv_stage", {"C1": 8, "C2": 16}))


def problem() -> str | None:
    """Why the kernels cannot be used here and what to do, in one line; None if they can.

    Compiles those that are not in the cache yet.
    """
    try:
        for name, macros in SAMPLES:
            _find_or_make(name, **macros)
    except FileNotFoundError as error:
        return f"{error}; install a C compiler, e.g. your system's package gcc"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[-1])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = str(error)
    else:
        return None
    command = os.environ.get("CC") or "cc"
    return f"The C compiler {command!r} fails ({reason.strip()}); set CC to one that works"


@functools.cache
def library(name: str, **macros: int) -> ctypes.CDLL | None:
    """The compiled ``<name>.c``; None if it cannot be compiled.

    Args:
        name: Name of a C file in this folder.
        **macros: Macros to define for it.
    """
    try:
        return _find_or_make(name, **macros)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _find_or_make(name: str, **macros: int) -> ctypes.CDLL:
    """The library from the cache, or else a compiled one, which is cached if possible."""
    source = Path(__file__).with_name(f"{name}.c")
    command = [*_compiler(), *FLAGS, *(f"-D{key}={value}" for key, value in macros.items())]
    # The name depends on the processor, because different machines may share a home folder.
    identity = [source.read_text(), command, dict(torch.cpu.get_capabilities())]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    file = f"{name}-{digest}.so"
    if (kept := _load_kept(file)) is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix="mnist-study-") as scratch:
        made = Path(scratch) / file
        _compile([*command, str(source)], made)
        with suppress(OSError), _cache() as folder, replacing(folder / file) as copy:
            copy.write(made.read_bytes())
        return _load_kept(file) or ctypes.CDLL(str(made))


def _compiler() -> list[str]:
    """The command of the C compiler: ``$CC``, which may be several words, or else ``cc``."""
    command = os.environ.get("CC") or "cc"
    words = shlex.split(command)
    if not words or (path := shutil.which(words[0])) is None:
        raise FileNotFoundError(f"No C compiler found ({command!r})")
    return [path, *words[1:]]


def _compile(command: list[str], path: Path) -> None:
    """Compile the library and append the SHA-256 of its bytes, which loaders ignore."""
    subprocess.run(
        [*command, "-o", str(path), "-lm"],
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMPILE_TIMEOUT_S,
        env={**os.environ, "LC_ALL": "C"},  # `problem` looks for the word "error"
    )
    if not path.is_file():
        raise OSError("it exits with status 0 but writes no library")
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())


@contextmanager
def _cache() -> Iterator[Path]:
    """The private folder in which libraries are kept.

    Raises:
        OSError: The folder cannot be used or belongs to another user.
    """
    folder = Path(platformdirs.user_cache_dir("mnist-study")) / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        info = os.fstat(descriptor)
        if info.st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")
        if info.st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
        # Use the descriptor's path if possible, so that nobody can swap the folder meanwhile.
        pinned = Path(f"/proc/self/fd/{descriptor}")
        yield pinned if pinned.exists() else folder
    finally:
        os.close(descriptor)


def _load_kept(file: str) -> ctypes.CDLL | None:
    """The library from the cache; None unless it is intact and only this user can write it."""
    with suppress(OSError), _cache() as folder:
        info = (folder / file).lstat()
        private = info.st_uid == os.geteuid() and not info.st_mode & 0o022
        if private and stat.S_ISREG(info.st_mode):
            content = (folder / file).read_bytes()
            if hashlib.sha256(content[:-32]).digest() == content[-32:]:
                return ctypes.CDLL(str(folder / file))
    return None


def keep_freed_memory() -> None:
    """Make this process keep the memory that it frees, in blocks of up to 32 MiB.

    A training step allocates and frees the same large blocks again and again. glibc returns
    them to the system each time, and the system clears each page again. That takes a tenth of
    the CNN's time at batch size 512. With another C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's values; a null pointer for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
