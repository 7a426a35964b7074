"""Reads ``study.json``, which says what a study is and how it was made.

A results folder may be damaged, or come from someone else. What any reader relies on is checked
here, once: a file that lacks it is refused in one line.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from study.comparison import ComparisonConfig
from study.config import SearchConfig, StudyConfig
from study.errors import StorageError, UserError
from study.files import open_plain, require_uri
from study.text import command_line, one_line, shown

FORMAT_VERSIONS = (2, 3)  # that are read; the last one is written
KINDS = {config.kind: config for config in (SearchConfig, ComparisonConfig)}


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
        if (journal := path / "optuna.log").is_file() and journal.stat().st_size:
            raise UserError(
                f"{file}: missing, though the study's journal is there; restore it from a copy"
            ) from None
        raise UserError(
            f"{path}: not a study (no study.json); give a folder like results/NAME"
        ) from None
    except OSError as error:
        raise StorageError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: damaged (not JSON); restore it from a copy") from None
    try:
        version = _field(_field({"it": study}, "it", dict), "format_version", object)
        if version not in FORMAT_VERSIONS:
            known = " and ".join(map(str, FORMAT_VERSIONS))
            raise UserError(
                f"{file}: results format {shown(version)}, this version reads format {known}; use "
                "the version of mnist-study that made it"
            )
        _check(study)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({one_line(error)}); restore it from a copy") from None
    return study


def config_of(study: dict[str, Any]) -> StudyConfig:
    """The configuration in ``study.json``'s content.

    Raises:
        UserError: It is not a possible one.
    """
    return KINDS[study["kind"]](**study["config"])


def resume_command(config: StudyConfig, path: Path | str, address: str | None = None) -> str:
    """The command that continues a study, to be pasted into a shell.

    Args:
        config: The study's.
        path: Its folder or URI.
        address: Of the Ray cluster that it joins, if any.
    """
    where = ["--address", address] if address else []
    return command_line(config.module, "--resume", path, *where)


def _check(study: dict[str, Any]) -> None:
    """Raise `ValueError` for what is missing or of another kind than readers rely on."""
    of_a_comparison = "arms" in _field(study, "config", dict)  # earlier versions named no kind
    if study.setdefault("kind", "comparison" if of_a_comparison else "search") not in KINDS:
        raise ValueError(f"kind is {shown(study['kind'])}; the kinds are {', '.join(KINDS)}")
    try:
        config = config_of(study)
        study["config"] = config.to_json()  # with the defaults of what it lacks
        if study.setdefault("storage", None) is not None:
            require_uri("storage", study["storage"])
    except UserError as error:
        raise ValueError(error) from None
    data = _field(study, "data", dict)
    _field(data, "dataset", str)
    split = _field(data, "split", dict)
    _count(split, "train")
    _count(split, "validation")
    if split.setdefault("evaluated", "validation" if config.is_ranked else None) not in (
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


def _field(content: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in content:
        raise ValueError(f"{name} is missing")
    value = content[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}")
    return value


def _count(content: dict[str, Any], name: str, at_least: int = 1) -> None:
    value = _field(content, name, int)
    if isinstance(value, bool) or not at_least <= value < 2**63:
        raise ValueError(f"{name} is {shown(value)}")
