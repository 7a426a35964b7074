"""From which epoch on an accuracy no longer moves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.intervals import Estimate, bootstrap

CANDIDATES_AN_EPOCH = 10  # places of the change point that are tried


def change_point(accuracy: np.ndarray) -> float:
    """Epoch at which a rising straight line meets a flat one, by least squares.

    Args:
        accuracy: After epochs 1, 2, …, (epochs,).

    Returns:
        A place between the first and the last epoch.
    """
    epochs = np.arange(1, len(accuracy) + 1, dtype=float)
    count = CANDIDATES_AN_EPOCH * (len(accuracy) - 1) + 1
    candidates = np.linspace(epochs[0], epochs[-1], count)[1:]

    def misfit(at: float) -> float:
        hinge = np.minimum(epochs - at, 0)
        design = np.stack([np.ones_like(epochs), hinge], 1)
        rest = accuracy - design @ np.linalg.lstsq(design, accuracy, rcond=None)[0]
        return float(rest @ rest)

    return float(min(candidates, key=misfit))


def settled_epoch(accuracy: np.ndarray, margin: float) -> int:
    """First epoch from which on every accuracy lies within `margin` of the last one."""
    far = np.flatnonzero(np.abs(accuracy - accuracy[-1]) > margin)
    return int(far[-1]) + 2 if len(far) else 1


def stable_epoch(
    by_epoch: pd.DataFrame, rng: np.random.Generator, margin: float
) -> tuple[Estimate, Estimate]:
    """Both answers for an arm's mean accuracy, with intervals over seeds.

    Args:
        by_epoch: An arm's rows of `analysis.arms.accuracy_by_epoch`.
        rng: Of the bootstrap.
        margin: See `settled_epoch`, a fraction.

    Returns:
        The change point and the settled epoch.
    """
    wide = by_epoch.pivot(index="replicate", columns="epoch", values="accuracy")
    wide = wide.dropna().to_numpy()
    if not len(wide):
        none = Estimate(np.nan, np.nan, np.nan, 0, "")
        return none, none
    n = len(wide)
    return (
        bootstrap(lambda chosen: change_point(wide[chosen].mean(0)), n, rng),
        bootstrap(lambda chosen: float(settled_epoch(wide[chosen].mean(0), margin)), n, rng),
    )
