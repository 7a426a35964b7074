"""The paper's loop as a Ray Tune study with default settings; run by `benchmarks.study`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ray import tune

from benchmarks.reference import ReportLoop, loader_splits
from study.cluster import joining
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES


def train_report(config: dict[str, Any]) -> None:
    """Run one trial, which loads the data itself and reports each epoch."""
    torch.manual_seed(config["seed"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = loader_splits(Path(config["data_dir"]), NUM_TRAIN_EXAMPLES)
    loop = ReportLoop(config["model"], config["batch_size"], data, device)
    for _ in range(config["epochs"]):
        start = time.perf_counter()
        loop.train()
        accuracy = loop.evaluate()
        loop.scheduler.step()
        seconds = time.perf_counter() - start
        tune.report(
            {"eval_accuracy": accuracy, "epoch_seconds": seconds, "epoch_ended": time.time()}
        )


def main() -> None:
    """Run the command. Its only argument is JSON."""
    options = json.loads(sys.argv[1])
    gpus = 1 if torch.cuda.is_available() else 0
    joining.connect(None)  # on loopback only
    tune.Tuner(
        tune.with_resources(train_report, {"cpu": 1, "gpu": gpus}),
        param_space={**options, "seed": tune.grid_search(list(range(options["trials"])))},
        tune_config=tune.TuneConfig(metric="eval_accuracy", mode="max"),
        run_config=tune.RunConfig(name="report", storage_path=options["folder"]),
    ).fit()


if __name__ == "__main__":
    main()
