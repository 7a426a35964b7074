from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from study.console.text import format_duration
from study.search.progress import StudyProgress

CONFIG = {"batch_size": 64, "lr": 0.51234, "gamma": 0.7, "width_mult": 2.0}


def make(terminal, width=120, **kwargs):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width)
    return StudyProgress(console, num_samples=4, epochs=5, **kwargs), out


def plain(out):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def result(epoch, accuracy):
    return {"epoch": epoch, "eval_accuracy": accuracy, "params": CONFIG}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s"), (75, "1m15s"), (3600, "1h00m"), (90000, "1d01h"), (59.6, "1m00s")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_plain_lines_tell_how_each_trial_ended():
    progress, out = make(terminal=False)
    with progress:
        progress.trial_started("trial_00000", CONFIG)
        progress.epoch_ended("trial_00000", result(5, 0.9876))
        progress.trial_ended("trial_00000", "complete")
        progress.trial_started("trial_00001", CONFIG)
        progress.trial_ended("trial_00001", "failed", "MemoryError: no more")
    lines = out.getvalue().splitlines()
    assert lines == [
        "1/4 trial_00000 complete: 98.76% after epoch 5  batch=64 lr=0.5123 gamma=0.7 width=2",
        "2/4 trial_00001 failed: MemoryError: no more  batch=64 lr=0.5123 gamma=0.7 width=2",
    ]


def test_live_view_shows_counts_best_running_and_eta():
    progress, out = make(terminal=True)
    for number, status in enumerate(["complete", "pruned", "diverged"]):
        trial_id = f"trial_{number:05d}"
        progress.trial_started(trial_id, CONFIG)
        progress.epoch_ended(trial_id, result(5, 0.98 + number / 1000))
        progress.trial_ended(trial_id, status)
    progress.trial_started("trial_00003", CONFIG)
    progress.epoch_ended("trial_00003", result(2, 0.9))
    progress.starting = {"trial_00004": CONFIG}
    progress.console.print(progress.render())
    shown = plain(out)
    assert "\n3/4 trials ended (1 complete, 1 pruned, 1 diverged), 1 running, 1 starting" in shown
    assert re.search(r"about \d+s left", shown)
    assert "best so far 98.00%  trial_00000" in shown  # the complete one, not the higher pruned one
    assert re.search(r"trial_00003 +running +2/5 +90\.00% +batch=64 lr=0\.5123 gamma=0\.7", shown)
    assert re.search(r"trial_00004 +starting +0/5 +batch=64", shown)
    assert "Ctrl-C stops; the study can be resumed." in shown


def test_trials_that_have_ended_stay_above_the_live_view():
    progress, out = make(terminal=True)
    with progress:
        progress.trial_started("trial_00000", CONFIG)
        progress.epoch_ended("trial_00000", result(1, 0.9))
        progress.trial_ended("trial_00000", "pruned")
    assert "1/4 trial_00000 pruned: 90.00% after epoch 1  batch=64 lr=0.5123" in plain(out)


def test_a_trial_that_starts_is_no_longer_starting():
    progress, _ = make(terminal=False)
    progress.starting = {"a": CONFIG, "b": CONFIG}
    progress.trial_started("a", CONFIG)
    assert (list(progress.starting), list(progress.running)) == (["b"], ["a"])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_word_is_cut_at_any_width(width):
    params = {"batch_size": 1024, "lr": 0.00123456, "gamma": 0.71236, "width_mult": 0.5}
    progress, out = make(terminal=True, width=width)
    progress.trial_started("trial_00000", params)
    progress.epoch_ended("trial_00000", {**result(5, 0.9876), "params": params})
    progress.trial_ended("trial_00000", "complete")
    progress.trial_started("trial_00001", params)
    progress.epoch_ended("trial_00001", {**result(2, 0.9), "params": params})
    progress.starting = {"trial_00002": params}
    progress.console.print(progress.render())
    words, lines = plain(out).split(), plain(out).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "…" not in plain(out)
    for name in ("batch=1024", "lr=0.001235", "gamma=0.7124", "width=0.5"):
        assert words.count(name) == 4  # ended, best, running and starting
    for trial in ("trial_00000", "trial_00001", "trial_00002"):
        assert trial in words


def test_no_eta_before_a_trial_has_ended_and_none_left_at_the_end():
    progress, _ = make(terminal=False)
    assert progress.eta_seconds() is None
    for number in range(4):
        progress.trial_started(str(number), CONFIG)
        progress.trial_ended(str(number), "pruned")
    assert progress.eta_seconds() == 0


def test_eta_follows_the_epochs_ahead_and_the_slowest_trial(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("study.search.progress.time.monotonic", lambda: now[0])
    progress, _ = make(terminal=False)
    for number, epochs in enumerate([1, 5]):  # 12 s for 6 epochs
        progress.trial_started(str(number), CONFIG)
        for epoch in range(1, epochs + 1):
            now[0] += 2
            progress.epoch_ended(str(number), result(epoch, 0.9))
        progress.trial_ended(str(number), "complete")
    # Two trials to come, of 3 epochs each (the mean of 1 and 5), at 2 s per epoch.
    assert progress.eta_seconds() == 12
    progress.trial_started("2", CONFIG)
    progress.trial_started("3", CONFIG)
    now[0] += 10
    for trial in ("2", "3"):
        progress.epoch_ended(trial, result(1, 0.9))
    # After epoch 1 only the trial of 5 epochs counts: 4 epochs ahead for each.
    assert progress.eta_seconds() == pytest.approx(max(8 * 22 / 8, 4 * 10))


def test_earlier_sessions_count():
    progress, _ = make(
        terminal=False, earlier=["complete", "pruned"], best=("trial_00000", 0.99, CONFIG)
    )
    assert progress.headline().startswith("2/4 trials ended (1 complete, 1 pruned), 0 running")
    assert progress.best is not None
    assert progress.best[0] == "trial_00000"
