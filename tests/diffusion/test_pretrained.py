"""The shipped generators on generated images alone; test_real_radiographs.py asks the same of real ones."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.measure.predictors import load_predictor
from synthfair_hf.measure.scoreboard import relations
from synthfair_hf.records import Record

SUPER_RESOLVED = Path(__file__).parents[2] / "weights" / "chest_xray_128"


@pytest.fixture(scope="module")
def radiographs():
    """Two phantom radiographs, one without and one with an effusion, as `(pipeline, images, covariates)`."""
    pipeline = load_generator()
    source = PhantomSource(2, seed=0)
    images = torch.stack([torch.from_numpy(source.image(row, 128))[None] for row in range(2)])
    covariates = {name: source.table[name] for name in pipeline.covariates.names if name in source.table}
    findings = {name: ["absent"] * 2 for name in findings_of(pipeline.preset)} | {"effusion": ["absent", "present"]}
    return pipeline, images, covariates | findings


def test_it_composes_at_its_default_steps(radiographs):
    pipeline, images, covariates = radiographs
    images, covariates = images[1:], {name: column[1:] for name, column in covariates.items()}
    current = images
    for _ in range(2):
        current = pipeline(image=current, covariates=covariates, do={}, output_type="pt").images
    assert (current - images).abs().mean().item() * 255 <= 0.05


def test_its_scanners_have_their_frames_and_brightness(radiographs):
    """The computed scanner's collimation is dark at the edge, the portable one's image brighter than flat panel's."""
    pipeline, _, covariates = radiographs
    asked = {"output_type": "pt", "num_inference_steps": 4}
    noise = pipeline.sample_noise([torch.Generator().manual_seed(seed) for seed in range(2)])
    taken = {
        scanner: pipeline(covariates={**covariates, "scanner": [scanner] * 2}, noise=noise, **asked).images
        for scanner in ("flatpanel", "computed", "portable")
    }
    frame = torch.ones(128, 128, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert taken["computed"][:, 0, frame].mean() < 0.1
    assert taken["portable"].mean() > taken["flatpanel"].mean()


def test_it_is_small_whole_and_recorded():
    files = [path for path in DEFAULT_GENERATOR.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    record = Record.read(DEFAULT_GENERATOR / "record.json")
    assert record.counts["covariate_table"]["rows"] == 112_120
    chosen = Record.read(DEFAULT_GENERATOR / "calibration.json").measured["chosen"]
    assert set(chosen) == {"age", "sex", "effusion", "cardiomegaly", "view"}
    assert find_generator().resolution == 128
    config = load_generator().config
    for name, one in chosen.items():
        assert config.default_guidance_scale[name] == one["scale"]
        assert config.default_intervention_level[name] == one["level"]


def test_its_judge_learned_from_other_patients():
    judge = DEFAULT_GENERATOR.parent / "chest_xray_findings_judge_128"
    assert relations(find_generator(), [judge]) == {judge.name: "independent: other patients"}


@pytest.mark.parametrize(
    ("name", "reader"), [("morphomnist_32", "morphomnist_predictor"), ("phantom_64", "phantom_predictor")]
)
def test_the_small_generators_are_open_and_read_by_who_saw_training_images_alone(name, reader):
    directory = DEFAULT_GENERATOR.parent / name
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) <= 5_000_000
    saved = find_generator(directory)
    assert saved.access == "open"
    predictor = load_predictor(directory.parent / reader, saved.preset.covariates)
    blank = torch.zeros(1, 1, saved.resolution, saved.resolution)
    assert set(predictor.predict(blank)) == set(saved.preset.covariates.names)


def test_the_super_resolved_edition_keeps_a_radiographs_detail_and_answers_as_the_one_it_was_made_of():
    directory, start = SUPER_RESOLVED, DEFAULT_GENERATOR.parent / "chest_xray_64"
    large, small = (CausalDiffusionPipeline.load(one) for one in (directory, start))
    assert Record.read(directory / "record.json").inputs["initial_weights"] == find_generator(start).revision
    for name, weights in small.unet.state_dict().items():
        assert torch.equal(large.unet.state_dict()[name], weights), name
    source = PhantomSource(40, seed=0)
    row = source.table["finding"].index("pneumonia")
    radiograph = torch.from_numpy(source.image(row, 128))[None, None]
    covariates = {name: [source.table[name][row]] for name in large.covariates.names}
    asked = {"covariates": covariates, "output_type": "pt", "num_inference_steps": 2}
    assert (large(image=radiograph, do={}, **asked).images - radiograph).abs().mean().item() * 255 <= 0.05
    answers = [
        one(image=image, do={"scanner": "portable"}, **asked).images
        for one, image in ((large, radiograph), (small, avg_pool2d(radiograph, 2)))
    ]
    moved = (avg_pool2d(radiograph, 2) - answers[1]).abs().mean()
    assert (avg_pool2d(answers[0], 2) - answers[1]).abs().mean() < 0.2 * moved


def test_all_weights_together_are_within_their_budget():
    assert sum(path.stat().st_size for path in DEFAULT_GENERATOR.parent.rglob("*.safetensors")) <= 60_000_000
