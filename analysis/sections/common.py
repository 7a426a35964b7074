"""Figures and phrases that the sections of several comparisons share."""

from __future__ import annotations

from analysis import comparison_frames as frames
from analysis.evidence import Compared
from analysis.parts import Exhibit, panels, single
from analysis.plots import comparison as plots
from study.results.estimates import OVER_SEEDS

WIDE = (11.0, 3.9)


def replicates(compared: Compared) -> str:
    """E.g. ``n = 10 seeds``, or ``n = 3 to 10 seeds`` if the arms differ."""
    counts = compared.trials.groupby("arm").size()
    low, high = counts.min(), counts.max()
    return f"n = {low} seeds" if low == high else f"n = {low} to {high} seeds"


def by_epoch(compared: Compared, name: str, title: str, arms: str = "") -> Exhibit:
    """Accuracy after each epoch.

    Args:
        compared: A comparison with a complete trial.
        name: The figure's name.
        title: Its heading.
        arms: What the arms are, if their names do not say it.
    """
    frame = compared.accuracy_by_epoch
    return Exhibit(
        name,
        title,
        f"Accuracy on the {compared.images} images{arms}. Thin lines: single seeds. Thick line: "
        f"mean. Band: {OVER_SEEDS} ({replicates(compared)}). The axis is logarithmic in the error.",
        frame,
        single(plots.plot_accuracy_by_arm, frame),
    )


def to_target(compared: Compared, name: str) -> Exhibit:
    """Steps, images and seconds until `analysis.comparison_frames.TARGET` is reached."""
    reached = compared.to_target
    count = int(reached["epoch"].notna().sum())
    return Exhibit(
        name,
        f"Steps, images and seconds until {frames.TARGET:.0%} accuracy",
        "Each is counted to the end of the first epoch with at least this accuracy on the "
        f"{compared.images} images. One point per seed ({replicates(compared)}). Bar: median. "
        f"{count} of {len(reached)} runs reached it. The axes are logarithmic.",
        reached,
        panels(plots.plot_to_target, reached, 3),
        WIDE,
    )
