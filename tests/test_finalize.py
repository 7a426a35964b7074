"""``study.finalize`` from the command line to the last words, without Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from study import compare, finalize, run
from study.config.study import trial_seed
from study.results.halving import ranking, rounds, sizes
from study.results.predictions import load_predictions
from study.results.tables import load_study
from tests.helpers.commands import before_epoch, play_ray, the_command_after

CLEAN = "1115"  # the seed of a search whose confirmation has no failed run,
FAILING = "1302"  # and of one in which a seed fails at its first try, in both parts
FINALIZE = ("results/a", "--budget", "24", "--replicates", "3")
FOLDERS = ["results/a", "results/a-finalists", "results/a-final"]


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, tmp_path):
    play_ray(monkeypatch, tmp_path)


def search(seed=CLEAN, *more):
    words = ["--name", "a", "--num-samples", "30", "--epochs", "3", "--sampler", "random"]
    assert run.main([*words, "--seed", seed, *more]) == 0
    return load_study("results/a")


def openings():
    text = Path("results/a/test_set_openings.jsonl").read_text()
    return [json.loads(line)["reason"] for line in text.splitlines()]


def contents():
    """The values of both studies and the openings of the test set, in an order of their own."""
    frames = []
    for folder in FOLDERS[1:]:
        study = load_study(folder)
        names = study.trials[["trial_id", "arm", "replicate", "status", "seed"]]
        frames.append(names.sort_values(["arm", "replicate", "status"]).drop(columns="trial_id"))
        values = study.epochs.merge(names, on="trial_id").drop(columns="trial_id")
        frames.append(values.sort_values(["arm", "replicate", "status", "epoch"]))
    right = load_predictions(FOLDERS[-1]).drop(columns="trial_id")
    frames.append(right.sort_values([*right]))
    return [frame.reset_index(drop=True).to_csv() for frame in frames], openings()


def refused(capsys, *words):
    capsys.readouterr()
    assert finalize.main([*words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_search_is_confirmed(capsys):
    trials = search().trials
    capsys.readouterr()
    assert finalize.main([*FINALIZE]) == 0
    out = capsys.readouterr().out
    finalists, final = (load_study(folder) for folder in FOLDERS[1:])
    best = trials[trials["status"] == "complete"].nlargest(8, "last_eval_accuracy")
    assert "trial_00000" in set(best["trial_id"])  # the paper's
    arms = {*best["trial_id"], "paper"} - {"trial_00000"}
    assert set(finalists.study.config.arms) == arms
    assert len(finalists.trials) == 24
    assert finalists.study.evaluated == "validation"
    assert not finalists.study.config.stops_early
    seeds = finalists.trials.groupby("replicate")["seed"].unique()
    assert seeds.tolist() == [[trial_seed(1115, k, "finalists")] for k in seeds.index]
    chosen = finalists.trials.groupby("arm").size()
    assert chosen.max() == 1 + 2 + 4  # in rounds of 8, 4 and 2 configurations
    assert final.study.evaluated == "test"
    assert final.trials["seed"].unique().tolist() == [
        trial_seed(1115, k, "final") for k in (1, 2, 3)
    ]
    assert not {*finalists.trials["seed"], *final.trials["seed"]} & {*trials["seed"]}
    assert len(openings()) == 1
    for words in ("Round 1 of 3: 8 configurations", "Round 3 of 3: 2", "new seeds and new images"):
        assert words in out
    assert the_command_after("Next:", out) == ("analysis.report", FOLDERS)
    before = contents()
    assert finalize.main(["results/a"]) == 0  # shows the answer again, and trains nothing
    assert "Chosen: " in capsys.readouterr().out
    assert contents() == before
    assert finalize.main(["results/a-final"]) == 0  # the search is found from either


def test_one_command_searches_and_confirms(capsys):
    search(CLEAN, "--finalize", "--max-concurrent", "2")
    out = capsys.readouterr().out
    assert "Confirming it with fresh seeds takes about" in out
    assert out.index("30 of 30 trials ended") < out.index("Round 1 of") < out.index("Chosen: ")
    assert load_study(FOLDERS[-1]).trials["replicate"].nunique() == 10
    words = ("--name", "b", "--finalize", "--address", "ray://127.0.0.1:1")
    assert run.main([*words]) == 2
    assert "--finalize: not through ray://127.0.0.1:1" in capsys.readouterr().err


def test_a_search_that_was_stopped_is_not_confirmed(monkeypatch):
    monkeypatch.setattr("study.search.stop_request.StopRequest.stop_all", lambda self: True)
    monkeypatch.setattr("study.search.stop_request.StopRequest.reason", lambda self: "stopped")
    assert run.main(["--name", "a", "--num-samples", "3", "--finalize"]) == 0
    assert not Path(FOLDERS[1]).exists()


def test_the_page_leads_with_the_confirmed_answer(capsys):
    search("2", "--scheduler", "none")  # a seed whose choice is not the paper's configuration
    assert finalize.main([*FINALIZE]) == 0
    capsys.readouterr()
    assert report.main([*FOLDERS, "--output", "page"]) == 0
    out, page = capsys.readouterr().out, Path("page/report.html").read_text()
    assert "Missing from the page" not in out
    settings = load_study(FOLDERS[-1]).study.config.arms["chosen"]
    assert f"<h1>Confirmed: batch {settings['batch_size']}, " in page
    for words in ("images that chose nothing it reaches", "paired by seed", "score in the search"):
        assert words in page
    shown = pd.read_csv("page/tables/finalists.csv").set_index("arm")["score"]
    scores = load_study("results/a").trials.set_index("trial_id")["last_eval_accuracy"]
    pd.testing.assert_series_equal(
        shown.drop("paper"),
        scores[shown.index.drop("paper")],
        check_names=False,
        check_index_type=False,
    )
    runs = pd.read_csv("page/figures/final_runs.csv")
    assert set(runs["arm"]) == {"the chosen configuration", "the paper's configuration"}
    assert report.main(["results/a", "results/a-finalists", "--output", "page"]) == 0
    assert report.main(["results/a-final", "--output", "page"]) == 0


@pytest.mark.parametrize("epoch", [1, 20, 26, 50, 68, 70, 76, 84])
def test_stopped_and_continued_is_undisturbed(capsys, monkeypatch, epoch):
    search()
    assert finalize.main([*FINALIZE]) == 0
    whole = contents()
    for folder in FOLDERS[1:]:
        shutil.rmtree(folder)
    Path("results/a/test_set_openings.jsonl").unlink()

    def killed():
        raise SystemExit("killed")

    before_epoch(monkeypatch, epoch, killed)
    with pytest.raises(SystemExit):
        finalize.main([*FINALIZE])
    assert finalize.main(["results/a"]) == 0
    assert contents() == whole
    assert len(openings()) == 1


def test_a_time_budget_stops_with_the_command_that_continues(capsys, monkeypatch):
    search()
    monkeypatch.setattr("study.search.stop_request.StopRequest.stop_all", lambda self: True)
    monkeypatch.setattr(
        "study.search.stop_request.StopRequest.reason", lambda self: "time budget of 1s used up"
    )
    capsys.readouterr()
    assert finalize.main([*FINALIZE, "--time-budget", "1s"]) == 0
    out = capsys.readouterr().out
    assert the_command_after("Ended early:", out) == ("study.finalize", ["results/a"])
    assert not Path("results/a-final").exists()


def test_a_failed_run_is_tried_once_more(capsys):
    search(FAILING)
    assert finalize.main([*FINALIZE]) == 0
    assert "Failed runs, once more." in capsys.readouterr().out
    for folder in FOLDERS[1:]:
        trials = load_study(folder).trials
        assert (trials["status"] == "failed").any()
        runs = trials.groupby(["arm", "replicate"])["status"].agg(list)
        assert all("complete" in statuses for statuses in runs)


def test_the_test_set_is_opened_once(capsys):
    search()
    assert finalize.main([*FINALIZE]) == 0
    for folder in FOLDERS[1:]:
        shutil.rmtree(folder)
    line = refused(capsys, "results/a")
    assert "the test set was opened before (" in line
    assert "--reopen-test WHY" in line
    assert not Path(FOLDERS[1]).exists()
    assert finalize.main([*FINALIZE, "--name", "b", "--reopen-test", "a referee asked"]) == 0
    assert len(openings()) == 2
    assert "(a referee asked)" in openings()[1]


def test_another_choice_after_the_opening_is_refused(capsys):
    search()
    assert finalize.main([*FINALIZE]) == 0
    shutil.rmtree(FOLDERS[2])
    record = Path("results/a/test_set_openings.jsonl")
    record.write_text('{"reason": "a-final: final runs of trial_00099"}\n')
    assert "final runs of trial_00099" in refused(capsys, "results/a")


def test_what_cannot_be_confirmed_is_refused(capsys, monkeypatch):
    assert "not a study" in refused(capsys, "results/none")
    compare.main(["batch-size", "--arms", "64", "512", "--replicates", "1", "--name", "c"])
    assert "holds a comparison, which selects nothing" in refused(capsys, "results/c")
    results = search()
    assert "--budget: 0" in refused(capsys, "results/a", "--budget", "0")
    assert "--budget: 13 is too few for 8 configurations; give 14 or more" in refused(
        capsys, "results/a", "--budget", "13"
    )
    assert "--replicates: -1" in refused(capsys, "results/a", "--replicates", "-1")
    assert "--address auto" in refused(capsys, "results/a", "--address", "ray://127.0.0.1:1")
    assert not Path(FOLDERS[1]).exists()
    assert finalize.main([*FINALIZE]) == 0
    assert "--budget: a-finalists was begun with 24" in refused(
        capsys, "results/a", "--budget", "30"
    )
    assert "--replicates: a-finalists was begun with 3" in refused(
        capsys, "results/a", "--replicates", "4"
    )
    assert run.main(["--resume", "results/a", "--num-samples", "60"]) == 0
    assert "holds other finalists" in refused(capsys, "results/a")
    assert len(results.trials) == 30


@pytest.mark.parametrize(("count", "words"), [("2", "complete trials; confirming takes two")])
def test_a_search_with_too_little_is_refused(capsys, count, words):
    run.main(["--name", "a", "--num-samples", count, "--seed", "2", "--epochs", "3"])
    assert words in refused(capsys, "results/a")


def test_an_unfinished_search_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("study.search.stop_request.StopRequest.stop_all", lambda self: True)
    run.main(["--name", "a", "--num-samples", "3"])
    assert "0 of 3 trials have ended; finish the search first" in refused(capsys, "results/a")


# Sequential halving by itself.


@pytest.mark.parametrize("arms", range(2, 14))
def test_the_rounds_use_the_budget_and_no_more(arms):
    least = sum(sizes(arms))
    for budget in range(least, 101):
        plan = rounds(arms, budget)
        used = sum(size * seeds for size, seeds in plan)
        assert used <= budget
        assert budget - used < plan[-1][0] or least == budget
        assert all(seeds >= 1 for _, seeds in plan)
        assert plan[0][0] == arms


def runs(**accuracies):
    """Table ``trials``: per arm the accuracy of each seed; None failed, -1 diverged."""
    rows = []
    for arm, values in accuracies.items():
        for k, value in enumerate(values, 1):
            status = {None: "failed", -1: "diverged"}.get(value, "complete")
            accuracy = value if status == "complete" else float("nan")
            rows.append((arm, k, status, accuracy, 1.0))
    columns = ["arm", "replicate", "status", "last_eval_accuracy", "last_eval_loss"]
    return pd.DataFrame(rows, columns=columns)


def test_arms_are_ranked_by_their_mean():
    found = ranking(runs(a=[0.9, 0.8], b=[0.9, 0.9], c=[0.99], d=[0.95, -1], e=[None, None]))
    assert found["arm"].tolist() == ["b", "a", "d", "e", "c"]  # c left after its first seed
    by_arm = found.set_index("arm")
    assert by_arm.loc["d", "accuracy"] == pytest.approx(0.475)
    assert by_arm.loc[["d", "e"], "n"].tolist() == [2, 0]


def test_a_failed_run_does_not_count_against_an_arm_that_has_others():
    found = ranking(runs(a=[0.9, None], b=[0.8, 0.8]))
    assert found["arm"].tolist() == ["a", "b"]
    assert found.loc[0, "failed"] == 1
