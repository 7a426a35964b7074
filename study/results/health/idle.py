"""How much of the time the slots trained."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.console.text import command_line
from study.results.health.card import NOT_APPLICABLE, PASS, WARN, Card
from study.results.tables import StudyResults, in_seconds

# At the end of a search slots wait for the last trial. In the default search of 40 trials on two
# slots that is less than a tenth of the time.
USED = 0.75


def check(results: StudyResults) -> Card:
    """WARN if the slots, each a GPU or a CPU core, waited more than a quarter of the time."""
    epochs = results.epochs.dropna(subset=["epoch_ended"])
    epochs = epochs[epochs["epoch_seconds"].between(0, float("inf"), inclusive="left")]
    if epochs.empty:
        why = "The tables do not say when the trials ran."
        return Card("idle slots", NOT_APPLICABLE, why)
    end = in_seconds(epochs["epoch_ended"])
    sessions = sorted(results.study.sessions, key=lambda session: session.started_at)
    later = [session.started_at for session in sessions[1:]]
    in_session = pd.Series(np.searchsorted(later, end), epochs.index)
    parts = epochs.assign(end=end, start=end - epochs["epoch_seconds"]).groupby(in_session)
    spans = parts["end"].max() - parts["start"].min()
    slots = pd.Series([session.concurrent_trials for session in sessions]).reindex(spans.index)
    share = epochs["epoch_seconds"].sum() / max((spans * slots).sum(), 1e-9)
    if share > 1:  # the cluster grew after the search had begun
        return Card("idle slots", NOT_APPLICABLE, "The number of slots changed during the search.")
    why = (
        f"The slots ({', '.join(map(str, sorted({*slots})))} at once) trained {share:.0%} of the "
        "time from the first epoch to the last."
    )
    if share >= USED:
        return Card("idle slots", PASS, why)
    why += " The timeline on the page shows when they waited."
    return Card("idle slots", WARN, why, command_line("analysis.report", results.path))
