from __future__ import annotations

import copy
import io
import warnings
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from study.config.datasets import DATASET_SPECS
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.data.images import ImageData
from study.training.device import DeviceImages, GraphedStep, omp_threads, resolve_precision
from study.training.epoch import EARLIER_NAMES, TIMES
from study.training.models import MaskDropout
from study.training.trainer import Trainer
from tests.helpers.networks import learning_state, without_collector

CPU = torch.device("cpu")
CONFIGS = [
    TrialConfig(batch_size=16, epochs=3, precision="fp32", batch_norm=True, train_examples=50),
    TrialConfig(batch_size=20, epochs=4, precision="fp32"),
    TrialConfig(batch_size=20, epochs=4, precision="bf16", optimizer="sgd", lr=0.02),
    TrialConfig(batch_size=32, epochs=4, precision="fp32", optimizer="adamw", lr=1e-3),
    TrialConfig(batch_size=32, epochs=3, precision="fp32", model="resnet18", width_mult=0.5),
]


def run(config, digits, epochs=None):
    trainer = Trainer(config, *digits, device=CPU)
    for _ in range(epochs or config.epochs):
        trainer.run_epoch()
    return trainer


def record(trainer):
    """Everything that a trial leaves behind, except wall times."""
    losses = [e.tobytes() for e in (x.numpy() for x in trainer.step_losses)]
    epochs = [replace(e, **dict.fromkeys(TIMES, 0)) for e in trainer.epochs]
    return learning_state(trainer.model), losses, epochs


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model}-{c.optimizer}-{c.precision}")
def test_same_seed_same_bits_other_seed_other_bits(config, digits):
    first = record(run(config, digits))
    assert record(run(config, digits)) == first
    assert record(run(replace(config, seed=2), digits)) != first


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model}-{c.optimizer}-{c.precision}")
def test_resuming_after_any_epoch_equals_an_uninterrupted_run(config, digits):
    whole = record(run(config, digits))
    for after in range(1, config.epochs):
        file = io.BytesIO()
        torch.save(run(config, digits, after).state_dict(), file)
        torch.manual_seed(999)  # nothing may depend on the global stream
        resumed = Trainer(config, *digits, device=CPU)
        file.seek(0)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        while not resumed.finished:
            resumed.run_epoch()
        assert record(resumed) == whole


def test_a_checkpoint_of_an_earlier_version_goes_on(digits):
    config = CONFIGS[0]
    state = run(config, digits, 1).state_dict()
    earlier = {new: old for old, new in EARLIER_NAMES["epochs"].items()}
    state["epochs"] = [
        {earlier.get(name, name): value for name, value in epoch.items() if name != "epoch_ended"}
        for epoch in state["epochs"]
    ]
    assert {"val_loss", "lr", "seconds"} < state["epochs"][0].keys()
    resumed = Trainer(config, *digits, device=CPU)
    resumed.load_state_dict(state)
    while not resumed.finished:
        resumed.run_epoch()
    assert record(resumed) == record(run(config, digits))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model}-{c.optimizer}-{c.precision}")
def test_a_trainer_is_freed_at_once(config, digits):
    """Its memory on a GPU, and its graphs, must be gone before the next trial begins."""
    trainer = run(config, digits, 1)
    alive = weakref.ref(trainer)
    with without_collector():
        del trainer
        assert alive() is None


def test_a_trial_leaves_the_global_stream_alone(digits):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(CONFIGS[0], digits, 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_another_trial_is_refused(digits):
    state = run(CONFIGS[0], digits, 1).state_dict()
    with pytest.raises(ValueError, match="checkpoint of"):
        Trainer(replace(CONFIGS[0], lr=0.5), *digits, device=CPU).load_state_dict(state)


def test_epoch_record_counts_and_means(digits):
    trainer = run(TrialConfig(batch_size=20, epochs=2, gamma=0.5, precision="fp32"), digits)
    assert trainer.batch_sizes() == [20, 20, 20, 20, 16]
    assert [e.step for e in trainer.epochs] == [5, 10]
    assert [e.examples_seen for e in trainer.epochs] == [96, 192]
    assert [e.epoch_lr for e in trainer.epochs] == [1.0, 0.5]
    for epoch, losses in zip(trainer.epochs, trainer.step_losses, strict=True):
        expected = np.average(losses.double().numpy(), weights=[20, 20, 20, 20, 16])
        assert epoch.train_loss == pytest.approx(expected, rel=1e-12)
        assert 0 < epoch.eval_seconds < epoch.epoch_seconds


def test_every_example_once_an_epoch_in_a_fresh_order(digits, monkeypatch):
    seen = []
    batch = DeviceImages.batch

    def spy(self, index):
        if not isinstance(index, slice):
            seen.append(index)
        return batch(self, index)

    monkeypatch.setattr(DeviceImages, "batch", spy)
    run(TrialConfig(batch_size=20, epochs=2), digits)
    first, second = torch.cat(seen[:5]), torch.cat(seen[5:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(96))
    assert not torch.equal(first, second)


def test_evaluation_is_the_plain_definition(digits):
    trainer = run(CONFIGS[0], digits, 1)
    spec = DATASET_SPECS["mnist"]
    images = (torch.tensor(digits[1].images / 255).unsqueeze(1) - spec.mean) / spec.std
    with torch.no_grad():
        logits = trainer.model.eval()(images.float())
    labels = torch.tensor(digits[1].labels).long()
    assert trainer.epochs[-1].eval_loss == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert trainer.epochs[-1].eval_accuracy == (logits.argmax(1) == labels).double().mean()


@pytest.mark.parametrize(("model", "lr", "rtol"), [("cnn", 1.0, 2e-5), ("resnet18", 0.01, 1e-3)])
def test_each_step_is_the_plain_step(model, lr, rtol, digits):
    """One epoch against plain modules, batches and loss, with the same order and masks.

    The ResNet's rounding errors grow from step to step, and larger ones grow faster.
    """
    config = TrialConfig(model=model, batch_size=20, epochs=1, precision="fp32", lr=lr)
    ours = run(config, digits)
    assert ours.compiled
    # Used only for its initial weights and streams.
    plain = Trainer(config, *digits, device=CPU, compiled=False)
    order = torch.randperm(96, generator=plain.order_rng)
    optimizer = torch.optim.Adadelta(plain.model.parameters(), lr=config.lr, foreach=False)
    losses = []
    plain.model.train()
    for index in order.split(20):
        images = (torch.tensor(digits[0].images)[index].unsqueeze(1) / 255 - 0.1307) / 0.3081
        optimizer.zero_grad()
        loss = F.cross_entropy(plain.model(images), torch.tensor(digits[0].labels).long()[index])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(ours.step_losses[0], losses, rtol=rtol)


class Waits(TorchDispatchMode):
    """Counts the calls that would make the host wait if the tensors were on a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}
        self.count += func.overloadpacket.__name__ in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model}-{c.optimizer}-{c.precision}")
def test_nothing_waits_for_the_device_within_an_epoch(config, digits):
    trainer = Trainer(config, *digits, device=CPU, compiled=False)
    for _ in range(2):  # the first step sets up the optimizer
        with Waits() as waits:
            trainer._train_epoch()
            sums = trainer._evaluate(trainer.eval_data)
            assert waits.count == 0
            assert sums[1] >= 0
            assert waits.count == 1  # it can see one


@pytest.mark.parametrize("registers", ["silently", "with a warning", "no longer"])
def test_a_graph_is_captured_once_a_batch_size_after_plain_runs(monkeypatch, recwarn, registers):
    """As far as it goes without a GPU, for the versions of torch before, at and after 2.15."""
    calls = []

    class Graph:
        def replay(self):
            calls.append("replay")

    def register(self, generator):
        calls.append(generator)
        if registers == "with a warning":
            warnings.warn("register_generator_state() is deprecated", stacklevel=2)

    if registers != "no longer":
        Graph.register_generator_state = register

    @contextmanager
    def capture(graph, pool, stream):
        calls.append(("capture", pool, stream))
        yield
        calls.append("captured")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    graphed = GraphedStep(["generator"], "stream")
    for size in (20, 20, 20, 20, 20, 16):
        graphed(calls.append, size)
    registered = [] if registers == "no longer" else ["generator"]
    captured = [*registered, ("capture", "pool", "stream"), 20, "captured", "replay"]
    assert calls == [20, 20, 20, *captured, "replay", 16]
    assert not recwarn.list


def test_a_learning_rate_in_device_memory_stays_where_a_graph_reads_it(digits):
    trainer = Trainer(replace(CONFIGS[0], gamma=0.5), *digits, device=CPU)
    (group,) = trainer.optimizer.param_groups
    rate = group["lr"] = torch.tensor(7.0)
    trainer._set_lr()
    assert group["lr"] is rate
    assert rate == 1.0


def test_a_checkpoint_of_another_device_goes_on_with_fresh_streams(digits):
    begun = run(CONFIGS[0], digits, 1)
    same, other = (Trainer(CONFIGS[0], *digits, device=CPU) for _ in range(2))
    fresh = other.order_rng.get_state()
    state = copy.deepcopy(begun.state_dict())
    state["optimizer"]["param_groups"][0]["capturable"] = True  # as on CUDA
    other.load_state_dict({**state, "device": "cuda"})
    assert torch.equal(other.order_rng.get_state(), fresh)
    assert not other.optimizer.param_groups[0]["capturable"]
    assert learning_state(other.model) == learning_state(begun.model)
    assert other.run_epoch().epoch == 2
    del state["device"]  # as of earlier versions, of a CPU
    same.load_state_dict(state)
    assert torch.equal(same.order_rng.get_state(), begun.order_rng.get_state())


GOLDEN_LOSSES = [2.3056933879852295, 2.2875688076019287, 2.239257335662842, 2.2118079662323]


def test_golden_step(mnist):
    train = ImageData(mnist[0].images[:256], mnist[0].labels[:256])
    trainer = Trainer(TrialConfig(batch_size=128, epochs=2, precision="fp32"), train, train, CPU)
    trainer.run_epoch()
    trainer.run_epoch()
    losses = torch.cat(trainer.step_losses).tolist()
    np.testing.assert_allclose(
        losses,
        GOLDEN_LOSSES,
        rtol=1e-4,
        err_msg="The first steps on MNIST have changed. If you did not intend to change what is "
        "learned (e.g. a refactoring), this is a bug. If you did, say so in the commit and put "
        f"these in GOLDEN_LOSSES: {losses}",
    )


def test_it_learns_real_mnist_and_would_not_learn_fake_labels(mnist):
    """An epoch on 10,000 real digits. With permuted labels nothing can be learned."""
    train, validation = mnist
    part = ImageData(train.images[:10_000], train.labels[:10_000])
    few = ImageData(validation.images[:2000], validation.labels[:2000])
    config = TrialConfig(batch_size=64, epochs=1)
    assert Trainer(config, part, few, CPU).run_epoch().eval_accuracy > 0.92
    shuffled = np.random.default_rng(0).permutation(part.labels)
    fake = ImageData(part.images, shuffled)
    assert Trainer(config, fake, few, CPU).run_epoch().eval_accuracy < 0.3


def test_a_diverging_trial_ends_and_says_so(digits):
    config = TrialConfig(batch_size=32, optimizer="sgd", lr=1e20, epochs=5, precision="fp32")
    trainer = Trainer(config, *digits, device=CPU)
    epochs = 0
    while not trainer.finished:
        trainer.run_epoch()
        epochs += 1
    assert trainer.epochs[-1].diverged
    assert epochs < 5


def test_dropout_draws_from_the_trials_own_stream(digits):
    trainer = Trainer(CONFIGS[0], *digits, device=CPU)
    dropouts = [m for m in trainer.model.modules() if isinstance(m, MaskDropout)]
    assert len(dropouts) == 2
    assert all(m.generator is trainer.dropout_rng for m in dropouts)


def test_the_images_stay_uint8_and_are_not_copied(digits):
    digits[0].images.flags.writeable = False  # as they come from Ray's object store
    images = DeviceImages(digits[0], "mnist", CPU).images
    assert images.dtype == torch.uint8
    assert images.data_ptr() == digits[0].images.ctypes.data


def test_a_batch_larger_than_the_split_is_refused(digits):
    with pytest.raises(UserError, match="batch_size: 97 is larger than the training split of 96"):
        Trainer(TrialConfig(batch_size=97), *digits, device=CPU)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_auto_precision_follows_the_hardware(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_not_tf32(digits, monkeypatch, precision):
    """Also in a bf16 trial, whose gradient noise is measured in fp32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    Trainer(replace(CONFIGS[1], precision=precision), *digits, CPU)
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


def test_a_subset_is_stratified_drawn_by_the_seed_and_of_the_asked_size(digits):
    config = TrialConfig(batch_size=20, train_examples=50)
    first, again = (Trainer(config, *digits, device=CPU).train_data for _ in range(2))
    other = Trainer(replace(config, seed=2), *digits, device=CPU).train_data
    assert len(first) == 50
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    shares = torch.bincount(first.labels, minlength=10) / 50
    whole = torch.bincount(torch.tensor(digits[0].labels).long(), minlength=10) / 96
    assert (shares - whole).abs().max() <= 1 / 50
    assert len(Trainer(TrialConfig(batch_size=20, train_examples=500), *digits).train_data) == 96


def test_log_probabilities_are_what_is_evaluated(digits):
    trainer = run(CONFIGS[-1], digits, 1)
    log_p = trainer.log_probabilities()
    assert torch.allclose(log_p.exp().sum(1), torch.ones(40))
    labels = torch.tensor(digits[1].labels).long()
    record = trainer.epochs[-1]
    assert F.nll_loss(log_p, labels).item() == pytest.approx(record.eval_loss, rel=1e-5)
    assert (log_p.argmax(1) == labels).double().mean() == record.eval_accuracy


@pytest.mark.parametrize(
    ("value", "threads"),
    [
        ("", 1),
        ("1", 1),
        ("4", 4),
        ("4,2", 4),
        (" 3 , 2", 3),
        ("0", 1),
        ("abc", 1),
        ("-2", 1),
        ("9" * 400, 1),
        ("\u0664", 1),
    ],
)
def test_threads_as_openmp_allows_them(value, threads):
    assert omp_threads(value) == threads
