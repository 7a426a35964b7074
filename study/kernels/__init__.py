"""The CPU's inner loops, in C: the small CNN's convolutions, batch norm, and Adadelta.

Each module is a C file and what calls it. The machine's C compiler makes a library for
this very processor (and, of `conv_stage.c`, for each pair of channel counts) in about
half a second, once: libraries are kept in the user's cache folder. Where there is no
compiler, callers take their plain torch path.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 60


def compiler() -> str | None:
    """The C compiler: ``$CC``, else ``cc``; None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


@functools.cache
def library(name: str, **macros: int) -> ctypes.CDLL | None:
    """The compiled ``<name>.c``; None where it cannot be compiled.

    Args:
        name: A C file of this folder.
        **macros: What to define for it.
    """
    cc = compiler()
    if cc is None:
        return None
    source = Path(__file__).with_name(f"{name}.c")
    command = [cc, *FLAGS, *(f"-D{key}={value}" for key, value in macros.items())]
    # The processor is part of the name: machines of several kinds may share a home folder.
    identity = [source.read_text(), command, dict(torch.cpu.get_capabilities())]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(platformdirs.user_cache_dir("mnist-study")) / "kernels" / f"{name}-{digest}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _compile([*command, str(source)], path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name  # renamed when whole: others may be loading it
        subprocess.run(
            [*command, "-o", str(made), "-lm"],
            check=True,
            capture_output=True,
            timeout=COMPILE_TIMEOUT_S,
        )
        made.replace(path)


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, up to blocks of 32 MiB.

    A training step frees and asks for the same large blocks again and again. glibc gives
    them back to the system each time, which then clears each page anew: a tenth of the
    CNN's time at batch 512. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its largest
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where the values lie; a null pointer for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
