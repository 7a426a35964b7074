"""Searches whose accuracies follow from their hyperparameters by a known rule."""

from __future__ import annotations

from pathlib import Path

from study.config.search import SearchConfig
from study.config.space import default_space, distribution, space_of, space_to_json
from study.results.study_file import StudyFile
from study.results.tables import StudyResults, as_table
from study.search.samplers import at

TWO_OPTIMIZERS = {
    **default_space("adadelta", "sgd"),
    "optimizer": distribution("optimizer", ["adadelta", "sgd"]),
    "momentum": distribution("momentum", [0.0, 0.99]),
    "weight_decay": distribution("weight_decay", [1e-6, 1e-2]),
}


def planted(count, rng, accuracy, space=None, epochs=1) -> StudyResults:
    """A random search, all of it complete.

    Args:
        count: Number of trials.
        rng: Draws the hyperparameters.
        accuracy: Gives the last accuracy. Its argument is the place of each hyperparameter in
            the search space, from 0 to 1.
        space: The search space; the default one if omitted.
        epochs: Epochs of each trial.
    """
    config = SearchConfig(
        "planted",
        space_to_json(space or default_space("adadelta")),
        num_samples=max(1, count),
        epochs=epochs,
    )
    rows = []
    for number in range(count):
        places = {name: rng.random() for name in config.space}
        params = {name: at(each, places[name]) for name, each in space_of(config).items()}
        applied = config.draws(params)
        rows.append(
            {
                "trial_id": f"trial_{number:05d}",
                "status": "complete",
                "model": "cnn",
                "dataset": "mnist",
                "optimizer": "adadelta",
                **{name: params[name] for name in applied},
                "epochs": epochs,
                "seed": number,
                "epochs_run": epochs,
                "steps_run": 0,
                "last_eval_accuracy": accuracy(places),
                "last_eval_loss": 1.0,
                "seconds": 1.0,
            }
        )
    tables = {name: as_table(name, []) for name in ("epochs", "steps")}
    return StudyResults(
        Path("planted"), StudyFile.of(config, None, ()), as_table("trials", rows), **tables
    )
