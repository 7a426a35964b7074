"""The section of the paper's two networks, layer by layer."""

from __future__ import annotations

import pandas as pd

from analysis import places
from analysis.architecture import TABLE_I, layers
from analysis.parts import Section, Table


def make_section() -> Section:
    """The section of the paper's two networks."""
    tables = []
    for model, name in (("cnn", "the CNN"), ("resnet18", "the modified ResNet18")):
        table = layers(model)
        total = {
            "layer": "all",
            "kind": "",
            "output": "",
            "parameters": table["parameters"].sum(),
            "multiply_adds": table["multiply_adds"].sum(),
        }
        table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
        shown = table.assign(
            **{c: table[c].map("{:,}".format) for c in ("parameters", "multiply_adds")}
        ).rename(columns={"multiply_adds": "multiply-adds"})
        tables.append(
            Table(
                places.layers(model).name,
                f"Layers of {name}, with counts for one image.",
                table,
                shown,
            )
        )
    printed = pd.DataFrame(TABLE_I, columns=["layer", "Table I", "the code in Appendix C"])
    tables.append(Table("table_1", "The paper's Table I and its code.", printed, printed))
    return Section(
        "architecture",
        "The networks",
        [
            "The layers are counted in the networks that are trained here. This project's tests "
            "check the paper's equations 1 to 12 against automatic differentiation. The gradient "
            "in equations 11 and 12 fails as printed: it lacks the factor x and keeps the sum over "
            "the classes. The corrected gradient passes."
        ],
        tables=tables,
    )
