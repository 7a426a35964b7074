"""How a session handles the files that earlier sessions left, case by case."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from study.config.space import default_space, distribution, space_to_json
from study.console.errors import UserError
from study.results.history import HISTORY_FILE, History
from study.results.predictions import load_predictions
from study.results.recovery import recover
from study.results.storage import Storage
from study.results.study_file import StudyFile
from study.results.tables import load_study
from study.search.searcher import open_optuna_study
from study.status import read_status
from tests.helpers.simulated import (
    Session,
    assert_nothing_lost,
    assert_sound,
    comparison_config,
    run_study,
    search_config,
)

pytestmark = pytest.mark.usefixtures("without_ray")
CONFIG = search_config(6, seed=22)  # trials end in every possible way


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "n"


def lose(folder, *names):
    for name in names:
        for path in folder.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_rays_folder_may_be_removed_and_the_study_extended(folder):
    before = run_study(folder, CONFIG)
    assert set(before.trials["status"]) == {"complete", "pruned", "diverged", "failed"}
    lose(folder, "ray")
    larger = replace(CONFIG, num_samples=8)
    after = run_study(folder, larger, resume=True)
    assert_nothing_lost(before, after, {})
    assert_sound(folder, larger, {})


def test_checkpoints_of_ended_trials_go_but_the_final_models(folder):
    trials = run_study(folder, CONFIG).trials.set_index("trial_id")
    kept = {path.parent.name for path in folder.glob("ray/trial_*/checkpoint_*")}
    assert kept == set(trials.index[trials["status"] == "complete"])
    assert len(list(folder.glob("ray/trial_*/checkpoint_*"))) == len(kept)


def test_lost_histories_are_taken_from_the_checkpoints_or_the_tables(folder):
    before = run_study(folder, CONFIG)
    complete = before.trials.query("status == 'complete'")["trial_id"].tolist()
    lose(folder, "histories")
    found = recover(Storage(folder), CONFIG)
    others = [i for i in before.trials["trial_id"] if i not in complete]
    (note,) = found.notes
    assert note.startswith(others[0])
    assert note.endswith("no intact history; restored from the tables")
    assert_nothing_lost(before, run_study(folder, CONFIG, resume=True), {})
    assert {p.stem for p in folder.glob("histories/*")} == set(before.trials["trial_id"])


@pytest.mark.parametrize("config", [CONFIG, comparison_config(3, seed=16)])
def test_where_all_else_is_lost_the_journals_values_stay(folder, config):
    before = run_study(folder, config).trials.set_index("trial_id")
    lose(folder, "histories", "ray", "*.parquet")
    session = Session(folder, config, resume=True)
    assert (
        "restored from optuna.log and from what is left of the tables" in session.recovered.notes[0]
    )
    session.run()
    after = load_study(folder)
    trials = after.trials.set_index("trial_id")
    assert trials["status"].tolist() == before["status"].tolist()
    complete = before["status"] == "complete"
    columns = ["last_eval_accuracy", "epochs_run", "best_epoch"]
    assert trials.loc[complete, columns].equals(before.loc[complete, columns])
    assert after.epochs["train_loss"].isna().all()
    assert after.steps.empty


@pytest.mark.parametrize("table", ["trials", "epochs"])
def test_of_two_losses_what_the_other_tables_hold_is_kept(folder, table):
    config = comparison_config(3, seed=16)
    before = run_study(folder, config)
    predictions = load_predictions(folder)
    lose(folder, "ray", "histories", f"{table}.parquet")
    after = run_study(folder, config, resume=True)
    complete = before.trials.loc[before.trials["status"] == "complete", "trial_id"]
    for name in ("steps",) if table == "trials" else ("steps", "trials"):
        tables = [getattr(results, name) for results in (before, after)]
        old, new = (frame[frame["trial_id"].isin(complete)] for frame in tables)
        columns = [c for c in old if c not in ("seconds", "started", "ended", "best_eval_loss")]
        assert len(old)
        pd.testing.assert_frame_equal(
            old[columns].reset_index(drop=True), new[columns].reset_index(drop=True)
        )
    pd.testing.assert_frame_equal(load_predictions(folder), predictions)


@pytest.mark.parametrize("column", ["trial_id", "status", "model", "optimizer", "lr", "gamma"])
def test_a_table_with_an_empty_value_is_written_again(folder, column):
    """Its content is not compared with the journal."""
    before = run_study(folder, CONFIG)
    empty = before.trials.copy()
    empty.loc[1, column] = pd.NA if empty[column].dtype == "string" else np.nan
    empty.to_parquet(folder / "trials.parquet", index=False)
    assert read_status(folder).counts.total() == 6
    after = run_study(folder, CONFIG, resume=True)
    pd.testing.assert_frame_equal(after.trials, before.trials)


def test_an_edited_range_is_named(folder):
    run_study(folder, CONFIG)
    space = json.loads(json.dumps(CONFIG.space))
    space["gamma"]["attributes"]["high"] = 0.9
    with pytest.raises(UserError, match=r"gamma was 0\.5 to 1 and is 0\.5 to 0\.9\)"):
        recover(Storage(folder), replace(CONFIG, space=space))


def stopped_without_checkpoint(folder):
    """A trial stopped after its second epoch loses its checkpoints. Returns the tables, its id."""
    session = Session(folder, CONFIG, resume=False)
    while not any(run.epochs == 2 for run in session.running.values()):
        session.start()
        session.epoch(0)
    session.tables.write()
    session.close()
    before = load_study(folder)
    (trial_id,) = before.trials.query("status == 'interrupted' and epochs_run == 2")["trial_id"]
    lose(folder, f"ray/{trial_id}")
    return before, trial_id


def test_a_lost_checkpoint_of_an_interrupted_trial_keeps_the_tables_rows(folder):
    before, trial_id = stopped_without_checkpoint(folder)
    session = Session(folder, CONFIG, resume=True)
    assert session.recovered.notes == [
        f"{trial_id}: no intact checkpoint; it will be trained from the start"
    ]
    session.tables.write()
    assert_nothing_lost(before, load_study(folder), {})
    session.run()
    assert_sound(folder, CONFIG, {})


def test_a_trial_that_fails_where_it_had_gone_on_keeps_what_it_had_measured(folder):
    before, trial_id = stopped_without_checkpoint(folder)
    session = Session(folder, CONFIG, resume=True)
    while trial_id not in session.running:
        session.start()
    del session.running[trial_id]
    session.search.on_trial_complete(trial_id, error=True)
    session.tables.write()
    session.close()
    after = load_study(folder)
    assert_nothing_lost(before, after, {})
    assert after.trials.set_index("trial_id").loc[trial_id, "status"] == "failed"
    assert_nothing_lost(after, run_study(folder, CONFIG, resume=True), {})


def as_an_earlier_version_left_it(folder, config, monkeypatch):
    """An earlier version: no histories, all checkpoints, a fingerprint, no number of epochs."""
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "keep", lambda *_: None)
        patch.setattr(Storage, "keep_only", lambda *_: None)
        before = run_study(folder, config)
    lines = [json.loads(line) for line in (folder / "optuna.log").read_text().splitlines()]
    for line in lines:
        if line["op_code"] == 2:
            line["user_attr"] = {"fingerprint": json.dumps(config.identity())}
    lines = [line for line in lines if "epochs" not in line.get("user_attr", {})]
    (folder / "optuna.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in folder.glob(f"ray/*/*/{HISTORY_FILE}"):
        history = History.read(path.read_bytes())
        replace(history, config=None).save(path.parent)
    return before


@pytest.mark.parametrize("config", [CONFIG, comparison_config(2, seed=12)])
def test_a_study_of_an_earlier_version_goes_on(folder, monkeypatch, config):
    before = as_an_earlier_version_left_it(folder, config, monkeypatch)
    assert recover(Storage(folder), config).notes == []
    after = run_study(folder, config, resume=True)
    assert_nothing_lost(before, after, {})
    assert_sound(folder, config, {})
    lose(folder, "ray")
    assert_nothing_lost(before, run_study(folder, config, resume=True), {})


def test_an_earlier_version_did_not_write_down_the_optimizer(folder, monkeypatch):
    """But its tables did."""
    as_an_earlier_version_left_it(folder, CONFIG, monkeypatch)
    with pytest.raises(UserError, match="optimizer sgd and adadelta"):
        recover(Storage(folder), replace(CONFIG, optimizer="sgd"))
    with pytest.raises(UserError, match="the space or another setting"):
        recover(Storage(folder), replace(CONFIG, epochs=4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 4),
        ("seed", 2),
        ("optimizer", "sgd"),
        ("precision", "fp32"),
        ("model", "resnet18"),
        ("dataset", "fashion-mnist"),
        ("sampler", "qmc"),
        ("scheduler", "asha"),
        ("name", "m"),
    ],
)
def test_an_edited_configuration_is_refused_by_name(folder, name, value):
    run_study(folder, CONFIG)
    was = getattr(CONFIG, name)
    with pytest.raises(UserError) as error:
        recover(Storage(folder), replace(CONFIG, **{name: value}))
    assert f"({name} was {was!r} and is {value!r})" in str(error.value)
    with pytest.raises(UserError, match="plans 5 trials, but"):
        recover(Storage(folder), replace(CONFIG, num_samples=5))


def test_an_older_study_json_is_refused_before_a_new_trial_has_started(folder):
    """The number of planned trials counts from the extension of the study."""
    config = comparison_config(2)
    run_study(folder, config)
    Session(folder, replace(config, replicates=3), resume=True).close()
    with pytest.raises(UserError, match=r"plans 4 trials, but optuna\.log has 6"):
        recover(Storage(folder), config)


def test_a_study_that_has_hardly_begun_goes_on(folder):
    """A study killed after any line of its first journal still gets its first points."""
    config = search_config(8, sampler="tpe", seed=22)
    Session(folder, config, resume=False).close()
    lines = (folder / "optuna.log").read_text().splitlines(keepends=True)
    whole = [t.system_attrs for t in open_optuna_study(folder, config).trials]
    assert len(whole) > 3
    for count in range(len(lines)):
        (folder / "optuna.log").write_text("".join(lines[:count]))
        Session(folder, config, resume=True).close()
        trials = open_optuna_study(folder, config).trials
        assert [t.system_attrs for t in trials] == whole


@pytest.mark.parametrize("config", [CONFIG, comparison_config(3, seed=16)])
def test_failed_trials_run_again_beside_the_planned_ones(folder, config):
    before = run_study(folder, config)
    failed = before.trials.query("status == 'failed'")
    assert len(failed)
    after = run_study(folder, config, resume=True, retry=True)
    assert_nothing_lost(before, after, {})
    again = after.trials.iloc[len(before.trials) :]
    assert again["status"].tolist() == ["complete"] * len(failed)
    assert again["seed"].tolist() == failed["seed"].tolist()
    assert len(run_study(folder, config, resume=True, retry=True).trials) == len(after.trials)
    grows = config.grows
    larger = replace(config, **{grows: getattr(config, grows) + 1})
    extended = run_study(folder, larger, resume=True).trials
    if grows == "replicates":
        complete = extended[extended["status"] != "failed"]
        assert complete.groupby("arm")["replicate"].apply(set).tolist() == [{1, 2, 3, 4}] * 2
    assert len(extended) == larger.num_trials + len(failed)


def test_values_are_kept_exactly(folder):
    """A history written to the tables and read back is the same."""
    config = comparison_config(3, seed=16)
    run_study(folder, config)
    storage = Storage(folder)
    kept = {trial_id: storage.kept(trial_id) for trial_id in storage.kept_ids()}
    lose(folder, "histories", "ray")
    run_study(folder, config, resume=True)
    for trial_id, history in kept.items():
        again = storage.kept(trial_id)
        assert (again.status, again.error, again.config) == (
            history.status,
            history.error,
            history.config,
        )
        assert again.batch_sizes == history.batch_sizes
        np.testing.assert_array_equal(again.step_losses, history.step_losses)
        np.testing.assert_array_equal(again.log_p, history.log_p)


def test_a_journal_of_another_name_is_refused(folder):
    run_study(folder, CONFIG)
    lines = [json.loads(line) for line in (folder / "optuna.log").read_text().splitlines()]
    lines[0]["study_name"] = "l"
    (folder / "optuna.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"\(name was 'l' and is 'n'\)"):
        recover(Storage(folder), CONFIG)


def with_sorted_keys(folder):
    content = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(content, sort_keys=True))
    return StudyFile.read(folder).config


def test_the_order_of_a_files_keys_does_not_matter(folder):
    """The draws after the optimizer depend on it."""
    space = {
        **default_space("adadelta", "sgd"),
        "optimizer": distribution("optimizer", ["adadelta", "sgd"]),
        "momentum": distribution("momentum", [0.5, 0.95]),
    }
    config = replace(CONFIG, space=space_to_json(space))
    before = run_study(folder, config)
    larger = replace(with_sorted_keys(folder), num_samples=12)
    assert list(larger.space) == list(space)
    after = run_study(folder, larger, resume=True)
    assert_nothing_lost(before, after, {})
    sgd = after.trials["optimizer"] == "sgd"
    assert set(sgd) == {True, False}
    assert (after.trials["momentum"].notna() == sgd).all()


def test_arms_in_another_order_are_refused(folder):
    config = comparison_config(2)
    run_study(folder, config)
    turned = replace(config, arms=dict(reversed(config.arms.items())))
    with pytest.raises(UserError, match=r"order of arms was \['64', '512'\] and is"):
        recover(Storage(folder), turned)
