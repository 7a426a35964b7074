from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import comparison_frames as frames
from analysis import noise, predicted
from analysis.comparison_frames import loss_curves, loss_noise, noise_slope, to_target
from analysis.evidence import kind_of, load_evidence, question_of
from analysis.ledger import ledger
from analysis.noise import critical_batch_size
from analysis.predicted import mcnemar_by_seed
from analysis.render import write
from analysis.report import main
from analysis.sections.batch_size import loss_by_batch
from study.compare import make_parser
from study.config.comparison import ComparisonConfig
from study.config.questions import BATCH_SIZE, MODELS, QUESTIONS, Question
from study.console.errors import UserError
from study.results.study_file import StudyFile
from tests.helpers.compared import write_comparison

PAPER = Path(__file__).resolve().parents[1] / "results" / "paper"


def asked(name, arms, dataset="mnist"):
    """The part of a comparison's configuration that decides its question."""
    return ComparisonConfig(name, "", arms, dataset=dataset)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_built_in_comparison_is_known_by_its_arms(name):
    arms = QUESTIONS[name].select(["*"])
    assert kind_of(asked("whatever", arms)) == name
    two = dict(list(arms.items())[-2:])
    assert kind_of(asked("whatever", two)) == name


@pytest.mark.parametrize("folder", sorted(PAPER.glob("*/study.json")), ids=lambda p: p.parent.name)
def test_the_committed_comparisons_are_the_questions_they_are_named_after(folder):
    config = StudyFile.read(folder.parent).config
    if isinstance(config, ComparisonConfig):
        assert kind_of(config) == folder.parent.name


@pytest.mark.parametrize(
    ("name", "arms", "kind"),
    [
        ("mine", {"a": {"lr": 1.0}, "b": {"lr": 0.5}}, "mine"),
        ("same", {"a": {}, "b": {}}, "same"),
        ("models", {"a": {"lr": 1.0}, "b": {"lr": 0.5}}, "models (own)"),
        # Two networks, but not trained as in the paper. C17 to C19 are not about these.
        (
            "models",
            {"cnn": {"optimizer": "sgd"}, "resnet18": {"optimizer": "sgd", "model": "resnet18"}},
            "models (own)",
        ),
        (
            "sizes",
            {"32": {"batch_size": 32, "model": "resnet18"}, "512": {"model": "resnet18"}},
            "sizes",
        ),
        # One of the two effects is enough for a question about regularization.
        ("mine", {"a": {"dropout": False}, "b": {"dropout": True}}, "regularization"),
    ],
)
def test_an_own_comparison_is_not_taken_for_a_built_in_one(name, arms, kind):
    assert kind_of(asked(name, arms)) == kind


@pytest.mark.parametrize("name", QUESTIONS)
def test_other_images_do_not_answer_for_the_paper(name):
    of_clothes = asked(f"{name}-clothes", QUESTIONS[name].select(["*"]), "fashion-mnist")
    assert kind_of(of_clothes) == f"{name}-clothes"
    assert question_of(of_clothes) is QUESTIONS[name]


def test_a_new_question_is_one_entry(tmp_path, monkeypatch):
    arms = {"lr-1": {"lr": 1.0}, "lr-2": {"lr": 2.0}}
    question = Question(
        name="step", heading="The step", title="Which step?", arms=arms, baseline="lr-1", options=""
    )
    assert kind_of(asked("mine", arms)) == "mine"
    monkeypatch.setitem(QUESTIONS, "step", question)
    path = write_comparison(tmp_path / "mine", arms, replicates=2).results.path
    assert kind_of(asked("mine", arms)) == "step"
    assert "step           Which step?" in make_parser().format_help()
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## The step" in page
    table = pd.read_csv(tmp_path / "out" / "figures" / "differences.csv")
    assert table[["arm", "baseline", "comparison"]].values.tolist() == [["lr-2", "lr-1", "step"]]
    assert (tmp_path / "out" / "tables" / "step_by_arm.csv").is_file()
    assert question.command == "python -m study.compare step"


def test_searches_and_comparisons_are_told_apart(made_up, tmp_path):
    compared = write_comparison(tmp_path / "sizes", {"32": {"batch_size": 32}, "512": {}})
    evidence = load_evidence([made_up.path, compared.results.path])
    assert [s.path for s in evidence.searches] == [made_up.path]
    assert list(evidence.comparisons) == ["batch-size"]
    assert len(evidence.comparisons["batch-size"].predictions) == 8 * 200


def test_without_predictions_it_is_loaded_too(tmp_path):
    compared = write_comparison(tmp_path / "sizes", {"32": {"batch_size": 32}, "512": {}})
    (compared.results.path / "predictions.parquet").unlink()
    evidence = load_evidence([compared.results.path])
    assert evidence.comparisons["batch-size"].predictions.empty


def test_a_comparison_without_a_complete_trial_is_no_evidence(tmp_path):
    arms = {"32": {"batch_size": 32}, "512": {}}
    failed = {(arm, k) for arm in arms for k in (1, 2)}
    compared = write_comparison(tmp_path / "c", arms, replicates=2, failed=failed)
    evidence = load_evidence([compared.results.path])
    assert evidence.get(BATCH_SIZE) is None
    assert evidence.get(MODELS) is None


def test_two_answers_to_one_question_are_refused(tmp_path):
    arms = {"32": {"batch_size": 32}, "512": {}}
    folders = [write_comparison(tmp_path / name, arms).results.path for name in "ab"]
    with pytest.raises(UserError, match=r"compares the same as .*a \(batch-size\); give one"):
        load_evidence(folders)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("arm", "who", "'trial_00000' belongs to no arm"),
        ("arm", None, "'trial_00000' belongs to no arm"),
        ("replicate", None, "'trial_00000' belongs to no arm"),
        ("replicate", 2, "'trial_00002' repeats a replicate"),
        ("batch_size", 64, "has batch_size 64, but its arm in study.json has 32"),
        ("model", "resnet18", "has model resnet18"),
    ],
)
def test_trials_of_another_comparison_are_refused(tmp_path, column, value, reason):
    compared = write_comparison(tmp_path / "c", {"32": {"batch_size": 32}, "512": {}}, replicates=2)
    file = compared.results.path / "trials.parquet"
    frame = pd.read_parquet(file)
    frame.loc[0, column] = value
    frame.to_parquet(file, index=False)
    with pytest.raises(UserError, match=reason):
        load_evidence([compared.results.path])


def test_two_arms_may_have_one_batch_size(tmp_path):
    arms = {"a": {"batch_size": 512}, "b": {}, "c": {"batch_size": 64}, "d": {"batch_size": 32}}
    compared = write_comparison(tmp_path / "c", arms, replicates=2)
    reached = to_target(compared, 0.85)
    assert critical_batch_size(reached, np.random.default_rng(1)) is not None
    assert len(noise_slope(loss_noise(compared))) == 2


def test_what_was_lost_of_a_complete_trial_leaves_it_out(tmp_path):
    arms = {"32": {"batch_size": 32}, "512": {}}
    path = write_comparison(tmp_path / "c", arms, replicates=3).results.path
    for name, lost in (("steps", "trial_00000"), ("predictions", "trial_00001")):
        frame = pd.read_parquet(path / f"{name}.parquet")
        frame[frame["trial_id"] != lost].to_parquet(path / f"{name}.parquet", index=False)
    epochs = pd.read_parquet(path / "epochs.parquet")
    epochs.loc[epochs["trial_id"] == "trial_00000", ["train_loss", "eval_loss"]] = np.nan
    epochs.to_parquet(path / "epochs.parquet", index=False)
    trials = pd.read_parquet(path / "trials.parquet")
    trials.loc[2, "last_eval_accuracy"] = np.nan
    trials.to_parquet(path / "trials.parquet", index=False)
    evidence = load_evidence([path])
    found = evidence.comparisons["batch-size"]
    assert "trial_00002" not in set(found.trials["trial_id"])
    curves = loss_curves(found)
    assert curves.groupby("arm")["replicate"].unique().map(list).to_dict() == {
        "32": [3],
        "512": [1, 2, 3],
    }
    assert mcnemar_by_seed(found, "32", "512")["replicate"].tolist() == [3]
    assert [f.claim for f in ledger(evidence)] == [f"C{n}" for n in range(1, 22)]


def test_a_whole_page_smooths_and_counts_each_trial_once(tmp_path, monkeypatch):
    calls = Counter()

    def counted(module, name):
        function = getattr(module, name)

        def counting(*given):
            calls[name] += 1
            return function(*given)

        monkeypatch.setattr(module, name, counting)

    counted(frames, "loss_level")
    counted(frames, "loss_noise")
    counted(noise, "noise_scale_by_epoch")
    counted(noise, "critical_batch_size")
    counted(predicted, "calibration")
    sizes = {"32": {"batch_size": 32}, "64": {"batch_size": 64}, "512": {}}
    path = write_comparison(tmp_path / "c", sizes, replicates=2).results.path
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    assert calls == {
        "loss_level": 6,
        "loss_noise": 1,
        "noise_scale_by_epoch": 1,
        "critical_batch_size": 1,
        "calibration": 1,
    }


def test_what_was_computed_of_a_comparison_is_kept(tmp_path):
    compared = write_comparison(tmp_path / "c", {"32": {"batch_size": 32}, "512": {}}, replicates=2)
    for name in (
        "trials",
        "loss_curves",
        "loss_noise",
        "accuracy_by_epoch",
        "to_target",
        "noise_scale",
        "calibration",
    ):
        assert getattr(compared, name) is getattr(compared, name), name
    assert compared.calibration["arm"].tolist() == ["32", "32", "512", "512"]
    with pytest.raises(FrozenInstanceError):
        compared.results = None


def test_a_comparison_of_one_epoch_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.helpers.compared.EPOCHS", 1)
    sizes = QUESTIONS["batch-size"].select(None)
    path = write_comparison(tmp_path / "c", sizes, replicates=2).results.path
    assert main([str(path), "--output", str(tmp_path / "out")]) == 0
    ledger_ = pd.read_csv(tmp_path / "out" / "ledger.csv").set_index("claim")
    assert ledger_.loc["C9", "estimate"] == "1 [1, 1] is the first stable epoch"


@pytest.mark.parametrize(
    ("kind", "table", "column", "value"),
    [
        ("training-size", "trials", "train_examples", pd.NA),
        ("training-size", "trials", "last_eval_accuracy", 1.0),
        ("regularization", "trials", "dropout", pd.NA),
    ],
)
def test_a_page_is_made_of_what_was_not_lost(tmp_path, kind, table, column, value):
    path = write_comparison(tmp_path / kind, QUESTIONS[kind].select(None), replicates=1)
    file = path.results.path / f"{table}.parquet"
    frame = pd.read_parquet(file)
    kinds = frame.dtypes.to_dict()
    frame.assign(**{column: value}).astype(kinds).to_parquet(file, index=False)
    assert main([str(path.results.path), "--output", str(tmp_path / "out")]) == 0


def test_without_seconds_the_headline_is_drawn(tmp_path):
    compared = write_comparison(tmp_path / "c", {"32": {"batch_size": 32}, "512": {}}, replicates=1)
    compared.results.epochs["epoch_seconds"] = np.nan
    headline = loss_by_batch(compared)
    assert headline
    write(headline, tmp_path)
