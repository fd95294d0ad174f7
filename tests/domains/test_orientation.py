"""Radiographs that say that they lie otherwise than they are looked at are turned, and those from the side left out."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from miniatures import draw_dicom

from synthfair_hf.domains.dicom import READING, read_dicom, read_header
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.orientation import directions, is_frontal, is_lateral, upright
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.source import describe_counts, image_sha256
from synthfair_hf.errors import InputError
from synthfair_hf.records import file_sha256

AXES = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""DICOM's patient: x to the left, y to the back, z to the head."""

FRONTAL = [*itertools.product("LR", "HF"), *itertools.product("HF", "LR")]


@pytest.mark.parametrize("letters", [*itertools.product(AXES, repeat=2)], ids="".join)
def test_letters_and_cosines_say_the_same(letters):
    rows, columns = letters
    oblique = [*(np.array(AXES[rows]) + 0.1), *(np.array(AXES[columns]) - 0.1)]
    assert directions([f"{rows}P" if rows != "P" else rows, columns], ()) == letters == directions((), oblique)
    assert is_frontal(letters) == (letters in FRONTAL)
    assert is_lateral(letters) == (letters in [*itertools.product("AP", "HF"), *itertools.product("HF", "AP")])


def test_what_is_not_told_is_none():
    for words, cosines in (((), ()), (["L"], ()), (["X", "F"], ()), ((), [1, 0, 0]), ((), [np.nan] * 6)):
        assert directions(words, cosines) is None
    pixels = np.zeros((2, 3))
    assert upright(pixels, None) is pixels
    assert upright(pixels, ("P", "F")) is pixels


@pytest.mark.parametrize("letters", FRONTAL, ids="".join)
def test_a_frontal_image_is_turned_until_its_rows_run_to_the_left_and_its_columns_to_the_feet(letters):
    """A patient with a mark at each place, photographed by where rows and columns run, place by place."""
    patient = np.arange(12.0).reshape(3, 4)
    height, width = patient.shape
    stored = np.zeros((width, height) if letters[0] in "HF" else (height, width))
    for row, column in itertools.product(*map(range, stored.shape)):
        place = dict(zip(letters, (column, row), strict=True))
        left = place["L"] if "L" in place else width - 1 - place["R"]
        feet = place["F"] if "F" in place else height - 1 - place["H"]
        stored[row, column] = patient[feet, left]
    assert np.array_equal(upright(stored, letters), patient)


def test_a_file_is_read_upright_and_only_a_turned_one_is_another_image(tmp_path):
    found = {}
    for name, elements in {
        "plain": {},
        "upright": {"PatientOrientation": ["L", "F"]},
        "mirrored": {"PatientOrientation": ["R", "F"]},
        "upside down": {"ImageOrientationPatient": [-1, 0, 0, 0, 0, 1]},
        "slice": {"PatientOrientation": ["L", "P"]},
    }.items():
        path = tmp_path / f"{name}.dcm"
        draw_dicom(path, 0, **elements)
        turned = name in ("mirrored", "upside down")
        header = read_header(path)
        assert header.placement == ("turned" if turned else "as stored")
        assert image_sha256(path, header) == f"{file_sha256(path)} {READING}" + " turned" * turned
        found[name] = read_dicom(path, 10_000)
    plain = found["plain"]
    assert np.array_equal(found["mirrored"], plain[:, ::-1])
    assert np.array_equal(found["upside down"], plain[::-1, ::-1])
    assert np.array_equal(found["upright"], plain)
    assert np.array_equal(found["slice"], plain)


LATERAL = ({"ViewPosition": "LL"}, {"ViewPosition": "LATERAL"}, {"PatientOrientation": ["P", "F"]})


@pytest.fixture
def radiographs(folder: Path) -> Path:
    """The first four images are DICOM: three from the side, one mirrored."""
    metadata = folder / "metadata.csv"
    text = metadata.read_text()
    for n, elements in enumerate((*LATERAL, {"PatientOrientation": ["R", "F"], "ViewPosition": "PA"})):
        draw_dicom(folder / "images" / f"{n:03}.dcm", n, **elements)
        text = text.replace(f"{n:03}.png", f"{n:03}.dcm")
    metadata.write_text(text)
    return folder


def test_lateral_views_are_left_out_and_turned_ones_counted(radiographs):
    source = ImageFolder(radiographs, get_preset("chest_xray"), 16)
    assert source.counts["left out"] == {"lateral view": 3}
    assert source.counts["turned upright"] == 1
    assert not source.counts["quarantined"]
    assert source.file_names[0] == "images/003.dcm"
    told = describe_counts(source.counts)
    assert "  left out: 3 images (lateral view)" in told
    assert "  turned upright: 1 images" in told


def test_a_schema_without_views_keeps_every_plane(radiographs):
    preset = get_preset("chest_xray")
    without = preset.model_copy(update={"covariates": preset.covariates.subset(("age", "sex", "finding")), "edges": ()})
    assert "left out" not in ImageFolder(radiographs, without, 16).counts


def test_a_folder_of_lateral_views_is_refused(folder):
    metadata = folder / "metadata.csv"
    for path in (folder / "images").iterdir():
        draw_dicom(path.with_suffix(".dcm"), int(path.stem), ViewPosition="RL")
    metadata.write_text(metadata.read_text().replace(".png", ".dcm"))
    with pytest.raises(InputError, match=r"no image can be used \(first: images/000.dcm: lateral view"):
        ImageFolder(folder, get_preset("chest_xray"), 16)
