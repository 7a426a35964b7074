"""Any picture of a digit, brought to the form of MNIST's images.

MNIST's digits were scaled to fit a box of 20 x 20 pixels with their aspect ratio kept, and placed
in 28 x 28 pixels with their centre of mass at the centre, white on black: LeCun, Bottou, Bengio
and Haffner (1998), Gradient-based learning applied to document recognition, Proceedings of the
IEEE 86(11), section III-A; yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from study.console.errors import UserError, cannot_be_read
from study.console.text import one_line

SIDE, BOX = 28, 20  # pixels
# Others are not opened: Pillow hands some of them to other programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
LEAST_CONTRAST = 16  # of 255; less is paper
NOISE = 0.2  # of the strongest ink; less is paper, too
SHADES = " .:-=+*#%@"


class Picture(NamedTuple):
    """A picture as a network takes it.

    Attributes:
        pixels: uint8, shape (28, 28), the digit bright on 0.
        treatment: What was done to the picture, in words.
    """

    pixels: np.ndarray
    treatment: str


def read_picture(path: Path) -> Picture:
    """The picture in a file.

    Raises:
        UserError: It is no picture, is damaged, too large or blank.
    """
    grey = _read_grey(path)
    height, width = grey.shape
    edge = max(1, min(height, width) // 20)
    inner = np.zeros(grey.shape, bool)
    inner[edge:-edge, edge:-edge] = True
    background = float(np.median(grey[~inner]))
    darker, brighter = background - float(grey.min()), float(grey.max()) - background
    if max(darker, brighter) < LEAST_CONTRAST:
        raise UserError(f"{path}: blank, no digit stands out; use a picture with more contrast")
    is_dark_on_bright = darker > brighter
    if grey.shape == (SIDE, SIDE) and not is_dark_on_bright:
        return Picture(grey.round().astype(np.uint8), "28 x 28 on a dark background, used as it is")
    ink = (background - grey if is_dark_on_bright else grey - background).clip(0)
    ink /= ink.max()
    ink[ink < NOISE] = 0
    made = "inverted, " if is_dark_on_bright else ""
    return Picture(_centred(ink), f"{width} x {height}: {made}cropped, scaled and centred")


def drawing(pixels: np.ndarray) -> str:
    """The (28, 28) image in 14 lines of text; a character is about twice as high as wide."""
    pairs = pixels.reshape(SIDE // 2, 2, SIDE).mean(axis=1)
    shades = (pairs * (len(SHADES) - 1) / 255).round().astype(int)
    return "\n".join("".join(SHADES[shade] for shade in row) for row in shades)


def _read_grey(path: Path) -> np.ndarray:
    """The picture's brightness, float32 (height, width), 0 to 255."""
    if not path.exists():
        raise UserError(f"{path}: no such file; give pictures of digits")
    if not path.is_file():
        raise UserError(f"{path}: not a file; give pictures of digits")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of damaged EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                return _grey(ImageOps.exif_transpose(opened))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        most = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise UserError(f"{path}: too large, more than {most} pixels; give a smaller one") from None
    except Image.UnidentifiedImageError:
        raise UserError(
            f"{path}: not a picture that can be read; convert it to one of {', '.join(FORMATS)}"
        ) from None
    except Exception as error:  # damage gives errors of any kind
        if isinstance(error, OSError) and error.errno is not None:  # damage has none
            raise cannot_be_read(path, error) from None
        raise UserError(
            f"{path}: damaged or cut off ({one_line(error, 100)}); save the picture again"
        ) from None


def _grey(picture: Image.Image) -> np.ndarray:
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    if picture.mode == "I" or picture.mode.startswith("I;16"):  # 16 bits in either
        return (np.asarray(picture, np.float32) / 257).clip(0, 255)
    return np.asarray(picture.convert("L"), np.float32)


def _centred(ink: np.ndarray) -> np.ndarray:
    """Scale and place ink, (height, width) from 0 to 1, as MNIST's digits are; uint8 (28, 28)."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(BOX * n / max(cropped.shape))) for n in cropped.shape)
    resized = Image.fromarray(cropped).resize((width, height), Image.Resampling.BILINEAR)
    small = np.asarray(resized)
    small = small / small.max()
    across, down = small.sum(axis=0), small.sum(axis=1)
    pixels = np.zeros((SIDE, SIDE))
    top, left = _offset(down), _offset(across)
    pixels[top : top + height, left : left + width] = small
    return (pixels * 255).round().astype(np.uint8)


def _offset(mass: np.ndarray) -> int:
    """Where the first of some rows goes so that their centre of mass, (n,), is at the centre.

    That is row 14, counted from 0: its mean is 14.00 over MNIST's first 3,000 training images.
    """
    centre = float(mass @ np.arange(len(mass)) / mass.sum())
    return int(np.clip(round(SIDE / 2 - centre), 0, SIDE - len(mass)))
