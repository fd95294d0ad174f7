"""Further training of a saved generator: what it may change, what its record says, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from synthfair_hf import fitting
from synthfair_hf.cli import main
from synthfair_hf.diffusion.guidance import conditional_velocity
from synthfair_hf.diffusion.latents import to_latents
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.solver import ReversibleFlowScheduler
from synthfair_hf.errors import InputError
from synthfair_hf.fitting import PairedExamples, train_generator
from synthfair_hf.measure.predictors import PredictorTrainingConfig, train_predictor
from synthfair_hf.presets import PHANTOM
from synthfair_hf.records import Record
from synthfair_hf.saved import find_generator
from synthfair_hf.simulators.phantom import PhantomSource
from synthfair_hf.training import StepSampler, TrainingConfig, TrainingExamples

SIDE, SUBJECTS = 16, 60
NETWORKS = ("unet", "covariate_encoder")


@pytest.fixture(autouse=True)
def _few_subjects(monkeypatch):
    monkeypatch.setattr(fitting, "SUBJECTS", SUBJECTS)


@pytest.fixture(scope="module")
def generator(tmp_path_factory, save_phantom_generator):
    """A saved generator with strengths of its own, and a network that knows nothing."""
    return save_phantom_generator(
        tmp_path_factory.mktemp("generators") / "tiny",
        SIDE,
        SUBJECTS,
        default_steps=3,
        default_guidance_scale={"sex": 1.5},
        planted_scanner=False,
    )


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    directory = tmp_path_factory.mktemp("predictors") / "judge"
    config = PredictorTrainingConfig(output_dir=directory, max_train_steps=2, train_batch_size=8)
    train_predictor(PhantomSource(SUBJECTS, 0), config, SIDE, channels=(8, 8, 8, 8), width=8)
    return directory


def weights(directory, part):
    return load_file(directory / part / "diffusion_pytorch_model.safetensors")


def differ(one, other, part):
    ours, theirs = weights(one, part), weights(other, part)
    assert set(ours) == set(theirs)
    return any(not torch.equal(ours[name], theirs[name]) for name in ours)


def command(verb, generator, directory, *rest):
    start = [verb, "--pretrained_model_name_or_path", str(generator), "--output_dir", str(directory)]
    return main(
        [*start, "--max_train_steps", "1", "--train_batch_size", "4", "--lr_warmup_steps", "0", *map(str, rest)]
    )


@pytest.mark.parametrize("verb", ["finetune", "straighten"])
def test_only_the_networks_change_and_the_record_says_how(verb, generator, predictor, tmp_path, capsys):
    rest = ["--predictor", predictor, "--weight", "0.5"] if verb == "finetune" else ["--pairs", "6"]
    assert command(verb, generator, tmp_path / "run", *rest) == 0
    assert "after 1 steps" in capsys.readouterr().out
    for part in NETWORKS:
        assert differ(generator, tmp_path / "run", part)
    assert not differ(generator, tmp_path / "run", "scm")
    ours, theirs = (json.loads((one / "model_index.json").read_text()) for one in (generator, tmp_path / "run"))
    assert {**ours, "_name_or_path": ""} == {**theirs, "_name_or_path": ""}, "steps, strengths, preset are taken over"
    record = Record.read(tmp_path / "run" / "record.json")
    assert record.inputs["initial_weights"] == find_generator(generator).revision
    assert record.inputs["access"] == find_generator(generator).access == "unknown", "its start has no record"
    other = ["--weight", "0.5000001"] if verb == "finetune" else ["--pairs", "7"]
    capsys.readouterr()
    assert command(verb, generator, tmp_path / "run", *rest, *other, "--resume_from_checkpoint", "latest") == 2
    assert "made by other settings" in capsys.readouterr().err
    assert command(verb, generator, tmp_path / "run", *rest, "--resume_from_checkpoint", "latest") == 0
    assert Record.read(tmp_path / "run" / "record.json") == record


def test_pairs_are_images_and_the_noise_that_makes_them(generator):
    pipeline = CausalDiffusionPipeline.load(generator)
    examples = TrainingExamples(PhantomSource(SUBJECTS, 0), "train", SIDE, seed=3)
    paired = PairedExamples(examples, pipeline, pairs=5, num_inference_steps=60)
    assert len(paired) == 5
    batch = {name: torch.stack([paired[row, 99][name] for row in range(5)]) for name in paired[0, 0]}
    first = next(iter(StepSampler(len(examples), 5, seed=3, start=0, stop=9, rank=0, ranks=1)))
    for row, key in enumerate(first):
        assert torch.equal(batch["image"][row], examples[key]["image"]), "those that training sees first"
    alone = PairedExamples(examples, pipeline, pairs=2, num_inference_steps=60)
    assert torch.allclose(alone[1, 0]["noise"], batch["noise"][1], atol=1e-4), "a pair does not depend on its batch"
    with torch.no_grad():
        tokens = pipeline.covariate_encoder(batch)
        state = batch["noise"][:, None].repeat(1, 2, 1, 1, 1)
        solver = ReversibleFlowScheduler(mixing=1.0)
        made = solver.predict(conditional_velocity(pipeline.unet, tokens), state, 60).mean(dim=1)
        drawn = torch.randn(state.shape, generator=torch.Generator().manual_seed(0))
        other = solver.predict(conditional_velocity(pipeline.unet, tokens), drawn, 60).mean(dim=1)
    latents = to_latents(batch["image"], pipeline.config.space_to_depth)
    # Not zero: the noise is one state, the solver's answer to an image is a pair.
    assert (made - latents).abs().mean() < 0.1 * (other - latents).abs().mean()


def test_another_start_default_or_graph_is_another_run(tmp_path, monkeypatch):
    # seven fits would take a minute and decide nothing here
    monkeypatch.setattr("synthfair_hf.fitting.fit_scm", lambda scm, table, seed: {})

    def run(preset=PHANTOM, **settings):
        config = TrainingConfig(
            output_dir=tmp_path / "run", max_train_steps=1, train_batch_size=2, resume_from_checkpoint="latest"
        )
        return train_generator(preset, None, config, resolution=SIDE, **settings)

    first = run(default_steps=3, default_guidance_scale=2)
    assert first.inputs == run(default_steps=3, default_guidance_scale=2.0).inputs
    same = dict.fromkeys(PHANTOM.covariates.names, 2.0)
    assert first.inputs == run(default_steps=3, default_guidance_scale=same).inputs
    for settings in ({"default_steps": 4, "default_guidance_scale": 2}, {"default_steps": 3}):
        with pytest.raises(InputError, match=r"made by other settings.*defaults"):
            run(**settings)
    assert CausalDiffusionPipeline.load(tmp_path / "run").scheduler.base == "midpoint"
    fewer = PHANTOM.model_copy(update={"edges": PHANTOM.edges[1:]})
    with pytest.raises(InputError, match=r"made by other settings.*graph"):
        run(fewer, default_steps=3, default_guidance_scale=2)
    assert find_generator(tmp_path / "run").planted_scanner is False, "the phantom draws its own"


def test_whether_scanners_were_planted_is_known_without_weights_and_kept(generator, tmp_path, monkeypatch):
    assert find_generator(generator).planted_scanner is False
    shutil.copytree(generator, tmp_path / "other")
    index = json.loads((tmp_path / "other" / "model_index.json").read_text())
    (tmp_path / "other" / "model_index.json").write_text(json.dumps({**index, "planted_scanner": True}))
    assert find_generator(tmp_path / "other").planted_scanner is True
    assert find_generator(tmp_path / "other").revision != find_generator(generator).revision


@pytest.mark.parametrize(
    ("verb", "rest", "sentence"),
    [
        ("finetune", ["--predictor", "{judge}", "--weight", "-1"], "--weight: -1 is not allowed; give a number from 0"),
        ("finetune", ["--predictor", "{judge}", "--leak", "nan"], "--leak: nan is not allowed"),
        ("finetune", ["--predictor", "{empty}"], "not a saved predictor"),
        ("finetune", [], "--predictor"),
        ("finetune", ["--predictor", "{judge}", "--source", "{empty}"], "is not for the phantom"),
        ("finetune", ["--predictor", "{judge}", "--train_batch_size", "1"], "--train_batch_size: 1 is not allowed"),
        ("finetune", ["--predictor", "{large}"], "this predictor reads [n, 1, 32, 32]"),
        ("straighten", ["--dataloader_num_workers", "1"], "--dataloader_num_workers: must be 0 here"),
        ("straighten", ["--pairs", "0"], "--pairs: 0 is not allowed; give a whole number from 1 on"),
        ("straighten", ["--num_inference_steps", "0"], "--num_inference_steps: 0 is not allowed"),
        ("straighten", ["--learning_rate", "-1"], "learning_rate"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(verb, rest, sentence, generator, predictor, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"judge": str(predictor), "empty": str(tmp_path / "empty"), "large": str(tmp_path / "large")}
    if "{large}" in rest:
        config = PredictorTrainingConfig(output_dir=tmp_path / "large", max_train_steps=1, train_batch_size=2)
        train_predictor(PhantomSource(SUBJECTS, 0), config, 32, channels=(8, 8, 8, 8), width=8)
        capsys.readouterr()
    given = [word.format(**places) for word in rest]
    assert (
        main([verb, "--pretrained_model_name_or_path", str(generator), "--output_dir", str(tmp_path / "run"), *given])
        == 2
    )
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
