"""The table of hyperparameters: names, defaults, ranges and checks.

The options of ``study.run``, the search space, the columns of ``trials.parquet``, the headers of
tables and the settings of an arm follow from `HYPERPARAMETERS`. To add a hyperparameter, add an
entry here and a field to `study.config.trial.TrialConfig`, and use it in `study.training.trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.console.errors import UserError, require_choice, require_positive
from study.console.text import shown

OPTIMIZERS = ("adadelta", "sgd", "adamw")
NUM_TRAIN_EXAMPLES = 50_000  # of the 60,000 training images; the others are for validation


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter.

    Attributes:
        name: Its field in `TrialConfig`, and its column in ``trials.parquet``.
        kind: What a search draws from: a ``choice`` of several values, a ``range`` between two,
            or a ``log`` range, in which all decades are equally likely.
        type: int, float or str.
        label: Its header in a table.
        words: Its explanation in ``--help``.
        default: The paper's value. None: the network's own, or it depends on the optimizer.
        default_of: The optimizers that have it, with the default for each. Empty: all have it.
        space: The values, or the two ends, that a search draws from by default. Empty: a search
            does not draw it unless asked to.
        space_of: The same for optimizers that need values of another magnitude.
        least: Smallest possible value.
        most: Largest possible value.
        too_much: The error for a value above `most`: why, and what to do.
        zero: Whether it may also be zero.
        choices: The possible values of a text.
        since: The results format that first had its column. Earlier tables are read as if every
            trial had the default.
    """

    name: str
    kind: str
    type: type
    label: str
    words: str
    default: Any = None
    default_of: Mapping[str, Any] = field(default_factory=dict)
    space: tuple[Any, ...] = ()
    space_of: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    least: float = 0.0
    most: float = math.inf
    too_much: str = ""
    zero: bool = False
    choices: tuple[str, ...] = ()
    since: int = 2

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def may_be_empty(self) -> bool:
        """Whether a trial may have no value of its own."""
        return self.default is None

    @property
    def column(self) -> str:
        """The type of its column in ``trials.parquet``. A missing value is NA."""
        if self.type is float:
            return "Float64" if self.may_be_empty else "float64"
        return {int: "int64", str: "string"}[self.type]

    def applies(self, optimizer: str) -> bool:
        """Whether `optimizer` has it."""
        return not self.default_of or optimizer in self.default_of

    def default_for(self, optimizer: str) -> Any:
        """Its default under `optimizer`; None if it has none."""
        return self.default_of.get(optimizer, self.default)

    def check(self, value: Any, flag: str | None = None) -> None:
        """Raise `UserError` unless `value` is possible.

        Args:
            value: The value to check.
            flag: Its name in an error message; by default `name`.
        """
        flag = flag or self.name
        if self.choices:
            require_choice(flag, value, self.choices)
            return
        require_positive(flag, value, integer=self.type is int, or_zero=self.zero)
        if value > self.most and self.too_much:
            raise UserError(f"{flag}: {shown(value)} {self.too_much}")
        if not self.least <= value <= self.most:
            raise UserError(
                f"{flag}: {shown(value)} is out of range; use {self.least:g} to {self.most:g}"
            )

    def check_values(self, values: Sequence[Any], flag: str | None = None) -> None:
        """Raise `UserError` unless a search can draw from `values`.

        Args:
            values: The values of a choice, the two ends of a range, or one value that fixes it.
            flag: Its name in an error message; by default `name`.
        """
        flag = flag or self.name
        for value in values:
            self.check(value, flag)
        if self.kind == "choice":
            if len(set(values)) < len(values):
                raise UserError(
                    f"{flag}: {' '.join(map(str, values))} repeats a value; give each only once"
                )
            return
        if len(values) > 2:
            raise UserError(
                f"{flag}: got {len(values)} values; give one (fixed) or two (smallest and largest)"
            )
        if values[0] > values[-1]:
            raise UserError(
                f"{flag}: the smallest, {values[0]}, is above the largest, {values[-1]}; swap them"
            )


HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    each.name: each
    for each in (
        Hyperparameter(
            "batch_size",
            "choice",
            int,
            "batch",
            "examples per step",
            default=512,
            space=(32, 64, 128, 256, 512, 1024),
            least=1,
            most=NUM_TRAIN_EXAMPLES,
            too_much=f"is larger than the training split of {NUM_TRAIN_EXAMPLES} examples; use at "
            f"most {NUM_TRAIN_EXAMPLES}",
        ),
        Hyperparameter(
            "lr",
            "log",
            float,
            "lr",
            "learning rate of the first epoch",
            default=1.0,
            space=(0.03, 3.0),
            # Two decades around the usual values of each optimizer.
            space_of={"sgd": (0.003, 0.3), "adamw": (1e-4, 1e-2)},
            # Nothing is learned beyond these: the weights stay put or overflow.
            least=1e-8,
            most=1e20,
        ),
        Hyperparameter(
            "gamma",
            "range",
            float,
            "gamma",
            "factor applied to the learning rate after each epoch",
            default=0.7,
            space=(0.5, 1.0),
            most=1.0,
            too_much="would raise the learning rate each epoch; use a value in (0, 1]",
        ),
        Hyperparameter(
            "width_mult",
            "choice",
            float,
            "width",
            "factor applied to every hidden width",
            default=1.0,
            space=(0.5, 1.0, 2.0),
            least=0.05,
            most=32,
        ),
        Hyperparameter(
            "optimizer",
            "choice",
            str,
            "optimizer",
            "adadelta, sgd (with Nesterov momentum) or adamw",
            default="adadelta",
            choices=OPTIMIZERS,
        ),
        Hyperparameter(
            "momentum",
            "range",
            float,
            "momentum",
            "Nesterov momentum of sgd, first beta of adamw",
            default_of={"sgd": 0.9, "adamw": 0.9},
            most=0.999,
            zero=True,
            since=3,
        ),
        Hyperparameter(
            "weight_decay",
            "log",
            float,
            "decay",
            "weight decay; part of the gradient in sgd, but not in adamw",
            default_of={"sgd": 0.0, "adamw": 0.01},
            most=1.0,
            zero=True,
            since=3,
        ),
        Hyperparameter(
            "dropout_rate",
            "range",
            float,
            "dropout",
            "fraction that each dropout layer drops, rounded to 1/256",
            most=0.99,
            zero=True,
            since=3,
        ),
    )
}


def default_values(optimizers: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The values or ends that a search draws from by default, by hyperparameter.

    If several optimizers need learning rates of different magnitudes, the range covers all.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for name, each in HYPERPARAMETERS.items():
        if each.space:
            of_each = [each.space_of.get(optimizer, each.space) for optimizer in optimizers]
            ends = (min(v[0] for v in of_each), max(v[-1] for v in of_each))
            values[name] = each.space if each.kind == "choice" else ends
    return values
