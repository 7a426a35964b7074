"""How good the trials of a search really are: an empirical Bayes estimate of their accuracy.

A trial's accuracy is its true accuracy (the mean over seeds, on the validation images) plus the
luck of one seed. The best of many trials is partly the luckiest, so its accuracy is too high.
`shrink` estimates from all complete trials how true accuracies are distributed (the prior), and
from that what each trial's own may be (the posterior).

The prior is a unimodal mixture, after Stephens, "False discovery rates: a new deal",
Biostatistics 18 (2017): uniform distributions that end at a common mode. More of the wide ones
are below it than above, because a search has a long tail of bad trials and rarely one of good
ones. The weights are fitted by expectation maximization. The estimate averages over many modes,
each weighted by its likelihood; the most likely mode alone would claim too much certainty.

A normal prior would do worse. Over all trials the tail makes it wide, so that it hardly shrinks:
its winner stays up to 0.13 points too high. Over a chosen few, such as the best nine, it is
narrow: it takes nearly all of their differences for noise. With this prior nobody chooses trials.

In simulations (300 searches of 12 to 100 trials for each of ten shapes; seeds' sd 0.08 points) the
winner's estimate was off by -0.005 to +0.02 points on average if the true accuracies were normal
with an sd of 0.04 to 0.3 points or had a long tail of bad ones, and by -0.03 if they had one of
good ones; its raw accuracy was too high by up to 0.14. The stated probability of being the best
was 0.04 too high if the true accuracies lay closer than the noise (0.29 for 0.25), and 0.03 too
low if they lay far apart (0.59 for 0.62). High ones are too sure: where it said 0.75 or more (0.87
on average), the trial was the best in 75% of searches with normal true accuracies and in 65% of
those with an exponential tail of bad ones. The sd leaves out that the prior is an estimate: within
1.96 sd of its estimate was the truth of 82 to 93% of the winners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from study.config.hyperparameters import HYPERPARAMETERS
from study.results.trials import complete_trials

DEFAULT_SD = 0.0008  # between seeds, in the committed comparisons of the CNN on MNIST
LEAST_FREEDOM = 4  # degrees of freedom; fewer replicates measure noise worse than the default
SMALLEST_SD = 0.0001  # one of 10,000 images
CELLS = 8  # of the grid of true accuracies, per sd
REACH = 4 * CELLS  # how far the grid goes beyond the trials
MODE_STEP = CELLS // 2
MOST_MODES = 100  # between the best trial and the worst
ITERATIONS = 100  # of expectation maximization; more change the third digit
PSEUDO = 0.01  # trials added to each component, so that none dies out and the fit claims less
CHANCE = 0.05  # a trial with a larger chance to be better cannot be told apart


@dataclass(frozen=True)
class Noise:
    """What the seed alone does to a trial's accuracy.

    Attributes:
        sd: Standard deviation between seeds, as a fraction.
        words: How it is known, in a sentence.
        measured: Whether it is known from this search.
    """

    sd: float
    words: str
    measured: bool = True


def seed_noise(trials: pd.DataFrame) -> Noise:
    """The sd between seeds: pooled over repeated configurations, or the default.

    Args:
        trials: ``trials`` of a search. Complete trials with the same hyperparameters and different
            seeds are replicates.
    """
    names = list(HYPERPARAMETERS)
    complete = complete_trials(trials).drop_duplicates([*names, "seed"])
    groups = complete.groupby(names, dropna=False)["last_eval_accuracy"]
    sizes = groups.size()
    repeated, freedom = sizes[sizes > 1], int((sizes - 1).sum())
    if freedom < LEAST_FREEDOM:
        return Noise(
            DEFAULT_SD,
            f"Seeds alone make accuracies differ with a standard deviation of "
            f"{100 * DEFAULT_SD:.2f} points. This is assumed, from this project's comparisons of "
            "the CNN on MNIST, after 15 epochs: the search has too few replicates to measure it.",
            measured=False,
        )
    deviations = complete["last_eval_accuracy"] - groups.transform("mean")
    sd = max(float(np.sqrt((deviations**2).sum() / freedom)), SMALLEST_SD)
    count = "one configuration" if len(repeated) == 1 else f"{len(repeated)} configurations"
    return Noise(
        sd,
        f"Seeds alone make accuracies differ with a standard deviation of {100 * sd:.2f} points, "
        f"measured on {repeated.sum()} trials of {count}.",
    )


def shrink(trials: pd.DataFrame, sd: float) -> pd.DataFrame:
    """What the true accuracy of each complete trial may be.

    Args:
        trials: ``trials`` of a search.
        sd: Standard deviation between seeds, as a fraction (`seed_noise`).

    Returns:
        One row per complete trial, the likely best first: ``trial_id``; ``accuracy`` as measured;
        ``expected`` and ``sd``, mean and standard deviation of the posterior; ``p_best``, the
        probability that no other trial is better; ``p_better``, that it is better than the
        likely best; ``told_apart``, whether that is at most `CHANCE`. With fewer than two
        trials there is nothing to shrink, and all but ``accuracy`` are unknown.
    """
    complete = complete_trials(trials)
    accuracy = complete["last_eval_accuracy"].to_numpy(float)
    frame = pd.DataFrame({"trial_id": complete["trial_id"].to_numpy(), "accuracy": accuracy})
    if len(frame) < 2:
        return frame.assign(expected=np.nan, sd=np.nan, p_best=np.nan, p_better=np.nan).assign(
            told_apart=False
        )
    truth, chance = _posterior(accuracy, sd)
    expected = chance @ truth
    below = np.cumsum(chance, axis=1) - chance / 2  # P(a trial's truth is below each of `truth`)
    logs = np.log(np.maximum(below, np.finfo(float).tiny))
    p_best = (chance * np.exp(logs.sum(axis=0) - logs)).sum(axis=1)
    # With equal noise the most accurate trial, the first, is the likely best too.
    p_better = chance @ below[0]
    p_better[0] = 0
    spread = np.sqrt(np.maximum((chance * (truth - expected[:, None]) ** 2).sum(axis=1), 0))
    told_apart = p_better <= CHANCE
    told_apart[0] = False
    return frame.assign(
        expected=expected,
        sd=spread,
        p_best=p_best / p_best.sum(),
        p_better=p_better,
        told_apart=told_apart,
    )


def _posterior(accuracy: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """A grid of possible true accuracies, (cells,), and each trial's chances, (trials, cells)."""
    best, step = accuracy.max(), sd / CELLS
    span = int(np.ceil((best - accuracy.min()) / step))
    # Indices are edges of cells; the best trial lies on the edge `top`. No accuracy exceeds 1.
    top = span + REACH
    last = top + int(min(REACH, (1 - best) / step + 1e-6))
    edges = best + step * (np.arange(last + 1) - top)
    cdf = norm.cdf((edges - accuracy[:, None]) / sd)

    mode_step = max(MODE_STEP, span // MOST_MODES)
    modes = (top - mode_step * np.arange(span // mode_step + 2))[:, None]
    wide = CELLS // 2 * 2 ** np.arange(2 + int(np.ceil(np.log2(max(span / CELLS, 1) + 1))))
    above = np.concatenate([[CELLS // 4], wide[:3], wide[4::2]])
    low = np.maximum(np.hstack([modes - wide, np.repeat(modes, len(above), 1)]), 0)
    high = np.minimum(np.hstack([np.repeat(modes, len(wide), 1), modes + above]), last)
    width = np.maximum(high - low, 1)
    # (modes, trials, components): how likely each accuracy is under each uniform distribution.
    density = (cdf.T[high] - cdf.T[low]).transpose(0, 2, 1) / width[:, None]
    density = np.maximum(density, np.finfo(float).tiny)
    weights = np.full(width.shape, 1 / width.shape[1])
    for _ in range(ITERATIONS):
        mixed = np.einsum("mtc,mc->mt", density, weights)
        weights *= np.einsum("mtc,mt->mc", density, 1 / mixed)
        weights = (weights + PSEUDO) / (len(accuracy) + PSEUDO * width.shape[1])
    likelihood = np.log(np.einsum("mtc,mc->mt", density, weights)).sum(axis=1)
    weights *= np.exp(likelihood - likelihood.max())[:, None] / width

    prior = np.zeros(last + 1)
    np.add.at(prior, low, weights)
    np.subtract.at(prior, high, weights)
    chance = np.maximum(np.cumsum(prior)[:-1], 0) * np.diff(cdf)
    return (edges[:-1] + edges[1:]) / 2, chance / chance.sum(axis=1, keepdims=True)


def likely_best(frame: pd.DataFrame) -> str:
    """The answer of a search in sentences.

    Args:
        frame: From `shrink`.
    """
    if frame.empty:
        return "No trial is complete yet, so there is no best one."
    first, others = frame.iloc[0], len(frame) - 1
    if not others:
        return (
            f"Only {first['trial_id']} is complete, so there is nothing to compare it with and "
            "its accuracy is not shrunk."
        )
    alike = others - int(frame["told_apart"].sum())
    rest = f"{alike} of the {others} other complete trials cannot be told apart from it"
    if others == 1:
        rest = f"the other complete trial can{'not' if alike else ''} be told apart from it"
    return (
        f"Likely best: {first['trial_id']} with probability {first['p_best']:.2f}; {rest}. Expect "
        f"{first['expected']:.2%} from a new seed, on the validation images."
    )
