from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from study.console.errors import UserError
from study.data.pictures import drawing, read_picture

SEVEN = [(60, 80), (140, 80), (90, 220)]


def seven(size=(200, 300), ink="black", paper="white", mode="RGB", shift=(0, 0)):
    picture = Image.new(mode, size, paper)
    points = [(x + shift[0], y + shift[1]) for x, y in SEVEN]
    ImageDraw.Draw(picture).line(points, fill=ink, width=18, joint="curve")
    return picture


def read(picture, path, **options):
    picture.save(path, **options)
    return read_picture(path)


@pytest.fixture
def png(tmp_path):
    return tmp_path / "seven.png"


def test_a_digit_fills_the_box_and_its_mass_is_at_the_centre(png):
    pixels, treatment = read(seven(), png)
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert height == 20
    assert width == pytest.approx(20 * 98 / 158, abs=1)
    for axis in (0, 1):
        centre = (pixels.sum(axis=1 - axis) * np.arange(28)).sum() / pixels.sum()
        assert centre == pytest.approx(14, abs=0.5)
    assert pixels.max() == 255
    assert pixels[0, 0] == 0
    assert treatment == "200 x 300: inverted, cropped, scaled and centred"


@pytest.mark.parametrize(
    "variant",
    [
        seven(ink="white", paper="black"),
        seven(mode="L"),
        seven(mode="1", ink=0, paper=1),
        seven(ink=(20, 30, 90), paper=(235, 225, 200)),
        seven(size=(260, 400), shift=(50, 80)),
        seven().convert("P"),
        seven(mode="RGBA", ink=(0, 0, 0, 255), paper=(0, 0, 0, 0)),
        Image.fromarray(np.asarray(seven(mode="L"), np.uint16) * 257),
    ],
    ids=["inverted", "grey", "bilevel", "colours", "elsewhere", "palette", "transparent", "16bit"],
)
def test_colour_place_and_format_do_not_matter(variant, png, tmp_path):
    expected = read(seven(), png).pixels.astype(int)
    found = read(variant, tmp_path / "variant.png").pixels
    assert np.abs(found - expected).max() <= 8


def test_size_matters_little(png, tmp_path):
    expected = read(seven(), png).pixels.astype(int)
    for size in ((100, 150), (1000, 1500)):
        found = read(seven().resize(size, Image.Resampling.LANCZOS), tmp_path / "other.png").pixels
        assert np.abs(found - expected).mean() < 3


def test_a_camera_held_sideways_is_turned_back(png, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = seven().transpose(Image.Transpose.ROTATE_90)
    found = read(turned, tmp_path / "photo.jpg", exif=exif, quality=95).pixels
    assert np.abs(found - read(seven(), png).pixels.astype(int)).mean() < 3


def test_mnists_own_form_is_used_as_it_is(png):
    image = np.zeros((28, 28), np.uint8)
    image[3:9, 4:20] = np.arange(16) * 10
    pixels, treatment = read(Image.fromarray(image), png)
    np.testing.assert_array_equal(pixels, image)
    assert "as it is" in treatment


def test_28_pixels_on_bright_paper_are_not(png):
    image = np.zeros((28, 28), np.uint8)
    image[2:6, 2:20] = 200
    pixels, treatment = read(ImageOps.invert(Image.fromarray(image)), png)
    assert "inverted" in treatment
    assert not np.array_equal(pixels, image)


def test_faint_texture_of_the_paper_is_not_ink(png):
    noise = np.random.default_rng(0).normal(0, 6, (300, 200))
    paper = (np.asarray(seven(mode="L"), float) * 0.9 + noise).clip(0, 255).astype(np.uint8)
    pixels = read(Image.fromarray(paper), png).pixels
    assert (pixels[:4] == 0).all()
    assert (pixels[:, :4] == 0).all()


def test_a_line_one_pixel_thin_is_seen(png):
    picture = Image.new("L", (50, 400), 255)
    ImageDraw.Draw(picture).line([(25, 20), (25, 380)], fill=0)
    assert read(picture, png).pixels.max() == 255


def test_the_drawing_shows_the_digit():
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:, 14] = 255
    lines = drawing(pixels).splitlines()
    assert len(lines) == 14
    assert set(lines) == {" " * 14 + "@" + " " * 13}


@pytest.mark.parametrize("name", ["16.png", "16.pgm", "16.tif"])
def test_16_bits_show_the_same_as_8(png, tmp_path, name):
    grey = np.asarray(seven().convert("L")) // 2 + 60
    narrow, _ = read(Image.fromarray(grey), png)
    wide = (grey.astype(np.uint16) * 257).astype(">u2")
    match name:
        case "16.png":
            Image.fromarray(wide.astype(np.uint16)).save(tmp_path / name)
        case "16.pgm":
            header = f"P5\n{grey.shape[1]} {grey.shape[0]}\n65535\n"
            (tmp_path / name).write_bytes(header.encode() + wide.tobytes())
        case "16.tif":
            Image.fromarray(wide.astype(np.int32)).save(tmp_path / name)
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, narrow)


@pytest.mark.filterwarnings("error")
def test_damaged_exif_data_is_no_matter(png, tmp_path):
    whole, _ = read(seven(), png)
    content = png.read_bytes()
    chunk = b"eXIf" + b"II*\0\xff\xff\xff\xff"
    added = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "e.png").write_bytes(content[:33] + added + content[33:])  # after the header
    np.testing.assert_array_equal(read_picture(tmp_path / "e.png").pixels, whole)


def bad(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    match kind:
        case "blank":
            Image.new("L", (50, 50), 200).save(path)
        case "single":
            Image.new("L", (1, 1)).save(path)
        case "transparent":
            Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(path)
        case "text":
            path.write_text("a seven")
        case "empty":
            path.touch()
        case "postscript":
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "cut-off":
            noise = np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)
            Image.fromarray(noise).save(path)
            path.write_bytes(path.read_bytes()[:-900])
        case "huge":
            Image.new("1", (10_000, 9_000)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("blank", "blank, no digit stands out"),
        ("single", "blank"),
        ("transparent", "blank"),
        ("text", "not a picture that can be read; convert it to one of PNG, JPEG"),
        ("empty", "not a picture"),
        ("postscript", "not a picture"),
        ("folder", "not a file"),
        ("pipe", "not a file"),
        ("missing", "no such file"),
        ("cut-off", "damaged or cut off"),
        ("huge", "too large, more than 89,478,485 pixels"),
    ],
)
def test_what_is_no_digit_is_refused_in_one_line(tmp_path, kind, words):
    path = bad(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {words}")
    assert "\n" not in message
