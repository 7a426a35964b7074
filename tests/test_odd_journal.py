"""A journal that Optuna reads but that makes no sense is refused in one line, unchanged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study import status
from study.console.errors import UserError
from study.results.study_file import StudyFile
from study.status import read_status
from tests.helpers.simulated import Session, assert_sound, run_study, search_config

pytestmark = pytest.mark.usefixtures("without_ray")
HUGE = 10**9  # so many epochs would not fit in memory
HALF = "\ud800"  # a lone surrogate, which cannot be written
NEW_TRIAL = {"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": None, "state": 4}
POINT = {"batch_size": 64, "lr": 1.0, "gamma": 0.7, "width_mult": 1.0}

Lines = list[dict[str, Any]]
Change = Callable[[Lines], object]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, without_ray) -> dict[str, Path]:
    """Half-finished studies by sampler. Of "journal" only the journal is left."""
    made = {}
    for sampler in ("random", "tpe", "gp", "qmc"):
        made[sampler] = tmp_path_factory.mktemp(sampler) / "n"
        session = Session(made[sampler], search_config(6, seed=20, sampler=sampler), resume=False)
        while len(session.acknowledged) < 3 or len(session.running) < 2:
            if not session.start():
                session.epoch(0)
        session.tables.write()
        session.close()
    made["journal"] = tmp_path_factory.mktemp("journal") / "n"
    made["journal"].mkdir()
    for name in ("study.json", "optuna.log"):
        shutil.copy(made["random"] / name, made["journal"])
    return made


def changed(op: int, **fields: Any) -> Change:
    """The first line of a kind for trial 0, which is complete."""
    return lambda lines: next(
        line for line in lines if line["op_code"] == op and line.get("trial_id", 0) == 0
    ).update(fields)


def changed_lr(value: Any) -> Change:
    return lambda lines: next(line for line in lines if line.get("param_name") == "lr").update(
        param_value_internal=value
    )


def changed_end(**fields: Any) -> Change:
    return lambda lines: lines[end_of_trial_0(lines)].update(fields)


def end_of_trial_0(lines: Lines) -> int:
    where = [i for i, line in enumerate(lines) if (line["op_code"], line.get("trial_id")) == (6, 0)]
    return where[-1]


def attr(**attrs: Any) -> Change:
    """Trial 0 gets an attribute just before it ends."""
    line = {"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": attrs}
    return lambda lines: lines.insert(end_of_trial_0(lines), line)


def waiting(**fields: Any) -> Change:
    return lambda lines: lines.append({**NEW_TRIAL, **fields})


def given(**params: Any) -> Change:
    return waiting(system_attrs={"fixed_params": {**POINT, **params}})


REFUSED: dict[str, Change] = {
    "a step that is text": changed(7, step="x"),
    "a step that is none": changed(7, step=None),
    "a step below zero": changed(7, step=-1),
    "a step that is a bool": changed(7, step=True),
    "a step that is a fraction": changed(7, step=1.0),
    "a huge step": changed(7, step=HUGE),
    "an endless step": changed(7, step=2**70),
    "a missing step": changed(7, step=4),
    "a value of a step that is text": changed(7, intermediate_value="x"),
    "a value of a step that is none": changed(7, intermediate_value=None),
    "a value of a step that is infinite": changed(7, intermediate_value=float("inf")),
    "a value of a step that is a list": changed(7, intermediate_value=[0.5]),
    "two values": changed_end(values=[0.5, 0.5]),
    "no value": changed_end(values=[]),
    "none as values": changed_end(values=None),
    "text as values": changed_end(values="x"),
    "a value that is text": changed_end(values=["x"]),
    "a value that is none": changed_end(values=[None]),
    "a value that is a list": changed_end(values=[[0.5]]),
    "a value that is infinite": changed_end(values=[float("inf")]),
    "a failed trial with a value": changed_end(state=3),
    "a state that there is not": changed_end(state=9),
    "complete before its first epoch": lambda lines: lines.append(
        {
            **NEW_TRIAL,
            "state": 1,
            "value": 0.5,
            "datetime_start": "2026-01-01T00:00:00.000000",
            "datetime_complete": "2026-01-01T00:00:00.000000",
        }
    ),
    "a time that is text": changed_end(datetime_complete="x"),
    "a time that is none": changed_end(datetime_complete=None),
    "a time that is a number": changed_end(datetime_complete=5),
    "an end of no beginning": waiting(state=2),
    "a choice that is text": changed(5, param_value_internal="x"),
    "a choice that there is not": changed(5, param_value_internal=99),
    "a parameter of another trial": lambda lines: next(
        line for line in lines if line.get("param_name") == "lr"
    ).update(trial_id=HUGE),
    "a learning rate that is text": changed_lr("x"),
    "a learning rate that is none": changed_lr(None),
    "a learning rate that is a list": changed_lr([1]),
    "a learning rate out of range": changed_lr(99),
    "a learning rate that is not a number": changed_lr(float("nan")),
    "a parameter without a name": changed(5, param_name=None),
    "a parameter of the tables": changed(5, param_name="status"),
    "error: half a character": attr(error=HALF),
    "error: a list": attr(error=["x"]),
    "error: none": attr(error=None),
    "epochs: text": attr(epochs="3"),
    "epochs: none": attr(epochs=None),
    "epochs: no epoch of a complete trial": attr(epochs=0),
    "retry_of: text": attr(retry_of="x"),
    "retry_of: none": attr(retry_of=None),
    "retry_of: a list": attr(retry_of=[0]),
    "retry_of: below zero": attr(retry_of=-1),
    "retry_of: a later trial": attr(retry_of=5),
    "a retry of text": waiting(user_attrs={"retry_of": "x"}),
    "a retry of none": waiting(user_attrs={"retry_of": None}),
    "attributes that are a list": waiting(user_attrs=["retry_of"]),
    "no points given": waiting(system_attrs={"fixed_params": None}),
    "a list of points": waiting(system_attrs={"fixed_params": ["lr"]}),
    "a given learning rate that is text": given(lr="x"),
    "a given learning rate that is none": given(lr=None),
    "a given learning rate out of range": given(lr=1e9),
    "a given choice that there is not": given(batch_size=63),
    "a given choice that is a fraction": given(batch_size=64.0),
    "a given width that is true": given(width_mult=True),
    "a given parameter that there is not": given(status="x"),
    "two objectives": changed(0, directions=[2, 2]),
    "the lowest is the best": changed(0, directions=[1]),
    "a constraint": waiting(system_attrs={"constraints": ["x"]}),
}
HARMLESS: dict[str, Change] = {
    "origin: none": attr(origin=None),
    "origin: a table": attr(origin={"x": [HALF]}),
    "status: a list": attr(status=["x"]),
    "status: of another end": attr(status="diverged"),
    "seed: text": attr(seed="x"),
    "an unknown attribute": attr(**{HALF: HALF}),
    "a trial that waits for nothing": waiting(system_attrs={"fixed_params": {}}),
    "one parameter given": waiting(system_attrs={"fixed_params": {"lr": 1.0}}),
}
OF_A_SAMPLER: dict[str, tuple[str, Change]] = {
    f"{sampler}: {how}": (sampler, waiting(system_attrs={f"{sampler}:relative_params:0": text}))
    for sampler in ("tpe", "gp")
    for how, text in {
        "a number": 5,
        "a list": "[1]",
        "no JSON": "{",
        "text": '{"lr": "x"}',
        "no choice": '{"batch_size": 63}',
        "no parameter": '{"x": 1}',
    }.items()
} | {
    f"qmc: {place}": (
        "qmc",
        lambda lines, place=place: [
            line["system_attr"].update(dict.fromkeys(line["system_attr"], place))
            for line in lines
            if line["op_code"] == 3 and "qmc:" in str(line)
        ],
    )
    for place in ("x", None, -5, HUGE, 2**70)
}


def copy_of(study: Path, place: Path, change: Change) -> Path:
    folder = Path(shutil.copytree(study, place / "n"))
    lines = [json.loads(line) for line in (folder / "optuna.log").read_text().splitlines()]
    before = json.dumps(lines)
    change(lines)
    assert json.dumps(lines) != before
    (folder / "optuna.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def resume(folder: Path) -> None:
    run_study(folder, StudyFile.read(folder).config, resume=True)


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(folder: Path, capsys) -> None:
    """Resuming and the status refuse it in a line that names the journal."""
    before = content_of(folder)
    with pytest.raises(UserError, match=r"optuna\.log: damaged \(.*\); restore it") as error:
        resume(folder)
    assert str(error.value).isprintable()
    (folder / ".lock").unlink()
    assert content_of(folder) == {k: v for k, v in before.items() if k.name != ".lock"}
    assert status.main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {error.value}"


@pytest.mark.parametrize("left", ["random", "journal"])
@pytest.mark.parametrize("how", REFUSED)
def test_what_no_session_writes_is_refused_in_one_line(studies, tmp_path, capsys, how, left):
    assert_refused(copy_of(studies[left], tmp_path, REFUSED[how]), capsys)


@pytest.mark.parametrize("how", OF_A_SAMPLER)
def test_what_no_sampler_writes_is_refused_in_one_line(studies, tmp_path, capsys, how):
    sampler, change = OF_A_SAMPLER[how]
    assert_refused(copy_of(studies[sampler], tmp_path, change), capsys)


@pytest.mark.parametrize("how", HARMLESS)
def test_what_nothing_reads_does_not_matter(studies, tmp_path, how):
    folder = copy_of(studies["random"], tmp_path, HARMLESS[how])
    assert read_status(folder).planned == 6
    resume(folder)
    assert_sound(folder, StudyFile.read(folder).config, {})
