"""Estimates the gradient's noise scale and the critical batch size.

McCandlish et al. (2018), "An empirical model of large-batch training": equation 2.9 for the
simple noise scale, appendix A.1 for estimating it from squared gradient norms at two batch
sizes, equation 2.11 for the steps as a function of the batch size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from analysis.compared import ComparedTables
from analysis.intervals import bootstrap
from study.results.estimates import Estimate

SMALL_BATCH = 64  # as in study.training.noise_scale, which imports torch
BIG_BATCH = 2048


def gradient_moments(
    small: np.ndarray, big: np.ndarray, num_train: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased trace of the per-example gradient covariance, and squared length of the mean.

    Args:
        small: Squared norms of the gradient of `SMALL_BATCH` examples.
        big: The same for `BIG_BATCH` examples, drawn without replacement.
        num_train: Training images. Drawing without replacement from so few reduces the noise.

    Returns:
        ``tr(Sigma)`` and ``|G|^2``, shaped like the arguments.
    """
    trace = (small - big) / (1 / SMALL_BATCH - 1 / BIG_BATCH)
    squared = (BIG_BATCH * big - SMALL_BATCH * small) / (BIG_BATCH - SMALL_BATCH)
    return trace, squared + trace / num_train


def noise_scale_by_epoch(compared: ComparedTables, rng: np.random.Generator) -> pd.DataFrame:
    """The simple noise scale ``tr(Sigma) / |G|^2`` after each epoch.

    Both are averaged over the replicates before dividing. An average of ratios would be biased.

    Returns:
        One row per arm and epoch: ``noise_scale`` (images) with ``low`` and ``high`` (95%
        bootstrap over seeds) and ``n``.
    """
    epochs = compared.epochs().dropna(subset=["grad_sq_small", "grad_sq_big"])
    trace, squared = gradient_moments(
        epochs["grad_sq_small"].to_numpy(), epochs["grad_sq_big"].to_numpy(), compared.num_train
    )
    epochs = epochs.assign(trace=trace, squared=squared)
    rows = []
    for (arm, epoch), group in epochs.groupby(["arm", "epoch"], sort=False):
        e = ratio_of_means(group["trace"].to_numpy(), group["squared"].to_numpy(), rng)
        rows.append(
            {
                "arm": arm,
                "epoch": epoch,
                "noise_scale": e.value,
                "low": e.low,
                "high": e.high,
                "n": e.n,
            }
        )
    return pd.DataFrame(rows, columns=["arm", "epoch", "noise_scale", "low", "high", "n"])


def ratio_of_means(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Estimate:
    """Mean of `a` divided by mean of `b`; infinite if the latter is not positive."""

    def ratio(chosen: np.ndarray) -> np.ndarray:
        above, below = a[chosen].mean(-1), b[chosen].mean(-1)
        return np.divide(above, below, out=np.full_like(above, np.inf), where=below > 0)

    return bootstrap(ratio, len(a), rng)


def critical_batch_size(reached: pd.DataFrame, rng: np.random.Generator) -> Estimate | None:
    """``E_min / S_min`` of the curve ``S = S_min + E_min / B``, fitted to the steps until a target.

    Args:
        reached: From `analysis.comparison_frames.to_target`.
        rng: For the bootstrap over replicates.

    Returns:
        The batch size (images) up to which twice the batch takes about half the steps. None if
        fewer than three batch sizes reached the target in all replicates.
    """
    wide = reached.pivot_table(index="replicate", columns="batch_size", values="step", dropna=False)
    wide = wide.dropna(axis=1).dropna()
    sizes = wide.columns.to_numpy(float)
    if len(sizes) < 3 or wide.empty:
        return None
    steps = wide.to_numpy(float)

    def fit(chosen: np.ndarray) -> float:
        mean = steps[chosen].mean(0)
        # The errors are relative, because the arms' steps differ by orders of magnitude.
        (s_min, e_min), _ = nnls(np.stack([1 / mean, 1 / (sizes * mean)], 1), np.ones(len(mean)))
        return float(e_min / s_min) if s_min > 0 else np.inf

    return bootstrap(lambda chosen: np.apply_along_axis(fit, -1, chosen), len(steps), rng)
