"""A small study dies before each operation on its files in turn, and is resumed.

There are two kinds of death. The process is killed, and everything it wrote stays. Or the power
is cut, and everything that was not synced is gone. No trial may be lost or duplicated, and nothing
that was reported before the death may have changed.
"""

from __future__ import annotations

import shutil

import pytest

from study.files import UNFINISHED
from study.results.tables import load_study
from tests.helpers import THOROUGH
from tests.helpers.crashes import Death, Recorder
from tests.helpers.simulated import (
    Session,
    assert_nothing_lost,
    assert_sound,
    comparison_config,
    run_study,
    search_config,
)

pytestmark = pytest.mark.usefixtures("without_ray")
EVERY = 19  # step through the operations in the default tier; prime, so that all kinds occur


def live(root, config, acknowledged, *, die_at=None, resume=False):
    """Run a study until it ends or dies. Returns the recorder, still open."""
    recorder = Recorder(root, die_at)
    recorder.__enter__()
    session = None
    try:
        session = Session(root / "results" / "n", config, resume=resume)
        session.run()
    except Death:
        Recorder.active = None
        if session is not None:
            session.close()
    finally:
        if session is not None:
            acknowledged.update(session.acknowledged)
    return recorder


def check(folder, config, acknowledged, before):
    """The study in `folder` continues from where it died as if nothing had happened.

    Args:
        folder: The study's folder.
        config: The configuration with which it must end.
        acknowledged: The trials that were reported as ended.
        before: Its tables before the session that died; None if that was the first session.
    """
    if not (folder / "study.json").exists():  # it never began
        assert not acknowledged
        return
    tables = [folder / f"{name}.parquet" for name in ("trials", "epochs", "steps")]
    if before is None and all(table.exists() for table in tables):
        before = load_study(folder)
    session = Session(folder, config, resume=True)
    while session.search._earlier:
        session.running.clear()
        session.start()
    session.tables.write()
    session.close()
    assert_nothing_lost(before, load_study(folder), acknowledged)
    run_study(folder, config, resume=True)
    assert_sound(folder, config, acknowledged)
    assert not list(folder.rglob(f"{UNFINISHED}*"))


def try_deaths(here, config, points, *, resume_from=None):
    """Die at each of `points`. Returns how many deaths were survived."""
    survived = 0
    before = None if resume_from is None else load_study(resume_from / "results" / "n")
    for die_at in points:
        root = here / "disk"
        if resume_from is None:
            root.mkdir()
        else:
            shutil.copytree(resume_from, root)
        acknowledged = {}
        recorder = live(root, config, acknowledged, die_at=die_at, resume=resume_from is not None)
        try:
            assert recorder.dead, f"operation {die_at} did not come"
            recorder.leave(here / "cut")
            if recorder.unsynced is not None and recorder.unsynced.is_file():
                tear(recorder, here, root, config, acknowledged, before)
        finally:
            recorder.__exit__()
        try:
            for folder in (root, here / "cut"):
                check(folder / "results" / "n", config, acknowledged, before)
                survived += 1
        except (Exception, AssertionError) as error:
            raise AssertionError(f"died at operation {die_at}, left {folder.name}") from error
        for folder in (root, here / "cut", here / "torn"):
            shutil.rmtree(folder, ignore_errors=True)
    return survived


def tear(recorder, here, root, config, acknowledged, before):
    """A kill in the middle of a write leaves only a part of the file."""
    shutil.copytree(root, here / "torn", symlinks=True)
    torn = here / "torn" / recorder.unsynced.relative_to(root.resolve())
    unsynced_bytes = torn.stat().st_size - recorder.synced_bytes
    with torn.open("r+b") as file:
        file.truncate(recorder.synced_bytes + unsynced_bytes // 2)
    Recorder.active = None
    check(here / "torn" / "results" / "n", config, acknowledged, before)


def count_operations(here, config, **kwargs):
    root = here / "counted"
    if "resume_from" in kwargs:
        shutil.copytree(kwargs["resume_from"], root)
    else:
        root.mkdir()
    recorder = live(root, config, {}, resume="resume_from" in kwargs)
    recorder.__exit__()
    assert not recorder.dead
    return recorder.operations


CONFIGS = {
    "search": search_config(3, epochs=2, seed=15),
    "comparison": comparison_config(replicates=1),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_deaths_at_some_operations(tmp_path, kind):
    points = range(0, count_operations(tmp_path, CONFIGS[kind]), EVERY)
    assert try_deaths(tmp_path, CONFIGS[kind], points) == 2 * len(points)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_deaths_at_many_operations(tmp_path, kind):
    points = range(0, count_operations(tmp_path, CONFIGS[kind]), 1 if THOROUGH else 3)
    assert try_deaths(tmp_path, CONFIGS[kind], points) == 2 * len(points)
    print(f"{kind}: {2 * len(points)} deaths at {len(points)} operations, lost 0, twice 0")


def test_deaths_while_an_extension_is_begun(tmp_path):
    """The study that was finished before must stay intact."""
    small, large = search_config(2, epochs=2, seed=15), search_config(3, epochs=2, seed=15)
    run_study(tmp_path / "finished" / "results" / "n", small)
    finished = tmp_path / "finished"
    points = range(0, count_operations(tmp_path, large, resume_from=finished), EVERY)
    assert try_deaths(tmp_path, large, points, resume_from=finished) == 2 * len(points)
