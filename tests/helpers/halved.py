"""Sequential halving of many simulated searches at once."""

from __future__ import annotations

import numpy as np


def halved(runs, plan):
    """What sequential halving chooses; `tests/test_choosing.py` shows that it is the real rule.

    Args:
        runs: In the order of the seeds, (searches, arms, seeds).
        plan: From `rounds`.

    Returns:
        The chosen arm, and the mean of its runs: both (searches,).
    """
    staying = np.tile(np.arange(runs.shape[1]), (len(runs), 1))
    seeds = 0
    for number, (_, more) in enumerate(plan, 1):
        seeds += more
        means = runs[np.arange(len(runs))[:, None], staying, :seeds].mean(axis=2)
        going_on = plan[number][0] if number < len(plan) else 1
        order = np.argsort(-means, axis=1)[:, :going_on]
        staying, means = (np.take_along_axis(x, order, axis=1) for x in (staying, means))
    return staying[:, 0], means[:, 0]
