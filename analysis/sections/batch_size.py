"""The figures of the batch-size comparison, with their captions."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import comparison_frames as frames
from analysis import paper, places
from analysis.evidence import Compared
from analysis.parts import Exhibit, panels, single
from analysis.plots import batch_size as plots
from analysis.sections.common import WIDE, by_epoch, replicates, to_target
from study.results.estimates import OVER_SEEDS, over_seeds, show


def loss_by_batch(compared: Compared) -> Exhibit | None:
    """The headline: the paper's Fig. 2 with several seeds. None if no step losses were kept."""
    curves = compared.loss_curves
    if curves.empty:
        return None
    sds = curves.groupby("arm", sort=False)[["level_sd", "noise_sd"]].median()
    words = "; ".join(
        f"batch {arm}: {row.level_sd:.1g} and {row.noise_sd:.1g}" for arm, row in sds.iterrows()
    )
    return Exhibit(
        places.LOSS_BY_BATCH.name,
        "Training loss at each batch size, by steps, images seen and seconds",
        "Dots: single steps of one seed. Line: mean of the smoothed curves. Band: lowest to "
        f"highest seed ({replicates(compared)}). The first epoch is smoothed separately, so the "
        "line breaks at its end. The break is not a change in the training. The smoother is a "
        "local-level Kalman smoother. Its two standard deviations, for the level's change per step "
        "and for the noise, are fitted by maximum likelihood (in nats, median over seeds): "
        f"{words}.",
        curves,
        panels(plots.plot_loss_by_batch, curves, 3, share_y=True),
        WIDE,
    )


def of_batch_size(compared: Compared) -> Iterator[Exhibit]:
    """All figures of the comparison. The headline comes first."""
    if headline := loss_by_batch(compared):
        yield headline
    yield by_epoch(
        compared,
        places.ACCURACY_BY_EPOCH.name,
        f"Accuracy on the {compared.images} images after each epoch",
    )
    rows = compared.loss_noise
    if len(rows):
        slopes = over_seeds(frames.noise_slope(rows)["slope"])
        yield Exhibit(
            places.LOSS_NOISE.name,
            "Scatter of the step losses at each batch size",
            "Standard deviation of the full batches' losses in the last epoch, around a straight "
            f"line fitted to them. One point per seed ({replicates(compared)}). Dashed: slope "
            "-1/2, which averaging over more images alone would give. Fitted slope: "
            f"{show(slopes, '{:.2f}')} ({OVER_SEEDS}).",
            rows,
            single(plots.plot_loss_noise, rows),
            (6.0, 4.2),
        )
    yield to_target(compared, "to_target")
    scale, critical = compared.noise_scale, compared.critical_batch_size
    if len(scale):
        also = (
            f" Fitting steps = S + E / B to the steps until {frames.TARGET:.0%} accuracy gives "
            f"E / S: a critical batch size of {show(critical, '{:,.0f}')} images ({critical.kind})."
            if critical
            else ""
        )
        yield Exhibit(
            places.NOISE_SCALE.name,
            "How noisy the gradient is: the batch size beyond which more images hardly help",
            "Simple noise scale (McCandlish et al. 2018) after each epoch. It is estimated from "
            "the squared length of the gradient of 64 and of 2,048 images, without dropout. Band: "
            f"95% bootstrap interval over seeds ({replicates(compared)}). It is "
            f"missing after epochs for which 2,048 images give no upper end.{also}",
            scale,
            single(plots.plot_noise_scale, scale, paper.CRITICAL_BATCH_SIZE),
        )
    rate = frames.throughput(compared)
    devices = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    yield Exhibit(
        places.THROUGHPUT.name,
        "Training images per second",
        f"One point per seed ({replicates(compared)}). Device: {devices}. The time of the "
        "evaluation is left out.",
        rate,
        single(plots.plot_throughput, rate),
        (6.0, 4.0),
    )
