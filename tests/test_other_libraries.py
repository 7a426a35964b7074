"""The project's shrinkage and its halving against other libraries, which ran once.

Their answers are kept here as numbers, so that no test needs the libraries. They were made on
28 November 2026 with ax-platform 1.3.1, sim-tools 1.3.0, NumPy 2.4.6 and SciPy 1.17.1.
"""

from __future__ import annotations

import hashlib
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from study.results.halving import rounds
from study.results.shrinkage import shrink
from tests.helpers.halved import halved

SD = 0.08  # of a seed, in points

# Accuracies in percent, and what Ax's Ashr makes of them:
#
#     y = np.array(accuracies) - np.median(accuracies)
#     model = ax.generators.discrete.ashr_utils.Ashr(y, np.full(len(y), 0.08**2))
#     means = model.posterior(model.fit()["weights"]).means + np.median(accuracies)
ASHR = {
    "the best nine of the committed search": (
        [99.22, 99.19, 99.15, 99.14, 99.07, 99.07, 99.04, 99.04, 98.96],
        [99.081, 99.078, 99.075, 99.074, 99.070, 99.070, 99.068, 99.068, 99.063],
    ),
    "normal": (
        [99.24, 99.17, 99.13, 99.08, 99.06, 99.02, 98.99, 98.96, 98.92, 98.87, 98.83, 98.73],
        [99.17, 99.12, 99.09, 99.06, 99.04, 99.02, 98.99, 98.97, 98.95, 98.91, 98.88, 98.81],
    ),
    "one stands out": (
        [99.60, 99.11, 99.07, 99.05, 99.03, 99.01, 98.99, 98.97, 98.95, 98.92, 98.88],
        [99.586, 99.015, 99.012, 99.011, 99.011, 99.010, 99.009, 99.009, 99.008, 99.006, 99.000],
    ),
    "far apart": (
        [99.50, 99.30, 99.20, 99.10, 99.00, 99.00, 98.90, 98.80, 98.70, 98.50],
        [99.457, 99.274, 99.181, 99.087, 99.000, 99.000, 98.913, 98.819, 98.726, 98.543],
    ),
}


@pytest.mark.parametrize("name", ASHR)
def test_shrinkage_agrees_with_axs_ashr(name):
    """Within 0.3 sd of a seed; within 0.6 sd if the accuracies differ no more than by noise.

    Both fit an empirical Bayes prior of Stephens's kind, but not the same. Ax's is a mixture of
    normals around zero with a point mass there, here the median, and takes the most likely
    weights. The project's is a mixture of uniforms that end at a mode, averaged over modes. If
    noise explains all differences, the most likely weights nearly erase them (99.08% for the best
    of the nine); the average keeps some (99.12%).
    """
    accuracies, theirs = ASHR[name]
    trials = pd.DataFrame(
        {
            "trial_id": [f"trial_{k:05d}" for k in range(len(accuracies))],
            "status": "complete",
            "last_eval_accuracy": np.array(accuracies) / 100,
            "last_eval_loss": 0.05,
        }
    )
    ours = 100 * shrink(trials, SD / 100)["expected"].to_numpy()
    within = 0.6 if name == "the best nine of the committed search" else 0.3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=within * SD)
    assert ours[0] < accuracies[0]
    assert theirs[0] < accuracies[0]


# 200 made-up sets of finalists: 8 arms, true sd 0.04 points, seed sd 0.06. Run k of arm a of set f
# is 99 + truth(f, a) + 0.06 * normal(f, a, k), and truth(f, a) is 0.04 * normal(f, a). What
# OCBA(model, 8, budget=80, delta=8, n_0=5, obj="max") chose in each set; 5 is its least n_0.
OCBA = (
    "3463734626506165344536326145737210321131100210241430365662757123"
    "5266526171035162211537206162763622050056517654762337462467505357"
    "0012531005633272364651146264415601026445720552410003440567623274"
    "34061167"
)
OCBA_BUDGET = 80


def normal(*name):
    """A standard normal number that depends on `name` only, on every machine alike."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return NormalDist().inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48)


def test_halving_chooses_as_well_as_ocba():
    """With 80 runs OCBA finds the best of eight in 72% of the sets and halving in 70.5%.

    In 83% both choose the same. The difference in regret (0.0032 and 0.0038 points) is chance.
    OCBA begins with five runs of each arm and then decides after every eight runs; halving
    decides three times.
    """
    plan = rounds(8, OCBA_BUDGET)
    sets, seeds = range(len(OCBA)), range(sum(more for _, more in plan))
    truth = np.array([[0.04 * normal(f, a) for a in range(8)] for f in sets])
    luck = np.array([[[normal(f, a, k) for k in seeds] for a in range(8)] for f in sets])
    ours, _ = halved(99 + truth[:, :, None] + 0.06 * luck, plan)
    theirs = np.array([int(arm) for arm in OCBA])
    best, each = truth.max(axis=1), np.arange(len(truth))
    our_regret, their_regret = best - truth[each, ours], best - truth[each, theirs]
    assert np.mean(their_regret) == pytest.approx(0.0032, abs=0.0001)
    assert np.mean(their_regret == 0) == 0.72
    difference = our_regret - their_regret
    assert abs(difference.mean()) < 3 * difference.std() / len(difference) ** 0.5
    assert np.mean(our_regret == 0) == pytest.approx(0.705)
    assert np.mean(ours == theirs) == pytest.approx(0.83)
