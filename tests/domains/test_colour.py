"""Images in colours through sources: gray ones stay what they were, and every step treats three channels alike."""

import csv
import hashlib
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from synthfair_hf.domains import images
from synthfair_hf.domains.draft import draft_preset
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.images import colours, from_batch, gray, halve, is_in_colours, luminance, open_image, to_batch
from synthfair_hf.domains.preset_file import preset_yaml
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.source import (
    channels_of,
    count_colours,
    describe_counts,
    jitter,
    read_image,
    read_radiograph,
    totals,
)
from synthfair_hf.errors import InputError

GRAY = get_preset("chest_xray")
COLOUR = GRAY.model_copy(update={"channels": 3})


def picture(side: int = 64, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def folder(root, images: dict[str, Image.Image]):
    root.mkdir(exist_ok=True)
    rows = [["file_name", "patient_id", "age", "sex", "view", "finding", "scanner"]]
    levels = [*GRAY.covariates["finding"].levels]
    for index, (name, image) in enumerate(images.items()):
        image.save(root / name)
        rows.append([name, f"p{index}", "50", ["male", "female"][index % 2], "PA", levels[index % 2], "flatpanel"])
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_gray_images_are_to_the_bit_what_they_were_before_there_were_colours(tmp_path):
    pixels, digest = picture(), hashlib.sha256()
    images = [
        Image.fromarray(pixels[..., 0]),
        Image.fromarray(pixels),
        Image.fromarray(pixels).convert("RGBA"),
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 199 + 7),
    ]
    for image in images:
        image.save(tmp_path / "image.png")
        decoded = read_radiograph(tmp_path / "image.png", 32)
        moved = jitter(decoded, np.random.default_rng(7))
        assert (decoded.shape, moved.shape) == ((64, 64), (32, 32))
        digest.update(decoded.tobytes() + read_image(tmp_path / "image.png", 32).tobytes())
        digest.update(np.rint(moved * 1e4).astype(np.int32).tobytes())
    assert digest.hexdigest()[:16] == "520d86985e3abd99"


@pytest.mark.parametrize("kind", ["L", "LA", "1", "RGB", "P", "I;16"])
def test_three_equal_colours_are_each_the_gray_image(tmp_path, kind):
    level = picture(80)[..., 0]
    image = Image.fromarray(level.astype(np.uint16) * 256 + 3) if kind == "I;16" else Image.fromarray(level)
    (image if kind == "I;16" else image.convert(kind)).save(tmp_path / "image.png")
    for own_size in (False, True):
        plain = read_image(tmp_path / "image.png", 32, own_size)
        assert np.array_equal(read_image(tmp_path / "image.png", 32, own_size, channels=3), np.stack([plain] * 3))
    plain = read_radiograph(tmp_path / "image.png", 32)
    moved = jitter(np.stack([plain] * 3), np.random.default_rng(3))
    assert np.array_equal(moved, np.stack([jitter(plain, np.random.default_rng(3))] * 3))
    np.testing.assert_allclose(luminance(moved), moved[0], atol=1e-6)


@settings(max_examples=12)
@given(st.permutations(range(3)), st.integers(0, 99))
def test_permuted_colours_in_are_permuted_colours_out(order, seed):
    pixels = picture(16, seed)
    mixed = pixels[..., order]
    plain, permuted = (colours(Image.fromarray(one), "image") for one in (pixels, mixed))
    assert np.array_equal(permuted, plain[list(order)])
    for step in (halve, lambda image: jitter(image, np.random.default_rng(seed))):
        assert np.array_equal(step(permuted), step(plain)[list(order)])


def test_a_folder_in_colours_gives_colours_and_counts_what_is_gray(tmp_path):
    drawn = [picture(64, seed) for seed in range(4)]
    images = {f"{index}.png": Image.fromarray(one) for index, one in enumerate(drawn)}
    images |= {"4.png": Image.fromarray(drawn[0][..., 0]), "5.png": Image.fromarray(drawn[1][..., 0]).convert("RGB")}
    root = folder(tmp_path / "images", images)
    source, plain = (open_source(root, preset, 32) for preset in (COLOUR, GRAY))
    assert (channels_of(source), channels_of(plain), channels_of(object())) == (3, 1, 1)
    assert source.fingerprint != plain.fingerprint, "other pixels, another source"
    for index, one in enumerate(drawn):
        exact = np.moveaxis(one / 255, -1, 0).reshape(3, 32, 2, 32, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(source.image(index, 32), exact, atol=1e-6)
        image, covariates = source.draw(index, 32, np.random.default_rng(index))
        assert image.shape == (3, 32, 32)
        assert covariates == {name: source.table[name][index] for name in source.table}
        assert plain.image(index, 32).shape == (32, 32)
        np.testing.assert_allclose(luminance(source.image(index, 32)), plain.image(index, 32), atol=1 / 255)
    assert totals(source.counts)["gray"] == 2
    assert totals(plain.counts)["in colours"] == 4
    assert "  read as three equal colours: 2 gray images" in describe_counts(source.counts)
    told = "\n".join(describe_counts(totals(plain.counts)))
    assert "read as gray: 4 images in colours, by luminance; a preset with channels: 3 keeps them so" in told


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_preset_drafted_from_images_in_colours_has_three_channels(tmp_path, suffix):
    drawn = {f"{index}.{suffix}": Image.fromarray(picture(64, index)) for index in range(4)}
    gray = {name: image.convert("L").convert("RGB") for name, image in drawn.items()}
    for pictures, channels in ((drawn, 3), (gray, 1)):
        root = folder(tmp_path / str(channels), pictures)
        (root / "metadata.csv").write_text(
            "file_name,patient_id,sex,finding\n"
            + "".join(f"{name},p{index},{'mf'[index % 2]},{'ab'[index // 2]}\n" for index, name in enumerate(pictures))
        )
        preset = draft_preset(root / "metadata.csv").preset
        assert preset.channels == channels
        assert ("channels: 3" in preset_yaml(preset)) == (channels == 3)
    (root / f"0.{suffix}").write_bytes((root / f"0.{suffix}").read_bytes()[:200])
    assert count_colours([root / f"{index}.{suffix}" for index in range(4)], 1) == {}, "a damaged one is for its reader"


def test_images_of_one_colour_show_nothing_and_those_of_one_brightness_do(tmp_path):
    Image.new("RGB", (64, 64), (20, 200, 20)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"shows nothing: its pixels are of one colour, 0.0784, 0.784, 0.0784 of 1"):
        read_image(tmp_path / "one.png", 32, channels=3)
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32], halves[:, 32:] = (0, 100, 0), (196, 0, 8)
    Image.fromarray(halves).save(tmp_path / "two.png")
    with pytest.raises(InputError, match="shows nothing: its pixels are of one gray level"):
        read_image(tmp_path / "two.png", 32)
    assert read_image(tmp_path / "two.png", 32, channels=3).shape == (3, 32, 32)


def test_alpha_is_dropped_palettes_are_their_colours_and_inks_are_refused(tmp_path):
    pixels = picture()
    clear = np.dstack([pixels, np.zeros((64, 64), np.uint8)])
    plain = colours(Image.fromarray(pixels), "image")
    assert np.array_equal(colours(Image.fromarray(clear), "image"), plain)
    deep = (pixels.astype(np.uint16) * 256 + 255).astype(">u2").reshape(64, 192)
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    assert np.array_equal(colours(open_image(file), "image"), plain), "of 16 bits the high ones"
    palette = Image.fromarray(pixels).quantize(16)
    assert np.array_equal(colours(palette, "image"), colours(palette.convert("RGB"), "image"))
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "inks.tif")
    for read in (gray, colours):
        with pytest.raises(InputError, match="inks: pixel mode CMYK is not supported; allowed: 8-bit gray or RGB"):
            read(open_image(tmp_path / "inks.tif"), "inks")


@settings(max_examples=12)
@given(st.integers(1, 4), st.sampled_from([(5, 5), (3, 5, 5), (3, 3)]))
def test_batches_are_taken_apart_as_they_were_put_together(rows, shape):
    images = list(np.random.default_rng(0).random((rows, *shape), dtype=np.float32))
    batch = to_batch(images)
    assert batch.shape == (rows, 1 if len(shape) == 2 else 3, *shape[-2:])
    assert np.array_equal(from_batch(batch), np.stack(images))


@pytest.mark.parametrize("name", ["phantom", "morphomnist"])
def test_what_has_no_colours_is_refused_where_the_preset_has(tmp_path, name):
    preset = get_preset(name).model_copy(update={"channels": 3})
    with pytest.raises(InputError, match=f"dataset_name: {name} has gray images, and the preset {name} channels: 3"):
        open_source(None if name == "phantom" else tmp_path, preset, 32, dataset_name=name)


def test_scanners_are_planted_on_gray_radiographs_alone(tmp_path):
    root = folder(tmp_path / "images", {f"{index}.png": Image.fromarray(picture(64, index)) for index in range(2)})
    table = (root / "metadata.csv").read_text()
    (root / "metadata.csv").write_text(table.replace(",scanner", "").replace(",flatpanel", ""))
    with pytest.raises(
        InputError, match=r"no column 'scanner' in metadata.csv; scanners are planted on gray radiographs"
    ):
        open_source(root, COLOUR, 32)
    assert isinstance(ImageFolder(root, COLOUR, 32), ImageFolder), "nothing is planted on images that are only read"


def test_a_decompression_bomb_is_not_decoded_to_see_its_colours(tmp_path, monkeypatch):
    """Whoever drafts a preset looks at images before anybody reads them."""
    Image.fromarray(picture(64, 0)).save(tmp_path / "bomb.png")
    assert is_in_colours(tmp_path / "bomb.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 64 - 1)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert not is_in_colours(tmp_path / "bomb.png")
