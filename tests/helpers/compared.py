"""Write made-up comparisons: tables like those of a real one, with known effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.evidence import Compared
from study.config.comparison import ComparisonConfig
from study.files import write_json
from study.results.history import History
from study.results.predictions import load_predictions, write_predictions
from study.results.study_file import FORMAT_VERSIONS
from study.results.tables import load_study, write_tables

NUM_TRAIN, NUM_IMAGES, EPOCHS = 10_000, 200, 6


SPLIT = {"train": 1000, "validation": 200, "evaluated": "validation"}


def study_content(config, split=None):
    """The content of ``study.json`` for a study with one session."""
    session = {
        "started": "2026-01-01T00:00:00+00:00",
        "command": "-m study.compare made-up",
        "address": None,
        "nodes": 1,
        "concurrent_trials": 2,
        "gpus_per_trial": 0.0,
        "host": "a-host",
        "python": "3.11.2",
        "versions": {"ray": "2.60.0"},
        "git": None,
    }
    return {
        "format_version": FORMAT_VERSIONS[-1],
        "kind": config.kind,
        "config": config.to_json(),
        "data": {"dataset": config.dataset, "split": split or SPLIT},
        "sessions": [session],
    }


def accuracy_of(settings, replicate):
    """The final accuracy: known effects of the settings, and a small effect of the seed."""
    value = 0.90
    value += 0.05 * (settings.get("model") == "resnet18")
    value += 0.02 * bool(settings.get("dropout")) + 0.01 * bool(settings.get("batch_norm"))
    value += {32: 0.01, 64: 0.015, 512: 0.0}.get(settings.get("batch_size", 512), 0)
    value += 0.01 * np.log2(settings.get("train_examples", 10_000) / 10_000) / 4
    return value + 0.002 * np.sin(3 * replicate + len(str(settings)))


def write_comparison(
    folder: Path, arms, *, replicates=4, failed=(), protocol="paper", dataset="mnist"
) -> Compared:
    """A comparison with 200 evaluated images. The trials in `failed` (arm, replicate) are lost."""
    folder.mkdir(parents=True, exist_ok=True)
    config = ComparisonConfig(
        folder.name,
        "A question?",
        arms,
        replicates=replicates,
        epochs=EPOCHS,
        protocol=protocol,
        dataset=dataset,
    )
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 10, NUM_IMAGES)
    hard = rng.permutation(
        NUM_IMAGES
    )  # the images that are missed first are the same for every seed
    rows, histories, log_p = [], {}, {}
    for number, point in enumerate(config.points):
        trial_id = f"trial_{number:05d}"
        trial = config.trial_config(point, number)
        lost = (point["arm"], point["replicate"]) in failed
        rows.append(
            {
                "trial_id": trial_id,
                "status": "failed" if lost else "complete",
                "evaluated": config.evaluated,
                **vars(trial),
                **point,
            }
        )
        if lost:
            continue
        final = accuracy_of(arms[point["arm"]], point["replicate"])
        histories[trial_id] = history(trial, final, rng)
        wrong = hard[: round((1 - final) * NUM_IMAGES)]
        log_p[trial_id] = made_up_predictions(labels, wrong, rng)
    split = {"train": NUM_TRAIN, "validation": NUM_IMAGES, "evaluated": config.evaluated}
    write_json(folder / "study.json", study_content(config, split))
    write_tables(folder, rows, histories)
    write_predictions(folder, np.arange(NUM_IMAGES), labels, log_p)
    return Compared(load_study(folder), load_predictions(folder))


def history(trial, final, rng) -> History:
    """Accuracy rises linearly until epoch 4, then stays. Losses scatter by 1/sqrt(B)."""
    size = min(trial.batch_size, NUM_TRAIN)
    sizes = [min(size, NUM_TRAIN - at) for at in range(0, NUM_TRAIN, size)]
    accuracies = [final - 0.1 * max(4 - e, 0) for e in range(1, EPOCHS + 1)]
    levels = [2.0 / e for e in range(1, EPOCHS + 1)]
    losses = [
        (level + rng.normal(0, 1.6 / np.sqrt(size), len(sizes))).clip(1e-3).astype(np.float32)
        for level in levels
    ]
    noise, squared = 50.0, 0.1 / 2  # tr(Sigma), |G|^2: a noise scale of 1000
    epochs = [
        {
            "epoch": e,
            "step": e * len(sizes),
            "examples_seen": e * NUM_TRAIN,
            "epoch_lr": trial.lr * trial.gamma ** (e - 1),
            "train_loss": float(np.average(losses[e - 1], weights=sizes)),
            "eval_loss": 2 * (1 - accuracies[e - 1]),
            "eval_accuracy": accuracies[e - 1],
            "epoch_seconds": 2.0 + 60 / size,
            "eval_seconds": 0.5,
            "epoch_ended": 100.0 * e,
            "grad_sq_small": squared + noise / 64,
            "grad_sq_big": squared + noise / 2048,
        }
        for e in range(1, EPOCHS + 1)
    ]
    facts = {
        "num_params": 10,
        "precision": "fp32",
        "node": "n",
        "device": "a processor",
        "dropout": bool(trial.dropout),
        "batch_norm": bool(trial.batch_norm),
        "train_examples": trial.train_examples or NUM_TRAIN,
    }
    return History(epochs, losses, sizes, facts)


def made_up_predictions(labels, wrong, rng):
    """Log-probabilities, float16: confident if right, less confident if wrong."""
    logits = rng.normal(0, 1, (len(labels), 10))
    said = labels.copy()
    said[wrong] = (labels[wrong] + 1) % 10
    logits[np.arange(len(labels)), said] += np.where(said == labels, 12, 8)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert (log_p.argmax(1) == said).all()
    return log_p.astype(np.float16)
