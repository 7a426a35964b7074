"""Reads ``study.json``, which says what a study is and how it was made.

A results folder may be damaged, or come from someone else. What any reader relies on is checked
here, once: a file that lacks it is refused in one line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from study.comparison import ComparisonConfig
from study.config import HYPERPARAMETERS, StudyConfig, UserError, check_hyperparameter

FORMAT_VERSION = 2
FOLDER_NAME = r"[\w.-]*\w[\w.-]*"  # neither markup nor a way out of a folder
ARM_NAME = r"[\w.-]+"
OBJECT_STORE = r"(s3|gs|gcs|abfss?|hdfs|viewfs)://[\w.-]+[^\s\\]*"


def load_study_json(path: Path) -> dict[str, Any]:
    """The content of ``study.json`` in the study folder `path`.

    Raises:
        UserError: There is none, or it is damaged or of another format.
    """
    file = path / "study.json"
    try:
        with open_plain(file) as opened:
            study = json.loads(opened.read())
        json.dumps(study, ensure_ascii=False).encode()  # no half characters, which none can write
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path}: not a study (no study.json); give a folder like results/NAME"
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: damaged (not JSON); restore it from a copy") from None
    try:
        version = _field(_field({"it": study}, "it", dict), "format_version", object)
        if version != FORMAT_VERSION:
            raise UserError(
                f"{file}: results format {_short(version)}, this version reads format "
                f"{FORMAT_VERSION}; use the version of mnist-study that made it"
            )
        _check(study)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: damaged ({reason}); restore it from a copy") from None
    return study


def open_plain(file: Path) -> IO[bytes]:
    """Open a file for reading; not a folder, not a pipe that blocks, and no link to elsewhere.

    Raises:
        UserError: It is one of these.
        OSError: It cannot be opened.
    """
    if file.is_symlink():
        raise UserError(f"{file}: is a link to another place; put the file itself there")
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{file}: is not a file; restore it from a copy")
    return os.fdopen(descriptor, "rb")


def is_comparison(study: dict[str, Any]) -> bool:
    """Whether ``study.json``'s content is of a comparison, not of a search."""
    return "arms" in study["config"]


def resume_command(study: dict[str, Any], path: Path | str, address: str | None = None) -> str:
    """The command that continues the study, to be pasted into a shell.

    Args:
        study: The content of its ``study.json``.
        path: Its folder or URI.
        address: Of the Ray cluster that it joins, if any.
    """
    module = "study.compare" if is_comparison(study) else "study.run"
    command = ["python", "-m", module, "--resume", str(path)]
    return shlex.join([*command, "--address", address] if address else command)


def trusted_storage(path: Path) -> str | None:
    """The object store that the study in `path` says it is kept in, if any.

    Raises:
        UserError: It names a server as well, which would be sent signed requests: that only the
            user may do.
    """
    study = load_study_json(path)
    uri = study["storage"]
    if uri and re.search(r"[?#@]", uri):
        raise UserError(
            f"{path / 'study.json'}: its storage names a server; if you trust it: "
            f"{resume_command(study, uri)}"
        )
    return uri


def _check(study: dict[str, Any]) -> None:
    """Raise `ValueError` for what is missing or of another kind than readers rely on."""
    config = _field(study, "config", dict)
    comparison = is_comparison(study)
    _match(_field(config, "name", str), FOLDER_NAME, "config.name")
    _field(config, "seed", int)
    _field(config, "title" if comparison else "space", str if comparison else dict)
    if comparison and not _field(config, "arms", dict):
        raise ValueError("config.arms is empty")
    for arm in config["arms"] if comparison else ():
        _match(arm, ARM_NAME, "an arm's name")
    try:
        (ComparisonConfig if comparison else StudyConfig)(**config)
        if not comparison:
            _check_space(config["space"])
    except UserError as error:
        raise ValueError(error) from None
    if study.setdefault("storage", None) is not None:
        _match(_field(study, "storage", str), OBJECT_STORE, "storage")
    data = _field(study, "data", dict)
    _field(data, "dataset", str)
    split = _field(data, "split", dict)
    _count(split, "train")
    _count(split, "validation")
    if split.setdefault("evaluated", None if comparison else "validation") not in (
        "test", "validation",
    ):  # fmt: skip
        raise ValueError("data.split.evaluated is neither test nor validation")
    if not (sessions := _field(study, "sessions", list)):
        raise ValueError("sessions is empty")
    for session in sessions:
        _check_session(_field({"a session": session}, "a session", dict))


def _check_session(session: dict[str, Any]) -> None:
    try:
        zone = datetime.fromisoformat(_field(session, "started", str)).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError("a session's started is not a time with its zone")
    for name in ("host", "command", "python"):
        _field(session, name, str)
    for name in ("nodes", "concurrent_trials"):
        _count(session, name, at_least=0)
    _field(session, "address", (str, type(None)))
    _field(session, "versions", dict)
    git = _field(session, "git", (dict, type(None)))
    if git is not None:
        _field(git, "commit", str)
        _field(git, "dirty", bool)


def _check_space(space: dict[str, Any]) -> None:
    """Ranges and choices in Optuna's notation, of exactly our hyperparameters."""
    if set(space) != set(HYPERPARAMETERS):
        raise ValueError(f"config.space is not of {', '.join(HYPERPARAMETERS)}")
    for name in HYPERPARAMETERS:
        kind = _field(_field(space, name, dict), "name", str)
        given = _field(space[name], "attributes", dict)
        if kind == "CategoricalDistribution" and given.keys() == {"choices"}:
            values: list[Any] = _field(given, "choices", list)
        elif kind == "FloatDistribution" and given.keys() == {"low", "high", "log", "step"}:
            _field(given, "log", bool)
            _field(given, "step", type(None))
            values = [given["low"], given["high"]]
        else:
            values = []
        for value in values:
            check_hyperparameter(name, value)
        if not values or (kind == "FloatDistribution" and values != sorted(values)):
            raise ValueError(f"config.space.{name} is {_short(space[name])}")


def _field(content: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in content:
        raise ValueError(f"{name} is missing")
    value = content[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {_short(value)}")
    return value


def _count(content: dict[str, Any], name: str, at_least: int = 1) -> None:
    value = _field(content, name, int)
    if isinstance(value, bool) or not at_least <= value < 2**63:
        raise ValueError(f"{name} is {_short(value)}")


def _match(text: str, pattern: str, what: str) -> None:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{what} is {_short(text)}")


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
