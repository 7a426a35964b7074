"""The configuration of a comparison (fixed arms, several seeds each), and its TOML file.

Each arm is one configuration. Replicate k of every arm has the same seed, so arms with the
same network begin with the same weights. No trial is stopped early and nothing is selected.
`study.config.questions` has the built-in comparisons. Your own one is a small TOML file::

    title = "Does the optimizer matter?"    # optional

    [defaults]                              # optional: for every arm
    batch_size = 64

    [arms.adadelta]

    [arms.sgd]
    optimizer = "sgd"
    lr = 0.05
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config.arms import ArmsConfig, check_arms, check_keys, require_replicates
from study.console.errors import UserError, require_choice
from study.console.text import shown

PROTOCOLS = ("split", "paper")


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        title: The question in words.
        arms: Each arm's settings, from `ARM_SETTINGS`; the others are the paper's.
        optional: Arms that run only if they are asked for.
    """

    title: str
    arms: Mapping[str, Mapping[str, Any]]
    optional: tuple[str, ...] = ()

    def select(self, patterns: Sequence[str] | None) -> dict[str, dict[str, Any]]:
        """The arms that match one of `patterns` (``cnn-*``); None: all but the optional ones.

        Raises:
            UserError: A pattern matches no arm.
        """
        if patterns is None:
            names = [name for name in self.arms if name not in self.optional]
        else:
            for pattern in patterns:
                if not fnmatch.filter(self.arms, pattern):
                    raise UserError(
                        f"--arms: no arm is named {pattern!r}; choose from {', '.join(self.arms)}"
                    )
            names = [n for n in self.arms if any(fnmatch.fnmatch(n, p) for p in patterns)]
        return {name: dict(self.arms[name]) for name in names}


@dataclass(frozen=True)
class ComparisonConfig(ArmsConfig):
    """One comparison: each arm is trained with the same seeds.

    Attributes:
        replicates: Seeds of each arm; resuming may raise it.
        protocol: See `StudyConfig`.
        seeds: ``own``, or ``shared``: before format 5, replicate k had the seed of trial k of a
            search with the same root.
    """

    kind = "comparison"
    module = "study.compare"
    grows = "replicates"

    replicates: int = 10
    protocol: str = "split"
    seeds: str = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("--protocol", self.protocol, PROTOCOLS)
        require_choice("seeds", self.seeds, ("own", "shared"))
        require_replicates(self.replicates)

    @property
    def seeds_by_arm(self) -> dict[str, int]:
        """`replicates`, of every arm."""
        return dict.fromkeys(self.arms, self.replicates)

    @property
    def seed_family(self) -> str:
        """Its kind's own, unless it was begun before there were families."""
        return "search" if self.seeds == "shared" else self.kind

    def fixed_part(self) -> dict[str, Any]:
        """The fields that must not change; a journal from before format 5 lacks `seeds`."""
        fixed = super().fixed_part()
        if self.seeds == "shared":
            del fixed["seeds"]
        return fixed

    def identity(self) -> list[Any]:
        """The values by which earlier versions distinguished two comparisons."""
        return [self.arms, self.epochs, self.dataset, self.protocol, self.seed]


def load_comparison(path: Path) -> Comparison:
    """Read a comparison from a TOML file; the top of this module shows one.

    Raises:
        UserError: The file cannot be read or holds no valid comparison.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; --help shows an example of one")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib raises ValueErrors
        raise UserError(f"{path}: not a readable TOML file ({error})") from None
    check_keys(content, ("title", "defaults", "arms"), str(path))
    title, defaults = content.get("title", path.stem), content.get("defaults", {})
    arms = content.get("arms", {})
    if not isinstance(title, str):
        raise UserError(f"{path}: title: {shown(title)} is not text")
    check_arms({"defaults": defaults}, str(path))
    check_arms(arms, f"{path}: arms")
    if len(arms) < 2:
        raise UserError(
            f"{path}: too few arms ({len(arms)}); a comparison needs at least [arms.A] and [arms.B]"
        )
    return Comparison(title, {n: {**defaults, **s} for n, s in arms.items()})
