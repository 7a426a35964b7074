"""Judges claims C1 to C8, on the batch size (section II.A of the paper)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis import comparison_frames as frames
from analysis import paper
from analysis.evidence import Compared, Evidence, batch_arms
from analysis.intervals import (
    PERCENT,
    POINTS,
    SEED,
    TIMES,
    bootstrap,
    equivalence_p,
    prediction_interval,
    probability_above,
    ratio_interval,
    wilson,
)
from analysis.verdicts import (
    CONTRADICTED,
    NOT_DISTINGUISHABLE,
    REPRODUCED,
    Finding,
    NoEvidence,
    contains,
    direction,
    finding,
    needed,
    used,
)
from study.results.estimates import Estimate, over_seeds, show

SAME_TREND = 0.9  # a rank correlation above this counts as the same trend


def c1(evidence: Evidence) -> Finding:
    """The batch sizes that were compared."""
    agree = paper.BATCH_SIZES_IN_ABSTRACT == paper.BATCH_SIZES_IN_BODY
    verdict = REPRODUCED if agree else CONTRADICTED
    compared, (a, b) = needed(batch_arms(evidence, 64, 32))
    return finding(
        verdict,
        frames.points(compared, a, b),
        POINTS,
        estimate="of accuracy, 64 minus 32",
        why="The abstract and the body of the paper name different batch sizes. All three are run "
        "here. The estimate is the difference in final accuracy between the two smaller ones.",
        trials=used(compared, a, b),
    )


def c2(evidence: Evidence) -> Finding:
    """The accuracy that the CNN reached."""
    compared, (arm,) = needed(batch_arms(evidence, paper.BATCH_SIZE))
    e = prediction_interval(compared.of_arm(arm)["last_eval_accuracy"])
    gap = paper.ACCURACY - paper.ACCURACY_IN_ABSTRACT
    verdict = CONTRADICTED if gap > (e.high - e.low) / 2 else NOT_DISTINGUISHABLE
    inside = contains(e, paper.ACCURACY) == REPRODUCED
    low, high = wilson(pd.Series([paper.ACCURACY]), paper.NUM_TEST_IMAGES).iloc[0]
    wilson_words = f"{paper.ACCURACY:.2%} [{100 * low:.2f}, {100 * high:.2f}]"
    return finding(
        verdict,
        e,
        PERCENT,
        estimate="for one run at batch 512",
        why="The paper's two numbers differ by one image. The verdict is about this difference: "
        "it is contradicted only if it is larger than the scatter of runs with different seeds. "
        f"{paper.ACCURACY:.2%} is {'inside' if inside else 'outside'} the interval for one run. "
        f"Its own 95% Wilson interval, over {paper.NUM_TEST_IMAGES:,} images, is {wilson_words}.",
        trials=used(compared, arm),
    )


def c3(evidence: Evidence) -> Finding:
    """Both batch sizes reach the same accuracy."""
    compared, (a, b) = needed(batch_arms(evidence, 32, 512))
    both = frames.pairs(compared, a, b)
    difference = 100 * (both["a"] - both["b"])
    e, p = over_seeds(difference), equivalence_p(difference, frames.MARGIN)
    apart = e.low > 0 or e.high < 0
    verdict = REPRODUCED if p < 0.05 else CONTRADICTED if apart else NOT_DISTINGUISHABLE
    return finding(
        verdict,
        e,
        POINTS,
        estimate="of accuracy, 32 minus 512",
        why=f"Means that differ by less than {frames.MARGIN} points count as equal. Two one-sided "
        f"t tests of this give p = {p:.2g}. The number of epochs is equal, so batch 32 takes 16 "
        "times as many steps. C4 is about the same difference.",
        trials=used(compared, a, b),
    )


def c4(evidence: Evidence) -> Finding:
    """The smaller batch generalizes better."""
    compared, (a, b) = needed(batch_arms(evidence, 32, 512))
    both = frames.pairs(compared, a, b)
    above = probability_above(both["a"], both["b"])
    e = frames.points(compared, a, b)
    return finding(
        direction(e),
        e,
        POINTS,
        estimate="of accuracy, 32 minus 512",
        why="Both use the paper's learning rate, which was not tuned for either batch size. In "
        f"{above:.0%} of all pairs of runs (ties count half) the one at 32 is more accurate. The "
        "work that the paper cites calls batches of up to 512 small. Its large batch is a tenth "
        "of the training images, which is 6,000 here.",
        trials=used(compared, a, b),
    )


def c5(evidence: Evidence) -> Finding:
    """The larger batch trains faster."""
    compared, (a, b) = needed(batch_arms(evidence, 512, 32))
    both = frames.pairs(compared, a, b, "seconds")
    e = ratio_interval(both["a"], both["b"])
    device = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    return finding(
        direction(e, 1, above=False),
        e,
        TIMES,
        estimate="the seconds of batch 32",
        why=f"The seconds are those of {compared.config.epochs} epochs with evaluation, on "
        f"{device}. The paper's own loop also loads images one by one and rewrites a file at each "
        "step.",
        trials=used(compared, a, b),
    )


def c6(evidence: Evidence) -> Finding:
    """The larger batch's loss curve is smoother."""
    compared, (a, b) = needed(batch_arms(evidence, 32, 512))
    wide = compared.loss_noise.pivot(index="replicate", columns="arm", values="sd")
    if wide.empty or not {a, b} <= set(wide):
        raise NoEvidence
    wide = wide[[a, b]].dropna()
    e = ratio_interval(wide[a], wide[b])
    return finding(
        direction(e, 1),
        e,
        TIMES,
        estimate="as much noise in the step losses at 32 as at 512",
        why="The noise is the scatter of the step losses in the last epoch. Averaging over 16 "
        "times as many images would by itself reduce it by a factor of 4.",
        trials=used(compared, a, b),
    )


def c7(evidence: Evidence) -> Finding:
    """The critical batch size is about 8,000."""
    compared, (arm,) = needed(batch_arms(evidence, paper.BATCH_SIZE))
    by_epoch = compared.noise_scale[compared.noise_scale["arm"] == arm]
    if by_epoch.empty:
        raise NoEvidence
    inside = by_epoch[
        (by_epoch["low"] <= paper.CRITICAL_BATCH_SIZE)
        & (by_epoch["high"] >= paper.CRITICAL_BATCH_SIZE)
    ]
    last = by_epoch.iloc[-1]
    verdict = CONTRADICTED if inside.empty else NOT_DISTINGUISHABLE
    e = Estimate(
        last["noise_scale"],
        last["low"],
        last["high"],
        int(last["n"]),
        "95% bootstrap interval over seeds",
    )
    low, high = by_epoch["noise_scale"].min(), by_epoch["noise_scale"].max()
    top = f"{high:,.0f}" if np.isfinite(high) else "values too large for 2,048 images to measure"
    return finding(
        verdict,
        e,
        "{:,.0f} images",
        estimate=f"after the last epoch (over all epochs: {low:,.0f} to {top})",
        why="This is the gradient's simple noise scale (McCandlish et al. 2018). It estimates the "
        "batch size beyond which more images per step hardly help. The paper's number is for "
        "ImageNet (Goyal et al. 2017)."
        + f" It is inside the interval after {len(inside)} of the {len(by_epoch)} epochs."
        + _critical_words(compared),
        trials=used(compared, arm),
    )


def _critical_words(compared: Compared) -> str:
    """A sentence on the critical batch size that follows from the steps until the target."""
    e = compared.critical_batch_size
    if e is None:
        return ""
    return (
        f" A fit to the steps until {frames.TARGET:.0%} accuracy gives a critical batch size of "
        f"{show(e, '{:,.0f}')} images."
    )


def c8(evidence: Evidence) -> Finding:
    """After filtering, the small batch's curve has the same trend as the large batch's."""
    compared, (a, b) = needed(batch_arms(evidence, 32, 512))
    curves = compared.loss_curves
    at = {arm: _at_equal_examples(curves[curves["arm"] == arm]) for arm in (a, b)}
    if not (shared := sorted(set(at[a]) & set(at[b]))):
        raise NoEvidence
    left, right = (np.stack([at[arm][k] for k in shared]) for arm in (a, b))

    def correlation(chosen: np.ndarray) -> float:
        rho: Any = spearmanr(left[chosen].mean(0), right[chosen].mean(0))
        return float(rho.statistic)

    e = bootstrap(
        lambda chosen: np.apply_along_axis(correlation, -1, chosen),
        len(shared),
        np.random.default_rng(SEED),
    )
    ratio = float(np.exp(np.log(left.mean(0) / right.mean(0)).mean()))
    return finding(
        direction(e, SAME_TREND),
        e,
        "{:.3f}",
        estimate="is the rank correlation of the two smoothed curves at equal numbers of images",
        why="Both curves are smoothed by a local-level Kalman smoother with maximum-likelihood "
        "variances. The paper does not say which Kalman filter it used. The trend counts as the "
        f"same if the interval is above {SAME_TREND}. The curves are not the same: on average the "
        f"loss at batch 32 is {ratio:.2f} times that at 512.",
        trials=used(compared, a, b),
    )


def _at_equal_examples(curves: pd.DataFrame) -> dict[int, np.ndarray]:
    """Each replicate's smoothed loss at common numbers of examples."""
    grid = np.linspace(5_000, curves["examples"].max(), 100)
    return {
        int(k): np.interp(grid, curve["examples"], curve["smoothed"])  # pyright: ignore[reportArgumentType] -- a group key
        for k, curve in curves.groupby("replicate")
    }
