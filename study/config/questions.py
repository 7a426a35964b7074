"""The built-in comparisons: the question, arms, baseline and command of each.

To add one, add an entry here. The command line lists and runs it, and the report gives it a
section with the usual figure and table. To give it more figures, add a function to
`analysis.sections.questions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config.comparison import Comparison, load_comparison
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.console.text import hint, shown

Arms = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Question(Comparison):
    """A built-in comparison.

    Attributes:
        name: Its name on the command line and in the report's links.
        heading: The heading of its section in the report.
        baseline: The arm that the report compares each other arm with.
        options: Options of the command whose results the paper's claims need; None if no claim
            needs any.
    """

    name: str
    heading: str
    baseline: str
    options: str | None = None

    def __post_init__(self) -> None:
        if self.baseline not in self.arms:
            raise ValueError(f"{self.name}: no arm is named {self.baseline!r}")

    @property
    def command(self) -> str:
        """The command whose results the paper's claims need; empty if no claim needs any."""
        if self.options is None:
            return ""
        return f"python -m study.compare {self.name} {self.options}".strip()

    def is_asked_by(self, arms: Arms) -> bool:
        """Whether `arms` differ from the paper's configuration only in settings varied here."""
        departures = _departures(arms)
        return bool(departures) and departures <= _departures(self.arms)


def _departures(arms: Arms) -> set[str]:
    """The settings in which an arm differs from the paper's configuration."""
    return {
        name
        for settings in arms.values()
        for name, value in settings.items()
        if value != getattr(TrialConfig, name)
    }


BATCH_SIZE = Question(
    name="batch-size",
    heading="Batch size",
    title="Does the batch size change what is learned?",
    arms={str(size): {"batch_size": size} for size in (32, 64, 512, 6000)},
    optional=("6000",),
    baseline="512",
    options="--protocol paper",
)
MODELS = Question(
    name="models",
    heading="The modified ResNet18",
    title="Is the modified ResNet18 better than the small CNN?",
    arms={"cnn": {"model": "cnn"}, "resnet18": {"model": "resnet18"}},
    baseline="cnn",
    options="--protocol paper",
)
SCHEDULE = Question(
    name="schedule",
    heading="The learning rate's schedule",
    title="Does the accuracy settle by itself, or because the learning rate decays?",
    arms={"gamma-0.7": {"gamma": 0.7}, "gamma-1": {"gamma": 1.0}},
    baseline="gamma-0.7",
    options="--protocol paper",
)
CELLS = {
    "none": {"dropout": False, "batch_norm": False},
    "dropout": {"dropout": True, "batch_norm": False},
    "batch-norm": {"dropout": False, "batch_norm": True},
    "both": {"dropout": True, "batch_norm": True},
}
REGULARIZATION = Question(
    name="regularization",
    heading="Dropout and batch norm",
    title="What do dropout and batch norm do, alone and together?",
    arms={
        f"{model}-{cell}": {"model": model, **settings}
        for model in ("cnn", "resnet18")
        for cell, settings in CELLS.items()
    },
    baseline="cnn-dropout",
    options='--arms "cnn-*"',
)
TRAINING_SIZE = Question(
    name="training-size",
    heading="More data",
    title="How much do more training images help?",
    arms={str(n): {"train_examples": n} for n in (6_875, 13_750, 27_500, 55_000)},
    baseline="55000",
    options="",
)
WIDTH = Question(
    name="width",
    heading="Wider networks",
    title="How much does a wider CNN help?",
    arms={f"x{width:g}": {"width_mult": width} for width in (0.5, 1.0, 2.0, 4.0)},
    baseline="x1",
)

# By name, in the order of the report.
QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (BATCH_SIZE, MODELS, SCHEDULE, REGULARIZATION, TRAINING_SIZE, WIDTH)
}


def find_comparison(name: str) -> Comparison:
    """The built-in comparison `name`, or the one in the TOML file `name`.

    Raises:
        UserError: There is no such comparison, or the file holds no valid one.
    """
    if name in QUESTIONS:
        return QUESTIONS[name]
    if name.endswith(".toml"):
        return load_comparison(Path(name))
    raise UserError(
        f"unknown comparison {shown(name)}{hint(name, QUESTIONS)}; choose one of "
        f"{', '.join(QUESTIONS)}, or a file like mine.toml"
    )
