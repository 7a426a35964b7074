"""Each notebook runs unchanged on small tables. Its committed outputs show real results."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from study.config.questions import QUESTIONS
from tests.helpers.compared import write_comparison

NOTEBOOKS = Path(__file__).resolve().parents[1] / "analysis" / "notebooks"
PICTURES = {"64_vs_512.ipynb": 5, "claims.ipynb": 1, "search.ipynb": 4}


class ThisPython(KernelSpecManager):
    """Runs kernels with the interpreter of the tests, whichever kernels are registered."""

    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def check(notebook, name):
    """No error output, and every picture."""
    outputs = outputs_of(notebook)
    assert not [o for o in outputs if o.get("name") == "stderr" or o["output_type"] == "error"]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == PICTURES[name]


@pytest.fixture
def where(made_up, tmp_path):
    """A folder like that of the notebooks, beside small results."""
    paper = tmp_path / "results" / "paper"
    write_comparison(paper / "batch-size", QUESTIONS["batch-size"].select(None))
    write_comparison(paper / "models", QUESTIONS["models"].select(None))
    shutil.copytree(made_up.path, paper / "search")
    folder = tmp_path / "analysis" / "notebooks"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_notebook_runs(name, where):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), ip="127.0.0.1")
    client = NotebookClient(
        notebook, km=manager, timeout=120, resources={"metadata": {"path": str(where)}}
    )
    client.execute()
    check(notebook, name)


def test_there_is_no_other_notebook():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_committed_was_run_from_top_to_bottom(name):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    check(notebook, name)
    counts = [cell["execution_count"] for cell in notebook.cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
