"""Several findings: each label of a data set is read as a covariate that is present, absent, or missing."""

import csv
import gzip
import re
import shlex
from collections import Counter
from itertools import product
from typing import Any

import pytest
from miniatures import MINIATURES, draw, write

from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray import chexpert, nih_chestxray14
from synthfair_hf.domains.chest_xray.nih_chestxray14 import read_table
from synthfair_hf.domains.findings import choose_finding, findings_of, is_label, labels_of, state_in, state_of
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.preset_file import read_preset
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.domains.readers import NO_FINDING, Table
from synthfair_hf.domains.registry import READERS
from synthfair_hf.domains.source import describe_counts
from synthfair_hf.errors import InputError
from synthfair_hf.schema import Variable

CHEXPERT, NIH = PRESETS["chexpert"], PRESETS["nih_chestxray14"]
LABELS = {"chexpert": chexpert.LABELS, "nih_chestxray14": nih_chestxray14.LABELS}
SEVERAL = pytest.mark.parametrize("preset", [CHEXPERT, NIH], ids=lambda preset: preset.name)


@SEVERAL
def test_each_label_of_the_set_but_no_finding_is_one_covariate(preset):
    labels = [variable for variable in preset.covariates.walk() if is_label(variable)]
    named = [name for variable in labels for name in labels_of(variable, LABELS[preset.name])]
    assert Counter(named) == Counter(set(LABELS[preset.name]) - {NO_FINDING})
    assert all(variable.levels == ("absent", "present") and variable.optional for variable in labels)
    assert {preset.contrasts[variable.name].first for variable in labels} == {"present"}
    assert {one.name for one in labels} - set(findings_of(preset)) <= {"support_devices"}


def test_a_finding_has_the_names_that_data_sets_give_it():
    for preset in (CHEXPERT, NIH):
        effusion = preset.covariates["effusion"]
        for name in ("Pleural Effusion", "pleural effusion", "Effusion", "EFFUSION", "present", "1", "1.0"):
            assert effusion.parse(name) == ("present", None)
        assert [effusion.parse(text)[0] for text in ("0", "0.0", "absent", "", "-1", "Edema")] == [
            *("absent", "absent", "absent", None, None, None)
        ]


def test_one_label_that_is_present_is_enough_and_all_must_be_absent():
    for states in product(("present", "absent", ""), repeat=3):
        expected = "present" if "present" in states else "absent" if set(states) == {"absent"} else ""
        assert state_of(dict(enumerate(states))) == expected


def columns_of(table: Table, *names: str) -> dict[str, str]:
    """Cells of each column as letters: Present, Absent, - where missing, ! where they contradict each other."""
    letters = {"present": "P", "absent": "A", "": "-"}
    return {name: "".join(letters.get(row[name], "!") for _, row in table.rows) for name in names}


READ: dict[str, tuple[str, dict[str, str]]] = {
    "mimic_cxr": (
        "chexpert",
        {"edema": "APAAPA", "pneumonia": "APAAP-", "fracture": "AAPAAP", "support_devices": "PAAPAA"},
    ),
    "chexpert": ("chexpert", {"pneumonia": "AP-PAPAP", "support_devices": "PAAAPAPA"}),
    "brax": ("chexpert", {"pneumonia": "APAP"}),
    "padchest": ("nih_chestxray14", {"pneumonia": "APAPAA", "effusion": "APAPAA"}),
    "vindr_cxr": ("nih_chestxray14", {"pneumonia": "APAPA"}),
    "nih_chestxray14": (
        "nih_chestxray14",
        {"infiltration": "APAA" * 6, "pneumonia": "APAA" * 6, "cardiomegaly": "AAPA" * 6},
    ),
}
"""By data set, a preset and the state of each of its findings in every image that is used."""


@pytest.mark.parametrize("name", READ)
def test_findings_are_what_the_data_set_says_of_them(tmp_path, name):
    MINIATURES[name](tmp_path)
    preset, expected = READ[name]
    table = READERS[name](tmp_path, PRESETS[preset]).table()
    assert columns_of(table, *expected) == expected
    read = {finding for finding in findings_of(PRESETS[preset]) if finding in table.rows[0][1]}
    assert read | {"support_devices"} >= set(expected) >= read
    # and of the others it is told why not
    assert read | set(table.not_read) >= set(findings_of(PRESETS[preset]))


@pytest.mark.parametrize(("uncertain", "third"), [("missing", "-"), ("positive", "P"), ("negative", "A")])
def test_the_policy_for_uncertain_labels_holds_for_each_finding(tmp_path, uncertain, third):
    MINIATURES["chexpert"](tmp_path)
    table = READERS["chexpert"](tmp_path, CHEXPERT, uncertain).table()
    assert columns_of(table, "pneumonia", "support_devices") == {
        "pneumonia": f"AP{third}PAPAP",
        "support_devices": "PAAAPAPA",
    }


def test_a_study_without_labels_is_missing_and_not_absent(tmp_path):
    MINIATURES["mimic_cxr"](tmp_path)
    labels = tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz"
    lines = gzip.decompress(labels.read_bytes()).decode().splitlines(keepends=True)
    labels.write_bytes(gzip.compress("".join(lines[:1] + lines[2:]).encode()))
    assert columns_of(READERS["mimic_cxr"](tmp_path, CHEXPERT).table(), "edema", "fracture") == {
        "edema": "-PAAPA",
        "fracture": "-APAAP",
    }


def test_no_finding_means_that_all_are_absent_and_a_contradiction_is_counted(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path)
    path = tmp_path / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace("No Finding", "No Finding|Cardiomegaly", 1))
    table = READERS["nih_chestxray14"](tmp_path, NIH).table()
    assert columns_of(table, "cardiomegaly", "pneumonia") == {
        "cardiomegaly": "!" + ("AAPA" * 6)[1:],
        "pneumonia": "APAA" * 6,
    }
    source = ImageFolder(tmp_path, NIH, 32, table=table)
    assert source.table["cardiomegaly"][0] is None
    assert source.counts["missing"]["cardiomegaly"] == {"level 'Cardiomegaly beside No Finding' outside the schema": 1}
    assert "  not read: hernia (no image of present in train)" in describe_counts(source.counts)


def test_support_devices_may_stand_beside_no_finding(tmp_path):
    MINIATURES["mimic_cxr"](tmp_path)
    table = READERS["mimic_cxr"](tmp_path, CHEXPERT).table()
    first = table.rows[0][1]
    assert (first["no_finding"], first["support_devices"], first["edema"]) == ("present", "present", "absent")


def test_images_that_were_stored_anew_are_read_as_the_set_itself(tmp_path):
    MINIATURES["nih_chestxray14"](tmp_path / "set")
    own = READERS["nih_chestxray14"](tmp_path / "set", NIH).table()
    with (tmp_path / "set" / "Data_Entry_2017.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:-1]
    anew = []
    for place, row in enumerate(rows):
        draw(tmp_path / "anew" / f"{place}.png", place)
        cells = {"age": row["Patient Age"], "sex": row["Patient Gender"], "view": row["View Position"]}
        anew.append({"file_name": f"{place}.png", "patient_id": row["Patient ID"], **cells})
        anew[-1]["findings"] = row["Finding Labels"]
    write(tmp_path / "anew" / "metadata.csv", anew)
    again = READERS["nih_chestxray14"](tmp_path / "anew", NIH).table()
    assert [{**row, "file_name": ""} for _, row in again.rows] == [{**row, "file_name": ""} for _, row in own.rows]


def test_the_label_table_alone_has_every_finding(tmp_path):
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    lists = [*("|".join(LABELS["nih_chestxray14"][place : place + 3]) for place in range(1, 15)), "No Finding"]
    lists.append("No Finding|Mass")
    rows = [f"{n}.png,{found},0,{n},57,{'MF'[n % 2]},{('PA', 'AP')[n % 2]}" for n, found in enumerate(lists)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    table, counts = read_table(path, NIH.covariates)
    assert set(table) == set(NIH.covariates.names)
    for finding in findings_of(NIH):
        label = next(iter(labels_of(NIH.covariates[finding], LABELS["nih_chestxray14"])))
        expected: list[Any] = ["present" if label in found.split("|") else "absent" for found in lists]
        if finding == "mass":
            expected[-1] = None
        assert table[finding] == expected
    assert counts == {"rows": 16, "missing": {"mass": {"beside No Finding": 1}}}
    one, _ = read_table(path, PRESETS["chest_xray"].covariates)
    assert Counter(one["finding"]) == {None: 11, "pneumonia": 3, "no_finding": 2}


def test_a_folder_of_ones_own_has_a_column_for_each_finding_that_it_knows(folder):
    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    cells = (("1", "0", ""), ("0", "0", ""), ("", "0", ""))
    rows = [",".join([row, *cells[n % 3]]) for n, row in enumerate(rows)]
    path.write_text("\n".join([f"{head},Effusion,Hernia,mass", *rows]) + "\n")
    source = ImageFolder(folder, NIH, 32)
    assert source.table["effusion"][:3] == ["present", "absent", None]
    assert source.counts["missing"] == {"effusion": {"empty": 20}}
    untold = [
        one.name for one in NIH.covariates.walk() if one.optional and one.name not in ("effusion", "mass", "hernia")
    ]
    assert source.counts["not read"] == {
        **dict.fromkeys(untold, "not told"),
        "mass": "no image of absent, present in train",
        "hernia": "no image of present in train",
    }
    assert f"  not told of any image: {', '.join(untold)}" in describe_counts(source.counts)
    assert source.covariates.names == ("age", "sex", "effusion", "view")


def test_a_domain_keeps_the_findings_that_are_known_and_needs_one():
    few = CHEXPERT.restrict(("age", "sex", "view", "effusion"))
    assert few.edges == (*((one, "effusion") for one in ("age", "sex")), ("age", "view"), ("effusion", "view"))
    assert (few.factors, list(few.contrasts)) == (CHEXPERT.factors, ["age", "sex", "effusion", "view"])
    with pytest.raises(InputError, match=r"chexpert: none of its findings \(enlarged_.*\) among age, sex, view; give"):
        CHEXPERT.restrict(("age", "sex", "view"))


def test_the_finding_is_the_one_named_the_only_one_or_the_only_one_crossed():
    assert choose_finding(PRESETS["chest_xray"]) == "finding"
    assert choose_finding(PRESETS["brain_mri"]) == "diagnosis"
    assert choose_finding(NIH, "edema", ["effusion"]) == "edema"
    assert choose_finding(NIH, None, ["sex", "mass"]) == "mass"
    with pytest.raises(InputError, match="finding: not given, and families cross mass and edema; name one of mass, e"):
        choose_finding(NIH, None, ["mass", "edema"])
    with pytest.raises(InputError, match=r"finding: not given, and nih_chestxray14 has several; name one of atelecta"):
        choose_finding(NIH, None, ["sex"])
    with pytest.raises(InputError, match=r"finding: 'sex' is unknown; allowed: atelectasis, .*, hernia"):
        choose_finding(NIH, "sex")


def test_a_list_of_labels_tells_of_each_finding_without_a_column(folder):
    effusion, edema = (NIH.covariates[name] for name in ("effusion", "edema"))
    told = {"Edema|effusion": ("present", "present"), "no_finding": ("absent", "absent"), "": ("", ""), "|": ("", "")}
    told |= {"Pleural Effusion| COVID-19": ("present", "absent"), "Edemaa|Effusion": ("present", "Edemaa")}
    told |= {"No Finding|Edema": ("absent", "Edema beside No Finding")}
    assert {cell: (state_in(effusion, cell), state_in(edema, cell)) for cell in told} == told

    # every label of the data set tells of every other
    labels = [label for label in nih_chestxray14.LABELS if label != "No Finding"]
    for label in labels:
        for variable in NIH.covariates.walk():
            if is_label(variable):
                assert state_in(variable, label) == ("present" if labels_of(variable, [label]) else "absent")

    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    lists, own = ("Edema|Effusion", "No Finding", ""), ("0", "1", "")
    rows = [f"{row},{lists[n % 3]},{own[n % 3]}" for n, row in enumerate(rows)]
    path.write_text("\n".join([f"{head},Findings,edema", *rows]) + "\n")
    source = ImageFolder(folder, NIH, 32)
    assert source.table["effusion"][:3] == ["present", "absent", None]
    # a column of its own counts
    assert source.table["edema"][:3] == ["absent", "present", None]
    assert len(source.counts["not read"]) == 12


def test_a_list_of_labels_knows_those_of_the_other_findings(folder):
    """Pneumonia is a level of other presets; a scar is known to this one alone."""
    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    lists = ("Pneumonia|Effusion", "Pneumonia", "No Finding")
    path.write_text("\n".join([f"{head},findings", *(f"{row},{lists[n % 3]}" for n, row in enumerate(rows))]) + "\n")
    source = ImageFolder(folder, NIH, 32)
    assert source.table["effusion"][:3] == ["present", "absent", "absent"]
    assert source.table["pneumonia"][:3] == ["present", "present", "absent"]
    edema = NIH.covariates["edema"]
    scar = edema.model_copy(update={"name": "scar", "aliases": {"old scar": "present"}})
    assert state_in(edema, "Old Scar|Edemaa", [edema, scar]) == "Edemaa"
    assert state_in(edema, "Old Scar", [edema, scar]) == "absent"


OWN = """
name: leaf
title: Leaves
covariates:
  weeks: {kind: continuous, role: other, nature: patient/anatomy, unit: weeks, range: [0, 100]}
  rust: {kind: categorical, role: finding, nature: patient/pathology, levels: [absent, present]}
edges: [weeks -> rust]
resolution: 32
factors: [rust]
strata: [weeks]
contrasts:
  weeks: {first: under 30 weeks, second: 30 weeks and more, threshold: 30}
  rust: {first: present, second: absent}
views: [rust_weeks_correlated_90_10]
network: {channels: [32, 64]}
"""


@pytest.mark.parametrize("words", [("0", "1"), ("0.0", "1.0"), ("No", "yes"), ("False", "TRUE"), ("absent", "present")])
def test_present_and_absent_are_read_from_ones_and_zeros_in_any_preset(folder, words):
    path = folder.parent / "leaf.yaml"
    path.write_text(OWN)
    preset = read_preset(path).preset
    table = folder / "metadata.csv"
    head, *rows = table.read_text().splitlines()
    rows = [f"{row},{words[n % 3 > 0]}" for n, row in enumerate(rows)]
    table.write_text("\n".join([f"{head.replace('age', 'weeks')},rust", *rows]) + "\n")
    assert ImageFolder(folder, preset, 32).table["rust"][:4] == ["absent", "present", "present", "absent"]
    assert preset.covariates["rust"].canonical(words[1]) == "present"
    assert preset.covariates["rust"].aliases == {}, "what is written of a preset stays"


def test_what_a_preset_says_of_ones_and_zeros_counts():
    rust = NIH.covariates["edema"].model_copy(update={"aliases": {"0": "present", "1": "absent"}})
    assert [rust.parse(cell)[0] for cell in ("0", "1", "yes")] == ["present", "absent", "present"]
    other = Variable(name="a", kind="categorical", role="other", nature="patient/anatomy", levels=("present", "old"))
    assert other.parse("1")[0] is None


def with_columns(folder, names: str, *cells: str) -> None:
    """Other columns in place of the finding."""
    path = folder / "metadata.csv"
    head, *rows = (line.rpartition(",")[0] for line in path.read_text().splitlines())
    path.write_text("\n".join([f"{head},{names}", *(f"{row},{cells[n % len(cells)]}" for n, row in enumerate(rows))]))


JOINED = ("Pneumonia|Effusion", "No Finding", "Effusion")


@pytest.mark.parametrize(
    ("names", "cells", "words", "told"),
    [
        ("findings", JOINED, [], "no column 'finding', but 'findings', which joins several; give "),
        ("Labels", JOINED, [], "no column 'finding', but 'Labels', which joins several; give "),
        ("findings", JOINED, ["finding=findings"], "can't be read, most often 'Pneumonia|Effusion' (20); leave --col"),
        ("Labels", JOINED, ["finding=Labels"], "(20); leave --column finding=Labels out, and give --preset"),
        ("finding", JOINED, [], "can't be read, most often 'Pneumonia|Effusion' (20); give --preset"),
        ("Pneumonia,Effusion", ("1,0", "0,1", "1,1"), [], "no column 'finding', but 'Pneumonia', 'Effusion'; give "),
    ],
)
def test_several_findings_by_a_preset_with_one_are_told_the_presets_that_read_them(
    folder, capsys, names, cells, words, told
):
    with_columns(folder, names, *cells)
    out = str(folder.parent / "out")
    run = ["ingest", "imagefolder", str(folder), "--resolution", "32", "--dry_run", "--output_dir", out]
    assert main([*run, *(["--column", *words] if words else [])]) == 2
    sentence = capsys.readouterr().err
    assert told in sentence
    mapped = re.search("either with (--column [^ ]*)\\.$", sentence.strip())
    mapped = mapped[1].split() if mapped else []
    assert bool(mapped) == (names in ("Labels", "finding"))
    assert main([*run, "--preset", re.search(r"give --preset (\w+)", sentence)[1], *mapped]) == 0
    draft = shlex.split(re.search("`synthfair (preset --from .*?)`", sentence)[1])
    own = folder.parent / "own.yaml"
    assert main([*draft, *mapped, "--output_file", str(own)]) == 0
    capsys.readouterr()
    assert main([*run, "--preset", str(own), *mapped]) == 0


def test_a_misspelt_label_is_one_line_and_not_one_of_each_finding(folder):
    with_columns(folder, "findings", *["Effusion|Edema", "No Finding", "Mass"] * 5, "Efusion|Edema")
    counts = ImageFolder(folder, NIH, 32).counts
    (line,) = [line for line in describe_counts(counts) if "Efusion" in line]
    told = "  missing effusion, mass: 3 of each (level 'Efusion' outside the schema 3; allowed: "
    assert line == f"{told}Effusion, Mass, Edema, No Finding)"


def test_a_column_that_joins_findings_of_no_known_data_set_is_no_single_finding(tmp_path, capsys):
    """It is not to be read as the one finding; a draft of the table, which is told instead, can be made."""
    cells = ("AMD|Cataract", "none", "AMD")
    lines = [f"{n}.png,p{n},{40 + n},{'FM'[n % 2]},PA,{cells[n % 3]}" for n in range(30)]
    table = tmp_path / "metadata.csv"
    table.write_text("\n".join(["file_name,patient_id,age,sex,view,findings", *lines]) + "\n")
    assert main(["train", "--source", str(tmp_path), "--output_dir", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "no column 'finding', but 'findings', which joins several; give the preset of" in told
    assert main(told.split("`")[1].split()[1:]) == 0
