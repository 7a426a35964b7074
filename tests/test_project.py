"""The project's own files describe it truthfully."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from study import compare, finalize, predict, replay, status
from study.config.questions import QUESTIONS
from study.results.predictions import LOG_P_COLUMNS, PREDICTION_COLUMNS
from study.results.tables import TABLES
from study.run import make_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {file: file.read_text() for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
TEXTS = "\n".join(PAGES.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, list[Version]]:
    """Versions in the constraints file; several if they depend on the Python version."""
    versions: dict[str, list[Version]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", line):
            versions.setdefault(match[1], []).append(Version(match[2]))
    return versions


def requirements():
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(r for group in extras.values() for r in group)]
    return [r for r in map(Requirement, wanted) if r.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_requirement_is_pinned_within_its_bound(requirement):
    assert all(version in requirement.specifier for version in pinned()[requirement.name])


@pytest.mark.parametrize(
    ("package", "bounds"),
    [("ray", ">=2.60,<2.61"), ("optuna", ">=5"), ("torch", ">=2.11")],
)
def test_bounds(package, bounds):
    """Ray's upper bound protects the names in `ray_private`, which another Ray may lack."""
    wanted = {(b.operator, Version(b.version)) for b in SpecifierSet(bounds)}
    for requirement in [r for r in requirements() if r.name == package]:
        assert {(b.operator, Version(b.version)) for b in requirement.specifier} == wanted


def test_the_readmes_commands_come_first_and_ci_runs_the_second():
    first, second = re.findall(r"```bash\n(.*?)\n```", README, re.S)[:2]
    install = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e "
    assert first == install + ". && .venv/bin/python -m study.run --num-samples 40"
    assert second == install + '".[test]" && .venv/bin/python -m pytest'
    assert second in (ROOT / ".ci/run").read_text().splitlines()


def test_the_options_that_the_texts_name_exist():
    commands = (compare, finalize, predict, replay, status)
    parsers = (make_parser(), *(command.make_parser() for command in commands))
    actions = [action for parser in parsers for action in parser._actions]
    options = {option for action in actions for option in action.option_strings}
    for file in (*(ROOT / "benchmarks").glob("*.py"), ROOT / "analysis" / "report.py"):
        options |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', file.read_text()))
    ours = "".join(text for page, text in PAGES.items() if page.name != "cluster.md")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))  # that page names Ray's options, too
    assert named <= options


def test_the_data_dictionary_is_complete():
    dictionary = PAGES[ROOT / "docs/tables.md"]
    words = set(re.findall(r"\w+", dictionary))
    for table, columns in TABLES.items():
        assert f"**{table}.parquet**" in dictionary
        assert set(columns) <= words
    assert "**predictions.parquet**" in dictionary
    assert set(PREDICTION_COLUMNS) - set(LOG_P_COLUMNS) <= words


def test_the_modules_that_the_texts_run_exist():
    modules = set(re.findall(r"python -m ((?:study|analysis|benchmarks)\.\w+)", TEXTS))
    named = {"study.run", "study.finalize", "study.predict", "study.replay", "analysis.report"}
    assert {*named, "benchmarks.training"} <= modules
    assert not [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").is_file()]


def test_the_texts_name_every_built_in_comparison_in_order():
    (listed,) = re.findall(r"study.compare --help` lists the comparisons \(([^)]*)\)", TEXTS)
    assert re.findall(r"`([\w-]+)`", listed) == list(QUESTIONS)


def test_the_kernels_sources_are_installed():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    sources = {file.parent for file in ROOT.glob("study/**/*.c")}
    assert sources == {ROOT / "study/training/kernels"}
    assert "study.training.kernels" in tools["packages"]
    assert tools["package-data"]["study.training.kernels"] == ["*.c"]


def test_every_package_is_installed():
    files = [file for part in ("study", "analysis") for file in (ROOT / part).rglob("__init__.py")]
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(tools["packages"]) == found


@pytest.mark.slow
def test_the_wheel_holds_what_the_commands_need_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    for part in ("study", "analysis"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    expected = {str(file.relative_to(source)) for file in source.glob("*/**/*") if file.is_file()}
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_text_shows_exist(page):
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    assert not [link for link in links if not (page.parent / link).is_file()]


def test_the_readme_leads_to_every_page_and_is_short():
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\(([^)#:]+)\)", README)}
    assert {*PAGES} - linked == {ROOT / "README.md"}
    assert len(README.splitlines()) <= 150
