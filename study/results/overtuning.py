"""Whether a search went on past its best configuration, because it took luck for progress."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from study.config.finalists import PAPER
from study.results.estimates import Estimate, over_seeds, show
from study.results.trials import complete_trials, have_papers_settings


@dataclass(frozen=True)
class Overtuning:
    """The search's last best trial against the best of its earlier ones, with fresh seeds.

    Attributes:
        last: The trial that the search ended with as its best.
        earlier: The one of its earlier best trials that did best with fresh seeds.
        difference: `last` minus `earlier` in points, paired by seed. Below zero the search had
            been better off before.
        best_ones: How many trials were the best so far at some time.
        again: How many of them were trained again.
    """

    last: str
    earlier: str
    difference: Estimate
    best_ones: int
    again: int

    def sentence(self) -> str:
        """The result in words."""
        return (
            f"Overtuning: of the {self.best_ones} trials that were the best so far at some time "
            f"of the search, {self.again} ran again. The last, {self.last}, differs by "
            f"{show(self.difference, '{:+.2f} points')} from the best of the earlier ones, "
            f"{self.earlier} (paired by n = {self.difference.n} fresh seeds; below zero would be "
            "overtuning)."
        )


def overtuning(search: pd.DataFrame, finalists: pd.DataFrame) -> Overtuning | None:
    """Schneider, Bischl and Feurer (AutoML 2025, PMLR 293:17), with fresh seeds for test images.

    They subtract the lowest test error of any earlier incumbent from that of the last one. The
    sealed test images do not measure the incumbents here. Fresh seeds on the validation images
    do, as far as the incumbents were finalists.

    Args:
        search: Table ``trials`` of the search.
        finalists: Table ``trials`` of the finalists' runs.

    Returns:
        None if the last incumbent or all earlier ones have no run, or no seed in common.
    """
    complete = complete_trials(search)
    by = "ended" if complete["ended"].notna().all() else "trial_id"  # formats 2 to 5 lack it
    ranks = complete.assign(place=range(len(complete))).sort_values(by)  # a loss breaks a tie
    incumbents = ranks[ranks["place"] <= ranks["place"].cummin()]
    is_paper = pd.Series(have_papers_settings(incumbents), incumbents.index, bool)
    arms = incumbents["trial_id"].mask(is_paper, PAPER)
    runs = finalists[finalists["status"] == "complete"]
    by_arm = runs.pivot(index="replicate", columns="arm", values="last_eval_accuracy")
    again = [arm for arm in arms if arm in by_arm]
    if len(again) < 2 or again[-1] != arms.iloc[-1]:
        return None
    *others, last = again
    earlier = str(by_arm[others].mean().idxmax())
    difference = 100 * (by_arm[last] - by_arm[earlier]).dropna()
    if difference.empty:
        return None
    return Overtuning(last, earlier, over_seeds(difference), len(arms), len(again))
