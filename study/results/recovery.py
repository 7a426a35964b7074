"""Read what earlier sessions left in a study's files, check it and restore missing histories.

The journal says which trials exist and how they ended. ``histories/`` holds the measurements of
the ended ones. If a history is missing or damaged, it is rebuilt from the trial's last
checkpoint, or else from the tables, or else from the journal's own values. Files that
contradict each other are refused, e.g. if one of them was replaced by an older copy. Nothing is
changed before all checks have passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, TrialState

from study.config.space import Space, describe, space_from_json, space_of
from study.config.study import StudyConfig
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import escape, shown
from study.files import remove_unfinished
from study.results.earlier import CONFIGURED, Tables
from study.results.history import NOTHING, History, history_from_values
from study.results.journal import (
    JOURNAL_FILE,
    JournalContent,
    is_retry,
    read_journal,
    reporting_damage,
    seed_number,
    trial_name,
    trial_status,
)
from study.results.storage import HISTORIES, RAY_FOLDER, Storage
from study.results.trials import differs

FROM_TABLES = "the tables"


@dataclass(frozen=True)
class Recovered:
    """What a study's earlier sessions left.

    Attributes:
        journal: The journal's content.
        ended: The history of each ended trial, by trial id. It grows as trials end.
        partial: The histories, by trial id, of interrupted trials that lost their newest
            checkpoints. They are kept until the trial has come as far again.
        notes: One line for each missing item, saying what replaced it.
        from_elsewhere: Trials in `ended` that ``histories/`` lacks.
        untabled: Trials in `ended` that no table holds yet. Until one does, a trial without a
            final model keeps its last checkpoint, so that ``histories/`` is not the only copy.
    """

    journal: JournalContent = field(default_factory=JournalContent)
    ended: dict[str, History] = field(default_factory=dict)
    partial: dict[str, History] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    from_elsewhere: set[str] = field(default_factory=set)
    untabled: set[str] = field(default_factory=set)


def trial_config_of(config: StudyConfig, trial: FrozenTrial) -> TrialConfig:
    """The configuration of a trial in the journal."""
    return config.trial_config(trial.params, seed_number(trial))


def asked(trials: Iterable[FrozenTrial], config: StudyConfig) -> list[FrozenTrial]:
    """The trials that have drawn all their hyperparameters.

    The journal holds one line per draw, so a killed driver may leave a trial with only some.
    """
    return [trial for trial in trials if set(config.draws(trial.params)) <= set(trial.params)]


def recover(storage: Storage, config: StudyConfig) -> Recovered:
    """Read what a study's earlier sessions left. Changes nothing.

    Raises:
        UserError: Files are damaged or contradict each other beyond repair.
    """
    folder = storage.folder
    journal = read_journal(folder)
    if journal.name is None:
        _require_no_results(storage)
        return Recovered(journal)
    _require_same_study(folder, config, journal)
    with reporting_damage(folder / JOURNAL_FILE):
        space = space_of(config)
        for trial in journal.trials:
            _require_possible(config, space, trial)
        known = {
            trial_name(trial.number): _Known(trial, trial_config_of(config, trial))
            for trial in asked(journal.trials, config)
        }
    kept = {trial_id: storage.kept(trial_id) for trial_id in storage.kept_ids()}
    tables = Tables(folder)
    _require_agreement(folder, config, known, kept, tables)
    found = Recovered(journal)
    sources: dict[str, list[str]] = {}
    for trial_id, (trial, made_with) in known.items():
        if trial.state.is_finished():
            history, source = _history_of(storage, config, known[trial_id], kept, tables)
        elif (unrecorded := _end_unrecorded(trial_id, kept, tables)) is not None:
            history, source = unrecorded
        else:
            _note_lost_epochs(found, storage, known[trial_id], kept, tables)
            continue
        found.ended[trial_id] = replace(history, config=asdict(made_with))
        sources.setdefault(source, []).append(trial_id)
        if tables.status(trial_id) == "interrupted":
            found.untabled.add(trial_id)
    for source, ids in sources.items():
        if source in (RAY_FOLDER, FROM_TABLES):
            found.from_elsewhere.update(ids)
        if source in (FROM_TABLES, JOURNAL_FILE):  # earlier versions had them in Ray's folder
            left = " and from what is left of the tables" if source == JOURNAL_FILE else ""
            found.notes.append(f"{_names(ids)}: no intact history; restored from {source}{left}")
    return found


def repair(storage: Storage, recovered: Recovered) -> None:
    """Restore what `recover` found missing. The caller holds the study's lock."""
    remove_unfinished(storage.folder)
    remove_unfinished(storage.folder / HISTORIES)
    for trial_id in sorted(recovered.from_elsewhere):
        history = recovered.ended[trial_id]
        storage.keep(trial_id, history)
        recovered.untabled.add(trial_id)
    for trial_id, history in recovered.partial.items():  # their only other copy is a table
        storage.keep(trial_id, history)


def _changes(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between two configurations in words, one for each range or choice."""
    if isinstance(earlier.get("space"), dict) and isinstance(now.get("space"), dict):
        earlier, now = ({**c, **c["space"], "space": sorted(c["space"])} for c in (earlier, now))

    def words(value: Any) -> str:
        is_range = isinstance(value, dict) and "attributes" in value
        return describe(space_from_json({"": value})[""]) if is_range else shown(value)

    if isinstance(earlier.get("arms"), dict) and isinstance(now.get("arms"), dict):
        order = "order of arms"  # it decides the order of the trials
        earlier, now = ({**c, order: list(c["arms"])} for c in (earlier, now))
    return [
        f"{name} was {words(earlier[name])} and is {words(now.get(name))}"
        for name in earlier
        if earlier[name] != now.get(name)
    ]


class _Known(NamedTuple):
    """A trial of the journal."""

    trial: FrozenTrial
    made_with: TrialConfig


Kept = Mapping[str, History | None]  # the content of histories/ by trial id; None: damaged


def _require_no_results(storage: Storage) -> None:
    """Refuse results without a journal: only a new study may lack one."""
    traces = [path.name for path in sorted(storage.folder.glob("*.parquet"))]
    traces += [f"{HISTORIES}/{name}.npz" for name in sorted(storage.kept_ids())]
    traces += [f"{RAY_FOLDER}/{name}" for name in storage.trial_ids()]
    if traces:
        raise UserError(
            f"{storage.folder / JOURNAL_FILE}: missing or empty, but the study has results "
            f"({traces[0]}); restore it from a copy. The existing tables stay readable"
        )


def _require_same_study(folder: Path, config: StudyConfig, journal: JournalContent) -> None:
    """Refuse a ``study.json`` that is not the one the journal was begun with."""
    begun_with = journal.attrs.get("config")
    if begun_with is None:
        legacy = journal.attrs.get("fingerprint")
        begun = any(trial.params for trial in journal.trials)
        if legacy == json.dumps(config.identity()) or (legacy is None and not begun):
            changed = [] if journal.name == config.name else ["name"]
        else:
            changed = ["the space or another setting"]
    else:
        with reporting_damage(folder / JOURNAL_FILE):
            earlier = dict(json.loads(begun_with))
            changed = _changes(earlier, json.loads(json.dumps(config.fixed_part())))
        if journal.name != config.name and not changed:
            changed = [f"name was {shown(journal.name)} and is {shown(config.name)}"]
    if changed:
        raise UserError(
            f"{folder / 'study.json'}: changed since the study began, or {JOURNAL_FILE} belongs "
            f"to another study ({'; '.join(changed)}); restore it, or start a new study"
        )
    planned = sum(not is_retry(trial) for trial in journal.trials)  # including waiting ones
    if planned > config.num_trials:
        raise UserError(
            f"{folder / 'study.json'}: plans {config.num_trials} trials, but {JOURNAL_FILE} has "
            f"{planned}; restore it from a copy"
        )


def _require_possible(config: StudyConfig, space: Space, trial: FrozenTrial) -> None:
    """Raise an error unless every value that a trial has or will have is in the space."""
    attrs = trial.system_attrs
    shared = [text for name, text in attrs.items() if ":relative_params:" in name]
    to_draw = json.loads("".join(shared) or "{}")
    for values in (trial.params, attrs.get("fixed_params", {}), to_draw):
        for name, value in values.items():
            if not space[name]._contains(space[name].to_internal_repr(value)):
                raise ValueError(f"{name} {shown(value)}")
        if set(config.draws(values)) <= values.keys():
            config.trial_config(values, seed_number(trial))
    if trial.state.is_finished() and not asked([trial], config):
        raise ValueError(f"{trial_name(trial.number)}: ended without its parameters")


def _require_agreement(
    folder: Path, config: StudyConfig, known: Mapping[str, _Known], kept: Kept, tables: Tables
) -> None:
    """Refuse a journal that is older than the results beside it, or of another study."""

    def refuse(trial_id: str, where: str, what: str) -> UserError:
        return UserError(
            f"{folder / JOURNAL_FILE}: contradicts {where} ({shown(trial_id)}: "
            f"{escape(what, keep='')}); one of them is an older copy or of another study; restore "
            "the right one"
        )

    for trial_id, history in sorted(kept.items()):
        where = f"{HISTORIES}/{trial_id}.npz"
        if trial_id not in known:
            raise refuse(trial_id, where, "not in the journal")
        trial, made_with = known[trial_id]
        if history is None:
            continue
        if not history.is_of(made_with):
            raise refuse(trial_id, where, "other hyperparameters")
        if not trial.state.is_finished():
            continue
        if history.status not in (None, trial_status(trial)):
            raise refuse(trial_id, where, f"{trial_status(trial)} and {history.status}")
        if not _fits(history, trial, config):
            raise refuse(trial_id, where, "other values")
    for trial_id, row in tables.rows.items():
        if trial_id not in known:
            raise refuse(trial_id, "trials.parquet", "not in the journal")
        trial = known[trial_id].trial
        expected = asdict(known[trial_id].made_with)
        for name in CONFIGURED:
            if differs(row[name], expected[name]):
                raise refuse(trial_id, "trials.parquet", f"{name} {expected[name]} and {row[name]}")
        both_ended = trial.state.is_finished() and row["status"] != "interrupted"
        if both_ended and row["status"] != trial_status(trial):
            raise refuse(trial_id, "trials.parquet", f"{trial_status(trial)} and {row['status']}")


def _history_of(
    storage: Storage, config: StudyConfig, known: _Known, kept: Kept, tables: Tables
) -> tuple[History, str]:
    """The history of an ended trial, and where it was found."""
    trial, made_with = known
    trial_id, status = trial_name(trial.number), trial_status(trial)

    def candidates() -> Iterator[tuple[History | None, str]]:
        yield kept.get(trial_id), HISTORIES
        newest = storage.newest_checkpoint(trial_id, made_with, resumable=False)
        yield newest and newest[1], RAY_FOLDER
        yield tables.history(trial_id), FROM_TABLES

    whole = ((h, source) for h, source in candidates() if h and _fits(h, trial, config))
    history, source = next(whole, (None, JOURNAL_FILE))
    if history is None:
        values = history_from_values(trial.intermediate_values, made_with, config.num_train)
        history = tables.completed(values, trial_id)
        if status == "failed" and not values.epochs:  # no epoch ended, so no history is lost
            source = HISTORIES
    return replace(history, status=status, error=trial.user_attrs.get("error", "")), source


def _fits(history: History, trial: FrozenTrial, config: StudyConfig) -> bool:
    """Whether a history covers the whole trial, judged by how far it came in the journal."""
    epochs, reported = len(history.epochs), max(trial.intermediate_values, default=0)
    if "epochs" in trial.user_attrs:
        whole = epochs == trial.user_attrs["epochs"]
    else:  # recorded by an earlier version
        status = trial_status(trial)
        whole = {
            "complete": epochs == config.epochs,
            "pruned": epochs == reported,
            "diverged": epochs >= max(1, reported),  # a NaN is not reported
        }.get(status, epochs > 0)
    complete = trial.state == TrialState.COMPLETE
    return whole and (not complete or history.epochs[-1]["eval_accuracy"] == trial.value)


def _end_unrecorded(trial_id: str, kept: Kept, tables: Tables) -> tuple[History, str] | None:
    """The history of a trial that ended before the journal could record it, and its source."""
    found = kept.get(trial_id)
    if found is not None and found.status is not None:
        return found, HISTORIES
    if tables.status(trial_id) != "interrupted":
        found = tables.history(trial_id)
        if found is not None and found.status is not None:
            return found, FROM_TABLES
    return None


def _note_lost_epochs(
    found: Recovered, storage: Storage, known: _Known, kept: Kept, tables: Tables
) -> None:
    """Keep what an interrupted trial measured after its last intact checkpoint."""
    trial, made_with = known
    trial_id = trial_name(trial.number)
    newest = storage.newest_checkpoint(trial_id, made_with, resumable=True)
    reached, longest = newest[1] if newest else NOTHING, kept.get(trial_id) or NOTHING
    if tables.epochs_run(trial_id) > max(len(reached.epochs), len(longest.epochs)):
        tabled = tables.history(trial_id) or NOTHING
        longest = max(longest, tabled, key=lambda history: len(history.epochs))
    if len(longest.epochs) > len(reached.epochs):
        found.partial[trial_id] = replace(longest, config=asdict(made_with))
    if trial.intermediate_values and newest is None:
        found.notes.append(f"{trial_id}: no intact checkpoint; it will be trained from the start")


def _names(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
