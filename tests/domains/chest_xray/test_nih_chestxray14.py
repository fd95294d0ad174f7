"""The label table: every row kept, every missing value counted by reason."""

import gzip

import pytest

from synthfair_hf.domains.chest_xray.nih_chestxray14 import read_table
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
COVARIATES = get_preset("chest_xray").covariates


def write(path, rows):
    with gzip.open(path, "wt") as file:
        file.write(HEADER + "".join(f"{index}.png,{row}\n" for index, row in enumerate(rows)))
    return path


def test_policy_is_explicit_and_counted(tmp_path):
    rows = [
        "No Finding,0,1,57,M,PA",
        "Effusion|Pneumonia,0,2,61,F,AP",
        "Cardiomegaly,0,3,414,M,PA",
        "Mass|Nodule,0,4,-3,F,AP",
        "Pneumonia,0,5,058Y,M,AP",
    ]
    table, counts = read_table(write(tmp_path / "labels.csv.gz", rows), COVARIATES)
    assert table == {
        "age": [57.0, 61.0, None, None, 58.0],
        "sex": ["male", "female", "male", "female", "male"],
        "finding": ["no_finding", "pneumonia", None, None, "pneumonia"],
        "view": ["PA", "AP", "PA", "AP", "AP"],
    }
    assert counts == {
        "rows": 5,
        "missing": {
            "age": {"outside 0-100 years": 2},
            "finding": {"findings outside the schema": 2},
        },
    }


def test_a_column_that_is_not_read_is_refused(tmp_path):
    rows = [f"No Finding,0,{index},57,{sex},PA" for index, sex in enumerate(["M", "F", "Mann", "Frau"])]
    with pytest.raises(InputError, match=r"column 'sex': 2 of 4 cells \(50\.0%\) can't be read, .* allowed: male, fem"):
        read_table(write(tmp_path / "labels.csv.gz", rows), COVARIATES)
    rows = [
        f"{finding},0,1,57,{sex},{view}" for finding in ("Mass", "Pneumonia") for sex in "MF" for view in ("PA", "AP")
    ]
    with pytest.raises(InputError, match=r"column 'finding': no image of level 'no_finding' \(read: pneumonia 4"):
        read_table(write(tmp_path / "labels.csv.gz", rows), COVARIATES)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("a,b\n1,2\n")
    with pytest.raises(InputError, match="not the ChestX-ray14 label file"):
        read_table(path, COVARIATES)
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "absent.csv.gz", COVARIATES)


def test_a_damaged_file_is_refused_with_its_place(tmp_path):
    path = write(tmp_path / "labels.csv.gz", [f"No Finding,0,{index},57,M,PA" for index in range(200)])
    whole = path.read_bytes()
    corrupt = bytearray(whole)
    corrupt[20:40] = bytes(20)
    for damaged in (b"a,b\n", whole[:-9], whole[: len(whole) // 2], bytes(corrupt)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"labels\.csv\.gz: not a readable table"):
            read_table(path, COVARIATES)
    with pytest.raises(InputError, match=r"labels\.csv\.gz:3: 4 cells, but the header has 7"):
        read_table(write(path, ["No Finding,0,1,57,M,PA", "No Finding,0,1"]), COVARIATES)
    with pytest.raises(InputError, match="no rows"):
        read_table(write(path, []), COVARIATES)
