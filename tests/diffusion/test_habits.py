"""Habits of diffusers' users: every form of an argument, every form of an output, and callbacks."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.diffusion.inputs import check_settings, encode_covariates, encode_interventions, strengths
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline, CausalPipelineOutput
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError

SCHEMA = get_preset("chest_xray").covariates.subset(["age", "sex", "finding", "view", "scanner"])
ONE = {"age": 30, "sex": "male", "finding": "no_finding", "view": "PA", "scanner": "flatpanel"}


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def draw(pipeline, covariates, **arguments):
    given = {"generator": seeded(3), "num_inference_steps": 2, "output_type": "pt", **arguments}
    return pipeline(covariates=covariates, **given)


def test_every_output_type_is_the_same_image(pipeline, covariates):
    expected = draw(pipeline, covariates).images
    array = draw(pipeline, covariates, output_type="np").images
    assert (array.dtype, array.shape) == (np.float32, (3, 16, 16, 1))
    assert np.array_equal(array, expected.numpy().transpose(0, 2, 3, 1))
    latents = draw(pipeline, covariates, output_type="latent").images
    assert latents.shape == (3, *pipeline.latent_shape())
    assert torch.equal(((torch.pixel_shuffle(latents, 2) + 1) / 2).clamp(0, 1), expected)
    for image, one in zip(draw(pipeline, covariates, output_type="pil").images, expected, strict=True):
        assert np.array_equal(np.asarray(image), (one[0] * 255).round().numpy())
    back = pipeline(image=array, covariates=covariates, do={}, num_inference_steps=2, output_type="np").images
    assert np.abs(back - array).max() < 1e-4, "what it gives, it takes"


def test_without_a_dict_the_fields_come_as_a_tuple(pipeline, covariates):
    output = draw(pipeline, covariates)
    images, values, noise, covariate_noise, residual = draw(pipeline, covariates, return_dict=False)
    assert isinstance(output, CausalPipelineOutput)
    assert torch.equal(images, output.images)
    assert torch.equal(noise, output.noise)
    assert (values, covariate_noise, residual) == (output.covariates, None, None)


def test_a_callback_sees_each_step_and_may_replace_the_states(pipeline, covariates):
    seen = []

    def look(pipe, step, timestep, tensors):
        assert pipe is pipeline
        seen.append((step, timestep, tensors["latents"].shape))

    expected = draw(pipeline, covariates).images
    shape = (3, 2, *pipeline.latent_shape())
    assert torch.equal(draw(pipeline, covariates, callback_on_step_end=look).images, expected)
    assert seen == [(0, 1000.0, shape), (1, 500.0, shape)]

    def blank(pipe, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])}

    assert torch.equal(draw(pipeline, covariates, callback_on_step_end=blank).images, torch.full_like(expected, 0.5))

    class Official(PipelineCallback):
        tensor_inputs = ["latents"]  # noqa: RUF012

        def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
            return callback_kwargs

    assert torch.equal(draw(pipeline, covariates, callback_on_step_end=Official()).images, expected)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (lambda pair: {"latents": None}, "latents: unexpected shape NoneType"),
        (lambda pair: {"latents": pair.numpy()}, "latents: unexpected shape ndarray"),
        (lambda pair: {"latents": pair[:1]}, "latents: unexpected shape"),
        (lambda pair: {"latents": pair.mean(dim=1)}, "latents: unexpected shape"),
        (lambda pair: {"latents": pair.to(torch.complex64)}, "latents: torch.complex64 is not supported; give a dense"),
        (lambda pair: {"latents": pair.long()}, "latents: torch.int64 is not supported"),
        (lambda pair: {"latents": pair.bool()}, "latents: torch.bool is not supported"),
        (lambda pair: {"latents": pair.to("meta")}, "latents: one without values is not supported"),
        (lambda pair: {"latents": pair.to_sparse()}, "latents: torch.sparse_coo is not supported"),
        (lambda pair: {"latent": pair}, "returned: 'latent' is unknown; allowed: latents; did you mean 'latents'?"),
        (lambda pair: {3: pair}, "returned: 3 is unknown"),
        (lambda pair: pair, "returned a Tensor; return a dict of tensors, or None"),
        (lambda pair: [pair], "returned a list"),
        (lambda pair: 0, "returned an int"),
    ],
)
def test_what_a_callback_returns_is_checked(pipeline, covariates, returned, sentence):
    with pytest.raises(InputError, match=r"^callback_on_step_end: [^\n]*$") as raised:
        draw(pipeline, covariates, callback_on_step_end=lambda *given: returned(given[3]["latents"]))
    assert sentence in str(raised.value)


@pytest.mark.parametrize("error", [KeyError("mine"), RuntimeError("a\nb"), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_a_callback_raises_passes_unchanged(pipeline, covariates, error):
    def stop(*_):
        raise error

    with pytest.raises(type(error)) as raised:
        draw(pipeline, covariates, callback_on_step_end=stop)
    assert raised.value is error


@pytest.mark.parametrize("argument", ["noise", "covariate_noise", "residual"])
@pytest.mark.parametrize("form", [torch.Tensor.long, lambda one: one.to(torch.complex64), lambda one: one.to("meta")])
def test_noise_of_another_kind_is_one_sentence(pipeline, covariates, argument, form):
    output = draw(pipeline, covariates, do={})
    given = {
        "noise": form(output.noise),
        "covariate_noise": {**output.covariate_noise, "age": form(output.covariate_noise["age"])},
        "residual": form(torch.zeros(3, 1, 16, 16)),
    }
    with pytest.raises(InputError, match=rf"^{argument}.*is not supported; give a dense tensor of floats\.$"):
        draw(pipeline, covariates, do={}, **{argument: given[argument]})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"callback_on_step_end": 3}, "callback_on_step_end: an int is not a function"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "'noise' is unknown; allowed: latents"),
        ({"callback_on_step_end_tensor_inputs": "latents"}, "is not a list; give"),
        ({"callback_on_step_end": lambda *_: {"latents": torch.zeros(1)}}, "callback_on_step_end: latents: unexpected"),
        ({"generator": 7}, "generator: 7 is not allowed; give torch.Generator"),
        ({"generator": [1, 2, 3]}, r"generator: \[1, 2, 3\] is not allowed"),
        ({"num_inference_steps": 10**9}, "1000000000 is not allowed; give a whole number from 1 to 10000"),
        ({"num_inference_steps": True}, "num_inference_steps: True is not allowed"),
        ({"covariate_noise": {name: torch.zeros(3) for name in ONE}}, r"covariate_noise\['sex'\]: unexpected shape"),
        ({"covariate_noise": 5}, "covariate_noise: names int"),
        ({"residual": [0.0]}, "residual: unexpected shape list"),
        ({"sample_guidance_scale": 1e39}, "sample_guidance_scale: 1e[+]39 is not allowed"),
    ],
)
def test_other_values_are_one_sentence(pipeline, covariates, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        draw(pipeline, covariates, **settings)


def test_numbers_of_numpy_pandas_and_torch_are_numbers(pipeline, covariates):
    expected = draw(pipeline, covariates).images
    columns = {
        "age": (np.float32([30, 61.5, 80]), pd.Series([30, 61.5, 80]), torch.tensor([30, 61.5, 80]), (30, 61.5, 80)),
        "sex": (np.array(covariates["sex"]), pd.Series(covariates["sex"]), pd.Categorical(covariates["sex"])),
    }
    for name, forms in columns.items():
        for form in forms:
            assert torch.equal(draw(pipeline, {**covariates, name: form}).images, expected)
    for steps in (np.int64(2), np.uint8(2), torch.tensor(2)):
        assert torch.equal(draw(pipeline, covariates, num_inference_steps=steps).images, expected)
    scale = strengths(np.float32(2.5), {"sex": np.float64(0.5), "age": torch.tensor(0.25)}, SCHEMA)
    assert (scale[0].scale, scale[0].level, scale[1].level) == (2.5, 0.25, 0.5)


def test_one_value_stands_for_every_row(pipeline, covariates):
    columns = {name: [value] for name, value in ONE.items()}
    image = draw(pipeline, columns, generator=seeded(1)).images
    assert torch.equal(draw(pipeline, ONE, generator=seeded(1)).images, image)

    def asked(covariates, do, image=image):
        return draw(pipeline, covariates, image=image, do=do, generator=seeded(len(image))).images

    expected = asked(columns, {"sex": ["female"], "age": [70.0]})
    for sex, age in (("female", 70), (np.array("female"), np.int64(70)), (pd.Series(["female"]), torch.tensor(70.0))):
        assert torch.equal(asked(ONE, {"sex": sex, "age": age}), expected)
    film = Image.fromarray((image[0, 0] * 255).round().byte().numpy())
    assert draw(pipeline, ONE, image=film, do={"sex": "female"}, generator=None).images.shape == (1, 1, 16, 16)
    both = asked(ONE, {"sex": "female", "age": 70}, image.repeat(2, 1, 1, 1))
    assert torch.allclose(both[:1], expected, atol=1e-5), "two images of one person"
    mixed = draw(pipeline, {**covariates, "view": "PA"}).images
    assert torch.equal(mixed, draw(pipeline, {**covariates, "view": ["PA"] * 3}).images)


UNKNOWN = [
    None,
    "",
    "unknown",
    "NaN",
    " n/a ",
    math.nan,
    np.float32("nan"),
    pd.NA,
    pd.NaT,
    np.ma.masked,
    torch.tensor(torch.nan),
]


@pytest.mark.parametrize("value", UNKNOWN, ids=repr)
def test_what_is_unknown_is_hidden_in_samples_and_only_a_scanner_may_be_in_counterfactuals(pipeline, covariates, value):
    for name in ONE:
        expected = draw(pipeline, {**covariates, name: None})
        found = draw(pipeline, {**covariates, name: [value] * 3})
        assert found.covariates[name] == [None] * 3
        assert torch.equal(found.images, expected.images)
        with pytest.raises(InputError, match=rf"do\['{name}'\]: is missing; give "):
            draw(pipeline, covariates, do={name: value})
        if name != "scanner":
            with pytest.raises(InputError, match=rf"covariates\['{name}'\]: is missing"):
                draw(pipeline, {**covariates, name: value}, do={})
    assert draw(pipeline, {**covariates, "scanner": value}, do={}).covariates["scanner"] == [None] * 3


def test_aliases_are_levels_as_on_the_command_line(pipeline, covariates):
    expected = draw(pipeline, {**covariates, "sex": ["male", "female", "female"]}, do={"sex": "female"})
    found = draw(pipeline, {**covariates, "sex": ["M", "F", "Female"]}, do={"sex": "F"})
    assert found.covariates == expected.covariates
    assert torch.equal(found.images, expected.images)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=6),
        st.binary(max_size=3),
        st.sampled_from(["female", "male", np.float32(3), np.int64(-1), np.nan, pd.NA, pd.NaT, np.datetime64("NaT")]),
        st.builds(np.zeros, st.integers(0, 3)),
        st.builds(torch.zeros, st.integers(0, 3)),
        st.just(object()),
        st.just(Ellipsis),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2), st.tuples(inner)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from([*SCHEMA.names, "race", ""])


@settings(max_examples=300, deadline=None)
@given(value=VALUES, name=NAMES, rows=st.integers(1, 3))
def test_any_value_anywhere_is_encoded_or_one_sentence(value, name, rows):
    for read in (
        lambda: encode_interventions({name: value}, SCHEMA, rows),
        lambda: encode_interventions(value, SCHEMA, rows),
        lambda: encode_covariates({**ONE, name: value}, SCHEMA),
        lambda: encode_covariates(value, SCHEMA),
        lambda: strengths(value, {name: value}, SCHEMA),
        lambda: strengths({name: value}, value, SCHEMA),
        lambda: check_settings(value, "pt"),
        lambda: check_settings(1, value),
    ):
        try:
            read()
        except InputError as error:
            refusal = str(error)
        else:
            refusal = ""
        assert "\n" not in refusal
        assert len(refusal) < 2000


def test_paths_may_be_text_or_path(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    for path in (tmp_path, str(tmp_path)):
        assert CausalDiffusionPipeline.load(path).config.resolution == 16
        assert CausalDiffusionPipeline.from_pretrained(path).config.resolution == 16


def test_the_card_says_what_to_import():
    card = Path(__file__).parents[2] / "synthfair_hf" / "publish" / "templates" / "model_card.md.jinja"
    assert "import synthfair_hf" in card.read_text().split("{% if hub_model_id %}")[-2]
