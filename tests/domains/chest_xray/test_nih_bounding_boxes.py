"""Boxes are read whole or refused with their line, and scale to any resolution as area says."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.findings import CHEST_XRAY_FINDINGS
from synthfair_hf.domains.chest_xray.nih_bounding_boxes import (
    SIDE,
    Box,
    box_mask,
    finding_masks,
    level_in,
    lung_field,
    read_boxes,
)
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.errors import InputError

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
LENGTHS = st.floats(1e-3, SIDE, allow_subnormal=False)


def write(path, rows, header=HEADER, gzipped=True):
    with gzip.open(path, "wt") if gzipped else path.open("w") as file:
        file.write(header + "".join(f"{row}\n" for row in rows))
    return path


@st.composite
def boxes(draw):
    width, height = draw(LENGTHS), draw(LENGTHS)
    return Box("Mass", draw(st.floats(0, SIDE - width)), draw(st.floats(0, SIDE - height)), width, height)


def test_boxes_are_gathered_by_image_in_the_order_of_the_file(tmp_path):
    rows = ["a.png,Pneumonia,1.5,2,3,4", "b.png,Mass,0,0,1024,1024", "a.png,Effusion,10,20,30.25,40,,,"]
    found = read_boxes(write(tmp_path / "boxes.csv.gz", rows))
    assert found == {
        "a.png": [Box("Pneumonia", 1.5, 2, 3, 4), Box("Effusion", 10, 20, 30.25, 40)],
        "b.png": [Box("Mass", 0, 0, 1024, 1024)],
    }


@given(st.lists(boxes(), max_size=3), st.sampled_from([1, 7, 16, 64]))
def test_a_pixel_is_inside_where_it_shares_area_with_a_box(drawn, resolution):
    pixel, expected = SIDE / resolution, np.zeros((resolution, resolution), bool)
    for row in range(resolution):
        for column in range(resolution):
            expected[row, column] = any(
                min((column + 1) * pixel, box.x + box.width) > max(column * pixel, box.x)
                and min((row + 1) * pixel, box.y + box.height) > max(row * pixel, box.y)
                for box in drawn
            )
    found = box_mask(drawn, resolution)
    assert found.dtype == bool
    # the borders of a box may fall on the other side of a pixel's by rounding
    differing = np.argwhere(found != expected)
    for row, column in differing:
        gaps = [
            abs(edge - place * pixel)
            for box in drawn
            for edge, places in (
                (box.x, (column, column + 1)),
                (box.x + box.width, (column, column + 1)),
                (box.y, (row, row + 1)),
                (box.y + box.height, (row, row + 1)),
            )
            for place in places
        ]
        assert min(gaps) < 1e-6
    assert found.any() == bool(drawn)


def test_a_box_of_whole_pixels_is_those_pixels():
    mask = box_mask([Box("Mass", 32, 64, 48, 16)], 64)
    assert np.argwhere(mask).tolist() == [[4, 2], [4, 3], [4, 4]]
    assert box_mask([Box("Mass", 0, 0, SIDE, SIDE)], 64).all()
    assert not box_mask([], 64).any()
    with pytest.raises(InputError, match="resolution: 0 is out of range"):
        box_mask([], 0)


def test_a_folder_finds_the_boxes_of_its_images_whatever_their_suffix(tmp_path, folder):
    left, right = "002.png,Mass,0,0,512,1024", "005.jpg,Effusion,512,0,512,1024"
    boxes = read_boxes(write(tmp_path / "boxes.csv", [left, right, "999.png,Mass,0,0,9,9"], gzipped=False))
    source = ImageFolder(folder, CHEST_XRAY, 32)
    masks = finding_masks(source.file_names, boxes, 32)
    assert masks.shape == (len(source), 32, 32)
    assert np.flatnonzero(masks.any(axis=(1, 2))).tolist() == [2, 5]
    assert masks[2, :, :16].all()
    assert not masks[2, :, 16:].any()
    np.testing.assert_array_equal(masks[5], ~masks[2])
    with pytest.raises(InputError, match="file_names: none of the 2 images has a box"):
        finding_masks(["a.png", "b.png"], boxes, 32)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,Mass,1,2,3,", r"\['1', '2', '3', ''\] is not a box"),
        ("a.png,Mass,1,2,3,wide", "is not a box"),
        ("a.png,Mass,1,2,0,4", "is empty or leaves the 1024 x 1024 image"),
        ("a.png,Mass,1,2,-3,4", "is empty or leaves"),
        ("a.png,Mass,-1,2,3,4", "is empty or leaves"),
        ("a.png,Mass,1,1000,3,25", "is empty or leaves"),
        ("a.png,Mass,1,2,nan,4", "is empty or leaves"),
        ("a.png,Mass,1,2,inf,4", "is empty or leaves"),
        ("a.png,Mass,1,2,3", "5 cells, but the header has 6"),
        ("a.png,Mass,1,2,3,4,5,,", "9 cells, but the header has 6"),
        ("a.png,Mass,1,2,3,4,", "7 cells, but the header has 6"),
    ],
)
def test_a_malformed_row_is_refused_with_its_line(tmp_path, row, reason):
    path = write(tmp_path / "boxes.csv.gz", ["b.png,Mass,1,2,3,4", row])
    with pytest.raises(InputError, match=rf"boxes\.csv\.gz:3: .*{reason}"):
        read_boxes(path)


def test_another_file_is_refused(tmp_path):
    path = write(tmp_path / "labels.csv.gz", ["a.png,Mass"], "Image Index,Finding Labels\n")
    with pytest.raises(InputError, match="no column 'Finding Label'; this is not the box file"):
        read_boxes(path)
    with pytest.raises(InputError, match="no such file"):
        read_boxes(tmp_path / "absent.csv.gz")
    for header, reason in (("a,,b,,", "no column 'Image Index'"), ("a,a,,", "column 'a' appears twice")):
        with pytest.raises(InputError, match=reason):
            read_boxes(write(path, ["1,2,3"], f"{header}\n"))


def test_a_box_shows_the_level_that_a_preset_calls_so():
    effusion, infiltration = (CHEST_XRAY_FINDINGS.covariates[name] for name in ("effusion", "infiltration"))
    assert level_in(Box("Effusion", 0, 0, 1, 1), effusion) == "present"
    assert level_in(Box("Infiltrate", 0, 0, 1, 1), infiltration) == "present", "as the file spells it"
    assert level_in(Box("Mass", 0, 0, 1, 1), effusion) is None
    assert level_in(Box("Pneumonia", 0, 0, 1, 1), CHEST_XRAY.covariates["finding"]) == "pneumonia"
    assert level_in(Box("No Finding", 0, 0, 1, 1), CHEST_XRAY.covariates["finding"]) is None


def test_the_lung_field_is_what_enough_boxes_cover_and_symmetric():
    common, rare = Box("Mass", 128, 256, 256, 256), Box("Mass", 0, 0, 64, 64)
    field = lung_field({"a.png": [common] * 30, "b.png": [rare]}, 16)
    expected = np.zeros((16, 16), bool)
    expected[4:8, 2:6] = expected[4:8, 10:14] = True
    assert (field == expected).all()
