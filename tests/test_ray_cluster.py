"""The cluster files, as far as they can be checked without a cloud: by Ray's schema and code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import boto3
import jsonschema
import pytest
import ray
import yaml
from moto import mock_aws
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config

from study import compare, finalize, predict, replay, run, status
from tests.test_project import PROJECT, ROOT, pinned

AWS = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
LOCAL = yaml.safe_load((ROOT / "docs" / "on_premises.yaml").read_text())
KUBERAY = yaml.safe_load((ROOT / "docs" / "kuberay.yaml").read_text())
JOB = KUBERAY["spec"]
GROUPS = [JOB["rayClusterSpec"]["headGroupSpec"], *JOB["rayClusterSpec"]["workerGroupSpecs"]]
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
DOC = (ROOT / "docs" / "cluster.md").read_text()
FILES = ("ray_cluster.yaml", "docs/on_premises.yaml", "docs/kuberay.yaml", "README.md")
TEXTS = [DOC, *((ROOT / name).read_text() for name in FILES)]
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
    assert JOB["rayClusterSpec"]["rayVersion"] == str(RAY)
    images = [group["template"]["spec"]["containers"][0]["image"] for group in GROUPS]
    assert {image.partition(":")[2] for image in images} == {f"ray-{RAY}-py311-gpu"}
    assert Version("3.11") in Requirement(f"x{PROJECT['requires-python']}").specifier
    for text in TEXTS:
        assert set(re.findall(r"ray\[default\]==([\d.]+)", text)) <= {str(RAY)}


def test_workers_are_spot_and_only_while_needed():
    head, worker = AWS["available_node_types"]["head"], AWS["available_node_types"]["gpu_worker"]
    assert head["resources"] == {"CPU": 0}
    assert worker["min_workers"] == 0
    assert worker["max_workers"] <= AWS["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert GROUPS[0]["rayStartParams"]["num-cpus"] == "0"


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


def test_the_commands_of_the_files_are_shell():
    lists = [value for config in (AWS, LOCAL) for key, value in config.items() if "commands" in key]
    assert len(lists) > 5
    for command in [JOB["entrypoint"], *(command for each in lists for command in each)]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_results_go_to_what_is_mounted():
    (volume,) = (o.split()[1] for o in AWS["docker"]["run_options"] if o.startswith("-v"))
    on_the_machine, in_the_container = volume.split(":")
    assert f":/ {on_the_machine}" in " ".join(AWS["initialization_commands"])
    for group in GROUPS:
        pod = group["template"]["spec"]
        ((mount,), (claim,)) = pod["containers"][0]["volumeMounts"], pod["volumes"]
        assert (mount["name"], mount["mountPath"]) == (claim["name"], in_the_container)
    folders = [
        args[args.index("--results-dir") + 1] for _, args in commands() if "--results-dir" in args
    ]
    assert len(folders) > 4
    assert set(folders) <= {in_the_container, "/shared/results"}


def test_the_kuberay_job_reaches_the_shell_whole():
    """KubeRay's submitter is a shell command, and `ray job submit` joins the words it gets."""
    assert (KUBERAY["apiVersion"], KUBERAY["kind"]) == ("ray.io/v1", "RayJob")
    assert JOB["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    arguments = shlex.split(JOB["entrypoint"])
    assert shlex.split(subprocess.list2cmdline(arguments)) == arguments
    new = "test() { false; }; python() { echo $*; }; " + arguments[2]
    out = subprocess.run(["sh", "-c", new], capture_output=True, text=True, check=True).stdout
    assert "--num-samples 40" in out
    again = new.replace("false", "true")
    out = subprocess.run(["sh", "-c", again], capture_output=True, text=True, check=True).stdout
    assert "--resume /results/k8s-study" in out


@pytest.mark.slow
def test_rays_aws_code_makes_what_the_file_describes(monkeypatch, tmp_path):
    """Use a simulated AWS, which checks requests like the real one."""
    for name, value in {
        "HOME": tmp_path,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        from ray.autoscaler._private.aws import config as launcher
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        monkeypatch.setattr("time.sleep", lambda _: None)  # the launcher gives AWS time
        config = launcher.bootstrap_aws(prepare_config(AWS))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, node_type in config["available_node_types"].items():
            provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
        ec2 = boto3.client("ec2", AWS["provider"]["region"])
        made = [r["Instances"][0] for r in ec2.describe_instances()["Reservations"]]
        groups = ec2.describe_security_groups(GroupIds=[made[0]["SecurityGroups"][0]["GroupId"]])[
            "SecurityGroups"
        ]
    assert {(i["InstanceType"], i.get("InstanceLifecycle")) for i in made} == {
        ("m5.large", None),
        ("g4dn.xlarge", "spot"),
    }
    # The launcher's default image is too old for torch.
    assert not {i["ImageId"] for i in made} & set(launcher.DEFAULT_AMI.values())
    rules = groups[0]["IpPermissions"]
    assert [rule["FromPort"] for rule in rules if rule["IpRanges"]] == [22]
    inside = [pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]]
    assert inside == [groups[0]["GroupId"]]


def test_the_messages_that_the_troubleshooting_explains_exist():
    code = "".join(path.read_text() for path in (ROOT / "study").rglob("*.py"))
    code = re.sub(r'"\s+f?"', "", code)  # a text over several lines
    messages = re.findall(r"^\| `([^`]+)` \|", DOC, re.M)
    assert len(messages) > 6
    for message in messages:
        for part in message.split("…"):
            assert part.strip(" :") in code, message


def commands():
    """Every command of ours in the texts, as words without the shell's quotes."""
    for text in TEXTS:
        text = re.sub(r"\\\n#?\s*|\n\s{4}(?=--)", " ", text)
        for match in re.finditer(r"python -m study\.(\w+)([^\n'`;#]*)", text):
            yield match[1], shlex.split(match[2])


@pytest.mark.parametrize(("module", "arguments"), list(commands()))
def test_the_commands_parse(module, arguments):
    commands = (run, compare, finalize, predict, replay, status)
    parsers = {command.__name__.rpartition(".")[2]: command.make_parser for command in commands}
    if arguments != ["--help"] and not {"NAME", "…"} & set(arguments):
        parsers[module]().parse_args(arguments)


def test_there_are_commands():
    assert len(list(commands())) > 12
