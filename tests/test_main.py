"""All commands under one name, and their completion in a shell."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from study.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gets_its_own_words(name, capsys, monkeypatch):
    module = import_module(COMMANDS[name][0])
    monkeypatch.setattr(module, "main", lambda words: print(words) or 7)
    assert main([name, "--help", "x"]) == 7
    assert capsys.readouterr().out == "['--help', 'x']\n"


def test_every_command_is_among_them():
    entries = {f"study.{file.stem}" for file in (ROOT / "study").glob("*.py")}
    entries = {each for each in entries if hasattr(import_module(each), "make_parser")}
    assert {module for module, _ in COMMANDS.values()} == {*entries, "analysis.report"}


@pytest.mark.parametrize("words", [[], ["rn"], ["completion"], ["completion", "x"]])
def test_other_words_are_refused_in_one_line(words, capsys):
    with pytest.raises(SystemExit) as refused:
        main(words)
    assert refused.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def complete(script, *words):
    """What bash completes the last of `words` to."""
    lines = [script, f"COMP_WORDS=({' '.join(words)})", f"COMP_CWORD={len(words) - 1}"]
    lines += ["_shtab_mnist_study", 'echo "${COMPREPLY[@]}"']
    found = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_options_and_files(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert {*COMMANDS} <= {*complete(script, "mnist-study", "''")}
    assert complete(script, "mnist-study", "run", "--num-s") == ["--num-samples"]
    assert "README.md" in complete(script, "mnist-study", "status", "READ")


def test_the_installed_command_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"mnist-study": "study.__main__:main"}
