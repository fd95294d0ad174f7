"""A draft: the kinds, levels and ranges of a table's columns, in a preset that reads the table."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.cli.parser import parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.domains.draft import draft_preset
from synthfair_hf.domains.preset_file import preset_yaml
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.source import patient_split
from synthfair_hf.errors import InputError
from synthfair_hf.training.examples import TrainingExamples
from synthfair_hf.views.preset import load_preset
from synthfair_hf.views.view import curated_views

ROWS = 40


def table(directory: Path, **columns: list[str]) -> Path:
    """A table of as many rows as the columns have."""
    rows = max(map(len, columns.values()), default=ROWS)
    columns = {"file_name": [f"{n}.png" for n in range(rows)], "patient_id": [f"p{n}" for n in range(rows)], **columns}
    path = directory / "metadata.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return path


def repeated(*cells: str, rows: int = ROWS) -> list[str]:
    return [cells[n % len(cells)] for n in range(rows)]


COLUMNS = {
    "age": [str(20 + n) for n in range(ROWS)],
    "grade": repeated("1", "2", "3"),
    "weight": [str(0.31 + 0.07 * n) for n in range(ROWS)],
    "breed": repeated("Red Fox", "red fox", "Red Fox", "N/A", "Grey_wolf"),
    "scanner": repeated("old", "new"),
    "diagnosis": repeated("normal", "sick", "sick"),
    "note": [f"seen at {n} o'clock" for n in range(ROWS)],
    "constant": repeated("x"),
    "Body Part": repeated("arm", "leg"),
    "split": repeated("a", "b"),
    "mostly": repeated("a", "", "", "b", ""),
}


def test_kinds_levels_and_ranges_are_those_of_the_columns(tmp_path: Path):
    preset, remarks = draft_preset(table(tmp_path, **COLUMNS), "fur")
    found = {variable.name: variable for variable in preset.covariates.walk()}
    assert list(found) == ["age", "grade", "weight", "breed", "scanner", "diagnosis", "body_part"]
    assert (found["age"].unit, found["age"].bounds) == ("years", (0, 100))
    assert found["grade"].levels == ("1", "2", "3")
    low, high = found["weight"].bounds
    assert 0 <= low < 0.31
    assert 3.04 < high < 4
    assert found["breed"].levels == ("Grey_wolf", "red_fox")
    assert found["breed"].aliases == {"Red Fox": "red_fox", "red fox": "red_fox"}
    assert [one.role for one in found.values()] == ["protected", *["other"] * 3, "acquisition", "finding", "other"]
    assert found["scanner"].nature == "external/device"
    left_out = {match[1] for remark in remarks if (match := re.match("Left out: '(.+?)'", remark))}
    assert left_out == {"note", "constant", "split", "mostly"}


@pytest.mark.parametrize(
    ("column", "role"),
    [
        *(
            (name, "protected")
            for name in ("age", "PatientAge", "Age (years)", "Sex", "patient_gender", "race", "Skin Type")
        ),
        *((name, "other") for name in ("HbA1c", "Eye", "stage", "average", "Sextant", "manager")),
        *((name, "acquisition") for name in ("ScannerModel", "view", "field_strength")),
    ],
)
def test_only_what_is_called_so_is_protected(tmp_path: Path, column: str, role: str):
    preset, remarks = draft_preset(table(tmp_path, **{column: repeated("1", "2"), "dx": repeated("a", "b")}))
    found = next(one for one in preset.covariates.walk() if one.name != "dx")
    assert found.role == role
    assert (found.nature == "patient/demographic") == (role == "protected")
    assert any(found.name in one for one in remarks if one.startswith("Taken as other")) == (role == "other")


@pytest.mark.parametrize(
    ("column", "name"),
    [("Age (years)", "age_years"), ("Body Part", "body_part"), ("pH-value", "ph_value"), ("a.b", "a_b")],
)
def test_a_column_that_is_no_name_is_read_under_one(tmp_path: Path, column: str, name: str):
    cells = [str(20 + n % 7) for n in range(ROWS)]
    path = table(tmp_path, **{column: cells, "label": repeated("sick", "healthy")})
    preset, remarks = draft_preset(path)
    assert preset.covariates.names == (name, "label")
    assert f"Renamed: {column!r} is read as {name}." in remarks
    for n in range(ROWS):
        Image.linear_gradient("L").rotate(n).save(tmp_path / f"{n}.png")
    found = open_source(tmp_path, preset, preset.resolution).table[name]
    assert list(map(float, found)) == list(map(float, cells))


def test_columns_of_other_names_are_mapped_and_the_next_command_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = table(tmp_path, years=[str(20 + n) for n in range(ROWS)], dx=repeated("sick", "healthy"))
    path.write_text(path.read_text().replace("file_name,patient_id", "Picture,Person No"))
    for n in range(ROWS):
        Image.linear_gradient("L").rotate(n).save(tmp_path / f"{n}.png")
    own = tmp_path / "my own.yaml"
    assert main(["preset", "--from", str(path), "--output_file", str(own)]) == 2
    assert "or --column file_name=COLUMN 'patient_id=Person No'." in capsys.readouterr().err
    columns = ["--image_column", "Picture", "--column", "patient_id=Person No", "age=years"]
    assert main(["preset", "--from", str(path), *columns, "--output_file", str(own)]) == 0
    told = capsys.readouterr().out.splitlines()[-1].removeprefix("next: synthfair train ")
    settings = parse(VERBS["train"], shlex.split(told))
    preset = load_preset(settings.preset)
    assert preset.covariates.names == ("age", "dx")
    assert preset.covariates["age"].unit == "years"
    assert len(open_source(settings.source_dir, preset, preset.resolution)) == ROWS
    capsys.readouterr()
    for words, sentence in (
        (
            ["--image_column", "Picure"],
            "--image_column: .* has no column 'Picure'; allowed: Picture, Person No, years, dx",
        ),
        (["--column", "split=dx"], "--column: 'split' is a column of its own in every data set"),
        (["--column", "a b=dx"], "--column: 'a b' is not a name"),
    ):
        assert main(["preset", "--from", str(path), *words]) == 2
        assert re.match(f"synthfair: {sentence}", capsys.readouterr().err)
    assert main(["preset", "chest_xray", "--image_column", "Picture"]) == 2
    assert capsys.readouterr().err.startswith("synthfair: --image_column: is for a draft; give --from metadata.csv")


def test_a_table_of_another_name_is_told_that_it_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = table(tmp_path, **COLUMNS).rename(tmp_path / "labels.csv")
    assert main(["preset", "--from", str(path), "--output_file", str(tmp_path / "own.yaml")]) == 0
    assert f"{path} is to be called metadata.csv first, as which it is read\nnext: " in capsys.readouterr().out


def test_edges_lead_from_protected_attributes_to_the_finding(tmp_path: Path):
    preset, _ = draft_preset(table(tmp_path, **COLUMNS))
    assert preset.edges == tuple((name, "diagnosis") for name in ("age", "grade", "weight", "breed", "body_part"))
    assert preset.contrasts["diagnosis"].first == "sick"
    assert preset.contrasts["age"].threshold == pytest.approx(40, abs=5)
    assert preset.strata == ("age",)
    assert preset.factors[0] == "diagnosis"
    assert len(curated_views(preset)) == len(preset.views) + 1


@pytest.mark.parametrize(("side", "resolution"), [(200, 64), (128, 64), (100, 32), (40, 64)])
def test_the_resolution_is_one_that_images_are_large_enough_for(tmp_path: Path, side: int, resolution: int):
    Image.linear_gradient("L").resize((side + 3, side)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_text("no image")
    assert draft_preset(table(tmp_path, **COLUMNS))[0].resolution == resolution


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("image,patient_id,sex", r"metadata.csv:1: no column 'file_name'; give that name to 'image'"),
        ("file_name,lesion_id,sex", r"metadata.csv:1: no column 'patient_id'; give that name to 'lesion_id'"),
        ("file_name,sex,age", r"metadata.csv:1: no column 'patient_id'; add it"),
        ("file_name,patient_id,sex", "no column of words or numbers that repeat"),
    ],
)
def test_a_table_of_no_images_or_covariates_is_refused(tmp_path: Path, header: str, sentence: str):
    (tmp_path / "metadata.csv").write_text(f"{header}\na,b,c\n")
    with pytest.raises(InputError, match=sentence):
        draft_preset(tmp_path / "metadata.csv")


def test_a_draft_is_the_same_whatever_the_order_of_rows(tmp_path: Path):
    cells = repeated("a b", "(a b)", "[a b]", "Ä", "Ö", "é", rows=60)
    drafts = [draft_preset(table(tmp_path, label=column)).preset for column in (cells, cells[::-1])]
    assert drafts[0].covariates == drafts[1].covariates
    assert len(drafts[0].covariates["label"].levels) == 6


def test_a_long_table_of_free_text_is_drafted_in_linear_time(tmp_path: Path):
    rows = 10_000
    path = table(tmp_path, sex=repeated("m", "f", rows=rows), note=[f"({n}) seen" for n in range(rows)])
    preset, remarks = draft_preset(path)
    assert preset.covariates.names == ("sex",)
    assert remarks[1:] == [
        f"Images: none of {rows} that file_name names is in {tmp_path} (first: '0.png'); train needs them there.",
        "Left out: 'note' holds text, or a name of each row.",
        "Taken as the finding: 'sex', for no column is called as one is, such as 'finding'.",
    ]


@pytest.mark.parametrize(
    ("cell", "level"),
    [
        ("Pleural_Thickening (left)", "pleural_thickening_left"),
        (
            "Pleural_Thickening/Pneumonia, both sides, of the upper lobe",
            "pleural_thickening_pneumonia_both_sides_of_the_upper_lobe",
        ),
        ("\u00d6dem", "odem"),
        ("<60", "under_60"),
        ("\u2265 60", "from_60"),
    ],
)
def test_levels_are_named_by_all_their_words(tmp_path: Path, cell: str, level: str):
    preset = draft_preset(table(tmp_path, label=repeated(cell, "none"))).preset
    assert preset.covariates["label"].levels in ((level, "none"), ("none", level))
    assert preset.covariates["label"].parse(cell) == (level, None)


JOINED = ["No Finding", "Edema|Effusion", "Effusion", "Edema|Scar", "normal", ""]


@pytest.mark.parametrize("separator", ["|", "; ", ", "])
def test_a_column_that_joins_labels_is_a_finding_for_each_and_reads_back(tmp_path: Path, separator: str):
    cells = [cell.replace("|", separator) for cell in repeated(*JOINED)]
    preset, remarks = draft_preset(table(tmp_path, Findings=cells, sex=repeated("m", "f", "f")))
    findings = [one.name for one in preset.covariates.walk() if one.role == "finding"]
    assert findings == ["edema", "effusion", "scar"]
    assert "Taken apart: 'Findings', whose cells join findings." in remarks
    for n in range(ROWS):
        Image.linear_gradient("L").rotate(n).save(tmp_path / f"{n}.png")
    found = open_source(tmp_path, preset, preset.resolution).table
    states = {"a": "absent", "p": "present", "-": None}
    # of each of JOINED
    for name, letters in {"edema": "apapa-", "effusion": "appaa-", "scar": "aaapa-"}.items():
        assert found[name] == [states[letters[n % 6]] for n in range(ROWS)]


def test_joined_labels_of_another_column_are_mapped_as_the_message_says(tmp_path: Path, capsys):
    path, own = table(tmp_path, **{"Finding Labels": repeated(*JOINED)}, sex=repeated("m", "f")), tmp_path / "own.yaml"
    words = ["preset", "--from", str(path), "--output_file", str(own)]
    assert main(words) == 2
    remedy = re.search(
        r"give each row one, or (--column .*), by which each label is a finding", capsys.readouterr().err
    )
    assert main([*words, *shlex.split(remedy[1])]) == 0
    for n in range(ROWS):
        Image.linear_gradient("L").rotate(n).save(tmp_path / f"{n}.png")
    told = parse(
        VERBS["train"], shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: synthfair train "))
    )
    assert "edema" in open_source(told.source_dir, load_preset(own), 32).covariates


def test_a_label_of_a_column_of_its_own_is_read_there_and_one_that_is_no_name_is_refused(tmp_path: Path):
    own = {"edema": repeated("1", "0"), "sex": repeated("m", "f")}
    preset, _ = draft_preset(table(tmp_path, findings=repeated(*JOINED), **own))
    assert preset.covariates["edema"].parse("1") == ("present", None)
    assert preset.covariates["edema"].parse("Edema") == ("present", None)
    with pytest.raises(InputError, match=r"findings: the label 'Sex' is the name of a column, too; rename it"):
        draft_preset(table(tmp_path, findings=repeated("Sex|Edema", "Edema"), **own))


def split_of(n: int) -> str:
    return patient_split(f"p{n}")


def rare(cell: str, other: str, rows: list[int]) -> list[str]:
    """A column that has one cell in these rows."""
    return [cell if n in rows else other if n % 2 else "other" for n in range(ROWS)]


TAUGHT = [n for n in range(ROWS) if split_of(n) == "train"]
HELD_OUT = [n for n in range(ROWS) if split_of(n) != "train"]


def test_a_level_without_an_image_to_learn_from_is_left_out_and_the_draft_trains(tmp_path: Path):
    for n in range(ROWS):
        Image.linear_gradient("L").resize((130, 130)).rotate(n).save(tmp_path / f"{n}.png")
    damaged = TAUGHT[-1]
    (tmp_path / f"{damaged}.png").write_text("no image")
    columns = {
        "dx": rare("rare", "sick", HELD_OUT[:2]),
        "sex": rare("X", "m", [damaged]),
        "view": [{"other": "PA"}.get(cell, cell) for cell in rare("LL", "AP", TAUGHT[:2])],
    }
    preset, remarks = draft_preset(table(tmp_path, **columns))
    assert {one.name: one.levels for one in preset.covariates.walk()} == {
        "dx": ("other", "sick"),
        "sex": ("m", "other"),
        "view": ("AP", "lateral", "PA"),
    }
    assert "Left out: 'rare' of dx, with no image to learn from (2 rows)." in remarks
    assert "Left out: 'X' of sex, with no image to learn from (1 row)." in remarks
    assert "Few images to learn from: 'lateral' of view (2)." in remarks
    source = open_source(tmp_path, preset, preset.resolution)
    assert len(TrainingExamples(source, "train", preset.resolution, seed=0)) == len(TAUGHT) - 1
    assert source.table["view"].count("lateral") == 2


def test_what_train_takes_no_finding_without_is_said_where_it_is_too_much_to_leave_out(tmp_path: Path):
    columns = {"dx": rare("rare", "sick", HELD_OUT[:4]), "sex": repeated("m", "f")}
    preset, remarks = draft_preset(table(tmp_path, **columns))
    assert "rare" in preset.covariates["dx"].levels
    assert "No image to learn from: 'rare' of dx (4 rows); train will refuse it." in remarks


def test_levels_of_one_column_that_are_not_learned_are_one_remark(tmp_path: Path):
    cells = repeated("sick", "well")
    cells[HELD_OUT[0]], cells[HELD_OUT[1]] = "sik", "wel"
    _, remarks = draft_preset(table(tmp_path, dx=cells, sex=repeated("m", "f")))
    assert [one for one in remarks if "sik" in one] == [
        "Left out: 'sik', 'wel' of dx, with no image to learn from (1 and 1 rows)."
    ]


def test_images_that_are_not_there_are_said(tmp_path: Path):
    path = table(tmp_path, sex=repeated("m", "f"), dx=repeated("a", "b"))
    assert any(
        re.match(r"Images: none of 40 that file_name names is in .*'0\.png'", one) for one in draft_preset(path)[1]
    )
    Image.linear_gradient("L").save(tmp_path / "0.png")
    assert any(re.match(r"Images: 39 of 40 that .* are not in .*'1\.png'", one) for one in draft_preset(path)[1])


@pytest.mark.parametrize("separator", ["|", ";", " | ", "; "])
def test_a_column_of_several_labels_is_left_out_and_said(tmp_path: Path, separator: str):
    cells = repeated("Edema", f"Pleural_Thickening{separator}Pneumonia", "Pneumonia", "Edema")
    preset, remarks = draft_preset(table(tmp_path, signs=cells, finding=repeated("a", "b"), sex=repeated("m", "f")))
    assert preset.covariates.names == ("finding", "sex")
    assert any(re.match("Left out: 'signs' holds several labels in a cell, such as 'Pleural_", one) for one in remarks)
    with pytest.raises(InputError, match=r"column 'finding' is called as a finding is, but holds several labels"):
        draft_preset(table(tmp_path, finding=cells, sex=repeated("m", "f")))


def test_a_finding_of_one_value_is_not_replaced_by_another_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = table(tmp_path, finding=repeated("sick"), sex=repeated("m", "f"))
    assert main(["preset", "--from", str(path), "--output_file", str(tmp_path / "own.yaml")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"synthfair: {path}:1: column 'finding' is called as a finding is, but has one value; give")
    assert not (tmp_path / "own.yaml").exists()


def test_remarks_are_printed_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, own = table(tmp_path, **COLUMNS), tmp_path / "own.yaml"
    assert main(["preset", "--from", str(path), "--output_file", str(own)]) == 0
    assert capsys.readouterr().err.splitlines() == draft_preset(path).remarks
    assert all(f"# {remark}\n" in own.read_text() for remark in draft_preset(path).remarks)


def test_identifiers_are_found_however_they_are_spelt(tmp_path: Path):
    path = table(tmp_path, sex=repeated("m", "f"))
    path.write_text(path.read_text().replace("file_name,patient_id", "File Name,PatientID"))
    assert draft_preset(path).preset.covariates.names == ("sex",)
    with pytest.raises(InputError, match=r"metadata\.csv:1: columns 'Sex' and 'sex' are both spellings of"):
        draft_preset(table(tmp_path, Sex=repeated("m", "f"), sex=repeated("m", "f")))


CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=8),
    st.integers(-50, 50).map(str),
    st.floats(-1e6, 1e6).map(str),
    st.sampled_from(["3", "3.0", "a b", "a_b", "A-B", "_a", "a", "Ä", "é", "nan", "1e400", "male", "Male", "x" * 60]),
)
NAMES = st.sampled_from(["age", "sex", "label", "Ärger", "a b", "split", "camera", "type", "x", "noise_x", "dx", ""])


@given(
    columns=st.dictionaries(NAMES, st.lists(CELLS, min_size=1, max_size=6), min_size=1, max_size=5),
    rows=st.integers(1, 40),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_table_holds_a_draft_is_a_preset_that_reads_it(tmp_path: Path, columns: dict, rows: int):
    path = table(tmp_path, **{name: repeated(*cells, rows=rows) for name, cells in columns.items()})
    try:
        preset, remarks = draft_preset(path)
    except InputError as error:
        preset, sentence = None, str(error)
    if preset is None:
        assert "\n" not in sentence
        return
    own = tmp_path / "own.yaml"
    own.write_text(preset_yaml(preset, remarks), encoding="utf-8")
    assert load_preset(own) == preset
    assert len(curated_views(preset)) == len(preset.views) + 1
    for variable in preset.covariates.walk():
        # `a b` is no name, and read as a_b
        cells = repeated(*columns[variable.name if variable.name in columns else "a b"], rows=rows)
        known = [cell for cell in cells if cell.strip().casefold() not in ("", "nan")]
        read = [cell for cell in known if variable.parse(cell)[0] is not None]
        assert len(read) >= 0.95 * len(known) or variable.categorical


def test_the_command_prints_writes_and_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, own = table(tmp_path, **COLUMNS), tmp_path / "fur.yaml"
    assert main(["preset", "--from", str(path)]) == 0
    assert "name: my_domain" in capsys.readouterr().out
    assert main(["preset", "--from", str(path), "--output_file", str(own)]) == 0
    written = own.read_text()
    assert "name: fur" in written
    assert load_preset(own) == draft_preset(path, "fur").preset
    train = f"next: synthfair train --preset {own} --source {tmp_path} --output_dir runs/fur"
    trial = "training takes 20,000 steps, hours without a GPU; with --max_train_steps 300 it is a trial"
    assert capsys.readouterr().out == f"wrote {own}\n{trial}\n{train}\n"
    assert main(["preset", str(own)]) == 0
    assert capsys.readouterr().out == "".join(line for line in written.splitlines(True) if not line.startswith("#"))
    for words in (["--from", str(path)], ["chest_xray"]):
        assert main(["preset", *words, "--output_file", str(own)]) == 2
        assert capsys.readouterr().err.startswith(f"synthfair: --output_file: {own} exists already")
    assert own.read_text() == written
    assert main(["preset", "chest_xray", "--output_file", str(tmp_path / "no" / "own.yaml")]) == 2
    assert capsys.readouterr().err.startswith(f"synthfair: --output_file: {tmp_path / 'no'} is not a directory")
    for words in ([], ["chest_xray", "--from", str(path)]):
        assert main(["preset", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("verb", ["train", "predictor", "autoencoder", "views", "label"])
def test_every_verb_that_takes_a_preset_takes_a_file_and_names_its_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = tmp_path / "own.yaml"
    own.write_text(preset_yaml(draft_preset(table(tmp_path, **COLUMNS)).preset).replace("age -> ", "aeg -> "))
    line = next(n for n, text in enumerate(own.read_text().splitlines(), 1) if "aeg" in text)
    folder = ["--output_dir", str(tmp_path / "out")] if verb in ("train", "predictor", "autoencoder") else []
    label = ["--candidates", str(tmp_path), "--output_file", str(tmp_path / "out")] if verb == "label" else []
    assert main([verb, "--preset", str(own), *folder, *label]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"synthfair: {own}:{line}: edges: aeg -> diagnosis: 'aeg' is unknown;")
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


LABELS = {
    "Pleural Effusion": repeated("1", "0", "0", "-1", *"10" * 18),
    "Edema": repeated("True", "False", "False"),
    "scar": repeated("yes", "no"),
    "No Finding": repeated("0", "1"),
    "sex": repeated("f", "m"),
}


def test_columns_called_as_findings_are_are_several(tmp_path: Path):
    preset, remarks = draft_preset(table(tmp_path, **LABELS))
    roles = {one.name: one.role for one in preset.covariates.walk()}
    assert roles == {"pleural_effusion": "finding", "edema": "finding", "scar": "other", "sex": "protected"}
    assert remarks[2:] == [
        "Left out: 'No Finding' says that all findings are absent.",
        "Taken as findings, present or absent: pleural_effusion, edema.",
        "Taken as other, for no name says what they are to fairness: scar.",
    ]
    effusion = preset.covariates["pleural_effusion"]
    assert [effusion.parse(cell)[0] for cell in ("1", "0", "-1", "")] == ["present", "absent", None, None]
    assert ("sex", "edema") in preset.edges
    assert "edema_sex_correlated_90_10" in preset.views
    path = tmp_path / "own.yaml"
    path.write_text(preset_yaml(preset))
    assert load_preset(str(path)) == preset
    # beside a column that holds all findings they are what they were
    mixed = draft_preset(table(tmp_path, finding=repeated("a", "b"), **LABELS)).preset
    assert [one.name for one in mixed.covariates.walk() if one.role == "finding"] == ["finding"]


def test_findings_are_the_columns_that_are_named(tmp_path: Path):
    path = table(tmp_path, **LABELS)
    preset, _ = draft_preset(path, findings=["scar"])
    assert [one.name for one in preset.covariates.walk() if one.role == "finding"] == ["scar"]
    with pytest.raises(InputError, match=r"finding: column 'sex' holds 'f'; give columns of 1 and 0, present"):
        draft_preset(path, findings=["sex"])
    with pytest.raises(InputError, match=r"finding: 'Edma' is unknown; .*did you mean 'Edema'\?"):
        draft_preset(path, findings=["Edma"])


def spots(directory: Path, rows: int = ROWS, **columns: list[str]) -> Path:
    """A table of other names than ours, with its images."""
    path = table(directory, **columns)
    path.write_text(path.read_text().replace("file_name,patient_id", "photo,plant", 1))
    for n in range(rows):
        Image.linear_gradient("L").rotate(n).save(directory / f"{n}.png")
    return path


SPOTS = {"sun": repeated("lamp", "led", "day"), "rust": repeated("0", "1"), "mildew": repeated("1", "0", "0")}
MAPPED = ["--column", "file_name=photo", "patient_id=plant"]


@pytest.mark.parametrize("names", [["rust"], ["rust", "mildew"]])
@pytest.mark.parametrize("in_yaml", [False, True])
def test_one_or_several_findings_are_named_as_flags_and_in_yaml(tmp_path: Path, names: list[str], in_yaml: bool):
    path, own, settings = spots(tmp_path, **SPOTS), tmp_path / "own.yaml", tmp_path / "settings.yaml"
    settings.write_text(f"finding: [{', '.join(names)}]\n")
    given = ["--config_file", str(settings)] if in_yaml else ["--finding", *names]
    assert main(["preset", "--from", str(path), *MAPPED, *given, "--output_file", str(own)]) == 0
    assert [one.name for one in load_preset(str(own)).covariates.walk() if one.role == "finding"] == names


def test_columns_that_are_missing_are_all_named_and_the_remedy_drafts_from_the_folder(tmp_path: Path, capsys):
    spots(tmp_path, **SPOTS)
    assert main(["preset", "--from", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "no column 'file_name' (it names the image), no column 'patient_id' (it keeps a patient in one" in told
    remedy = re.search(r"or (--column .*)\.$", told)[1]
    words = shlex.split(remedy.replace("=COLUMN", "=photo", 1).replace("=COLUMN", "=plant"))
    assert main(["preset", "--from", str(tmp_path), *words]) == 0


def test_columns_of_ones_and_zeros_are_offered_as_findings_by_the_flag_that_takes_them(tmp_path: Path, capsys):
    path = spots(tmp_path, **SPOTS)
    own = tmp_path / "own.yaml"
    words = ["preset", "--from", str(path), *MAPPED]
    assert main([*words, "--output_file", str(tmp_path / "first.yaml")]) == 0
    found = re.search("'rust', 'mildew'; where these are the findings, give (--finding .*)\\.", capsys.readouterr().err)
    assert main([*words, *found[1].split(), "--output_file", str(own)]) == 0
    assert [one.name for one in load_preset(str(own)).covariates.walk() if one.role == "finding"] == ["rust", "mildew"]
    assert "where these are" not in capsys.readouterr().err


@pytest.mark.parametrize("column", ["Gender", "sex", "PatientSex"])
def test_sexes_are_called_by_their_words(tmp_path: Path, column: str):
    path = table(tmp_path, **{column: repeated("F", "m", "M", "female")}, dx=repeated("a", "b"))
    variable = next(draft_preset(path).preset.covariates.walk())
    assert variable.levels == ("female", "male")
    assert [variable.parse(cell)[0] for cell in ("F", "M", "Male", "female")] == ["female", "male", "male", "female"]
    # hombre and mujer
    path = table(tmp_path, **{column: repeated("H", "M")}, dx=repeated("a", "b"))
    assert next(draft_preset(path).preset.covariates.walk()).levels == ("H", "M")


@pytest.mark.parametrize(
    "codes",
    [
        ("1000001", "1000002", "1000003"),
        ("233604007", "233604008"),
        ("900000000000207008", "900000000000207009"),
        ("1.5000001", "1.5000002"),
        ("1e400", "2e400", "1e999999999"),
    ],
)
def test_numbers_that_differ_in_any_digit_are_levels_of_their_own(tmp_path: Path, codes: tuple[str, ...]):
    """Serial numbers, and codes of diseases, of which some would be one by the first six digits."""
    preset = draft_preset(table(tmp_path, scanner=repeated(*codes), finding=repeated(*codes)))[0]
    for variable in preset.covariates.walk():
        assert [variable.parse(code)[0] for code in codes] == list(codes)


def test_spellings_of_one_number_and_of_one_letter_are_one_level(tmp_path: Path):
    cells = {"grade": repeated("1", "1.0", "10", "1e1"), "place": repeated("e\u0301", "\u00e9", "\u00e9", "b")}
    preset = draft_preset(table(tmp_path, **cells, finding=repeated("a", "b")))[0]
    assert [len(preset.covariates[name].levels) for name in ("grade", "place")] == [2, 2]
    assert len({preset.covariates["place"].parse(cell)[0] for cell in cells["place"]}) == 2


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([f"{n}e-300" for n in range(ROWS)], "holds numbers too near each other for single precision"),
        ([repr(1e6 + n * 1e-9) for n in range(ROWS)], "holds numbers too near each other for single precision"),
        ([f"{n},5" for n in range(ROWS)], "holds numbers with decimal commas; write them with points"),
    ],
)
def test_numbers_that_cannot_be_told_apart_or_read_are_left_out_with_the_reason(tmp_path: Path, cells, why: str):
    remarks = draft_preset(table(tmp_path, weight=cells, finding=repeated("a", "b")))[1]
    assert f"Left out: 'weight' {why}." in remarks


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("age", "years"),
        ("PatientAge", "years"),
        ("age_months", "months"),
        ("AgeInDays", "days"),
        ("Age (weeks)", "weeks"),
        ("mileage", "units"),
    ],
)
def test_an_age_is_in_the_unit_that_its_column_names(tmp_path: Path, column: str, unit: str):
    path = table(tmp_path, **{column: [str(20 + n) for n in range(ROWS)]}, finding=repeated("a", "b"))
    assert next(one for one in draft_preset(path)[0].covariates.walk() if not one.categorical).unit == unit


@pytest.mark.parametrize("word", ["none", "No Finding", "Normal"])
def test_a_word_for_no_finding_is_absent_in_the_draft_and_where_it_is_read(folder: Path, word: str):
    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    cells = [("Tumour|Cyst", word, "Cyst", "unknown")[n % 4] for n in range(len(rows))]
    path.write_text("\n".join([head.replace("finding", "findings"), *map(_with_last, rows, cells)]) + "\n")
    preset, remarks = draft_preset(path)
    assert "Taken as findings, present or absent: cyst, tumour." in remarks
    source = open_source(folder, preset, 32)
    states = {"Tumour|Cyst": ("present", "present"), word: ("absent", "absent"), "Cyst": ("present", "absent")}
    read = list(zip(source.table["cyst"], source.table["tumour"], strict=True))
    assert read == [states.get(cell, (None, None)) for cell in cells]


def _with_last(row: str, cell: str) -> str:
    return ",".join([*row.split(",")[:-1], cell])


def test_words_for_no_finding_are_one_level_of_a_finding(folder: Path):
    path = folder / "metadata.csv"
    head, *rows = path.read_text().splitlines()
    cells = [("Tumour", "none", "No Finding", "normal")[n % 4] for n in range(len(rows))]
    path.write_text("\n".join([head, *map(_with_last, rows, cells)]) + "\n")
    preset, _ = draft_preset(path)
    assert preset.covariates["finding"].levels == ("no_finding", "Tumour")
    assert (preset.contrasts["finding"].first, preset.contrasts["finding"].second) == ("Tumour", "no_finding")
    read = open_source(folder, preset, 32).table["finding"]
    assert read == ["Tumour" if cell == "Tumour" else "no_finding" for cell in cells]
    # one that a preset calls otherwise is that of the preset
    own = preset.model_dump(mode="json")["covariates"]
    levels = {"levels": ["normal", "Tumour"], "aliases": {}}
    own["variables"] = [{**one, **(levels if one["name"] == "finding" else {})} for one in own["variables"]]
    named = preset.model_copy(update={"covariates": type(preset.covariates).model_validate(own)})
    assert set(open_source(folder, named, 32).table["finding"]) == {"normal", "Tumour"}
