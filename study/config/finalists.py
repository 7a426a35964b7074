"""The two studies that confirm a search: its finalists, and the final runs of the chosen one."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, field

from study.config.arms import MAX_REPLICATES, ArmsConfig, require_replicates
from study.config.study import require_name
from study.console.errors import UserError, require_positive
from study.console.text import shown

PAPER = "paper"  # the arm with the paper's configuration
CHOSEN = "chosen"  # the arm with the configuration that the finalists' runs choose
FINALISTS = 8  # the search's best, besides the paper's configuration
BUDGET = 40  # runs of the finalists, unless another number is given


@dataclass(frozen=True)
class ConfirmingConfig(ArmsConfig):
    """A study that confirms a search; its folder is beside the search's.

    Attributes:
        search: Name of the search's folder.
        replicates: Seeds of the final runs; set before the finalists run.
    """

    module = "study.finalize"

    search: str = ""
    replicates: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name("search", self.search)
        require_replicates(self.replicates)

    def resume_arguments(self, path: str) -> tuple[str, ...]:
        """The search's folder or URI, and the name of the confirmation if it has another."""
        place, own = os.path.split(path)  # `path` may be a URI
        if own in ("", ".", ".."):
            place, own = os.path.split(os.path.realpath(path))
        name = own.removesuffix(f"-{self.kind}")
        given = () if name == self.search else (f"--name={name}",)
        return (os.path.join(place or os.curdir, self.search), *given)  # noqa: PTH118 -- or URI


@dataclass(frozen=True)
class FinalistsConfig(ConfirmingConfig):
    """The best configurations of a search, with fresh seeds on the same validation images.

    Attributes:
        budget: Most runs in all.
        seeds: How many seeds each arm has so far. Each round of halving raises it for the arms
            that are still in.
    """

    kind = "finalists"
    grows = "seeds"
    protocol = "split"

    budget: int = 0
    seeds: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("--budget", self.budget, integer=True)
        if self.seeds.keys() != self.arms.keys():
            raise UserError(f"seeds: {shown(list(self.seeds))} are not the arms")
        for arm, count in self.seeds.items():
            require_positive(f"seeds: {arm}", count, integer=True)
            if count > MAX_REPLICATES:
                raise UserError(f"seeds: {arm}: {shown(count)} is too many; use {MAX_REPLICATES}")

    @property
    def seeds_by_arm(self) -> dict[str, int]:
        """`seeds`, in the order of the arms."""
        return {arm: self.seeds[arm] for arm in self.arms}


@dataclass(frozen=True)
class FinalConfig(ConfirmingConfig):
    """The chosen configuration and the paper's, on all training images and the test images.

    Attributes:
        reopened: Why the test set is opened though it was opened before; empty if it was not.
    """

    kind = "final"
    grows = "replicates"
    protocol = "paper"

    reopened: str = ""

    @property
    def seeds_by_arm(self) -> dict[str, int]:
        """`replicates`, of both arms."""
        return dict.fromkeys(self.arms, self.replicates)

    @property
    def opened_for(self) -> str:
        """The search."""
        return self.search

    @property
    def opening_reason(self) -> str:
        """Names the study, so that another one opens the test set once more."""
        why = f" ({self.reopened})" if self.reopened else ""
        return f"{self.name}: final runs of {self.title}{why}"
