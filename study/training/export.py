"""A trained network as two files that need no results folder: model.safetensors and model.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from study.config.trial import TrialConfig
from study.console.errors import StorageError, UserError, cannot_be_read, require_positive
from study.console.text import one_line, shown
from study.files import make_folder, open_plain, replacing, write_json
from study.training.device import normalised
from study.training.models import IMAGE_SHAPE, build_model

TENSORS_FILE, ABOUT_FILE = "model.safetensors", "model.json"
FORMAT_VERSION = 1  # of model.json
AGAIN = "export the model again with: python -m study.predict results/NAME --save DIR"


class Classifier(nn.Module):
    """A trained network with its normalisation, in eval mode and float32.

    It computes without the kernels that train on a CPU, so that it can be moved to any device,
    differentiated and compiled.

    Args:
        about: What ``model.json`` holds.
        tensors: The network's parameters and buffers by name.

    Attributes:
        about: As given.
        config: What was trained.
        title: Which trial's model it is, and its score, for people.

    Raises:
        KeyError: Something is missing in `about`.
        TypeError: Something in it is of another kind.
        UserError: A value in it is impossible.
        ValueError: It is of another format, or `tensors` do not fit its network.
    """

    def __init__(self, about: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        if about["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"its format is {shown(about['format_version'])}, not {FORMAT_VERSION}"
            )
        self.about = about
        self.config = config = TrialConfig(**about["config"])
        self.mean, self.std = (about["normalisation"][name] for name in ("mean", "std"))
        require_positive("mean", self.mean, or_zero=True)
        require_positive("std", self.std)
        self.title = _title(about["provenance"], about["scores"])
        with torch.device("meta"):  # no memory before the shapes are known to fit
            network = build_model(
                config.model,
                config.width_mult,
                dropout=config.dropout,
                dropout_rate=config.dropout_rate,
                batch_norm=config.batch_norm,
            )
        expected = network.state_dict()
        for name in {**expected, **tensors}:
            wanted, found = _kind(expected.get(name)), _kind(tensors.get(name))
            if wanted != found:
                raise ValueError(f"tensor {shown(name)} is {found}; the network has {wanted}")
        network.load_state_dict(dict(tensors), assign=True)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- torch's stub lacks this overload
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Natural log-probabilities of the classes, float32 (n, 10).

        Args:
            images: Pixels from 0 (background) to 255, (n, 28, 28), whole numbers or floats.
        """
        if images.shape[1:] != IMAGE_SHAPE[1:]:
            raise ValueError(f"images of shape {tuple(images.shape)}, not (n, 28, 28)")
        return self.network(normalised(images, self.mean, self.std)).log_softmax(1)


def save_model(model: Classifier, into: Path) -> None:
    """Write a model's two files into a folder; a model that is there is replaced.

    The description goes last and names the digest of the other file: what a killed process left
    is never taken for a model.

    Args:
        model: The model.
        into: The folder; made if it is missing.

    Raises:
        UserError: The folder cannot be written.
    """
    tensors = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    content = safetensors.save(tensors)
    about = {**model.about, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        make_folder(into)
        with replacing(into / TENSORS_FILE) as file:
            file.write(content)
        write_json(into / ABOUT_FILE, about)
    except OSError as error:
        raise StorageError(
            f"{into}: cannot be written ({error.strerror}); choose another folder"
        ) from None


def load_model(path: str | Path) -> Classifier:
    """The model in a folder with ``model.safetensors`` and ``model.json``, on the CPU.

    ``load_model(folder)(images)`` takes pixels from 0 to 255, uint8 or float, shape (n, 28, 28),
    and returns natural log-probabilities, (n, 10).

    Raises:
        UserError: There is none, or it is damaged.
    """
    folder = Path(path)
    description, content = _read(folder / ABOUT_FILE), _read(folder / TENSORS_FILE)
    try:
        about = json.loads(description)
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            raise ValueError(f"{TENSORS_FILE} is not the file that {ABOUT_FILE} describes")
        return Classifier(about, safetensors.load(content))
    except Exception as error:  # damage gives errors of any kind
        reason = f"{ABOUT_FILE} lacks {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"{folder}: not a whole model ({reason}); {AGAIN}") from None


def _title(provenance: dict[str, Any], scores: dict[str, Any]) -> str:
    return one_line(
        f"{provenance['trial_id']} of {provenance['study']}: {scores['accuracy']:.2%} of "
        f"{scores['images']:,} {scores['evaluated']} images"
        + (", which also chose it: expect a little less" if scores["chose_it"] else "")
    )


def _read(file: Path) -> bytes:
    try:
        with open_plain(file) as opened:
            return opened.read()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{file}: missing; {AGAIN}") from None
    except OSError as error:
        raise cannot_be_read(file, error) from None


def _kind(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
