"""Levels are read however they are spelt, and what is not read is refused or counted: none is lost unseen."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.domains import imagefolder
from synthfair_hf.domains.cells import match_columns
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.morphomnist.preset import MORPHOMNIST
from synthfair_hf.domains.morphomnist.source import MorphoMNIST
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.rows import read_rows
from synthfair_hf.domains.source import describe_counts, read_image, totals
from synthfair_hf.errors import InputError
from synthfair_hf.schema import Variable

PRESET = get_preset("chest_xray")
HEADER = "file_name,patient_id,age,sex,view,finding"
FINDING = PRESET.covariates["finding"]

pytestmark = pytest.mark.usefixtures("short_fit")


@pytest.fixture
def unread(monkeypatch) -> None:
    """No image is read."""

    def read(*arguments: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(imagefolder, "read_radiograph", read)


@given(
    st.lists(st.sampled_from([" ", "_", "-", "--", " - ", "", "\u2013"]), min_size=1, max_size=1),
    st.sampled_from(["no|finding", "No|Finding", "NO|FINDING", "nO|fInDing"]),
)
def test_case_and_separators_are_no_other_level(separator, words):
    assert FINDING.parse(words.replace("|", separator[0])) == ("no_finding", None)


def test_a_spelling_of_two_levels_is_neither():
    levels = ("a b", "a_b", "1-2", "12", "none")
    stage = Variable(name="stage", kind="categorical", role="finding", nature="patient/pathology", levels=levels)
    for level in levels:
        assert stage.parse(level) == (level, None)
    assert stage.parse("A-B") == (None, "level 'A-B' outside the schema")
    assert stage.parse("1 2")[0] is None, "a sign between numbers means something"
    assert stage.parse("-12")[0] is None
    assert stage.parse("None") == ("none", None), "what the schema calls a level is one"


def test_a_finding_spelt_otherwise_is_read(edit):
    folder = edit(lambda text: text.replace("No Finding", "no finding").replace("Pneumonia", "PNEUMONIA"))
    assert ImageFolder(folder, PRESET, 32).table["finding"].count("no_finding") == 40


def test_dicom_ages_are_years(edit):
    folder = edit(lambda text: text.replace(",20,", ",053Y,").replace(",21,", ",014M,").replace(",22,", ",003W,"))
    assert ImageFolder(folder, PRESET, 32).table["age"][:6:2] == [53, 14 / 12, 21 / 365.25]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace(",M,", ",man,"),
            r"metadata\.csv: column 'sex': 30 of 60 cells \(50\.0%\) can't be read, most often 'man' \(30\); allowed: "
            r"male, female; at most 5% may be anything else: correct them, or leave them empty where unknown\.$",
        ),
        (
            lambda text: text.replace("No Finding", "clear"),
            r"column 'finding': 40 of 60 cells \(66\.7%\) can't be read, most often 'clear' \(40\); allowed: no_f",
        ),
        (
            lambda text: text.replace(",2", ",aged 2"),
            r"column 'age': 20 of 60 cells .* 'aged 20' \(2\), 'aged 21' \(2\).* allowed: 0 to 100 years \(61, or 061Y",
        ),
        (lambda text: text.replace(",PA,", ",frontal,"), r"column 'view': 30 of 60 cells .* 'frontal' \(30\)"),
        (
            lambda text: text.replace("No Finding", ""),
            r"column 'finding': no image of level 'no_finding' \(read: pneumonia 20; without a value: 40\); allowed",
        ),
        (lambda text: text.replace("No Finding", "Pneumonia"), r"column 'finding': no image of level 'no_finding'"),
        (
            lambda text: text.replace("No Finding", "Atelectasis"),
            r"no image of level 'no_finding' .* most often 'Atelectasis' \(40\)\)",
        ),
        (lambda text: text.replace(",M,", ",n/a,"), r"column 'sex': no image of level 'male' .* 'n/a' \(30\)\)"),
        (lambda text: text.replace(",p3,", ",NaN,", 1), r"metadata\.csv:8: patient_id is 'NaN'; give every image its"),
        (
            lambda text: text.replace(",p3,", ",3,").replace(",p4,", ",03,"),
            r"metadata\.csv:10: patient_id '03' is '3' of line 8 but for leading zeros",
        ),
        (
            lambda text: text.replace(",p4,", ",P3,"),
            r"metadata\.csv:10: patient_id 'P3' is 'p3' of line 8 but for case, spaces or the encoding of its letters;",
        ),
        (
            lambda text: text.replace(",p3,", ",e\u0301,").replace(",p4,", ",\u00e9,"),
            "of line 8 but for case, sp",
        ),
        (
            lambda text: text.replace(",p3,", ",p  3,").replace(",p4,", ",p\u00a03,"),
            "of line 8 but for case, sp",
        ),
    ],
)
def test_what_would_be_lost_is_refused_before_an_image_is_read(edit, change, message):
    with pytest.raises(InputError, match=message):
        ImageFolder(edit(change), PRESET, 32)


def test_three_and_three_point_zero_are_one_patient(edit):
    source = ImageFolder(edit(lambda text: text.replace(",p3,", ",3,", 1).replace(",p3,", ",3.0,")), PRESET, 32)
    assert source.patient_ids[6:8] == ["3", "3"]
    assert source.counts["patients"] == 30


def test_other_findings_are_read_and_counted_as_missing(edit):
    """They are no misspelt level, however many there are."""
    folder = edit(lambda text: text.replace("No Finding", "COVID-19", 9).replace("Pneumonia", "Pleural_Thickening", 2))
    assert ImageFolder(folder, PRESET, 32).counts["missing"] == {
        "finding": {"level 'COVID-19' outside the schema": 9, "level 'Pleural_Thickening' outside the schema": 2}
    }


def test_a_column_that_is_known_throughout_may_lack_a_level_and_says_so(edit):
    counts = ImageFolder(edit(lambda text: text.replace(",M,", ",F,")), PRESET, 32).counts
    assert counts["no image of"] == {"sex": ["male"]}
    assert "  no image of sex male" in describe_counts(counts)


def test_a_level_lost_with_blank_images_is_refused(folder):
    lines = (folder / "metadata.csv").read_text().splitlines()[1:]
    for line in lines:
        if line.endswith("Pneumonia"):
            Image.new("L", (64, 64)).save(folder / line.split(",")[0])
    with pytest.raises(InputError, match=r"column 'finding': no image of level 'pneumonia'"):
        ImageFolder(folder, PRESET, 32)


def test_blank_images_are_left_out_counted_and_named(folder):
    for index, level in enumerate((0, 255, 7)):
        Image.new("L", (64, 64), level).save(folder / "images" / f"{index:03}.png")
    Image.fromarray(np.full((64, 64), 700, dtype=np.uint16)).save(folder / "images" / "003.png")
    source = ImageFolder(folder, PRESET, 32)
    assert len(source) == 56, "more than one in twenty may show nothing: they can be read"
    assert list(source.counts["quarantined"]) == [f"images/{index:03}.png" for index in range(4)]
    assert all(reason.startswith("shows nothing") for reason in source.counts["quarantined"].values())
    assert totals(source.counts)["quarantined"] == 4
    for path in (folder / "images").iterdir():
        Image.new("L", (64, 64)).save(path)
    with pytest.raises(InputError, match="no image can be used"):
        ImageFolder(folder, PRESET, 32)


def blank(folder: Path, column: str, level: str) -> None:
    """Every image of a level shows nothing."""
    header, *lines = (line.split(",") for line in (folder / "metadata.csv").read_text().splitlines())
    for line in lines:
        if line[header.index(column)] == level:
            Image.new("L", (64, 64)).save(folder / line[0])


@pytest.mark.parametrize(("column", "cell", "level"), [("sex", "F", "female"), ("view", "AP", "ap")])
def test_a_level_of_any_covariate_that_is_lost_with_its_images_is_refused(folder, column, cell, level):
    blank(folder, column, cell)
    with pytest.raises(
        InputError,
        match=rf"metadata\.csv: column '{column}': no image of level '(?i:{level})' is left, for all 30 are left out, "
        r"most often for 'shows nothing: .* \(30\); repair these images or give others",
    ):
        ImageFolder(folder, PRESET, 32)


def test_a_level_that_is_lost_with_unreadable_images_is_refused(edit):
    folder = edit(lambda text: text.replace(",M,", ",F,").replace("p9,29,F", "p9,29,M"))
    for index in (18, 19):
        (folder / "images" / f"{index:03}.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"column 'sex': no image of level 'male' is left, for all 2 .*not a readable"):
        ImageFolder(folder, PRESET, 32)


def test_values_that_are_lost_with_their_images_are_refused(edit):
    folder = edit(lambda text: re.sub(r"(,p(?!9,)\d+,)\d+", r"\1", text))
    for index in (18, 19):
        Image.new("L", (64, 64)).save(folder / "images" / f"{index:03}.png")
    with pytest.raises(InputError, match=r"column 'age': no image with a value is left, for all 2 are left out"):
        ImageFolder(folder, PRESET, 32)


@pytest.mark.parametrize(("n", "refused"), [(12, False), (13, True)])
def test_a_folder_of_which_too_much_shows_nothing_is_refused(folder, n, refused):
    for index in range(n):
        Image.new("L", (64, 64)).save(folder / "images" / f"{index:03}.png")
    if refused:
        with pytest.raises(
            InputError, match=r"13 of 60 images show nothing \(first: images/000.png: shows nothing.*20%"
        ):
            ImageFolder(folder, PRESET, 32)
    else:
        assert len(ImageFolder(folder, PRESET, 32)) == 48


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("cell", ["", "nan", "unknown"])
@pytest.mark.parametrize(("column", "pattern"), [("age", r"(,p\d+,)\d+"), ("sex", r"(,p\d+,\d+,)[MF]")])
def test_a_column_without_a_value_is_refused_before_an_image_is_read(edit, column, pattern, cell):
    folder = edit(lambda text: re.sub(pattern, rf"\g<1>{cell}", text))
    with pytest.raises(InputError, match=rf"metadata\.csv: column '{column}': no(ne of 60 cells| image of level)"):
        ImageFolder(folder, PRESET, 32)


@given(
    st.permutations(["file_name", "patient_id", "sex", "finding"]), st.sampled_from([str.upper, str.title]), st.data()
)
def test_columns_are_matched_however_they_are_spelt(names, change, data):
    separator = data.draw(st.sampled_from([" ", "-", "", ".", "\u00a0"]))
    header = [
        f" {change(name.replace('_', separator))}" + data.draw(st.sampled_from(["", " ", "\ufeff"])) for name in names
    ]
    assert match_columns("table", header, sorted(names)) == dict(sorted(zip(names, header, strict=True)))


def test_a_folder_whose_columns_are_spelt_otherwise_is_read(edit):
    folder = edit(lambda text: text.replace(HEADER, "File Name,PatientID,AGE,Sex,view ,Finding"))
    source = ImageFolder(folder, PRESET, 32)
    assert source.covariates.names == ("age", "sex", "finding", "view")
    assert source.table["sex"][:4] == ["male", "male", "female", "female"]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "file_name,patient_id,age,sex,Sex,finding",
            r"metadata\.csv:1: columns 'sex' and 'Sex' are both spellings of 'sex'",
        ),
        (
            "file_name,patient_id,age,sex,view,findings",
            r"metadata\.csv:1: no column 'finding', but 'findings'; give that",
        ),
        (
            "file_name,patient,age,sex,view,finding",
            r"metadata\.csv:1: no column 'patient_id'; give that name to 'patient', or",
        ),
    ],
)
def test_columns_that_may_be_meant_are_named(edit, header, message):
    with pytest.raises(InputError, match=message):
        ImageFolder(edit(lambda text: text.replace(HEADER, header)), PRESET, 32)


def test_an_image_at_the_generators_own_size_that_shows_nothing_is_refused(tmp_path):
    Image.new("L", (32, 32), 9).save(tmp_path / "blank.png")
    with pytest.raises(InputError, match=r"blank\.png: shows nothing"):
        read_image(tmp_path / "blank.png", 32, own_size=True)


def test_a_table_that_is_no_file_is_never_waited_for(tmp_path, make_no_file):
    for name in ("metadata.csv", "labels.csv.gz", "train.npz"):
        make_no_file(tmp_path / name)
    with pytest.raises(InputError, match=r"metadata\.csv: (is not a file|cannot be read)"):
        open_source(tmp_path, PRESET, 32)
    with pytest.raises(InputError, match=r"labels\.csv\.gz: (is not a file|cannot be read)"):
        read_rows(tmp_path / "labels.csv.gz")
    with pytest.raises(InputError, match=r"train\.npz: (is not a file|cannot be read)"):
        MorphoMNIST(tmp_path, MORPHOMNIST, 32)


def test_an_image_that_is_a_link_to_itself_is_refused_with_its_line(folder):
    (folder / "images" / "000.png").unlink()
    (folder / "images" / "000.png").symlink_to("000.png")
    with pytest.raises(InputError, match=r"metadata\.csv:2: file_name 'images/000\.png' is not a"):
        ImageFolder(folder, PRESET, 32)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    "words",
    [
        ["generate", "--num_subjects", "4"],
        ["generate", "--num_subjects", "2800"],
        ["generate", "--num_subjects", "28", "--factors", "race"],
        ["candidates", "--num_pairs", "61", "--comparison_type", "counterfactuals"],
        ["train", "--pretrained_model_name_or_path", "phantom_64"],
        ["measure soundness", "--world", "acquisition", "--split", "test"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_what_the_table_decides_is_refused_before_an_image_is_read(edit, tmp_path, capsys, words):
    """Nobody of the test split is known completely, and there are too few people for most of it."""
    folder = edit(lambda text: text.replace("p", "q", 0))
    if words[0].startswith("measure"):
        path = folder / "metadata.csv"
        path.write_text(path.read_text().replace(",20,", ",,"))
        lines = path.read_text().splitlines()
        path.write_text(
            "\n".join([lines[0], *(",".join([*line.split(",")[:2], "", *line.split(",")[3:]]) for line in lines[1:])])
        )
    if words[0] == "train":
        words = [
            "train",
            "--pretrained_model_name_or_path",
            str(Path(imagefolder.__file__).parents[1] / "pretrained" / "phantom_64"),
        ]
    assert main([*words[0].split(), *words[1:], "--source", str(folder), "--output_dir", str(tmp_path / "made")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_missing_counts_are_printed_at_the_end_and_recorded(edit, tmp_path, capsys):
    folder = edit(lambda text: text.replace(",20,", ",unknown,").replace(",21,", ",,"))
    Image.new("L", (64, 64)).save(folder / "images" / "040.png")
    run = tmp_path / "run"
    settings = ["--max_train_steps", "1", "--train_batch_size", "2", "--resolution", "16", "--default_steps", "1"]
    assert main(["train", "--source", str(folder), "--output_dir", str(run), *settings]) == 0
    *told, following = capsys.readouterr().out.splitlines()[1:]
    assert following.startswith("next: synthfair counterfactual ")
    assert told == [
        "source: 59 images of 30 patients",
        "  left out: 1 images (first: images/040.png: shows nothing: its pixels are of one gray level, 0 of 1)",
        "  not told of any image: race",
        "  missing age: 4 (unknown 2, empty 2)",
    ]


def test_misspelt_levels_are_one_line_with_what_is_allowed(edit):
    folder = edit(lambda text: text.replace("p3,23,F", "p3,23,femal").replace("p4,24,M", "p4,24,mael", 1))
    (line,) = [one for one in describe_counts(ImageFolder(folder, PRESET, 32).counts) if "sex" in one]
    reasons = "level 'femal' outside the schema 2, level 'mael' outside the schema 1"
    assert line == f"  missing sex: 3 ({reasons}; allowed: male, female)"


@pytest.fixture
def misspell(edit):
    """`misspell(n)` joins findings in one column, n of whose cells have one label that is none, and n another."""

    def change(text: str, times: int) -> str:
        head, *rows = text.splitlines()
        cells = [*["Efusion|Edema"] * times, *["Edem"] * times, *["Edema", "none", "Effusion"] * len(rows)]
        anew = [",".join([*row.split(",")[:-1], cell]) for row, cell in zip(rows, cells, strict=False)]
        return "\n".join([head.replace("finding", "findings"), *anew]) + "\n"

    return lambda times: edit(lambda text: change(text, times))


def test_misspelt_labels_of_a_joined_column_are_told_with_its_labels(misspell):
    told = describe_counts(ImageFolder(misspell(1), get_preset("nih_chestxray14"), 32).counts)
    (line,) = [one for one in told if "Efusion" in one and " effusion" in one]
    assert "level 'Efusion' outside the schema 1, level 'Edem' outside the schema 1; allowed: " in line
    assert line.endswith("Effusion, Edema, No Finding)")


def test_a_joined_column_that_is_refused_is_told_with_its_labels(misspell):
    message = (
        r"column 'findings': 24 of 60 cells .*'Efusion' \(12\), 'Edem' \(12\); allowed: .*Effusion.*, No Finding; at"
    )
    with pytest.raises(InputError, match=message):
        ImageFolder(misspell(12), get_preset("nih_chestxray14"), 32)
