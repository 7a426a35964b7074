from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import study
from study import predict
from study.results.final_model import final_model
from study.results.tables import load_study
from study.training.export import save_model
from tests.helpers.trained import best_of, small_search, trained_study
from tests.test_pictures import seven

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("results") / "n"
    trained_study(folder, small_search(), few_digits)
    return folder


@pytest.fixture
def image(tmp_path):
    seven().save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words, status=0):
        assert predict.main([str(word) for word in words]) == status
        captured = capsys.readouterr()
        assert captured.err == "" if status == 0 else captured.out == ""
        return captured.out if status == 0 else captured.err

    return call


def in_json(out):
    return [json.loads(line) for line in out.splitlines()]


def test_it_shows_what_it_saw_and_the_most_probable_digits(run, folder, image):
    out = run(folder, image)
    (said,) = in_json(run(folder, "--json", image))
    lines = out.splitlines()
    best = best_of(load_study(folder))
    assert lines[0].startswith(f"{best} of n: ")
    assert lines[0].endswith(
        " of 10,000 validation images, which also chose it: expect a little less"
    )
    sure = "" if said["probability"] > 0.5 else ", unsure"
    assert f"{image}: {said['digit']} ({said['probability']:.2%}{sure}); 200 x 300: inverted" in out
    ranked = sorted(range(10), key=lambda digit: -said["probabilities"][digit])[:3]
    for digit in ranked:
        assert f"{said['probabilities'][digit]:7.2%}" in out
    assert sum("@" in line for line in lines) > 5


def test_json_is_one_object_per_picture_and_sums_to_one(run, folder, image, tmp_path, few_digits):
    own = tmp_path / "own form.png"
    pixels = few_digits[1].images[0].copy()
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = 0, 0, 0, 0
    Image.fromarray(pixels).save(own)
    first, second = in_json(run(folder, "--json", image, own))
    assert (first["image"], second["image"]) == (str(image), str(own))
    for said in (first, second):
        assert sum(said["probabilities"]) == pytest.approx(1)
        assert said["probability"] == max(said["probabilities"])
        assert said["probabilities"][said["digit"]] == said["probability"]
        assert said["model"]["trial_id"] == best_of(load_study(folder))
    run(folder, "--save", tmp_path / "model")
    with torch.inference_mode():
        log_p = study.load_model(tmp_path / "model")(torch.from_numpy(pixels[None]))
    np.testing.assert_allclose(
        second["probabilities"], log_p[0].exp().numpy(), rtol=1e-5, atol=1e-7
    )


def test_a_saved_model_needs_no_results_folder_and_says_the_same(run, folder, image, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "n")
    expected = run(copy, "--json", image)
    assert f"study.load_model('{tmp_path}/model')" in run(copy, "--save", tmp_path / "model")
    shutil.rmtree(copy)
    assert run(tmp_path / "model", "--json", image) == expected


def test_of_a_given_trial(run, folder, image):
    trials = load_study(folder).trials
    complete = trials.loc[trials["status"] == "complete", "trial_id"]
    other = next(i for i in complete if i != best_of(load_study(folder)))
    assert run(folder, "--trial", other, image).startswith(f"{other} of n: ")


def test_errors_are_one_line_and_nothing_else(run, folder, image, tmp_path):
    run(folder, "--save", tmp_path / "model")
    (tmp_path / "text.png").write_text("no picture")
    moved = shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("ray"))
    model = tmp_path / "model"
    for words, expected in [
        ((folder, image, tmp_path / "text.png"), "text.png: not a picture that can be read"),
        ((folder, tmp_path / "gone.png"), "gone.png: no such file"),
        ((tmp_path / "gone", image), "gone: not a study (no such folder)"),
        ((moved, image), "no intact final model there; bring the folder ray/ from where"),
        ((folder, "--trial", "trial_x", image), "--trial: 'trial_x' is not in"),
        ((model, "--trial", "trial_00000", image), "holds one model; leave it out"),
        ((folder, "--save", model), "model.json is already there; choose another folder"),
        (("s3://bucket/n", image), "s3:/bucket/n: not a study (no such folder)"),
    ]:
        err = run(*words, status=2)
        assert expected in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_something_to_do_is_required(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        predict.main([str(folder)])
    assert caught.value.code == 2
    assert "IMAGE: missing; give pictures of digits, or --save DIR" in capsys.readouterr().err


def test_a_model_of_clothes_reads_no_digits(run, image, tmp_path, few_digits):
    folder = tmp_path / "clothes"
    trained_study(folder, small_search(dataset="fashion-mnist"), few_digits)
    assert "trained on fashion-mnist" in run(folder, image, status=2)
    run(folder, "--save", tmp_path / "model")
    assert study.load_model(tmp_path / "model").std == 0.3530


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_model_that_computes_no_number_is_refused(folder, image, tmp_path, capsys, options):
    model = final_model(folder)
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    save_model(model, tmp_path / "m")
    assert predict.main([str(tmp_path / "m"), str(image), *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"its output for {image} is not a number" in line


def test_a_model_is_not_saved_over_a_study(run, folder):
    assert "study.json is already there" in run(folder, "--save", folder, status=2)
    assert not (folder / "model.json").exists()
