"""The files of a study, in its folder and, if asked for, in an object store.

The records (``study.json``, the Optuna journal, the tables, ``histories/``) are in the study's
folder on the driver's machine. The trials' checkpoints are in its subfolder ``ray/``. With
``--storage-path s3://bucket/prefix`` the checkpoints are in the object store instead, beside a
copy of the records, so that a study outlives the driver's machine.

The measurements of ended trials are in ``histories/``, one file per trial. A file is on the disk
before its trial is reported as ended. Ended trials no longer need ``ray/``.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from study.config.trial import TrialConfig
from study.console.errors import StorageError, UserError, cannot_be_read
from study.console.text import one_line
from study.data.images import OPENINGS_FILE
from study.files import is_uri, make_folder, open_plain, replacing, sync
from study.results.history import HISTORY_FILE, STATE_FILE, History

RAY_FOLDER = "ray"  # Ray Tune's folder, with one folder per trial
RECORDS = (
    "study.json",
    "trials.parquet",
    "epochs.parquet",
    "steps.parquet",
    "predictions.parquet",
    OPENINGS_FILE,
    "optuna.log",
)
HISTORIES = "histories"  # one file per ended trial
HISTORY_NAME = re.compile(r"(trial_\d{5,})\.npz")


class Storage:
    """The files of one study.

    Args:
        folder: The study's folder on this machine.
        uri: Its place in an object store, or None if `folder` holds everything.

    Raises:
        UserError: The object store cannot be reached.
    """

    def __init__(self, folder: Path, uri: str | None = None) -> None:
        self.folder = folder
        self.uri = uri
        # Absolute, because Ray's processes have other working folders.
        self.location = uri or str(folder.resolve())
        self._filesystem, self._root = _filesystem(self.location)
        self._pushed: dict[str, tuple[int, int]] = {}

    @property
    def named_folder(self) -> Path:
        """The folder by its own name, which a path such as ``.`` lacks."""
        return self.folder if self.folder.name not in ("", "..") else self.folder.resolve()

    def beside(self, name: str) -> Storage:
        """The files of the study `name`, whose folder is beside this one's."""
        return Storage(
            self.named_folder.with_name(name), self.uri and f"{self.uri.rpartition('/')[0]}/{name}"
        )

    def trial_folder(self, trial_id: str) -> str:
        """The folder of a trial's checkpoints and its ``error.txt``, for the user to read."""
        return f"{self.uri or self.folder}/{RAY_FOLDER}/{trial_id}"

    def newest_checkpoint(
        self, trial_id: str, config: TrialConfig, *, resumable: bool
    ) -> tuple[str, History] | None:
        """A trial's newest intact checkpoint and its history.

        Skips checkpoints that a killed process left unfinished, those of another configuration,
        and those that hold foreign files, because Ray would unpickle one.

        Args:
            trial_id: The trial's id.
            config: Its configuration.
            resumable: Whether training must be able to continue from it. If not, an intact
                history is enough.

        Raises:
            UserError: The checkpoints cannot be read at all.
        """
        for checkpoint in sorted(self._checkpoints(trial_id), reverse=True):
            found = self.history_in(checkpoint)
            if found is None or not found.epochs or not found.is_of(config):
                continue
            if not resumable or self.state_in(checkpoint, found) is not None:
                return checkpoint, found
        return None

    def history_in(self, checkpoint: str) -> History | None:
        """The history in a checkpoint; None if it is damaged or missing."""
        content = self._read_path(f"{checkpoint}/{HISTORY_FILE}")
        try:
            return None if content is None else History.read(content)
        except ValueError:
            return None

    def trial_ids(self) -> list[str]:
        """The trials that have a folder in Ray's folder."""
        found = self._list(f"{self._root}/{RAY_FOLDER}")
        return sorted(info.base_name for info in found if info.base_name.startswith("trial_"))

    def state_in(self, checkpoint: str, history: History) -> bytes | None:
        """The trainer's state in a checkpoint with `history`; None if it is not the whole one."""
        names = {info.base_name for info in self._list(checkpoint)}
        state = self._read_path(f"{checkpoint}/{STATE_FILE}")
        if names != {STATE_FILE, HISTORY_FILE} or state is None:
            return None
        if history.state_sha256 is None:  # of an earlier version
            return state if _is_whole_zip(state) else None
        return state if hashlib.sha256(state).hexdigest() == history.state_sha256 else None

    def keep_only(self, trial_id: str, checkpoint: str | None) -> None:
        """Remove all of a trial's checkpoints except `checkpoint`."""
        for other in self._checkpoints(trial_id):
            if other != checkpoint:
                try:
                    self._filesystem.delete_dir(other)
                except OSError as error:
                    raise self._unusable("written", error) from None

    def keep(self, trial_id: str, history: History) -> None:
        """Save a trial's history in ``histories/``, so that it survives a power cut."""
        buffer = io.BytesIO()
        history.write(buffer)
        place = self.folder / HISTORIES
        make_folder(place)
        with replacing(place / f"{trial_id}.npz") as file:
            file.write(buffer.getvalue())
        if self.uri is not None:
            self._put(f"{HISTORIES}/{trial_id}.npz", buffer.getvalue())

    def keep_last(self, trial_id: str) -> None:
        """Keep only an ended trial's last checkpoint, so that it survives a power cut."""
        newest = max(self._checkpoints(trial_id), default=None)
        if newest is not None and self.uri is None:
            last = Path(newest)
            for path in (*last.iterdir(), last, last.parent, last.parent.parent):
                sync(path)
        self.keep_only(trial_id, newest)

    def kept_ids(self) -> set[str]:
        """The trials that have a file in ``histories/``."""
        place = self.folder / HISTORIES
        try:
            names = [path.name for path in place.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise cannot_be_read(place, error) from None
        return {match[1] for name in names if (match := HISTORY_NAME.fullmatch(name))}

    def kept(self, trial_id: str) -> History | None:
        """A trial's history in ``histories/``; None if it is damaged or missing."""
        path = self.folder / HISTORIES / f"{trial_id}.npz"
        try:
            with open_plain(path) as file:
                return History.read(file.read())
        except (FileNotFoundError, NotADirectoryError, UserError, ValueError):
            return None
        except OSError as error:
            raise cannot_be_read(path, error) from None

    def take(self, trial_id: str, logs: Path) -> None:
        """Move an ended trial's logs from Ray's folder on this machine to the trial's folder.

        Otherwise Ray would copy them again with each of its snapshots. If they cannot be moved,
        they stay there.
        """
        folder = f"{self._root}/{RAY_FOLDER}/{trial_id}"
        try:
            self._filesystem.create_dir(folder)
            for file in logs.iterdir():
                with self._filesystem.open_output_stream(f"{folder}/{file.name}") as out:
                    out.write(file.read_bytes())
            shutil.rmtree(logs)
        except OSError:
            return

    def ray_checkpoint(self, checkpoint: str) -> Any:
        """The checkpoint as a Ray object."""
        from ray.tune import Checkpoint  # takes seconds

        return Checkpoint(checkpoint, self._filesystem)

    def require_study(self) -> None:
        """Raise `UserError` unless the object store holds a study here."""
        if not self.has_study():
            raise UserError(
                f"{self.uri}: not a study (no study.json); give s3://BUCKET/FOLDER/NAME"
            )

    def has_study(self) -> bool:
        """Whether the object store holds a study here."""
        return self._read("study.json") is not None

    @contextmanager
    def marker(self) -> Iterator[str]:
        """Create a file where the study is or will be, and yield its path or URI.

        Nodes that can see this file can see the study.
        """
        name = f".seen-{uuid.uuid4().hex[:8]}"
        if self.uri is None:
            above = self.folder.absolute().parent
            above.mkdir(parents=True, exist_ok=True)
            where, path = str(above / name), str(above / name)
        else:
            where, path = f"{self.uri}/{name}", f"{self._root}/{name}"
        try:
            with self._filesystem.open_output_stream(path) as file:
                file.write(b"seen\n")
        except OSError as error:
            raise UserError(
                f"{where}: cannot be written ({one_line(error)}); choose another place"
            ) from None
        try:
            yield where
        finally:
            self._filesystem.delete_file(path)

    def push(self) -> None:
        """Copy the records that have changed to the object store, if there is one."""
        if self.uri is None:
            return
        for name in RECORDS:
            file = self.folder / name
            if not file.exists():
                continue
            version = (file.stat().st_mtime_ns, file.stat().st_size)
            if self._pushed.get(name) != version:
                self._put(name, file.read_bytes())
                self._pushed[name] = version

    def push_openings(self) -> None:
        """Copy the record of the test set's openings to the object store, if there is one."""
        file = self.folder / OPENINGS_FILE
        if self.uri is not None and file.exists():
            self._put(OPENINGS_FILE, file.read_bytes())

    def pull(self) -> None:
        """Copy the records from the object store to the folder, unless the folder's are newer.

        A journal only grows, so the longer of two is the newer one. Histories that are missing
        here are copied in any case. The others are copied if the store's are newer. Openings of
        the test set are never lost: those of both places are kept.

        Raises:
            UserError: The folder holds another study, or this one with a different past.
        """
        journal = self.folder / "optuna.log"
        ours = journal.read_bytes() if journal.exists() else b""
        theirs = self._read("optuna.log") or b""
        ours = ours[: ours.rfind(b"\n") + 1]
        newer_here = ours.startswith(theirs) and (self.folder / "study.json").exists()
        if not newer_here and not theirs.startswith(ours):
            raise UserError(
                f"{self.folder}: has diverged from {self.uri}; move the folder away and "
                f"continue with --resume {self.uri}"
            )
        make_folder(self.folder / HISTORIES)
        histories = [
            f"{HISTORIES}/{info.base_name}"
            for info in self._list(f"{self._root}/{HISTORIES}")
            if HISTORY_NAME.fullmatch(info.base_name) and self._is_wanted(info, newer_here)
        ]
        records = (OPENINGS_FILE,) if newer_here else RECORDS
        for name in (*histories, *records):  # the journal last, because it says what is there
            if (content := self._read(name)) is None:
                continue
            if name == OPENINGS_FILE:
                content = self._merged_openings(content)
            try:
                with replacing(self.folder / name) as file:
                    file.write(content)
            except OSError as error:
                raise StorageError(
                    f"{self.folder / name}: cannot be written ({error.strerror}); free some space, "
                    "or choose another --results-dir"
                ) from None

    def _merged_openings(self, theirs: bytes) -> bytes:
        """The lines of the store's record of openings, and those that only the folder's has."""
        file = self.folder / OPENINGS_FILE
        ours = file.read_bytes().splitlines() if file.exists() else []
        lines = dict.fromkeys([*theirs.splitlines(), *ours])
        return b"".join(line + b"\n" for line in lines)

    def _is_wanted(self, info: FileInfo, newer_here: bool) -> bool:
        """Whether to copy a history: it is missing here, or the store's is newer."""
        try:
            here = (self.folder / HISTORIES / info.base_name).stat()
        except FileNotFoundError:
            return True
        # If the size and time fit, this file was copied from the store or to it.
        is_same = here.st_size == info.size and here.st_mtime_ns >= info.mtime_ns
        return not newer_here and not is_same

    def _checkpoints(self, trial_id: str) -> list[str]:
        return [
            info.path
            for info in self._list(f"{self._root}/{RAY_FOLDER}/{trial_id}")
            if info.type == FileType.Directory
            and re.fullmatch(r"checkpoint_\d{6,}", info.base_name)
        ]

    def _list(self, folder: str) -> list[FileInfo]:
        """The entries of a folder; none if it does not exist or is a file."""
        try:
            found = self._filesystem.get_file_info(FileSelector(folder, allow_not_found=True))
            return [info for info in found if info.base_name]  # raises if a name is not UTF-8
        except NotADirectoryError:
            return []
        except UnicodeDecodeError:
            raise UserError(
                f"{folder}: holds something whose name is not UTF-8; rename or remove it"
            ) from None
        except OSError as error:
            raise self._unusable("read", error) from None

    def _put(self, name: str, content: bytes) -> None:
        try:
            with self._filesystem.open_output_stream(f"{self._root}/{name}") as out:
                out.write(content)
        except OSError as error:
            raise self._unusable("written", error) from None

    def _read(self, name: str) -> bytes | None:
        return self._read_path(f"{self._root}/{name}")

    def _read_path(self, path: str) -> bytes | None:
        """The content of a file; None if there is no such file."""
        try:
            if not self._filesystem.get_file_info(path).is_file:
                return None
            with self._filesystem.open_input_stream(path) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable("read", error) from None

    def _unusable(self, done: str, error: OSError) -> StorageError:
        return StorageError(
            f"{self.location}: cannot be {done} ({one_line(error)}); finished work is saved; "
            "continue when the storage is back"
        )


def _filesystem(location: str) -> tuple[FileSystem, str]:
    """The file system of `location` and the path in it. A remote one is tried out."""
    try:
        filesystem, root = FileSystem.from_uri(location)
        bucket = root.partition("/")[0]
        if is_uri(location) and filesystem.get_file_info(bucket).type == FileType.NotFound:
            raise ValueError(f"no bucket {bucket}")
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses
        raise UserError(
            f"--storage-path: {location!r} cannot be used ({one_line(error)}); give "
            "s3://BUCKET/FOLDER of an existing bucket, with credentials in the environment"
        ) from None
    return filesystem, root


def _is_whole_zip(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None
    except Exception:  # flipped bits may raise almost any error
        return False
