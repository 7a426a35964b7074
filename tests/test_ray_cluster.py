"""The cluster files, as far as they can be checked without a cloud: by Ray's schema and code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config

from study import compare, run, status
from tests.test_project import PROJECT, ROOT, pinned

AWS = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
LOCAL = yaml.safe_load((ROOT / "docs" / "on_premises.yaml").read_text())
KUBERAY = yaml.safe_load((ROOT / "docs" / "kuberay.yaml").read_text())
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
TEXTS = [
    (ROOT / name).read_text()
    for name in ("ray_cluster.yaml", "docs/cluster.md", "docs/kuberay.yaml", "README.md")
]
(RAY,) = pinned()["ray"]


def test_the_aws_file_as_it_stands_follows_the_schema():
    jsonschema.validate(AWS, SCHEMA)


@pytest.mark.parametrize("config", [AWS, LOCAL], ids=["aws", "on_premises"])
def test_rays_launcher_takes_the_file(config):
    validate_config(prepare_config(config))


@pytest.mark.parametrize("config", [AWS, LOCAL], ids=["aws", "on_premises"])
def test_the_check_can_fail(config):
    with pytest.raises(Exception, match="no_such_key"):
        validate_config({**prepare_config(config), "no_such_key": 1})


def test_the_pinned_versions_are_named():
    assert AWS["docker"]["image"] == f"rayproject/ray:{RAY}-py311-gpu"
    assert KUBERAY["spec"]["rayClusterSpec"]["rayVersion"] == str(RAY)
    groups = [KUBERAY["spec"]["rayClusterSpec"]["headGroupSpec"]]
    groups += KUBERAY["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    images = [group["template"]["spec"]["containers"][0]["image"] for group in groups]
    assert {image.partition(":")[2] for image in images} == {f"ray-{RAY}-py311-gpu"}
    assert Version("3.11") in Requirement(f"x{PROJECT['requires-python']}").specifier
    for text in (*TEXTS, (ROOT / "docs/on_premises.yaml").read_text()):
        assert set(re.findall(r"ray\[default\]==([\d.]+)", text)) <= {str(RAY)}


def test_workers_are_spot_and_only_while_needed():
    head, worker = AWS["available_node_types"]["head"], AWS["available_node_types"]["gpu_worker"]
    assert head["resources"] == {"CPU": 0}
    assert worker["min_workers"] == 0
    assert worker["max_workers"] <= AWS["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert KUBERAY["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("config", [AWS, LOCAL], ids=["aws", "on_premises"])
def test_every_node_gets_the_package_the_token_and_a_closed_dashboard(config):
    assert config["file_mounts"]["~/mnist-study"] == "."
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    install = " ".join(config["setup_commands"])
    assert "--constraint ~/mnist-study/constraints.txt" in install
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    start = " ".join([*config["head_start_ray_commands"], *config["worker_start_ray_commands"]])
    options = config.get("docker", {}).get("run_options", [])
    assert start.count("RAY_AUTH_MODE=token") == 2 or "-e RAY_AUTH_MODE=token" in options


def commands():
    """Every command of ours in the texts, without what the shell takes off it."""
    for text in TEXTS:
        text = re.sub(r"\\\n#?\s*|\n\s{4}(?=--)", " ", text)
        for match in re.finditer(r"python -m study\.(\w+)([^\n'`;#]*)", text):
            yield match[1], shlex.split(match[2])


@pytest.mark.parametrize(("module", "arguments"), list(commands()))
def test_the_commands_parse(module, arguments):
    parsers = {"run": run.make_parser, "compare": compare.make_parser, "status": status.make_parser}
    if arguments != ["--help"] and not {"NAME", "…"} & set(arguments):
        parsers[module]().parse_args(arguments)


def test_there_are_commands():
    assert len(list(commands())) > 12
