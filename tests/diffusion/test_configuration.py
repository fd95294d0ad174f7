"""Configurations of a saved pipeline: sizes that are none, too large, or of another network are one sentence."""

import json
import shutil
import time
from pathlib import Path

import pytest

from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.errors import InputError


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    pipeline.save_pretrained(directory)
    return directory


def changed(saved, directory, part, **settings):
    copy = shutil.copytree(saved, directory / "copy", dirs_exist_ok=True)
    path = copy / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return copy


INDEX, UNET, SOLVER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
ENCODER, SCM = "covariate_encoder/config.json", "scm/config.json"
SIZES = (-1, 0, 10**9, 10**30, 1e39, "16", None, [], {}, True)

CASES = [
    *((INDEX, name, value) for name in ("resolution", "space_to_depth") for value in SIZES if value is not None),
    *((INDEX, "default_steps", value) for value in (-1, 0, 10**9, "10", [])),
    *((INDEX, "default_guidance_scale", value) for value in (-1, 1e39, "3", [], {"race": 1}, {"sex": -1})),
    *((INDEX, "default_intervention_level", value) for value in (-1, 0, 2, "1")),
    *((INDEX, "preset", value) for value in (None, [], "chest_xray", {}, {"name": 3})),
    *((UNET, name, value) for name in ("sample_size", "in_channels", "cross_attention_dim") for value in SIZES),
    *((UNET, "block_out_channels", value) for value in ([0, 0], [-32, 64], [10**7, 10**7], [10**12, 10**12], [], 3)),
    *((UNET, "norm_num_groups", value) for value in (-1, 0, 10**9)),
    *((UNET, name, value) for name in ("layers_per_block", "attention_head_dim") for value in (-1, [-1, 1], 10**9)),
    (UNET, "mid_block_scale_factor", -1.0),
    *((ENCODER, "width", value) for value in SIZES),
    *((part, "variables", value) for part in (ENCODER, SCM) for value in ([], [{}], 3, None)),
    *((SCM, "edges", value) for value in ([["age", "nowhere"]], [["sex", "age"], ["age", "sex"]], 3)),
    *((SOLVER, "shift", value) for value in (-1, 0, 1e39, "1", [])),
    *((SOLVER, "mixing", value) for value in (-1, 0, 2, "1", [])),
    *((SOLVER, "base", value) for value in ("heun", 3, [])),
]


@pytest.mark.parametrize(
    ("part", "name", "value"), CASES, ids=[f"{part}-{name}-{value}" for part, name, value in CASES]
)
def test_a_configuration_that_no_network_has_is_one_sentence(saved, tmp_path, part, name, value):
    directory = changed(saved, tmp_path, part, **{name: value})
    started = time.monotonic()
    with pytest.raises(InputError) as raised:
        CausalDiffusionPipeline.load(directory)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert str(directory) in str(raised.value)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("part", [INDEX, SOLVER])
def test_numbers_that_are_none_are_refused(saved, tmp_path, part, number):
    name = {"model_index.json": "default_guidance_scale", SOLVER: "shift"}[part]
    directory = changed(saved, tmp_path, part, **{name: "HERE"})
    path = directory / part
    path.write_text(path.read_text().replace('"HERE"', number))
    with pytest.raises(InputError, match="can't be loaded"):
        CausalDiffusionPipeline.load(directory)


@pytest.mark.parametrize("part", [INDEX, UNET, ENCODER, SCM, SOLVER])
@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", "3", "{", "null"])
def test_what_is_no_configuration_is_one_sentence(saved, tmp_path, part, text):
    directory = changed(saved, tmp_path, part)
    (directory / part).write_text(text)
    with pytest.raises(InputError, match=r"can't be loaded|no readable model_index\.json"):
        CausalDiffusionPipeline.load(directory)


def test_covariates_of_another_domain_are_refused(saved, tmp_path):
    variables = json.loads((saved / SCM).read_text())["variables"]
    turned = [{**one, "levels": one["levels"][::-1]} for one in variables]
    for part in (SCM, ENCODER):
        directory = changed(saved, tmp_path / part.split("/")[0], part, variables=turned)
        with pytest.raises(InputError, match="has other covariates or levels than the preset"):
            CausalDiffusionPipeline.load(directory)
