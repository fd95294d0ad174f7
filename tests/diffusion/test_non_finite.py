"""What is not finite is one sentence and no file, whatever made it so: guidance, weights, precision, or the image."""

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.align.candidates import make_candidates
from synthfair_hf.cli import main
from synthfair_hf.diffusion.images import NonFiniteOutput, sound_rows
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.reflow import PairedExamples
from synthfair_hf.errors import InputError
from synthfair_hf.training.examples import TrainingExamples

ASKED = "age=61 sex=male finding=no_finding view=PA scanner=flatpanel"


def spoil(pipeline, part, value):
    """Spoil one weight of a part."""
    with torch.no_grad():
        list(getattr(pipeline, part).parameters())[-1].view(-1)[0] = value
    return pipeline


@pytest.mark.parametrize("scale", [1e10, 1e30, 3e38])
def test_overflowing_guidance_is_one_sentence(pipeline, covariates, images, scale):
    asked = {"covariates": covariates, "image": images, "output_type": "pil", "num_inference_steps": 4}
    with pytest.raises(NonFiniteOutput, match=r"images 1, 2 are not finite .*; lower guidance_scale") as raised:
        pipeline(**asked, do={"sex": "male"}, guidance_scale=scale)
    assert "\n" not in str(raised.value)
    assert raised.value.output.images.isnan().flatten(1).all(dim=1).tolist() == [False, True, True]
    with pytest.raises(InputError, match="not finite"):
        pipeline(covariates=covariates, sample_guidance_scale=scale, num_inference_steps=4)


def test_guidance_too_large_is_an_error_or_is_told(pipeline, covariates, images, caplog):
    asked = {"covariates": covariates, "image": images, "num_inference_steps": 4, "do": {"sex": "male"}}
    pipeline(**asked, guidance_scale=1.0)
    assert caplog.text == ""
    for scale in (1e3, 1e4):
        with pytest.raises(NonFiniteOutput, match=r"outside of -3 to 4, .*; lower guidance_scale"):
            pipeline(**asked, guidance_scale=scale)
    pipeline(**asked, guidance_scale=40.0)
    assert "guidance_scale: 2 images of 3 clipped to black or white" in caplog.text
    caplog.clear()
    pipeline(covariates=covariates, sample_guidance_scale=10.0, num_inference_steps=4)
    assert "sample_guidance_scale: 3 images of 3 clipped" in caplog.text


def test_the_limit_is_farther_than_any_noise():
    rows = torch.tensor([-2.99, 3.99, 0.5, -3.01, 4.01, float("nan"), float("inf")])
    assert sound_rows(rows[:, None, None, None]).tolist() == [True] * 3 + [False] * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("part", ["unet", "covariate_encoder"])
def test_weights_that_are_not_finite_give_no_image(fresh_pipeline, covariates, images, part, value):
    spoil(fresh_pipeline, part, value)
    for asked in ({}, {"image": images, "do": {"scanner": "portable"}}):
        with pytest.raises(InputError, match="not finite"):
            fresh_pipeline(covariates=covariates, **asked)


def test_a_causal_model_that_is_not_finite_gives_no_covariates(fresh_pipeline, covariates, images):
    scm = fresh_pipeline.scm
    noise = scm.sample_noise(3, torch.Generator().manual_seed(0))
    for parameter in scm.parameters():
        parameter.data.fill_(torch.nan)
    for ask in (
        lambda: scm.evaluate(noise),
        lambda: scm.sample(3, torch.Generator()),
        lambda: fresh_pipeline(image=images, covariates=covariates, do={"sex": "male"}),
    ):
        with pytest.raises(InputError, match=r"scm: the mechanism of [a-z]+ gives values that are not finite"):
            ask()
    factual = {name: torch.from_numpy(column) for name, column in scm.covariates.encode(covariates).items()}
    for name in scm.covariates.names:
        others = {one: value for one, value in factual.items() if one != name}
        with pytest.raises(InputError, match=f"the mechanism of {name} gives"):
            scm.evaluate(noise, others)


@pytest.mark.parametrize("part", ["unet", "covariate_encoder", "scm"])
def test_a_checkpoint_of_such_weights_is_not_loaded(fresh_pipeline, part, tmp_path):
    spoil(fresh_pipeline, part, float("nan")).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"{part} holds weights that are not finite .*; train it anew"):
        CausalDiffusionPipeline.load(tmp_path)


def test_half_precision_that_overflows_says_what_to_use(fresh_pipeline, covariates, images):
    with torch.no_grad():
        fresh_pipeline.unet.conv_in.weight.mul_(1e6)
    asked = {"image": images, "covariates": covariates, "do": {"sex": "male"}, "output_type": "pt"}
    assert fresh_pipeline(**asked).images.isfinite().all()
    with pytest.raises(NonFiniteOutput, match="use float32 or bfloat16 instead of float16"):
        fresh_pipeline.to(torch.float16)(**asked)


class Films:
    """A source of blank images with the given covariates."""

    def __init__(self, covariates, table):
        self.covariates, self.table, self.splits = covariates, table, ["train"] * 3
        self.patient_ids = ["0", "1", "2"]

    def __len__(self):
        return 3

    def draw(self, index, resolution, rng):
        values = {name: column[index] for name, column in self.table.items()}
        return np.full((resolution, resolution), 0.5, dtype=np.float32), values


def test_pairs_of_reflow_are_finite(fresh_pipeline, covariates):
    examples = TrainingExamples(Films(fresh_pipeline.covariates, covariates), "train", 16, 0)
    pairs = PairedExamples(examples, spoil(fresh_pipeline, "unet", float("nan")), 2, 2)
    with pytest.raises(InputError, match="some of the generator's images or noise are not finite"):
        pairs[(0, 0)]


@pytest.fixture
def saved(fresh_pipeline, tmp_path):
    fresh_pipeline.save_pretrained(tmp_path / "generator")
    return tmp_path / "generator"


@pytest.mark.parametrize("scale", ["1e30", "1e39", "nan", "inf"])
def test_the_command_line_answers_in_one_sentence_and_writes_nothing(saved, tmp_path, capsys, scale):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "film.png")
    words = (
        f"counterfactual --image {tmp_path}/film.png --covariates {ASKED} --do sex=female "
        f"--guidance_scale {scale} --output_dir {tmp_path}/answer --pretrained_model_name_or_path {saved}"
    )
    assert main(words.split()) == 2
    told = capsys.readouterr()
    # beside diffusers' bar of progress
    assert len([line for line in told.err.splitlines() if line.strip() and "Loading pipeline" not in line]) == 1
    assert "wrote" not in told.out
    assert not (tmp_path / "answer").exists()


def test_candidates_of_an_overflowing_generator_are_not_written(fresh_pipeline, tmp_path, monkeypatch):
    fresh_pipeline.save_pretrained(tmp_path / "generator")
    load = CausalDiffusionPipeline.load
    monkeypatch.setattr(CausalDiffusionPipeline, "load", lambda directory: spoil(load(directory), "unet", float("inf")))
    with pytest.raises(InputError, match="not finite"):
        make_candidates(tmp_path / "pairs", 2, pretrained_model_name_or_path=tmp_path / "generator")
    assert not (tmp_path / "pairs").exists()
