"""The section on what mattered in a search: its hyperparameters, one by one and together."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis import search_frames
from analysis.course_frames import best_so_far, rungs, stopped, survival, timeline
from analysis.fanova import fanova
from analysis.importance import FEWEST_TRIALS, importance, leader
from analysis.mattered_frames import by_gamma_and_width, cells, isolation, varied
from analysis.parts import Exhibit, Section, Table, renamed, single
from analysis.plots import mattered as plots
from analysis.plots.cells import plot_cells
from analysis.plots.course import plot_best_so_far, plot_survival, plot_timeline
from analysis.plots.parallel import plot_parallel
from analysis.plots.tuning_curve import plot_tuning_curve
from analysis.tuning_curve import MOST_TRIALS, is_independent, tuning_curve
from study.config.hyperparameters import HYPERPARAMETERS
from study.results.tables import StudyResults

STOPPED_SHOWN = 20


def make_section(study: StudyResults, prefix: str) -> Section:
    """The section on what mattered. The names of its figures and tables begin with `prefix`."""
    title = f"What mattered: {study.study.config.name}"
    ranked = importance(study)
    made = [
        _by_hyperparameter(study),
        _parallel(study),
        _importance(ranked, fanova(study)),
        _cells(study, ranked),
        _isolation(study),
        _lr_by_batch_size(study),
        _best_so_far(study),
        _tuning_curve(study),
    ]
    if rungs(study):
        made.append(_survival(study))
    made.append(_timeline(study))
    made = [exhibit for exhibit in made if len(exhibit.frame)]
    tables = [table for table in [_stopped_trials(study, prefix)] if len(table.frame)]
    return Section(f"{prefix}mattered", title, [_in_words(ranked)], renamed(made, prefix), tables)


def _in_words(ranked: pd.DataFrame) -> str:
    if ranked.empty:
        return "The search varied no hyperparameter."
    known = ranked.dropna(subset="importance")
    if known.empty:
        return (
            "Too few trials to rank the hyperparameters: at least "
            f"{FEWEST_TRIALS} with a result are needed."
        )
    if (first := leader(ranked)) is None:
        return (
            "Too few trials to rank the hyperparameters: the interval of the most important one "
            "overlaps another's, or reaches what chance explains "
            f"(n = {known['trials'].iloc[0]} trials)."
        )
    row = known.iloc[0]
    return (
        f"What mattered most for reaching the best quarter of the trials: "
        f"{HYPERPARAMETERS[first].label}. Alone it explains {row['importance']:.0%} "
        f"[{row['low']:.0%}, {row['high']:.0%}] of who is in it (95% bootstrap interval over "
        f"n = {row['trials']} trials)."
    )


def _by_hyperparameter(study: StudyResults) -> Exhibit:
    space = varied(study)
    frame = search_frames.trial_map(study.trials)[: None if space else 0]
    return Exhibit(
        "by_hyperparameter",
        "Every trial against each hyperparameter",
        f"The validation error of each of the {len(frame)} trials after its last epoch, against "
        f"{_listed(space)}. A pruned trial ran for fewer epochs, so its error is that of an "
        "earlier epoch. Marks on the upper edge have no finite result. All hyperparameters change "
        "from trial to trial, and the sampler may try good values more often. So a slope in one "
        "panel can be due to another hyperparameter.",
        frame,
        lambda figure: plots.plot_by_hyperparameter(frame, space, figure),
        plots.grid_size(len(space)),
    )


def _parallel(study: StudyResults) -> Exhibit:
    space = varied(study)
    frame = search_frames.trial_map(study.trials)[: None if len(space) > 1 else 0]
    lacking = [name for name in space if study.trials[name].isna().any()]
    none = f" A trial without {_listed(lacking)} passes at none." if lacking else ""
    return Exhibit(
        "parallel",
        "Every trial as a line",
        f"One line for each of the {len(frame)} trials: its {_listed(space)}, each on the scale "
        "that it was drawn on, and the validation error after its last epoch. The colour is the "
        "rank of that error; the three best complete trials are thick. A trial that is not "
        "complete is faint and dashed, and its error is that of an earlier epoch; without a "
        f"finite result it is red and ends at the top.{none} Bundles of lines can show what good "
        "trials have in common, or only what the sampler tried often.",
        frame,
        lambda figure: plot_parallel(frame, space, figure),
        (2 + 1.7 * (len(space) + 1), 5),
    )


def _cells(study: StudyResults, ranked: pd.DataFrame) -> Exhibit:
    names = ranked.dropna(subset="importance")["hyperparameter"].head(2).tolist()
    drawn = len(names) > 1
    frame = cells(study, *names) if drawn else pd.DataFrame()
    trials = search_frames.trial_map(study.trials)
    trials = trials.dropna(subset=names)
    space = {name: varied(study)[name] for name in names}
    return Exhibit(
        "cells",
        f"Error over {_listed(names)}",
        "The two hyperparameters with the highest importance by PED-ANOVA; if their intervals "
        "overlap those of others, chance had a part in this choice. The colour of a cell is the "
        "median of the last validation errors of its complete trials, the number how many these "
        "are, of how many tried. A hatched cell has no complete trial: its colour is the median "
        "of the trials that were stopped earlier. Cells without a result are empty. Marks: the "
        f"n = {len(trials)} trials, round if complete, in the colour of their own error, red "
        "without a finite one. "
        "The other hyperparameters differ between the cells, and a cell of few trials can be "
        "good or bad by luck or because of them.",
        frame,
        single(plot_cells, frame, trials, space),
        (8, 5.5),
    )


def _importance(ranked: pd.DataFrame, of_forest: pd.DataFrame) -> Exhibit:
    methods = {'PED-ANOVA: of "is in the best quarter"': ranked, "fANOVA: of the rank": of_forest}
    both = pd.concat([each.assign(method=method) for method, each in methods.items()])
    frame = both.dropna(subset="importance")
    missing = ranked.loc[ranked["importance"].isna(), "hyperparameter"]
    few = f"fewer than {FEWEST_TRIALS} trials with a result"
    not_shown = f" Not shown, with {few}: {_listed(missing)}." if len(missing) else ""
    return Exhibit(
        "importance",
        "Importance of each hyperparameter",
        "How much of a variance each hyperparameter explains alone. PED-ANOVA: of the variance of "
        '"is in the best quarter", less what chance explains, so 0 means no more than chance. '
        "fANOVA: of the variance of the rank among all trials, by a random forest; this is not "
        "corrected for chance, so a share above 0 does not show an effect. Bars: 95% bootstrap "
        "intervals over the trials (n at the left), as if each were drawn independently; a sampler "
        "that learns from earlier trials does not do so, and its intervals are rough. If intervals "
        "of one method overlap, there are too few trials to rank the two. An effect that shows "
        "only in combination with another hyperparameter is not seen. Diverged trials count as "
        "the worst."
        f"{not_shown}",
        frame,
        single(plots.plot_importance, frame),
        (7.5, 1.6 + 0.75 * frame["hyperparameter"].nunique()),
    )


def _isolation(study: StudyResults) -> Exhibit:
    frame, space = isolation(study), varied(study)
    return Exhibit(
        "isolation",
        "Best trial of each part of the space",
        "The lowest last validation error in each bucket of each hyperparameter, whatever the "
        "others were. The number is how many trials were tried there: the best of many is lower "
        "by luck alone. Ranges are cut into five buckets. A bucket with few trials is not shown "
        "to be bad, and a pruned trial might have become better.",
        frame,
        lambda figure: plots.plot_isolation(frame, space, figure),
        plots.grid_size(len(space)),
    )


def _lr_by_batch_size(study: StudyResults) -> Exhibit:
    space = varied(study)
    rows, columns = plots.facets(space)
    # With one panel it would repeat the figure of every hyperparameter.
    drawn = "lr" in space and len(rows) * len(columns) > 1
    frame = by_gamma_and_width(study)[: None if drawn else 0]
    return Exhibit(
        "lr_by_batch_size",
        "Learning rate by batch size, for each gamma and width",
        f"The last validation error of the {len(frame)} trials against their learning rate, apart "
        "by gamma and width (the number of trials is above each panel). The colour is the batch "
        "size. Marks on the upper edge have no finite result. A panel with few trials says "
        "little.",
        frame,
        lambda figure: plots.plot_lr_by_batch_size(frame, space, figure),
        (1.4 + 2.8 * len(columns), 1.4 + 2.2 * len(rows)),
    )


def _best_so_far(study: StudyResults) -> Exhibit:
    frame = best_so_far(study.trials)
    no_band = (
        ""
        if is_independent(study)
        else " What to expect of more trials is not drawn: that needs independent draws, without "
        "early stopping."
    )
    return Exhibit(
        "best_so_far",
        "Best so far",
        f"The last validation error of the {len(frame)} trials in the order in which they were "
        "proposed. Line: the best complete trial so far. The seconds of trials that ran at the "
        "same time are added up. The line can only fall, by luck too. So a last step down is no "
        f"proof of progress.{no_band}",
        frame,
        lambda figure: plot_best_so_far(frame, figure),
        (10, 4.5),
    )


def _tuning_curve(study: StudyResults) -> Exhibit:
    frame = tuning_curve(study)
    return Exhibit(
        "tuning_curve",
        "Error to expect of the best of so many trials",
        "If the search were repeated with this many independent draws from the same space: the "
        f"median of the best trial's validation error, from n = {len(frame)} trials (the "
        f"first {MOST_TRIALS} at most). Band: it "
        "holds the whole line with a probability of 95% (simultaneous, Learned-Miller and "
        "DeStefano, equal-tailed). It speaks of new draws and new seeds, not of new images. "
        "At the lower edge the trials do not bound it. The best of many is partly luck, so expect "
        "a little more on new images. Without the first trial, which was not drawn, and failed "
        "ones; a diverged one has an error of 100%.",
        frame,
        single(plot_tuning_curve, frame),
    )


def _survival(study: StudyResults) -> Exhibit:
    frame = survival(study)
    return Exhibit(
        "rung_survival",
        "Trials that reached each rung",
        f"How many of the {len(study.trials)} trials ran at least this many epochs. At each "
        "of them but the last, a trial was pruned if its accuracy was below the best third of "
        "what other trials had reported there before it. Larger batches take fewer steps in an "
        "epoch, so early rungs can stop a batch size, or a gamma, before it shows what it can do. "
        "Whether a pruned trial would have become good is not known.",
        frame,
        single(plot_survival, frame),
    )


def _timeline(study: StudyResults) -> Exhibit:
    frame = timeline(study)
    rows = frame["slot"].nunique()
    return Exhibit(
        "timeline",
        "When each trial ran",
        "A bar per trial, as long as it ran; if it was interrupted, one for each part. Hollow bars "
        "are trials that did not run to the end. Gaps are time in which a slot trained nothing. "
        "Time in which no slot did, such as that between two sessions, is cut out. Which slot a "
        "trial had is not recorded: each trial is drawn in the first row that was free.",
        frame,
        single(plot_timeline, frame),
        (9, 1.6 + 0.35 * rows),
    )


def _stopped_trials(study: StudyResults, prefix: str) -> Table:
    frame = stopped(study)
    shown = frame.head(STOPPED_SHOWN)
    return Table(
        f"{prefix}stopped_trials",
        f"Why trials were pruned: the {len(shown)} of {len(frame)} that came furthest. Each has "
        "its accuracy at the rung, the best third of the other trials that reached the rung, and "
        "its rank among all of them, as known at the end of the search. When it was judged, only "
        "those before it counted; the tables do not hold that order.",
        frame,
        pd.DataFrame(
            {
                "trial": shown["trial_id"],
                "batch size": shown["batch_size"].astype(str),
                "why it was stopped": shown["reason"],
            }
        ),
    )


def _listed(names: Iterable[str]) -> str:
    labels = [HYPERPARAMETERS[name].label for name in names]
    return (
        " and ".join([", ".join(labels[:-1]), labels[-1]]) if len(labels) > 1 else "".join(labels)
    )
