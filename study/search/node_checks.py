"""Checks of each node before the first trial."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.console.errors import UserError
from study.results.storage import Storage
from study.results.versions import installed_versions

ANSWER_WITHIN_S = 90.0  # a node's first Python process, with its imports, takes some
FREE_BYTES = 200 * 2**20  # checkpoints of a few trials; less is nearly full
INSTALL = "install the same everywhere: pip install -c constraints.txt ."


def check(storage: Storage, *, cluster: bool) -> None:
    """Ask each node that can hold a trial for what trials need there.

    Args:
        storage: Where the study is to be written.
        cluster: Whether Ray also runs on other machines. If not, only this disk is checked.

    Raises:
        UserError: A node lacks something. One line for each fault: node, cause, fix.
    """
    complaints = _about_disk("this machine", free_space(storage.folder))
    if cluster:
        with storage.marker() as marker:
            for node, answer in _ask_nodes(marker, storage.folder):
                complaints += _about(node, answer, storage)
    if complaints:
        raise UserError("\nerror: ".join(complaints))


def _ask_nodes(marker: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each node's name and its `probe`, or what kept it from answering."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    # By value, so that a node without the package reports it instead of failing to load this.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        on_a_node: Any = ray.remote(probe)
        asked = [
            on_a_node.options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(marker, str(folder))
            for node in nodes
        ]
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.wait(asked, num_returns=len(asked), timeout=ANSWER_WITHIN_S)
    answers = []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            answer = ray.get(reference, timeout=0)
        except GetTimeoutError:
            answer = {"fault": f"does not answer within {ANSWER_WITHIN_S:.0f} s"}
        except RayError as error:
            answer = {"fault": str(error).strip().splitlines()[-1]}
        answers.append((f"node {node['NodeManagerAddress']}", answer))
    return sorted(answers, key=lambda answer: answer[0])


def probe(marker: str, folder: str) -> dict[str, Any]:
    """Report what a node offers. Runs on that node and must not need this package.

    Args:
        marker: A file in the study's storage, a path or a URI.
        folder: The study's.
    """
    from pyarrow.fs import FileSystem, FileType

    try:
        import study.search.trainable  # noqa: F401 -- what a trial imports
        from study.results.versions import installed_versions
    except Exception as error:
        return {"import": f"{type(error).__name__}: {error}"}
    filesystem, path = FileSystem.from_uri(marker)
    return {
        "versions": installed_versions(),
        "sees": filesystem.get_file_info(path).type == FileType.File,
        "free": free_space(Path(folder)),
    }


def free_space(folder: Path) -> dict[str, int]:
    """Free bytes where Ray keeps its temporary files, and in `folder` if that can be seen."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    places = {tempfile.gettempdir(), str(above)}
    return {place: shutil.disk_usage(place).free for place in sorted(places)}


def _about(node: str, answer: dict[str, Any], storage: Storage) -> list[str]:
    """What is wrong with a node."""
    if "fault" in answer:
        return [f"{node}: {answer['fault']}; look at its Ray logs, or remove it from the cluster"]
    if "import" in answer:
        return [f"{node}: cannot import this package ({answer['import']}); {INSTALL}"]
    here = installed_versions()
    complaints = [
        f"{node}: {name} is {there or 'missing'} there and {here[name]} here; {INSTALL}"
        for name, there in answer["versions"].items()
        if there != here[name]
    ]
    if not answer["sees"]:
        where = storage.uri or storage.folder.absolute().parent
        mend = (
            "check its credentials and network"
            if storage.uri
            else "give a folder that all nodes mount by --results-dir, or --storage-path s3://…"
        )
        complaints.append(f"{node}: does not see {where}; {mend}")
    return complaints + _about_disk(node, answer["free"])


def _about_disk(node: str, free: dict[str, int]) -> list[str]:
    return [
        f"{node}: only {free_bytes / 2**20:.0f} MB free in {place}; make room there"
        for place, free_bytes in free.items()
        if free_bytes < FREE_BYTES
    ]
