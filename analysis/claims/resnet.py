"""Judges claims C16 to C21, on dropout and the modified ResNet18 (section III)."""

from __future__ import annotations

from analysis import comparison_frames as frames
from analysis import paper
from analysis.architecture import shortcut_parameters, times_the_cnn
from analysis.evidence import Compared, Evidence, arm_of
from analysis.intervals import (
    MANY_TIMES,
    PERCENT,
    POINTS,
    TIMES,
    prediction_interval,
    ratio_interval,
)
from analysis.verdicts import (
    CONTRADICTED,
    NOT_DISTINGUISHABLE,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    NoEvidence,
    contains,
    direction,
    finding,
    needed,
    used,
)
from study.config.questions import MODELS, REGULARIZATION
from study.results.estimates import show


def c16(evidence: Evidence) -> Finding:
    """Dropout is effective."""
    compared = evidence.get(REGULARIZATION)
    a = arm_of(compared, model="cnn", dropout=True, batch_norm=False)
    b = arm_of(compared, model="cnn", dropout=False, batch_norm=False)
    if compared is None or not (a and b):
        raise NoEvidence
    e = frames.points(compared, a, b)
    effects = frames.interaction(compared, "cnn").set_index("effect")
    more = "; ".join(
        f"{name} {row.value:z.2f} [{row.low:z.2f}, {row.high:z.2f}]"
        for name, row in effects.iterrows()
    )
    return finding(
        direction(e),
        e,
        POINTS,
        estimate="of accuracy, CNN with minus without dropout",
        why="The paper's CNN has dropout and no batch norm. Its ResNet has batch norm and no "
        "dropout. So it is unclear which one 'our network' is. Effects in the CNN, in points, over "
        "all four combinations of dropout and batch norm: "
        f"{more or 'unknown, because not all four were run'}.",
        trials=used(compared),
    )


def c17(evidence: Evidence) -> Finding:
    """The ResNet is more accurate."""
    compared, resnet, cnn = needed(_models(evidence))
    e = frames.points(compared, resnet, cnn)
    one = prediction_interval(compared.of_arm(resnet)["last_eval_accuracy"])
    return finding(
        direction(e),
        e,
        POINTS,
        estimate="of accuracy, ResNet minus CNN",
        why=f"The {one.kind} of the ResNet is {show(one, PERCENT)}. The paper's number is "
        f"{'inside' if contains(one, paper.RESNET_ACCURACY) == REPRODUCED else 'outside'} that "
        f"interval. The ResNet has {times_the_cnn('parameters'):.0f} times the CNN's parameters "
        f"and {times_the_cnn('multiply_adds'):.0f} times its multiply-adds.",
        trials=used(compared, resnet, cnn),
    )


def _models(evidence: Evidence) -> tuple[Compared, str, str] | None:
    compared = evidence.get(MODELS)
    resnet, cnn = arm_of(compared, model="resnet18"), arm_of(compared, model="cnn")
    return (compared, resnet, cnn) if compared is not None and resnet and cnn else None


def c18(evidence: Evidence) -> Finding:
    """The ResNet converges more quickly and earlier."""
    compared, resnet, cnn = needed(_models(evidence))
    target, values = f"{frames.TARGET:.0%}", ["examples", "seconds"]
    wide = compared.to_target.pivot(index="replicate", columns="arm", values=values).dropna()
    if wide.empty:
        return Finding(NOT_DISTINGUISHABLE, f"no seed has both networks at {target} accuracy", "")
    e = ratio_interval(wide["examples", resnet], wide["examples", cnn])
    seconds = ratio_interval(wide["seconds", resnet], wide["seconds", cnn])
    return finding(
        direction(e, 1, above=False),
        e,
        TIMES,
        estimate=f"the images that the CNN sees until {target} accuracy, in whole epochs",
        why=f"Counted in seconds, the ResNet takes {show(seconds, MANY_TIMES)} as long.",
        trials=used(compared, resnet, cnn),
    )


def c19(evidence: Evidence) -> Finding:
    """The ResNet takes longer."""
    ratio = paper.RESNET_SECONDS / paper.SECONDS[512]
    compared, resnet, cnn = needed(_models(evidence))
    both = frames.pairs(compared, resnet, cnn, "seconds")
    e = ratio_interval(both["a"], both["b"])
    return finding(
        direction(e, 1),
        e,
        MANY_TIMES,
        estimate="the CNN's seconds",
        why=f"The claim is that the ResNet takes longer. The paper's factor is {ratio:.1f}, on a "
        "machine that it does not name. The ResNet has "
        f"{times_the_cnn('multiply_adds'):.0f} times the CNN's multiply-adds.",
        trials=used(compared, resnet, cnn),
    )


def c20(evidence: Evidence) -> Finding:
    """Shortcuts add no parameters."""
    count, convolutions = shortcut_parameters()
    return Finding(
        REPRODUCED if count == 0 else CONTRADICTED,
        f"{count:,} parameters in {convolutions} shortcut convolutions",
        "Counted in the network of the paper's Appendix C. Four of its eight shortcuts change the "
        "number of channels and need 1 x 1 convolutions. The paper has no equation (C).",
        value=count,
    )


def c21(evidence: Evidence) -> Finding:
    """The ResNet's advantage (the paper's last sentence)."""
    return Finding(
        NOT_TESTABLE,
        "",
        "The sentence breaks off, so it is unknown whether it means a small or a large advantage. "
        "The advantage itself is C17.",
    )
