"""The answer of a search: its likely best trial, in a title, a sentence and a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import search_frames
from analysis.parts import Exhibit, single
from analysis.plots import search as plots
from study.results.shrinkage import likely_best, seed_noise
from study.results.tables import StudyResults
from study.results.trials import in_words

MOST_DRAWN = 20  # trials


def title(study: StudyResults) -> str:
    """The likely best configuration, as a heading."""
    shrunk = search_frames.shrunk(study)
    if len(shrunk) < 2:
        return "A search that has no answer yet"
    return f"Likely best: {configuration(study, shrunk.iloc[0])}"


def configuration(study: StudyResults, trial: pd.Series) -> str:
    """E.g. ``batch 64, lr 0.5, gamma 0.7, width 2``: what the search varied."""
    return in_words({name: trial[name] for name in ("batch_size", *search_frames.searched(study))})


def sentence(study: StudyResults) -> str:
    """The answer, with the gain over the paper's configuration if that is among the trials."""
    shrunk = search_frames.shrunk(study)
    if len(shrunk) < 2:
        return likely_best(shrunk)
    first, others = shrunk.iloc[0], shrunk.iloc[1:]
    alike = int((~others["told_apart"]).sum())
    return (
        f"The likely best configuration is that of {first['trial_id']}: expect "
        f"{first['expected']:.2%} from a new seed, on the validation images"
        f"{_gain(first, others)}; it is the best of {len(shrunk)} complete trials with probability "
        f"{first['p_best']:.2f}, and {alike} of the {len(others)} others cannot be told apart "
        "from it."
    )


def _gain(first: pd.Series, others: pd.DataFrame) -> str:
    if first["paper"]:
        return " (it is the paper's own)"
    if not others["paper"].any():
        return ""
    paper = others[others["paper"]].iloc[0]
    gain, sd = first["expected"] - paper["expected"], np.hypot(first["sd"], paper["sd"])
    return (
        f", {100 * gain:.2f} points (standard deviation {100 * sd:.2f}) more than from the paper's "
        f"({paper['trial_id']})"
    )


def explanation(study: StudyResults) -> str:
    """What the likely best is and why less is expected than was measured; may be empty."""
    shrunk = search_frames.shrunk(study)
    if len(shrunk) < 2:
        return ""
    first, n = shrunk.iloc[0], study.study.num_evaluated
    return (
        f"{first['trial_id']} has {configuration(study, first)}. It reached "
        f"{first['accuracy']:.2%}, with one seed, on the same {n:,} images that select it. The "
        "most accurate of many trials is partly the luckiest, so less is expected from it: what "
        "an empirical Bayes estimate from all complete trials leaves. "
        f"{seed_noise(study.trials).words} The probabilities and standard deviations speak of new "
        "seeds on the same images, not of new images. A search opens no test set."
    )


def picture(study: StudyResults) -> Exhibit | None:
    """Each complete trial's accuracy as measured and as expected; None for fewer than two."""
    shrunk = search_frames.shrunk(study)
    if len(shrunk) < 2:
        return None
    frame = shrunk[(np.arange(len(shrunk)) < MOST_DRAWN) | shrunk["paper"]]
    which = f"The best {len(frame)}" if len(frame) < len(shrunk) else f"All {len(frame)}"
    return Exhibit(
        "likely_best",
        "Which trial is likely the best",
        f"{which} complete trials (one seed each). Open circle: accuracy on the validation images "
        "after the last epoch. Filled: what to expect from a new seed. Bar: that expectation plus "
        "and minus two posterior standard deviations, which cover new seeds on the same images. "
        "In brackets: the probability that the trial is the best. Grey: told apart from the "
        "likely best. The axis is logarithmic in the error.",
        frame,
        single(plots.plot_likely_best, frame),
        (7.5, 1.6 + 0.28 * len(frame)),
    )
