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
    places = pd.DataFrame({n: place(ranked[n], each) for n, each in varied(study).items()})
    rng = np.random.default_rng(SEED)
    # Those that only some optimizers have are judged among the trials that have them.
    together: dict[tuple[bool, ...], list[str]] = {}
    for name in places:
        together.setdefault(tuple(places[name].notna()), []).append(name)
    rows = []
    for names in together.values():
        own = places.dropna(subset=names).dropna(axis="columns")
        y, n = ranks[own.index].to_numpy(), len(own)
        value, half = {}, {}
        if np.isfinite(ranked.loc[own.index, "score"]).sum() >= FEWEST_TRIALS:
            value = _shares(own, y, TREES)
            drawn = [rng.integers(0, n, n) for _ in range(DRAWS)]
            shares = pd.DataFrame([_shares(own.iloc[i], y[i], TREES_OF_A_DRAW) for i in drawn])
            half = norm.ppf((1 + LEVEL) / 2) * shares.std()
        for name in names:
            share, wide = value.get(name, np.nan), half.get(name, np.nan)
            low, high = np.clip([share - wide, share + wide], 0, 1)
            rows.append((name, n, share, low, high))
    return as_frame(rows)


def _shares(places: pd.DataFrame, ranks: np.ndarray, trees: int) -> dict[str, float]:
    """The share of each column of `places`; 0 if all ranks are equal."""
    import optuna

    if np.ptp(ranks) == 0:
        return dict.fromkeys(places, 0.0)
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in places}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    optuna.logging.set_verbosity(before)
    study.add_trials(
        optuna.trial.create_trial(params=params, distributions=space, value=rank)
        for params, rank in zip(places.to_dict("records"), ranks, strict=True)
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=SEED)
    return {name: float(share) for name, share in evaluator.evaluate(study).items()}
