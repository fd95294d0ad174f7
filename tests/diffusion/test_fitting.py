"""Further training of a saved generator: what it may change, what its record says, and what is refused."""

import json
import shlex
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from synthfair_hf.cli import main
from synthfair_hf.diffusion.denoiser import LOG_STD
from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.objective import FlowMatchingObjective
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import train_predictor
from synthfair_hf.records import Record
from synthfair_hf.training.config import PredictorTrainingConfig, TrainingConfig
from synthfair_hf.training.origins import origins_in

SIDE, SUBJECTS = 16, 60
NETWORKS = ("unet", "covariate_encoder")

pytestmark = pytest.mark.usefixtures("short_fit")


@pytest.fixture(autouse=True)
def _few_subjects(monkeypatch):
    monkeypatch.setattr("synthfair_hf.domains.registry.SUBJECTS", SUBJECTS)


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


@pytest.mark.parametrize("verb", ["finetune", "rectify"])
def test_only_the_networks_change_and_the_record_says_how(verb, generator, predictor, tmp_path, capsys):
    rest = ["--predictor", predictor, "--weight", "0.5"] if verb == "finetune" else ["--images", "6"]
    assert command(verb, generator, tmp_path / "run", *rest) == 0
    assert "after 1 step;" in capsys.readouterr().out
    for part in NETWORKS:
        assert differ(generator, tmp_path / "run", part)
    assert not differ(generator, tmp_path / "run", "scm")
    ours, theirs = (json.loads((one / "model_index.json").read_text()) for one in (generator, tmp_path / "run"))
    assert theirs.pop("access") == "unknown"
    assert {**ours, "_name_or_path": ""} == {**theirs, "_name_or_path": ""}, "steps, strengths, preset are taken over"
    record = Record.read(tmp_path / "run" / "record.json")
    assert record.inputs["initial_weights"] == find_generator(generator).revision
    taught = [list(one) for one in origins_in(predictor)] if verb == "finetune" else []
    assert record.counts["origins"] == [[None, "all"], *taught], "the generator has no record"
    assert record.inputs["access"] == find_generator(generator).access == "unknown", "its start has no record"
    other = ["--weight", "0.5000001"] if verb == "finetune" else ["--images", "7"]
    capsys.readouterr()
    assert command(verb, generator, tmp_path / "run", *rest, *other, "--resume_from_checkpoint", "latest") == 2
    assert "made by other settings" in capsys.readouterr().err
    assert command(verb, generator, tmp_path / "run", *rest, "--resume_from_checkpoint", "latest") == 0
    assert Record.read(tmp_path / "run" / "record.json") == record


@pytest.mark.parametrize("verb", ["finetune", "rectify"])
def test_a_network_that_predicts_the_image_goes_on_to(verb, predictor, save_phantom_generator, tmp_path):
    start = save_phantom_generator(tmp_path / "start", SIDE, 0, prediction_type="sample", default_steps=2)
    rest = ["--predictor", predictor] if verb == "finetune" else ["--images", "4"]
    assert command(verb, start, tmp_path / "run", *rest) == 0
    trained = CausalDiffusionPipeline.load(tmp_path / "run")
    assert (trained.unet.prediction_type, trained.preset.network.prediction_type) == ("sample", "sample")
    assert differ(start, tmp_path / "run", "unet")


def test_a_network_that_predicts_the_image_learns_the_variance_of_what_it_leaves_out(
    save_phantom_generator, tmp_path, capsys
):
    starts = {
        name: save_phantom_generator(tmp_path / name, SIDE, 0, prediction_type=name, default_steps=2)
        for name in ("sample", "velocity")
    }
    asked = ["--preset", "phantom", "--prediction_type", "sample_and_variance"]
    assert command("train", starts["velocity"], tmp_path / "refused", *asked) == 2
    assert "prediction_type: given beside pretrained_model_name_or_path" in capsys.readouterr().err
    assert command("train", starts["sample"], tmp_path / "run", *asked) == 0
    start, trained = (CausalDiffusionPipeline.load(one) for one in (starts["sample"], tmp_path / "run"))
    assert trained.unet.prediction_type == trained.preset.network.prediction_type == "sample_and_variance"
    assert trained.unet.config.out_channels == start.unet.config.out_channels
    assert not torch.equal(trained.unet.grain.place, torch.full_like(trained.unet.grain.place, LOG_STD)), (
        "it is trained"
    )
    assert (trained.scheduler.base, trained.scheduler.shift) == ("midpoint", 0.4)
    assert trained.config.default_steps == 2
    # and it is trained further, from what it has learned
    assert command("train", tmp_path / "run", tmp_path / "longer", "--preset", "phantom") == 0
    assert CausalDiffusionPipeline.load(tmp_path / "longer").unet.prediction_type == "sample_and_variance"


def test_an_super_resolved_generator_answers_as_before_with_more_pixels(generator, tmp_path, capsys, monkeypatch):
    """Its networks are untouched, do() nothing gives the radiograph back, and a second autoencoder is refused."""
    run = tmp_path / "run"
    rest = ["--resolution", str(2 * SIDE), "--learning_rate", "1e-3"]
    assert command("super_resolve", generator, run, *rest) == 0
    for part in (*NETWORKS, "scm"):
        assert not differ(generator, run, part)
    assert find_generator(run).resolution == find_generator(run).preset.resolution == 2 * SIDE
    small, large = (CausalDiffusionPipeline.load(one) for one in (generator, run))
    assert (large.config.default_steps, large.config.default_guidance_scale) == (3, {"sex": 1.5})
    assert large.latent_shape() == small.latent_shape()
    source = PhantomSource(SUBJECTS, 0)
    radiograph = torch.from_numpy(source.image(0, 2 * SIDE))[None, None]
    covariates = {name: column[:1] for name, column in source.table.items()}
    same = large(image=radiograph, covariates=covariates, do={}, output_type="pt").images
    assert (same - radiograph).abs().mean() * 255 < 0.01
    # A sample is what the decoder makes of the small generator's. Both stop at faint noise, which no range cuts off.
    noise = 0.2 * small.sample_noise(torch.Generator().manual_seed(0))
    monkeypatch.setattr("synthfair_hf.diffusion.solver.ReversibleFlowScheduler.predict", lambda *asked: asked[2])
    before, after = (one(covariates=covariates, noise=noise, output_type="pt").images for one in (small, large))
    assert 0 < before.min() < before.max() < 1
    with torch.no_grad():
        decoded = (large.vae.decode(2 * before - 1).sample + 1) / 2
    assert torch.allclose(after, decoded.clamp(0, 1), atol=1e-4)
    capsys.readouterr()
    assert command("super_resolve", run, tmp_path / "again", "--resolution", str(4 * SIDE)) == 2
    assert "has an autoencoder already" in capsys.readouterr().err
    further = ["--learning_rate", "1e-9", "--preset", "phantom", "--resolution", str(2 * SIDE)]
    assert command("train", run, tmp_path / "further", *further) == 0
    assert CausalDiffusionPipeline.load(tmp_path / "further").vae is not None


def test_another_start_default_or_graph_is_another_run(tmp_path, monkeypatch):
    # seven fits would take a minute and decide nothing here
    monkeypatch.setattr("synthfair_hf.diffusion.fitting.fit_scm", lambda scm, table, seed: {})

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


def test_noise_levels_are_chosen_and_are_part_of_what_a_run_is(tmp_path, monkeypatch):
    monkeypatch.setattr("synthfair_hf.diffusion.fitting.fit_scm", lambda scm, table, seed: {})

    def run(name, **settings):
        config = TrainingConfig(
            output_dir=tmp_path / name,
            max_train_steps=1,
            train_batch_size=2,
            lr_warmup_steps=0,
            resume_from_checkpoint="latest",
        )
        return train_generator(PHANTOM, None, config, resolution=SIDE, **settings)

    run("default")
    run("same", logit_mean=0.0, logit_std=1.0)
    assert not differ(tmp_path / "default", tmp_path / "same", "unet")
    record = run("noise", logit_mean=6.0, logit_std=0.1)
    assert record.inputs["noise_levels"] == "location 6.0, scale 0.1"
    assert differ(tmp_path / "default", tmp_path / "noise", "unet")
    with pytest.raises(InputError, match=r"made by other settings.*noise_levels"):
        run("noise", logit_mean=6.0)
    for settings, sentence in (({"logit_std": 0.0}, "logit_std: 0"), ({"logit_mean": float("nan")}, "logit_mean: nan")):
        with pytest.raises(InputError, match=sentence):
            run("wrong", **settings)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_training_goes_on_by_the_command_that_it_prints(generator, tmp_path, monkeypatch, capsys):
    settings = ["--max_train_steps", "3", "--train_batch_size", "2", "--lr_warmup_steps", "0"]
    start = ["rectify", "--pretrained_model_name_or_path", str(generator), "--images", "8", *settings, "--output_dir"]
    assert main([*start, str(tmp_path / "whole")]) == 0
    forward, calls = FlowMatchingObjective.forward, []

    def interrupted(objective, batch, generator):
        calls.append(0)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return forward(objective, batch, generator)

    monkeypatch.setattr(FlowMatchingObjective, "forward", interrupted)
    capsys.readouterr()
    assert main([*start, str(tmp_path / "parts")]) == 130
    command = capsys.readouterr().err.strip().splitlines()[-1].partition(" it goes on by: synthfair ")[2]
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["checkpoint-2"]
    assert main(shlex.split(command)) == 0
    assert len(calls) == 3
    assert not any(differ(tmp_path / "whole", tmp_path / "parts", part) for part in NETWORKS)


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
        ("finetune", ["--predictor", "{judge}", "--off_target_weight", "nan"], "--off_target_weight: 'nan' is"),
        ("finetune", ["--predictor", "{empty}"], "not a saved predictor"),
        ("finetune", [], "--predictor"),
        ("finetune", ["--predictor", "{judge}", "--source", "{empty}"], "is not for the phantom"),
        ("finetune", ["--predictor", "{judge}", "--train_batch_size", "1"], "--train_batch_size: 1 is not allowed"),
        ("finetune", ["--predictor", "{large}"], "this predictor takes [n, 1, 32, 32]"),
        ("rectify", ["--dataloader_num_workers", "1"], "--dataloader_num_workers: must be 0 here"),
        ("rectify", ["--images", "0"], "--images: 0 is invalid; give a whole number from 1 to"),
        ("rectify", ["--num_inference_steps", "0"], "--num_inference_steps: 0 is not allowed"),
        ("rectify", ["--learning_rate", "-1"], "learning_rate"),
        ("super_resolve", ["--resolution", "24"], "--resolution: 24 is not allowed; this generator works at 16 pixels"),
        ("super_resolve", [], "--resolution"),
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
