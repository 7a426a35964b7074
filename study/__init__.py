"""Search and training of the study.

Words used everywhere, without synonyms:

* **study**: one search over a space, with one objective.
* **trial**: one training run in a study.
* **epoch**: one pass over the training split, counted from 1.
* **step**: one optimizer update.
* **example**: one image.
* **status** of a trial: ``complete``, ``pruned`` (stopped early by the
  scheduler), ``diverged`` (non-finite loss), ``failed`` (an error) or
  ``interrupted`` (the study was stopped before the trial ended; resuming
  continues it).

Losses are mean cross-entropy in nats per example, accuracies are fractions.
"""
