"""Studies of two networks on MNIST: searches, comparisons and confirmations.

Words used everywhere, without synonyms:

* **study**: what a results folder holds: a **search** (Optuna proposes the trials), a
  **comparison** (fixed configurations, several seeds each), or one of the two studies that confirm
  a search: its **finalists** (its best configurations with fresh seeds) and the **final** runs (the
  chosen one and the paper's on the test images).
* **trial**: one training run in a study.
* **arm** of all studies but searches: one fixed configuration; **replicate**: one seed of an arm.
* **session**: one run of the command that makes or continues a study; **slot**: room for one
  trial.
* **epoch**: one pass over the training images, counted from 1; **step**: one optimizer update;
  **example**: one image.
* **evaluated** images: validation or test, as the protocol says.
* **status** of a trial: ``complete``, ``pruned`` (stopped early by the scheduler), ``diverged``
  (non-finite loss), ``failed`` (an error) or ``interrupted`` (resuming continues it).

Losses are mean cross-entropy in nats per example, accuracies are fractions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.calls import run_comparison, run_search
    from study.results.tables import load_study
    from study.training.export import load_model

__all__ = ["load_model", "load_study", "run_comparison", "run_search"]

_HOMES = {
    "load_model": "study.training.export",
    "load_study": "study.results.tables",
    "run_comparison": "study.calls",
    "run_search": "study.calls",
}


def __getattr__(name: str) -> Any:
    """What `__all__` names, imported at its first use: torch, ray and pandas take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
