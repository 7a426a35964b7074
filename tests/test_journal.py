"""A journal that is valid JSON and still not what Optuna wrote for this study."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from study.errors import UserError
from study.journal import read_journal
from study.results import load_study
from study.status import read_status
from tests.simulated import Session, assert_nothing_lost, run_study, search_config

pytestmark = pytest.mark.usefixtures("without_ray")
CONFIG = search_config(28, seed=22, sampler="tpe")  # ends in every way that there is
# Optuna's operations on a journal.
CREATE_TRIAL, SET_PARAM, SET_STATE_VALUES, SET_INTERMEDIATE, SET_USER_ATTR = 4, 5, 6, 7, 8


@pytest.fixture
def folder(tmp_path):
    """A study with a trial that waits and one of each end."""
    folder = tmp_path / "results" / "n"
    session = Session(folder, CONFIG, resume=False)
    while len(session.acknowledged) < 4:
        if not session.start():
            session.epoch(0)
    session.tables.write()
    session.close()
    return folder


def edit(folder, op, change):
    """Change the last operation of a kind that `change` accepts."""
    path = folder / "optuna.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in reversed(lines):
        if line["op_code"] == op and change(line) is not False:
            break
    else:
        raise AssertionError("no such operation")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def put(*path, value, having=None):
    def change(line):
        if having is not None and having not in json.dumps(line):
            return False
        *above, last = path
        for key in above:
            line = line[key]
        line[last] = value
        return True

    return change


def ended(values):
    return put("values", value=values, having='"state": 1')


ODD = {
    "epoch of text": (SET_INTERMEDIATE, put("step", value="x")),
    "no epoch": (SET_INTERMEDIATE, put("step", value=None)),
    "epoch 0": (SET_INTERMEDIATE, put("step", value=0)),
    "epoch of a billion": (SET_INTERMEDIATE, put("step", value=10**9)),
    "half an epoch": (SET_INTERMEDIATE, put("step", value=1.5)),
    "value of text": (SET_INTERMEDIATE, put("intermediate_value", value="0.9")),
    "no value": (SET_INTERMEDIATE, put("intermediate_value", value=None)),
    "two values": (SET_STATE_VALUES, ended([0.9, 0.9])),
    "no values": (SET_STATE_VALUES, ended([])),
    "values of nothing": (SET_STATE_VALUES, ended([None])),
    "values that are null": (SET_STATE_VALUES, ended(None)),
    "a value of text": (SET_STATE_VALUES, ended(["0.9"])),
    "an infinite value": (SET_STATE_VALUES, ended([float("inf")])),
    "half a character": (SET_USER_ATTR, put("user_attr", value={"error": "\ud800"})),
    "an error that is a list": (SET_USER_ATTR, put("user_attr", value={"error": ["x"]})),
    "an unknown status": (SET_USER_ATTR, put("user_attr", value={"status": "fine"})),
    "a status that is a table": (SET_USER_ATTR, put("user_attr", value={"status": {}})),
    "epochs of text": (SET_USER_ATTR, put("user_attr", value={"epochs": "3"})),
    "epochs below zero": (SET_USER_ATTR, put("user_attr", value={"epochs": -1})),
    "a retry of text": (SET_USER_ATTR, put("user_attr", value={"retry_of": "x"})),
    "a retry of nothing": (SET_USER_ATTR, put("user_attr", value={"retry_of": None})),
    "points of text": (CREATE_TRIAL, put("system_attrs", "fixed_params", value="x",
                                         having="fixed_params")),
    "points of lists": (CREATE_TRIAL, put("system_attrs", "fixed_params", value={"lr": [1]},
                                          having="fixed_params")),
    "a start of text": (CREATE_TRIAL, put("datetime_start", value="x")),
    "a state of text": (SET_STATE_VALUES, put("state", value="x")),
    "a parameter of another kind": (SET_PARAM, put("param_value_internal", value="x")),
    "a trial of text": (SET_PARAM, put("trial_id", value="x")),
}  # fmt: skip


@pytest.mark.parametrize("which", ODD)
def test_odd_content_is_refused_in_one_line(folder, which):
    op, change = ODD[which]
    edit(folder, op, change)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for read in (
        read_status, lambda f: Session(f, CONFIG, resume=True)
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            read(folder)
        line = str(error.value)
        assert line.startswith(f"{folder / 'optuna.log'}: "), line
        assert "\n" not in line
        assert len(line) < 300 + len(str(folder))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_optuna_writes_is_not_odd(folder):
    trials = read_journal(folder).trials
    assert {trial.state.name for trial in trials} >= {"COMPLETE", "WAITING", "RUNNING"}
    shutil.rmtree(folder)
    run_study(folder, CONFIG)
    states = {trial.state.name for trial in read_journal(folder).trials}
    assert states == {"COMPLETE", "PRUNED", "FAIL"}


@pytest.mark.parametrize("name", ["optuna.log.lock", "optuna.log.lock-x", ".part-x"])
def test_a_folder_in_place_of_a_passing_file_is_refused(folder, name):
    (folder / name).mkdir()
    for read in (read_status, lambda f: Session(f, CONFIG, resume=True)):
        with pytest.raises(UserError, match="is a folder, not a file; remove it"):
            read(folder)


@pytest.mark.parametrize("column", ["status", "model", "seed", "lr", "epochs_run"])
def test_a_row_that_lacks_what_each_row_has_is_a_damaged_table(folder, column):
    before = load_study(folder)
    file = folder / "trials.parquet"
    table = pd.read_parquet(file)
    nullable = {"seed": "Int64", "epochs_run": "Int64"}.get(column, table[column].dtype)
    table[column] = table[column].astype(nullable)
    table.loc[0, column] = pd.NA
    table.to_parquet(file, index=False)
    assert_nothing_lost(before, run_study(folder, CONFIG, resume=True), {})
