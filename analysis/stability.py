"""Finds the epoch from which on an accuracy is stable."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.intervals import bootstrap
from study.results.estimates import Estimate

CANDIDATES_PER_EPOCH = 10  # places of the change point that are tried


def change_point(accuracy: np.ndarray) -> np.ndarray:
    """Epoch at which a rising straight line meets a flat one, by least squares.

    Args:
        accuracy: After epochs 1, 2, …, (..., epochs).

    Returns:
        A place from the second to the last epoch, (...). All places between the first two epochs
        fit equally well; the second epoch is returned for them.
    """
    epochs = np.arange(1, accuracy.shape[-1] + 1, dtype=float)
    first = epochs[:2].max()
    count = CANDIDATES_PER_EPOCH * int(epochs[-1] - first) + 1
    candidates = np.linspace(first, epochs[-1], count)
    hinge = np.minimum(epochs - candidates[:, None], 0)
    design = np.stack([np.ones_like(hinge), hinge], -1)
    # Maps accuracies to the residuals of each candidate's fit: I - X X^+, (candidates, n, n).
    rest = np.eye(len(epochs)) - design @ np.linalg.pinv(design)
    misfit = (np.tensordot(accuracy, rest, (-1, 1)) ** 2).sum(-1)
    return candidates[misfit.argmin(-1)]


def settled_epoch(accuracy: np.ndarray, margin: float) -> int:
    """First epoch from which on every accuracy is within `margin` of the last one."""
    far = np.flatnonzero(np.abs(accuracy - accuracy[-1]) > margin)
    return int(far[-1]) + 2 if len(far) else 1


def stable_epoch(
    by_epoch: pd.DataFrame, rng: np.random.Generator, margin: float
) -> tuple[Estimate, Estimate]:
    """The change point and the settled epoch of an arm's mean accuracy, with intervals over seeds.

    Args:
        by_epoch: An arm's rows of `analysis.comparison_frames.accuracy_by_epoch`.
        rng: For the bootstrap.
        margin: See `settled_epoch`; a fraction.

    Returns:
        The change point (see `change_point`) and the settled epoch (see `settled_epoch`).
    """
    wide = by_epoch.pivot(index="replicate", columns="epoch", values="accuracy")
    wide = wide.dropna().to_numpy()
    if not len(wide):
        none = Estimate(np.nan, np.nan, np.nan, 0, "")
        return none, none

    def settled(chosen: np.ndarray) -> np.ndarray:
        return np.apply_along_axis(settled_epoch, -1, wide[chosen].mean(-2), margin)

    return (
        bootstrap(lambda chosen: change_point(wide[chosen].mean(-2)), len(wide), rng),
        bootstrap(settled, len(wide), rng),
    )
