"""The benchmarks run, report faults of the trainer, and refuse bad input."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks import checks, equivalence, machine, study, time_to_accuracy, training
from benchmarks.reference import ReportCNN, ReportLoop, append_to_file, loader_splits
from study.data.sources import default_data_dir
from study.training.device import GraphedStep
from study.training.models import BatchNormReLU, MaskDropout, SmallCNN, count_parameters
from study.training.trainer import Trainer

DATA = default_data_dir()


def words(line: str) -> list[str]:
    return line.split()


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_the_engine_is_the_plain_network(model, mnist):
    assert checks.problems(model, "cpu", DATA) == []


def wrong_weight(monkeypatch):
    forward = SmallCNN._compiled_features
    monkeypatch.setattr(SmallCNN, "_compiled_features", lambda self, x: forward(self, x) * 1.0001)


def naive_sums(monkeypatch):
    def forward(self, x, residual=None):
        y = torch.nn.BatchNorm2d.forward(self, x)
        return torch.relu(y if residual is None else residual + y)

    monkeypatch.setattr(BatchNormReLU, "forward", forward)


def same_example_twice(monkeypatch):
    train = Trainer._train_epoch

    def forgetful(self):
        train(self)
        self.order[0] = self.order[1]

    monkeypatch.setattr(Trainer, "_train_epoch", forgetful)


def last_batch_left_out(monkeypatch):
    sizes = Trainer.batch_sizes
    monkeypatch.setattr(Trainer, "batch_sizes", lambda self: sizes(self)[:-1])
    monkeypatch.setattr(Trainer, "run_epoch", lambda self: (self._train_epoch(), RECORD)[1])


RECORD = type("Record", (), {"step": 5, "examples_seen": checks.CHECK_EXAMPLES})


def other_rate(monkeypatch):
    noise = MaskDropout.noise
    monkeypatch.setattr(MaskDropout, "noise", lambda self, *a: noise(self, *a).clamp(min=64))


@pytest.mark.parametrize(
    ("model", "fault", "message"),
    [
        ("cnn", wrong_weight, r"gradients differ by \d\.\de-04, relative to their size"),
        (
            "resnet18",
            naive_sums,
            "rounding changes the gradient .* times as much as in plain torch",
        ),
        ("cnn", same_example_twice, "an epoch does not use every example once"),
        ("cnn", last_batch_left_out, "not every step was taken"),
        ("cnn", other_rate, "dropout of 0.25 keeps 1.0000"),
    ],
)
def test_a_fault_in_the_engine_is_found(monkeypatch, mnist, model, fault, message):
    fault(monkeypatch)
    with pytest.raises(SystemExit, match=f"Fix this before trusting any timing: .*{message}"):
        checks.require(model, "cpu", DATA)


class Stale:
    """A graph that was captured wrongly: what it read then, it reads in each replay."""

    def __init__(self, trainer, fault):
        self.trainer, self.fault, self.runs = trainer, fault, Counter()

    def __call__(self, step, size):
        self.runs[size] += 1
        if self.runs[size] <= GraphedStep.PLAIN_RUNS:
            step(size)
        elif self.fault == "the same dropout":
            state = self.trainer.dropout_rng.get_state()
            step(size)
            self.trainer.dropout_rng.set_state(state)
        elif self.fault == "the first batch":
            done = self.trainer.steps_done.clone()
            self.trainer.steps_done.zero_()
            step(size)
            self.trainer.steps_done.copy_(done + 1)
        elif self.fault == "the partial batch is lost" and size == 52:
            self.trainer.steps_done += 1
        else:
            step(size)


@pytest.mark.parametrize("optimizer", ["adadelta", "sgd", "adamw"])
@pytest.mark.parametrize(
    "fault", ["", "the same dropout", "the first batch", "the partial batch is lost"]
)
def test_a_graph_that_does_other_than_the_steps_is_found(monkeypatch, mnist, optimizer, fault):
    """The check itself, with a stand-in for graphs, which a CPU does not have."""
    init = Trainer.__init__

    def with_stale_graph(self, *args, compiled=True, **more):
        init(self, *args, compiled=False, **more)
        self.graphed = Stale(self, fault)

    monkeypatch.setattr(Trainer, "__init__", with_stale_graph)
    found = checks.graph_problems("cnn", "cpu", DATA, [optimizer])
    assert len(found) == bool(fault)
    assert all(f"of the way apart with {optimizer}" in line for line in found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_on_a_gpu_the_engine_is_the_plain_network_with_plain_steps(model, mnist):
    assert checks.problems(model, "cuda", DATA) == []


@pytest.mark.slow
def test_equivalence_over_seeds(mnist, tmp_path, capsys):
    """Two seeds give a wide interval, so only the output is checked, not the verdict."""
    file = tmp_path / "figures.json"
    with contextlib.suppress(SystemExit):
        equivalence.main(words(f"--seeds 2 --epochs 1 --json {file}"))
    accuracies = json.loads(file.read_text())["accuracies"]
    assert set(accuracies) == {"plain fp32", "fp32", "bf16"}
    assert all(0.9 < value < 1 for values in accuracies.values() for value in values)
    assert "minus plain fp32" in capsys.readouterr().out


def test_training(mnist, tmp_path, capsys):
    file = tmp_path / "new" / "figures.json"
    options = "--batch-size 64 --examples 640 --rounds 2 --together 2"
    training.main(words(f"{options} --json {file}"))
    figures = json.loads(file.read_text())
    (result,) = figures["results"]
    assert set(result["seconds"]) == {"report", "example", "fp32", "bf16"}
    assert all(len(rounds) == 2 for rounds in result["seconds"].values())
    assert len(result["samples_per_second_together"]["2"]) == 2
    assert figures["flop_per_example"] == machine.training_flops("cnn")
    assert figures["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    out = capsys.readouterr().out
    median = np.median([640 / t["train"] / 1000 for t in result["seconds"]["bf16"]])
    assert f"cnn 64 bf16 │ {median:.2f}" in re.sub(" +", " ", out)


def test_training_flops_by_hand():
    """Twice the multiply-adds forward; backward the same for weights and, but first, for inputs."""
    conv1, conv2 = 26 * 26 * 8 * 9, 24 * 24 * 16 * 8 * 9
    rest = 2304 * 64 + 64 * 10
    assert machine.training_flops("cnn") == 2 * (3 * (conv2 + rest) + 2 * conv1)


def test_time_to_accuracy(mnist, tmp_path, capsys):
    file = tmp_path / "figures.json"
    options = "--arms ours --batch-size 512 --seeds 2 --epochs 1 --target 0.9"
    time_to_accuracy.main(words(f"{options} --json {file}"))
    races = json.loads(file.read_text())["results"]["512 ours"]
    assert [race["epochs"] for race in races] == [1, 1]
    assert all(race["best"] > 0.9 and race["seconds"] > 0 for race in races)
    assert races[0]["best"] != races[1]["best"]
    assert "2 of 2" in capsys.readouterr().out


def test_a_target_that_is_not_reached_has_no_time(mnist, capsys):
    options = "--arms ours --batch-size 512 --seeds 1 --epochs 1 --target 0.9999"
    time_to_accuracy.main(words(options))
    assert re.search(r"0 of 1\D+- ", capsys.readouterr().out)


@pytest.mark.slow
def test_study(mnist, tmp_path, capsys):
    file = tmp_path / "figures.json"
    study.main(words(f"--trials 2 --epochs 1 --json {file}"))
    results = json.loads(file.read_text())["results"]
    for (measured,) in results.values():
        assert measured["trials"] == 2
        assert 0 < measured["training_s"] <= measured["slots"] * measured["search_s"]
        assert measured["start_up_s"] + measured["search_s"] <= measured["wall_s"]
    assert "trials/hour" in capsys.readouterr().out


def test_the_reports_network_and_files(mnist, tmp_path):
    assert count_parameters(ReportCNN()) == 149_418
    for value in (1.5, 2.5):
        append_to_file(tmp_path / "loss.npy", np.float32(value))
    content = np.load(tmp_path / "loss.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(content["loss"], [1.5, 2.5])


def test_the_reports_loop_learns(mnist):
    loop = ReportLoop("cnn", 64, loader_splits(DATA, 2_560), "cpu")
    before = loop.evaluate()
    loop.train()
    assert before < 0.4 < loop.evaluate()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (training, "--device cuda", "--device: cuda: torch sees no GPU here"),
        (training, "--rounds 0", "must be at least 1"),
        (training, "--examples 60001", "--examples: 60001 must be between"),
        (training, "--examples 100", "--examples: 100 must be between"),
        (training, "--model vgg", "invalid choice: 'vgg'"),
        (equivalence, "--device cuda", "--device: cuda: torch sees no GPU here"),
        (equivalence, "--seeds 1", "--seeds: 1 gives no interval; use at least 2"),
        (study, "--trials 0", "must be at least 1"),
        (time_to_accuracy, "--target 98.75", "--target: 98.75 is not a fraction"),
        (time_to_accuracy, "--epochs 0", "must be at least 1"),
        (time_to_accuracy, "--device cuda", "--device: cuda: torch sees no GPU here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, command, arguments, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        command.main(words(arguments))
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
