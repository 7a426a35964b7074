"""Lock a study's folder for one process; check that a new study can be made in a folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from study.console.errors import UserError
from study.files import UNFINISHED, held, is_held, make_folder, require_plain
from study.results.journal import JOURNAL_FILE, LOCK_FILE
from study.results.study_file import STUDY_FILE


def has_driver(folder: Path) -> bool:
    """Whether a driver holds the study in `folder`: its own lock, or the journal's."""
    return is_held(folder / ".lock") or is_held(folder / JOURNAL_FILE)


@contextmanager
def locked(folder: Path, *, resume: bool) -> Iterator[None]:
    """Create the study's folder if needed, and lock it for this process."""
    with ExitStack() as held_files:
        try:
            make_folder(folder)
            held_files.enter_context(FileLock(folder / ".lock", timeout=0))
            journal = folder / JOURNAL_FILE
            if not resume and not (folder / STUDY_FILE).exists():
                journal.touch()
            # Somebody may remove the lock file of a running driver, so the journal is locked too.
            if journal.is_file() and not journal.is_symlink():
                held_files.enter_context(held(journal))
        except (Timeout, BlockingIOError):
            raise UserError(
                f"{folder}: another process is running this study; wait for it or stop it"
            ) from None
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error}); choose another folder"
            ) from None
        if not resume and (folder / STUDY_FILE).exists():  # made after it was checked
            raise UserError(f"{folder}: already holds a study; choose another --name")
        require_plain(folder, besides=LOCK_FILE)
        yield


def check_new_folder(folder: Path) -> None:
    """Raise `UserError` unless a new study can be made in `folder`. Writes nothing."""
    if folder.exists() and not (folder.is_dir() and all(map(_is_leftover, folder.iterdir()))):
        is_study = (folder / STUDY_FILE).exists()
        resume = f"continue it with --resume {shlex.quote(str(folder))}, or "
        raise UserError(
            f"{folder}: already holds {'a study' if is_study else 'other files'}; "
            f"{resume if is_study else ''}choose another --name"
        )
    above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: {above} is not writable; choose another --results-dir")


def _is_leftover(path: Path) -> bool:
    """Whether this file was left by a study that was killed before it began."""
    is_empty_journal = path.name == JOURNAL_FILE and path.is_file() and not path.stat().st_size
    return path.name == ".lock" or path.name.startswith(UNFINISHED) or is_empty_journal
