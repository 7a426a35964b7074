from __future__ import annotations

import re
from xml.etree import ElementTree

import pandas as pd
from matplotlib.image import imread

from analysis.parts import Exhibit, single
from analysis.render import GRID, INK, for_page, write


def draw(frame, *, ax):
    ax.plot(frame["x"], frame["y"], label="line")
    ax.set_xlabel("a label")
    ax.legend()


def exhibit(name="a"):
    frame = pd.DataFrame({"x": [0, 1, 2], "y": [1.0, 4.0, 2.0]})
    return Exhibit(name, 'A "title" <b> & more', "caption", frame, single(draw, frame))


def test_the_files_are_a_picture_a_drawing_and_its_numbers(tmp_path):
    write(exhibit(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.png", "a.svg"]
    assert imread(tmp_path / "a.png").std() > 0.02
    ElementTree.parse(tmp_path / "a.svg")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), exhibit().frame)


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    first = write(exhibit(), tmp_path)
    png = (tmp_path / "a.png").read_bytes()
    assert write(exhibit(), tmp_path) == first
    assert (tmp_path / "a.png").read_bytes() == png


def test_on_the_page_ids_are_its_own_and_all_references_hold(tmp_path):
    a, b = (write(exhibit(name), tmp_path) for name in ("a", "b"))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (a, b)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((a, b), ids, strict=True):
        referred = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
        assert {x or y for x, y in referred} <= own


def test_ink_and_grid_follow_the_page_and_text_stays_text(tmp_path):
    svg = write(exhibit(), tmp_path)
    assert INK not in svg
    assert GRID not in svg
    assert "currentColor" in svg
    assert ">a label</text>" in svg
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'A "title" <b> & more'
    assert root.attrib["role"] == "img"
    assert "width" not in root.attrib


def test_a_drawing_without_a_head_is_the_same():
    assert for_page('<?xml?><svg width="1pt" height="2pt" />', "a", "t") == (
        '<svg role="img" aria-label="t" />'
    )
