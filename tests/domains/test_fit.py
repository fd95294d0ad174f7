"""How an image becomes square: its ends are cut, or all of it is kept with black beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.images import centre_square, padded
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.source import describe_counts, read_image, read_radiograph, totals
from synthfair_hf.errors import InputError


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([(), (3,)]))
def test_a_padded_image_is_whole_in_the_middle_of_black(height, width, channels):
    pixels = np.random.default_rng(0).uniform(0.1, 1, (*channels, height, width))
    found = padded(pixels)
    side = max(height, width)
    assert found.shape == (*channels, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    assert np.array_equal(found[..., top : top + height, left : left + width], pixels)
    assert found.sum() == pytest.approx(pixels.sum())


def test_padding_keeps_the_aspect_and_the_ends_that_cropping_cuts(tmp_path):
    pixels = np.zeros((60, 120), np.uint8)
    pixels[10:50, :20] = 250
    pixels[10:50, 50:70] = 120
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    cropped, whole = (read_radiograph(tmp_path / "radiograph.png", 30, fit=fit) for fit in ("crop", "pad"))
    assert cropped.shape == whole.shape == (60, 60)
    assert cropped.max() < 0.6, "the bright end is cut off"
    assert np.allclose(whole, centre_square(padded(pixels.astype(np.float32) / 255), 60))
    # 20 of 120 columns and 40 of 120 rows are 10 of 60 and 20 of 60
    bright = whole > 0.7
    assert (bright.any(axis=0).sum(), bright.any(axis=1).sum()) == (10, 20)
    assert not whole[:15].any()
    assert not whole[-15:].any()
    with pytest.raises(InputError, match="120x60 is too small; resolution 60"):
        read_radiograph(tmp_path / "radiograph.png", 60)
    assert read_image(tmp_path / "radiograph.png", 60, fit="pad").shape == (60, 60)


def test_a_source_says_that_it_pads_and_is_another_source_then(folder):
    """The default is what it always was, so that no source becomes another one."""
    preset = get_preset("chest_xray")
    plain, cropped, whole = (
        ImageFolder(folder, preset, 16),
        open_source(DataSetFolder(directory=folder, fit="crop"), preset, 16),
        open_source(DataSetFolder(directory=folder, fit="pad"), preset, 16),
    )
    assert "fit" not in plain.counts
    assert len({plain.fingerprint, ImageFolder(folder, preset, 16, fit="pad").fingerprint}) == 2
    assert cropped.fingerprint != whole.fingerprint
    counts = ImageFolder(folder, preset, 16, fit="pad").counts
    assert counts["fit"] == totals(counts)["fit"] == "pad"
    assert "  padded to squares: all images" in describe_counts(counts)


def test_images_and_draws_are_padded_alike(folder):
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (64, 100), np.uint8)).save(folder / "images" / "000.png")
    source = ImageFolder(folder, get_preset("chest_xray"), 16, fit="pad")
    image, (drawn, _) = source.image(0, 16), source.draw(0, 16, np.random.default_rng(0))
    assert np.array_equal(image, read_image(folder / "images" / "000.png", 16, fit="pad"))
    assert image[0].max() == 0, "the rows above are black"
    assert drawn[8].mean() > 3 * drawn[0].mean()


def test_digits_are_square_already(tmp_path):
    with pytest.raises(InputError, match="fit: pad is not for morphomnist, whose images are square"):
        open_source(DataSetFolder(directory=tmp_path, fit="pad"), get_preset("morphomnist"), 32)


def test_a_narrow_image_is_not_padded_beyond_what_is_decoded(tmp_path):
    # a square of it would have 13 GiB
    Image.new("L", (64, 60_000)).save(tmp_path / "narrow.png")
    with pytest.raises(InputError, match=r"narrow\.png: padded to 60000x60000 pixels exceeds 80000000; crop it"):
        read_radiograph(tmp_path / "narrow.png", 16, fit="pad")
