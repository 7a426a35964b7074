"""The claims ledger: what the report says, what our tables say, and whether it holds.

One function a claim, by the rules of `analysis.verdicts`. `CLAIMS` says which question's results
each needs, and where the page shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis import arms, paper, places, predicted, stability
from analysis.architecture import shortcut_parameters, times_the_cnn
from analysis.evidence import Compared, Evidence, arm_of, batch_arms
from analysis.intervals import (
    NATS,
    PERCENT,
    POINTS,
    SEED,
    TIMES,
    Estimate,
    bootstrap,
    equivalence_p,
    mean_interval,
    prediction_interval,
    probability_above,
    ratio_interval,
    show,
    wilson,
)
from analysis.places import Place
from analysis.verdicts import (
    CONTRADICTED,
    NO_EVIDENCE,
    NOT_DISTINGUISHABLE,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    contains,
    direction,
    finding,
    missing,
    used,
)
from study.questions import BATCH_SIZE, MODELS, REGULARIZATION, SCHEDULE, TRAINING_SIZE, Question

SAME_TREND = 0.9  # rank correlation from which two curves count as of one trend


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
        "C1", verdict, arms.points(compared, a, b), POINTS, reported=reported,
        estimate="of accuracy, 64 minus 32",
        why=f"{why} Beside it: what the slip could change in the final accuracy.",
        trials=used(compared, a, b),
    )  # fmt: skip


def c2(evidence: Evidence) -> Finding:
    """Which accuracy the CNN reached."""
    reported = f"{paper.ACCURACY_IN_ABSTRACT:.2%} and {paper.ACCURACY:.2%}"
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None:
        return missing("C2", reported)
    compared, (arm,) = found
    e = prediction_interval(compared.of_arm(arm)["last_eval_accuracy"])
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
        trials=used(compared, arm),
    )  # fmt: skip


def c3(evidence: Evidence) -> Finding:
    """Both batch sizes reach the same accuracy."""
    reported = "no difference"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C3", reported)
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
        trials=used(compared, a, b),
    )  # fmt: skip


def c4(evidence: Evidence) -> Finding:
    """The smaller batch generalises better."""
    reported = "32 better than 512"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C4", reported)
    compared, (a, b) = found
    both = arms.pairs(compared, a, b)
    above = probability_above(both["a"], both["b"])
    e = arms.points(compared, a, b)
    return finding(
        "C4", direction(e), e, POINTS, reported=reported, estimate="of accuracy, 32 minus 512",
        why="At the report's learning rate for both; neither was tuned for its batch size. A run "
        f"at 32 beats one at 512 with probability {above:.2f}. The cited work calls batches up to "
        "512 small: its large batch would be 6000 here.",
        trials=used(compared, a, b),
    )  # fmt: skip


def c5(evidence: Evidence) -> Finding:
    """The larger batch trains faster."""
    large, small = paper.SECONDS[512], paper.SECONDS[32]
    reported = f"{large:.0f} s against {small:.0f} s ({large / small:.2f} times)"
    found = batch_arms(evidence, 512, 32)
    if found is None:
        return missing("C5", reported)
    compared, (a, b) = found
    both = arms.pairs(compared, a, b, "seconds")
    e = ratio_interval(both["a"], both["b"])
    device = ", ".join(sorted(compared.trials["device"].dropna().unique()))
    return finding(
        "C5", direction(e, 1, above=False), e, TIMES, reported=reported,
        estimate="the seconds of batch 32",
        why=f"Of {compared.config.epochs} epochs with evaluation on {device}, one trial a core. "
        "The report's loop spends most of its time loading images one by one and rewriting a file.",
        trials=used(compared, a, b),
    )  # fmt: skip


def c6(evidence: Evidence) -> Finding:
    """The larger batch's loss curve is smoother."""
    reported = "512 smoother than 32"
    found = batch_arms(evidence, 32, 512)
    if found is None:
        return missing("C6", reported)
    compared, (a, b) = found
    wide = compared.loss_noise.pivot(index="replicate", columns="arm", values="sd")
    if wide.empty or not {a, b} <= set(wide):
        return missing("C6", reported)
    wide = wide[[a, b]].dropna()
    e = ratio_interval(wide[a], wide[b])
    return finding(
        "C6", direction(e, 1), e, TIMES, reported=reported,
        estimate="the noise of a step's loss at 512",
        why="The scatter of the steps' losses in the last epoch. Averaging over 16 times as many "
        "images alone makes it 4 times: sigma / sqrt(B).",
        trials=used(compared, a, b),
    )  # fmt: skip


def c7(evidence: Evidence) -> Finding:
    """The critical batch size is about 8000."""
    reported = f"about {paper.CRITICAL_BATCH_SIZE}"
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None:
        return missing("C7", reported)
    compared, (arm,) = found
    by_epoch = compared.noise_scale[compared.noise_scale["arm"] == arm]
    if by_epoch.empty:
        return missing("C7", reported)
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
        trials=used(compared, arm),
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
        return missing("C8", reported)
    compared, (a, b) = found
    curves = compared.loss_curves
    at = {arm: _at_equal_examples(curves[curves["arm"] == arm]) for arm in (a, b)}
    if not (shared := sorted(set(at[a]) & set(at[b]))):
        return missing("C8", reported)
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
        trials=used(compared, a, b),
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
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None:
        return missing("C9", reported)
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
    schedule = evidence.get(SCHEDULE)
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
        trials=used(compared, arm),
    )  # fmt: skip


def _stable(compared: Compared, arm: str) -> tuple[Estimate, Estimate]:
    by_epoch = compared.accuracy_by_epoch
    rng = np.random.default_rng(SEED)
    return stability.stable_epoch(by_epoch[by_epoch["arm"] == arm], rng, arms.MARGIN / 100)


def c10(evidence: Evidence) -> Finding:
    """The final test loss."""
    reported = f"{paper.TEST_LOSS} nats"
    found = batch_arms(evidence, paper.BATCH_SIZE)
    if found is None:
        return missing("C10", reported)
    compared, (arm,) = found
    e = prediction_interval(compared.of_arm(arm)["last_eval_loss"])
    others = arms.by_arm(compared).set_index("arm")["loss"].drop(arm)
    means = ", ".join(f"{loss:.4f} at {name}" for name, loss in others.items())
    return finding(
        "C10", contains(e, paper.TEST_LOSS), e, NATS, reported=reported,
        estimate="for one run at batch 512",
        why=f"The report does not say of which batch size. Means of the others: {means}."
        if means else "The report does not say of which batch size.",
        trials=used(compared, arm),
    )  # fmt: skip


def _predicted(evidence: Evidence) -> tuple[Compared, str, pd.DataFrame] | None:
    """The report's CNN, and what its final models predicted."""
    found = batch_arms(evidence, paper.BATCH_SIZE)
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
        return missing("C11", reported)
    compared, arm, rows = found
    errors = rows[~rows["right"]]
    sure = _share(errors, errors["confidence"] > paper.CONFIDENT)
    half = _share(errors, errors["confidence"].between(0.4, 0.6))
    return finding(
        "C11", NOT_TESTABLE, sure, "{:.0%}", reported=reported,
        estimate=f"of the errors have a confidence above 0.9; {show(half, '{:.0%}')} of 0.4 to 0.6",
        why="Two statements of the same four pictures exclude each other; probably (e)-(h) was "
        "meant. Both kinds of errors exist.",
        trials=used(compared, arm),
    )  # fmt: skip


def c12(evidence: Evidence) -> Finding:
    """Confidences of errors show underfitting."""
    low, high = paper.ERROR_CONFIDENCES
    reported = f"confidences of {low:.0%} to {high:.0%} mean underfitting"
    found = _predicted(evidence)
    if found is None:
        return missing("C12", reported)
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
        trials=used(compared, arm),
    )  # fmt: skip


def c13(evidence: Evidence) -> Finding:
    """Correct examples have a confidence above 99 %."""
    reported = "most above 99 %, even 100 %"
    found = _predicted(evidence)
    if found is None:
        return missing("C13", reported)
    compared, arm, rows = found
    right = rows[rows["right"]]
    e = _share(right, right["confidence"] > paper.CORRECT_CONFIDENCE)
    rounded = _share(right, right["confidence"] >= 0.99995)
    return finding(
        "C13", direction(e, 0.5), e, "{:.1%}", reported=reported,
        estimate="of the correct predictions are above 99 %",
        why=f"{show(rounded, '{:.0%}')} show as 100.00 %: rounding; their log-odds are finite.",
        trials=used(compared, arm),
    )  # fmt: skip


def c14(evidence: Evidence) -> Finding:
    """Most errors are hard for people, too."""
    reported = "most are difficult for people"
    found = _predicted(evidence)
    if found is None:
        return missing("C14", reported)
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
        trials=used(compared, arm),
    )  # fmt: skip


def c15(evidence: Evidence) -> Finding:
    """More data is the best remedy."""
    reported = "more data is the best way"
    sizes = evidence.get(TRAINING_SIZE)
    a, b = arm_of(sizes, train_examples=55_000), arm_of(sizes, train_examples=27_500)
    if sizes is None or not (a and b):
        return missing("C15", reported)
    data = arms.points(sizes, a, b)
    models = evidence.get(MODELS)
    resnet, cnn = arm_of(models, model="resnet18"), arm_of(models, model="cnn")
    if models is None or not (resnet and cnn):
        return finding(
            "C15", NOT_DISTINGUISHABLE, data, POINTS, reported=reported,
            estimate="of accuracy from twice the images",
            why="Whether that is the best way needs something to compare it with:",
            command=MODELS.command,
            trials=used(sizes, a, b),
        )  # fmt: skip
    other = arms.points(models, resnet, cnn)
    verdict = (
        CONTRADICTED if other.low > data.high
        else REPRODUCED if data.low > other.high
        else NOT_DISTINGUISHABLE
    )  # fmt: skip
    return finding(
        "C15", verdict, data, POINTS, reported=reported,
        estimate="of accuracy from twice the images (27 500 to 55 000)",
        why=f"The other network of the report gains {show(other, POINTS)} on the same images.",
        trials=used(sizes, a, b) + used(models, resnet, cnn),
    )  # fmt: skip


def c16(evidence: Evidence) -> Finding:
    """Dropout helps; "our network" uses batch norm."""
    reported = "dropout is effective"
    compared = evidence.get(REGULARIZATION)
    a = arm_of(compared, model="cnn", dropout=True, batch_norm=False)
    b = arm_of(compared, model="cnn", dropout=False, batch_norm=False)
    if compared is None or not (a and b):
        return missing("C16", reported)
    e = arms.points(compared, a, b)
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
        trials=used(compared),
    )  # fmt: skip


def c17(evidence: Evidence) -> Finding:
    """The ResNet is more accurate."""
    reported = f"{paper.RESNET_ACCURACY:.2%} against {paper.ACCURACY:.2%}"
    found = _models(evidence)
    if found is None:
        return missing("C17", reported)
    compared, resnet, cnn = found
    e = arms.points(compared, resnet, cnn)
    one = prediction_interval(compared.of_arm(resnet)["last_eval_accuracy"])
    return finding(
        "C17", direction(e), e, POINTS, reported=reported, estimate="of accuracy, ResNet minus CNN",
        why=f"One run of the ResNet reaches {show(one, PERCENT)}; the report's number lies "
        f"{'in' if contains(one, paper.RESNET_ACCURACY) == REPRODUCED else 'outside'} that "
        f"interval. It has {times_the_cnn('parameters'):.0f} times the parameters and "
        f"{times_the_cnn('multiply_adds'):.0f} times the multiply-adds.",
        trials=used(compared, resnet, cnn),
    )  # fmt: skip


def _models(evidence: Evidence) -> tuple[Compared, str, str] | None:
    compared = evidence.get(MODELS)
    resnet, cnn = arm_of(compared, model="resnet18"), arm_of(compared, model="cnn")
    return (compared, resnet, cnn) if compared is not None and resnet and cnn else None


def c18(evidence: Evidence) -> Finding:
    """The ResNet converges more quickly."""
    reported = "more quickly and earlier"
    found = _models(evidence)
    if found is None:
        return missing("C18", reported)
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
        trials=used(compared, resnet, cnn),
    )  # fmt: skip


def c19(evidence: Evidence) -> Finding:
    """The ResNet takes longer."""
    ratio = paper.RESNET_SECONDS / paper.SECONDS[512]
    reported = f"{paper.RESNET_SECONDS:.0f} s ({ratio:.1f} times the CNN's)"
    found = _models(evidence)
    if found is None:
        return missing("C19", reported)
    compared, resnet, cnn = found
    both = arms.pairs(compared, resnet, cnn, "seconds")
    e = ratio_interval(both["a"], both["b"])
    return finding(
        "C19", direction(e, 1), e, TIMES, reported=reported, estimate="the CNN's seconds",
        why="Longer it is, but not by the report's factor: "
        f"{times_the_cnn('multiply_adds'):.0f} times the multiply-adds in {ratio:.1f} times the "
        "seconds says that the report timed its data loader.",
        trials=used(compared, resnet, cnn),
    )  # fmt: skip


def c20(evidence: Evidence) -> Finding:
    """Shortcuts add no parameters."""
    count, convolutions = shortcut_parameters()
    return Finding(
        "C20", REPRODUCED if count == 0 else CONTRADICTED, "none",
        f"{count:,} parameters in {convolutions} convolutions on shortcuts",
        "Counted in the network of Appendix C: four of its eight shortcuts change the number of "
        "channels and need 1 x 1 convolutions. There is no equation (C).",
        value=count,
    )  # fmt: skip


def c21(evidence: Evidence) -> Finding:
    """The last sentence."""
    return Finding(
        "C21", NOT_TESTABLE, "'the advantage … , the accuracy is increased'", "",
        "The sentence breaks off; whether it means a small or a large advantage cannot be told. "
        "The advantage itself is C17.",
    )  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        judge: Makes its entry.
        question: What its results answer; None if it needs none.
        shown_in: What shows its number, of that question.
    """

    judge: Callable[[Evidence], Finding]
    question: Question | None
    shown_in: Place

    def __post_init__(self) -> None:
        if self.shown_in.question not in (None, self.question):
            raise ValueError(
                f"{self.judge.__name__}: {self.shown_in.name} answers another question"
            )

    def entry(self, evidence: Evidence) -> Finding:
        """What the ledger says of it, and what shows it or fills the gap."""
        found = self.judge(evidence)
        if self.question and found.verdict == NO_EVIDENCE:
            return replace(found, command=self.question.command)
        if self.question and evidence.get(self.question) is None:
            return found
        return replace(found, shown_in=self.shown_in)


CLAIMS = (
    Claim(c1, BATCH_SIZE, places.DIFFERENCES),
    Claim(c2, BATCH_SIZE, places.ACCURACY_BY_EPOCH),
    Claim(c3, BATCH_SIZE, places.DIFFERENCES),
    Claim(c4, BATCH_SIZE, places.DIFFERENCES),
    Claim(c5, BATCH_SIZE, places.THROUGHPUT),
    Claim(c6, BATCH_SIZE, places.LOSS_NOISE),
    Claim(c7, BATCH_SIZE, places.NOISE_SCALE),
    Claim(c8, BATCH_SIZE, places.LOSS_BY_BATCH),
    Claim(c9, BATCH_SIZE, places.ACCURACY_BY_EPOCH),
    Claim(c10, BATCH_SIZE, places.by_arm(BATCH_SIZE)),
    Claim(c11, BATCH_SIZE, places.CONFIDENCES),
    Claim(c12, BATCH_SIZE, places.RELIABILITY),
    Claim(c13, BATCH_SIZE, places.CONFIDENCES),
    Claim(c14, BATCH_SIZE, places.ERROR_OVERLAP),
    Claim(c15, TRAINING_SIZE, places.LEARNING_CURVE),
    Claim(c16, REGULARIZATION, places.regularization("cnn")),
    Claim(c17, MODELS, places.DIFFERENCES),
    Claim(c18, MODELS, places.MODELS_TO_TARGET),
    Claim(c19, MODELS, places.by_arm(MODELS)),
    Claim(c20, None, places.layers("resnet18")),
    Claim(c21, MODELS, places.by_arm(MODELS)),
)


def ledger(evidence: Evidence) -> list[Finding]:
    """All claims, in order."""
    return [claim.entry(evidence) for claim in CLAIMS]


def as_frame(findings: list[Finding]) -> pd.DataFrame:
    """The ledger as a table, with place and words of each claim."""
    rows = [
        {
            **vars(finding),
            "shown_in": finding.shown_in.name if finding.shown_in else "",
            "place": paper.STATEMENTS[finding.claim].place,
            "quote": paper.STATEMENTS[finding.claim].quote,
            "trials": " ".join(finding.trials),
        }
        for finding in findings
    ]
    return pd.DataFrame(rows)
