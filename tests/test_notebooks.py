from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "analysis" / "notebooks"


class ThisPython(KernelSpecManager):
    """Runs kernels with the interpreter of the tests, whatever is registered."""

    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs_on_a_study(path, made_up, tmp_path):
    """Unchanged, beside a results folder."""
    where = tmp_path / "analysis" / "notebooks"
    where.mkdir(parents=True)
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), ip="127.0.0.1")
    client = NotebookClient(
        notebook, km=manager, timeout=120, resources={"metadata": {"path": str(where)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4
    tables = [o["data"]["text/plain"] for o in outputs if "text/html" in o.get("data", {})]
    assert "trial_00001" in tables[0]
    assert made_up.path.name in outputs[0]["text"]
