"""Printed text from outside is only data, and a closed output ends a command cleanly."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.table import Table

from study.cli import guarded
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.console.text import escape, shown
from study.data.sources import default_data_dir
from study.results.tables import load_study
from study.search.progress import StudyProgress
from tests.helpers.studies import ROOT, SMALL, assert_each_trial_once

HOSTILE = (
    "[/b] [red]x[/red] :smile: \x1b[31m \x1b]0;title\x07 \x9b1m \u202e \r \ud800 ü漢\u3000\u200d"
)
WRITTEN = (
    r"[/b] [red]x[/red] :smile: \x1b[31m \x1b]0;title\x07 \x9b1m \u202e \r \ud800 "
    + "ü漢\u3000\u200d"
)


def test_what_a_terminal_obeys_is_written_out():
    assert escape(HOSTILE) == WRITTEN
    assert escape("a\n\tb") == "a\n\tb"
    assert escape("a\n\tb", keep="") == r"a\n\tb"


def test_a_value_in_an_error_is_short():
    assert shown("a\x1b\n") == r"'a\x1b\n'"
    assert shown("x" * 100) == "'" + "x" * 79 + "..."
    assert shown(10**5000) == "<int> too large to show"


def terminal(**options):
    out = io.StringIO()
    return Terminal(file=out, width=200, **options), out


def test_strings_are_data_wherever_they_are_printed():
    console, out = terminal()
    table = Table(box=None)
    table.add_column(HOSTILE, no_wrap=True)
    table.add_row(HOSTILE)
    console.print(HOSTILE)
    console.print(table)
    assert [line.strip() for line in out.getvalue().splitlines()] == [WRITTEN] * 3


def test_strings_are_data_in_what_is_being_done():
    console, out = terminal(force_terminal=True)
    with console.status(HOSTILE):
        pass
    assert WRITTEN in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()


def test_in_a_pipe_lines_are_whole():
    out = io.StringIO()
    table = Table.grid(padding=(0, 2, 0, 0))
    words = ["trial_00000", *["word"] * 99]
    table.add_row(*words)
    console = Terminal(file=out)
    console.print(table)
    console.print(" ".join(words))
    assert [line.split() for line in out.getvalue().splitlines()] == [words, words]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_trials_error_is_data(on_terminal):
    console, out = terminal(force_terminal=on_terminal)
    params = {"lr": 1.0}
    with StudyProgress(console, 2, 1) as progress:
        progress.trial_started("trial_00000", params)
        progress.trial_ended("trial_00000", "failed", f"{HOSTILE}\nsecond")
    assert f"1/2 trial_00000 failed: {WRITTEN}\\nsecond  lr=1\n" in out.getvalue()


def test_an_error_is_data(capsys):
    def fail():
        raise UserError(HOSTILE)

    assert guarded(fail) == 2
    assert capsys.readouterr().err == f"error: {WRITTEN}\n"


# Real processes.


def command(*words, **environment):
    return {
        "args": [sys.executable, "-m", *words],
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
    }


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("module", ["study.run", "study.compare", "study.status"])
def test_help_in_any_encoding(module, encoding):
    done = subprocess.run(
        **command(module, "--help", PYTHONIOENCODING=encoding), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"s3://\u2026/NAME" in done.stdout


@pytest.fixture
def closed():
    """An output whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("words", [["study.run", "--help"], ["study.compare", "--help"]])
def test_help_that_nobody_reads_is_no_error(closed, words):
    done = subprocess.run(
        **command(*words), stdout=closed, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.stderr == ""


@pytest.mark.parametrize("more", [[], ["--watch"]])
def test_a_status_that_nobody_reads_is_no_error(closed, made_up, more):
    for table in made_up.path.glob("*.parquet"):  # a study that has just begun
        table.unlink()
    done = subprocess.run(
        **command("study.status", str(made_up.path), *more),
        stdout=closed,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_an_error_that_nobody_reads_is_no_traceback(closed, tmp_path):
    done = subprocess.run(
        **command("study.status", str(tmp_path)), stderr=closed, stdout=subprocess.PIPE, check=False
    )
    assert done.stdout == b""
    assert done.returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("lines", [0, 1])
def test_a_study_whose_output_is_closed_stops_and_says_how_it_goes_on(tmp_path, mnist, lines):
    options = ["study.run", "--num-samples", "4", "--name", "a", *SMALL]
    process = subprocess.Popen(
        **command(*options), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(200) == 0, err
    assert "Traceback" not in err
    assert "Ended early: its output was closed. Continue with:\n" in err
    again = err.splitlines()[-1].split()
    assert again == ["python", "-m", "study.run", "--resume", "results/a"]
    assert len(load_study(tmp_path / "results" / "a").trials) < 4
    subprocess.run(**command(*again[2:]), cwd=tmp_path, check=True, capture_output=True)
    assert_each_trial_once(tmp_path / "results" / "a", 4)


@pytest.mark.slow
def test_odd_folders_a_former_cluster_and_no_home(tmp_path, mnist):
    """The printed commands work when they are pasted, and so does the plain command."""
    odd = "r dir ü #1 100% 'x\" ; $(touch x) [b]"
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # short: it is part of socket names
    (temporary / "ray").mkdir()
    (temporary / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379")
    environment = {
        "TMPDIR": str(temporary),
        "HOME": "/dev/null/none",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    options = ["--results-dir", odd, "--name", "n", "--num-samples", "1", "--epochs", "1"]
    data = ["--data-dir", str(default_data_dir())]
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        **command(
            "study.run",
            *options,
            "--batch-size",
            "1024",
            "--width-mult",
            "0.5",
            *data,
            **environment,
        ),
        cwd=here,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # Above it are the health checks' commands, which train for longer.
    after = done.stdout[done.stdout.index("\nNext:\n") :].splitlines()
    commands = [line for line in after if line.startswith("  python -m ")]
    assert len(commands) == 2
    for each in commands:
        pasted = subprocess.run(
            f"{each} {shlex.join(data)}",
            shell=True,
            cwd=here,
            text=True,
            check=False,
            env=command("", **environment)["env"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert pasted.returncode == 0, pasted.stdout
    assert_each_trial_once(here / odd / "n", 2)
    assert [path.name for path in here.iterdir()] == [odd]
    (private,) = (path for path in temporary.iterdir() if path.name.startswith("ray-"))
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    shutil.rmtree(temporary)
