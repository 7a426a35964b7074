"""The section on what mattered in a search: its hyperparameters, one by one and together."""

from __future__ import annotations

from collections.abc import Iterable

from analysis import search_frames
from analysis.mattered_frames import varied
from analysis.parts import Exhibit, Section, renamed
from analysis.plots import mattered as plots
from study.config.hyperparameters import HYPERPARAMETERS
from study.results.tables import StudyResults


def make_section(study: StudyResults, prefix: str) -> Section:
    """The section on what mattered. The names of its figures and tables begin with `prefix`."""
    made = [_by_hyperparameter(study)] if varied(study) else []
    title = f"What mattered: {study.study.config.name}"
    return Section(f"{prefix}mattered", title, [], renamed(made, prefix))


def _by_hyperparameter(study: StudyResults) -> Exhibit:
    frame, space = search_frames.trial_map(study.trials), varied(study)
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


def _listed(names: Iterable[str]) -> str:
    labels = [HYPERPARAMETERS[name].label for name in names]
    return " and ".join([", ".join(labels[:-1]), labels[-1]]) if len(labels) > 1 else labels[0]
