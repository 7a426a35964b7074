from __future__ import annotations

import pytest

from analysis.architecture import TABLE_I, layers, shortcut_parameters, times_the_cnn
from study.training.models import build_model, count_parameters
from tests.helpers.networks import count_macs


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_the_layers_sum_to_the_network(model):
    table = layers(model)
    assert table["parameters"].sum() == count_parameters(build_model(model))
    assert table["multiply_adds"].sum() == count_macs(build_model(model))


def test_shapes_are_those_of_the_code():
    table = layers("resnet18").set_index("layer")
    assert table.loc["conv1", "output"] == "8 x 26 x 26"
    assert (
        table[table["kind"] == "3 x 3 convolution"]["output"].str.endswith("13 x 13").sum()
    ) == 16
    assert layers("cnn").set_index("layer").loc["fc1", "parameters"] == 2304 * 64 + 64


def test_four_shortcuts_have_parameters():
    assert shortcut_parameters() == (11_120, 4)


def test_table_i_has_all_of_its_rows():
    assert [row[0] for row in TABLE_I[:5]] == ["conv1", *(f"conv{i}_x" for i in range(2, 6))]


def test_the_networks_are_compared_as_the_readme_says():
    assert times_the_cnn("parameters") == 745_626 / 149_418
    assert round(times_the_cnn("multiply_adds")) == 137
