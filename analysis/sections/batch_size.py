"""The figures of the batch size."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import comparison_frames as frames
from analysis import paper, places
from analysis.evidence import Compared
from analysis.intervals import mean_interval, show
from analysis.parts import Exhibit, panels, single
from analysis.plots import batch_size as plots
from analysis.sections.common import RESULT, WIDE, by_epoch, replicates, to_target


def loss_by_batch(compared: Compared) -> Exhibit | None:
    """The report's Fig. 2 with seeds: the headline; None where no step's loss was kept."""
    curves = compared.loss_curves
    if curves.empty:
        return None
    sds = curves.groupby("arm", sort=False)[["level_sd", "noise_sd"]].median()
    words = "; ".join(
        f"batch {arm}: {row.level_sd:.1g} and {row.noise_sd:.1g}" for arm, row in sds.iterrows()
    )
    return Exhibit(
        places.LOSS_BY_BATCH.name,
        "Training loss at each batch size, by steps, by images seen, and by seconds",
        f"Dots: single steps of one seed. Line: mean of the smoothed curves, band: lowest to "
        f"highest seed ({replicates(compared)}). The first epoch is smoothed by itself, so the "
        "line breaks at its end. Smoothed by a local-level Kalman smoother; standard deviations "
        "of its level a step and of its noise, by maximum likelihood, in nats (median over "
        f"seeds): {words}.",
        curves,
        panels(plots.plot_loss_by_batch, curves, 3, share_y=True),
        WIDE,
    )


def of_batch_size(compared: Compared) -> Iterator[Exhibit]:
    """The figures, the headline first."""
    if headline := loss_by_batch(compared):
        yield headline
    yield by_epoch(
        compared,
        places.ACCURACY_BY_EPOCH.name,
        f"Accuracy on the {compared.images} images after each epoch",
    )
    rows = compared.loss_noise
    if len(rows):
        slopes = mean_interval(frames.noise_slope(rows)["slope"])
        yield Exhibit(
            places.LOSS_NOISE.name,
            "A smoother curve is what averaging more images gives",
            "Standard deviation of the full batches' losses in the last epoch around their own "
            f"straight line, a point a seed ({replicates(compared)}). Dashed: slope -1/2. Fitted "
            f"slope: {show(slopes, '{:.2f}')} ({RESULT}).",
            rows,
            single(plots.plot_loss_noise, rows),
            (6.0, 4.2),
        )
    yield to_target(compared, "to_target")
    scale, critical = compared.noise_scale, compared.critical_batch_size
    if len(scale):
        also = (
            f" From steps to {frames.TARGET:.0%} follows a critical batch size of "
            f"{show(critical, '{:,.0f}')} images (steps = S + E / B; bootstrap over seeds)."
            if critical
            else ""
        )
        yield Exhibit(
            places.NOISE_SCALE.name,
            "How noisy the gradient is: the batch size beyond which more images hardly help",
            "Simple noise scale (McCandlish et al. 2018) after each epoch, from the gradient's "
            "squared length at 64 and at 2 048 images, without dropout. Band: 95 % bootstrap "
            f"interval over seeds ({replicates(compared)}).{also}",
            scale,
            single(plots.plot_noise_scale, scale, paper.CRITICAL_BATCH_SIZE),
        )
    rate = frames.throughput(compared)
    devices = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    yield Exhibit(
        places.THROUGHPUT.name,
        "Training images a second",
        f"A point a seed ({replicates(compared)}), each trial on a core or GPU of its own "
        f"({devices}); evaluation left out.",
        rate,
        single(plots.plot_throughput, rate),
        (6.0, 4.0),
    )
