"""Every file and folder of a study damaged in every way, then each command run on it.

The promise: either every value that the study held is still there, or one line names the file that
must be restored and nothing has changed. Two damages at once are outside the promise.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from study.config.comparison import ComparisonConfig
from study.console.errors import UserError
from study.results.journal import trial_status
from study.results.predictions import load_predictions
from study.results.study_file import StudyFile
from study.results.tables import load_study
from study.status import read_status
from tests.helpers import THOROUGH
from tests.helpers.simulated import Session, assert_sound, comparison_config, search_config

pytestmark = pytest.mark.usefixtures("without_ray")
KEYS = {
    "trials": "trial_id",
    "epochs": ["trial_id", "epoch"],
    "steps": ["trial_id", "step"],
    "predictions": ["trial_id", "index"],
}
# Files that Ray leaves besides checkpoints. The study does not read them.
LEFT_BY_RAY = (
    "tuner.pkl",
    "experiment_state-2026-11-24_20-13-44.json",
    "trial_00000/params.json",
    "trial_00000/params.pkl",
    "trial_00000/result.json",
    "trial_00003/error.txt",
)
KINDS = ("finished-search", "finished-comparison", "interrupted-search", "interrupted-comparison")
# With these seeds trials end in all possible ways.
SEARCH, COMPARISON = {"seed": 20}, {"seed": 56}


@dataclass
class Made:
    """A study on the disk, before the damage.

    Attributes:
        folder: Its folder.
        older: The earlier contents of each file, by file.
        other: The folder of another study with the same history.
        tables: Its tables.
        after: The tables after each command has run on the undamaged study, by command.
    """

    folder: Path
    older: dict[str, list[bytes]]
    other: Path
    tables: dict[str, pd.DataFrame]
    after: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    results = load_study(folder)
    tables = {"trials": results.trials, "epochs": results.epochs, "steps": results.steps}
    if results.study.config.keeps_predictions:
        tables["predictions"] = load_predictions(folder).astype({"trial_id": "string"})
    return {name: frame.set_index(KEYS[name]).sort_index() for name, frame in tables.items()}


def copies_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stop_in_the_middle(session: Session) -> None:
    """One trial has ended but is not in the tables yet; two are interrupted."""
    while len(session.acknowledged) < 3 or len(session.running) < 2:
        if not session.start():
            session.epoch(0)
    for which in range(2):
        running = list(session.running.values())[which]
        if running.epochs == 0:
            session.epoch(which)
    session.tables.write()
    ended = len(session.acknowledged)
    while len(session.acknowledged) == ended:
        session.epoch(1)
    while session.start():
        pass
    session.close()


def make(folder: Path, config, *, finished: bool) -> list[dict[str, bytes]]:
    """A study that was stopped once and extended once. Returns earlier versions of its files."""
    grows = config.grows
    moments = []
    stop_in_the_middle(Session(folder, config, resume=False))
    moments.append(copies_of(folder))
    if finished:
        Session(folder, config, resume=True).run()
        moments.append(copies_of(folder))
        more = dataclasses.replace(config, **{grows: getattr(config, grows) + 1})
        Session(folder, more, resume=True).run()
    for name in LEFT_BY_RAY:
        path = folder / "ray" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left by Ray\n")
    if grows == "replicates":
        (folder / "test_set_openings.jsonl").write_text('{"reason": "the report\'s protocol"}\n')
    return moments


def ends_of_trials(journal: bytes) -> Iterator[bytes]:
    """The journal just before and just after each trial was reported as ended."""
    lines = journal.splitlines(keepends=True)
    for at, line in enumerate(lines):
        op = json.loads(line)
        if op["op_code"] == 6 and op["state"] in (1, 2, 3):
            yield b"".join(lines[:at])
            yield b"".join(lines[: at + 1])


@pytest.fixture(scope="module")
def studies(tmp_path_factory, without_ray) -> dict[str, Made]:
    made = {}
    for kind, config, other in (
        ("search", search_config(6, **SEARCH), search_config(6, seed=SEARCH["seed"] + 6)),
        (
            "comparison",
            comparison_config(3, **COMPARISON),
            comparison_config(3, seed=COMPARISON["seed"] + 6),
        ),
    ):
        for state in ("finished", "interrupted"):
            place = tmp_path_factory.mktemp(f"{state}-{kind}")
            folder = place / "n"
            moments = make(folder, config, finished=state == "finished")
            make(place / "other" / "n", other, finished=state == "finished")
            older = {
                name: [m[name] for m in moments if m.get(name) not in (None, content)]
                for name, content in copies_of(folder).items()
            }
            journal = (folder / "optuna.log").read_bytes()
            older["optuna.log"] = [past for past in ends_of_trials(journal) if past != journal]
            study = Made(folder, older, place / "other" / "n", tables_of(folder))
            for command in (resume, extend):
                copy = place / command.__name__ / "n"
                shutil.copytree(folder, copy)
                study.after[command.__name__] = command(copy)
                assert_sound(copy, StudyFile.read(copy).config, {})
            made[f"{state}-{kind}"] = study
    return made


# The commands that run on a damaged study.


def resume(folder: Path) -> dict[str, pd.DataFrame]:
    Session(folder, StudyFile.read(folder).config, resume=True).run()
    return tables_of(folder)


def extend(folder: Path) -> dict[str, pd.DataFrame]:
    config = StudyFile.read(folder).config
    more = {"replicates": 5} if isinstance(config, ComparisonConfig) else {"num_samples": 8}
    Session(folder, dataclasses.replace(config, **more), resume=True).run()
    return tables_of(folder)


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """Read a study as the report does."""
    return tables_of(folder)


def status(folder: Path) -> tuple:
    found = read_status(folder)
    running = [(t.number, t.params, trial_status(t)) for t in found.running]
    return found.name, found.planned, found.epochs, found.counts, running


# The kinds of damage to one file or folder.

Damage = Callable[[Path], None]


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        path.mkdir()
    else:
        path.write_bytes(b"")


def replace_by_the_other_kind(path: Path) -> None:
    is_folder = path.is_dir()
    delete(path)
    path.write_bytes(b"something\n") if is_folder else path.mkdir()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 4
    path.write_bytes(content)


def put(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content) and None


def put_other(other: Path) -> Damage:
    def replace(path: Path) -> None:
        delete(path)
        shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path)

    return replace


def damages_of(study: Made, name: str) -> Iterator[tuple[str, Damage]]:
    path = study.folder / name
    yield "deleted", delete
    yield "emptied", empty
    yield "replaced by the other kind", replace_by_the_other_kind
    if (study.other / name).exists():
        yield "of another study", put_other(study.other / name)
    if path.is_dir() or path.stat().st_size == 0:
        return
    yield "halved", halve
    yield "zeroed", zero
    yield "a bit flipped", flip
    for number, content in enumerate(study.older.get(name, [])):
        yield f"older copy {number}", put(content)


# The checks.


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder, except stale locks, which may go, and the study's own lock."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if ".lock" not in path.name
    }


def assert_same(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for name, frame in expected.items():
        if not found[name].equals(frame):  # fast and prints nothing
            pd.testing.assert_frame_equal(found[name], frame, check_exact=True, obj=name)


def assert_kept(found: dict[str, pd.DataFrame], before: dict[str, pd.DataFrame]) -> None:
    """Every value that the tables held is there. An interrupted trial may have continued.

    Then it has a rank, and that of others may be another one.
    """
    trials = before["trials"]
    ended = trials[trials["status"] != "interrupted"].drop(columns="rank")
    before = {**before, "trials": ended}
    assert_same(
        {name: found[name].loc[frame.index, frame.columns] for name, frame in before.items()},
        before,
    )


def check_refusal(text: str, name: str) -> None:
    """One line that names the file. If two tables do not match, either may be the wrong one."""
    assert "\n" not in text
    assert Path(name).name in text or "do not match" in text, text


def outcome_of(study: Made, folder: Path, command, name: str, damaged) -> str:
    """Return "equal" or "refused"; fail if the outcome is neither."""
    shutil.copytree(study.folder, folder)
    damaged(folder / name)
    before = content_of(folder)
    try:
        found = command(folder)
    except UserError as error:
        check_refusal(str(error), name)
        assert content_of(folder) == before, "changed before it was refused"
        return "refused"
    if command is status:
        # The journal alone does not show that it is older or of another study.
        if name not in ("study.json", "optuna.log"):
            assert found == status(study.folder)
    elif command is read:
        # An intact older version of these is noticed when the tables are written, not when read.
        unseen = {"steps.parquet": "steps", "predictions.parquet": "predictions"}.get(name)
        assert_same(found, {k: v for k, v in study.tables.items() if k != unseen})
    elif name == "optuna.log":  # an older version may list fewer unfinished trials
        assert_kept(found, study.tables)
        assert_sound(folder, StudyFile.read(folder).config, {})
    else:
        assert_same(found, study.after[command.__name__])
    return "equal"


def try_all(study: Made, place: Path, commands, names) -> Counter[str]:
    counts: Counter[str] = Counter()
    failures = []
    for name in names:
        for how, damaged in damages_of(study, name):
            for command in commands:
                folder = place / "n"
                try:
                    counts[outcome_of(study, folder, command, name, damaged)] += 1
                except Exception as error:
                    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                    failures.append(f"{name}: {how}: {command.__name__}: {text}")
                shutil.rmtree(folder)
    print(f"{counts.total() + len(failures)} damages: {dict(counts)}")
    assert not failures, f"{len(failures)} of them:\n" + "\n".join(failures)
    return counts


def names_in(folder: Path, *, alike: bool) -> list[str]:
    """Every file and folder. Of those that differ only by a number: the first, or all."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    first = {re.sub(r"\d+", "", name): name for name in reversed(names)}
    return names if alike else sorted(first.values())


@pytest.mark.parametrize("kind", ["finished-search", "interrupted-comparison"])
def test_a_damage_is_repaired_or_reported(studies, tmp_path, kind):
    """Extending a study loses no table, and readers get no wrong value."""
    study = studies[kind]
    names = names_in(study.folder, alike=False)
    counts = try_all(study, tmp_path, (extend, status, read), names)
    assert counts["equal"] > counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_is_repaired_or_reported(studies, tmp_path, kind):
    study = studies[kind]
    names = names_in(study.folder, alike=THOROUGH)
    counts = try_all(study, tmp_path, (resume, extend, status, read), names)
    assert counts["equal"] > counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["study.json", "optuna.log", "trials.parquet", "epochs.parquet", "histories/trial_00000.npz"],
)
def test_a_bit_flipped_anywhere(studies, tmp_path, name):
    """Flip bits all over each file. Each flip is refused or does not matter."""
    failures = []
    places = 60 if THOROUGH else 15
    study = studies["finished-search"]
    for number in range(places):
        at = (number + 0.5) / places
        for command in (resume, status, read):
            try:
                outcome_of(study, tmp_path / "n", command, name, lambda path, at=at: flip(path, at))
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                failures.append(f"{at:.4f}: {command.__name__}: {text}")
            shutil.rmtree(tmp_path / "n")
    assert not failures, f"{len(failures)} of them:\n" + "\n".join(failures)
