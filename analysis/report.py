"""Pictures and a page of a study: ``python -m analysis.report results/NAME``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import pandas as pd

from analysis import figures, frames
from study.config import UserError
from study.files import replacing
from study.results import StudyResults, load_study, rank_trials

BEST_SHOWN = 10
EPILOG = """example:
  python -m analysis.report results/NAME
      writes results/NAME/report/index.html, and beside it each picture as PNG with
      the numbers it shows as CSV
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: Of its files, without suffix.
        title: Its heading.
        caption: What is drawn, with the n and the kind of each band or interval.
        frame: The numbers it shows.
        draw: The `analysis.figures` function that draws them.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    draw: Any


def make_pictures(study: StudyResults) -> list[Picture]:
    """The figures of a study, computed but not yet drawn."""
    trials, n = study.trials, num_validation(study)
    best = frames.best_trials(trials)
    which = (
        "the best trial of each batch size, one seed each, with the learning rate, gamma and "
        "width that it had"
    )
    return [
        Picture(
            "trial_map",
            "All trials",
            f"All {len(trials)} trials by learning rate and batch size; the lane within a batch "
            "size is the width, the colour is the validation error after the trial's last epoch. "
            "A pruned trial ran fewer epochs than a complete one, so its error is the error of "
            "an earlier time. Red: no finite result. gamma is not shown.",
            frames.trial_map(trials),
            figures.plot_trial_map,
        ),
        Picture(
            "accuracy_by_epoch",
            "Accuracy by epoch",
            f"Validation accuracy after each epoch. Colour: {which}; grey: the other trials. "
            f"Bars at the end: 95 % Wilson intervals (n = {n:,} validation images); they leave "
            "out the luck of the seed and of having been selected as best.",
            frames.accuracy_by_epoch(study.epochs, trials, n),
            figures.plot_accuracy_by_epoch,
        ),
        Picture(
            "loss_by_epoch",
            "Loss by epoch",
            f"Of {which}. Training loss is the mean over the epoch while dropout acts and the "
            "weights still change; validation loss is taken after the epoch without dropout. "
            "So the training loss can lie above.",
            frames.loss_by_epoch(study.epochs, best),
            figures.plot_loss_by_epoch,
        ),
        Picture(
            "loss_by_step",
            "Loss by step",
            f"Training loss of {which}. Line: mean over windows of steps, equally wide on this "
            "axis; band: 10th to 90th percentile of the single steps' losses in a window (their "
            "spread, not an uncertainty). A step of a larger batch sees more images.",
            frames.loss_by_step(study.steps, best),
            figures.plot_loss_by_step,
        ),
    ]


def num_validation(study: StudyResults) -> int:
    """Images in the study's validation split."""
    return study.study["data"]["split"]["validation"]


def write_report(study: StudyResults, folder: Path) -> Path:
    """Write the pictures, their numbers and the page that shows them.

    Returns:
        The page, ``index.html`` in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = make_pictures(study)
    for picture in pictures:
        figure, axes = figures.new_axes()
        picture.draw(picture.frame, ax=axes)
        with replacing(folder / f"{picture.name}.png") as file:
            figure.savefig(file, dpi=150, format="png")
        _write_csv(picture.frame, folder / f"{picture.name}.csv")
    summary = frames.summary_by_batch_size(study.trials, num_validation(study))
    _write_csv(summary, folder / "by_batch_size.csv")
    page = folder / "index.html"
    with replacing(page) as file:
        file.write(render_page(study, pictures, summary).encode())
    return page


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    with replacing(path) as file:
        frame.to_csv(file, index=False)


def render_page(study: StudyResults, pictures: list[Picture], summary: pd.DataFrame) -> str:
    """The page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = partial(_format, "{:.2%}")
    environment.filters["figures"] = partial(_format, "{:.4g}")
    environment.filters["nats"] = partial(_format, "{:.4f}")
    trials = study.trials
    ranked = rank_trials(trials[trials["last_val_accuracy"].notna()])
    lost = trials[trials["status"].isin(["diverged", "failed"])]
    return environment.get_template("report.html.j2").render(
        study=study.study,
        config=study.study["config"],
        session=study.study["sessions"][-1],
        n=num_validation(study),
        counts=trials["status"].value_counts().to_dict(),
        total=len(trials),
        hours=trials["seconds"].sum() / 3600,
        devices=sorted(trials["device"].dropna().unique()),
        precisions=sorted(trials["precision"].dropna().unique()),
        best=ranked.head(BEST_SHOWN).to_dict("records"),
        by_batch_size=summary.to_dict("records"),
        lost=lost.to_dict("records"),
        pictures=pictures,
    )


def _format(template: str, value: float) -> str:
    return "" if pd.isna(value) else template.format(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Draw a study's results and write a page that shows them. Works while the "
        "study runs, too: with what its tables hold so far.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, help="folder of a study, e.g. results/NAME")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write (default: STUDY/report)"
    )
    args = parser.parse_args(argv)
    mpl.use("agg")
    try:
        study = load_study(args.study)
        folder = args.output or args.study / "report"
        try:
            page = write_report(study, folder)
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); choose another --output"
            ) from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {page}, and its pictures and numbers beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
