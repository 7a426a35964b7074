"""Sequential halving: which finalists go on, and with how many more seeds.

Karnin, Koren and Somekh, ICML 2013. In each round every remaining arm is trained with the same
new seeds; then the better half goes on. Unlike the original, an arm is judged by all its runs.
"""

from __future__ import annotations

import math

import pandas as pd

from study.config.finalists import FinalistsConfig


def sizes(num_arms: int) -> list[int]:
    """The number of arms in each round, e.g. 9, 5, 3, 2."""
    found = []
    while num_arms > 1:
        found.append(num_arms)
        num_arms = math.ceil(num_arms / 2)
    return found


def rounds(num_arms: int, budget: int) -> list[tuple[int, int]]:
    """Each round's arms, and the new seeds of each of them.

    The rounds share the runs about equally, so that fewer arms get more seeds.

    Args:
        num_arms: At least 2.
        budget: Most runs in all; at least the sum of `sizes`.
    """
    in_round, left, planned = sizes(num_arms), budget, []
    for number, size in enumerate(in_round):
        seeds = max(1, left // (len(in_round) - number) // size)
        planned.append((size, seeds))
        left -= size * seeds
    return planned


def ranking(trials: pd.DataFrame) -> pd.DataFrame:
    """The arms, best first: those still in by their mean accuracy, then those that left earlier.

    Args:
        trials: Table ``trials`` of a finalists study. A diverged run counts as an accuracy of 0.
            A failed one counts for nothing, unless an arm has no other: such an arm is the last.

    Returns:
        Columns ``arm``, ``n``, ``accuracy``, ``loss``, ``diverged``, ``failed``.
    """
    ended = trials.assign(
        accuracy=trials["last_eval_accuracy"]
        .where(trials["status"] == "complete")
        .mask(trials["status"] == "diverged", 0.0),
        loss=trials["last_eval_loss"].where(trials["status"] == "complete"),
        counted=trials["status"].isin(["complete", "diverged"]),
        diverged=trials["status"] == "diverged",
        failed=trials["status"] == "failed",
        last=trials["replicate"],
    )
    by_arm = ended.groupby("arm", sort=False).agg(
        n=("counted", "sum"),
        accuracy=("accuracy", "mean"),
        loss=("loss", "mean"),
        diverged=("diverged", "sum"),
        failed=("failed", "sum"),
        last=("last", "max"),
    )
    order = by_arm.sort_values(
        ["last", "accuracy", "loss"], ascending=[False, False, True], kind="stable"
    )
    return order.drop(columns="last").reset_index()


def is_damaged(config: FinalistsConfig) -> bool:
    """Whether no round of the halving leaves arms with so many seeds."""
    left = sorted(config.seeds.values(), reverse=True)
    expected = [0] * len(left)
    for size, more in rounds(len(config.arms), config.budget):
        expected = [seeds + more * (i < size) for i, seeds in enumerate(expected)]
        if expected == left:
            return False
    return True


def next_seeds(config: FinalistsConfig, trials: pd.DataFrame) -> dict[str, int] | None:
    """The seeds of each arm after the next round; None once the choice is made.

    Args:
        config: Whose seeds have all been run.
        trials: Its table.
    """
    plan = rounds(len(config.arms), config.budget)
    most = max(config.seeds.values())
    staying = [arm for arm, seeds in config.seeds.items() if seeds == most]
    done = next(i for i, (size, _) in enumerate(plan) if size == len(staying))
    if done + 1 == len(plan):
        return None
    size, more = plan[done + 1]
    order = ranking(trials)["arm"]
    going_on = set(order[order.isin(staying)].head(size))
    return {a: seeds + more * (a in going_on) for a, seeds in config.seeds.items()}
