"""What a study's best model reads in pictures: ``python -m study.predict results/NAME IMAGE…``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from study.cli import Parser, guarded, place
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.data.pictures import Picture, drawing, read_picture

if TYPE_CHECKING:  # takes seconds to import
    from study.training.export import Classifier

SHOWN = 3  # digits per picture, the most probable first
BAR = 20  # characters of a probability of 1
SURE = 0.5  # a digit of a smaller probability is called unsure
EPILOG = """examples:
  python -m study.predict results/NAME seven.png photo.jpg
  python -m study.predict results/NAME --trial trial_00012 --json *.png
  python -m study.predict results/NAME --save my-model
  python -m study.predict my-model seven.png

A picture of 28 x 28 pixels with a dark background is used as it is. Any other is brought to the
form of MNIST's images: one digit, of any colour and size, alone on an even background.
In Python: study.load_model("my-model").
"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m study.predict",
        description="Read digits in pictures with the final model of a study's best trial.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "model",
        type=place,
        metavar="DIR",
        help="a folder like results/NAME, or one that --save has made",
    )
    parser.add_argument("images", nargs="*", type=place, metavar="IMAGE", help="pictures of digits")
    parser.add_argument("--trial", metavar="ID", help="of this trial (default: the best one)")
    parser.add_argument(
        "--save",
        type=place,
        metavar="DIR",
        help="write the model there: model.safetensors and model.json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_intermixed_args(argv)  # pictures may follow options
    if not args.images and args.save is None:
        parser.error("IMAGE: missing; give pictures of digits, or --save DIR")
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    pictures = [read_picture(path) for path in args.images]
    with Terminal().status("Loading PyTorch and the model …"):
        model = _model(args.model, args.trial)
    if pictures and model.config.dataset != "mnist":
        raise UserError(
            f"{args.model}: trained on {model.config.dataset}, and pictures are treated as digits; "
            "in Python, study.load_model takes arrays"
        )
    if args.save is not None:
        _save(model, args.save)
    console = Terminal(soft_wrap=True)
    if not args.json:
        console.print(model.title)
        if args.save is not None:
            console.print(f"saved in {args.save}; in Python: study.load_model({str(args.save)!r})")
    for path, picture in zip(args.images, pictures, strict=True):
        probabilities = _probabilities(model, picture.pixels)
        if not all(map(math.isfinite, probabilities)):
            raise UserError(
                f"{args.model}: its output for {path} is not a number, so the model is damaged; "
                "restore it from a copy"
            )
        if args.json:
            console.print(json.dumps(_as_json(path, picture, model, probabilities)))
            continue
        best = probabilities.index(max(probabilities))
        unsure = "" if max(probabilities) > SURE else ", unsure"
        console.print(f"\n{path}: {best} ({max(probabilities):.2%}{unsure}); {picture.treatment}")
        console.print(_table(picture.pixels, probabilities))
    return 0


def _model(folder: Path, trial_id: str | None) -> Classifier:
    """The model in a results folder, or in one that ``--save`` has made."""
    from study.training.export import ABOUT_FILE, load_model

    if not (folder / ABOUT_FILE).exists():
        from study.results.final_model import final_model

        return final_model(folder, trial_id)
    if trial_id is not None:
        raise UserError(f"--trial: {folder} holds one model; leave it out")
    return load_model(folder)


def _save(model: Classifier, into: Path) -> None:
    from study.results.study_file import STUDY_FILE
    from study.training.export import ABOUT_FILE, TENSORS_FILE, save_model

    for name in (ABOUT_FILE, TENSORS_FILE, STUDY_FILE):  # a study would be hidden by a model
        if (into / name).exists():
            raise UserError(f"--save: {into / name} is already there; choose another folder")
    save_model(model, into)


def _probabilities(model: Classifier, pixels: np.ndarray) -> list[float]:
    """Of the ten digits, for an image (28, 28)."""
    import torch

    with torch.inference_mode():
        return model(torch.from_numpy(pixels[None]))[0].double().exp().tolist()


def _as_json(
    path: Path, picture: Picture, model: Classifier, probabilities: list[float]
) -> dict[str, Any]:
    return {
        "image": str(path),
        "digit": probabilities.index(max(probabilities)),
        "probability": max(probabilities),
        "probabilities": probabilities,
        "treatment": picture.treatment,
        "model": model.about["provenance"],
    }


def _table(pixels: np.ndarray, probabilities: list[float]) -> Table:
    """The picture as the network takes it, and its most probable digits."""
    ranked = sorted(enumerate(probabilities), key=lambda pair: -pair[1])[:SHOWN]
    lines = [f"{digit}  {'#' * round(BAR * p):{BAR}}  {p:7.2%}" for digit, p in ranked]
    table = Table.grid(padding=(0, 4))
    table.add_row(drawing(pixels), "\n".join(lines))
    return table


if __name__ == "__main__":
    sys.exit(main())
