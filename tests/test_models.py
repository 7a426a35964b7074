from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from study.training.models import (
    MaskDropout,
    ModifiedResNet18,
    SmallCNN,
    build_model,
    count_parameters,
    scale_width,
)
from tests.helpers.networks import count_macs


@pytest.mark.parametrize(("model", "params"), [("cnn", 149_418), ("resnet18", 745_626)])
def test_width_one_has_the_reports_parameter_counts(model, params):
    assert count_parameters(build_model(model)) == params


def test_multiply_adds_by_hand():
    conv1, conv2 = 26 * 26 * 8 * 9, 24 * 24 * 16 * 8 * 9
    assert count_macs(build_model("cnn")) == conv1 + conv2 + 2304 * 64 + 64 * 10
    area = 13 * 13
    macs = 26 * 26 * 8 * 9 + 36 * 128 * 10
    for a, b in [(8, 16), (16, 32), (32, 64), (64, 128)]:
        macs += area * (9 * (a * b + 3 * b * b) + a * b)
    assert count_macs(build_model("resnet18")) == macs


@pytest.mark.parametrize("width_mult", [0.5, 2.0])
def test_width_scales_every_hidden_width(width_mult):
    cnn = SmallCNN(width_mult)
    assert [cnn.conv1.out_channels, cnn.conv2.out_channels, cnn.fc1.out_features] == [
        8 * width_mult,
        16 * width_mult,
        64 * width_mult,
    ]
    resnet = ModifiedResNet18(width_mult)
    assert [b.conv2.out_channels for b in resnet.blocks][::2] == [
        16 * width_mult,
        32 * width_mult,
        64 * width_mult,
        128 * width_mult,
    ]
    assert (
        resnet(torch.zeros(2, 1, 28, 28)).shape == cnn(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    )


def test_a_width_is_at_least_one():
    assert scale_width(8, 0.01) == 1


def test_resnet_is_built_of_the_appendix_c_layers():
    model = build_model("resnet18")
    kernels = [m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert kernels.count((3, 3)) == 17
    assert kernels.count((1, 1)) == 4
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 17


class ReportCNN(nn.Module):
    """Appendix A as printed, without dropout, which evaluation does not use."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, 1)
        self.fc1 = nn.Linear(2304, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = torch.flatten(F.max_pool2d(x, 2), 1)
        return self.fc2(F.relu(self.fc1(x)))


def test_cnn_is_the_reports_function_with_permuted_columns():
    ours, report = SmallCNN().eval(), ReportCNN()
    state = ours.state_dict()
    # (height, width, channel) columns to the paper's (channel, height, width).
    state["fc1.weight"] = (
        state["fc1.weight"].view(64, 12, 12, 16).permute(0, 3, 1, 2).reshape(64, 2304)
    )
    report.load_state_dict(state)
    x = torch.randn(32, 1, 28, 28)
    labels = torch.randint(0, 10, (32,))
    torch.testing.assert_close(ours(x), report(x), rtol=1e-5, atol=1e-6)
    for model in (ours, report):
        F.cross_entropy(model(x), labels).backward()
    for name in ("conv1.weight", "conv2.weight", "fc2.weight"):
        torch.testing.assert_close(
            ours.get_parameter(name).grad, report.get_parameter(name).grad, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_dropout_rate_scale_and_independence(p):
    dropout = MaskDropout(p)
    dropout.generator = torch.Generator().manual_seed(1)
    x = torch.ones(200, 16, 12, 12).to(memory_format=torch.channels_last)
    y = dropout(x)
    n = x.numel()
    kept = (y != 0).double()
    four_sd = 4 * (p * (1 - p) / n) ** 0.5
    assert abs(kept.mean() - (1 - p)) < four_sd
    assert y.max() == 1 / (1 - p)
    # Each byte of a random 64-bit word must be uniform, including the top one.
    by_byte = kept.permute(0, 2, 3, 1).reshape(-1, 8).mean(0)
    assert (by_byte - (1 - p)).abs().max() < four_sd * 8**0.5
    neighbours = kept.permute(0, 2, 3, 1).flatten()
    both = (neighbours[1:] * neighbours[:-1]).mean()
    assert abs(both - (1 - p) ** 2) < 3 * four_sd


def test_dropout_is_identity_in_evaluation_and_keeps_the_gradient_mask():
    dropout = MaskDropout(0.5)
    x = torch.rand(4, 6) + 1
    assert dropout.eval()(x) is x
    dropout.train()
    x.requires_grad_()
    y = dropout(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y != 0) * 2.0)


@pytest.mark.parametrize("p", [0.3, 1.0, -0.25])
def test_dropout_refuses_rates_it_cannot_hold(p):
    with pytest.raises(ValueError, match="multiple of 1/256"):
        MaskDropout(p)


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_dropout_and_batch_norm_are_there_as_asked(model, dropout, batch_norm):
    torch.manual_seed(1)
    network = build_model(model, 0.5, dropout=dropout, batch_norm=batch_norm)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert norms == batch_norm * {"cnn": 2, "resnet18": 17}[model]
    x = torch.randn(8, 1, 28, 28)
    first, second = network.train()(x), network.train()(x)
    assert torch.equal(first, second) != dropout
    # The weights that all four have in common start out equal.
    torch.manual_seed(1)
    plain = build_model(model, 0.5)
    assert torch.equal(network.conv1.weight, plain.conv1.weight)
    assert torch.equal([*network.modules()][-1].weight, [*plain.modules()][-1].weight)


def test_the_cnns_batch_norm_comes_before_relu_and_pooling():
    model = build_model("cnn", batch_norm=True, dropout=False).train()
    x = torch.randn(8, 1, 28, 28)
    y = model.conv1(x)
    for bn, conv in ((model.bn1, model.conv2), (model.bn2, None)):
        y = F.relu(F.batch_norm(y, None, None, bn.weight, bn.bias, training=True))
        y = conv(y) if conv else y
    y = F.max_pool2d(y, 2).permute(0, 2, 3, 1).flatten(1)
    expected = model.fc2(F.relu(model.fc1(y)))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
