"""Read and write ``study.json``: a study's configuration, data and sessions.

A results folder may be damaged or come from someone else. So everything that readers rely on is
checked here, once, and a file that fails a check is refused in one line.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study.config.comparison import ComparisonConfig
from study.config.datasets import DATASET_SPECS
from study.config.finalists import FinalConfig, FinalistsConfig
from study.config.search import ASHA_GRACE_EPOCHS, ASHA_REDUCTION, SearchConfig
from study.config.study import METRIC, MODE, StudyConfig
from study.config.trial import NUM_TEST_IMAGES, NUM_TRAINING_IMAGES
from study.console.errors import UserError, cannot_be_read
from study.console.text import command_line, hint, one_line, shown
from study.data.images import SPLIT_SEED
from study.files import open_plain, require_uri, write_json
from study.results.versions import git_state, installed_versions

FORMAT_VERSIONS = (2, 3, 4, 5, 6)  # that are read; the last one is written
KINDS: dict[str, type[StudyConfig]] = {
    c.kind: c for c in (SearchConfig, ComparisonConfig, FinalistsConfig, FinalConfig)
}
STUDY_FILE = "study.json"


@dataclass(frozen=True)
class SessionRecord:
    """One run of the driver. The fields are those of the file.

    Attributes:
        started: Time of its start, as ISO 8601 with a time zone.
        command: Its command line, without the interpreter.
        address: Address of the Ray cluster that it joined, if any.
        nodes: Nodes of the cluster at the start.
        concurrent_trials: Trials at once at the start.
        host: The driver's host name.
        python: Version of Python.
        versions: Versions of the packages that affect results; None for one not installed.
        git: Commit of the checkout that it ran from, and whether that was changed (``dirty``).
        gpus_per_trial: GPUs per trial.
    """

    started: str
    command: str
    address: str | None
    nodes: int
    concurrent_trials: int
    host: str
    python: str
    versions: dict[str, str | None]
    git: dict[str, Any] | None
    gpus_per_trial: float | None = None

    @property
    def started_at(self) -> float:
        """Time of its start, in seconds since 1970."""
        return datetime.fromisoformat(self.started).timestamp()

    @classmethod
    def of_this_process(
        cls, address: str | None, *, nodes: int, concurrent_trials: int, gpus_per_trial: float
    ) -> SessionRecord:
        """The session that begins now. For the arguments, see the attributes."""
        return cls(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=" ".join(sys.orig_argv[1:]),
            address=address,
            nodes=nodes,
            concurrent_trials=concurrent_trials,
            gpus_per_trial=gpus_per_trial,
            host=platform.node(),
            python=platform.python_version(),
            versions=installed_versions(),
            git=git_state(),
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SessionRecord:
        """Read one session of the file.

        Raises:
            ValueError: A field is missing or invalid.
        """
        try:
            zone = datetime.fromisoformat(_field(content, "started", str)).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise ValueError("a session's started is not a time with a time zone")
        for name in ("host", "command", "python"):
            _field(content, name, str)
        for name in ("nodes", "concurrent_trials"):
            _count(content, name, at_least=0)
        _field(content, "address", (str, type(None)))
        _field(content, "versions", dict)
        git = _field(content, "git", (dict, type(None)))
        if git is not None:
            _field(git, "commit", str)
            _field(git, "dirty", bool)
        return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content})


@dataclass(frozen=True)
class StudyFile:
    """The content of ``study.json``.

    Attributes:
        config: The study's configuration.
        storage: Its place in an object store, or None if its folder holds everything.
        num_train: Images that a trial trains on, unless it takes fewer.
        num_evaluated: Images that are evaluated after each epoch.
        evaluated: The kind of these images: ``validation`` or ``test``.
        sessions: The runs of its driver, at least one.
        sha256: Checksum of each file of images that was used; None if the file names none.
    """

    config: StudyConfig
    storage: str | None
    num_train: int
    num_evaluated: int
    evaluated: str
    sessions: tuple[SessionRecord, ...]
    sha256: dict[str, Any] | None = None

    @classmethod
    def of(
        cls, config: StudyConfig, storage: str | None, sessions: tuple[SessionRecord, ...]
    ) -> StudyFile:
        """The file of a study that runs now, with its images split as `config` says."""
        is_test = config.evaluated == "test"
        num_evaluated = NUM_TEST_IMAGES if is_test else NUM_TRAINING_IMAGES - config.num_train
        sha256: dict[str, Any] = dict(DATASET_SPECS[config.dataset].sha256)
        split = (config.num_train, num_evaluated, config.evaluated)
        return cls(config, storage, *split, sessions, sha256)

    @classmethod
    def read(cls, folder: Path) -> StudyFile:
        """Read the file of the study in `folder`.

        Raises:
            UserError: The file is missing, damaged or of another format.
        """
        file = folder / STUDY_FILE
        try:
            with open_plain(file) as opened:
                content = json.loads(opened.read())
            # Refuse lone surrogates, which cannot be written again.
            json.dumps(content, ensure_ascii=False).encode()
        except (FileNotFoundError, NotADirectoryError):
            if (journal := folder / "optuna.log").is_file() and journal.stat().st_size:
                raise UserError(
                    f"{file}: missing, but the study's journal exists; restore it from a copy"
                ) from None
            missing, near = "no study.json", ""
            if not os.path.lexists(folder):
                missing = "no such folder"
                near = hint(folder.name, (path.name for path in studies_in(folder.parent)))
            raise UserError(
                f"{folder}: not a study ({missing}){near}; give a folder like results/NAME"
            ) from None
        except OSError as error:
            raise cannot_be_read(file, error) from None
        except (ValueError, RecursionError):
            raise UserError(f"{file}: damaged (not JSON); restore it from a copy") from None
        try:
            found = _field(_field({"it": content}, "it", dict), "format_version", object)
            if found not in FORMAT_VERSIONS:
                *others, last = map(str, FORMAT_VERSIONS)
                raise UserError(
                    f"{file}: has results format {shown(found)}, but this version reads formats "
                    f"{', '.join(others)} and {last}; use the version of mnist-study that made it"
                )
            return cls._from_json(content)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{file}: damaged ({one_line(error)}); restore it from a copy"
            ) from None

    def write(self, folder: Path) -> None:
        """Write the file atomically, in the current format."""
        write_json(folder / STUDY_FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The file's content in the current format."""
        config = self.config
        of_search = {
            "metric": METRIC,
            "mode": MODE,
            "objective": f"{METRIC} of a trial's last epoch",
            "asha": {"grace_epochs": ASHA_GRACE_EPOCHS, "reduction": ASHA_REDUCTION}
            if config.stops_early
            else None,
        }
        of_split = {"seed": SPLIT_SEED, "stratified": True}
        return {
            "format_version": FORMAT_VERSIONS[-1],
            "kind": config.kind,
            "config": config.to_json(),
            "storage": self.storage,
            **(of_search if config.is_ranked else {}),
            "data": {
                "dataset": config.dataset,
                **({} if self.sha256 is None else {"sha256": self.sha256}),
                "split": {
                    "train": self.num_train,
                    "validation": self.num_evaluated,  # even if they are test images
                    "evaluated": self.evaluated,
                    **(of_split if self.evaluated == "validation" else {}),
                },
            },
            "sessions": [asdict(session) for session in self.sessions],
        }

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> StudyFile:
        """Read the file's content; raise `ValueError` if a field is missing or invalid."""
        of_a_comparison = "arms" in _field(content, "config", dict)  # format 2 has no kind
        kind = content.get("kind", "comparison" if of_a_comparison else "search")
        if kind not in KINDS:
            raise ValueError(f"kind is {shown(kind)}; the kinds are {', '.join(KINDS)}")
        earlier = {"seeds": "shared"} if kind == "comparison" else {}  # before format 5
        try:
            config = KINDS[kind](**{**earlier, **content["config"]})
            if (storage := content.get("storage")) is not None:
                require_uri("storage", storage)
        except UserError as error:
            raise ValueError(error) from None
        data = _field(content, "data", dict)
        _field(data, "dataset", str)
        split = _field(data, "split", dict)
        num_train, num_evaluated = _count(split, "train"), _count(split, "validation")
        evaluated = split.get("evaluated", "validation" if config.is_ranked else None)
        if evaluated not in ("test", "validation"):
            raise ValueError("data.split.evaluated is neither test nor validation")
        if not (sessions := _field(content, "sessions", list)):
            raise ValueError("sessions is empty")
        read = [
            SessionRecord.from_json(_field({"a session": s}, "a session", dict)) for s in sessions
        ]
        sha256 = _field(data, "sha256", (dict, type(None))) if "sha256" in data else None
        return cls(config, storage, num_train, num_evaluated, evaluated, tuple(read), sha256)


def studies_in(folder: Path) -> list[Path]:
    """The folders in `folder` that hold a study, even a damaged one; none if it is unreadable."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    files = (STUDY_FILE, "optuna.log")
    return [path for path in paths if any(os.path.lexists(path / file) for file in files)]


def resume_command(config: StudyConfig, path: Path | str, address: str | None = None) -> str:
    """The command that continues a study, ready to paste into a shell.

    Args:
        config: The study's configuration.
        path: Its folder or URI.
        address: Address of the Ray cluster that it joins, if any.
    """
    where = ["--address", address] if address else []
    return command_line(config.module, *config.resume_arguments(str(path)), *where)


def _field(content: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in content:
        raise ValueError(f"{name} is missing")
    value = content[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}")
    return value


def _count(content: dict[str, Any], name: str, at_least: int = 1) -> int:
    value = _field(content, name, int)
    if isinstance(value, bool) or not at_least <= value < 2**63:
        raise ValueError(f"{name} is {shown(value)}")
    return value
