"""How much of the trials' ranks each hyperparameter explains: functional ANOVA of a forest.

Hutter, Hoos and Leyton-Brown (ICML 2014), as Optuna has it: a random forest is fitted to all
trials, and the variance of its predictions is divided among the hyperparameters. PED-ANOVA
(`analysis.importance`) asks who is among the best; this asks about good and bad trials alike. The
shares are not corrected for chance: a forest fits noise, too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

from analysis.importance import FEWEST_TRIALS, as_frame, ranked_trials
from analysis.intervals import SEED
from analysis.mattered_frames import place, varied
from study.results.estimates import LEVEL
from study.results.tables import StudyResults

TREES = 32
DEPTH = 6  # bounds the time that many trials take
# More draws or trees hardly change the intervals, and each takes time.
DRAWS, TREES_OF_A_DRAW = 25, 8


def fanova(study: StudyResults) -> pd.DataFrame:
    """The share of the variance of the trials' ranks that each hyperparameter explains alone.

    Ranks and not errors: one diverged trial would otherwise have most of the variance, and the
    last errors of pruned trials are those of other epochs. Each hyperparameter is given to the
    forest on its own scale; choices are equally far apart, in order.

    Returns:
        One row per hyperparameter, with the columns, trials and order of
        `analysis.importance.importance`. ``low`` to ``high`` is a 95% bootstrap interval over
        trials: the normal one, since there are few draws.
    """
    ranked = ranked_trials(study)
    ranks = ranked["score"].rank()
    space = varied(study)
    places = pd.DataFrame({name: place(ranked[name], each) for name, each in space.items()})
    rng = np.random.default_rng(SEED)
    # Those that only some optimizers have are judged among the trials that have them.
    together: dict[tuple[bool, ...], list[str]] = {}
    for name in space:
        together.setdefault(tuple(places[name].notna()), []).append(name)
    rows = []
    for names in together.values():
        own = places.dropna(subset=names).dropna(axis="columns")
        x, y, n = own.to_numpy(), ranks[own.index].to_numpy(), len(own)
        share = half = np.full(x.shape[1], np.nan)
        if np.isfinite(ranked.loc[own.index, "score"]).sum() >= FEWEST_TRIALS:
            share = _shares(x, y, TREES)
            drawn = [rng.integers(0, n, n) for _ in range(DRAWS)]
            of_draws = [_shares(x[draw], y[draw], TREES_OF_A_DRAW) for draw in drawn]
            half = norm.ppf((1 + LEVEL) / 2) * np.std(of_draws, axis=0, ddof=1)
        low, high = np.clip([share - half, share + half], 0, 1)
        of_each = zip(own.columns, share, low, high, strict=True)
        rows += [(str(name), n, *numbers) for name, *numbers in of_each if name in names]
    return as_frame(rows)


def _shares(places: np.ndarray, ranks: np.ndarray, trees: int) -> np.ndarray:
    """The share of each hyperparameter; 0 if all ranks are equal, or the forest tells none apart.

    Args:
        places: From 0 to 1: (trials, hyperparameters).
        ranks: Of the trials: (trials,).
        trees: Of the forest.
    """
    import optuna

    columns = [str(column) for column in range(places.shape[1])]
    if np.ptp(ranks) == 0:
        return np.zeros(len(columns))
    space = dict.fromkeys(columns, optuna.distributions.FloatDistribution(0, 1))
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    optuna.logging.set_verbosity(before)
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(zip(columns, row, strict=True)), distributions={**space}, value=rank
        )
        for row, rank in zip(places.tolist(), ranks.tolist(), strict=True)
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(
        n_trees=trees, max_depth=DEPTH, seed=SEED
    )
    try:
        shares = evaluator.evaluate(study)
    except RuntimeError:  # no tree has any variance
        return np.zeros(len(columns))
    return np.array([shares[column] for column in columns])
