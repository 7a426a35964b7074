"""Names of the figures and tables that claims point to, each with the question it answers."""

from __future__ import annotations

from dataclasses import dataclass

from study.config.questions import BATCH_SIZE, MODELS, REGULARIZATION, TRAINING_SIZE, Question


@dataclass(frozen=True)
class Place:
    """A figure or table of the page.

    Attributes:
        name: The name of its files, and its anchor.
        question: The question it answers; None if it answers all or none.
    """

    name: str
    question: Question | None = None


def by_arm(question: Question) -> Place:
    """The table of each arm's results."""
    prefix = "" if question is BATCH_SIZE else f"{question.name}_"
    return Place(f"{prefix}by_arm", question)


def regularization(model: str) -> Place:
    """The figure of dropout and batch norm in a network."""
    return Place(f"regularization_{model}", REGULARIZATION)


def layers(model: str) -> Place:
    """The table of a network's layers."""
    return Place(f"layers_{model}")


DIFFERENCES = Place("differences")
LOSS_BY_BATCH = Place("loss_by_batch", BATCH_SIZE)
ACCURACY_BY_EPOCH = Place("accuracy_by_epoch", BATCH_SIZE)
LOSS_NOISE = Place("loss_noise", BATCH_SIZE)
NOISE_SCALE = Place("noise_scale", BATCH_SIZE)
THROUGHPUT = Place("throughput", BATCH_SIZE)
RELIABILITY = Place("reliability", BATCH_SIZE)
CONFIDENCES = Place("confidences", BATCH_SIZE)
ERROR_OVERLAP = Place("error_overlap", BATCH_SIZE)
MODELS_TO_TARGET = Place("models_to_target", MODELS)
LEARNING_CURVE = Place("learning_curve", TRAINING_SIZE)
