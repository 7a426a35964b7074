"""The built-in comparisons: each is valid, named once, and made by its command."""

from __future__ import annotations

import shlex

import pytest

from study.compare import make_parser, new_config
from study.config.comparison import ComparisonConfig
from study.config.questions import QUESTIONS, Question, find_comparison
from study.console.errors import UserError


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_built_in_arm_is_possible_and_all_differ(name):
    comparison = QUESTIONS[name]
    made = ComparisonConfig("c", "a question", comparison.select(["*"]), replicates=1)
    trials = [made.trial_config(point, 0) for point in made.points]
    assert len(set(trials)) == len(comparison.arms)
    assert comparison.title.endswith("?")


def test_a_baseline_that_is_no_arm_is_refused():
    with pytest.raises(ValueError, match="step: no arm is named 'x'"):
        Question(name="step", heading="", title="?", arms={"a": {}}, baseline="x")


COMMANDS = {
    "batch-size": "python -m study.compare batch-size --protocol paper",
    "models": "python -m study.compare models --protocol paper",
    "schedule": "python -m study.compare schedule --protocol paper",
    "regularization": 'python -m study.compare regularization --arms "cnn-*"',
    "training-size": "python -m study.compare training-size",
    "width": "",
}


def test_the_commands_that_fill_a_gap_run_that_comparison():
    assert {name: question.command for name, question in QUESTIONS.items()} == COMMANDS
    for name, command in COMMANDS.items():
        if command:
            config = new_config(make_parser().parse_args(shlex.split(command)[3:]))
            assert config.title == QUESTIONS[name].title
            assert ("--protocol paper" in command) == (config.protocol == "paper")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("batchsize", "did you mean 'batch-size'?"),
        ("none.toml", "no such file"),
        (".toml", "no such file"),
        ("x" * 300 + ".toml", "File name too long"),
        ("/x" * 3000 + ".toml", "File name too long"),
        ("xyz", "choose one of batch-size, models"),
    ],
)
def test_an_unknown_comparison_is_refused(name, reason):
    with pytest.raises(UserError) as error:
        find_comparison(name)
    assert reason in str(error.value)
