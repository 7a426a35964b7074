"""A malicious results folder, and the files of the user who makes a report of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.report import main, markdown
from study.config.questions import BATCH_SIZE
from study.results.tables import write_tables
from tests.conftest import write_study
from tests.helpers.compared import write_comparison
from tests.test_report import check

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def refused(capsys, *argv):
    """Assert that the command refuses in one line. Returns the line."""
    try:
        status = main([str(a) for a in argv])
    except SystemExit as error:
        status = error.code
    line = capsys.readouterr().err
    assert status == 2
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def snapshot(folder):
    """Every file, link and folder under `folder` with its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        link = str(path.readlink()) if path.is_symlink() else None
        kind = link or (path.read_bytes() if path.is_file() else None)
        found[str(path.relative_to(folder))] = kind
    return found


def make_hostile(results):
    """Put markup wherever a reader accepts any text. Returns what a reader then refuses."""
    file = results / "study.json"
    study = json.loads(file.read_text())
    study["config"]["title"] = f"# [title](javascript:alert(3)) `code` {SCRIPT}"
    study["data"]["dataset"] = SCRIPT
    study["sessions"][-1] |= {
        "command": f"a | b {SCRIPT}\n| c",
        "host": SCRIPT,
        "python": SCRIPT,
        "versions": {SCRIPT: SCRIPT},
        "git": {"commit": SCRIPT, "dirty": True},
    }
    if "arms" not in study["config"]:
        del study["config"]["title"]
    file.write_text(json.dumps(study))
    for name in ("trials", "epochs", "steps"):
        frame = pd.read_parquet(results / f"{name}.parquet")
        frame["trial_id"] = frame["trial_id"] + SCRIPT
        for column in ("error", "node", "device", "dataset", "optimizer", "precision"):
            # A comparison's optimizer is checked against its arms.
            if column in frame and not (column == "optimizer" and "arms" in study["config"]):
                frame[column] = pd.array([f"{SCRIPT}\n|`*_[x](y)"] * len(frame), "string")
        frame.to_parquet(results / f"{name}.parquet", index=False)


def hostile_folders(root):
    """Five studies in folders with hostile and with equal names. One of them judges claims."""
    arms = {"a": {"lr": 1.0}, "b": {"lr": 0.5}}
    made = []
    for folder in (SCRIPT.replace("/", "\\"), "one/same \\1 $x$ name", "two/same \\1 $x$ name"):
        (root / folder).mkdir(parents=True)
        write_study(root / folder)
        made.append(root / folder)
    asked = BATCH_SIZE.select(["64", "512"])
    for name, settings in (("models", arms), ("batch-size", asked)):
        made.append(write_comparison(root / name, settings, replicates=2).results.path)
        (made[-1] / "predictions.parquet").unlink()
    for folder in made:
        make_hostile(folder)
    return made


def test_text_from_outside_is_data_and_nothing_is_written_elsewhere(tmp_path):
    folders = hostile_folders(tmp_path / "results")
    before = snapshot(tmp_path)
    out = tmp_path / "out"
    assert main([*map(str, folders), "--output", str(out)]) == 0
    page = check(out)  # tags match, ids are there once, links lead somewhere
    assert SCRIPT in page.text
    for text in ((out / "report.html").read_text(), (out / "report.md").read_text()):
        assert "<img" not in text
        assert "<script>alert" not in text
    text = (out / "report.md").read_text()
    assert r"\# \[title\](javascript" in text  # the title of the comparison, as it is
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.endswith("|") for row in rows)  # no cell is broken by a newline
    assert "onerror=" not in " ".join(page.ids)
    after = {k: v for k, v in snapshot(tmp_path).items() if k.split("/")[0] != "out"}
    assert after == before


@pytest.mark.parametrize("name", ["../../ESCAPED/x", "/tmp/ABSOLUTE/x", SCRIPT, "..", "$a_$"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, capsys, name):
    arms = {"a": {"lr": 1.0}, "b": {"lr": 0.5}}
    folder = write_comparison(tmp_path / "gift", arms, replicates=1).results.path
    for change in ({"name": name}, {"arms": {"a": {"lr": 1.0}, name: {"lr": 0.5}}}):
        study = json.loads((folder / "study.json").read_text())
        study["config"] |= change
        if name == ".." and "arms" in change:
            continue  # an arm names neither a file nor a place
        (folder / "study.json").write_text(json.dumps(study))
        assert "study.json: damaged" in refused(capsys, folder)
        assert not (folder / "report").exists()
        study["config"] |= {"name": "gift", "arms": arms}
        (folder / "study.json").write_text(json.dumps(study))


def test_two_folders_of_one_name_have_figures_of_their_own(tmp_path):
    folders = [tmp_path / parent / "same" for parent in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        write_study(folder)
    out = tmp_path / "out"
    assert main([*map(str, folders), "--output", str(out)]) == 0
    check(out)
    for name in ("same.trial_map", "same-2.trial_map"):
        assert (out / "figures" / f"{name}.csv").is_file()


@pytest.mark.parametrize("name", ["models", "ledger", "a.search"])
def test_an_own_comparison_takes_no_name_of_the_page(tmp_path, made_up, name):
    arms = {"a": {"lr": 1.0}, "b": {"lr": 0.5}}
    own = write_comparison(tmp_path / name, arms, replicates=2).results.path
    out = tmp_path / "out"
    argv = [str(own), str(made_up.path), "--output", str(out)]
    assert main(argv) == 0
    page = check(out)
    assert f"{name}.comparison" in page.ids
    assert not (out / "ledger.csv").exists()  # it is not of the two networks
    assert "python -m study.compare models --protocol paper" in page.text


# The user's files.


@pytest.mark.parametrize(
    "name",
    [
        "report.html",
        "report.md",
        "ledger.csv",
        "test_set_openings.jsonl",
        "figures/a.png",
        "tables/by_arm.csv",
    ],
)
def test_a_file_that_the_report_did_not_write_stays(made_up, tmp_path, capsys, name):
    for out, argv in (
        (made_up.path / "report", [made_up.path]),
        (tmp_path / "mine", [made_up.path, "--output", tmp_path / "mine"]),
    ):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("precious")
        before = snapshot(tmp_path)
        line = refused(capsys, *argv)
        assert str(out / name.partition("/")[0]) in line
        assert "choose another --output" in line
        assert snapshot(tmp_path) == before


def test_an_earlier_report_is_written_again_and_other_files_in_it_stay(made_up):
    out = made_up.path / "report"
    assert main([str(made_up.path)]) == 0
    page = (out / "report.html").read_bytes()
    assert b'<meta name="generator" content="mnist-study">' in page
    (out / "report.md").write_text("old")
    (out / "mine.txt").write_text("precious")
    (out / "figures" / "mine.png").write_text("precious")
    assert main([str(made_up.path)]) == 0
    assert (out / "report.html").read_bytes() == page
    assert (out / "report.md").read_text() != "old"
    for name in ("mine.txt", "figures/mine.png"):
        assert (out / name).read_text() == "precious"


def test_a_report_from_before_there_was_a_mark_is_known(made_up):
    out = made_up.path / "report"
    assert main([str(made_up.path)]) == 0
    page = (out / "report.html").read_text()
    mark = '<meta name="generator" content="mnist-study">\n'
    (out / "report.html").write_text(page.replace(mark, ""))
    assert main([str(made_up.path)]) == 0
    assert (out / "report.html").read_text() == page


def test_a_report_that_was_killed_can_be_written_again(made_up, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("analysis.report.write", killed)
        assert main([str(made_up.path)]) == 130
    assert main([str(made_up.path)]) == 0
    check(made_up.path / "report")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "report",
        "report/figures",
        "report/tables",
        "report/report.html",
        "report/report.md",
        "report/ledger.csv",
        "report/test_set_openings.jsonl",
        "report/figures/trial_map.svg",
    ],
)
def test_links_in_a_results_folder_are_not_followed(made_up, tmp_path, capsys, name, earlier):
    if earlier:
        for part in ("report/figures", "report/tables"):
            (made_up.path / part).mkdir(parents=True)
        mark = '<meta name="generator" content="mnist-study">'
        (made_up.path / "report" / "report.html").write_text(mark)
    elsewhere = tmp_path / "elsewhere"
    link = made_up.path / name
    if link.exists():
        link.rename(elsewhere)
    elif name in ("report", "report/figures", "report/tables"):
        elsewhere.mkdir()
    else:
        elsewhere.write_text("precious\n")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    before = snapshot(tmp_path)
    assert f"{link}: is a link" in refused(capsys, made_up.path)
    assert snapshot(tmp_path) == before


def test_a_folder_that_the_user_names_may_be_a_link(made_up, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    assert main([str(made_up.path), "--output", str(tmp_path / "out")]) == 0
    check(tmp_path / "disk")


def test_a_pipe_in_the_way_does_not_block(made_up, capsys):
    out = made_up.path / "report"
    out.mkdir()
    os.mkfifo(out / "report.html")
    assert "choose another --output" in refused(capsys, made_up.path)
    (out / "report.html").unlink()
    (out / "report.html").write_text('<meta name="generator" content="mnist-study">')
    os.mkfifo(out / "test_set_openings.jsonl")
    assert "test_set_openings.jsonl: not written by this command" in refused(capsys, made_up.path)


# The command line.


def test_a_wrong_command_line_is_answered_in_one_line(made_up, capsys):
    assert "results" in refused(capsys)
    assert "--outpt" in refused(capsys, made_up.path, "--outpt", "x")
    assert "empty" in refused(capsys, made_up.path, "--output", "")
    assert "empty" in refused(capsys, "")
    assert "is given twice" in refused(
        capsys, made_up.path, made_up.path / ".." / made_up.path.name
    )


def test_a_study_without_a_trial_says_so(tmp_path, capsys):
    write_study(tmp_path)
    write_tables(tmp_path, [], {})
    assert "no trial has begun yet" in refused(capsys, tmp_path)


def test_the_report_needs_neither_torch_nor_ray_nor_optuna():
    code = "import sys, analysis.report; print({'torch', 'ray', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("98.72 % of trial_00001", "98.72 % of trial_00001"),
        ("a|b\nc", r"a\|b c"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("_a_ *b* `c` \\", r"\_a\_ \*b\* \`c\` \\"),
        ("![x](y)", r"!\[x\](y)"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
    ],
)
def test_markdown_shows_text_as_it_is(text, expected):
    assert markdown(text) == expected


def test_a_setting_that_is_not_the_arms_is_reported_in_one_line(tmp_path, capsys):
    arms = {"a": {"lr": 1.0}, "b": {"lr": 0.5}}
    folder = write_comparison(tmp_path / "c", arms, replicates=2).results.path
    trials = pd.read_parquet(folder / "trials.parquet")
    trials["optimizer"] = pd.array([f"{SCRIPT}\n\x1b[31m"] * len(trials), "string")
    trials.to_parquet(folder / "trials.parquet", index=False)
    line = refused(capsys, folder, "--output", tmp_path / "out")
    assert "has optimizer" in line
    assert "\x1b" not in line
