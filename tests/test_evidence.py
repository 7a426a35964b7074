from __future__ import annotations

import pytest

from analysis.evidence import kind_of, load_evidence
from study.comparison import COMPARISONS
from study.config import UserError
from tests.compared import write_comparison


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_built_in_comparison_is_known_by_what_its_arms_differ_in(name):
    arms = {arm: dict(settings) for arm, settings in COMPARISONS[name].arms.items()}
    assert kind_of({"name": "whatever", "arms": arms}) == name


def test_another_one_goes_by_its_name():
    assert kind_of({"name": "mine", "arms": {"a": {"lr": 1.0}, "b": {"lr": 0.5}}}) == "mine"
    assert kind_of({"name": "same", "arms": {"a": {}, "b": {}}}) == "same"


def test_searches_and_comparisons_are_told_apart(made_up, tmp_path):
    compared = write_comparison(tmp_path / "sizes", {"32": {"batch_size": 32}, "512": {}})
    evidence = load_evidence([made_up.path, compared.results.path])
    assert [s.path for s in evidence.searches] == [made_up.path]
    assert list(evidence.comparisons) == ["batch-size"]
    assert len(evidence.comparisons["batch-size"].predictions) == 8 * 200


def test_without_predictions_it_is_loaded_too(tmp_path):
    compared = write_comparison(tmp_path / "sizes", {"32": {"batch_size": 32}, "512": {}})
    (compared.results.path / "predictions.parquet").unlink()
    evidence = load_evidence([compared.results.path])
    assert evidence.comparisons["batch-size"].predictions.empty


def test_a_comparison_without_a_complete_trial_is_no_evidence(tmp_path):
    arms = {"32": {"batch_size": 32}, "512": {}}
    failed = {(arm, k) for arm in arms for k in (1, 2)}
    compared = write_comparison(tmp_path / "c", arms, replicates=2, failed=failed)
    evidence = load_evidence([compared.results.path])
    assert evidence.get("batch-size") is None
    assert evidence.get("models") is None


def test_two_answers_to_one_question_are_refused(tmp_path):
    arms = {"32": {"batch_size": 32}, "512": {}}
    folders = [write_comparison(tmp_path / name, arms).results.path for name in "ab"]
    with pytest.raises(UserError, match=r"compares the same as .*a \(batch-size\); give one"):
        load_evidence(folders)
