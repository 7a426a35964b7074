"""Check that each node can run trials: packages, versions, shared folder, disk space, GPUs."""

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
from study.training import kernels
from study.training.device import cuda_problem

ANSWER_WITHIN_S = 90.0  # a node's first Python process takes long to start and import
FREE_BYTES = 200 * 2**20  # enough for the checkpoints of a few trials
INSTALL = "install the same versions on every node: pip install -c constraints.txt ."


def check(storage: Storage, *, cluster: bool, gpus: bool) -> list[str]:
    """Check that each node with a CPU core has what trials need.

    Args:
        storage: The study's files.
        cluster: Whether Ray also runs on other machines. If not, only this machine's disk, GPUs
            and compiler are checked.
        gpus: Whether trials take GPUs.

    Returns:
        What makes trials slow: one line per node whose compiler does not work.

    Raises:
        UserError: A node lacks something. The message has one line per fault, with the node,
            the cause and the fix.
    """
    complaints = _about_disk("this machine", free_space(storage.folder))
    slow: dict[str, str | None] = {}
    if cluster:
        with storage.marker() as marker:
            for node, answer in _ask_nodes(marker, storage.folder, gpus=gpus):
                complaints += _about(node, answer, storage)
                slow[node] = answer.get("kernels")
    elif gpus:
        complaints += _about_gpu("this machine", cuda_problem())
    else:
        slow["this machine"] = kernels.problem()
    if complaints:
        raise UserError("\nerror: ".join(complaints))
    return [
        f"{node}: {problem}. Until then trials train at about half speed there."
        for node, problem in slow.items()
        if problem
    ]


def _ask_nodes(marker: str, folder: Path, *, gpus: bool) -> list[tuple[str, dict[str, Any]]]:
    """Each node's name, and the result of its `probe` or the reason why there is none."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    # Pickled by value, so that a node without this package can still run `probe` and say so.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        on_a_node: Any = ray.remote(probe)
        asked = [
            on_a_node.options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(marker, str(folder), gpus and "GPU" in node["Resources"], not gpus)
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


def probe(marker: str, folder: str, gpu: bool, compiler: bool) -> dict[str, Any]:
    """Report what a node offers. Runs on that node and must not need this package.

    Args:
        marker: Path or URI of a file in the study's storage.
        folder: The study's folder.
        gpu: Whether torch must see a GPU. It does so although the probe takes none.
        compiler: Whether to try the C compiler.
    """
    from pyarrow.fs import FileSystem, FileType

    try:
        import study.search.trainable  # noqa: F401 -- what a trial imports
        from study.results.versions import installed_versions
        from study.training import kernels
        from study.training.device import cuda_problem
    except Exception as error:
        return {"import": f"{type(error).__name__}: {error}"}
    filesystem, path = FileSystem.from_uri(marker)
    return {
        "versions": installed_versions(),
        "sees": filesystem.get_file_info(path).type == FileType.File,
        "free": free_space(Path(folder)),
        "gpu": cuda_problem() if gpu else None,
        "kernels": kernels.problem() if compiler else None,
    }


def free_space(folder: Path) -> dict[str, int]:
    """Free bytes in Ray's temporary folder and in `folder`, or in its nearest existing parent."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    places = {tempfile.gettempdir(), str(above)}
    return {place: shutil.disk_usage(place).free for place in sorted(places)}


def _about(node: str, answer: dict[str, Any], storage: Storage) -> list[str]:
    """The faults of a node, one line per fault."""
    if "fault" in answer:
        return [f"{node}: {answer['fault']}; see its Ray logs, or remove it from the cluster"]
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
        fix = (
            "check its credentials and network"
            if storage.uri
            else "use --results-dir with a folder that all nodes share, or --storage-path s3://…"
        )
        complaints.append(f"{node}: does not see {where}; {fix}")
    return complaints + _about_disk(node, answer["free"]) + _about_gpu(node, answer["gpu"])


def _about_gpu(node: str, problem: str | None) -> list[str]:
    if problem is None:
        return []
    return [
        f"{node}: Ray sees a GPU there, but torch cannot use it ({problem}); fix that, or train on "
        "CPU cores with --gpus-per-trial 0"
    ]


def _about_disk(node: str, free: dict[str, int]) -> list[str]:
    return [
        f"{node}: only {free_bytes / 2**20:.0f} MB free in {place}; free some space there"
        for place, free_bytes in free.items()
        if free_bytes < FREE_BYTES
    ]
