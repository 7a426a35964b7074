"""study.json as a reader may find it: intact, damaged or malicious."""

from __future__ import annotations

import copy
import json
import os
import shlex
from pathlib import Path

import pytest

from study.config.comparison import ComparisonConfig
from study.config.questions import QUESTIONS
from study.config.search import SearchConfig
from study.config.space import DEFAULT_SPACE, space_to_json
from study.console.errors import UserError
from study.results.study_file import StudyFile, resume_command
from tests.helpers.compared import study_content

A_SEARCH = SearchConfig("a-search", space_to_json(DEFAULT_SPACE))
A_COMPARISON = ComparisonConfig("a.comparison", "Which?", QUESTIONS["models"].select(None))
SEARCH, COMPARISON = study_content(A_SEARCH), study_content(A_COMPARISON)
PAPER = sorted((Path(__file__).resolve().parents[1] / "results" / "paper").iterdir())


def read(folder, content):
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    (folder / "study.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return StudyFile.read(folder)


def refused(folder, content=None):
    """Assert that the error is one clear line that names the file. Returns the line."""
    with pytest.raises(UserError) as error:
        StudyFile.read(folder) if content is None else read(folder, content)
    line = str(error.value)
    assert line.startswith(f"{folder}")
    assert "\n" not in line
    assert len(line) < 300 + len(str(folder))
    return line


def changed(content, path, value):
    """`content` with another value at `path`, or without `path` if `value` is `KeyError`."""
    content = copy.deepcopy(content)
    *above, last = path
    at = content
    for key in above:
        at = at[key]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return content


@pytest.mark.parametrize("folder", PAPER, ids=lambda folder: folder.name)
def test_the_results_that_lie_here_are_read(folder):
    study = StudyFile.read(folder)
    assert study.config.name == folder.name
    kinds = {"search": "search", "search-finalists": "finalists", "search-final": "final"}
    assert study.config.kind == kinds.get(folder.name, "comparison")
    assert study.storage is None
    content, written = json.loads((folder / "study.json").read_text()), study.to_json()
    assert (written["data"], written["sessions"]) == (content["data"], content["sessions"])


@pytest.mark.parametrize("content", [SEARCH, COMPARISON], ids=["search", "comparison"])
def test_a_study_says_its_kind_and_one_of_an_earlier_version_shows_it(tmp_path, content):
    earlier = {name: value for name, value in content.items() if name != "kind"}
    assert read(tmp_path, earlier).config.kind == content["kind"]
    other = {"search": "comparison", "comparison": "search"}[content["kind"]]
    for kind in (other, "sweep", None, []):
        refused(tmp_path, {**content, "kind": kind})


@pytest.mark.parametrize("content", [SEARCH, COMPARISON], ids=["search", "comparison"])
def test_what_was_written_is_read(tmp_path, content):
    study = read(tmp_path, content)
    study.write(tmp_path)
    assert StudyFile.read(tmp_path) == study
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["data"]["split"].items() >= content["data"]["split"].items()
    assert {name: written[name] for name in content if name != "data"} == {
        name: value for name, value in content.items() if name != "data"
    }


# The fields that readers use. Each is left out, and replaced by other types of values.
RELIED_ON = [
    ("config",),
    ("config", "name"),
    ("config", "seed"),
    ("config", "epochs"),
    ("data",),
    ("data", "dataset"),
    ("data", "split"),
    ("data", "split", "train"),
    ("data", "split", "validation"),
    ("sessions",),
    ("sessions", 0),
    *(
        ("sessions", 0, key)
        for key in (
            "started",
            "host",
            "python",
            "command",
            "nodes",
            "concurrent_trials",
            "address",
            "versions",
            "git",
        )
    ),
]
OF_SEARCH = [
    ("config", "space"),
    ("config", "num_samples"),
    ("config", "space", "lr"),
    ("config", "space", "lr", "name"),
    ("config", "space", "lr", "attributes"),
    ("config", "space", "lr", "attributes", "low"),
    ("config", "space", "batch_size", "attributes", "choices"),
]
OF_COMPARISON = [
    ("config", "arms"),
    ("config", "arms", "cnn"),
    ("config", "replicates"),
    ("config", "title"),
    ("data", "split", "evaluated"),
]
# The configuration has defaults; a comparison without arms is a search; one arm is enough.
MAY_BE_MISSING = {"epochs", "replicates", "num_samples", "arms", "cnn", "seed"}
WRONG = [None, [], {}, "x", -1, 1.5, True, 10**400, [[]], {"a": {"b": []}}]


@pytest.mark.parametrize(
    ("content", "path"),
    [
        *((SEARCH, path) for path in RELIED_ON + OF_SEARCH),
        *((COMPARISON, path) for path in RELIED_ON + OF_COMPARISON),
    ],
    ids=lambda x: ".".join(map(str, x)) if isinstance(x, tuple) else x["config"]["name"],
)
def test_what_is_missing_or_of_another_kind_is_refused(tmp_path, content, path):
    good = content
    for key in path:
        good = good[key]
    if path[-1] not in MAY_BE_MISSING:
        refused(tmp_path, changed(content, path, KeyError))
    for value in WRONG:
        if type(value) is type(good) and not isinstance(value, (dict, list)):
            continue
        try:
            study = read(tmp_path, changed(content, path, value))
        except UserError:
            refused(tmp_path)
            continue
        # An accepted value must have a suitable type.
        allowed = {
            "seed": (bool,),
            "address": (str, type(None)),
            "git": (dict, type(None)),
            "versions": (dict,),
            "cnn": (dict,),
        }
        assert isinstance(value, allowed.get(path[-1], ())), (value, study)


def test_the_line_says_what_is_wrong(tmp_path):
    assert "study.json: damaged (sessions is missing); restore" in refused(
        tmp_path, changed(SEARCH, ("sessions",), KeyError)
    )
    assert "(sessions is empty)" in refused(tmp_path, changed(SEARCH, ("sessions",), []))
    assert "(train is 0)" in refused(tmp_path, changed(SEARCH, ("data", "split", "train"), 0))
    assert "--epochs: 0 is not a whole number" in refused(
        tmp_path, changed(SEARCH, ("config", "epochs"), 0)
    )
    assert "space: lr: the smallest, 5.0, is above the largest, 3.0" in refused(
        tmp_path, changed(SEARCH, ("config", "space", "lr", "attributes", "low"), 5.0)
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"text"',
        "NaN",
        "{}",
        "[" * 100_000,
        '{"a":' * 5_000,
        b"\xff\xfe\x00",
        b"\x00" * 500,
        b"PAR1",
        '{"format_version": ' + "9" * 5_000 + "}",
        changed(COMPARISON, ("config", "title"), "half a character: \ud800"),
    ],
    ids=lambda content: str(content)[:12],
)
def test_what_is_no_study_json_is_refused(tmp_path, content):
    assert "damaged" in refused(tmp_path, content)


def test_a_misspelt_folder_names_the_study_that_is_meant(tmp_path):
    for name in ("second", "thirds", "no-study"):
        (tmp_path / name).mkdir()
    for name in ("second", "thirds"):
        (tmp_path / name / "study.json").write_text(json.dumps(SEARCH))
    assert "no such folder) (did you mean 'second'?); " in refused(tmp_path / "secnd")
    assert "did you mean" not in refused(tmp_path / "no-stud")


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_is_refused(tmp_path, version):
    line = refused(tmp_path, {**SEARCH, "format_version": version})
    assert "reads formats 2, 3, 4, 5 and 6" in line


def test_what_is_not_a_file_is_refused(tmp_path):
    assert "not a study (no such folder); give a folder like" in refused(tmp_path / "nowhere")
    assert "not a study (no study.json)" in refused(tmp_path)
    file = tmp_path / "study.json"
    file.mkdir()
    assert "is not a file" in refused(tmp_path)
    file.rmdir()
    os.mkfifo(file)  # opening it normally would block
    assert "is not a file" in refused(tmp_path)
    file.unlink()
    (tmp_path / "other.json").write_text(json.dumps(SEARCH))
    file.symlink_to("other.json")
    assert "is a link" in refused(tmp_path)
    file.unlink()
    file.symlink_to("nowhere")
    assert "is a link" in refused(tmp_path)
    (tmp_path / "a-file").write_text("")
    assert "not a study" in refused(tmp_path / "a-file")
    assert "cannot be read" in refused(tmp_path / ("x" * 300))


NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/abs",
    "a b",
    "a\n",
    "a\x00b",
    "$(touch x)",
    "`x`",
    "a;b",
    'x"><img src=x onerror=alert(1)>',
    "a\\1",
    "$a_$",
    "<b>",
    "&amp;",
    "a|b",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_more_than_names_are_refused(tmp_path, name):
    for content in (SEARCH, COMPARISON):
        assert "name: " in refused(tmp_path, changed(content, ("config", "name"), name))
    if name not in (".", ".."):  # allowed: no path is an arm's name alone
        arms = {"cnn": {}, name: {}}
        assert "arms: " in refused(tmp_path, changed(COMPARISON, ("config", "arms"), arms))


@pytest.mark.parametrize(
    "place",
    [
        "/any/folder",
        "folder",
        "",
        "..",
        "file:///any/folder",
        "local://x",
        "mock://x",
        "s3://",
        "s3://a-bucket/a?endpoint_override=http://elsewhere",
        "s3://me:secret@a-bucket/a",
        "s3:///x",
        "s3://a b",
        "S3://../x\n",
        3,
        [],
        {},
        True,
    ],
)
def test_a_place_that_is_no_object_store_is_refused(tmp_path, place):
    assert "storage" in refused(tmp_path, {**SEARCH, "storage": place})


def test_an_object_store_is_taken(tmp_path):
    uri = "s3://a-bucket/folder/a-search"
    assert read(tmp_path, {**SEARCH, "storage": uri}).storage == uri


@pytest.mark.parametrize("started", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "12:00"])
def test_a_start_without_its_zone_is_refused(tmp_path, started):
    assert "started" in refused(tmp_path, changed(SEARCH, ("sessions", 0, "started"), started))


def test_the_command_that_resumes_survives_a_shell():
    assert resume_command(A_SEARCH, "results/a") == "python -m study.run --resume results/a"
    for path in ("r dir \u00fc #1 100%", "$(touch x)", "a'b", "s3://b/c?d=e&f=g"):
        command = resume_command(A_COMPARISON, Path(path), "auto; touch x #")
        expected = ["python", "-m", "study.compare", "--resume", str(Path(path))]
        assert shlex.split(command) == [*expected, "--address", "auto; touch x #"]


def test_checksums_are_read_written_and_checked(tmp_path):
    sums = {"a file": "1f"}
    content = {**SEARCH, "data": {**SEARCH["data"], "sha256": sums}}
    study = read(tmp_path, content)
    assert study.sha256 == sums
    study.write(tmp_path)
    assert StudyFile.read(tmp_path).sha256 == sums
    content["data"]["sha256"] = "1f"
    assert "damaged (sha256 is '1f')" in refused(tmp_path, content)
