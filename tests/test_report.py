from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.image import imread

from analysis import frames
from analysis.report import main, make_pictures


class Page(HTMLParser):
    """What a page refers to and says."""

    def __init__(self, path):
        super().__init__()
        self.links, self.text, self.open = [], "", []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_and_all_it_shows(made_up, capsys):
    assert main([str(made_up.path)]) == 0
    folder = made_up.path / "report"
    assert f"Wrote {folder}/index.html" in capsys.readouterr().out
    page = Page(folder / "index.html")
    assert page.open == []
    assert not [link for link in page.links if "//" in link], "the page stands alone"
    assert {path.name for path in folder.iterdir()} == {*page.links, "index.html"}
    for picture in make_pictures(made_up):
        assert f"{picture.name}.png" in page.links
        assert picture.caption in page.text
        pixels = imread(folder / f"{picture.name}.png")
        assert pixels[..., :3].std() > 0.05, "the picture is blank"
    best = "Best: 99.00%"
    assert best in page.text
    assert "batch size 64, learning rate 0.5" in re.sub(r"\s+", " ", page.text)
    assert "<out of memory>" in page.text  # escaped in the source
    assert "<out of memory>" not in (folder / "index.html").read_text()


def test_the_csv_files_hold_the_frames(made_up, tmp_path):
    out = tmp_path / "elsewhere"
    assert main([str(made_up.path), "--output", str(out)]) == 0
    got = pd.read_csv(out / "by_batch_size.csv")
    expected = frames.summary_by_batch_size(made_up.trials, 200)
    pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    for picture in make_pictures(made_up):
        got = pd.read_csv(out / f"{picture.name}.csv")
        expected = picture.frame.reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    assert not (made_up.path / "report").exists()


def test_a_study_without_results_has_a_page_too(fruitless):
    assert main([str(fruitless.path)]) == 0
    page = Page(fruitless.path / "report" / "index.html")
    assert "No trial has a finite result yet." in page.text
    assert "1 failed" in page.text


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: (path / "study.json").unlink(), "not a study"),
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
