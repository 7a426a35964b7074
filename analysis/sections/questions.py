"""The figures of each built-in comparison."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import comparison_frames as frames
from analysis import places
from analysis.evidence import Compared
from analysis.parts import Exhibit, single
from analysis.plots import comparison as plots
from analysis.sections.batch_size import of_batch_size
from analysis.sections.common import by_epoch, replicates, to_target
from study.config.questions import BATCH_SIZE, MODELS, REGULARIZATION, SCHEDULE, TRAINING_SIZE
from study.results.estimates import OVER_SEEDS


def of_models(compared: Compared) -> Iterator[Exhibit]:
    """The two networks."""
    yield by_epoch(compared, "models_by_epoch", "Accuracy of the two networks after each epoch")
    yield to_target(compared, places.MODELS_TO_TARGET.name)


def of_schedule(compared: Compared) -> Iterator[Exhibit]:
    """The learning rate's decay."""
    arms = " with a decaying (gamma 0.7) and with a constant learning rate"
    title = "Accuracy with and without a decay of the learning rate, after each epoch"
    yield by_epoch(compared, "stable_epoch", title, arms)


def of_regularization(compared: Compared) -> Iterator[Exhibit]:
    """Dropout and batch norm, each on and off: one figure per network."""
    names = {"cnn": "CNN", "resnet18": "ResNet18"}  # the paper's; another keeps its own name
    for model in compared.trials["model"].unique():
        rows = (
            compared.trials[compared.trials["model"] == model]
            .rename(columns={"last_eval_accuracy": "accuracy"})[
                ["dropout", "batch_norm", "replicate", "accuracy"]
            ]
            .dropna()
        )
        effects = frames.interaction(compared, model)
        words = "; ".join(
            f"{e.effect} {e.value:z.2f} [{e.low:z.2f}, {e.high:z.2f}]" for e in effects.itertuples()
        )
        yield Exhibit(
            places.regularization(model).name,
            f"Dropout and batch norm in the {names.get(model, model)}",
            f"Final accuracy on the {compared.images} images. Thin lines: single seeds "
            f"({replicates(compared)}). Thick lines: means. Effects in points, with their "
            f"{OVER_SEEDS}: {words or 'unknown, because not all four combinations were run'}.",
            rows,
            single(plots.plot_regularization, rows),
            (5.5, 4.2),
        )


def of_training_size(compared: Compared) -> Iterator[Exhibit]:
    """The error as a function of the number of training images."""
    rows = compared.trials[["train_examples", "replicate"]].assign(
        error=1 - compared.trials["last_eval_accuracy"]
    )
    rows = rows[rows["train_examples"].gt(0).fillna(False)]  # a trial may have lost it
    yield Exhibit(
        places.LEARNING_CURVE.name,
        "Error against the number of training images",
        f"Final error on the {compared.images} images after {compared.config.epochs} epochs. One "
        f"point per seed ({replicates(compared)}). Each seed has its own training subset. "
        "Fewer images also mean fewer steps. Dashed: a power law fitted to the points.",
        rows,
        single(plots.plot_learning_curve, rows),
        (6.0, 4.2),
    )


def of_any(compared: Compared) -> Iterator[Exhibit]:
    """The figure of a comparison that has no figures of its own."""
    title = f"Accuracy on the {compared.images} images after each epoch"
    yield by_epoch(compared, "by_epoch", title)


OF_QUESTION = {
    BATCH_SIZE.name: of_batch_size,
    MODELS.name: of_models,
    SCHEDULE.name: of_schedule,
    REGULARIZATION.name: of_regularization,
    TRAINING_SIZE.name: of_training_size,
}
