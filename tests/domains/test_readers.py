"""Every data set is read in the layout that its authors document, and what is not that data set is refused."""

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from miniatures import MINIATURES, adni_collection, chexpert, draw, isic_2020, oasis1_slices, write

from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.nifti import CONTRAST
from synthfair_hf.domains.preset import Preset
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import READERS, describe_sources, open_images, open_source
from synthfair_hf.domains.source import access_to, describe_counts, totals
from synthfair_hf.domains.worlds import open_world
from synthfair_hf.errors import InputError
from synthfair_hf.records import strictest
from synthfair_hf.schema import Schema, Variable


def words(name: str, *levels: str, nature: Any = "patient/demographic", role: Any = "protected") -> Variable:
    return Variable(name=name, kind="categorical", role=role, nature=nature, levels=levels)


AGE = get_preset("chest_xray").covariates["age"]
OWN = {
    "fitzpatrick17k": (
        words("skin_tone", "1", "2", "3", "4", "5", "6"),
        words("three_partition_label", "benign", "malignant", "non-neoplastic", nature="patient/pathology"),
    ),
    "utkface": (AGE, words("sex", "male", "female"), words("race", "white", "black", "asian", "indian", "other")),
    "isic_2020": (
        *(AGE, words("sex", "male", "female")),
        words("diagnosis", "melanoma", "nevus", "BKL", nature="patient/pathology", role="finding"),
    ),
}
"""Data sets for which this package has no preset, with variables of one."""

DOMAINS = {"ham10000": "dermatology", "isic": "dermatology", **dict.fromkeys(("oasis1", "ixi", "adni"), "brain_mri")}


def preset_of(name: str, *further: Variable) -> Preset:
    preset = get_preset(DOMAINS.get(name, "chest_xray"))
    if name not in OWN and not further:
        return preset
    variables = OWN.get(name) or (*preset.covariates.walk(), *further)
    empty: dict[str, Any] = {"edges": (), "factors": (), "strata": (), "contrasts": {}, "views": ()}
    return preset.model_copy(update={"covariates": Schema(variables=variables), **empty})


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., ImageFolder]:
    """`opened(name, *further variables, **how)` writes a miniature and reads it."""

    def read(name: str, *further: Variable, **how: Any) -> ImageFolder:
        folder = tmp_path / name
        if not folder.exists():
            MINIATURES[name](folder)
        how = {"dataset_name": name, **how}
        return open_images(DataSetFolder(directory=folder, **how), preset_of(name, *further), 32, lambda _: None)

    return read


def rows_of(source: ImageFolder, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(source.patient_ids, *(source.table[name] for name in names), strict=True))


EXPECTED: Mapping[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]] = {
    "mimic_cxr": (
        ("age", "sex", "race", "view", "finding"),
        [
            ("10000032", 54, "female", "white", "PA", "no_finding"),
            ("10000033", 90, "male", "black", "AP", "pneumonia"),
            ("10000034", 90, "female", "asian", "PA", None),
            ("10000035", 57, "male", None, "AP", "no_finding"),
            ("10000036", None, None, "white", "PA", "pneumonia"),
            ("10000037", 90, "male", "black", "AP", None),
        ],
    ),
    "chexpert": (
        ("age", "sex", "race", "view", "finding"),
        [
            ("patient00001", None, "female", "white", "AP", "no_finding"),
            ("patient00002", 68, "female", "black", "PA", "pneumonia"),
            ("patient00003", 90, "male", "asian", "AP", None),
            ("patient00004", 45, "male", None, "PA", "pneumonia"),
            ("patient00005", None, "female", "white", "AP", "no_finding"),
            ("patient00006", 68, "female", "black", "PA", "pneumonia"),
            ("patient00007", 90, "male", "asian", "AP", "no_finding"),
            ("patient00008", 45, "male", None, "PA", "pneumonia"),
        ],
    ),
    "padchest": (
        ("age", "sex", "view", "finding"),
        [
            ("839860488694292331637988235681460987", 84, "male", "PA", "no_finding"),
            ("839860488694292331637988235681460988", 26, "female", "AP", "pneumonia"),
            ("839860488694292331637988235681460989", None, None, "AP", None),
            ("839860488694292331637988235681460992", 26, "female", "AP", "pneumonia"),
            ("839860488694292331637988235681460993", None, None, "AP", None),
            ("3", 84, "male", "PA", "no_finding"),
        ],
    ),
    "chexpert_plus": (
        ("age", "sex", "race", "view", "finding"),
        [
            ("patient00001", None, "female", "white", "AP", "no_finding"),
            ("patient00002", 68, "female", "black", "PA", "pneumonia"),
            ("patient00003", 90, "male", "asian", "AP", "pneumonia"),
            ("patient00004", 45, "male", None, "PA", None),
        ],
    ),
    "brax": (
        ("age", "sex", "view", "finding"),
        [
            ("id_00000000-da", 60, "male", "PA", "no_finding"),
            ("id_00000000-da", 85, "male", "AP", "pneumonia"),
            ("id_00000001-da", 60, "female", "PA", "no_finding"),
            ("id_00000001-da", 85, "female", "AP", "pneumonia"),
        ],
    ),
    "vindr_cxr": (
        ("age", "sex", "view", "finding"),
        [
            (f"train/{0:032x}.dicom", 60, "male", "PA", "no_finding"),
            (f"train/{1:032x}.dicom", 60, "female", "PA", "pneumonia"),
            (f"train/{2:032x}.dicom", None, "male", "PA", "no_finding"),
            (f"train/{3:032x}.dicom", None, "female", "PA", "pneumonia"),
            (f"test/{9:032x}.dicom", None, None, "PA", None),
        ],
    ),
    "rsna_pneumonia": (
        ("age", "sex", "view", "finding"),
        [
            (f"stage_2_train_images/{n:08x}-0000.dcm", 50 + n, sex, view, ("no_finding", "pneumonia", None)[n % 3])
            for n, (sex, view) in enumerate([("male", "PA"), ("female", "AP")] * 3)
        ],
    ),
    "ham10000": (
        ("age", "sex", "site"),
        [
            (f"HAM_{n // 2:07}", 80, ("male", "female")[n // 2 % 2], site)
            for n, site in enumerate(
                site
                for site in (
                    "trunk",
                    "head_neck",
                    "hands_feet",
                    "upper_extremity",
                    "lower_extremity",
                    "trunk",
                    "head_neck",
                )
                for _ in range(2)
            )
        ],
    ),
    "isic": (
        ("sex", "site", "diagnosis"),
        [
            ("BCN_0", "male", "trunk", "melanoma"),
            ("BCN_0", "male", "trunk", "nevus"),
            ("BCN_1", "female", "trunk", "basal_cell_carcinoma"),
            ("BCN_1", "female", "trunk", "actinic_keratosis"),
            ("BCN_2", "male", "trunk", "keratosis"),
            ("BCN_2", "male", "trunk", "dermatofibroma"),
            ("BCN_3", "female", "trunk", "vascular"),
            ("ISIC_2019_Training_Input/ISIC_0000007.jpg", "female", "trunk", None),
        ],
    ),
    "fitzpatrick17k": (
        ("skin_tone", "three_partition_label"),
        [
            (f"data/finalfitz17k/{n:032x}.jpg", tone, ("benign", "malignant", "non-neoplastic")[n % 3])
            for n, tone in enumerate(("1", "2", "3", "4", "5", None))
        ],
    ),
    "oasis1": (
        ("age", "sex", "diagnosis"),
        [
            ("OAS1_0001", 74, "female", "no_dementia"),
            ("OAS1_0001", 75, "female", "no_dementia"),
            ("OAS1_0002", 76, "male", "dementia"),
            ("OAS1_0002", 77, "male", "dementia"),
            ("OAS1_0003", 78, "female", None),
            ("OAS1_0003", 79, "female", None),
        ],
    ),
    "ixi": (
        ("sequence", "age", "sex", "field_strength"),
        [
            (f"IXI{n + 2:03}", f"{sequence}w", *person)
            for sequence in ("PD", "T1")
            for n, person in enumerate(
                # of the second each row tells one, of the third nothing is known, and the last has no row
                ((35.8, "female", "1.5T"), (38.78, "male", "3T"), (None, None, "1.5T"), (None, None, "3T"))
            )
        ],
    ),
    "adni": (
        ("age", "sex", "diagnosis", "field_strength"),
        [
            ("000_S_0295", 74.3, "male", "no_dementia", "1.5T"),
            ("000_S_0295", 75.3123, "male", "no_dementia", "3T"),
            ("001_S_0296", 74.3, "female", None, "1.5T"),
            ("001_S_0296", 75.3123, "female", None, "3T"),
            ("002_S_0297", 74.3, "male", "dementia", "1.5T"),
        ],
    ),
    "utkface": (
        ("age", "sex", "race"),
        [
            (
                f"part{n % 2}/{20 + n}_{n % 2}_{n % 5}_2017010915353{n}.jpg.chip.jpg",
                *(20 + n, ("male", "female")[n % 2], ("white", "black", "asian", "indian", "other")[n % 5]),
            )
            for n in range(10)
        ],
    ),
}
"""By data set, what a reader of its documentation finds in the miniature: patient and values of every image."""


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "fitzpatrick17k"])
def test_values_are_those_that_the_documentation_says(opened, name):
    columns, expected = EXPECTED[name]
    assert rows_of(opened(name), *columns) == expected


def test_a_level_that_only_an_unknown_cell_may_hold_is_refused(opened):
    """Fitzpatrick's miniature has no type VI, and one image of unknown type."""
    with pytest.raises(InputError, match=r"fitzpatrick17k.csv: column 'skin_tone': no image of level '6'"):
        opened("fitzpatrick17k")


def test_a_skin_tone_is_read_from_its_number(opened, monkeypatch):
    tones = words("skin_tone", "1", "2", "3", "4", "5")
    monkeypatch.setitem(OWN, "fitzpatrick17k", (tones, *OWN["fitzpatrick17k"][1:]))
    columns, expected = EXPECTED["fitzpatrick17k"]
    assert rows_of(opened("fitzpatrick17k"), *columns) == expected


def test_nih_is_read_with_its_quirks(opened):
    source = opened("nih_chestxray14")
    assert rows_of(source, "age", "sex", "view", "finding")[:4] == [
        ("1", 60, "male", "PA", "no_finding"),
        ("1", 58, "male", "AP", "pneumonia"),
        # 411 years
        ("2", None, "female", "PA", None),
        ("2", 60, "female", "AP", "no_finding"),
    ]
    assert source.table["age"][5] == pytest.approx(14 / 12)
    assert source.counts["missing"]["age"] == {"outside 0-100 years": 1}
    assert source.counts["left out"] == {"image not in the folder": 1}
    assert {split for split, patient in zip(source.splits, source.patient_ids, strict=True) if patient == "4"} == {
        "test"
    }
    others = [split for split, patient in zip(source.splits, source.patient_ids, strict=True) if patient != "4"]
    assert set(others) <= {"train", "validation"}


def test_the_challenge_of_2020_is_read_by_patients(tmp_path):
    isic_2020(tmp_path)
    source = open_images(
        DataSetFolder(directory=tmp_path, dataset_name="isic"), preset_of("isic_2020"), 32, lambda _: None
    )
    assert rows_of(source, "sex", "diagnosis") == [
        ("IP_0", "male", "melanoma"),
        ("IP_0", "male", "nevus"),
        ("IP_1", "female", "BKL"),
        ("IP_1", "female", None),
    ]


def test_a_collection_of_adni_is_read_by_image(tmp_path):
    adni_collection(tmp_path)
    source = open_images(
        DataSetFolder(directory=tmp_path, dataset_name="adni"), get_preset("brain_mri"), 32, lambda _: None
    )
    assert rows_of(source, "age", "sex", "diagnosis") == [
        ("000_S_0295", 74, "male", "no_dementia"),
        ("000_S_0295", 75, "male", "no_dementia"),
        ("001_S_0296", 76, "female", None),
        ("001_S_0296", 77, "female", None),
        ("002_S_0297", 78, "male", "dementia"),
    ]
    assert source.counts["left out"] == {"image without a row of its own": 1}
    assert source.counts["contrast"] == {CONTRAST: 5}


def test_what_ixi_leaves_out_is_counted_and_two_sexes_of_one_subject_are_none(opened, tmp_path):
    source = opened("ixi")
    assert source.counts["left out"] == {"DTI volume": 1, "MRA volume": 1}
    assert source.counts["missing"]["sex"] == {"empty": 4}
    assert "site" not in source.covariates, "a schema without it"
    with (tmp_path / "ixi" / "IXI.csv").open("a") as table:
        table.write("2,1,164,58,1,1,2005-11-25,35.8\n")
    sexes = [row["sex"] for _, row in READERS["ixi"](tmp_path / "ixi", preset_of("ixi")).table().rows]
    assert sexes == ["female or male", "male", "", ""] * 2


def test_slices_of_oasis_are_read_in_one_plane(tmp_path):
    oasis1_slices(tmp_path)
    source = open_images(
        DataSetFolder(directory=tmp_path, dataset_name="oasis1"), get_preset("brain_mri"), 32, lambda _: None
    )
    assert source.file_names == [f"images/OAS1_{n + 1:04}_MR1_a.jpg" for n in range(4)]
    assert source.counts["left out"] == {"coronal slice": 4, "sagittal slice": 4}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_patient_is_in_one_split_and_what_is_left_out_is_counted(tmp_path, name):
    MINIATURES[name](tmp_path)
    reader = READERS[name](tmp_path, preset_of(name))
    listed = list(reader.rows())
    again = READERS[name](tmp_path, preset_of(name))
    table = again.table()
    assert len(listed) + sum(reader.left_out.values()) == len(table.rows) + sum(table.left_out.values())
    assert all((tmp_path / row["file_name"]).is_file() for _, row in table.rows)
    assert len({tuple(row) for _, row in table.rows}) == 1, "every row has the same columns"
    assert table.access == READERS[name].access
    owners: dict[str, set[str]] = {}
    for row in listed:
        owners.setdefault(row.patient or row.file, set()).add(row.split or "")
    assert all(len(splits) == 1 for splits in owners.values())


def test_mimic_keeps_its_own_splits(opened):
    assert opened("mimic_cxr").splits == ["train"] * 4 + ["validation", "test"]


def test_lateral_radiographs_are_left_out_and_told(opened):
    source = opened("mimic_cxr")
    assert source.counts["left out"] == {"lateral view": 6}
    assert "  left out: 6 images (lateral view)" in describe_counts(source.counts)


def saved_as(rows: list[list[str]], spelling: str) -> bytes:
    """A table as a spreadsheet, pandas or Windows would save it."""
    number, text = len(rows), io.StringIO(newline="")
    if spelling == "index of pandas":
        rows = [[str(n - 1) if n else "Unnamed: 0", *row] for n, row in enumerate(rows)]
    if spelling == "Windows paths":
        rows = [[cell.replace("/", "\\") if Path(cell).suffix in SUFFIXES else cell for cell in row] for row in rows]
    delimiter = {"semicolons": ";", "tabs": "\t"}.get(spelling, ",")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n" if spelling == "CRLF" else "\n").writerows(rows)
    assert len(rows) == number
    return (b"\xef\xbb\xbf" if spelling == "BOM" else b"") + text.getvalue().encode()


SUFFIXES = (".png", ".jpg", ".gif", ".dcm")


@pytest.mark.parametrize("name", [name for name in MINIATURES if name != "utkface"])
def test_every_table_of_a_set_is_read_however_it_was_saved(tmp_path, name):
    """All tables of the folder at once, of which the law is that nothing of what is read changes."""
    MINIATURES[name](tmp_path)
    plain = READERS[name](tmp_path, preset_of(name)).table()
    tables = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.name.endswith((".csv", ".csv.gz", "_metadata"))
    }
    assert tables
    for spelling in ("BOM", "CRLF", "semicolons", "tabs", "Windows paths", "index of pandas"):
        for path, data in tables.items():
            packed = path.suffix == ".gz"
            text = (gzip.decompress(data) if packed else data).decode()
            saved = saved_as(list(csv.reader(io.StringIO(text, newline=""))), spelling)
            path.write_bytes(gzip.compress(saved, mtime=0) if packed else saved)
        assert READERS[name](tmp_path, preset_of(name)).table() == plain, spelling


@pytest.mark.parametrize("name", MINIATURES)
def test_a_folder_of_something_else_is_refused_by_the_file_that_it_lacks(tmp_path, name):
    draw(tmp_path / "image.png", 0)
    with pytest.raises(InputError) as caught:
        READERS[name](tmp_path, preset_of(name)).table()
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}: no ")
    assert told.count("\n") == 0
    assert READERS[name].download in told or "no image of UTKFace can be used" in told


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("mimic_cxr", "hosp/patients.csv.gz", "no hosp/patients.csv"),
        ("mimic_cxr", "hosp/admissions.csv.gz", "no hosp/admissions.csv"),
        ("mimic_cxr", "mimic-cxr-2.0.0-split.csv.gz", r"no mimic-cxr-2.\*-split.csv"),
        ("isic", "ISIC_2019_Training_GroundTruth.csv", "no ISIC_2019_Training_GroundTruth.csv"),
    ],
)
def test_a_table_that_is_not_there_is_named(tmp_path, name, file, told):
    MINIATURES[name](tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=told):
        READERS[name](tmp_path, preset_of(name)).table()


@pytest.mark.parametrize("name", [name for name in MINIATURES if name not in ("utkface",)])
def test_a_table_of_other_columns_is_refused(tmp_path, name):
    MINIATURES[name](tmp_path)
    table = READERS[name](tmp_path, preset_of(name)).file(*READERS[name].tables)
    write(table, [{"a": 1, "b": 2}])
    with pytest.raises(InputError, match=r":1: no column '.*'; this is not that table of "):
        READERS[name](tmp_path, preset_of(name)).table()


def test_labels_by_mimics_other_labeller_are_read(tmp_path):
    MINIATURES["mimic_cxr"](tmp_path)
    first = READERS["mimic_cxr"](tmp_path, preset_of("mimic_cxr")).table()
    labels = tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz"
    labels.rename(tmp_path / "mimic-cxr-2.0.0-negbio.csv.gz")
    assert READERS["mimic_cxr"](tmp_path, preset_of("mimic_cxr")).table() == first


@pytest.mark.parametrize(
    ("uncertain", "finding", "pneumonia"),
    [("missing", None, None), ("positive", "pneumonia", "present"), ("negative", None, "absent")],
)
def test_uncertain_labels_count_as_the_policy_says(opened, uncertain, finding, pneumonia):
    label = words("pneumonia", "absent", "present", nature="patient/pathology")
    source = opened("chexpert", label, uncertain=uncertain)
    assert (source.table["finding"][2], source.table["pneumonia"][2]) == (finding, pneumonia)
    assert source.table["pneumonia"][:2] == ["absent", "present"]


def test_every_label_is_a_column_by_its_name(opened):
    """A schema that has several findings reads each."""
    labels = [words(name, "absent", "present", nature="patient/pathology") for name in ("edema", "fracture")]
    source = opened("mimic_cxr", *labels)
    present = {"edema": [1, 4], "fracture": [2, 5]}
    for name, rows in present.items():
        assert [row for row, state in enumerate(source.table[name]) if state == "present"] == rows


def test_a_radiologists_minority_is_outvoted(opened):
    label = words("pneumonia", "absent", "present", nature="patient/pathology")
    assert opened("vindr_cxr", label).table["pneumonia"] == ["absent", "present", "absent", "present", "absent"]


def test_a_finding_beside_no_finding_is_counted_and_is_none(opened, tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path / "nih_chestxray14")
    table = tmp_path / "nih_chestxray14" / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("No Finding", "No Finding|Edema", 1))
    source = opened("nih_chestxray14")
    assert source.table["finding"][0] is None
    assert source.counts["missing"]["finding"]["level 'No Finding beside Edema' outside the schema"] == 1


def test_a_label_that_the_set_does_not_have_is_not_guessed(opened, tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path / "nih_chestxray14")
    table = tmp_path / "nih_chestxray14" / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace("Cardiomegaly", "Cardiomegalia", 1))
    assert opened("nih_chestxray14").counts["left out"]["unknown label 'Cardiomegalia'"] == 1


def test_two_classes_of_one_image_are_refused_with_both_lines(tmp_path):
    MINIATURES["rsna_pneumonia"](tmp_path)
    table = tmp_path / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text() + f"{1:08x}-0000,Normal\n")
    with pytest.raises(
        InputError, match=r"info.csv:9: class of '00000001-0000' is 'Normal', but 'Lung Opacity' in line 3"
    ):
        READERS["rsna_pneumonia"](tmp_path, preset_of("rsna_pneumonia")).table()


def test_a_row_that_stands_twice_is_refused_with_both_lines(opened, tmp_path):
    MINIATURES["brax"](tmp_path / "brax")
    table = tmp_path / "brax" / "master_spreadsheet_update.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(InputError, match=r"update.csv:8: file_name .* is the image of line 2 again"):
        opened("brax")


def test_a_patient_in_two_splits_is_refused(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path)
    (tmp_path / "test_list.txt").write_text("00000004_000.png\n")
    with pytest.raises(InputError, match=r"Data_Entry_2017.csv:\d+: patient '4' is in .* and in test"):
        READERS["nih_chestxray14"](tmp_path, preset_of("nih_chestxray14")).table()


def test_an_image_outside_the_folder_is_not_opened(opened, tmp_path):
    MINIATURES["brax"](tmp_path / "brax")
    draw(tmp_path / "secret.png", 50)
    table = tmp_path / "brax" / "master_spreadsheet_update.csv"
    first = table.read_text().splitlines()[1].split(",")[1]
    table.write_text(table.read_text().replace(first, "../secret.png", 1))
    with pytest.raises(InputError, match=r"update.csv:2: file_name '../secret.png' leaves the folder"):
        opened("brax")


def test_a_race_that_no_image_shows_is_not_read_and_told(opened, tmp_path):
    MINIATURES["mimic_cxr"](tmp_path / "mimic_cxr")
    write(tmp_path / "mimic_cxr" / "hosp" / "admissions.csv.gz", [{"subject_id": 10000032, "race": "WHITE"}])
    source = opened("mimic_cxr")
    assert "race" not in source.table
    assert source.counts["not read"] == {"race": "no image of black, asian"}
    assert "  not read: race (no image of black, asian)" in describe_counts(source.counts)


def test_without_the_demographics_chexpert_has_no_race(opened, tmp_path):
    MINIATURES["chexpert"](tmp_path / "chexpert")
    (tmp_path / "chexpert" / "df_chexpert_plus_240401.csv").unlink()
    assert opened("chexpert").covariates.names == ("age", "sex", "finding", "view")
    rows = [
        {"PATIENT": f"patient{n + 1:05}", "GENDER": "Female", "PRIMARY_RACE": race}
        for n, race in enumerate(("White, non-Hispanic", "Black or African American", "Asian") * 3)
    ]
    write(tmp_path / "chexpert" / "CHEXPERT DEMO.csv", rows)
    assert opened("chexpert").table["race"][:4] == ["white", "black", "asian", "white"]


def test_the_name_may_be_an_argument(tmp_path):
    MINIATURES["chexpert"](tmp_path)
    source = open_source(tmp_path, get_preset("chest_xray"), 32, dataset_name="chexpert")
    assert source.name == "chexpert"
    assert source.access == "credentialed"
    assert "scanner" in source.table


def test_columns_are_given_the_names_of_covariates(folder):
    metadata = folder / "metadata.csv"
    text = metadata.read_text()
    plain = ImageFolder(folder, get_preset("chest_xray"), 32)
    renamed = "path,PatientID,PatientAge,Gender,view,finding"
    metadata.write_text(text.replace("file_name,patient_id,age,sex,view,finding", renamed))
    columns = {"age": "PatientAge", "sex": "Gender", "patient_id": "PatientID"}
    how = DataSetFolder(directory=folder, columns=columns, image_column="path")
    source = open_images(how, get_preset("chest_xray"), 32, lambda _: None)
    assert (source.table, source.patient_ids, source.file_names) == (plain.table, plain.patient_ids, plain.file_names)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"aeg": "age"}, "columns: 'aeg' is no covariate of chest_xray; allowed: file_name, patient_id, age"),
        ({"age": "Alter"}, r"columns: .*metadata.csv has no column 'Alter'; allowed: file_name, patient_id, age"),
    ],
)
def test_a_column_that_cannot_be_mapped_is_refused(folder, columns, told):
    with pytest.raises(InputError, match=told):
        open_source(DataSetFolder(directory=folder, columns=columns), get_preset("chest_xray"), 32)


SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "Windows paths": lambda text: text.replace("images/", "images\\").encode(),
    "index of pandas": lambda text: "".join(
        f"{'Unnamed: 0' if not n else n - 1},{line}" for n, line in enumerate(text.splitlines(keepends=True))
    ).encode(),
    "index without a name": lambda text: "".join(
        f"{'' if not n else n - 1},{line}" for n, line in enumerate(text.splitlines(keepends=True))
    ).encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_table_is_read_however_its_program_saved_it(folder, spelling):
    plain = ImageFolder(folder, get_preset("chest_xray"), 32)
    metadata = folder / "metadata.csv"
    metadata.write_bytes(SPELLINGS[spelling](metadata.read_text()))
    source = ImageFolder(folder, get_preset("chest_xray"), 32)
    assert (source.table, source.patient_ids, source.file_names) == (plain.table, plain.patient_ids, plain.file_names)


def test_every_reader_says_what_it_is_and_where_access_is_asked_for():
    text = "\n".join(describe_sources())
    for name, reader in READERS.items():
        assert f"\n{name}: {reader.title}\n" in text
        assert reader.request.startswith("https://")
        assert reader.download.startswith("needs ")
        assert reader.license in text
        assert reader.access in ("open", "unknown", "credentialed")
    assert [name for name, one in READERS.items() if one.access == "credentialed"] == [
        *("mimic_cxr", "chexpert", "chexpert_plus", "padchest", "vindr_cxr", "brax", "oasis1", "adni")
    ]


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.presets])
def test_a_data_set_says_which_presets_read_it_and_what_it_never_tells(name, tmp_path):
    """What is said before anything is downloaded is what its miniature shows."""
    MINIATURES[name](tmp_path)
    [line] = [one for one in describe_sources(name) if one.startswith("  presets ")]
    for told in line.removeprefix("  presets     ").split("; "):
        preset, _, never = told.rstrip(")").partition(" (never told: ")
        domain = get_preset(preset)
        table = READERS[name](tmp_path, domain).table()
        columns = {*table.rows[0][1], *table.not_read}
        untold = [one.name for one in domain.covariates.walk() if one.optional and one.name not in columns]
        no_label = [one for one, why in table.not_read.items() if why.startswith("no label of")]
        # race is in a table beside CheXpert's own, and findings of VinDr-CXR that the miniature lacks
        assert set(never.split(", ")) - {""} <= {*untold, *no_label}
        needed = {one.name for one in domain.covariates.walk() if not one.optional} - {"scanner"}
        assert needed <= table.rows[0][1].keys()


@pytest.mark.parametrize(
    ("name", "unit"), [("ham10000", "lesions"), ("isic", "lesions"), ("vindr_cxr", "images"), ("oasis1", "patients")]
)
def test_what_is_in_one_split_is_called_what_it_is(opened, name, unit):
    source = opened(name)
    number = len(set(source.patient_ids))
    assert describe_counts(source.counts)[0] == f"source: {len(source)} images of {number} {unit}"
    assert describe_counts(totals(source.counts))[0] == f"source: {len(source)} images of {number} {unit}"
    # as those were recorded that did not say it
    without = {key: value for key, value in source.counts.items() if key != "unit"}
    assert describe_counts(without)[0] == f"source: {len(source)} images of {number} patients"


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("nih_chestxray14", "nih_chestxray14"),
        ("mimic_cxr", "chexpert"),
    ],
)
def test_findings_beside_the_presets_are_told_with_a_preset_that_has_them(opened, name, preset):
    counts = opened(name).counts
    told = f"; the preset {preset} has findings that this one lacks"
    for one in (counts, totals(counts)):
        [line] = [line for line in describe_counts(one) if line.startswith("  missing finding: ")]
        assert line.endswith(told)


def test_nothing_is_said_of_others_where_the_preset_has_all(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path)
    folder = DataSetFolder(directory=tmp_path, dataset_name="nih_chestxray14")
    counts = open_images(folder, get_preset("nih_chestxray14"), 32, lambda _: None).counts
    assert not any("has findings that" in line for line in describe_counts(counts))


def test_what_is_never_told_is_said_before_an_image_is_read(tmp_path, caplog):
    MINIATURES["ham10000"](tmp_path)
    read = []
    how = DataSetFolder(directory=tmp_path, dataset_name="ham10000")
    source = open_source(how, get_preset("dermatology"), 32, check=lambda _: read.append(list(caplog.messages)))
    assert read == [["ham10000: skin_tone of dermatology not told of any image, and left out"]]
    assert "  not told of any image: skin_tone" in describe_counts(source.counts)


def test_a_world_plants_scanners_on_any_radiographs_and_says_who_may_see_them(tmp_path):
    chexpert(tmp_path, patients=60)
    how = DataSetFolder(directory=tmp_path, dataset_name="chexpert")
    world = open_world("acquisition", "train", directory=how, resolution=32)
    assert world.access == "credentialed"
    assert world.images.shape[1:] == (1, 32, 32)


@pytest.mark.parametrize("name", ["nih_chestxray14", "rsna_pneumonia", "mimic_cxr"])
def test_what_is_said_of_access_is_never_weakened(tmp_path, name):
    MINIATURES[name](tmp_path)
    source = open_source(tmp_path, get_preset("chest_xray"), 32, dataset_name=name)
    for said in ("open", "unknown", "credentialed"):
        assert access_to(source, said) == strictest(said, READERS[name].access)
    assert access_to(object(), "open") == "open"


@pytest.mark.parametrize("name", MINIATURES)
def test_whichever_column_a_table_lacks_is_named_or_not_needed(tmp_path, name):
    MINIATURES[name](tmp_path)
    for table in sorted(one for one in tmp_path.rglob("*.csv*") if one.is_file()):
        stored = table.read_bytes()
        text = (gzip.decompress(stored) if table.suffix == ".gz" else stored).decode()
        rows = list(csv.reader(io.StringIO(text)))
        for place in range(len(rows[0])):
            lacking = io.StringIO()
            csv.writer(lacking).writerows([*row[:place], *row[place + 1 :]] for row in rows)
            data = lacking.getvalue().encode()
            table.write_bytes(gzip.compress(data) if table.suffix == ".gz" else data)
            # one sentence, and never a KeyError
            with suppress(InputError):
                READERS[name](tmp_path, preset_of(name)).table()
        table.write_bytes(stored)


def listed(root: Path, name: str) -> list[str]:
    """The names of the images of a data set, none of which is opened."""
    return [row["file_name"] for _, row in READERS[name](root, preset_of(name)).table().rows]


@pytest.mark.parametrize("name", ["nih_chestxray14", "padchest", "ham10000", "utkface"])
def test_of_two_images_of_one_name_none_is_guessed(tmp_path, name):
    """A mask beside a radiograph would be trained on in its place; a copy of it is the image itself."""
    MINIATURES[name](tmp_path)
    before = listed(tmp_path, name)
    own = tmp_path / before[0]
    other = tmp_path / "! others" / own.name
    other.parent.mkdir()
    shutil.copy(own, other)
    assert listed(tmp_path, name)[1:] == before[1:]
    draw(other, 99)
    with pytest.raises(InputError, match=f"'! others/{own.name}' and '{before[0]}' differ, .*; move all but the data"):
        listed(tmp_path, name)


def test_a_file_called_as_the_table_says_is_the_image_whatever_lies_beside_it(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path)
    before = listed(tmp_path, "nih_chestxray14")
    for file in before:
        draw((tmp_path / file).with_suffix(".bmp"), 99)
    assert listed(tmp_path, "nih_chestxray14") == before


@pytest.mark.parametrize("name", MINIATURES)
def test_whatever_stands_in_a_cell_is_read_or_refused_in_one_short_sentence(tmp_path, name):
    """A cell that is a path, a pattern or no name of a file, in every column of every table."""
    MINIATURES[name](tmp_path)
    tables = [one for one in tmp_path.rglob("*") if one.name.endswith((".csv", ".csv.gz", "HAM10000_metadata"))]
    for table in tables:
        stored = table.read_bytes()
        packed = table.suffix == ".gz"
        header, *rows = csv.reader(io.StringIO((gzip.decompress(stored) if packed else stored).decode()))
        for place in range(len(header)):
            for cell in ("", "*", "..", "/etc/passwd", "a\nb", "0" * 300, "x" * 5000):
                text = io.StringIO()
                changed = [cell if column == place else own for column, own in enumerate(rows[0])]
                csv.writer(text).writerows([header, changed, *rows[1:]])
                data = text.getvalue().encode()
                table.write_bytes(gzip.compress(data, 1) if packed else data)
                sentence = ""
                try:
                    listed(tmp_path, name)
                except InputError as error:
                    sentence = str(error)
                assert sentence == "" or (sentence.isprintable() and len(sentence) < 1000)
        table.write_bytes(stored)
