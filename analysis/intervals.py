"""Intervals for what a study measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

LEVEL = 0.95


def wilson(accuracy: pd.Series, n: int) -> pd.DataFrame:
    """95 % Wilson score intervals of accuracies measured on `n` examples.

    They cover the chance of which examples were drawn, for one fixed model: not
    the chance of another seed, and not the selection of a best trial.

    Args:
        accuracy: Fractions, multiples of 1 / n; not-a-number stays so.
        n: Examples each was measured on.

    Returns:
        Columns ``low`` and ``high``, with the index of `accuracy`.
    """
    bounds = [
        binomtest(round(value * n), n).proportion_ci(LEVEL, method="wilson")
        if np.isfinite(value)
        else (np.nan, np.nan)
        for value in accuracy
    ]
    return pd.DataFrame(bounds, columns=["low", "high"], index=accuracy.index, dtype=float)
