"""``study.run`` that also logs when each epoch ended, in the file that Ray's own loggers use."""

from __future__ import annotations

import json
import sys
from typing import Any

from study import run
from study.results.storage import RAY_FOLDER
from study.search import session


class TimedCallback(session.ProgressCallback):
    """Appends a line to the trial's ``result.json`` after each epoch."""

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Ray's hook."""
        super().on_trial_result(iteration, trials, trial, result, **info)
        file = self.storage.folder / RAY_FOLDER / trial.trial_id / "result.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as log:
            log.write(
                json.dumps({name: result[name] for name in ("epoch_seconds", "epoch_ended")}) + "\n"
            )


if __name__ == "__main__":
    session.ProgressCallback = TimedCallback
    sys.exit(run.main())
