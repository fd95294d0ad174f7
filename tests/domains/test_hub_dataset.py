"""A data set of the `datasets` library is read by its columns, as a folder of the same images is."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import open_images, open_source
from synthfair_hf.errors import InputError

PRESET = get_preset("chest_xray")
COLUMNS = {"age": "PatientAge", "sex": "Gender", "patient_id": "PatientIDs"}


@pytest.fixture
def saved(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images of `folder` as `save_to_disk` stores them, in two splits, under columns of other names."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines = [line.split(",") for line in (folder / "metadata.csv").read_text().splitlines()[1:]]
    features = datasets.Features(
        {
            **{
                "picture": datasets.Image(),
                "PatientIDs": datasets.Value("string"),
                "PatientAge": datasets.Value("int64"),
            },
            **{"Gender": datasets.ClassLabel(names=["F", "M"]), "view": datasets.Value("string")},
            "finding": datasets.Value("string"),
        }
    )
    rows = [
        {
            **{"picture": {"bytes": (folder / file).read_bytes(), "path": file}, "PatientIDs": patient},
            **{"PatientAge": int(age), "Gender": sex, "view": view, "finding": finding},
        }
        for file, patient, age, sex, view, finding in lines
    ]
    parts = {"train": rows[20:], "test": rows[:20]}
    found = datasets.DatasetDict({name: datasets.Dataset.from_list(own, features) for name, own in parts.items()})
    found.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_it_is_read_as_a_folder_of_the_same_images_is(saved, folder):
    plain = ImageFolder(folder, PRESET, 32)
    how = DataSetFolder(directory=saved, dataset_name="datasets", columns=COLUMNS)
    for _ in range(2):
        source = open_images(how, PRESET, 32, lambda _: None)
        assert (source.table, source.patient_ids, source.splits) == (plain.table, plain.patient_ids, plain.splits)
        np.testing.assert_array_equal(source.image(7, 32), plain.image(7, 32))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"columns": {}}, "no column 'patient_id'; give that name to 'PatientIDs', or columns="),
        ({"columns": {**COLUMNS, "age": "Alter"}}, "columns: .* has no column 'Alter'"),
        ({"columns": COLUMNS, "image_column": "view"}, "image_column: 'view' is unknown; allowed: picture"),
    ],
)
def test_columns_that_are_not_there_are_refused(saved, how, told):
    with pytest.raises(InputError, match=told):
        open_source(DataSetFolder(directory=saved, dataset_name="datasets", **how), PRESET, 32)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"source_dir: .*nothing is no data set that `datasets` reads \("):
        open_source(DataSetFolder(directory=tmp_path / "nothing", dataset_name="datasets"), PRESET, 32)


def test_an_image_that_is_none_is_quarantined(saved, tmp_path):
    data = datasets.load_from_disk(saved)["train"].cast_column("picture", datasets.Image(decode=False))
    rows = data.to_list()
    rows[0]["picture"] = {"bytes": b"no image", "path": "x.png"}
    features = datasets.Features({**data.features, "picture": datasets.Image()})
    datasets.Dataset.from_list(rows, features).save_to_disk(tmp_path / "damaged")
    how = DataSetFolder(directory=tmp_path / "damaged", dataset_name="datasets", columns=COLUMNS)
    assert list(open_images(how, PRESET, 32, lambda _: None).counts["quarantined"]) == ["00000000.png"]


@pytest.fixture
def twins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], list[Path]]:
    """`twins(column, cells)` puts them in the place of the finding, in a folder and in a data set of its images."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(column: str, cells: list[str]) -> list[Path]:
        path = folder / "metadata.csv"
        head, *rows = path.read_text().splitlines()
        names = [*head.split(",")[:-1], column]
        rows = [[*row.split(",")[:-1], cells[n % len(cells)]] for n, row in enumerate(rows)]
        path.write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
        columns = {name: [row[place] for row in rows] for place, name in enumerate(names) if place}
        columns["image"] = [str(folder / file) for file, *_ in rows]
        datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image()).save_to_disk(tmp_path / "same")
        return [folder, tmp_path / "same"]

    return write


@pytest.mark.parametrize(
    ("column", "cells", "told"),
    [
        ("fnding", ["No Finding", "Pneumonia"], "no column 'finding', but 'fnding'; give that column its name, or col"),
        (
            "signs",
            ["Edema|Effusion", "No Finding", "Effusion"],
            "no column 'finding', but 'signs', which joins several",
        ),
    ],
)
def test_a_missing_finding_is_told_as_of_a_folder(twins, column, cells, told):
    said = []
    for place, name in zip(twins(column, cells), ("imagefolder", "datasets"), strict=True):
        with pytest.raises(InputError) as error:
            open_source(DataSetFolder(directory=place, dataset_name=name), PRESET, 32)
        said.append(str(error.value).split(":1: ")[1].split(", or the preset of")[0].split(", or a preset file")[0])
    assert said[0] == said[1]
    assert said[0].startswith(told)


def test_findings_of_one_column_are_taken_apart_as_of_a_folder(twins):
    preset = get_preset("nih_chestxray14")
    places = twins("findings", ["Edema|Effusion", "none", "Effusion"])
    how = [
        DataSetFolder(directory=one, dataset_name=name)
        for one, name in zip(places, ("imagefolder", "datasets"), strict=True)
    ]
    plain, same = (open_images(one, preset, 32, lambda _: None) for one in how)
    assert same.table == plain.table
    assert set(same.table["edema"]) == {"present", "absent"}
