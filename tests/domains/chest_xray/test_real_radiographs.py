"""Real radiographs, where they are: train a few steps, observe held-out patients, answer counterfactuals."""

import os
from functools import partialmethod
from pathlib import Path

import pytest
import torch

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.diffusion.fitting import fit_scm
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.domains.chest_xray.nih_chestxray14 import read_table
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source

DATA = Path(os.environ.get("SYNTHFAIR_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
RADIOGRAPHS, TABLE = DATA / "cxr", DATA / "tables" / "nih_chestxray14.csv.gz"
pytestmark = pytest.mark.skipif(
    not RADIOGRAPHS.exists(),
    reason="real radiographs are read by path and never committed; generated radiographs stand in elsewhere",
)


@pytest.fixture(scope="module")
def held_out():
    """Four radiographs of test patients with all covariates known, as `(pipeline, images, covariates)`."""
    pipeline = load_generator(DEFAULT_GENERATOR.parent / "chest_xray_64")
    source = open_source(RADIOGRAPHS, pipeline.preset, 64)
    names = pipeline.covariates.names
    complete = [row for row in range(len(source)) if all(source.table[name][row] is not None for name in names)]
    rows = [row for row in complete if source.splits[row] == "test"][:4]
    images = torch.stack([torch.from_numpy(source.image(row, 64))[None] for row in rows])
    return pipeline, images, {name: [source.table[name][row] for row in rows] for name in names}


def test_the_folder_is_what_its_notes_say():
    source = open_source(RADIOGRAPHS, get_preset("chest_xray"), 64)
    assert len(source) == 1251
    assert source.counts["patients"] == 761
    known = [source.table["age"][row] is not None and source.table["finding"][row] is not None for row in range(1251)]
    assert sum(known) >= 999
    share = source.counts["patients by split"]
    assert (share["validation"] + share["test"]) / 761 >= 0.15


def test_a_shipped_generator_composes_on_held_out_radiographs(held_out):
    pipeline, images, covariates = held_out
    once = pipeline(image=images, covariates=covariates, do={}, output_type="pt").images
    assert (once - images).abs().mean().item() * 255 <= 0.05
    first, current = {name: column[:1] for name, column in covariates.items()}, images[:1]
    for _ in range(10):
        current = pipeline(image=current, covariates=first, do={}, output_type="pt").images
    assert (current - images[:1]).abs().mean().item() * 255 <= 0.05


@pytest.mark.parametrize("do", [{"sex": "female"}, {"scanner": "computed"}, {"finding": "pneumonia"}])
def test_a_shipped_generator_moves_what_it_is_asked_to(held_out, do):
    pipeline, images, covariates = held_out
    name, value = next(iter(do.items()))
    output = pipeline(
        image=images, covariates=covariates, do=do, generator=torch.Generator().manual_seed(0), output_type="pt"
    )
    moved = (output.images - images).abs().mean(dim=(1, 2, 3)) * 255
    already = torch.tensor([one == value for one in covariates[name]])
    assert (moved[~already] > 0.5).all()
    assert output.covariates[name] == [value] * len(images)


def test_training_and_generation_run_on_real_radiographs(small_network, tmp_path, monkeypatch):
    monkeypatch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=20))
    run, target = tmp_path / "run", tmp_path / "synthfair"
    settings = ["--max_train_steps", "2", "--train_batch_size", "8", "--resolution", "32", "--default_steps", "2"]
    assert main(["train", "--source", str(RADIOGRAPHS), "--output_dir", str(run), *settings]) == 0
    command = [
        "generate",
        "--source",
        str(RADIOGRAPHS),
        "--pretrained_model_name_or_path",
        str(run),
        "--num_subjects",
        "28",
    ]
    assert main([*command, "--output_dir", str(target)]) == 0
    assert main(["verify", str(target)]) == 0


def test_the_causal_model_of_several_findings_recovers_the_shares_of_112120_rows():
    preset = get_preset("nih_chestxray14")
    table, counts = read_table(TABLE, preset.covariates)
    assert counts["rows"] == 112_120
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    report = fit_scm(scm, table, seed=0)
    assert report["age"]["rows"] + report["age"]["held_out_rows"] == 112_120
    drawn = scm.sample(50_000, torch.Generator().manual_seed(0))
    encoded = {name: torch.from_numpy(column) for name, column in preset.covariates.encode(table).items()}
    known = encoded["age"].isfinite()
    assert drawn["age"].mean().item() == pytest.approx(encoded["age"][known].mean().item(), abs=0.5)
    assert drawn["age"].std().item() == pytest.approx(encoded["age"][known].std().item(), abs=0.5)
    for name in preset.covariates.names[1:]:
        truth = encoded[name][encoded[name] >= 0].float().mean().item()
        assert drawn[name].float().mean().item() == pytest.approx(truth, abs=0.01 if truth > 0.1 else 0.003)
    for finding in ("effusion", "edema", "pneumothorax"):
        for one in (0, 1):
            truth = encoded["view"][encoded[finding] == one].float().mean().item()
            assert drawn["view"][drawn[finding] == one].float().mean().item() == pytest.approx(truth, abs=0.05)
    # of which an effusion is a cause
    for one in (0, 1):
        truth = encoded["atelectasis"][encoded["effusion"] == one].float().mean().item()
        assert drawn["atelectasis"][drawn["effusion"] == one].float().mean().item() == pytest.approx(truth, abs=0.03)


def test_the_causal_model_recovers_the_shares_of_112120_rows():
    preset = get_preset("chest_xray")
    preset = preset.restrict(tuple(name for name in preset.covariates.names if name != "race"))
    table, counts = read_table(TABLE, preset.covariates)
    assert counts["rows"] == 112_120
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    report = fit_scm(scm, table, seed=0)
    assert report["age"]["rows"] + report["age"]["held_out_rows"] == 112_120
    drawn = scm.sample(50_000, torch.Generator().manual_seed(0))
    encoded = preset.covariates.encode({**table, "scanner": [None] * 112_120})
    assert drawn["age"].mean().item() == pytest.approx(encoded["age"].mean(), abs=1)
    assert drawn["age"].std().item() == pytest.approx(encoded["age"].std(), abs=1)
    assert drawn["sex"].float().mean().item() == pytest.approx(encoded["sex"].mean(), abs=0.01)
    known = encoded["finding"] >= 0
    assert drawn["finding"].float().mean().item() == pytest.approx(encoded["finding"][known].mean(), abs=0.005)
    for finding in (0, 1):
        truth = encoded["view"][encoded["finding"] == finding].mean()
        assert drawn["view"][drawn["finding"] == finding].float().mean().item() == pytest.approx(truth, abs=0.05)
