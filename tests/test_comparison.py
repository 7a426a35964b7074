"""The configuration of a comparison: arms, order, seeds, files."""

from __future__ import annotations

import pytest

from study.config.comparison import Comparison, ComparisonConfig
from study.config.questions import QUESTIONS, find_comparison
from study.config.trial import TrialConfig
from study.console.errors import UserError


def config(arms, **kwargs):
    return ComparisonConfig("c", "a question", arms, **kwargs)


def test_the_reports_comparison_is_the_reports_configuration_at_three_batch_sizes():
    made = config(QUESTIONS["batch-size"].select(None), replicates=2)
    trial = made.trial_config({"arm": "512", "replicate": 1}, 0)
    assert trial == TrialConfig(seed=trial.seed)
    assert [p["arm"] for p in made.points] == ["32", "64", "512"] * 2
    assert [p["replicate"] for p in made.points] == [1, 1, 1, 2, 2, 2]
    assert made.num_trials == 6


def test_replicates_are_paired_by_seed_whatever_the_arm_and_the_number():
    made = config({"a": {}, "b": {"batch_size": 64}}, replicates=3)
    seeds = {
        (arm, k): made.trial_config({"arm": arm, "replicate": k}, number).seed
        for number, (k, arm) in enumerate((k, arm) for k in (1, 2, 3) for arm in "ab")
    }
    assert all(seeds["a", k] == seeds["b", k] for k in (1, 2, 3))
    assert len(set(seeds.values())) == 3
    other = config({"a": {}, "b": {}}, seed=2).trial_config({"arm": "a", "replicate": 1}, 0)
    assert other.seed != seeds["a", 1]


def test_more_replicates_only_append():
    few, more = (config({"a": {}, "b": {}}, replicates=n) for n in (2, 5))
    assert more.points[: len(few.points)] == few.points


def test_what_is_trained_on_follows_from_protocol_and_arms():
    assert config({"a": {}}).num_train == 50_000
    assert config({"a": {"train_examples": 100, "batch_size": 10}}).num_train == 50_000
    assert config({"a": {"train_examples": 55_000}}).num_train == 55_000
    assert config({"a": {}}, protocol="paper").num_train == 60_000


@pytest.mark.parametrize(
    ("arms", "kwargs", "reason"),
    [
        ({"a": {}}, {"replicates": 0}, "--replicates: 0"),
        ({"a": {}}, {"replicates": 5000}, "--replicates: 5000 is too many"),
        ({"a": {}}, {"epochs": 0}, "--epochs: 0"),
        ({"a": {}}, {"protocol": "test"}, "--protocol: unknown value 'test'; choose one of split"),
        ({"a": {}}, {"seed": -1}, "--seed: -1"),
        ({"a": {}}, {"dataset": "cifar"}, "--dataset"),
        ({"a": {}}, {"precision": "fp8"}, "--precision"),
        ({"a": {"lr": -1.0}}, {}, "arm a: lr: -1.0"),
        ({"a": {"train_examples": 100}}, {}, "arm a: batch_size: 512 is larger than its 100"),
        ({"a": {"train_examples": 59_500}}, {}, "leaves fewer than 1000 validation images"),
    ],
)
def test_impossible_comparisons_are_refused(arms, kwargs, reason):
    with pytest.raises(UserError) as error:
        config(arms, **kwargs)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("arms", arms)
            for arms in (
                None,
                {},
                [],
                3,
                {"a": None},
                {"a": 3},
                {"a": []},
                {"": {}},
                {"a b": {}},
                {"<img>": {}},
                {"a\n": {}},
                {"\x1b[31m": {}},
                {"a": {"epochs": 3}},
                {"a": {"lr": "1"}},
                {"a": {"lr": 10**400}},
                {"a": {"model": []}},
                {"a": {"dropout": 1}},
                {"a": {"train_examples": "x"}},
                {"a": {}, "b": {"train_examples": "x"}},
            )
        ),
        *(("title", title) for title in (3, None, ["?"], "a\nb", "\x1b]0;x\x07")),
        *(("name", name) for name in ("", "..", "../x", "a/b", "x" * 256, 3)),
        *(("replicates", count) for count in (True, "2", 10**400)),
        *(("seed", seed) for seed in (-1, "1", True)),
    ],
)
def test_what_a_file_of_somebody_else_says_is_checked(field, value):
    with pytest.raises(UserError) as error:
        ComparisonConfig(**{"name": "c", "title": "?", "arms": {"a": {}}, field: value})
    assert str(error.value).isprintable()


def test_an_arm_may_say_that_it_takes_what_there_is():
    assert config({"a": {"train_examples": None}}).num_train == 50_000


def test_arms_are_chosen_by_name_or_pattern():
    batch = QUESTIONS["batch-size"]
    assert list(batch.select(None)) == ["32", "64", "512"]
    assert list(batch.select(["6000", "64"])) == ["64", "6000"]
    assert len(QUESTIONS["regularization"].select(["cnn-*"])) == 4
    with pytest.raises(UserError, match="no arm is named '128'; choose from 32, 64"):
        batch.select(["32", "128"])


FILE = """
title = "Does the optimizer matter?"
[defaults]
batch_size = 64
[arms.adadelta]
[arms.sgd]
optimizer = "sgd"
lr = 0.05
"""


def test_a_toml_file_is_a_comparison(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    assert find_comparison(str(path)) == Comparison(
        "Does the optimizer matter?",
        {"adadelta": {"batch_size": 64}, "sgd": {"batch_size": 64, "optimizer": "sgd", "lr": 0.05}},
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("title = ", "not a readable TOML file"),
        (FILE.replace("optimizer", "optimiser"), "'optimiser' (did you mean 'optimizer'?)"),
        (FILE.replace("[arms.", "[arm."), "unknown key 'arm' (did you mean 'arms'?)"),
        (FILE.replace("batch_size", "epochs"), "defaults: unknown key 'epochs'"),
        ("[arms.one]\n", "too few arms (1); a comparison needs at least [arms.A] and [arms.B]"),
        ("[arms]\na = 1\nb = 2\n", "arms: a: 1 is not a table"),
        ('[arms."a b"]\n[arms.c]\n', "arms: 'a b': use letters"),
        ('[arms."a\\u001b[31m\\nb"]\n[arms.c]\n', r"arms: 'a\x1b[31m\nb': use letters"),
        *(
            (f"arms = {odd}", "is not a table of arms")
            for odd in ("3", "[1, 2]", '"ab"', "true", "1.5", "1979-05-27", "[]")
        ),
        ("[[arms]]", "is not a table of arms"),
        *(
            (f"title = {odd}\n[arms.a]\n[arms.b]", "is not text")
            for odd in ("3", "[1]", "1979-05-27")
        ),
        (f"title = {'9' * 5000}", "not a readable TOML file"),
        (f"title = 0x{'f' * 5000}", "<int> too large to show is not text"),
        (f"title = {'[' * 500}{']' * 500}", "mine.toml: "),
        (f"title = {'[' * 2000}{']' * 2000}", "not a readable TOML file"),
        (f"defaults = {'{a=' * 300}1{'}' * 300}", "unknown key 'a'"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path, text, reason):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        find_comparison(str(path))
    assert reason in str(error.value)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()


def test_a_folder_is_no_comparison_file(tmp_path):
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(UserError, match="no such file"):
        find_comparison(str(tmp_path / "x.toml"))
