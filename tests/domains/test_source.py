"""What a source promises: patients keep their split, pixels keep their grey levels, jitter keeps the anatomy's side."""

import hashlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.domains import images as module
from synthfair_hf.domains.source import (
    _shown,
    count_patients,
    jitter,
    part_split,
    patient_split,
    read_image,
    read_radiograph,
)
from synthfair_hf.errors import InputError
from synthfair_hf.schema import SPLITS


def gradient(side: int = 32) -> np.ndarray:
    return np.tile(np.linspace(0, 1, side, dtype=np.float32), (side, 1))


def test_a_quarter_of_the_patients_outside_of_test_are_the_judges():
    patients = [f"patient-{index}" for index in range(20_000)]
    own = np.array([patient_split(one) for one in patients])
    for split in SPLITS:
        judges = {one for one in patients if part_split("judge", split, one) == split}
        generator = {one for one in patients if part_split("generator", split, one) == split}
        both = judges & generator
        assert judges | generator == set(patients)
        assert both == (set(patients) if split == "test" else set())
        # the part does not depend on what decides the split
        judging = np.array([one in judges for one in patients])
        shares = [judging[own == other].mean() for other in SPLITS]
        assert split == "test" or np.allclose(shares, 0.25, atol=0.03)


def test_nothing_is_learned_from_who_is_held_out():
    patients = [f"patient-{index}" for index in range(4000)]

    def of(part: str) -> dict[str | None, set[str]]:
        splits: dict[str | None, set[str]] = {}
        for one in patients:
            splits.setdefault(part_split(part, patient_split(one), one), set()).add(one)
        return splits

    held_out, generator, judge = of("held_out"), of("generator"), of("judge")
    # a generator learns from train and is calibrated on validation; no predictor learns from validation
    assert not held_out["test"] & (generator["train"] | generator["validation"] | judge["train"])
    assert held_out["test"] == judge["test"] | judge["validation"]
    assert (held_out["train"], held_out["validation"]) == (generator["train"], generator["validation"])
    assert held_out[None] == judge["train"]


def test_a_patient_has_one_split_and_the_shares_hold():
    splits = [patient_split(f"patient-{index}") for index in range(20_000)]
    assert splits == [patient_split(f"patient-{index}") for index in range(20_000)]
    for split, share in SPLITS.items():
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.012)


@given(st.text())
def test_a_split_is_where_the_digest_lies_among_the_cumulated_shares(patient):
    position = int(hashlib.sha256(patient.encode()).hexdigest()[:16], 16) / 16**16
    ends = np.cumsum(list(SPLITS.values()))
    assert patient_split(patient) == list(SPLITS)[int(np.searchsorted(ends[:-1], position, side="right"))]


@given(
    st.floats(0, 1, width=32),
    st.floats(0, 1 / 64, width=32),
    st.sampled_from([0.0, 0.005, 0.0099, 0.0101, 0.012, 0.02, 0.3, 0.5]),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32 - 1),
)
def test_an_image_is_blank_where_its_quantiles_are_within_a_level(level, spread, share, channels, seed):
    """By the definition: 1 % of pixels at either end are left out, and the rest is of one gray level in 8 bits."""
    rng = np.random.default_rng(seed)
    image = np.full((channels, 32, 32), level, dtype=np.float32)
    image[0] += np.float32(spread) * (rng.random((32, 32)) < share) + 1e-4 * rng.random((32, 32), dtype=np.float32)
    low, high = np.quantile(image.reshape(channels, -1), [0.01, 0.99], axis=-1)
    try:
        _shown(list(image), Path("image.png"))
    except InputError:
        assert np.max(high - low) < 1 / 255
    else:
        assert np.max(high - low) >= 1 / 255


def test_patients_are_counted_once():
    counts = count_patients(["a", "b", "a", "c"], ["train", "test", "train", "train"])
    assert counts == {"images": 4, "patients": 3, "patients by split": {"test": 1, "train": 2}}


def test_eight_bit_pixels_come_back_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    assert np.array_equal(np.rint(read_radiograph(tmp_path / "radiograph.png", 32) * 255), pixels)


def test_an_image_is_its_radiograph_averaged_and_the_radiograph_unmoved(tmp_path):
    """Training and generation see the same picture: jitter by nothing is the identity."""

    class Still:
        def uniform(self, low, high, size=None):
            middle = (low + high) / 2
            return middle if size is None else np.full(size, middle)

    pixels = np.random.default_rng(0).integers(0, 256, (150, 170), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    radiograph, image = (read(tmp_path / "radiograph.png", 32) for read in (read_radiograph, read_image))
    assert radiograph.shape == (64, 64)
    brute = [
        [radiograph[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean() for column in range(32)]
        for row in range(32)
    ]
    assert np.allclose(image, brute, atol=1e-6)
    assert np.allclose(jitter(radiograph, Still()), image, atol=1e-5)


def test_sixteen_bit_pixels_keep_their_levels(tmp_path):
    """Pillow's convert("L") would clip everything above 255 to white."""
    pixels = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    image = read_radiograph(tmp_path / "radiograph.png", 32)
    assert len(np.unique(image)) == 64 * 64
    assert (image.min(), image.max()) == (0, 1)


def test_the_centre_square_is_kept_and_the_mean_survives_shrinking(tmp_path):
    pixels = np.zeros((64, 128), dtype=np.uint8)
    pixels[:, 32:96] = (gradient(64) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "radiograph.png")
    image = read_image(tmp_path / "radiograph.png", 16)
    assert image.shape == (16, 16)
    assert image.mean() == pytest.approx(0.5, abs=0.01)
    assert (np.diff(image.mean(axis=0)) > 0).all()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("truncated.png", lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable image"),
        ("text.png", lambda path: path.write_text("not an image"), "not a readable image"),
        ("float.tif", lambda path: Image.new("F", (64, 64)).save(path), "pixel mode F"),
        ("cmyk.jpg", lambda path: Image.new("CMYK", (64, 64)).save(path), "pixel mode CMYK"),
        (
            "small.png",
            lambda path: Image.new("L", (63, 90)).save(path),
            "resolution 32 needs images of at least 64 pixels",
        ),
        (
            "moving.gif",
            lambda path: Image.new("L", (32, 32)).save(
                path, save_all=True, append_images=[Image.new("L", (32, 32), 9), Image.new("L", (32, 32), 99)]
            ),
            "several frames",
        ),
    ],
)
def test_what_is_not_a_radiograph_is_named(tmp_path, name, make, message):
    path = tmp_path / name
    if name == "truncated.png":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    make(path)
    with pytest.raises(InputError, match=message) as error:
        read_image(path, 32)
    assert name in str(error.value)


def png(width: int, height: int) -> bytes:
    """A file of a hundred bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("side", [9_000, 10_000, 15_000, 2**31 - 1])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_refused_whatever_pillow_thinks_of_it(tmp_path, side, action):
    """Pillow says nothing of the first, warns of the second and refuses the others."""
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(
            InputError, match=r"bomb\.png: (\d+x\d+ pixels exceed 80000000; not decoded|.*exceeds limit)"
        ):
            read_image(tmp_path / "bomb.png", 32)


def grays() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("palette.png", lambda image, path: image.convert("P").save(path)),
        ("alpha.png", lambda image, path: image.convert("LA").save(path)),
        ("colour.png", lambda image, path: image.convert("RGB").save(path)),
        # black is the highest number, as in the MONOCHROME1 of DICOM
        ("inverse.tif", lambda image, path: image.save(path, tiffinfo={262: 0})),
    ],
)
def test_gray_is_gray_however_it_is_stored(tmp_path, name, save):
    save(Image.fromarray(grays()), tmp_path / name)
    assert np.array_equal(np.rint(read_radiograph(tmp_path / name, 32) * 255), grays())


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="exceed 1000; not decoded"):
        read_image(tmp_path / "bomb.png", 32)


@pytest.mark.parametrize("seed", range(5))
def test_jitter_moves_little_never_mirrors_and_keeps_brightness(seed):
    image = gradient(64)
    moved = jitter(image, np.random.default_rng(seed))
    assert moved.shape == (32, 32)
    assert moved.dtype == np.float32
    assert (np.diff(moved.mean(axis=0)) > -1e-6).all(), "brighter to the right before, so after"
    assert abs(moved.mean() - image.mean()) < 0.06
    assert np.array_equal(moved, jitter(image, np.random.default_rng(seed)))
