from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import study
from study.config.datasets import DATASET_SPECS
from study.config.trial import TrialConfig
from study.console.errors import UserError
from study.results.final_model import final_model
from study.results.history import STATE_FILE
from study.results.storage import Storage
from study.results.study_file import StudyFile
from study.results.tables import as_table, load_study
from study.training.export import Classifier, save_model
from study.training.trainer import Trainer
from tests.helpers.networks import learning_state
from tests.helpers.simulated import comparison_config, run_study
from tests.helpers.trained import (
    best_of,
    complete,
    last_checkpoint,
    replace_state,
    small_search,
    train_final_model,
    trained_study,
)

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture(scope="module")
def made(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("results") / "n"
    return folder, trained_study(folder, small_search(), few_digits)


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "n")


@pytest.fixture
def exported(made, tmp_path):
    save_model(final_model(made[0], None), tmp_path / "model")
    return tmp_path / "model"


def log_p(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(images))


def test_the_best_trials_model_says_bit_for_bit_what_its_trainer_says(made, few_digits, exported):
    folder, trainers = made
    trainer = trainers[best_of(load_study(folder))]
    expected = trainer.log_probabilities()
    found = log_p(study.load_model(exported), few_digits[1].images)
    assert torch.equal(found, expected)
    assert found.shape == (40, 10)


def test_a_given_trials_model_is_another(made, few_digits, tmp_path):
    folder, trainers = made
    best = best_of(load_study(folder))
    other = next(trial_id for trial_id in trainers if trial_id != best)
    save_model(final_model(folder, other), tmp_path / "other")
    model = study.load_model(tmp_path / "other")
    assert torch.equal(log_p(model, few_digits[1].images), trainers[other].log_probabilities())
    assert model.about["provenance"]["trial_id"] == other


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.1)])
def test_it_computes_in_fp32_without_kernels(exported, few_digits, name, precision, tolerance):
    config = TrialConfig(
        model=name, batch_size=32, epochs=1, precision=precision, width_mult=0.5, batch_norm=None
    )
    trainer = Trainer(config, *few_digits, torch.device("cpu"))
    trainer.run_epoch()
    about = {**study.load_model(exported).about, "config": vars(config)}
    model = Classifier(about, trainer.model.state_dict())
    found = log_p(model, few_digits[1].images)
    torch.testing.assert_close(found, trainer.log_probabilities(), atol=tolerance, rtol=0)


def test_whole_numbers_and_floats_give_the_same_and_stay_as_they_are(exported, few_digits):
    model, images = study.load_model(exported), few_digits[1].images
    floats = torch.from_numpy(images).float()
    before = floats.clone()
    assert torch.equal(model(floats), log_p(model, images))
    assert torch.equal(floats, before)
    assert not model.training
    with pytest.raises(ValueError, match=r"\(28, 28\), not \(n, 28, 28\)"):
        model(floats[0])


def test_the_description_says_where_the_model_is_from(made, exported):
    folder, _ = made
    about = json.loads((exported / "model.json").read_text())
    results = load_study(folder)
    row = results.trials.set_index("trial_id").loc[best_of(results)]
    content = json.loads((folder / "study.json").read_text())
    assert TrialConfig(**about["config"]).seed == row["seed"] == about["provenance"]["seed"]
    assert about["normalisation"] == {"mean": 0.1307, "std": 0.3081}
    assert about["classes"] == list("0123456789")
    assert about["num_params"] == row["num_params"]
    assert about["scores"]["accuracy"] == row["last_eval_accuracy"]
    assert about["scores"]["images"] == 10_000
    assert about["provenance"]["study"] == "n"
    assert about["provenance"]["data"] == content["data"]
    assert about["provenance"]["data"]["sha256"] == DATASET_SPECS["mnist"].sha256
    assert about["provenance"]["sessions"][0]["versions"] == content["sessions"][0]["versions"]


def test_what_a_damaged_study_no_longer_knows_is_null(folder, tmp_path):
    trials = load_study(folder).trials
    trials["num_params"], trials["precision"] = pd.NA, pd.NA
    as_table("trials", trials).to_parquet(folder / "trials.parquet", index=False)
    save_model(final_model(folder, None), tmp_path / "model")
    about = study.load_model(tmp_path / "model").about
    assert about["num_params"] is about["provenance"]["precision"] is None


def test_exporting_again_replaces_the_model(made, exported):
    other = next(i for i in made[1] if i != best_of(load_study(made[0])))
    save_model(final_model(made[0], other), exported)
    assert study.load_model(exported).about["provenance"]["trial_id"] == other
    assert {path.name for path in exported.iterdir()} == {"model.json", "model.safetensors"}


def test_a_kill_between_the_two_files_leaves_no_mixture(made, exported, monkeypatch):
    other = next(i for i in made[1] if i != best_of(load_study(made[0])))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.training.export.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(final_model(made[0], other), exported)
    with pytest.raises(UserError, match=r"not the file that model.json describes"):
        study.load_model(exported)


def test_study_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        _ = study.load_models


def rewrite(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def damage(exported, kind):
    tensors, about = exported / "model.safetensors", exported / "model.json"
    match kind:
        case "no tensors":
            tensors.unlink()
        case "no description":
            about.unlink()
        case "text":
            tensors.write_text("weights")
        case "text with its digest":
            tensors.write_text("weights")
            rewrite(about, sha256=hashlib.sha256(b"weights").hexdigest())
        case "flipped":
            content = bytearray(tensors.read_bytes())
            content[-1] ^= 1
            tensors.write_bytes(content)
        case "not json":
            about.write_text("{")
        case "a list":
            about.write_text("[]")
        case "another format":
            rewrite(about, format_version=9)
        case "no config":
            rewrite(about, config=None)
        case "an unknown field":
            rewrite(about, config={"model": "cnn", "depth": 3})
        case "wrong std":
            rewrite(about, normalisation={"mean": 0.1, "std": "1"})
        case "no scores":
            rewrite(about, scores={})
        case "another network":
            rewrite(about, config={**json.loads(about.read_text())["config"], "width_mult": 32})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no tensors", "model.safetensors: missing"),
        ("no description", "model.json: missing"),
        ("text", "model.safetensors is not the file that model.json describes"),
        ("flipped", "model.safetensors is not the file that model.json describes"),
        ("text with its digest", "not a whole model (Error while deserializing"),
        ("not json", "not a whole model (Expecting property name"),
        ("a list", "not a whole model (list indices must be integers"),
        ("another format", "its format is 9, not 1"),
        ("no config", "mapping, not NoneType"),
        ("an unknown field", "depth"),
        ("wrong std", "std: '1' is not a finite number above zero"),
        ("no scores", "model.json lacks 'accuracy'"),
        ("another network", "tensor 'conv1.weight' is torch.float32 (4, 1, 3, 3)"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(exported, kind, words):
    damage(exported, kind)
    with pytest.raises(UserError) as caught:
        study.load_model(exported)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "python -m study.predict results/NAME --save DIR" in str(caught.value)


def test_a_tensor_too_many_is_refused(exported):
    tensors = load_file(exported / "model.safetensors")
    save_file({**tensors, "more": torch.zeros(1)}, exported / "model.safetensors")
    about = json.loads((exported / "model.json").read_text())
    with pytest.raises(ValueError, match=r"tensor 'more' is torch.float32"):
        Classifier(about, load_file(exported / "model.safetensors"))


def test_a_folder_that_cannot_be_written(made, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        save_model(final_model(made[0]), tmp_path / "file")


def test_without_ray_the_line_says_what_to_bring(folder):
    best = best_of(load_study(folder))
    shutil.rmtree(folder / "ray")
    with pytest.raises(UserError) as caught:
        final_model(folder)
    assert str(caught.value).startswith(f"{folder}/ray/{best}: no intact final model there")
    assert "bring the folder ray/" in str(caught.value)


def test_a_damaged_or_unfinished_checkpoint_is_not_a_final_model(folder):
    checkpoint = last_checkpoint(folder, best_of(load_study(folder)))
    state = checkpoint / STATE_FILE
    content = state.read_bytes()
    state.write_bytes(content[:-1])
    with pytest.raises(UserError, match="no intact final model"):
        final_model(folder)
    state.write_bytes(content)
    final_model(folder)


def test_a_checkpoint_of_an_earlier_epoch_is_not_a_final_model(folder):
    checkpoint = last_checkpoint(folder, best_of(load_study(folder)))
    history = Storage(folder).history_in(str(checkpoint))
    earlier = replace(history, epochs=history.epochs[:1], step_losses=history.step_losses[:1])
    earlier.save(checkpoint)
    with pytest.raises(UserError, match="no intact final model"):
        final_model(folder)


def test_nothing_is_unpickled(folder):
    replace_state(folder, best_of(load_study(folder)), {"model": print})
    with pytest.raises(UserError, match="the final model is damaged"):
        final_model(folder)


@pytest.mark.parametrize("state", [{}, {"model": {}}, {"model": {"x": torch.zeros(1)}}])
def test_a_state_without_the_networks_tensors_is_refused(folder, state):
    replace_state(folder, best_of(load_study(folder)), state)
    with pytest.raises(UserError, match="the final model is damaged"):
        final_model(folder)


def test_trials_that_have_no_final_model(made):
    folder, _ = made
    trials = load_study(folder).trials
    row = trials[trials["status"] != "complete"].iloc[0]
    best = best_of(load_study(folder))
    with pytest.raises(UserError, match=f"{row.trial_id} is {row.status}; only complete.*{best}"):
        final_model(folder, row.trial_id)
    with pytest.raises(
        UserError, match=f"--trial: 'trial_9' is not in .*; a complete one is {best}"
    ):
        final_model(folder, "trial_9")


def test_a_study_without_complete_trials(fruitless):
    with pytest.raises(UserError, match=r"no trial is complete.*python -m study.status"):
        final_model(fruitless.path)


def test_a_comparison_has_no_best_trial(tmp_path, few_digits):
    arms = {"a": {"batch_size": 32, "width_mult": 0.5}, "b": {"batch_size": 64, "width_mult": 0.5}}
    config = replace(comparison_config(3), arms=arms, precision="fp32")
    folder = tmp_path / "n"
    run_study(folder, config)
    trial_id = complete(folder)[0]
    trainer = train_final_model(folder, trial_id, few_digits)
    with pytest.raises(UserError, match=r"do not compete.*choose one with --trial, such as trial_"):
        final_model(folder)
    model = final_model(folder, trial_id)
    assert learning_state(model.network) == learning_state(trainer.model)
    assert "chose it" not in model.title
    trials = load_study(folder).trials.assign(arm="no")
    as_table("trials", trials).to_parquet(folder / "trials.parquet", index=False)
    with pytest.raises(UserError, match=r"damaged \(trial_0000\d: no arm 'no'\)"):
        final_model(folder, trial_id)


@pytest.mark.parametrize(("column", "value"), [("arm", "z"), ("arm", None), ("replicate", None)])
def test_a_trial_of_no_arm_is_damage(tmp_path, column, value):
    folder = tmp_path / "n"
    run_study(folder, comparison_config(3))
    trial_id = complete(folder)[0]
    trials = pd.read_parquet(folder / "trials.parquet")
    kinds = trials.dtypes
    trials.loc[trials["trial_id"] == trial_id, column] = value
    trials.astype(kinds).to_parquet(folder / "trials.parquet", index=False)
    with pytest.raises(UserError, match=rf"trials.parquet: damaged \({trial_id}: "):
        final_model(folder, trial_id)


def test_an_object_store_that_lost_the_model(folder, bucket):
    study_file = StudyFile.read(folder)
    replace(study_file, storage=f"{bucket}/n").write(folder)
    with pytest.raises(UserError, match=r"s3://a-bucket/n/ray/trial_.*no intact final model there"):
        final_model(folder)


def test_the_model_of_an_object_store(folder, bucket, made):
    storage = Storage(folder, f"{bucket}/there")
    for file in (folder / "ray").rglob("*.*"):
        if file.is_file():
            storage._put(str(file.relative_to(folder)), file.read_bytes())
    replace(StudyFile.read(folder), storage=storage.uri).write(folder)
    shutil.rmtree(folder / "ray")
    best = best_of(load_study(folder))
    model = final_model(folder)
    assert learning_state(model.network) == learning_state(made[1][best].model)


def test_the_networks_images_are_mnists_normalised(exported):
    model = study.load_model(exported)
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 28, 28), 255, dtype=torch.uint8))
    np.testing.assert_allclose(seen[0].numpy(), (1 - 0.1307) / 0.3081, rtol=1e-6)
