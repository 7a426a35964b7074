"""Splits a loss curve into level and noise with a local-level Kalman smoother.

The paper filtered its batch-32 curve with a Kalman filter, without saying which one. Here the
loss is a random walk (the level) observed through independent noise. Both variances are
estimated by maximum likelihood (Durbin & Koopman 2012, chapter 2). The logarithm is not smoothed:
its mean falls as the noise grows, so levels at two batch sizes could not be compared.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from statsmodels.tsa.statespace.structural import UnobservedComponents

MIN_STEPS = 5  # shorter curves are not smoothed


@dataclass(frozen=True)
class Level:
    """A smoothed curve.

    Attributes:
        smoothed: The level given all losses, in nats per example, (n,).
        level_sd: Standard deviation of the level's change per step, in nats.
        noise_sd: Standard deviation of the noise, in nats.
    """

    smoothed: np.ndarray
    level_sd: float
    noise_sd: float


def local_level(losses: np.ndarray) -> Level:
    """Smooth the losses of consecutive steps, (n,)."""
    losses = np.asarray(losses, float)
    if len(losses) < MIN_STEPS or not np.isfinite(losses).all():
        return Level(losses, np.nan, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised if a fit ends at a variance of zero
        # statsmodels has no types.
        fit: Any = UnobservedComponents(losses, "local level").fit(disp=False)  # pyright: ignore[reportArgumentType]
    noise, level = fit.params
    return Level(fit.smoothed_state[0], float(np.sqrt(level)), float(np.sqrt(noise)))


def loss_level(losses: np.ndarray, first_epoch: int) -> Level:
    """Like `local_level`, but the first epoch is smoothed separately.

    The variances are those of the later steps. The loss first falls steeply and then wanders. With
    one variance for both, the level would follow the noise in all later steps.

    Args:
        losses: One per step, (n,).
        first_epoch: Number of steps in the first epoch.
    """
    if len(losses) <= first_epoch:
        return local_level(losses)
    first, later = local_level(losses[:first_epoch]), local_level(losses[first_epoch:])
    smoothed = np.concatenate([first.smoothed, later.smoothed])
    return Level(smoothed, later.level_sd, later.noise_sd)
