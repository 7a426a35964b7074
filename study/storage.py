"""Where a study's files lie.

The records (``study.json``, the Optuna journal, the tables) are in the study's folder, on
the driver's machine. The trials' checkpoints are in its subfolder ``ray/``; or, with
``--storage-path s3://bucket/prefix``, in the object store, where a copy of the records lies
beside them, so that a study outlives the driver's machine.
"""

from __future__ import annotations

import io
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from study.config import UserError
from study.files import is_uri, replacing
from study.results import HISTORY_FILE, STATE_FILE, History

RAY_FOLDER = "ray"  # Ray Tune's folder, with a folder a trial
RECORDS = (
    "study.json", "trials.parquet", "epochs.parquet", "steps.parquet", "predictions.parquet",
    "test_set_openings.jsonl", "optuna.log",
)  # fmt: skip
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class Storage:
    """The files of one study.

    Args:
        folder: The study's, on this machine.
        uri: Its place in an object store, or None where `folder` holds everything.

    Raises:
        UserError: The object store cannot be reached, or not written.
    """

    def __init__(self, folder: Path, uri: str | None = None) -> None:
        self.folder = folder
        self.uri = uri
        # Absolute, since Ray's processes have working folders of their own.
        self.location = uri or str(folder.resolve())
        self._filesystem, self._root = _filesystem(self.location)
        self._pushed: dict[str, tuple[int, int]] = {}

    def trial_folder(self, trial_id: str) -> str:
        """Where a trial's checkpoints and its ``error.txt`` are, as the user may read it."""
        return f"{self.uri or self.folder}/{RAY_FOLDER}/{trial_id}"

    def newest_history(self, trial_id: str, *, resumable: bool) -> tuple[str, History] | None:
        """A trial's newest intact checkpoint and its history.

        A process killed while it wrote leaves a torn checkpoint; such a one is passed over.

        Args:
            trial_id: Which trial.
            resumable: Whether training is to go on from it, which takes more than the history.
        """
        for checkpoint in sorted(self._checkpoints(trial_id), reverse=True):
            try:
                if resumable:
                    _check_zip(self._open(f"{checkpoint}/{STATE_FILE}"))
                return checkpoint, History.load(self._open(f"{checkpoint}/{HISTORY_FILE}"))
            except UNREADABLE:
                continue
        return None

    def keep_only(self, trial_id: str, checkpoint: str | None) -> None:
        """Remove a trial's other checkpoints: torn ones, and ones that Ray forgot."""
        for other in self._checkpoints(trial_id):
            if other != checkpoint:
                self._filesystem.delete_dir(other)

    def take(self, trial_id: str, logs: Path) -> None:
        """Move an ended trial's logs from Ray's folder on this machine to the trial's own.

        Left there, Ray would copy them anew with each of its snapshots. Where they cannot be
        moved now, that is what happens.
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
        """The checkpoint as Ray takes it."""
        from ray.tune import Checkpoint  # takes seconds

        return Checkpoint(checkpoint, self._filesystem)

    def require_study(self) -> None:
        """Raise `UserError` where the object store holds no study here."""
        if not self.has_study():
            raise UserError(
                f"{self.uri}: not a study (no study.json); give s3://BUCKET/FOLDER/NAME"
            )

    def has_study(self) -> bool:
        """Whether the object store holds a study here."""
        return self._read("study.json") is not None

    @contextmanager
    def marker(self) -> Iterator[str]:
        """A file where the study is or will be, to see who can see it; its path or URI."""
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
            raise UserError(f"{where}: cannot be written ({error}); choose another place") from None
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
                with self._filesystem.open_output_stream(f"{self._root}/{name}") as out:
                    out.write(file.read_bytes())
                self._pushed[name] = version

    def pull(self) -> None:
        """Bring the records from the object store, unless those here are newer.

        The journal only ever grows: of two the longer one is newer.

        Raises:
            UserError: The folder holds another study, or another course of this one.
        """
        journal = self.folder / "optuna.log"
        ours = journal.read_bytes() if journal.exists() else b""
        theirs = self._read("optuna.log") or b""
        ours = ours[: ours.rfind(b"\n") + 1]
        if ours.startswith(theirs) and (self.folder / "study.json").exists():
            return
        if not theirs.startswith(ours):
            raise UserError(
                f"{self.folder}: has gone another way than {self.uri}; move the folder away and "
                f"continue with --resume {self.uri}"
            )
        for name in RECORDS:
            if (content := self._read(name)) is not None:
                with replacing(self.folder / name) as file:
                    file.write(content)

    def _checkpoints(self, trial_id: str) -> list[str]:
        folder = f"{self._root}/{RAY_FOLDER}/{trial_id}"
        found: list[FileInfo] = self._filesystem.get_file_info(
            FileSelector(folder, allow_not_found=True)
        )
        return [
            info.path
            for info in found
            if info.type == FileType.Directory and info.base_name.startswith("checkpoint_")
        ]

    def _open(self, path: str) -> IO[bytes]:
        with self._filesystem.open_input_stream(path) as file:
            return io.BytesIO(file.read())

    def _read(self, name: str) -> bytes | None:
        try:
            return self._open(f"{self._root}/{name}").read()
        except FileNotFoundError:
            return None


def _filesystem(location: str) -> tuple[FileSystem, str]:
    """The file system of `location` and the path in it, tried out where it is remote."""
    try:
        filesystem, root = FileSystem.from_uri(location)
        bucket = root.partition("/")[0]
        if is_uri(location) and filesystem.get_file_info(bucket).type == FileType.NotFound:
            raise ValueError(f"no bucket {bucket}")
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--storage-path: {location!r} cannot be used ({reason}); give s3://BUCKET/FOLDER of "
            "an existing bucket, with credentials in the environment"
        ) from None
    return filesystem, root


def _check_zip(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        if (bad := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{bad} is damaged")
