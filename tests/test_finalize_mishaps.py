"""``study.finalize`` on damaged, foreign, moved and lost folders, without Ray."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pyarrow.fs import FileSystem

from analysis import report
from study import compare, finalize, run
from study.config.study import trial_seed
from study.data.images import OPENINGS_FILE, openings
from study.results.study_file import resume_command
from study.results.tables import load_study
from tests.helpers import simulated
from tests.helpers.commands import before_epoch, play_ray, the_command_after

SMALL = ("--budget", "12", "--replicates", "2")
RECORD = Path("results/a") / OPENINGS_FILE


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, tmp_path):
    play_ray(monkeypatch, tmp_path)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """In place of an object store, a folder."""
    place = tmp_path / "bucket"
    place.mkdir()

    def filesystem(location):
        found, root = FileSystem.from_uri(location.replace("s3://b", place.as_uri()))
        Path(root, "histories").mkdir(parents=True, exist_ok=True)
        if not (ray := Path(root, "ray")).is_symlink():  # where the simulated trials write
            ray.symlink_to(tmp_path / "results" / Path(root).name / "ray")
        return found, root

    monkeypatch.setattr("study.results.storage._filesystem", filesystem)
    return place


def search(*more):
    words = ["--name", "a", "--num-samples", "8", "--epochs", "2", "--sampler", "random"]
    assert run.main([*words, "--seed", "1115", *more]) == 0


def refused(capsys, *words, command=finalize):
    capsys.readouterr()
    try:
        status = command.main([*words])
    except SystemExit as error:  # by the parser
        status = error.code
    assert status == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def killed():
    raise SystemExit("killed")


def test_another_machine_knows_that_the_test_set_was_opened(capsys, bucket):
    search("--storage-path", "s3://b")
    assert finalize.main(["s3://b/a", *SMALL]) == 0
    before = RECORD.read_text()
    kept = Path(shutil.copytree("results/a", "kept"))
    (kept / OPENINGS_FILE).unlink()
    shutil.rmtree("results")
    assert "was opened before" in refused(capsys, "s3://b/a", "--name", "b")
    assert finalize.main(["s3://b/a"]) == 0  # shows the answer again
    assert RECORD.read_text() == before
    shutil.rmtree("results")
    shutil.copytree(kept, "results/a")  # a machine that knew the search before
    assert "was opened before" in refused(capsys, "results/a", "--name", "b")


def test_a_renamed_comparison_records_its_opening_where_it_is(capsys, monkeypatch):
    words = ["schedule", "--name", "c", "--replicates", "1", "--protocol", "paper"]
    before_epoch(monkeypatch, 2, killed)
    with pytest.raises(SystemExit):
        compare.main(words)
    Path("results/c").rename("results/d")
    assert compare.main(["--resume", "results/d"]) == 0
    assert not Path("results/c").exists()
    monkeypatch.chdir("results/d")
    assert compare.main(["--resume", ".", "--replicates", "2"]) == 0
    assert len(openings(Path(OPENINGS_FILE))) == 1


def test_the_printed_commands_continue_a_confirmation_of_another_name(capsys, monkeypatch):
    search()
    before_epoch(monkeypatch, 3, killed)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        finalize.main(["results/a", *SMALL, "--name", "b"])
    command = the_command_after("If the study is interrupted", capsys.readouterr().out)
    assert command == ("study.finalize", ["results/a", "--name=b"])
    assert finalize.main(["results/b-finalists"]) == 0  # the folder says it, too
    assert len(openings(RECORD)) == 1
    assert "Chosen: " in capsys.readouterr().out
    assert not Path("results/a-finalists").exists()
    monkeypatch.chdir("results/b-final")
    search_of_it = Path("../a").resolve()
    assert resume_command(load_study(".").study.config, ".") == (
        f"python -m study.finalize {search_of_it} --name=b"
    )
    assert finalize.main(["."]) == 0
    assert finalize.main(["../b-finalists/"]) == 0
    monkeypatch.chdir("../a")
    assert finalize.main([".", "--name", "b"]) == 0
    assert len(openings(Path(OPENINGS_FILE))) == 1


@pytest.mark.parametrize("name", ["../x", ".", "a/b", "x" * 250, "a b"])
def test_an_impossible_name_is_refused_before_anything_runs(capsys, name):
    search()
    before = sorted(Path().rglob("*"))
    assert refused(capsys, "results/a", "--name", name).startswith("error: --name: ")
    assert sorted(Path().rglob("*")) == before


def test_a_folder_whose_name_no_study_can_have(capsys):
    search()
    Path("results/a").rename("results/my search")
    assert "the folder's name: 'my search'; use letters" in refused(capsys, "results/my search")


@pytest.mark.parametrize("kind", ["finalists", "final"])
def test_folders_of_others_are_left_alone(capsys, kind):
    search()
    mine = Path(f"results/a-{kind}")
    mine.mkdir()
    (mine / "trials.parquet").write_text("mine")
    assert "already holds other files; choose another --name" in refused(capsys, "results/a")
    (mine / "trials.parquet").unlink()
    mine.rmdir()
    compare.main(["schedule", "--replicates", "1", "--name", f"a-{kind}"])
    before = (mine / "optuna.log").read_bytes()
    assert f"results/a-{kind}: holds a comparison, not what confirms a" in refused(
        capsys, "results/a", *SMALL
    )
    assert (mine / "optuna.log").read_bytes() == before


def test_a_lost_study_json_is_not_begun_over(capsys):
    search()
    assert finalize.main(["results/a", *SMALL]) == 0
    Path("results/a-final/study.json").unlink()
    assert "results/a-final: already holds other files" in refused(capsys, "results/a")


def test_final_runs_of_another_choice_or_search_are_not_shown(capsys):
    search()
    assert finalize.main(["results/a", *SMALL]) == 0
    file = Path("results/a-final/study.json")
    content = json.loads(file.read_text())
    arms = content["config"]["arms"]
    content["config"]["arms"] = {**arms, "chosen": {**arms["paper"], "lr": 0.123}}
    file.write_text(json.dumps(content))
    assert "a-final: holds the final runs of another choice" in refused(capsys, "results/a")
    content["config"] = {**content["config"], "search": "z"}
    file.write_text(json.dumps(content))
    assert "holds a final study of the search z" in refused(capsys, "results/a")


def test_a_stopped_final_is_not_opened_after_another_one(capsys, monkeypatch):
    """It was killed after study.json was written and before the opening was recorded."""
    search()

    def kill(*_, **__):
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr("study.data.images.open_test_set", kill)
        with pytest.raises(SystemExit):
            finalize.main(["results/a", *SMALL])
    assert not RECORD.exists()
    assert finalize.main(["results/a", *SMALL, "--name", "b"]) == 0
    assert 'was opened before ("b-final: ' in refused(capsys, "results/a")
    assert len(openings(RECORD)) == 1


def test_a_reason_given_too_late_is_not_ignored(capsys):
    search()
    assert finalize.main(["results/a", *SMALL]) == 0
    assert "was not begun with it" in refused(capsys, "results/a", "--reopen-test", "x")
    again = ["results/a", *SMALL, "--name", "b", "--reopen-test", "x"]
    assert finalize.main(again) == 0
    assert finalize.main(again) == 0  # as from a shell's history
    assert len(openings(RECORD)) == 2


def test_a_budget_that_a_later_round_could_not_spend_is_refused_at_once(capsys):
    search()
    assert "--budget: 9000 gives an arm " in refused(capsys, "results/a", "--budget", "9000")
    assert not Path("results/a-finalists").exists()


def test_seeds_that_no_round_leaves_are_damage(capsys):
    search()
    assert finalize.main(["results/a", *SMALL]) == 0
    file = Path("results/a-finalists/study.json")
    content = json.loads(file.read_text())
    content["config"]["seeds"] = {arm: i + 1 for i, arm in enumerate(content["config"]["seeds"])}
    file.write_text(json.dumps(content))
    assert "study.json: damaged (no round of halving" in refused(capsys, "results/a")


@pytest.mark.parametrize("folder", ["results/a-finalists", "results/a-final"])
@pytest.mark.parametrize("table", ["trials", "epochs", "predictions"])
def test_lost_and_damaged_tables_are_written_again(capsys, folder, table):
    search()
    before = confirmed(capsys).partition("The finalists")[2]
    file = Path(folder, f"{table}.parquet")
    content = pd.read_parquet(file)
    file.unlink()
    assert confirmed(capsys).endswith(before)
    file.write_bytes(b"PAR1 damaged")
    assert confirmed(capsys).endswith(before)
    if table == "trials":
        content["arm"] = "nobody"
        content.to_parquet(file)
        assert confirmed(capsys).endswith(before)
    assert len(openings(RECORD)) == 1


def test_a_record_that_is_blank_or_cannot_be_read(capsys, monkeypatch):
    search()
    RECORD.write_text("\n \n")
    confirmed(capsys)
    assert len(openings(RECORD)) == 1

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("study.data.images.open_plain", refuse)
    shutil.rmtree("results/a-final")
    assert "openings.jsonl: cannot be read (Permission denied)" in refused(capsys, "results/a")


# What is printed and shown says no more than the runs.


def confirmed(capsys, *more):
    capsys.readouterr()
    assert finalize.main(["results/a", *SMALL, *more]) == 0
    return capsys.readouterr().out


def page():
    folders = ["results/a", "results/a-finalists", "results/a-final"]
    assert report.main([*folders, "--output", "page"]) == 0
    return Path("page/report.md").read_text()


def ends(monkeypatch, kind, arm, *statuses):
    """Have the runs of an arm of one of the two studies end like this, by replicate."""
    original = simulated.end_of
    seeds = {trial_seed(1115, k, kind): k for k in range(1, 11)}

    def end_of(config):
        k = seeds.get(config.seed)
        if k is None or k > len(statuses) or config.lr != arm:
            return original(config)
        status = statuses[k - 1]
        return status, config.epochs if status == "complete" else 2

    monkeypatch.setattr(simulated, "end_of", end_of)


PAPER_LR = 1.0


def test_one_seed_has_no_interval_and_detects_nothing(capsys):
    search()
    out = confirmed(capsys, "--replicates", "1")
    assert "n = 1: no interval" in out
    assert "nan" not in out
    assert "nan" not in page()


def test_a_final_run_that_diverged_is_named(capsys, monkeypatch):
    search()
    ends(monkeypatch, "final", PAPER_LR, "diverged", "complete")
    out = confirmed(capsys)
    assert "left out: 1 of the seeds of the paper's configuration, without a final model" in out
    assert "Left out: 1 of the seeds of the paper's configuration, which have" in page()


def test_a_diverged_finalist_is_counted_and_named(capsys, monkeypatch):
    search()
    ends(monkeypatch, "finalists", PAPER_LR, "diverged")
    assert "a diverged run counts as 0%" in confirmed(capsys)


def test_a_second_opening_is_said_with_the_result(capsys):
    search()
    confirmed(capsys)
    shutil.rmtree("results/a-final")
    shutil.rmtree("results/a-finalists")
    out = confirmed(capsys, "--reopen-test", "a referee asked")
    assert "were opened again: a referee asked" in out
    text = page()
    assert "were opened again (a referee asked)" in text
    assert "chose nothing" not in text


def test_lost_times_are_no_estimate(capsys):
    search()
    file = Path("results/a/trials.parquet")
    trials = pd.read_parquet(file)
    trials["seconds"] = float("nan")
    trials.to_parquet(file)
    assert "At the search's speed" not in confirmed(capsys)


@pytest.mark.parametrize("kind", ["finalists", "final"])
def test_nothing_follows_from_runs_that_all_failed(capsys, monkeypatch, kind):
    search()
    original = simulated.end_of
    seeds = [trial_seed(1115, k, kind) for k in range(1, 11)]
    monkeypatch.setattr(
        simulated,
        "end_of",
        lambda config: ("diverged", 2) if config.seed in seeds else original(config),
    )
    assert finalize.main(["results/a", *SMALL]) == 1
    assert f"results/a-{kind}: no run is complete (diverged)" in refused(capsys, "results/a")
    assert (kind == "finalists") != RECORD.exists()


def test_a_run_that_fails_in_a_later_round_is_tried_again_before_the_choice(capsys, monkeypatch):
    search()
    original = simulated.end_of
    first, third = (trial_seed(1115, k, "finalists") for k in (1, 3))

    def end_of(config):
        fails = config.seed == third or (config.seed == first and config.lr == PAPER_LR)
        return ("failed", 2) if fails else original(config)

    monkeypatch.setattr(simulated, "end_of", end_of)
    out = confirmed(capsys)
    assert out.count("Failed runs, once more.") == 2
    out = confirmed(capsys)
    assert "once more" not in out
    assert "Chosen: " in out


def test_a_full_disk_names_the_command_that_continues(capsys, monkeypatch):
    search()

    def fill():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/b-finalists/histories")

    with monkeypatch.context() as patch:
        before_epoch(patch, 3, fill)
        line = refused(capsys, "results/a", *SMALL, "--name", "b")
    assert line.endswith("then continue with: python -m study.finalize results/a --name=b")
    assert finalize.main(["results/a", "--name=b"]) == 0


# Searches of all kinds.


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "adadelta", "sgd", "adamw", "--momentum", "0.8", "0.95"],
        ["--optimizer", "sgd", "adamw", "--weight-decay", "0", "0.01"],
        ["--model", "resnet18", "--dropout-rate", "0.1", "0.5"],
        ["--dataset", "fashion-mnist"],
    ],
    ids=lambda options: options[0] + options[1],
)
def test_searches_of_all_kinds_are_confirmed(capsys, options):
    search(*options)
    assert run.main(["--resume", "results/a", "--retry-failed"]) == 0
    assert "Chosen: " in confirmed(capsys, "--budget", "20")
    for folder in ("results/a-finalists", "results/a-final"):
        trials = load_study(folder).trials
        searched = load_study("results/a").trials
        for name in ("model", "dataset"):
            assert set(trials[name]) == set(searched[name])
    assert "confirmation" in page()
