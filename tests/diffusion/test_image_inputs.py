"""Images of any kind: the generator's own size is taken to the bit, the rest by one policy, and no kind crashes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from synthfair_hf.diffusion.images import finite_rows, prepare_images, separate_images, to_output
from synthfair_hf.domains.source import read_image
from synthfair_hf.errors import InputError

SIDE = 16


def prepared(image, rows=1, channels=1, **settings):
    return prepare_images(separate_images(image, rows), (rows, channels, SIDE, SIDE), **settings)


def levels(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_the_generators_own_size_and_mode_is_taken_to_the_bit():
    floats = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepared(floats, 3), floats)
    gray = levels(SIDE, SIDE)
    expected = torch.from_numpy(gray.astype(np.float32) / 255)[None, None]
    for form in (Image.fromarray(gray), [Image.fromarray(gray)], gray, gray[..., None], gray[None, ..., None],
                 torch.from_numpy(gray), torch.from_numpy(gray)[None], torch.from_numpy(gray)[None, None],
                 expected, expected[0], expected[0, 0], expected.numpy(), (expected[0],)):  # fmt: skip
        assert torch.equal(prepared(form), expected)
        assert torch.equal(prepared(form, channels=3), expected.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96), (97, 40), (32, 32)])
def test_another_size_is_prepared_as_a_file_of_the_command_line_is(height, width, tmp_path):
    for mode, shape in (("L", (height, width)), ("RGB", (height, width, 3))):
        image = Image.fromarray(levels(*shape))
        assert image.mode == mode
        image.save(tmp_path / "film.png")
        expected = torch.from_numpy(read_image(tmp_path / "film.png", SIDE))[None, None]
        assert torch.equal(prepared(image), expected)
        assert torch.equal(prepared(np.asarray(image)), expected)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (64, 48)])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_given_are_those_of_the_file_to_the_bit(bits, size, tmp_path):
    """A radiograph of a detector has the contrast that it has in a source, whichever way it is given."""
    image = Image.fromarray((levels(*size, dtype=np.uint16) >> (16 - bits)).astype(np.uint16))
    image.save(tmp_path / "film.png")
    expected = torch.from_numpy(read_image(tmp_path / "film.png", SIDE, own_size=True))[None, None]
    with Image.open(tmp_path / "film.png") as opened:
        for form in (image, opened, np.array(image), torch.from_numpy(np.array(image))):
            assert torch.equal(prepared(form), expected)


GRAY = ["1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F"]
COLOURED = ["P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]


@pytest.mark.parametrize("mode", [*GRAY, *COLOURED])
@pytest.mark.parametrize("size", [(SIDE, SIDE), (7, 5), (1, 1), (200, 33)])
def test_every_mode_and_size_becomes_the_generators(mode, size):
    for channels in (1, 3):
        image = prepared(Image.new(mode, size), channels=channels)
        assert image.shape == (1, channels, SIDE, SIDE)
        assert (image >= 0).all()
        assert (image <= 1).all()


def test_copies_of_one_image_in_other_modes_are_one_image():
    gray = levels(SIDE, SIDE)
    image, expected = Image.fromarray(gray), prepared(gray)
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    for copy in (image.convert("RGB"), image.convert("RGBA"), image.convert("LA"), deep, image.convert("P")):
        assert torch.allclose(prepared(copy), expected, atol=1e-6)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert torch.equal(prepared(turned), expected), "EXIF orientation 6 is undone"


def test_batches_and_lists_of_anything_are_rows_in_their_order():
    gray = levels(5, 30, 20)
    expected = torch.cat([prepared(one) for one in gray])
    colours = np.repeat(gray[..., None], 3, axis=-1)
    mixed = [Image.fromarray(gray[0]), gray[1], torch.from_numpy(gray[2])[None], colours[3], colours[4]]
    for batch in (
        gray,
        gray[..., None],
        gray[:, None],
        torch.from_numpy(gray),
        list(gray),
        mixed,
        [gray[:2], gray[2:4], gray[4]],
    ):
        assert torch.equal(prepared(batch, 5), expected)
    for three in (gray[:3], torch.from_numpy(gray[:3])):
        assert torch.equal(prepared(three, 3), expected[:3]), "three gray images, as there are three rows"
    assert torch.equal(prepared(torch.from_numpy(colours).permute(0, 3, 1, 2), 5), expected)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (levels(SIDE, SIDE, dtype=np.uint16).astype(np.int64), "int64 is not supported; give uint8, uint16, or floats"),
        (np.full((SIDE, SIDE), 255.0), "values span 255 to 255; expected"),
        (np.full((SIDE, SIDE), -0.5), "values span -0.5 to -0.5; expected"),
        (np.full((SIDE, SIDE), np.nan), "values span nan to nan"),
        (torch.full((SIDE, SIDE), torch.inf), "values span inf to inf"),
        (np.zeros((SIDE, SIDE), complex), "complex128 is not supported"),
        (np.array([[None]]), "object is not supported"),
        (torch.zeros(SIDE, SIDE).to_sparse(), "a tensor that can't be read"),
        (np.zeros((2, 2, 2, 2, 2)), "unexpected shape"),
        (np.zeros(3), "unexpected shape"),
        (np.zeros((0, 4)), "holds no pixels"),
        (Image.new("L", (0, 4)), "holds no pixels"),
        (Image.new("I", (4, 4), -3), "mode I spans -3 to -3; give 16 bits"),
        (Image.new("F", (4, 4), 9.0), "values span 9 to 9"),
        ("film.png", "a str is not supported; give a PIL image"),
        (None, "a NoneType is not supported"),
        ([[0.0]], "a list of lists is not supported"),
        ([], "image: holds no image"),
        ((), "image: holds no image"),
        (np.zeros((SIDE, SIDE, 2), np.uint8), r"unexpected shape \(\d+, \d+, 2\), of 2 channels or of"),
        (np.zeros((SIDE, SIDE, 5), np.uint8), "of 5 channels or of"),
        (torch.zeros(SIDE, SIDE, 8), "of 8 channels or of"),
        ([np.zeros((SIDE, SIDE, 2))], "of 2 channels or of"),
        (np.ma.masked_less(levels(SIDE, SIDE), 9), "some pixels are masked; give all of them"),
        ([np.ma.masked_less(levels(SIDE, SIDE), 9)], "some pixels are masked"),
        (np.zeros((2, 4, 4, 1)), "2 images for 1 rows"),
    ],
)
def test_what_is_no_image_is_one_sentence(image, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        prepared(image)
    assert str(raised.value).startswith("image: ")
    assert "\n" not in str(raised.value)


def test_no_image_in_the_middle_of_a_call_names_the_image(pipeline, covariates):
    for asked in (covariates, {name: column[0] for name, column in covariates.items()}):
        with pytest.raises(InputError, match=r"^image: holds no image"):
            pipeline(image=[], covariates=asked, do={})


def test_two_channels_are_no_batch_of_gray_images(pipeline, covariates):
    one = {name: column[0] for name, column in covariates.items()}
    for asked in (covariates, one):
        with pytest.raises(InputError, match="of 2 channels or of 16 images; give 1, 3 or 4 channels, such as image"):
            pipeline(image=np.zeros((16, 16, 2), np.float32), covariates=asked, do={})
    rgb = np.zeros((3, 16, 16), np.float32)
    assert len(separate_images(rgb, rows=3)) == 3, "one gray image per row"
    assert len(separate_images(np.ma.masked_array(rgb, mask=False))) == 1, "nothing is masked"


def test_a_damaged_file_that_is_read_only_now_is_one_sentence(tmp_path):
    Image.fromarray(levels(64, 64)).save(tmp_path / "film.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "film.png").read_bytes()[:900])
    with Image.open(tmp_path / "half.png") as image, pytest.raises(InputError, match="image: mode L can't be read"):
        prepared(image)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
    arrays.arrays(
        st.sampled_from(["u1", "u2", "i8", "f2", "f4", "f8", "?", "c8", "O", "U3"]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    ),
    st.builds(
        Image.new,
        st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "HSV", "I", "F", "I;16"]),
        st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ),
)


@settings(max_examples=200, deadline=None)
@given(image=st.one_of(ANYTHING, st.lists(ANYTHING, max_size=2)), strict=st.booleans())
def test_any_value_is_an_image_or_one_sentence(image, strict):
    try:
        found = prepared(image, strict=strict)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert found.shape == (1, 1, SIDE, SIDE)
        assert found.dtype == torch.float32
        assert finite_rows(found).all()
    assert "\n" not in refusal


def test_outputs_are_one_image_in_three_forms():
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert to_output(images, "pt") is images
    assert np.array_equal(to_output(images, "np"), images.numpy().transpose(0, 2, 3, 1))
    assert [one.size for one in to_output(images, "pil")] == [(5, 4)] * 2


def test_rows_of_nan_infinity_or_overflow_are_not_finite():
    values = torch.zeros(5, 2, 3)
    values[1, 0, 0], values[2, 1, 2], values[3, 0, 1] = torch.nan, torch.inf, -1e5
    assert finite_rows(values).tolist() == [True, False, False, False, True]
