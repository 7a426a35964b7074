"""The ledger: verdicts of made-up results with known effects, and the rules themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analysis import comparison_frames as frames
from analysis import paper, places
from analysis.claims import batch_size, resnet
from analysis.evidence import Compared, Evidence
from analysis.ledger import Claim, as_frame, ledger
from analysis.sections.batch_size import of_batch_size
from analysis.verdicts import (
    CONTRADICTED,
    NO_EVIDENCE,
    NOT_DISTINGUISHABLE,
    NOT_TESTABLE,
    REPRODUCED,
    contains,
    direction,
)
from study.config.questions import MODELS, QUESTIONS
from study.results.estimates import Estimate, show
from tests.helpers.compared import write_comparison


def arms_of(name, keep="*"):
    return QUESTIONS[name].select([keep])


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """All five comparisons, with effects that are known (see tests/helpers/compared.py)."""
    folder = tmp_path_factory.mktemp("paper")
    arms = {
        "batch-size": QUESTIONS["batch-size"].select(None),
        "models": arms_of("models"),
        "regularization": arms_of("regularization", "cnn-*"),
        "schedule": arms_of("schedule"),
        "training-size": arms_of("training-size"),
    }
    return Evidence([], {k: write_comparison(folder / k, a) for k, a in arms.items()})


@pytest.fixture(scope="module")
def found(evidence):
    return {f.claim: f for f in ledger(evidence)}


EXPECTED = {
    "C1": CONTRADICTED,  # of the text itself
    "C2": NOT_DISTINGUISHABLE,
    "C3": CONTRADICTED,  # one point apart
    "C4": REPRODUCED,
    "C5": REPRODUCED,
    "C6": REPRODUCED,
    "C7": CONTRADICTED,  # about 900
    "C8": REPRODUCED,
    "C9": REPRODUCED,  # flat from epoch 4
    "C10": CONTRADICTED,  # 0.2
    "C11": NOT_TESTABLE,
    "C12": NOT_TESTABLE,
    "C13": REPRODUCED,
    "C14": NOT_TESTABLE,
    "C15": CONTRADICTED,  # the ResNet gains five points
    "C16": REPRODUCED,
    "C17": REPRODUCED,
    "C18": NOT_DISTINGUISHABLE,  # neither reaches 98%
    "C19": NOT_DISTINGUISHABLE,  # made up to take the same time
    "C20": CONTRADICTED,
    "C21": NOT_TESTABLE,
}


def test_every_claim_is_there_once_and_in_order(found):
    assert list(found) == list(EXPECTED) == list(paper.STATEMENTS)


@pytest.mark.parametrize("claim", EXPECTED)
def test_verdict(found, claim):
    assert found[claim].verdict == EXPECTED[claim], found[claim]


def test_every_number_has_its_n_interval_and_trials(found, evidence):
    known = {
        f"{c.results.path.name}/{t}"
        for c in evidence.comparisons.values()
        for t in c.trials["trial_id"]
    }
    for f in found.values():
        assert set(f.trials) <= known
        if np.isfinite(f.value) and f.claim not in ("C14", "C20"):
            assert f.n >= 4, f
            assert f.interval, f
            assert f.low <= f.value <= f.high, f
            assert f.trials, f


def test_estimates_are_plain_pandas(found, evidence):
    trials = evidence.comparisons["batch-size"].results.trials
    wide = trials.pivot(index="replicate", columns="arm", values="last_eval_accuracy")
    assert found["C4"].value == pytest.approx(100 * (wide["32"] - wide["512"]).mean())
    loss = trials.loc[trials["arm"] == "512", "last_eval_loss"]
    assert found["C10"].value == pytest.approx(loss.mean())
    seconds = trials.pivot(index="replicate", columns="arm", values="seconds")
    ratio = np.exp(np.log(seconds["512"] / seconds["32"]).mean())
    assert found["C5"].value == pytest.approx(ratio)
    other = evidence.comparisons["regularization"].results.trials
    wide = other.pivot(index="replicate", columns="arm", values="last_eval_accuracy")
    assert found["C16"].value == pytest.approx(
        100 * (wide["cnn-dropout"] - wide["cnn-none"]).mean()
    )


def test_a_claim_and_its_figure_show_the_same_critical_batch_size(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "TARGET", 0.84)
    sizes = QUESTIONS["batch-size"].select(None)
    compared = write_comparison(tmp_path / "batch-size", sizes, replicates=6)
    epochs = compared.results.epochs  # so that the seeds need different numbers of steps
    epochs["step"] += epochs["step"].to_numpy() * np.arange(len(epochs)) // 200
    said = show(compared.critical_batch_size, "{:,.0f}")
    assert "[" in said
    assert said in batch_size.c7(Evidence([], {"batch-size": compared})).why
    captions = {e.name: e.caption for e in of_batch_size(compared)}
    assert f"critical batch size of {said} images" in captions["noise_scale"]


def test_the_shortcuts_parameters_are_counted():
    claim = resnet.c20(Evidence([], {}))
    by_hand = sum(a * b + b for a, b in ((8, 16), (16, 32), (32, 64), (64, 128)))
    assert claim.value == by_hand


def test_what_is_slower_to_converge_is_told_apart(evidence, monkeypatch):
    monkeypatch.setattr(frames, "TARGET", 0.84)
    models = evidence.comparisons["models"]
    afresh = Compared(models.results, models.predictions)
    claim = resnet.c18(Evidence([], {"models": afresh}))
    assert claim.verdict == REPRODUCED
    assert claim.value < 1


def test_without_results_the_ledger_says_how_to_get_them():
    found = ledger(Evidence([], {}))
    verdicts = {f.claim: f.verdict for f in found}
    assert {c for c, v in verdicts.items() if v != NO_EVIDENCE} == {"C20", "C21"}
    for f in found:
        if f.verdict == NO_EVIDENCE:
            assert f.command in {q.command for q in QUESTIONS.values()} - {""}
        assert f.shown_in is None or f.claim == "C20"


def test_a_claim_cannot_point_to_another_questions_figure():
    with pytest.raises(ValueError, match="c18: throughput answers another question"):
        Claim(resnet.c18, MODELS, places.THROUGHPUT)


def test_other_results_give_other_verdicts(tmp_path):
    """The same claims on results without an effect of the batch size: no verdict is hard-coded."""
    arms = {str(b): {"batch_size": b} for b in (32, 64, 512)}
    compared = write_comparison(tmp_path / "batch-size", arms, replicates=8)
    trials = compared.results.trials
    wobble = 0.0002 * np.cos(5.0 * trials["replicate"].astype(float))
    for column, mean in (("last_eval_accuracy", 0.9875), ("last_eval_loss", 0.0412)):
        trials[column] = mean + wobble * np.where(trials["arm"] == "32", 1, -1)
    trials["seconds"] = 100.0 + 1000 * wobble
    same = Evidence([], {"batch-size": type(compared)(compared.results, compared.predictions)})
    found = {f.claim: f.verdict for f in ledger(same)}
    assert found["C3"] == REPRODUCED
    assert found["C4"] == NOT_DISTINGUISHABLE
    assert found["C5"] == NOT_DISTINGUISHABLE
    assert found["C10"] == REPRODUCED


@pytest.mark.parametrize(
    ("low", "high", "above", "verdict"),
    [
        (0.1, 0.5, True, REPRODUCED),
        (-0.5, -0.1, True, CONTRADICTED),
        (-0.1, 0.5, True, NOT_DISTINGUISHABLE),
        (0.1, 0.5, False, CONTRADICTED),
        (-0.5, -0.1, False, REPRODUCED),
        (np.nan, np.nan, True, NOT_DISTINGUISHABLE),
    ],
)
def test_the_rule_of_a_direction(low, high, above, verdict):
    assert direction(Estimate(0.0, low, high, 5, ""), above=above) == verdict


def test_the_rule_of_a_number():
    assert contains(Estimate(1, 0.9, 1.1, 5, ""), 1.05) == REPRODUCED
    assert contains(Estimate(1, 0.9, 1.1, 5, ""), 1.2) == CONTRADICTED
    assert contains(Estimate(1, np.nan, np.nan, 1, ""), 1.0) == NOT_DISTINGUISHABLE


def test_numbers_are_shown_with_one_unit():
    e = Estimate(0.98754, 0.9851, 0.9895, 10, "")
    assert show(e, "{:.2%}") == "98.75% [98.51, 98.95]"
    assert show(e, "{:.2f} points") == "0.99 points [0.99, 0.99]"
    assert show(Estimate(0.98754, np.nan, np.nan, 1, ""), "{:.2%}") == "98.75% (n = 1: no interval)"


def test_the_table_has_the_papers_words(found):
    table = as_frame(list(found.values()))
    assert len(table) == 21
    assert table["quote"].str.len().min() > 20
    json.dumps(table.astype(str).to_dict("records"))  # plain values
