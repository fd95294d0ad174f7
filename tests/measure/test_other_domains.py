"""A generator of any domain is measured: in its drawn world, and on real images without known answers."""

import csv
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.brain_mri.phantom import BrainPhantom
from synthfair_hf.domains.dermatology.phantom import SKIN_PHANTOM
from synthfair_hf.domains.drawn import DrawnSource
from synthfair_hf.domains.preset import Network
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.worlds import ObservedWorld, open_world
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import train_predictor
from synthfair_hf.measure.scoreboard import PipelineSystem, open_for, open_predictors
from synthfair_hf.measure.soundness import score
from synthfair_hf.training.config import PredictorTrainingConfig, TrainingConfig

SUBJECTS, SIDE = 150, 16
TINY = {"max_train_steps": 1, "train_batch_size": 2, "mixed_precision": "no"}
SMALL = {"resolution": SIDE, "network": Network(channels=(32, 32), space_to_depth=2, width=32)}


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=10))
        for module in ("registry", "worlds"):
            patch.setattr(f"synthfair_hf.domains.{module}.SUBJECTS", SUBJECTS)
        yield


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices drawn by the phantom as a folder of images, with what OASIS-1 tells of them."""
    folder = tmp_path_factory.mktemp("slices")
    source = DrawnSource(BrainPhantom(), 30, seed=3)
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "patient_id", "age", "sex", "diagnosis"])
        for row in range(len(source)):
            pixels = np.rint(source.image(row, 2 * SIDE) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
            table.writerow([f"{row}.png", row, *(source.table[name][row] for name in ("age", "sex", "diagnosis"))])
    return folder


def test_a_generator_in_colours_is_opened_in_its_drawn_world(tmp_path):
    run, predictor = tmp_path / "run", tmp_path / "predictor"
    train_generator(SKIN_PHANTOM.model_copy(update=SMALL), None, TrainingConfig(output_dir=run, **TINY))
    source = open_source(None, SKIN_PHANTOM, SIDE)
    config = PredictorTrainingConfig(output_dir=predictor, **TINY)
    assert train_predictor(source, config, SIDE, channels=(8, 8, 8, 8), width=8).inputs["access"] == "open"
    saved = find_generator(run)
    world = open_for(saved, "dermatology_phantom", None, "test", 2)
    assert world.fingerprint == source.fingerprint
    (judge,) = open_predictors(saved, [predictor]).values()
    assert judge.features(world.images).shape == (2, 8)
    with pytest.raises(InputError, match="world: brain_mri_phantom has age, sex, field_strength"):
        open_for(saved, "brain_mri_phantom", None, "test", 2)


def test_a_generator_trained_on_a_folder_is_measured_on_its_images_without_an_oracle(tmp_path, slices):
    preset = get_preset("brain_mri").model_copy(update=SMALL)
    train_generator(preset, slices, TrainingConfig(output_dir=tmp_path / "run", **TINY))
    world = open_for(find_generator(tmp_path / "run"), "observed", slices, "test", 2)
    system = PipelineSystem("run", load_generator(tmp_path / "run"), num_inference_steps=1)
    rows = score(system, world, {}, (0,), names=("sex",), cycles=(1,), pairs=(), n_bootstrap=10)
    assert {row["metric"] for row in rows} >= {"composition_l1_at_1", "factual_l1", "reversibility_l1"}
    assert not [row for row in rows if row["metric"].startswith("true_")]


def test_the_observed_world_knows_what_changes_nothing_alone(slices):
    preset = get_preset("brain_mri")
    world = open_world("observed", "test", directory=slices, resolution=SIDE, preset=preset)
    assert isinstance(world, ObservedWorld)
    assert world.covariates.names == ("age", "sex", "diagnosis")
    assert world.effects("age") == ("diagnosis",)
    same = world.truth({"sex": world.table["sex"]})
    assert same.covariates == world.table
    assert (same.images == world.images).all()
    other = {"male": "female", "female": "male"}
    assert world.truth({"sex": [other[sex] for sex in world.table["sex"]]}) is None
    training = world.training_images()
    assert len(training) == (1 + world.augmented_copies) * len(world.training["age"])
    with pytest.raises(InputError, match="source_dir: the observed world needs a folder of images; give one"):
        open_world("observed", "test", preset=preset)
