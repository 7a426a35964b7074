"""Whole files or none, and names of places."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` once it is whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)  # NamedTemporaryFile makes it private
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def is_uri(text: str) -> bool:
    """Whether `text` names a place in an object store, ``s3://…``."""
    return re.match(r"\w+://", text) is not None
