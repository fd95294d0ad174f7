"""The page on data sets: its three commands run on a miniature, and its table is the registry's."""

import json
import re
import shlex
import sys
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import pytest

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.cli.parser import flags_of, parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import READERS, open_source
from synthfair_hf.domains.source import access_to
from synthfair_hf.fairness.benchmark.cells import ExternalSet
from synthfair_hf.records import Record

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "domains"))

from miniatures import chexpert, draw  # noqa: E402

PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
BLOCK = re.search(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)[1]
COMMANDS = [shlex.split(line)[1:] for line in BLOCK.replace("\\\n", " ").splitlines()]
SMALL_IMAGES = ["--resolution", "32", "--num_proc", "1"]
SMALL = ["--resolution", "32", "--max_train_steps", "1", "--train_batch_size", "2", "--default_steps", "1"]


def test_three_commands_lead_from_a_folder_to_a_counterfactual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=20))
    ingest, train, ask = COMMANDS
    chexpert(tmp_path / "CheXpert-v1.0-small", patients=60)
    assert main([*ingest, *SMALL_IMAGES]) == 0
    told = capsys.readouterr().out
    assert "left out: 60 images (lateral view)" in told
    # the command that it tells is the page's next one, but for what is small here
    assert " ".join(train) in told.replace("--resolution 32 ", "")
    assert main([*train, *SMALL]) == 0
    capsys.readouterr()
    # without a flag
    assert Record.read(Path(train[-1]) / "record.json").inputs["access"] == "credentialed"
    assert main(ask) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["sex"] == "male"


def test_the_table_of_the_page_is_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| .*? \| .*? \| (.*?) \|", PAGE, re.M)
    assert {name: access for name, access in rows if name in READERS} == {
        name: reader.access for name, reader in READERS.items()
    }


def test_every_verb_that_takes_a_source_takes_the_name_of_its_data_set():
    for verb, model in VERBS.items():
        flags = flags_of(model)
        if "source" in flags:
            assert {"dataset_name", "uncertain", "column", "image_column", "fit"} <= flags.keys(), verb
    assert {"external", "dataset_name", "uncertain", "column", "image_column", "fit"} <= flags_of(
        VERBS["benchmark"]
    ).keys()


@pytest.mark.parametrize(
    ("header", "told", "column"),
    [
        ("File Name,PatientID,age,sex,VIEW,finding", None, ""),
        ("file_name,patient_id,age,Sex,View,label", "which one it is, as in --column finding=COLUMN.", "label"),
        ("filename,patient id,age,sex,view,Finding Labels", "as in --column finding=COLUMN.", "Finding Labels"),
        ("file_name,patient_id,age,sex,view,findings", "its name, or --column finding=findings.", ""),
        ("file,patient_id,age,sex,view,finding", "to 'file', or --column file_name=file (it names", ""),
        ("file_name,Patient IDs,age,sex,view,finding", "', or --column 'patient_id=Patient IDs' (it keeps", ""),
    ],
)
def test_a_column_of_another_name_is_told_how_to_be_mapped(header, told, column, tmp_path, capsys):
    """Capitals and separators do not matter; what is recommended is a flag, and works."""
    lines = [header]
    for n in range(8):
        draw(tmp_path / f"{n}.png", n)
        sex, view, finding = "MF"[n % 2], ("PA", "AP")[n % 2], ("No Finding", "Pneumonia")[n // 2 % 2]
        lines.append(f"{n}.png,p{n},{30 + n},{sex},{view},{finding}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    command, preset = ["--source", str(tmp_path), "--output_dir", str(tmp_path / "out")], get_preset("chest_xray")
    if told is not None:
        assert main(["train", *command]) == 2
        sentence = capsys.readouterr().err
        assert told in sentence
        _, _, flag = sentence.partition("--column ")
        [mapping, *_] = shlex.split(flag.rstrip(".\n"))
        command += ["--column", mapping.replace("COLUMN", column)]
    source = open_source(parse(VERBS["train"], command).source_dir, preset, 32)
    assert preset.restrict(source.covariates.names).covariates.names == ("age", "sex", "finding", "view", "scanner")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dataset_name", "brax"], "--source: not given, but dataset_name is for a folder of images"),
        (
            ["--dataset_name", "mimic", "--source", "."],
            "--dataset_name: 'mimic' is unknown; .*did you mean 'mimic_cxr'",
        ),
        (
            ["--dataset_name", "brax", "--source", "."],
            r"\.: no master_spreadsheet\*.csv; BRAX needs master_spreadsheet",
        ),
        (["--dataset_name", "phantom", "--source", "."], "--source: . is not for the phantom, whose images are drawn"),
        (["--uncertain", "maybe", "--source", "."], "--uncertain: 'maybe' is unknown; allowed: missing, positive, neg"),
        (["--column", "age", "--source", "."], "--column: 'age' is not NAME=VALUE"),
        (["--column", "age=Age", "--source", "."], r"\./?metadata.csv: no such file|metadata.csv: no such file"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words, "--output_dir", "out"]) == 2
    told = capsys.readouterr().err
    assert re.match(f"synthfair: (?:{sentence})", told), told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_images_beside_a_benchmark_may_be_of_a_data_set_in_its_own_layout(tmp_path, capsys):
    chexpert(tmp_path / "chexpert")
    words = ["--data_dir", "data", "--views", "sex_imbalanced_90_10", "--output_dir", str(tmp_path / "board")]
    settings = ["--dataset_name", "chexpert", "--fit", "pad"]
    folder = parse(VERBS["benchmark"], [*words, "--external", str(tmp_path / "chexpert"), *settings]).external
    assert folder == DataSetFolder(directory=tmp_path / "chexpert", dataset_name="chexpert", fit="pad")
    data = SimpleNamespace(preset=get_preset("chest_xray"), finding="finding", resolution=32)
    source = ExternalSet(folder, data, ("sex",)).source
    assert (source.name, source.counts["fit"]) == ("chexpert", "pad")
    assert access_to(source, "unknown") == "credentialed"
    assert main(["benchmark", *words, *settings]) == 2
    assert "--external: not given, but dataset_name is for a folder of images" in capsys.readouterr().err
