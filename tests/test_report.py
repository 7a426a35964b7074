"""The report page: complete, self-contained, and true to the tables."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.status import Status

from analysis import search_frames
from analysis.evidence import load_evidence
from analysis.page import title_of
from analysis.parts import UNKNOWN
from analysis.report import main
from analysis.sections import answer
from analysis.sections.search import make_section, of_search
from study.config.questions import QUESTIONS
from study.results.health.checks import health_of
from study.results.tables import StudyResults, load_study
from tests.conftest import write_study
from tests.helpers.compared import write_comparison
from tests.helpers.studies import ROOT

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The links and texts of a page, and whether its tags match."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.text, self.open = [], [], "", []
        self.feed(path.read_text())
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check(folder):
    """Assert what must hold for every report. Returns its page."""
    page = Page(folder / "report.html")
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith(("#", "data:")), f"the page is to stand alone: {link}"
        if link.startswith("#"):
            assert link[1:] in page.ids, link
    names = {path.stem for path in (folder / "figures").iterdir()}
    for name in names:
        assert imread(folder / "figures" / f"{name}.png")[..., :3].std() > 0.01, "blank"
        for suffix in ("svg", "csv"):
            assert (folder / "figures" / f"{name}.{suffix}").is_file()
    text = (folder / "report.md").read_text()
    for target in re.findall(r"(?<!\\)\]\(([^)#]+)\)", text):
        assert (folder / target).is_file(), target
    return page


def test_a_search(made_up, capsys):
    assert main([str(made_up.path)]) == 0
    folder = made_up.path / "report"
    assert f"Wrote {folder}/report.html" in capsys.readouterr().out
    page = check(folder)
    for exhibit in of_search(made_up):
        assert re.sub(r"\s+", " ", exhibit.caption) in page.text
        got = pd.read_csv(folder / "figures" / f"{exhibit.name}.csv")
        expected = exhibit.frame.reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    heading, said = "Likely best: batch 64, lr 0.5, gamma 0.7, width 2", answer.sentence(made_up)
    markdown = (folder / "report.md").read_text()
    assert markdown.startswith(f"# {heading}\n\n{said}\n\n![")
    assert "figures/likely_best.png" in markdown.splitlines()[4]
    assert page.text.count(said) == 1
    assert "It reached 99.00%, with one seed" in page.text
    assert "Search: made-up" not in page.text
    assert "<out of memory>" in page.text  # escaped in the source
    assert "<out of memory>" not in (folder / "report.html").read_text()
    assert "claims" not in page.text  # nothing here speaks to them
    for card in health_of(made_up):
        assert f"{card.status} {card.name}: {card.sentence}" in page.text
        assert card.next in page.text
    assert '<li class="n-a">' in (folder / "report.html").read_text()  # greyed
    assert "- **WARN** infeasible: 1 of 8 trials" in (folder / "report.md").read_text()
    got = pd.read_csv(folder / "tables" / "by_batch_size.csv")
    expected = search_frames.summary_by_batch_size(made_up)
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)


def test_the_committed_searchs_answer():
    study = load_study(ROOT / "results" / "paper" / "search")
    assert answer.title(study) == "Likely best: batch 256, lr 2.647, gamma 0.8931, width 2"
    assert answer.sentence(study) == (
        "The likely best configuration is that of trial_00018: expect 99.15% from a new seed, on "
        "the validation images, 0.76 points (standard deviation 0.09) more than from the paper's "
        "(trial_00000); it is the best of 12 complete trials with probability 0.21, and 8 of the "
        "11 others cannot be told apart from it."
    ), "if the search was replaced, put its values here"


def test_the_papers_own_configuration_may_be_the_best_or_missing(tmp_path):
    trials = [("complete", 512, 1.0, 1.0, [0.99]), ("complete", 64, 1.0, 1.0, [0.98])]
    for name, chosen in (("own", trials), ("none", trials[1:] * 2)):
        (tmp_path / name).mkdir()
        said = answer.sentence(write_study(tmp_path / name, chosen))
        assert ("(it is the paper's own)" in said) == (name == "own")
        assert "more than from" not in said


def test_one_complete_trial_is_no_answer_yet(tmp_path):
    study = write_study(
        tmp_path, [("complete", 64, 1.0, 1.0, [0.98]), ("pruned", 64, 1, 1, [0.99])]
    )
    assert answer.title(study) == "A search that has no answer yet"
    assert answer.sentence(study).startswith("Only trial_00000 is complete, so there is nothing")
    assert main([str(tmp_path)]) == 0
    assert not (tmp_path / "report" / "figures" / "likely_best.png").exists()
    assert "nan" not in check(tmp_path / "report").text


def test_the_steps_are_shown_on_a_terminal_alone(made_up, tmp_path, monkeypatch, capsys):
    argv = [str(made_up.path), "--output", str(tmp_path / "report")]
    assert main(argv) == 0
    assert "Step" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then treats any output as a terminal
    told = []
    monkeypatch.setattr(Status, "update", lambda _, text: told.append(text))
    assert main(argv) == 0
    assert "Step 1 of 5: reading the results" in capsys.readouterr().out
    count = len(list((tmp_path / "report" / "figures").glob("*.png")))
    assert told == [
        "Step 2 of 5: smoothing the losses …",
        "Step 3 of 5: checking the claims …",
        "Step 4 of 5: computing the figures …",
        *(f"Step 5 of 5: drawing figure {k} of {count} …" for k in range(1, count + 1)),
    ]


def test_the_command_alone_keeps_openblas_to_one_thread():
    code = "import os, runpy, sys; sys.argv[1:] = ['--help']\n{}\nprint(os.environ.get('{}'))"
    name = "OPENBLAS_NUM_THREADS"
    for run, expected in (
        ("import analysis.report", "None"),
        (
            "try: runpy.run_module('analysis.report', run_name='__main__')\nexcept SystemExit: 0",
            "1",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(run, name)],
            env={k: v for k, v in os.environ.items() if k != name},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == expected


def test_a_study_without_results_has_a_page_too(fruitless):
    assert main([str(fruitless.path)]) == 0
    page = check(fruitless.path / "report")
    assert "No trial is complete yet, so there is no best one." in page.text
    assert "Likely best" not in page.text
    assert "1 failed" in page.text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """All five comparisons of the paper."""
    root = tmp_path_factory.mktemp("results")
    kinds = {
        "batch-size": None,
        "models": None,
        "regularization": ["cnn-*"],
        "schedule": None,
        "training-size": None,
    }
    return {
        kind: write_comparison(root / kind, QUESTIONS[kind].select(keep), replicates=3).results.path
        for kind, keep in kinds.items()
    }


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory, mnist):
    """The page of all comparisons and a search."""
    root = tmp_path_factory.mktemp("whole")
    (root / "made-up").mkdir()
    search = write_study(root / "made-up").path
    out = root / "report"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([*map(str, folders.values()), str(search), "--output", str(out)]) == 0
    assert "Missing from the page" not in said.getvalue()
    return out


def test_all_comparisons_and_a_search_in_one_page(whole):
    page = check(whole)
    ledger = pd.read_csv(whole / "ledger.csv")
    assert ledger["claim"].tolist() == [f"C{i}" for i in range(1, 22)]
    for verdict, count in ledger["verdict"].value_counts().items():
        assert f"{count} {verdict}" in page.text.replace("\n", " ")
    assert "no evidence yet" not in set(ledger["verdict"])
    shown = {path.stem for path in (whole / "figures").iterdir()}
    assert {"loss_by_batch", "gallery_confident", "made-up.trial_map", "learning_curve"} <= shown
    assert "made-up.likely_best" in shown
    assert "The likely best configuration is that of trial_00001" in page.text
    assert "After 6 epochs batch 64 reaches" in page.text
    assert "117,772,832" in page.text  # the ResNet's multiply-adds
    openings = (whole / "test_set_openings.jsonl").read_text()
    assert openings.count("pictures of examples") == 1


# The comparison that judges each claim. C20 needs only the network.
OWN = {
    **{f"C{i}": "batch-size" for i in range(1, 15)},
    "C15": "training-size",
    "C16": "regularization",
    "C17": "models",
    "C18": "models",
    "C19": "models",
    "C20": "architecture",
    "C21": "models",
}


def links_of(source):
    """The link of each finding in the page's source, and its text."""
    rows = re.findall(r'<tr data-verdict="[^"]*" id="(C\d+)">(.*?)</tr>', source, re.S)
    link = re.compile(r'<a class="anchors" href="#([^"]+)">(\w+)</a>')
    return {claim: link.findall(row) for claim, row in rows}


def test_each_finding_links_to_what_shows_its_own_comparison(whole):
    source = (whole / "report.html").read_text()
    header, *sections = re.split(r'<section id="([\w.-]+)"', source)
    places = {"batch-size": re.findall(r'<div id="(\w+)">', header)}  # the headline
    for name, content in zip(sections[::2], sections[1::2], strict=True):
        own = "batch-size" if name == "predictions" else name
        places.setdefault(own, []).extend(re.findall(r'<(?:h3|div)[^>]* id="([\w.-]+)"', content))
    compared = pd.read_csv(whole / "figures" / "differences.csv")["comparison"]
    links = links_of(source)
    assert list(links) == list(OWN)
    for claim, found in links.items():
        assert len(found) == 1, (claim, found)
        ((target, kind),) = found
        if target == "differences":
            assert target in places["overview"]
            assert OWN[claim] in set(compared)
        else:
            assert target in places[OWN[claim]], (claim, target)
        folder = {"figure": "figures", "table": "tables"}[kind]
        assert (whole / folder / f"{target}.csv").is_file()
    assert links["C10"] == [("by_arm", "table")]
    assert links["C18"] == [("models_to_target", "figure")]
    assert links["C19"] == [("models_by_arm", "table")]
    assert links["C20"] == [("layers_resnet18", "table")]


def test_missing_results_shrink_the_page_and_say_what_fills_the_gap(folders, tmp_path, capsys):
    out = tmp_path / "report"
    assert main([str(folders["schedule"]), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Missing from the page: Batch size." in said
    assert "To add it, run: python -m study.compare batch-size --protocol paper" in said
    page = check(out)
    assert "What is missing" in page.text
    assert QUESTIONS["schedule"].title != page.text  # its own title is the made-up question
    assert "A question?" in page.text
    ledger = pd.read_csv(out / "ledger.csv")
    assert (ledger["verdict"] == "no evidence yet").sum() == 19
    links = links_of((out / "report.html").read_text())
    # The other findings do not use these results, although there is a figure of differences.
    assert {claim: found for claim, found in links.items() if found} == {
        "C20": [("layers_resnet18", "table")]
    }


def test_without_the_images_it_goes_without_galleries(folders, tmp_path, monkeypatch):
    def nowhere(names, dataset):
        raise ConnectionError("cut off by the test")

    monkeypatch.setattr("study.data.sources._from_mirrors", nowhere)
    monkeypatch.setenv("PATH", "")  # no npm
    out = tmp_path / "report"
    empty = tmp_path / "no-images"
    assert main([str(folders["batch-size"]), "--output", str(out), "--data-dir", str(empty)]) == 0
    page = check(out)
    assert "Example pictures are missing" in page.text
    assert not (out / "figures" / "gallery_confident.png").exists()


def test_an_own_comparison_with_lost_trials(tmp_path):
    arms = {"a": {"lr": 1.0}, "b": {"lr": 0.5}}
    compared = write_comparison(tmp_path / "mine", arms, replicates=3, failed={("b", 2)})
    assert main([str(compared.results.path)]) == 0
    page = check(compared.results.path / "report")
    assert "1 of 6 trials did not complete" in page.text
    assert (compared.results.path / "report" / "figures" / "mine.by_epoch.svg").is_file()


def test_the_arms_settings_and_statuses_are_shown(tmp_path):
    arms = {
        "adadelta": {"batch_size": 64},
        "sgd": {"batch_size": 64, "optimizer": "sgd", "lr": 0.05},
    }
    compared = write_comparison(tmp_path / "mine", arms, replicates=3, failed={("sgd", 2)})
    assert main([str(compared.results.path)]) == 0
    text = (compared.results.path / "report" / "report.md").read_text()
    section = text.partition("## mine\n")[2]
    header, _, *rows = [line for line in section.splitlines() if line.startswith("|")][:4]
    assert header == "| arm | lr | optimizer | momentum | weight_decay | complete | failed |"
    assert rows == [
        f"| adadelta | 1 | adadelta | {UNKNOWN} | {UNKNOWN} | 3 | 0 |",
        "| sgd | 0.05 | sgd | 0.9 | 0 | 2 | 1 |",
    ]
    assert (
        "All arms share: mnist, epochs 6, model cnn, batch_size 64, gamma 0.7, width_mult 1."
        in section
    )


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_claims_are_judged_by_the_papers_questions_and_images_alone(tmp_path, dataset, capsys):
    """A user's own comparison, and the built-in one on other images."""
    arms = {
        "mnist": {"a": {"lr": 1.0}, "b": {"lr": 0.5}},
        "fashion-mnist": QUESTIONS["batch-size"].select(["64", "512"]),
    }[dataset]
    path = write_comparison(tmp_path / "mine", arms, replicates=2, dataset=dataset).results.path
    assert main([str(path)]) == 0
    page = check(path / "report")
    assert not (path / "report" / "ledger.csv").exists()
    assert "ledger" not in page.ids
    assert "64 against 512" not in page.text
    assert "batch 64 reaches" not in page.text
    assert "The networks" not in page.text  # of the paper, which were not trained
    assert "98.75%" not in page.text  # of the paper
    assert "python -m study.compare batch-size --protocol paper" in page.text
    shown = {path.name for path in (path / "report" / "figures").glob("*.svg")}
    assert ("mine.loss_by_batch.svg" in shown) == (dataset == "fashion-mnist")


def test_results_on_other_images_stand_beside_the_papers(folders, tmp_path):
    sizes = QUESTIONS["batch-size"].select(["64", "512"])
    other = write_comparison(tmp_path / "clothes", sizes, replicates=2, dataset="fashion-mnist")
    out = tmp_path / "report"
    assert main([str(folders["batch-size"]), str(other.results.path), "--output", str(out)]) == 0
    page = check(out)
    assert {"by_arm", "clothes.by_arm", "loss_by_batch", "clothes.loss_by_batch"} <= set(page.ids)
    ledger = pd.read_csv(out / "ledger.csv", keep_default_na=False)
    assert not ledger["trials"].str.contains("clothes").any()


def test_the_title_names_what_is_there(folders, made_up, tmp_path):
    sizes = write_comparison(tmp_path / "s", QUESTIONS["batch-size"].select(["32", "512"])).results
    for given, title in (
        (
            [folders["batch-size"], folders["schedule"]],
            "64 against 512: does the batch size matter?",
        ),
        ([sizes.path], "A question?"),
        ([made_up.path], "Likely best: batch 64, lr 0.5, gamma 0.7, width 2"),
        ([sizes.path, folders["schedule"], made_up.path], "2 comparisons and 1 search on MNIST"),
    ):
        assert title_of(load_evidence(given)) == title


def test_what_is_not_known_of_a_trial_is_a_dash(made_up):
    trials = pd.read_parquet(made_up.path / "trials.parquet")
    trials = trials[trials["status"] == "complete"].head(1).copy()
    trials[["seconds", "last_eval_loss"]] = np.nan
    study = StudyResults(made_up.path, made_up.study, trials, made_up.epochs, made_up.steps)
    (table,) = (t for t in make_section(study, "").tables if t.name == "best_trials")
    row = table.shown.iloc[0]
    unknown = ["expected", "P(best)", "loss", "seconds"]  # one trial alone is not shrunk
    assert row[unknown].tolist() == [UNKNOWN] * 4


def test_the_versions_of_every_session_are_named(made_up):
    file = made_up.path / "study.json"
    study = json.loads(file.read_text())
    (session,) = study["sessions"]
    later = {**session, "command": "-m study.run --resume made-up", "versions": {"ray": "2.60.1"}}
    study["sessions"] = [session, session, later]
    file.write_text(json.dumps(study))
    assert main([str(made_up.path)]) == 0
    row = pd.read_csv(made_up.path / "report" / "tables" / "sources.csv").iloc[0]
    assert row["versions"] == "ray 2.60.0, Python 3.11.2; then ray 2.60.1, Python 3.11.2"
    first, later = f"python {session['command']}", "python -m study.run --resume made-up"
    assert row["made by"] == f"{first}; then {later}"


def test_a_third_network_has_its_own_figure_of_regularization(tmp_path, monkeypatch):
    for module in ("config.trial", "config.search", "results.tables"):
        monkeypatch.setattr(f"study.{module}.MODELS", ("cnn", "resnet18", "third"))
    cells = QUESTIONS["regularization"].select(["cnn-*"])
    arms = {name.replace("cnn", "third"): {**arm, "model": "third"} for name, arm in cells.items()}
    path = write_comparison(tmp_path / "regularization", {**cells, **arms}).results.path
    assert main([str(path)]) == 0
    page = check(path / "report")
    assert {"regularization_cnn", "regularization_third"} <= set(page.ids)
    assert "Dropout and batch norm in the third" in page.text


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: (path / "study.json").unlink(), "not a study"),
        (
            lambda path: (path / "study.json").write_text('{"format_version": 1}'),
            "results format 1",
        ),
        (lambda path: (path / "steps.parquet").unlink(), "steps.parquet is missing"),
        (lambda path: (path / "epochs.parquet").write_text("no"), "not a readable table"),
        (lambda path: (path / "report").write_text("in the way"), "cannot be written"),
    ],
)
def test_bad_input(made_up, prepare, message, capsys):
    prepare(made_up.path)
    assert main([str(made_up.path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (made_up.path / "report").is_dir()
