"""Find and lock the study that a command line names, whether new or resumed.

Slow imports happen only inside the functions, after the options have been checked.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from study.config.study import StudyConfig, require_name
from study.console.errors import UserError
from study.files import is_uri, require_uri
from study.results.study_file import StudyFile, resume_command

if TYPE_CHECKING:
    from study.results.storage import Storage

Kind = TypeVar("Kind", bound=StudyConfig)


@contextmanager
def opened(
    args: argparse.Namespace, kind: type[Kind], new: Kind | None
) -> Iterator[tuple[Storage, Kind]]:
    """Yield the storage of the study that a command line names, and its configuration so far.

    An earlier study stays locked until the end. It is first copied here if it is kept in an
    object store. A new study is created and locked later, once all its requirements are met.

    Args:
        args: The parsed command line.
        kind: The kind of study that the command runs.
        new: The configuration of a new study; None for the one named by ``--resume``.

    Raises:
        UserError: There is no such study, it is of another kind, or the new study's place is
            taken.
    """
    from study.results.lock import locked

    if new is not None:
        yield _place_of_new(args, new.name), new
        return
    storage = _place_to_resume(args, kind)
    with locked(storage.folder, resume=True):
        if storage.uri and storage.has_study():
            storage.pull()
        yield storage, _earlier(args, storage.folder, kind)


def _place_of_new(args: argparse.Namespace, name: str) -> Storage:
    """Where a new study will be stored. Writes nothing."""
    from study.results.lock import check_new_folder
    from study.results.storage import Storage

    uri = args.storage_path
    if uri is not None:
        require_uri("--storage-path", uri)
    folder = args.results_dir / name
    check_new_folder(folder)
    storage = Storage(folder, uri and f"{uri.rstrip('/')}/{name}")
    if storage.uri and storage.has_study():
        raise UserError(
            f"{storage.uri}: already holds a study; continue it with --resume "
            f"{shlex.quote(storage.uri)}, or choose another --name"
        )
    return storage


def _place_to_resume(args: argparse.Namespace, kind: type[Kind]) -> Storage:
    """Where the study to resume is stored. Changes nothing."""
    from study.results.storage import Storage

    if is_uri(args.resume):
        require_uri("--resume", args.resume)
        uri = args.resume.rstrip("/")
        name = uri.rpartition("/")[2]
        require_name("--resume", name)
        storage = Storage(args.results_dir / name, uri)
        storage.require_study()
    else:
        folder = Path(args.resume)
        _earlier(args, folder, kind)
        storage = Storage(folder, StudyFile.read(folder).storage)
    if args.storage_path not in (None, storage.uri and storage.uri.rpartition("/")[0]):
        raise UserError(
            f"--storage-path: is fixed when a study is made (here: {storage.uri}); leave it out"
        )
    return storage


def _earlier(args: argparse.Namespace, folder: Path, kind: type[Kind]) -> Kind:
    """The configuration of the study in `folder`, which must be of `kind`."""
    config = StudyFile.read(folder).config
    if config.kind != kind.kind:
        raise UserError(
            f"--resume: {args.resume} holds a {config.kind}; continue it with: "
            + resume_command(config, args.resume)
        )
    return cast("Kind", config)
