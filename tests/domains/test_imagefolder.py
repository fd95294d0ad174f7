"""A folder is read whole or refused with file:line; what is missing or unreadable is counted."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.domains import cells, imagefolder
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.source import describe_counts, jitter, patient_split, read_radiograph, totals
from synthfair_hf.errors import InputError
from synthfair_hf.views.preset import load_preset

PRESET = get_preset("chest_xray")


def test_rows_become_columns_and_patients_keep_one_split(folder):
    source = ImageFolder(folder, PRESET, 32)
    assert len(source) == 60
    assert source.covariates.names == ("age", "sex", "finding", "view")
    assert source.table["sex"][:4] == ["male", "male", "female", "female"]
    assert source.table["finding"][0] == "pneumonia"
    assert source.splits == [patient_split(patient) for patient in source.patient_ids]
    assert source.image(3, 32).shape == (32, 32)
    assert source.counts["patients"] == 30
    assert sum(source.counts["patients by split"].values()) == 30


def test_parts_of_the_patients_meet_in_the_test_split_alone(folder):
    whole = ImageFolder(folder, PRESET, 32)
    parts = {name: ImageFolder(folder, PRESET, 32, patients=name) for name in ("generator", "judge")}
    tests = {one for one, split in zip(whole.patient_ids, whole.splits, strict=True) if split == "test"}
    generator, judge = (set(part.patient_ids) for part in parts.values())
    assert generator & judge == tests
    assert generator | judge == set(whole.patient_ids)
    assert generator - tests
    assert judge - tests
    assert len({whole.fingerprint, *(part.fingerprint for part in parts.values())}) == 3
    for name, part in parts.items():
        assert part.counts["part"] == name
        assert any(name in line for line in describe_counts(part.counts))
        rows = [whole.file_names.index(one) for one in part.file_names]
        assert part.table == {key: [column[row] for row in rows] for key, column in whole.table.items()}
        assert np.array_equal(part.image(0, 32), whole.image(rows[0], 32))
    assert "part" not in whole.counts


def test_unreadable_cells_are_missing_and_counted(edit):
    folder = edit(lambda text: text.replace("p3,23,F", "p3,414,X").replace("p4,24", "p4,n/a").replace("p5,25", "p5,"))
    source = ImageFolder(folder, PRESET, 32)
    assert source.table["age"][6:12] == [None] * 6
    assert source.table["sex"][6:8] == [None, None]
    assert source.counts["missing"] == {
        "age": {"outside 0-100 years": 2, "unknown": 2, "empty": 2},
        "sex": {"level 'X' outside the schema": 2},
    }


def test_unreadable_images_are_quarantined_up_to_a_share(folder):
    (folder / "images" / "007.png").write_bytes(b"broken")
    Image.new("L", (8, 8)).save(folder / "images" / "009.png")
    source = ImageFolder(folder, PRESET, 32)
    assert len(source) == 58
    assert source.file_names == [f"images/{row:03}.png" for row in range(60) if row not in (7, 9)]
    assert source.counts["quarantined"] == {
        "images/007.png": "not a readable image (unknown format)",
        "images/009.png": "8x8 is too small; resolution 32 needs images of at least 64 pixels",
    }
    for index in range(10, 20):
        (folder / "images" / f"{index:03}.png").unlink()
    with pytest.raises(InputError, match="12 of 60 images are unreadable"):
        ImageFolder(folder, PRESET, 32)


def test_what_is_published_names_no_directory(folder):
    (folder / "images" / "007.png").unlink()
    counts = ImageFolder(folder, PRESET, 32).counts
    assert counts["quarantined"] == {"images/007.png": "not a readable image (No such file or directory)"}
    assert str(folder) not in str(counts)


def test_one_changed_pixel_changes_the_fingerprint(folder):
    before = ImageFolder(folder, PRESET, 32).fingerprint
    assert ImageFolder(folder, PRESET, 32).fingerprint == before
    path = folder / "images" / "011.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[3, 4] ^= 1
    Image.fromarray(pixels).save(path)
    assert ImageFolder(folder, PRESET, 32).fingerprint != before


def test_spaces_around_a_patient_are_not_another_patient(edit):
    source = ImageFolder(edit(lambda text: text.replace("000.png,p0,", "000.png, p0 ,")), PRESET, 32)
    assert source.patient_ids[:2] == ["p0", "p0"]
    assert source.counts["patients"] == 30


def test_one_image_under_two_patients_is_refused(folder):
    shutil.copy(folder / "images" / "002.png", folder / "images" / "003.png")
    assert len(ImageFolder(folder, PRESET, 32)) == 60, "twice under one patient is no leak"
    shutil.copy(folder / "images" / "002.png", folder / "images" / "008.png")
    with pytest.raises(InputError, match=r"metadata\.csv:10: .* byte for byte that of line 4, of another patient"):
        ImageFolder(folder, PRESET, 32)


def test_copies_of_one_image_that_contradict_each_other_are_counted(folder):
    """Of one patient they are allowed, as they are in many data sets; which of the two values is true nobody knows."""
    for copy, of in ((3, 2), (5, 4)):
        shutil.copy(folder / "images" / f"{of:03}.png", folder / "images" / f"{copy:03}.png")
    table = folder / "metadata.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    rows[4][2], rows[4][5] = "71", "Pneumonia"
    rows[6][2] = ""
    table.write_text("\n".join(map(",".join, rows)) + "\n")
    counts = ImageFolder(folder, PRESET, 32).counts
    # a view of each is another, too
    assert counts["copies differ"] == {"age": 1, "view": 2, "finding": 1}
    assert totals(counts)["copies differ"] == counts["copies differ"]
    assert "  contradictory age: 1 image with copies of another value" in describe_counts(counts)


def test_images_that_no_row_names_are_counted_and_said(folder):
    before = ImageFolder(folder, PRESET, 32)
    assert "without a row" not in before.counts
    for name in ("extra.PNG", "another/extra.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "images" / "000.png", folder / name)
    (folder / "link.png").symlink_to("images/000.png")
    after = ImageFolder(folder, PRESET, 32)
    assert after.fingerprint == before.fingerprint
    assert totals(after.counts)["without a row"] == 2
    assert "  not read: 2 images of the folder that no row of its table names" in describe_counts(after.counts)


def test_the_name_of_a_file_commands_no_terminal(edit):
    source = ImageFolder(edit(lambda text: text.replace("images/007.png", "\x1b[2J.png")), PRESET, 32)
    assert all(line.isprintable() for line in describe_counts(source.counts))


def test_images_of_two_patients_are_counted_and_left_out_by_the_verb_that_is_named(tmp_path):
    folder = write_folder(tmp_path / "radiographs", patients=50)
    for first, second in (("002", "008"), ("020", "030")):
        shutil.copy(folder / "images" / f"{first}.png", folder / "images" / f"{second}.png")
    sentence = r"patient, and 1 more image of several patients; .*`synthfair ingest` .* these 4 images"
    with pytest.raises(InputError, match=sentence):
        ImageFolder(folder, PRESET, 32)
    words = ["--resolution", "32", "--num_proc", "1", "--output_dir", str(tmp_path / "out")]
    assert main(["ingest", "imagefolder", str(folder), *words]) == 0
    assert len(ImageFolder(tmp_path / "out", PRESET, 32)) == 96
    # it tolerates no more than this does
    shutil.copy(folder / "images" / "040.png", folder / "images" / "050.png")
    with pytest.raises(InputError, match=r"and 2 more images of several patients; give both the same .* remove one\.$"):
        ImageFolder(folder, PRESET, 32)


def test_lines_are_counted_as_an_editor_does(edit):
    """A quoted cell may hold line breaks; the place in a message is still the file's."""
    folder = edit(lambda text: text.replace("p0,20,M,PA,Pneumonia", 'p0,20,M,PA,"Pneu\n\nmonia"').replace(",p3,", ",,"))
    with pytest.raises(InputError, match=r"metadata\.csv:10: patient_id is empty"):
        ImageFolder(folder, PRESET, 32)


def test_memory_for_radiographs_is_bounded(folder, monkeypatch):
    source = ImageFolder(folder, PRESET, 32)
    monkeypatch.setattr(imagefolder, "CACHE_BYTES", 3 * 64 * 64 * 2)
    drawn = [source.draw(index, 32, np.random.default_rng(index))[0] for index in range(5)]
    assert sum(radiograph.nbytes for radiograph in source._cache.values()) == 3 * 64 * 64 * 2
    for index, image in enumerate(drawn):
        radiograph = read_radiograph(folder / "images" / f"{index:03}.png", 32)
        assert np.abs(image - jitter(radiograph, np.random.default_rng(index))).max() < 1e-3
        assert np.array_equal(image, source.draw(index, 32, np.random.default_rng(index))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("file_name", "name"), "no column 'file_name'"),
        (lambda text: text.replace("patient_id", "id"), "no column 'patient_id'"),
        (lambda text: text.replace("view", "sex", 1), "metadata.csv:1: column 'sex' appears twice"),
        (lambda text: text.replace("p1,21,F", "p1,21,F,extra", 1), "metadata.csv:4: 7 cells, but the header has 6"),
        (lambda text: text.replace("p1,", ",", 1), "metadata.csv:4: patient_id is empty"),
        (lambda text: text.splitlines()[0], "no rows"),
        (lambda text: "", "no rows"),
        (lambda text: text.replace("images/004.png", "images/./001.png"), r"metadata.csv:6: .* image of line 3 again"),
        (lambda text: text.replace("p1,21,F", 'p1,"21"x,F', 1), "metadata.csv:4: not comma-separated text"),
        (lambda text: text.replace("images/000.png", "../secret.png"), "leaves the folder"),
        (lambda text: text.replace("images/000.png", "/etc/hostname"), "leaves the folder"),
        (lambda text: text.replace("images/000.png", "a\0b"), "metadata.csv"),
    ],
)
def test_a_malformed_table_is_refused_with_its_place(edit, change, message):
    with pytest.raises(InputError, match=message):
        ImageFolder(edit(change), PRESET, 32)


def test_byte_order_mark_windows_lines_and_quotes_are_read(edit):
    plain = ImageFolder(edit(lambda text: text), PRESET, 32)
    dressed = ImageFolder(
        edit(lambda text: "\ufeff" + text.replace("\n", "\r\n").replace("Pneumonia", '"Pneumonia"')), PRESET, 32
    )
    assert dressed.table == plain.table
    assert dressed.fingerprint == plain.fingerprint


def test_a_folder_without_metadata_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"metadata\.csv: no such file"):
        ImageFolder(tmp_path, PRESET, 32)


def test_latin_1_is_refused_not_guessed(folder):
    path = folder / "metadata.csv"
    path.write_bytes(path.read_bytes().replace(b"p7,", "pé,".encode("latin-1")))
    with pytest.raises(InputError, match=r"metadata\.csv:16: not UTF-8"):
        ImageFolder(folder, PRESET, 32)


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_followed_only_inside_the_folder(folder, tmp_path, inside):
    image = folder / "images" / "000.png"
    target = (folder if inside else tmp_path) / "elsewhere.png"
    image.rename(target)
    image.symlink_to(target)
    if inside:
        assert len(ImageFolder(folder, PRESET, 32)) == 60
    else:
        with pytest.raises(InputError, match=r"metadata\.csv:2: file_name 'images/000\.png' leaves the folder"):
            ImageFolder(folder, PRESET, 32)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_pipe_or_a_folder_is_never_opened(folder, make):
    """Whoever opens a pipe waits for its other end."""
    make(folder / "images" / "pipe")
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("images/000.png", "images/pipe"))
    with pytest.raises(InputError, match=r"metadata\.csv:2: file_name 'images/pipe' is not a file"):
        ImageFolder(folder, PRESET, 32)


PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "~", "a", "images", "0.png", "\0", "\n", "C:", "\\\\host\\share", "é" * 200]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=6).map("/".join) | st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=20))
def test_whatever_a_table_names_nothing_outside_the_folder_is_opened(tmp_path, monkeypatch, name):
    root, opened = tmp_path / "radiographs", []
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").save(root / "images" / "0.png")
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "patient_id", "age"], [name, "p", "61"]])
    plain = imagefolder.read_radiograph

    def read(path, *sizes):
        opened.append(path)
        return plain(path, *sizes)

    monkeypatch.setattr(imagefolder, "read_radiograph", read)
    try:
        source = ImageFolder(root, PRESET, 32, max_bad_fraction=1)
    except InputError:
        assert not opened, "an invalid folder is found so before an image is read"
    else:
        assert len(source) == (opened == [root / "images" / "0.png"])
    assert all(path.is_relative_to(root) for path in opened)


def test_numbers_are_read_as_they_stand_or_counted_as_missing(edit, monkeypatch):
    """A leading zero or an exponent is no other number, and nothing is clamped into the range."""
    monkeypatch.setattr(cells, "MAX_UNREADABLE", 0.2)
    ages = {"045": 45.0, "1e3": None, "300": None, "4e1": 40.0, "6_1": None, "-5": None, "inf": None, "061Y": 61.0}

    def change(text: str) -> str:
        for patient, age in enumerate(ages):
            text = text.replace(f",p{patient},{20 + patient},", f",p{patient},{age},")
        return text

    source = ImageFolder(edit(change), PRESET, 32)
    assert source.table["age"][: 2 * len(ages) : 2] == list(ages.values())
    assert source.counts["missing"] == {"age": {"outside 0-100 years": 8, "not a number": 2}}


def with_columns(folder: Path, **columns: str) -> Path:
    """The folder with these columns as well, of one cell each."""
    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    cells = [",".join([row, *columns.values()]) for row in rows]
    path.write_text("\n".join([",".join([head, *columns]), *cells]) + "\n")
    return folder


def test_columns_that_no_covariate_reads_are_told_once_and_a_draft_reads_them(folder, tmp_path, capsys):
    path = with_columns(folder, **{"split": "train", "Unnamed: 0": "7", "ward": "A", "dose": "1"}) / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text(
        "\n".join([head, *(row[: -len("A,1")] + f"{'AB'[n % 2]},{n}" for n, row in enumerate(rows))]) + "\n"
    )
    (line,) = [one for one in describe_counts(ImageFolder(folder, PRESET, 32).counts) if "column" in one]
    assert line == "  not read: columns ward, dose, no covariate of the preset; a drafted one may have them"
    drafted = tmp_path / "own.yaml"
    assert main(["preset", "--from", str(path), "--output_file", str(drafted)]) == 0
    assert "columns not read" not in ImageFolder(folder, load_preset(str(drafted)), 32).counts
    capsys.readouterr()
    out = tmp_path / "out"
    words = ["ingest", "imagefolder", str(folder), "--output_dir", str(out), "--resolution", "32", "--num_proc", "1"]
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told.count(line) == 1
    assert told[-1].startswith("next: ")
    # and of what was ingested, by a preset that has less than its own
    without = PRESET.model_copy(update={"covariates": PRESET.covariates.subset(("age", "finding", "view"))})
    assert ImageFolder(out, without, 32).counts["columns not read"] == ["sex"]


def test_many_columns_that_are_not_read_are_counted(folder):
    wide = with_columns(folder, **{f"lead_{n}": "1" for n in range(40)})
    (line,) = [one for one in describe_counts(ImageFolder(wide, PRESET, 32).counts) if "column" in one]
    assert "columns lead_0, lead_1, lead_2, lead_3, lead_4, lead_5, lead_6, lead_7 and 32 more, no" in line
