"""Images are opened in one place: by decoders that start no program, upright, and with the contrast of their file."""

import ast
import io
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import EpsImagePlugin, Image

import synthfair_hf
from synthfair_hf.align.pixels import read_pixels
from synthfair_hf.domains.images import FORMATS, WHITE_IS_ZERO, full_scale, gray, is_in_colours, open_image
from synthfair_hf.domains.source import read_image, read_radiograph
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.labelled import _pixels

ROOT = Path(synthfair_hf.__file__).parent

TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright image into the one that is stored, by EXIF orientation."""


def picture(width: int = 96, height: int = 80) -> Image.Image:
    """No two of its eight orientations are alike."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray((rows * 120 // height + columns * 60 // width + 40 * (rows < 20)).astype(np.uint8))


def stored(orientation: int, name: str) -> bytes:
    """A file of `picture` on its side, whose metadata says so."""
    exif, image, turn = Image.Exif(), picture(), TURNED[orientation]
    exif[0x0112] = orientation
    file = io.BytesIO()
    image = image if turn is None else image.transpose(turn)
    if name == "16-bit PNG":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    settings = {"JPEG": {"quality": 100}, "TIFF": {"tiffinfo": {0x0112: orientation}}}
    kind = name.removeprefix("16-bit ")
    image.save(file, kind, **({"exif": exif} if kind != "TIFF" else {}), **settings.get(kind, {}))
    return file.getvalue()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "16-bit PNG"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_is_read_upright(tmp_path, orientation, name):
    path = tmp_path / "turned"
    path.write_bytes(stored(orientation, name))
    picture().save(tmp_path / "up.png")
    np.testing.assert_allclose(read_radiograph(path, 32), read_radiograph(tmp_path / "up.png", 32), atol=3 / 255)
    if name != "16-bit PNG":
        assert np.abs(np.asarray(open_image(path)).astype(int) - np.asarray(picture())).max() <= 3
        read = read_pixels(path.read_bytes(), "pair")[0].numpy().astype(int)
        assert np.abs(read - np.asarray(picture())).max() <= 3


@given(arrays(np.uint8, (8, 8), elements=st.integers(0, 255)), st.sampled_from([1, 256, 257]), st.booleans())
@example(np.full((8, 8), 16, dtype=np.uint8), 1, False)  # the first level of 12 bits that were widened
def test_copies_in_eight_and_sixteen_bits_are_alike(pixels, factor, big_endian):
    file = io.BytesIO()
    wide = (pixels.astype(np.uint16) * factor).astype(">u2" if big_endian else "<u2")
    Image.frombytes("I;16B" if big_endian else "I;16", (8, 8), wide.tobytes()).save(file, "TIFF")
    np.testing.assert_allclose(gray(open_image(file.getvalue()), "copy"), pixels / 255, atol=1e-6)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_detector_has_its_own_full_scale_and_no_image_has_its_own(tmp_path, bits):
    """The brightest level of an image is not white, unless it is the file's."""
    ramp = np.linspace(0, 0.9, 64 * 64).reshape(64, 64)
    levels = np.rint(ramp * (2**bits - 1)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "radiograph.png")
    np.testing.assert_allclose(read_radiograph(tmp_path / "radiograph.png", 32), ramp, atol=6e-4)


WIDEN = {
    "shifted": lambda levels, bits: levels << (16 - bits),
    "repeated": lambda levels, bits: (levels << (16 - bits)) | (levels >> max(0, 2 * bits - 16)),
    "rounded": lambda levels, bits: np.rint(levels * 65535 / (2**bits - 1)),
    "cut": lambda levels, bits: levels * 65535 // (2**bits - 1),
}


@given(st.sampled_from([8, 10, 12]), st.floats(0.05, 1), st.sampled_from(list(WIDEN)), st.integers(0, 2**32 - 1))
def test_fewer_bits_are_alike_however_they_were_widened_and_however_dark(bits, top, way, seed):
    levels = np.random.default_rng(seed).integers(0, int(top * 2**bits), (32, 32))
    file = io.BytesIO()
    Image.fromarray(WIDEN[way](levels, bits).astype(np.uint16)).save(file, "PNG")
    np.testing.assert_allclose(gray(open_image(file.getvalue()), "copy"), levels / (2**bits - 1), atol=3e-5)


@pytest.mark.parametrize("bits", [12, 13, 14, 15, 16])
def test_the_brightest_pixel_decides_wherever_it_is(bits):
    """Of more levels than any that was widened has, none but the largest matters: it may be the last that is read."""
    levels = np.random.default_rng(0).integers(0, 2**bits - 2, (512, 512)).astype(np.uint16)
    levels[-1, -1] = 2**bits - 1
    assert full_scale(levels) == {12: 4095, 13: 16383, 14: 16383}.get(bits, 65535)
    levels[-1, -1] = 65535
    assert full_scale(levels) == 65535


def white_is_zero(levels: np.ndarray) -> bytes:
    """A TIFF of 16 bits with PhotometricInterpretation 0."""
    file = io.BytesIO()
    Image.fromarray(levels.astype(np.uint16)).save(file, "TIFF", tiffinfo={262: 1})
    data = file.getvalue()
    entry = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    assert data.count(entry) == 1
    at = data.index(entry) + len(entry)
    return data[:at] + b"\0\0" + data[at + 2 :]


@pytest.mark.parametrize(("full", "factor"), [(65535, 1), (4095, 1), (1023, 1), (255, 257), (255, 256), (4095, 16)])
@pytest.mark.parametrize("turned", [False, True])
def test_white_is_zero_where_a_tiff_says_so(full, factor, turned):
    levels = np.linspace(0, full, 64 * 48).round().astype(np.int64).reshape(64, 48)
    data = white_is_zero(levels * factor)
    if turned:
        image = open_image(data)
        assert image.info["white_is_zero"]
        image = image.transpose(Image.Transpose.ROTATE_90)
        np.testing.assert_allclose(gray(image, "copy"), np.rot90(1 - levels / full), atol=1e-6)
    np.testing.assert_allclose(gray(open_image(data), "copy"), 1 - levels / full, atol=1e-6)


@given(
    st.sampled_from([1, 100, 255, 256, 1000, 1023, 4095, 16383, 65535]), st.floats(0.01, 1), st.integers(0, 2**32 - 1)
)
def test_a_pgm_is_as_bright_as_it_says(largest, top, seed):
    levels = np.random.default_rng(seed).integers(0, max(1, int(top * largest)) + 1, (8, 8))
    pixels = levels.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    image = open_image(b"P5 8 8 %d\n" % largest + pixels)
    np.testing.assert_allclose(gray(image, "copy"), levels / largest, atol=1 / 255 if largest < 256 else 2e-5)


def test_transparency_of_a_palette_is_dropped_without_a_warning(tmp_path):
    image = picture().convert("P")
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    for channels in (1, 3):
        found, opaque = (read_radiograph(tmp_path / name, 16, channels) for name in ("a.png", "opaque.png"))
        np.testing.assert_array_equal(found, opaque)
    is_in_colours(tmp_path / "a.png")


def test_levels_beyond_sixteen_bits_are_refused(tmp_path):
    for level in (-1, 70_000):
        Image.fromarray(np.full((64, 64), level, dtype=np.int32)).save(tmp_path / "radiograph.tif")
        with pytest.raises(InputError, match=rf"radiograph\.tif: levels span {level} to {level}; allowed: 0 to 65535"):
            read_image(tmp_path / "radiograph.tif", 32)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (64, 64), 0),
        Image.new("L", (64, 64), 255),
        Image.new("RGB", (64, 64), (9, 90, 9)),
        Image.new("1", (64, 64), 1),
        Image.fromarray(np.full((64, 64), 700, dtype=np.uint16)),
        Image.fromarray(np.random.default_rng(0).integers(40_000, 40_100, (64, 64), dtype=np.uint16)),
        Image.fromarray((np.arange(4096).reshape(64, 64) == 99).astype(np.uint8) * 255),
    ],
    ids=["black", "white", "colour", "bilevel", "16 bits", "noise below a gray level", "one dead pixel"],
)
def test_a_blank_image_shows_nothing(tmp_path, image):
    image.save(tmp_path / "blank.png")
    with pytest.raises(InputError, match=r"blank\.png: shows nothing"):
        read_image(tmp_path / "blank.png", 32)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n%%Page: 1 1\nshowpage\n%%EOF\n"


@pytest.fixture
def mark(tmp_path, monkeypatch) -> Path:
    """What a Ghostscript of that name leaves behind when it is started."""
    mark, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho started >> {mark}\necho 10\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return mark


def test_no_file_starts_ghostscript_whatever_it_is_called(tmp_path, mark):
    path = tmp_path / "radiograph.png"
    path.write_bytes(EPS)
    with pytest.raises(InputError, match=r"radiograph\.png: not a readable image \(unknown format\)"):
        read_image(path, 16)
    with pytest.raises(InputError, match=r"pair: not a readable image"):
        read_pixels(EPS, "pair")
    rows = datasets.Dataset.from_dict({"image": [{"bytes": EPS, "path": None}]})
    with pytest.raises(InputError, match=r"dataset: image 0: not a readable image"):
        _pixels(rows.cast_column("image", datasets.Image()))
    assert not mark.exists()
    with pytest.raises(OSError, match=r".+"), Image.open(path) as image:
        image.load()
    assert mark.exists(), "Pillow itself starts it, so that the test would notice"


@pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI", "IM", "DDS", "PDF", "EPS", "MSP"])
def test_other_formats_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "radiograph.png"
    image = picture().convert("1" if kind == "MSP" else "RGBA" if kind == "DDS" else "L")
    image.save(path, kind)
    with pytest.raises(InputError, match=r"radiograph\.png: not a readable image"):
        open_image(path)


def test_listed_formats_are_read(tmp_path):
    for kind in FORMATS:
        picture().save(tmp_path / kind, kind)
        assert open_image(tmp_path / kind).size == picture().size


def test_images_are_opened_in_one_module():
    """Nothing else calls Pillow's `open`, or imports the function by itself."""
    found = set()
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image")
        ]
        if calls or ("open" in names and "PIL" in path.read_text(encoding="utf-8")):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == {"domains/images.py"}


@pytest.mark.parametrize("name", ["radiograph.png", "radiograph.dcm"])
def test_what_is_no_file_is_never_waited_for(tmp_path, make_no_file, name):
    make_no_file(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: (is not a file|cannot be read).*; name an image"):
        read_image(tmp_path / name, 32)


@pytest.mark.parametrize("bits", [8, 10, 11, 12, 16])
@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_levels_looked_up_are_levels_divided(bits: int, mode: str):
    """Of every level once, by blocks, to the bit what division of every pixel gives."""
    levels = np.random.default_rng(bits).integers(0, 2**bits, (300, 217))
    image = Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32}[mode]))
    assert image.mode == mode
    plain = (levels / full_scale(levels)).astype(np.float32)
    assert gray(image, "").tobytes() == plain.tobytes()
    image.info[WHITE_IS_ZERO] = True
    assert gray(image, "").tobytes() == (1 - levels / full_scale(levels)).astype(np.float32).tobytes()
    small = Image.fromarray((levels >> max(0, bits - 8)).astype(np.uint8))
    divided = np.asarray(small.convert("RGB").convert("L"), dtype=np.float32) / 255
    assert gray(small, "").tobytes() == divided.tobytes()


@pytest.mark.parametrize("shape", [(97, 97), (61, 130), (64, 40), (33, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_8_bits_become_squares_to_the_bit_as_arrays_of_floats_do(tmp_path: Path, shape, channels: int):
    levels = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    Image.fromarray(levels.squeeze()).save(tmp_path / "image.png")
    found = read_radiograph(tmp_path / "image.png", 16, channels)
    for plane, one in zip(found.reshape(-1, 32, 32), np.moveaxis(levels, -1, 0), strict=True):
        length = min(shape)
        top, left = ((whole - length) // 2 for whole in shape)
        floats = np.float32(one)[top : top + length, left : left + length] / np.float32(255)
        expected = Image.fromarray(floats).resize((32, 32), Image.Resampling.LANCZOS)
        assert np.array_equal(plane, np.asarray(expected).clip(0, 1))
