"""The hyperparameters, each described once.

The options of ``study.run``, the search space, the columns of ``trials.parquet``, the headers of
tables and what an arm of a comparison may set follow from `HYPERPARAMETERS`. A new one takes an
entry here, a field of `study.config.trial.TrialConfig`, and its use in `study.training.trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.console.errors import UserError, require_choice, require_positive
from study.console.text import shown

OPTIMIZERS = ("adadelta", "sgd", "adamw")
NUM_TRAIN_EXAMPLES = 50_000  # of the 60 000 training images; the others are for validation


@dataclass(frozen=True)
class Hyperparameter:
    """What is to be known of one.

    Attributes:
        name: Its field in `TrialConfig`, and its column in ``trials.parquet``.
        kind: What a search draws from: a ``choice`` of several values, a ``range`` between two,
            or a ``log`` range, in which each decade is as likely.
        type: int, float or str.
        label: Its header in a table.
        words: Its explanation in ``--help``.
        default: The paper's value. None: the network's own, or it depends on the optimizer.
        default_of: The optimizers that have it, and each one's default. Empty: all have it.
        space: The values, or the two ends, that a search draws from if none are given. Empty:
            the default is used.
        space_of: The same for optimizers that take values of another size.
        least: Smallest possible value.
        most: Largest possible value.
        too_much: Why none is larger, and what to do.
        zero: Whether it may also be zero.
        choices: The possible values of text.
        since: The format of results that first had its column; earlier tables read as if every
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
        """Whether a trial may have none, or the network's own."""
        return self.default is None

    @property
    def column(self) -> str:
        """The type of its column in ``trials.parquet``; one that may be unknown holds NA."""
        if self.type is float:
            return "Float64" if self.may_be_empty else "float64"
        return {int: "int64", str: "string"}[self.type]

    def applies(self, optimizer: str) -> bool:
        """Whether `optimizer` has it."""
        return not self.default_of or optimizer in self.default_of

    def default_for(self, optimizer: str) -> Any:
        """Its value under `optimizer` if none is given; None if it has none."""
        return self.default_of.get(optimizer, self.default)

    def check(self, value: Any, flag: str | None = None) -> None:
        """Raise `UserError` unless `value` is possible.

        Args:
            value: The value to check.
            flag: How the user spells it; `name` if omitted.
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
            values: Those of a choice, the two ends of a range, or a single one that fixes it.
            flag: How the user spells it; `name` if omitted.
        """
        flag = flag or self.name
        for value in values:
            self.check(value, flag)
        if self.kind == "choice":
            if len(set(values)) < len(values):
                raise UserError(f"{flag}: a value is given twice in {' '.join(map(str, values))}")
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
            "examples in a step",
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
            # Two decades around the optimizer's usual values.
            space_of={"sgd": (0.003, 0.3), "adamw": (1e-4, 1e-2)},
            # Beyond these nothing is learned: nothing moves, or all overflows.
            least=1e-8,
            most=1e20,
        ),
        Hyperparameter(
            "gamma",
            "range",
            float,
            "gamma",
            "factor on the learning rate after each epoch",
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
            "factor on every hidden width",
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
            "sgd's Nesterov momentum, adamw's first beta",
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
            "weight decay: sgd's is part of the gradient, adamw's is not",
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
            "share that each dropout layer drops, to the nearest 1/256",
            most=0.99,
            zero=True,
            since=3,
        ),
    )
}


def default_values(optimizers: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """What a search draws from if nothing is given, by hyperparameter.

    Of several optimizers that take learning rates of different sizes, the range covers all.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for name, each in HYPERPARAMETERS.items():
        if each.space:
            of_each = [each.space_of.get(optimizer, each.space) for optimizer in optimizers]
            ends = (min(v[0] for v in of_each), max(v[-1] for v in of_each))
            values[name] = each.space if each.kind == "choice" else ends
    return values
