"""The studies in a folder, one line each."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from rich.table import Table
from rich.text import Text

from study.console.errors import UserError
from study.console.text import command_line, escape, format_duration, one_line
from study.results.history import ENDS
from study.results.journal import (
    JOURNAL_FILE,
    num_planned,
    read_journal,
    trial_name,
    trial_status,
)
from study.results.lock import has_driver
from study.results.study_file import STUDY_FILE, StudyFile, studies_in


def overview(folder: Path) -> Table | str:
    """The studies in `folder` as a table, the one that changed last first.

    A folder that is no study is left out. Of a damaged study the error is shown.
    """
    changed = {study: _last_change(study) for study in studies_in(folder)}
    if not changed:
        begin = command_line("study.run", "--num-samples", 40)
        return f"No studies in {folder} yet. To begin one: {begin}"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("study", "last change"):
        table.add_column(column, no_wrap=True)
    table.add_column("state", overflow="fold")
    for study in sorted(changed, key=lambda study: changed[study], reverse=True):
        try:
            words = _in_words(study)
        except (UserError, OSError) as error:
            words = one_line(error)
        age = format_duration(max(0.0, time.time() - changed[study]))
        # Names and errors are from outside, and one line each.
        table.add_row(*(Text(escape(cell, keep="")) for cell in (study.name, f"{age} ago", words)))
    return table


def _last_change(study: Path) -> float:
    files = [study / name for name in (STUDY_FILE, JOURNAL_FILE)]
    return max(file.lstat().st_mtime for file in files if os.path.lexists(file))


def _in_words(folder: Path) -> str:
    """A study's kind, its state, and its best trial or its question.

    Raises:
        UserError: A file is damaged.
    """
    config = StudyFile.read(folder).config
    trials = read_journal(folder).trials
    ended = [
        (trial_name(trial.number), trial_status(trial), _known(trial.value))
        for trial in trials
        if trial.state.is_finished()
    ]
    if not trials:
        ended = _tabled(folder)
    planned = num_planned(config, trials)
    alive = has_driver(folder)
    state = f"{'running' if alive else 'interrupted'}, {len(ended)} of {planned} trials ended"
    if len(ended) >= planned:
        state = f"finished, {planned} trials"
    answer = getattr(config, "title", "")
    complete = [(v, i) for i, status, v in ended if status == "complete" and 0 <= v <= 1]
    if config.is_ranked and complete:
        answer = "best {:.2%} ({})".format(*max(complete))
    return f"{config.kind}: {state}" + (answer and f"; {answer}")


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _tabled(folder: Path) -> list[tuple[str, str, float]]:
    """The id, status and accuracy of each ended trial in a table, for results without a journal."""
    from study.results.tables import TRIAL_COLUMNS, read_table

    try:
        frame = read_table(folder / "trials.parquet", TRIAL_COLUMNS)
    except FileNotFoundError:
        return []
    columns = frame[frame["status"].isin(ENDS)][["trial_id", "status", "last_eval_accuracy"]]
    return [(str(i), str(status), float(value)) for i, status, value in columns.to_numpy()]
