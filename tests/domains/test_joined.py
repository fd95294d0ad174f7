"""Several sources as one: the same in any order, a patient in one split, and nothing that a source does not tell."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import MINIATURES, draw, write

from synthfair_hf.cli import main
from synthfair_hf.cli.parser import parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.domains.imagefolder import Examined
from synthfair_hf.domains.joined import JoinedFolders, JoinedSource
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.source import access_to, describe_counts, totals
from synthfair_hf.errors import InputError
from synthfair_hf.schema import SPLITS
from synthfair_hf.views.view import curated_views

PRESET = get_preset("chest_xray")


def write_source(root: Path, first: int, patients: Sequence[str], **columns: Sequence[str]) -> Path:
    """One radiograph of each patient, drawn from the seeds from `first` on."""
    own = {"race": ("White", "Black", "Asian"), **columns}
    rows: list[dict[str, Any]] = []
    for n, patient in enumerate(patients):
        draw(root / f"{n}.png", first + n)
        row: dict[str, Any] = {"file_name": f"{n}.png", "patient_id": patient, "age": 30 + n}
        row |= {
            "sex": "MF"[n % 2],
            "view": ("PA", "AP")[n // 2 % 2],
            "finding": ("No Finding", "Pneumonia")[n // 3 % 2],
        }
        rows.append({**row, **{name: values[n % len(values)] for name, values in own.items() if values}})
    write(root / "metadata.csv", rows)
    return root


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


def folders(*paths: Path, shared: Sequence[str] = ()) -> JoinedFolders:
    return JoinedFolders.of([DataSetFolder(directory=path) for path in paths], shared_patients=shared)


@pytest.fixture(scope="module")
def west(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("sources") / "west", 0, names("p", 24))


@pytest.fixture(scope="module")
def east(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without race, and with patients that bear the names of the others."""
    return write_source(tmp_path_factory.mktemp("sources") / "east", 100, names("p", 18), race=())


def test_one_source_is_that_source(west):
    alone, joined = open_source(west, PRESET, 16), open_source(folders(west), PRESET, 16)
    assert (joined.table, joined.patient_ids, joined.splits) == (alone.table, alone.patient_ids, alone.splits)
    assert (joined.fingerprint, joined.covariates) == (alone.fingerprint, alone.covariates)
    # in a domain of several sites it has the name of its own beside it
    sited = open_source(folders(west), PRESET.with_site(("west", "east")), 16)
    assert sited.table == {**alone.table, "site": ["west"] * len(alone)}
    assert (sited.patient_ids, sited.splits) == (alone.patient_ids, alone.splits)
    for row in (0, 7):
        assert np.array_equal(sited.image(row, 16), alone.image(row, 16))
        image, covariates = alone.draw(row, 16, np.random.default_rng(row))
        again, known = sited.draw(row, 16, np.random.default_rng(row))
        assert np.array_equal(image, again)
        assert known == {**covariates, "site": "west"}


def test_files_and_the_part_of_the_patients_are_told_of_several_as_of_one(west, east):
    assert open_source(folders(west), PRESET, 16).file_names[0] == "0.png"
    joined = open_source(folders(west, east), PRESET, 16)
    assert joined.file_names == [*(f"east/{n}.png" for n in range(18)), *(f"west/{n}.png" for n in range(24))]
    assert "part" not in joined.counts
    for other, told in (("judge", "judge"), ("all", None), ("generator", None)):
        given = [
            DataSetFolder(directory=path, patients=part)
            for path, part in zip((west, east), ("judge", other), strict=True)
        ]
        assert open_source(JoinedFolders.of(given), PRESET, 16).counts.get("part") == told


def test_order_changes_nothing(west, east):
    one, other = open_source(folders(west, east), PRESET, 16), open_source(folders(east, west), PRESET, 16)
    assert (one.table, one.patient_ids, one.splits) == (other.table, other.patient_ids, other.splits)
    assert (one.fingerprint, one.covariates, one.counts) == (other.fingerprint, other.covariates, other.counts)


def test_what_a_source_does_not_tell_is_missing_there_and_said(west, east):
    joined = open_source(folders(west, east), PRESET, 16)
    alone = {"west": open_source(west, PRESET, 16), "east": open_source(east, PRESET, 16)}
    sites, race = joined.table["site"], joined.table["race"]
    assert [value for site, value in zip(sites, race, strict=True) if site == "west"] == alone["west"].table["race"]
    assert {value for site, value in zip(sites, race, strict=True) if site == "east"} == {None}
    assert joined.draw(sites.index("east"), 16, np.random.default_rng(0))[1]["race"] is None
    assert {one.name: one.unobserved_at for one in joined.covariates.walk() if one.unobserved_at} == {"race": ("east",)}
    # splits are those that each has alone
    for site, source in alone.items():
        assert [split for place, split in zip(sites, joined.splits, strict=True) if place == site] == source.splits
    told = "\n".join(describe_counts(joined.counts))
    assert "  east: 18 images of 18 patients\n  west: 24 images of 24 patients" in told
    assert "missing race: 18 (east does not tell it 18)" in told
    assert totals(joined.counts)["sources"]["west"] == totals(alone["west"].counts)


def test_patients_are_told_apart_unless_they_are_the_same(west, east):
    apart = open_source(folders(west, east), PRESET, 16)
    assert apart.counts["patients"] == 42
    same = open_source(folders(west, east, shared=("west", "east")), PRESET, 16)
    assert same.counts["patients"] == 24
    assert same.counts["patients of several sources"] == 18
    assert apart.fingerprint != same.fingerprint
    # who is a man in one row and a woman in another is counted, and left as it is
    assert "contradictory" not in apart.counts


@pytest.mark.parametrize(("spelt", "other"), [("p", "P"), ("7", "007"), ("Jose\u0301 ", "Jos\u00e9 ")])
def test_a_patient_of_two_sources_who_is_spelt_in_two_ways_is_refused(tmp_path, spelt, other):
    """Else the same people would be two, and one of them could be trained on and tested."""
    write_source(tmp_path / "a", 0, names(spelt, 12))
    write_source(tmp_path / "b", 100, names(other, 12))
    with pytest.raises(InputError, match=r"b and a have the same patients, and patient '.*0' of b is '.*0' of a but"):
        open_source(folders(tmp_path / "a", tmp_path / "b", shared=("a", "b")), PRESET, 16)
    assert open_source(folders(tmp_path / "a", tmp_path / "b"), PRESET, 16).counts["patients"] == 24


def test_a_patient_of_several_sources_is_in_the_split_held_out_most(west):
    source = open_source(west, PRESET, 16)

    class Other:
        """The same patients, all to be trained on."""

        def __init__(self, split: str) -> None:
            self.__dict__ |= {**vars(source), "splits": [split] * len(source), "image_sha256": [""] * len(source)}

        def __len__(self) -> int:
            return len(source)

    for split in SPLITS:
        joined = JoinedSource({"a": source, "b": Other(split)}, PRESET, ("a", "b"))
        order = list(SPLITS)
        expected = [max(one, split, key=order.index) for one in source.splits]
        assert joined.splits == expected * 2
        assert joined.counts["patients of several splits"] == sum(one != split for one in source.splits)


def test_an_image_of_two_sources_is_one_and_so_are_its_patients(tmp_path):
    write_source(tmp_path / "a", 0, names("p", 12))
    write_source(tmp_path / "b", 9, ["q", "r", "s", "q", "t", "r", *names("u", 6)])
    joined = open_source(folders(tmp_path / "a", tmp_path / "b"), PRESET, 16)
    # images 9, 10 and 11 of a are 0, 1 and 2 of b, whose patients q and r have others
    assert len(joined) == 12 + 9
    assert joined.counts["left out"] == {"in b, of another source": 3}
    of = dict(zip(zip(joined.table["site"], joined.table["age"], strict=True), joined.patient_ids, strict=True))
    assert of["a", 39] == of["b", 33]
    assert of["a", 40] == of["b", 35]
    by_patient: dict[str, set[str]] = {}
    for patient, split in zip(joined.patient_ids, joined.splits, strict=True):
        by_patient.setdefault(patient, set()).add(split)
    assert all(len(splits) == 1 for splits in by_patient.values())
    assert joined.counts["patients of several sources"] == 3


def test_several_values_of_what_a_person_has_one_of_are_counted(tmp_path):
    alone = open_source(write_source(tmp_path / "a", 0, ["p", "p", "q", "q"] * 3, race=("White",)), PRESET, 16)
    assert alone.counts["contradictory"] == {"sex": 2}
    assert "  contradictory sex: 2 patients have several" in describe_counts(alone.counts)
    write_source(tmp_path / "b", 20, ["p", "r"] * 6, race=("Black", "Asian"))
    joined = open_source(folders(tmp_path / "a", tmp_path / "b", shared=("a", "b")), PRESET, 16)
    assert joined.counts["contradictory"] == {"sex": 2, "race": 1}


def test_sets_that_show_the_same_people_know_it(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path / "nih")
    MINIATURES["rsna_pneumonia"](tmp_path / "rsna")
    given = [
        DataSetFolder(directory=tmp_path / folder, dataset_name=name)
        for folder, name in (("nih", "nih_chestxray14"), ("rsna", "rsna_pneumonia"))
    ]
    both = JoinedFolders.of(given)
    with pytest.raises(InputError, match="rsna_pneumonia shows patients of nih_chestxray14 and does not name them"):
        open_source(both, PRESET, 16)
    # 4 is in the test part of the one, and no image of it in that of the other
    origins = [{"subset_img_id": f"{n:08x}-0000", "img_id": f"{4 + n % 2:08}_{7 + n:03}.png"} for n in range(6)]
    path = tmp_path / "rsna" / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(str(origins).replace("'", '"'))
    joined = open_source(both, PRESET, 16)
    assert joined.access == "unknown"
    assert joined.counts["patients of several sources"] == 2
    rows = [row for row, patient in enumerate(joined.patient_ids) if patient == "nih_chestxray14:4"]
    assert {joined.table["site"][row] for row in rows} == {"nih_chestxray14", "rsna_pneumonia"}
    assert {joined.splits[row] for row in rows} == {"test"}
    path.write_text('{"img_id": 1}')
    with pytest.raises(InputError, match=r"mappings_2018\.json: not a list of images"):
        open_source(both, PRESET, 16)


def test_credentialed_beside_open_is_credentialed(west, tmp_path):
    MINIATURES["chexpert"](tmp_path / "chexpert")
    both = JoinedFolders.of(
        [DataSetFolder(directory=west), DataSetFolder(directory=tmp_path / "chexpert", dataset_name="chexpert")]
    )
    assert access_to(open_source(both, PRESET, 16), "open") == "credentialed"


def test_every_table_is_checked_before_an_image_is_read(west, tmp_path, monkeypatch):
    write_source(tmp_path / "z", 50, names("p", 6), sex=("robot",))
    read: list[Path] = []
    monkeypatch.setattr(
        "synthfair_hf.domains.imagefolder._examine", lambda path, side: read.append(path) or Examined("", "")
    )
    with pytest.raises(InputError, match="column 'sex'"):
        open_source(folders(west, tmp_path / "z"), PRESET, 16)
    both = folders(west, write_source(tmp_path / "y", 50, names("p", 6)))

    def refuse(source: Any) -> None:
        raise InputError(f"seen {source.counts['sources']['west']['images']}")

    with pytest.raises(InputError, match="seen 24"):
        open_source(both, PRESET, 16, check=refuse)
    assert not read


def test_a_site_causes_what_is_not_the_persons_own():
    sited = PRESET.with_site(("b", "a"))
    site = sited.covariates.site
    assert site is not None
    assert (site.name, site.levels) == ("site", ("a", "b"))
    assert {effect for cause, effect in sited.edges if cause == "site"} == {"view", "scanner"}
    assert not [cause for cause, effect in sited.edges if effect == "site"]
    listed = {view.name for view in curated_views(sited.model_copy(update={"factors": ("finding", "site")}))}
    assert {"site_imbalanced_90_10", "finding_site_correlated_90_10"} <= listed
    assert sited.with_site(("a",)) is sited
    assert PRESET.with_site(("a",)) is PRESET
    # there a site is a place of the body
    assert get_preset("dermatology").with_site(("a", "b")).covariates.site.name == "data_set"
    with pytest.raises(InputError, match="c are not all sites of chest_xray, whose site has the levels a, b"):
        sited.with_site(("a", "c"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"names": ["a", "a"]}, "are both called a; give each a name of its own, as NAME=DIR"),
        ({"names": ["a", "unknown"]}, "'unknown' is not the name of a site"),
        ({"names": ["a", "b c"]}, "'b c' is not the name of a site; give letters, digits"),
        ({"names": ["a", "b" * 5000]}, r"'b{119}\.\.\. is not the name of a site; give .*, at most 80, as in NAME="),
        ({"names": ["north", "North"]}, "north and North differ by case alone, and names of files may not tell them"),
        ({"shared_patients": ["west", "north"]}, "shared_patients: 'north' is unknown; allowed: east, west"),
        ({"shared_patients": ["west"]}, "shared_patients: west alone shares none"),
    ],
)
def test_names_that_no_site_can_have_are_told(west, east, given, sentence):
    with pytest.raises(InputError, match=sentence):
        JoinedFolders.of([DataSetFolder(directory=west), DataSetFolder(directory=east)], **given)


def test_a_column_that_one_source_has_is_mapped_for_it_alone_as_the_message_says(tmp_path, capsys):
    west, east = (write_source(tmp_path / name, n, names(name, 18)) for n, name in ((0, "west"), (100, "east")))
    path = west / "metadata.csv"
    path.write_text(path.read_text().replace("file_name", "photo", 1))
    words = ["--source", str(west), str(east), "--image_column", "photo", "--output_dir", str(tmp_path / "out")]
    assert main(["autoencoder", *words]) == 2
    told = capsys.readouterr().err
    found = re.search(r"has no column 'photo'; for east alone give --column (\S+)=COLUMN;", told)
    assert found, told
    folder = parse(VERBS["autoencoder"], [*words, "--column", f"{found[1]}=file_name"]).source_dir
    source = open_source(folder, PRESET, 32)
    assert source.counts["sources"].keys() == {"east", "west"}


def test_what_is_no_folder_of_images_is_not_joined(west, tmp_path):
    with pytest.raises(InputError, match="is read as morphomnist, which is not joined"):
        open_source(folders(west, tmp_path), get_preset("morphomnist"), 32)
    with pytest.raises(InputError, match="dataset_name: chexpert is for one folder"):
        open_source(folders(west, tmp_path), PRESET, 16, dataset_name="chexpert")


def test_a_source_without_an_image_of_its_own_is_refused(west, tmp_path):
    (tmp_path / "x").symlink_to(west)
    with pytest.raises(InputError, match=r"source_dir: x has no image of its own: .* a source before it \(west\)"):
        open_source(folders(west, tmp_path / "x"), PRESET, 16)


def test_columns_that_are_not_read_are_told_of_their_source(west, tmp_path):
    other = write_source(tmp_path / "north", 200, names("n", 18), ward=("A", "B"))
    found = open_source(folders(west, other), PRESET, 32).counts
    assert found["columns not read"] == ["ward of north"]
    assert sum("ward of north" in line for line in describe_counts(found)) == 1


def test_of_a_published_data_set_no_column_is_told(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path)
    source = open_source(DataSetFolder(directory=tmp_path, dataset_name="nih_chestxray14"), PRESET, 32)
    assert "columns not read" not in source.counts
