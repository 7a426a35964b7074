"""The claims ledger: what the report says, what our tables say, and whether it holds.

One function a claim. The rules were set before the results were seen: a claim of a direction
holds where the 95 % interval lies on its side of no difference, fails where it lies on the
other; a number holds where it lies in the interval in which a single further run falls; equality
holds where two one-sided tests show it within `analysis.arms.MARGIN` points. Everything else is
not distinguishable. A claim that states no measurable thing is not testable as written; what
can be measured about it stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis import arms, paper, predicted, stability
from analysis.architecture import shortcut_parameters
from analysis.evidence import COMMANDS, Compared, Evidence, folder_name
from analysis.intervals import (
    SEED,
    Estimate,
    bootstrap,
    equivalence_p,
    mean_interval,
    prediction_interval,
    probability_above,
    ratio_interval,
    wilson,
)

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
NOT_DISTINGUISHABLE = "not distinguishable"
NOT_TESTABLE = "not testable as written"
NO_EVIDENCE = "no evidence yet"
VERDICTS = (REPRODUCED, CONTRADICTED, NOT_DISTINGUISHABLE, NOT_TESTABLE, NO_EVIDENCE)

REPORT_ARM = 512  # batch size of the report's final network, its code's default
SAME_TREND = 0.9  # rank correlation from which two curves count as of one trend


@dataclass(frozen=True)
class Finding:
    """A claim's entry.

    Attributes:
        claim: Its number, ``C1`` to ``C21``.
        verdict: One of `VERDICTS`.
        reported: The report's number or statement, short.
        estimate: Ours, in words with its unit.
        value: The number in `estimate`, where there is one.
        low: Lower end of its interval.
        high: Upper end.
        interval: What kind of interval.
        n: Independent replicates behind it.
        why: How the verdict follows, and what else to know.
        trials: The trials used, ``results-folder/trial-id``.
        figure: Name of the report's figure that shows it.
        command: What fills the gap, where there is no evidence.
    """

    claim: str
    verdict: str
    reported: str
    estimate: str
    why: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    interval: str = ""
    n: int = 0
    trials: tuple[str, ...] = ()
    figure: str = ""
    command: str = ""


Claim = Callable[[Evidence], Finding]


def ledger(evidence: Evidence) -> list[Finding]:
    """All claims, in order."""
    return [claim(evidence) for claim in CLAIMS]


def as_frame(findings: list[Finding]) -> pd.DataFrame:
    """The ledger as a table, with place and words of each claim."""
    rows = [
        {
            **asdict(finding),
            "place": paper.STATEMENTS[finding.claim].place,
            "quote": paper.STATEMENTS[finding.claim].quote,
            "trials": " ".join(finding.trials),
        }
        for finding in findings
    ]
    return pd.DataFrame(rows)


# How verdicts follow from estimates.


def direction(e: Estimate, none: float = 0.0, *, above: bool = True) -> str:
    """Whether an estimate lies above (or below) that of no difference."""
    if np.isnan(e.low):
        return NOT_DISTINGUISHABLE
    if e.low > none:
        return REPRODUCED if above else CONTRADICTED
    if e.high < none:
        return CONTRADICTED if above else REPRODUCED
    return NOT_DISTINGUISHABLE


def contains(e: Estimate, number: float) -> str:
    """Whether a number lies in an interval."""
    if np.isnan(e.low):
        return NOT_DISTINGUISHABLE
    return REPRODUCED if e.low <= number <= e.high else CONTRADICTED


def show(e: Estimate, template: str) -> str:
    """E.g. ``98.72 % [98.65, 98.79]``; `template` formats the number."""
    number = template.format(e.value)
    if np.isnan(e.low):
        return f"{number} (n = {e.n}: no interval)"
    unit = number.partition(" ")[2]
    ends = (template.format(x).removesuffix(f" {unit}") for x in (e.low, e.high))
    return f"{number} [{', '.join(ends)}]"


PERCENT, POINTS, TIMES, NATS = "{:.2%}", "{:+.3f} points", "{:.2f} times", "{:.4f} nats"


def finding(claim: str, verdict: str, e: Estimate, template: str, **more: object) -> Finding:
    """A `Finding` of an estimate; ``estimate`` in `more` is put behind the number."""
    behind = more.pop("estimate", "")
    return Finding(
        claim=claim,
        verdict=verdict,
        estimate=show(e, template) + (f" {behind}" if behind else ""),
        value=e.value,
        low=e.low,
        high=e.high,
        interval=e.kind,
        n=e.n,
        **more,  # pyright: ignore[reportArgumentType]
    )


def missing(claim: str, reported: str, kind: str) -> Finding:
    """The entry of a claim whose results are not there."""
    return Finding(claim, NO_EVIDENCE, reported, "", "Fill the gap with:", command=COMMANDS[kind])


def used(compared: Compared, *names: str) -> tuple[str, ...]:
    """Trials of some arms (all where none is named), as the ledger names them."""
    trials = compared.trials
    chosen = trials[trials["arm"].isin(names)] if names else trials
    folder = folder_name(compared.results)
    return tuple(f"{folder}/{trial}" for trial in chosen["trial_id"])


def arm_of(compared: Compared | None, **settings: object) -> str:
    """The arm with these hyperparameters that has complete trials; empty where there is none."""
    if compared is None:
        return ""
    trials = compared.trials
    for name, value in settings.items():
        trials = trials[trials[name] == value]
    return str(trials["arm"].iloc[0]) if len(trials) else ""


def batch_arms(evidence: Evidence, *sizes: int) -> tuple[Compared, list[str]] | None:
    """The comparison of batch sizes and its arms of `sizes`, where all are there."""
    compared = evidence.get("batch-size")
    names = [arm_of(compared, batch_size=size) for size in sizes]
    return (compared, names) if compared is not None and all(names) else None


def points(compared: Compared, a: str, b: str) -> Estimate:
    """Mean difference of final accuracy, a minus b, paired by seed, in percentage points."""
    both = arms.pairs(compared, a, b)
    return mean_interval(100 * (both["a"] - both["b"]))


# The claims.


def c1(evidence: Evidence) -> Finding:
    """Which batch sizes were compared."""
    reported = "64 and 512 (abstract); 32 and 512 (body)"
    agree = paper.BATCH_SIZES_IN_ABSTRACT == paper.BATCH_SIZES_IN_BODY
    verdict = REPRODUCED if agree else CONTRADICTED
    why = "The report contradicts itself. Here all three are run."
    found = batch_arms(evidence, 64, 32)
    if found is None:
        return Finding("C1", verdict, reported, "", why)
    compared, (a, b) = found
    return finding(
        "C1", verdict, points(compared, a, b), POINTS, reported=reported,
        estimate="of accuracy, 64 minus 32",
        why=f"{why} Beside it: what the slip could change in the final accuracy.",
        trials=used(compared, a, b), figure="differences",
    )  # fmt: skip


def c2(evidence: Evidence) -> Finding:
    """Which accuracy the CNN reached."""
    reported = f"{paper.ACCURACY_IN_ABSTRACT:.2%} and {paper.ACCURACY:.2%}"
    found = batch_arms(evidence, REPORT_ARM)
    if found is None:
        return missing("C2", reported, "batch-size")
    compared, (arm,) = found
    e = prediction_interval(compared.of_arm(arm)["last_val_accuracy"])
    gap = paper.ACCURACY - paper.ACCURACY_IN_ABSTRACT
    verdict = CONTRADICTED if gap > (e.high - e.low) / 2 else NOT_DISTINGUISHABLE
    inside = contains(e, paper.ACCURACY) == REPRODUCED
    low, high = wilson(pd.Series([paper.ACCURACY]), paper.NUM_TEST_IMAGES).iloc[0]
    wilson_words = f"{low:.2%} to {high:.2%}"
    return finding(
        "C2", verdict, e, PERCENT, reported=reported, estimate="for one run at batch 512",
        why="The two numbers are one image apart; runs that differ in the seed alone scatter "
        f"much wider. {paper.ACCURACY:.2%} lies {'in' if inside else 'outside'} that interval; "
        f"of one run on 10 000 images it has itself a Wilson interval of {wilson_words}.",
        trials=used(compared, arm), figure="accuracy_by_epoch",
    )  # fmt: skip


def c3(evidence: Evidence) -> Finding:
    """Both batch sizes reach the same accuracy."""
    reported = "no difference"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C3", reported, "batch-size")
    compared, (a, b) = found
    both = arms.pairs(compared, a, b)
    difference = 100 * (both["a"] - both["b"])
    e, p = mean_interval(difference), equivalence_p(difference, arms.MARGIN)
    apart = e.low > 0 or e.high < 0
    verdict = REPRODUCED if p < 0.05 else CONTRADICTED if apart else NOT_DISTINGUISHABLE
    return finding(
        "C3", verdict, e, POINTS, reported=reported, estimate="of accuracy, 32 minus 512",
        why=f"Equal means within {arms.MARGIN} points: two one-sided t tests give p = {p:.2g}. "
        "At equal epochs: batch 32 takes 16 times as many steps.",
        trials=used(compared, a, b), figure="differences",
    )  # fmt: skip


def c4(evidence: Evidence) -> Finding:
    """The smaller batch generalises better."""
    reported = "32 better than 512"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C4", reported, "batch-size")
    compared, (a, b) = found
    both = arms.pairs(compared, a, b)
    above = probability_above(both["a"], both["b"])
    e = points(compared, a, b)
    return finding(
        "C4", direction(e), e, POINTS, reported=reported, estimate="of accuracy, 32 minus 512",
        why="At the report's learning rate for both; neither was tuned for its batch size. A run "
        f"at 32 beats one at 512 with probability {above:.2f}. The cited work calls batches up to "
        "512 small: its large batch would be 6000 here.",
        trials=used(compared, a, b), figure="differences",
    )  # fmt: skip


def c5(evidence: Evidence) -> Finding:
    """The larger batch trains faster."""
    reported = f"{paper.SECONDS[512]:.0f} s against {paper.SECONDS[32]:.0f} s (0.65 times)"
    found = batch_arms(evidence, 512, 32)
    if found is None:
        return missing("C5", reported, "batch-size")
    compared, (a, b) = found
    both = arms.pairs(compared, a, b, "seconds")
    e = ratio_interval(both["a"], both["b"])
    device = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    return finding(
        "C5", direction(e, 1, above=False), e, TIMES, reported=reported,
        estimate="the seconds of batch 32",
        why=f"Of {compared.config['epochs']} epochs with evaluation on {device}, one trial a core. "
        "The report's loop spends most of its time loading images one by one and rewriting a file.",
        trials=used(compared, a, b), figure="throughput",
    )  # fmt: skip


def c6(evidence: Evidence) -> Finding:
    """The larger batch's loss curve is smoother."""
    reported = "512 smoother than 32"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C6", reported, "batch-size")
    compared, (a, b) = found
    wide = compared.loss_noise.pivot(index="replicate", columns="arm", values="sd")
    if wide.empty or not {a, b} <= set(wide):
        return missing("C6", reported, "batch-size")
    wide = wide[[a, b]].dropna()
    e = ratio_interval(wide[a], wide[b])
    return finding(
        "C6", direction(e, 1), e, TIMES, reported=reported,
        estimate="the noise of a step's loss at 512",
        why="The scatter of the steps' losses in the last epoch. Averaging over 16 times as many "
        "images alone makes it 4 times: sigma / sqrt(B).",
        trials=used(compared, a, b), figure="loss_noise",
    )  # fmt: skip


def c7(evidence: Evidence) -> Finding:
    """The critical batch size is about 8000."""
    reported = f"about {paper.CRITICAL_BATCH_SIZE}"
    found = batch_arms(evidence, REPORT_ARM)
    if found is None:
        return missing("C7", reported, "batch-size")
    compared, (arm,) = found
    by_epoch = compared.noise_scale[compared.noise_scale["arm"] == arm]
    if by_epoch.empty:
        return missing("C7", reported, "batch-size")
    inside = by_epoch[(by_epoch["low"] <= paper.CRITICAL_BATCH_SIZE)
                      & (by_epoch["high"] >= paper.CRITICAL_BATCH_SIZE)]  # fmt: skip
    last = by_epoch.iloc[-1]
    verdict = CONTRADICTED if inside.empty else NOT_DISTINGUISHABLE
    e = Estimate(last["noise_scale"], last["low"], last["high"], int(last["n"]),
                 "95 % bootstrap interval over seeds")  # fmt: skip
    low, high = by_epoch["noise_scale"].min(), by_epoch["noise_scale"].max()
    top = f"{high:,.0f}" if np.isfinite(high) else "more than 2 048 images can tell"
    return finding(
        "C7", verdict, e, "{:,.0f} images", reported=reported,
        estimate=f"after the last epoch (from {low:,.0f} to {top} over the epochs)",
        why="The gradient's simple noise scale (McCandlish et al. 2018), which estimates the batch "
        "size beyond which more images a step hardly help. The report's number is of ImageNet "
        "(Goyal et al. 2017)."
        + f" It lies in the interval of {len(inside)} of the {len(by_epoch)} epochs."
        + _critical_words(compared),
        trials=used(compared, arm), figure="noise_scale",
    )  # fmt: skip


def _critical_words(compared: Compared) -> str:
    """What the steps until the target say of the critical batch size."""
    e = compared.critical_batch_size
    if e is None:
        return ""
    return f" The steps until {arms.TARGET:.0%} speak of a critical size of {show(e, '{:,.0f}')}."


def c8(evidence: Evidence) -> Finding:
    """Filtered, the small batch's curve has the large one's trend."""
    reported = "the same trend"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C8", reported, "batch-size")
    compared, (a, b) = found
    curves = compared.loss_curves
    at = {arm: _at_equal_examples(curves[curves["arm"] == arm]) for arm in (a, b)}
    if not (shared := sorted(set(at[a]) & set(at[b]))):
        return missing("C8", reported, "batch-size")
    left, right = (np.stack([at[arm][k] for k in shared]) for arm in (a, b))

    def correlation(chosen: np.ndarray) -> float:
        rho: Any = spearmanr(left[chosen].mean(0), right[chosen].mean(0))
        return float(rho.statistic)

    e = bootstrap(
        lambda chosen: np.apply_along_axis(correlation, -1, chosen),
        len(shared),
        np.random.default_rng(SEED),
    )
    ratio = float(np.exp(np.log(left.mean(0) / right.mean(0)).mean()))
    return finding(
        "C8", direction(e, SAME_TREND), e, "{:.3f}", reported=reported,
        estimate="rank correlation of the two smoothed curves at equal examples",
        why="Local-level Kalman smoother, variances by maximum likelihood; the report does not say "
        f"which filter it used. The level of batch 32 is {ratio:.2f} times that of 512 on average: "
        f"one trend, not one curve. Counted as one trend from {SAME_TREND}.",
        trials=used(compared, a, b), figure="loss_by_batch",
    )  # fmt: skip


def _at_equal_examples(curves: pd.DataFrame) -> dict[int, np.ndarray]:
    """Each replicate's smoothed loss at common numbers of examples."""
    grid = np.linspace(5_000, curves["examples"].max(), 100)
    return {
        int(k): np.interp(grid, curve["examples"], curve["smoothed"])  # pyright: ignore[reportArgumentType] -- a group key
        for k, curve in curves.groupby("replicate")
    }


def c9(evidence: Evidence) -> Finding:
    """The accuracy is stable after the sixth epoch."""
    reported = f"stable after epoch {paper.STABLE_EPOCH}"
    found = batch_arms(evidence, REPORT_ARM)
    if found is None:
        return missing("C9", reported, "batch-size")
    compared, (arm,) = found
    change, settled = _stable(compared, arm)
    limit = paper.STABLE_EPOCH + 1
    verdict = (
        REPRODUCED if settled.high <= limit
        else CONTRADICTED if settled.low > limit
        else NOT_DISTINGUISHABLE
    )  # fmt: skip
    why = (
        f"From it on the mean accuracy stays within {arms.MARGIN} points of its last "
        f"value. A broken line bends at epoch {show(change, '{:.1f}')}."
    )
    schedule = evidence.get("schedule")
    if constant := arm_of(schedule, gamma=1.0):
        assert schedule is not None
        _, without = _stable(schedule, constant)
        why += (
            f" With a constant learning rate (gamma 1) it is epoch {show(without, '{:.0f}')}: "
            "what settles is the schedule's learning rate."
        )
    return finding(
        "C9", verdict, settled, "{:.0f}", reported=reported, why=why,
        estimate="is the first stable epoch",
        trials=used(compared, arm), figure="stable_epoch",
    )  # fmt: skip


def _stable(compared: Compared, arm: str) -> tuple[Estimate, Estimate]:
    by_epoch = compared.accuracy_by_epoch
    rng = np.random.default_rng(SEED)
    return stability.stable_epoch(by_epoch[by_epoch["arm"] == arm], rng, arms.MARGIN / 100)


def c10(evidence: Evidence) -> Finding:
    """The final test loss."""
    reported = f"{paper.TEST_LOSS} nats"
    found = batch_arms(evidence, REPORT_ARM)
    if found is None:
        return missing("C10", reported, "batch-size")
    compared, (arm,) = found
    e = prediction_interval(compared.of_arm(arm)["last_val_loss"])
    others = arms.by_arm(compared).set_index("arm")["loss"].drop(arm)
    means = ", ".join(f"{loss:.4f} at {name}" for name, loss in others.items())
    return finding(
        "C10", contains(e, paper.TEST_LOSS), e, NATS, reported=reported,
        estimate="for one run at batch 512",
        why=f"The report does not say of which batch size. Means of the others: {means}."
        if means else "The report does not say of which batch size.",
        trials=used(compared, arm), figure="by_arm",
    )  # fmt: skip


def _predicted(evidence: Evidence) -> tuple[Compared, str, pd.DataFrame] | None:
    """The report's CNN, and what its final models predicted."""
    found = batch_arms(evidence, REPORT_ARM)
    if found is None:
        return None
    compared, (arm,) = found
    rows = compared.predictions_of(arm)
    return None if rows.empty else (compared, arm, predicted.confidences(rows))


def _share(rows: pd.DataFrame, condition: pd.Series) -> Estimate:
    """Mean over models of the share of rows that meet a condition."""
    return mean_interval(condition.groupby(rows["trial_id"], observed=True).mean())


def c11(evidence: Evidence) -> Finding:
    """Errors with confidences above 0.9, and about 0.5."""
    reported = "above 0.9 and about 0.5, both of Fig. 4 (a)-(d)"
    found = _predicted(evidence)
    if found is None:
        return missing("C11", reported, "batch-size")
    compared, arm, rows = found
    errors = rows[~rows["right"]]
    sure = _share(errors, errors["confidence"] > paper.CONFIDENT)
    half = _share(errors, errors["confidence"].between(0.4, 0.6))
    return finding(
        "C11", NOT_TESTABLE, sure, "{:.0%}", reported=reported,
        estimate=f"of the errors have a confidence above 0.9; {show(half, '{:.0%}')} of 0.4 to 0.6",
        why="Two statements of the same four pictures exclude each other; probably (e)-(h) was "
        "meant. Both kinds of errors exist.",
        trials=used(compared, arm), figure="gallery_confident",
    )  # fmt: skip


def c12(evidence: Evidence) -> Finding:
    """Confidences of errors show underfitting."""
    low, high = paper.ERROR_CONFIDENCES
    reported = f"confidences of {low:.0%} to {high:.0%} mean underfitting"
    found = _predicted(evidence)
    if found is None:
        return missing("C12", reported, "batch-size")
    compared, arm, rows = found
    errors = rows[~rows["right"]]
    e = _share(errors, errors["confidence"].between(low, high))
    table = compared.calibration[compared.calibration["arm"] == arm]
    ece, temperature = mean_interval(table["ece"]), mean_interval(table["temperature"])
    return finding(
        "C12", NOT_TESTABLE, e, "{:.0%}", reported=reported, estimate="of the errors lie there",
        why="Any classifier's errors have such confidences; they do not tell underfitting from "
        "overfitting. What they do tell: expected calibration error "
        f"{show(ece, '{:.2%}')}, best temperature {show(temperature, '{:.2f}')} "
        "(above 1: too sure).",
        trials=used(compared, arm), figure="reliability",
    )  # fmt: skip


def c13(evidence: Evidence) -> Finding:
    """Correct examples have a confidence above 99 %."""
    reported = "most above 99 %, even 100 %"
    found = _predicted(evidence)
    if found is None:
        return missing("C13", reported, "batch-size")
    compared, arm, rows = found
    right = rows[rows["right"]]
    e = _share(right, right["confidence"] > paper.CORRECT_CONFIDENCE)
    rounded = _share(right, right["confidence"] >= 0.99995)
    return finding(
        "C13", direction(e, 0.5), e, "{:.1%}", reported=reported,
        estimate="of the correct predictions are above 99 %",
        why=f"{show(rounded, '{:.0%}')} show as 100.00 %: rounding; their log-odds are finite.",
        trials=used(compared, arm), figure="confidences",
    )  # fmt: skip


def c14(evidence: Evidence) -> Finding:
    """Most errors are hard for people, too."""
    reported = "most are difficult for people"
    found = _predicted(evidence)
    if found is None:
        return missing("C14", reported, "batch-size")
    compared, arm, rows = found
    models = rows["trial_id"].nunique()
    missed = (~rows["right"]).groupby(rows["index"]).sum()
    union, always = int((missed > 0).sum()), int((missed == models).sum())
    return Finding(
        "C14", NOT_TESTABLE, reported,
        f"{always} of the {union} images that any of {models} models misses are missed by all",
        "No person was asked, and the examples were picked by eye. What can be measured is how far "
        "models with other seeds fail on the same images. A later study had people check the test "
        "labels and found 15 of them wrong (Northcutt et al. 2021).",
        value=always / union if union else np.nan, n=models,
        trials=used(compared, arm), figure="error_overlap",
    )  # fmt: skip


def c15(evidence: Evidence) -> Finding:
    """More data is the best remedy."""
    reported = "more data is the best way"
    sizes = evidence.get("training-size")
    a, b = arm_of(sizes, train_examples=55_000), arm_of(sizes, train_examples=27_500)
    if sizes is None or not (a and b):
        return missing("C15", reported, "training-size")
    data = points(sizes, a, b)
    models = evidence.get("models")
    resnet, cnn = arm_of(models, model="resnet18"), arm_of(models, model="cnn")
    if models is None or not (resnet and cnn):
        return finding(
            "C15", NOT_DISTINGUISHABLE, data, POINTS, reported=reported,
            estimate="of accuracy from twice the images",
            why="Whether that is the best way needs something to compare it with:",
            command=COMMANDS["models"],
            trials=used(sizes, a, b), figure="learning_curve",
        )  # fmt: skip
    other = points(models, resnet, cnn)
    verdict = (
        CONTRADICTED if other.low > data.high
        else REPRODUCED if data.low > other.high
        else NOT_DISTINGUISHABLE
    )  # fmt: skip
    return finding(
        "C15", verdict, data, POINTS, reported=reported,
        estimate="of accuracy from twice the images (27 500 to 55 000)",
        why=f"The other network of the report gains {show(other, POINTS)} on the same images.",
        trials=used(sizes, a, b) + used(models, resnet, cnn), figure="learning_curve",
    )  # fmt: skip


def c16(evidence: Evidence) -> Finding:
    """Dropout helps; "our network" uses batch norm."""
    reported = "dropout is effective"
    compared = evidence.get("regularization")
    a = arm_of(compared, model="cnn", dropout=True, batch_norm=False)
    b = arm_of(compared, model="cnn", dropout=False, batch_norm=False)
    if compared is None or not (a and b):
        return missing("C16", reported, "regularization")
    e = points(compared, a, b)
    effects = arms.interaction(compared, "cnn").set_index("effect")
    more = "; ".join(
        f"{name} {row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        for name, row in effects.iterrows()
    )
    return finding(
        "C16", direction(e), e, POINTS, reported=reported,
        estimate="of accuracy, the CNN with minus without dropout",
        why="The report's CNN has dropout and no batch norm, its ResNet the reverse: 'our network' "
        f"is unclear. In the CNN, over all four cells: {more or 'not all four cells were run'}.",
        trials=used(compared), figure="regularization_cnn",
    )  # fmt: skip


def c17(evidence: Evidence) -> Finding:
    """The ResNet is more accurate."""
    reported = f"{paper.RESNET_ACCURACY:.2%} against {paper.ACCURACY:.2%}"
    found = _models(evidence)
    if found is None:
        return missing("C17", reported, "models")
    compared, resnet, cnn = found
    e = points(compared, resnet, cnn)
    one = prediction_interval(compared.of_arm(resnet)["last_val_accuracy"])
    return finding(
        "C17", direction(e), e, POINTS, reported=reported, estimate="of accuracy, ResNet minus CNN",
        why=f"One run of the ResNet reaches {show(one, PERCENT)}; the report's number lies "
        f"{'in' if contains(one, paper.RESNET_ACCURACY) == REPRODUCED else 'outside'} that "
        "interval. It has 5 times the parameters and 137 times the multiply-adds.",
        trials=used(compared, resnet, cnn), figure="differences",
    )  # fmt: skip


def _models(evidence: Evidence) -> tuple[Compared, str, str] | None:
    compared = evidence.get("models")
    resnet, cnn = arm_of(compared, model="resnet18"), arm_of(compared, model="cnn")
    return (compared, resnet, cnn) if compared is not None and resnet and cnn else None


def c18(evidence: Evidence) -> Finding:
    """The ResNet converges more quickly."""
    reported = "more quickly and earlier"
    found = _models(evidence)
    if found is None:
        return missing("C18", reported, "models")
    compared, resnet, cnn = found
    target, values = f"{arms.TARGET:.0%}", ["examples", "seconds"]
    wide = compared.to_target.pivot(index="replicate", columns="arm", values=values).dropna()
    if wide.empty:
        return Finding("C18", NOT_DISTINGUISHABLE, reported, f"not both reached {target}", "")
    e = ratio_interval(wide["examples", resnet], wide["examples", cnn])
    seconds = ratio_interval(wide["seconds", resnet], wide["seconds", cnn])
    return finding(
        "C18", direction(e, 1, above=False), e, TIMES, reported=reported,
        estimate=f"the CNN's examples until {target}, to the end of an epoch",
        why=f"In images seen. In seconds it takes {show(seconds, TIMES)} as long.",
        trials=used(compared, resnet, cnn), figure="to_target",
    )  # fmt: skip


def c19(evidence: Evidence) -> Finding:
    """The ResNet takes longer."""
    ratio = paper.RESNET_SECONDS / paper.SECONDS[512]
    reported = f"{paper.RESNET_SECONDS:.0f} s ({ratio:.1f} times the CNN's)"
    found = _models(evidence)
    if found is None:
        return missing("C19", reported, "models")
    compared, resnet, cnn = found
    both = arms.pairs(compared, resnet, cnn, "seconds")
    e = ratio_interval(both["a"], both["b"])
    return finding(
        "C19", direction(e, 1), e, TIMES, reported=reported, estimate="the CNN's seconds",
        why="Longer it is, but not by the report's factor: 137 times the multiply-adds in 2.5 "
        "times the seconds says that the report timed its data loader.",
        trials=used(compared, resnet, cnn), figure="by_arm",
    )  # fmt: skip


def c20(evidence: Evidence) -> Finding:
    """Shortcuts add no parameters."""
    count, convolutions = shortcut_parameters()
    return Finding(
        "C20", REPRODUCED if count == 0 else CONTRADICTED, "none",
        f"{count:,} parameters in {convolutions} convolutions on shortcuts",
        "Counted in the network of Appendix C: four of its eight shortcuts change the number of "
        "channels and need 1 x 1 convolutions. There is no equation (C).",
        value=count, figure="architecture",
    )  # fmt: skip


def c21(evidence: Evidence) -> Finding:
    """The last sentence."""
    return Finding(
        "C21", NOT_TESTABLE, "'the advantage … , the accuracy is increased'", "",
        "The sentence breaks off; whether it means a small or a large advantage cannot be told. "
        "The advantage itself is C17.",
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21,
)  # fmt: skip
