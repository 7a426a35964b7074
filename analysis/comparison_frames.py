"""Computes the frames of a comparison: results by arm, paired differences, loss curves.

Accuracies are fractions. Differences of accuracies are in percentage points.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.compared import ComparedTables
from analysis.intervals import equivalence_p, probability_above
from analysis.smoothing import loss_level
from study.config.arms import ARM_SETTINGS
from study.results.estimates import Estimate, over_seeds
from study.results.tables import STATUSES

MARGIN = 0.1  # accuracies that differ by fewer points count as equal; set in advance
TARGET = 0.98  # accuracy until which steps, images and seconds are counted
CURVE_POINTS = 160  # points per loss curve, evenly spaced on a logarithmic axis


def by_arm(compared: ComparedTables) -> pd.DataFrame:
    """The results of each arm.

    Returns:
        One row per arm: ``n`` (its complete trials) and ``lost`` (its other trials). For
        ``accuracy``, ``loss`` and ``seconds``: the mean, ``*_low`` and ``*_high`` (95% t interval
        over seeds). Also ``accuracy_sd``.
    """
    trials = compared.results.trials
    rows = []
    for arm in compared.arms:
        complete = compared.of_arm(arm)
        row = {
            "arm": arm,
            "n": len(complete),
            "lost": int((trials["arm"] == arm).sum()) - len(complete),
        }
        for name, column in (
            ("accuracy", "last_eval_accuracy"),
            ("loss", "last_eval_loss"),
            ("seconds", "seconds"),
        ):
            if len(complete):
                e = over_seeds(complete[column])
                row |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
        rows.append({**row, "accuracy_sd": complete["last_eval_accuracy"].std(ddof=1)})
    columns = ["accuracy", "loss", "seconds"]
    wanted = [f"{c}{end}" for c in columns for end in ("", "_low", "_high")]
    return pd.DataFrame(rows).reindex(columns=["arm", "n", "lost", *wanted, "accuracy_sd"])


def arm_settings(compared: ComparedTables) -> pd.DataFrame:
    """The settings of each arm.

    Returns:
        One row per arm: ``arm`` and each of `study.config.comparison.ARM_SETTINGS`. None if the
        network's own setting is used, or if the optimizer has no such setting.
    """
    make = compared.config.trial_config
    trials = {arm: make({"arm": arm, "replicate": 1}, 0) for arm in compared.arms}
    rows = [{"arm": a, **{n: getattr(t, n) for n in ARM_SETTINGS}} for a, t in trials.items()]
    return pd.DataFrame(rows, dtype=object)


def statuses(compared: ComparedTables) -> pd.DataFrame:
    """Number of trials by arm (the index) and by status: one column per status that occurs."""
    trials = compared.results.trials
    counts = pd.crosstab(trials["arm"], trials["status"])
    shown = [status for status in STATUSES if status == "complete" or status in counts]
    return counts.reindex(index=compared.arms, columns=shown, fill_value=0)


def pairs(
    compared: ComparedTables, a: str, b: str, column: str = "last_eval_accuracy"
) -> pd.DataFrame:
    """One value of two arms, paired by replicate: columns ``a`` and ``b``."""
    left, right = (compared.of_arm(arm).set_index("replicate") for arm in (a, b))
    both = left.merge(right, on="replicate", suffixes=("_a", "_b"))
    return pd.DataFrame({"a": both[f"{column}_a"], "b": both[f"{column}_b"]})


def points(compared: ComparedTables, a: str, b: str) -> Estimate:
    """Mean difference in final accuracy, a minus b, paired by seed, in percentage points."""
    both = pairs(compared, a, b)
    return over_seeds(100 * (both["a"] - both["b"]))


def paired_differences(compared: ComparedTables, baseline: str) -> pd.DataFrame:
    """Final accuracy of each arm minus the baseline's, paired by seed.

    Returns:
        One row per arm other than `baseline`: ``n`` pairs, ``difference`` (percentage points) with
        ``low`` and ``high`` (95% t interval), ``equivalence_p`` (TOST, ``±MARGIN``) and
        ``probability_above``: P(a run of the arm is better than one of the baseline).
    """
    rows = []
    for arm in compared.arms:
        both = pairs(compared, arm, baseline)
        if arm == baseline or both.empty:
            continue
        difference = 100 * (both["a"] - both["b"])
        e = over_seeds(difference)
        rows.append(
            {
                "arm": arm,
                "baseline": baseline,
                "n": e.n,
                "difference": e.value,
                "low": e.low,
                "high": e.high,
                "equivalence_p": equivalence_p(difference, MARGIN),
                "probability_above": probability_above(both["a"], both["b"]),
            }
        )
    columns = [
        "arm",
        "baseline",
        "n",
        "difference",
        "low",
        "high",
        "equivalence_p",
        "probability_above",
    ]
    return pd.DataFrame(rows, columns=columns)


def accuracy_by_epoch(compared: ComparedTables) -> pd.DataFrame:
    """Accuracy after each epoch.

    Returns:
        One row per arm, replicate and epoch: ``accuracy``. Over the arm's replicates in that
        epoch: ``mean``, ``low`` and ``high`` (95% t interval over seeds).
    """
    rows = compared.epochs()[["arm", "replicate", "batch_size", "epoch", "eval_accuracy"]]
    rows = rows.rename(columns={"eval_accuracy": "accuracy"})
    summary = []
    for (arm, epoch), group in rows.groupby(["arm", "epoch"])["accuracy"]:
        e = over_seeds(group)
        summary.append({"arm": arm, "epoch": epoch, "mean": e.value, "low": e.low, "high": e.high})
    summary = pd.DataFrame(summary, columns=["arm", "epoch", "mean", "low", "high"])
    order = {arm: i for i, arm in enumerate(compared.arms)}
    merged = rows.merge(summary, on=["arm", "epoch"])
    return merged.sort_values(
        ["arm", "replicate", "epoch"],
        key=lambda c: c.map(order) if c.name == "arm" else c,
        ignore_index=True,
    )


def loss_curves(compared: ComparedTables) -> pd.DataFrame:
    """Each trial's training loss along its steps, raw and smoothed.

    Returns:
        One row per trial and point of a grid that is even on a logarithmic axis: arm, replicate,
        batch_size, ``step``, ``epoch``, ``examples``, ``seconds`` (training and evaluation until
        then), ``loss`` of this one step, ``smoothed`` (see `analysis.smoothing`; the first epoch
        is smoothed separately), and the trial's ``level_sd`` and ``noise_sd``.
    """
    frames = []
    epochs = compared.results.epochs.set_index("trial_id")
    steps = compared.results.steps.groupby("trial_id")
    for trial in compared.trials.itertuples():
        if trial.trial_id not in steps.groups:  # its losses were lost
            continue
        own, losses = epochs.loc[[str(trial.trial_id)]], steps.get_group(str(trial.trial_id))
        if not np.isfinite(losses["loss"]).all():
            continue
        level = loss_level(losses["loss"].to_numpy(), int(own["step"].iloc[0]))
        last = len(losses)
        grid = np.unique(np.geomspace(1, last, CURVE_POINTS).round().astype(int))
        at = losses.iloc[grid - 1]
        ends = (
            np.concatenate([[0], own["step"]]),
            np.concatenate([[0.0], own["epoch_seconds"].cumsum()]),
        )
        frames.append(
            pd.DataFrame(
                {
                    "arm": trial.arm,
                    "replicate": trial.replicate,
                    "batch_size": trial.batch_size,
                    "step": grid,
                    "epoch": at["epoch"].to_numpy(),
                    "examples": losses["num_examples"].cumsum().to_numpy()[grid - 1],
                    "seconds": np.interp(grid, *ends),
                    "loss": at["loss"].to_numpy(),
                    "smoothed": level.smoothed[grid - 1],
                    "level_sd": level.level_sd,
                    "noise_sd": level.noise_sd,
                }
            )
        )
    columns = [
        "arm",
        "replicate",
        "batch_size",
        "step",
        "epoch",
        "examples",
        "seconds",
        "loss",
        "smoothed",
        "level_sd",
        "noise_sd",
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def loss_noise(compared: ComparedTables) -> pd.DataFrame:
    """Scatter of the step losses in the last epoch, in which their level hardly changes.

    Returns:
        One row per trial: arm, replicate, batch_size, ``sd`` of the full batches' losses around a
        straight line fitted to them, and ``level``, their mean.
    """
    steps = compared.results.steps.merge(
        compared.trials[["trial_id", "arm", "replicate", "batch_size", "epochs_run"]], on="trial_id"
    )
    steps = steps[
        (steps["epoch"] == steps["epochs_run"])
        & (steps["num_examples"] == steps["batch_size"])
        & np.isfinite(steps["loss"])
    ]
    rows = []
    for (arm, replicate), group in steps.groupby(["arm", "replicate"], sort=False):
        x, y = group["step"].to_numpy(float), group["loss"].to_numpy(float)
        if len(x) < 3:
            continue
        rest = y - np.polyval(np.polyfit(x - x.mean(), y, 1), x - x.mean())
        rows.append(
            {
                "arm": arm,
                "replicate": replicate,
                "batch_size": group["batch_size"].iloc[0],
                "sd": float(np.sqrt((rest**2).sum() / (len(x) - 2))),
                "level": y.mean(),
            }
        )
    columns = ["arm", "replicate", "batch_size", "sd", "level"]
    return pd.DataFrame(rows, columns=columns).sort_values(["batch_size", "replicate"])


def noise_slope(noise: pd.DataFrame) -> pd.DataFrame:
    """Each replicate's slope of log sd against log batch size: -1/2 if sd is sigma / sqrt(B)."""
    wide = noise.pivot_table(index="replicate", columns="batch_size", values="sd").dropna()
    x = np.log(wide.columns.to_numpy(float))
    if wide.empty or len(x) < 2:
        return pd.DataFrame(columns=["replicate", "slope"])
    slopes = np.polyfit(x, np.log(wide.to_numpy()).T, 1)[0]
    return pd.DataFrame({"replicate": wide.index, "slope": slopes})


def to_target(compared: ComparedTables, target: float) -> pd.DataFrame:
    """When each trial first reached an accuracy, counted in whole epochs.

    Returns:
        One row per trial: arm, replicate, batch_size, ``epoch``, ``step``, ``examples`` and
        ``seconds`` until then. NaN if it never did.
    """
    epochs = compared.epochs()
    epochs["seconds"] = epochs.groupby("trial_id")["epoch_seconds"].cumsum()
    reached = epochs[epochs["eval_accuracy"] >= target].drop_duplicates("trial_id")
    rows = compared.trials[["trial_id", "arm", "replicate", "batch_size"]].merge(
        reached[["trial_id", "epoch", "step", "examples_seen", "seconds"]],
        on="trial_id",
        how="left",
    )
    return rows.rename(columns={"examples_seen": "examples"}).drop(columns="trial_id")


def throughput(compared: ComparedTables) -> pd.DataFrame:
    """Training images per second of each trial. The time of the evaluation is not counted."""
    epochs = compared.epochs(("arm", "replicate", "batch_size", "train_examples"))
    epochs["train_seconds"] = epochs["epoch_seconds"] - epochs["eval_seconds"]
    groups = epochs.groupby(["arm", "replicate", "batch_size"], sort=False)
    rate = groups["train_examples"].sum() / groups["train_seconds"].sum()
    return rate.astype(float).rename("images_per_second").reset_index()


def interaction(compared: ComparedTables, model: str) -> pd.DataFrame:
    """Effects of dropout and of batch norm on a network's final accuracy, paired by seed.

    Returns:
        One row per effect (dropout, batch norm, interaction), in percentage points. An effect is
        the mean over the other's two settings. The interaction is how much one effect changes
        with the other. Also ``low``, ``high`` (95% t interval) and ``n``.
    """
    trials = compared.trials[compared.trials["model"] == model]
    wide = (
        trials.pivot_table(
            index="replicate", columns=["dropout", "batch_norm"], values="last_eval_accuracy"
        ).dropna()
        * 100
    )
    cells = [(a, b) for a in (False, True) for b in (False, True)]
    if wide.empty or any(cell not in wide.columns for cell in cells):
        return pd.DataFrame(columns=["effect", "value", "low", "high", "n"])
    none, norm, drop, both = (wide[cell] for cell in cells)
    effects = {
        "dropout": ((drop - none) + (both - norm)) / 2,
        "batch norm": ((norm - none) + (both - drop)) / 2,
        "interaction": (both - norm) - (drop - none),
    }
    rows = []
    for effect, values in effects.items():
        e = over_seeds(values)
        rows.append({"effect": effect, "value": e.value, "low": e.low, "high": e.high, "n": e.n})
    return pd.DataFrame(rows)
