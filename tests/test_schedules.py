"""Random schedules of everything that can happen to a study. None may lose anything.

Trials are started, trained and ended. The driver is stopped or killed before any operation on its
files, or the power is cut. A file is lost, emptied, cut short or zeroed. study.json is edited. The
study is resumed and extended, and its failed trials are run again. Whatever happens, each trial
exists once, a status only goes forward, everything that was reported as ended or was in a table
stays, and in the end the tables hold what the trials measured.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from study.console.errors import UserError
from study.results.study_file import StudyFile
from study.results.tables import load_study
from tests.helpers import THOROUGH
from tests.helpers.crashes import Death, Recorder
from tests.helpers.simulated import (
    Session,
    assert_nothing_lost,
    assert_sound,
    comparison_config,
    search_config,
)

pytestmark = pytest.mark.usefixtures("without_ray")
SEED = int(os.environ.get("SCHEDULE_SEED", "20261124"))  # another seed gives other schedules
STEPS = 15  # maximum per schedule
CONFIGS = [search_config(4, seed=22), search_config(4, seed=34), comparison_config(2, seed=4)]
ACTIONS = ("start", "start", "epoch", "epoch", "epoch", "write")
DAMAGES = {
    "lost": lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}
EDITS = {
    "epochs": 9,
    "seed": 99,
    "optimizer": "sgd",
    "precision": "fp32",
    "protocol": "paper",
    "sampler": "qmc",
    "name": "other",
}


class Schedule(RuleBasedStateMachine):
    """One study that goes through everything."""

    @initialize(config=st.sampled_from(CONFIGS))
    def begin(self, config):
        self.config = config
        self.place = Path(tempfile.mkdtemp(prefix="schedule-"))
        self.disk = self.place / "disk"
        self.disk.mkdir()
        self.recorder = Recorder(self.disk)
        self.recorder.__enter__()
        self.acknowledged = {}
        self.tables = None  # the last intact tables
        self.whole = False  # whether every file has been written again since the last damage
        self.backup = None
        self.session = None
        self.session = Session(self.folder, self.config, resume=False)

    @property
    def folder(self):
        return self.disk / "results" / "n"

    def act(self, action):
        """Do something in the session. The session may die of it."""
        session = self.session
        try:
            if action == "start":
                session.start()
            elif action == "epoch" and session.running:
                session.epoch(0)
            elif action == "write":
                session.tables.write()
                self.tables_written()
        except Death:
            return
        finally:
            for trial_id, history in session.acknowledged.items():
                earlier = self.acknowledged.setdefault(trial_id, history)
                assert earlier.status == history.status

    def tables_written(self):
        tables = load_study(self.folder)
        assert_nothing_lost(self.tables, tables, self.acknowledged)
        self.tables, self.whole, self.backup = tables, True, None

    def end_session(self):
        Recorder.active = None
        if self.session is not None:
            self.session.close()
        self.session = None
        Recorder.active = self.recorder

    @precondition(lambda self: self.session is not None)
    @rule(actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=8))
    def work(self, actions):
        for action in actions:
            self.act(action)

    @precondition(lambda self: self.session is not None)
    @rule()
    def stop(self):
        self.act("write")
        self.end_session()

    @precondition(lambda self: self.session is not None)
    @rule(after=st.integers(0, 60), actions=st.lists(st.sampled_from(ACTIONS), min_size=3))
    def kill(self, after, actions):
        self.recorder.die_at = self.recorder.operations + after
        for action in actions:
            if not self.recorder.dead:
                self.act(action)
        self.end_session()
        self.recorder.dead, self.recorder.die_at = False, None

    @precondition(lambda self: self.session is not None)
    @rule(after=st.integers(0, 60), actions=st.lists(st.sampled_from(ACTIONS), min_size=3))
    def cut_power(self, after, actions):
        self.kill(after, actions)
        self.whole = False  # checkpoints are lost; a second loss must wait for the next session
        cut = self.place / "cut"
        self.recorder.leave(cut)
        self.recorder.__exit__()
        shutil.rmtree(self.disk)
        cut.rename(self.disk)
        self.recorder = Recorder(self.disk)
        self.recorder.__enter__()

    @precondition(lambda self: self.session is None and self.whole)
    @rule(which=st.integers(0, 10**6), how=st.sampled_from(sorted(DAMAGES)))
    def damage(self, which, how):
        paths = sorted(p for p in self.folder.rglob("*") if how == "lost" or p.is_file())
        self.save()
        DAMAGES[how](paths[which % len(paths)])

    @precondition(lambda self: self.session is None and self.whole)
    @rule(name=st.sampled_from(sorted(EDITS)))
    def edit(self, name):
        path = self.folder / "study.json"
        content = json.loads(path.read_text())
        if content["config"].get(name, EDITS[name]) != EDITS[name]:
            content["config"][name] = EDITS[name]
            self.save()
            path.write_text(json.dumps(content))

    def save(self):
        self.backup = self.place / "backup"
        shutil.rmtree(self.backup, ignore_errors=True)
        shutil.copytree(self.folder, self.backup, symlinks=True)
        self.whole = False

    @precondition(lambda self: self.session is None)
    @rule(more=st.sampled_from([0, 0, 1]), retry=st.booleans())
    def resume(self, more, retry):
        if not (self.folder / "study.json").exists() and self.backup is None:
            assert not self.acknowledged  # it never began
            shutil.rmtree(self.disk / "results", ignore_errors=True)
            self.session = Session(self.folder, self.config, resume=False)
            return
        before = content_of(self.folder)
        try:
            config = StudyFile.read(self.folder).config
            self.grow(more)
            self.open_as(config, retry)
        except UserError as error:
            refusal = str(error)
        else:
            return
        assert self.backup is not None, refusal
        assert "\n" not in refusal
        assert content_of(self.folder) == before
        self.end_session()
        shutil.rmtree(self.folder)
        shutil.copytree(self.backup, self.folder, symlinks=True)
        self.renew_recorder()
        self.backup, self.whole = None, True

    def grow(self, more):
        grows = self.config.grows
        self.config = replace(self.config, **{grows: getattr(self.config, grows) + more})

    def open_as(self, config, retry):
        """The configuration in study.json, edited or not, with this study's number of trials."""
        config = replace(config, **{config.grows: getattr(self.config, config.grows)})
        self.session = Session(self.folder, config, resume=True, retry=retry)

    def renew_recorder(self):
        self.recorder.__exit__()
        self.recorder = Recorder(self.disk)
        self.recorder.__enter__()

    def teardown(self):
        if not hasattr(self, "place"):
            return
        self.recorder.dead, self.recorder.die_at = False, None  # the place where a check failed
        try:
            if self.session is None:
                self.resume(0, False)
            if self.session is None:
                self.resume(0, False)
            self.session.run()
            self.acknowledged.update(self.session.acknowledged)
            assert_nothing_lost(self.tables, load_study(self.folder), self.acknowledged)
            assert_sound(self.folder, self.config, self.acknowledged)
        finally:
            self.end_session()
            self.recorder.__exit__()
            shutil.rmtree(self.place)


def content_of(folder):
    """Every file with its content, except the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def try_schedules(count):
    print(f"{count} schedules, seed {SEED}")
    machine = seed(SEED)(Schedule)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
        ),
    )


def test_some_schedules():
    try_schedules(40)


@pytest.mark.slow
def test_many_schedules():
    try_schedules(500 if THOROUGH else 150)
