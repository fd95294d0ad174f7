"""The slice of a volume is the axial one in its middle however its axes are stored, and what has none is named."""

import gzip
import itertools
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from synthfair_hf.domains import nifti
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.nifti import CONTRAST, PERCENTILES, is_nifti, read_nifti
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.source import describe_counts, image_sha256, read_image, totals
from synthfair_hf.errors import InputError
from synthfair_hf.records import file_sha256

MAX_PIXELS = 10_000
LEVELS = np.random.default_rng(0).integers(-40, 3000, (10, 12, 7), dtype=np.int16)
"""Voxels from left to right, from back to front, from feet to head."""


def save(path: Path, voxels: np.ndarray = LEVELS, affine: Any = None, kind: Any = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(voxels, np.eye(4) if affine is None else affine), path)
    return path


def expected(voxels: np.ndarray) -> np.ndarray:
    """The middle slice, pixel by pixel: the patient's front above, the patient's right on the left."""
    low, high = np.percentile(voxels, PERCENTILES)
    across, along, above = voxels.shape
    picture = np.zeros((along, across))
    for row, column in itertools.product(range(along), range(across)):
        level = voxels[across - 1 - column, along - 1 - row, above // 2]
        picture[row, column] = min(1, max(0, (level - low) / (high - low)))
    return picture


MIDDLE = expected(LEVELS)
WHOLE = nibabel.Nifti1Image(LEVELS, np.eye(4)).to_bytes()


def edited(place: int, data: bytes) -> bytes:
    """The file of that volume with other bytes in its header."""
    stored = bytearray(WHOLE)
    stored[place : place + len(data)] = data
    return bytes(stored)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_slice_is_the_middle_one(tmp_path, suffix, kind):
    found = read_nifti(save(tmp_path / f"volume{suffix}", kind=kind), MAX_PIXELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MIDDLE, atol=1e-6)


@pytest.mark.parametrize("signs", [*itertools.product("+-", repeat=3)], ids="".join)
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
def test_it_does_not_matter_how_the_axes_are_stored(tmp_path, order, signs):
    """All 48 ways."""
    codes = [("LR", "PA", "IS")[axis][sign == "+"] for axis, sign in zip(order, signs, strict=True)]
    image = nibabel.Nifti1Image(LEVELS, np.eye(4))
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    assert list(nibabel.aff2axcodes(turned.affine)) == codes
    nibabel.save(turned, tmp_path / "volume.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "volume.nii", MAX_PIXELS), MIDDLE, atol=1e-6)


@given(slope=st.floats(0.0078125, 100, width=32), intercept=st.floats(-1000, 1000, width=32), turned=st.booleans())
def test_slope_and_intercept_change_nothing_but_a_negative_slope_turns_black_into_white(
    tmp_path_factory, slope, intercept, turned
):
    path = tmp_path_factory.getbasetemp() / "scaled.nii"
    path.write_bytes(edited(112, np.array([-slope if turned else slope, intercept], np.float32).tobytes()))
    np.testing.assert_allclose(read_nifti(path, MAX_PIXELS), 1 - MIDDLE if turned else MIDDLE, atol=1e-6)


def test_pixels_become_square_as_fine_as_the_finer_side(tmp_path):
    path = save(tmp_path / "volume.nii", affine=np.diag([1.2, 0.4, 3, 1]))
    assert read_nifti(path, MAX_PIXELS).shape == (12, 30)
    with pytest.raises(InputError, match=r"volume\.nii: 30x12 pixels exceed 300"):
        read_nifti(path, 300)


@pytest.mark.parametrize(
    ("dtype", "exponent"), [("f8", 1011), ("f8", -1050), ("f4", 115), ("f4", -130)], ids=lambda one: str(one)
)
def test_levels_of_any_magnitude_look_alike_and_warn_of_nothing(tmp_path, dtype, exponent):
    voxels = np.ldexp((LEVELS - 1480).astype(dtype), exponent)
    found = read_nifti(save(tmp_path / "volume.nii", voxels), MAX_PIXELS)
    np.testing.assert_allclose(found, MIDDLE, atol=1e-3)


def test_levels_from_end_to_end_of_the_type_span_black_to_white(tmp_path):
    voxels = np.tile(np.array([-1.7e308, 1.7e308]), (8, 4, 4))
    assert set(read_nifti(save(tmp_path / "volume.nii", np.ascontiguousarray(voxels)), MAX_PIXELS).ravel()) <= {0, 1}
    voxels = np.zeros((20, 20, 20))
    voxels[:4] = 1e-60
    voxels[10, 10] = 1
    assert np.isfinite(read_nifti(save(tmp_path / "outlier.nii", voxels), MAX_PIXELS)).all()


def test_an_affine_of_infinite_voxels_is_refused_without_a_warning(tmp_path):
    path = save(tmp_path / "volume.nii", kind=nibabel.Nifti2Image)
    stored, rows = bytearray(path.read_bytes()), np.diag([1e200, 1e200, 1e200, 1])[:3].tobytes()
    stored[400 : 400 + len(rows)] = rows  # the sform of NIfTI-2
    path.write_bytes(stored)
    with pytest.raises(InputError, match="the affine of its header is no orientation"):
        read_nifti(path, MAX_PIXELS)


def test_voxels_that_are_no_number_are_black_and_decide_nothing(tmp_path):
    voxels = LEVELS.astype(np.float32)
    path = save(tmp_path / "volume.nii", voxels)
    plain = read_nifti(path, MAX_PIXELS)
    wider = np.concatenate([voxels, np.full((1, 12, 7), np.nan, np.float32)])
    found = read_nifti(save(tmp_path / "wider.nii", wider), MAX_PIXELS)
    np.testing.assert_allclose(found[:, 1:], plain, atol=1e-6)
    assert not found[:, 0].any()


DAMAGED: dict[str, tuple[Any, str]] = {
    "four dimensions": (nibabel.Nifti1Image(np.stack([LEVELS] * 3, -1), np.eye(4)).to_bytes(), "several volumes"),
    "two dimensions": (nibabel.Nifti1Image(LEVELS[0], np.eye(4)).to_bytes(), r"holds no volume \(12x7\)"),
    "no orientation": (nibabel.Nifti1Image(LEVELS, None).to_bytes(), "has no orientation .* convert it anew"),
    "no volume of the affine": (edited(280, bytes(48)), "the affine of its header is no orientation"),
    "two axes that are one": (edited(296, WHOLE[280:296]), "not a readable NIfTI file"),
    "colours": (
        nibabel.Nifti1Image(np.zeros((4, 4, 4), [(name, "u1") for name in "RGB"]), np.eye(4)).to_bytes(),
        "voxels are of type .*; give real numbers",
    ),
    "another file": (edited(344, b"ni1\0"), "its voxels lie in another file"),
    "a negative length": (edited(42, b"\xff\xff"), "holds no volume"),
    "an offset into the header": (edited(108, np.float32(8).tobytes()), "voxels begin at byte 8, inside the header"),
    "an offset that is no number": (edited(108, np.float32(np.nan).tobytes()), "not a readable NIfTI file"),
    "an unknown type": (edited(70, b"\x99\x99"), "not a readable NIfTI file"),
    "cut off": (WHOLE[:-5], "2027 bytes, and 2032 by its header"),
    "text": (b"hello", "no header of NIfTI"),
    "no numbers": (
        nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)).to_bytes(),
        "no voxel is a number",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_volume_is_one_sentence(tmp_path, case):
    data, told = DAMAGED[case]
    path = tmp_path / "volume.nii.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(InputError, match=f"volume.nii.gz: .*{told}") as error:
        read_nifti(path, MAX_PIXELS)
    assert "\n" not in str(error.value)


def test_no_more_is_unpacked_than_the_header_says_and_no_header_may_say_more(tmp_path, monkeypatch):
    """A gzip file of a few bytes can stand for any number."""
    path = tmp_path / "volume.nii.gz"
    path.write_bytes(gzip.compress(WHOLE + bytes(2**24)))
    unpacked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size: unpacked.append(size) or read(file, size))
    np.testing.assert_allclose(read_nifti(path, MAX_PIXELS), MIDDLE, atol=1e-6)
    assert sum(unpacked) == len(WHOLE)
    monkeypatch.setattr(nifti, "MAX_BYTES", 2000)
    with pytest.raises(InputError, match=r"volume.nii.gz: 2032 bytes by its header exceed 2000; not unpacked"):
        read_nifti(path, MAX_PIXELS)


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    path = save(tmp_path / "volume.nii")
    monkeypatch.setitem(sys.modules, "nibabel.affines", None)
    with pytest.raises(InputError, match=r"nibabel is not installed; .* the extra 'nifti'"):
        read_nifti(path, MAX_PIXELS)


def test_a_folder_of_volumes_is_a_source_that_says_how_they_were_read(tmp_path):
    lines = ["file_name,patient_id,age,sex,diagnosis"]
    for n in range(12):
        voxels = np.random.default_rng(n).integers(0, 900, (40, 32, 5), dtype=np.int16)
        save(tmp_path / f"{n}.nii.gz", voxels)
        lines.append(f"{n}.nii.gz,p{n},{60 + n},{'MF'[n % 2]},{('CN', 'AD')[n // 2 % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    source = ImageFolder(tmp_path, get_preset("brain_mri"), 16)
    assert source.counts["contrast"] == totals(source.counts)["contrast"] == {CONTRAST: 12}
    assert f"  gray levels of NIfTI by {CONTRAST} 12" in describe_counts(source.counts)
    path = tmp_path / "3.nii.gz"
    assert is_nifti(path)
    assert image_sha256(path) == f"{file_sha256(path)} {nifti.READING}"
    assert np.array_equal(source.image(3, 16), read_image(path, 16, own_size=True))
    assert source.image(3, 16).shape == (16, 16)
