from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
from torch._inductor import config as inductor

from synthfair_hf.cli.parser import parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.diffusion.guidance import conditional_velocity
from synthfair_hf.diffusion.solver import ReversibleFlowScheduler
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.generate import render
from synthfair_hf.generate.numerics import Numerics
from synthfair_hf.generate.render import EDITED, MODEL, WORLD, Renderer, prepared, statement
from synthfair_hf.generate.run import check, generate, repair


class Small:
    """A pipeline on a device with room for `room` rows; `sizes` are the batches it was given."""

    def __init__(self, pipeline, room: int) -> None:
        self.preset, self.scm, self.config = pipeline.preset, pipeline.scm, pipeline.config
        self.sample_noise = pipeline.sample_noise
        self._pipeline, self._room, self.sizes = pipeline, room, []

    def __call__(self, **arguments):
        rows = len(arguments["covariates"]["age"])
        self.sizes.append(rows)
        if rows > self._room:
            raise torch.OutOfMemoryError("out of memory")
        return self._pipeline(**arguments)


@pytest.mark.parametrize("lossy", [False, True])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_else_changes(
    tmp_path, make_plan, make_pipeline, source, lossy
):
    settings = {"source": source.name, "source_fingerprint": source.fingerprint} if lossy else {}
    plan = make_plan(batch_size=16, **settings)
    found = []
    for room in (16, 3):
        pipeline = Small(make_pipeline(lossy=lossy), room)
        record = generate(plan, pipeline, tmp_path / str(room), source if lossy else None, progress=False)
        found.append(record.counts["store"])
    assert found[0] == found[1]
    # 16, 8 and 4 are tried once each; what is known not to fit is not tried again
    assert [size for size in pipeline.sizes if size > 3] == sorted({size for size in pipeline.sizes if size > 3})[::-1]


def test_one_image_that_does_not_fit_is_an_error_with_advice(make_plan, make_pipeline):
    pipeline = Small(make_pipeline(), room=0)
    render = Renderer(pipeline, make_plan())
    with pytest.raises(InputError, match="no memory for one image of 8 pixels; use a larger device"):
        render(covariates={"age": [50.0, 60.0, 70.0]}, noise=torch.zeros(3, 2, 1, 8, 8))
    assert pipeline.sizes == [3, 1]


def test_another_error_is_not_taken_for_a_lack_of_memory(make_plan):
    def broken(**arguments):
        raise RuntimeError("weights")

    with pytest.raises(RuntimeError, match="weights"):
        Renderer(broken, make_plan())(covariates={"age": [50.0, 60.0]})


def test_rows_keep_their_order_when_halved(make_plan):
    def one_by_one(covariates, noise, **arguments):
        if len(noise) > 1:
            raise torch.OutOfMemoryError
        return SimpleNamespace(images=noise + 1, noise=noise, covariate_noise={"age": noise[:, 0]}, residual=None)

    noise = torch.arange(5.0)[:, None]
    found = Renderer(one_by_one, make_plan())(covariates={"age": [1.0] * 5}, noise=noise)
    assert torch.equal(found.images, noise + 1)
    assert torch.equal(found.covariate_noise["age"], noise[:, 0])
    assert found.residual is None


def test_generators_are_as_before_when_a_batch_is_tried_again(make_plan):
    """Otherwise the first batch that does not fit would draw other noise than the same batch in a resumed run."""

    def drawing(covariates, generator, **arguments):
        noise = torch.stack([torch.rand(1, generator=one) for one in generator])
        if len(noise) > 2:
            raise torch.OutOfMemoryError
        return SimpleNamespace(images=noise, noise=noise, covariate_noise=None, residual=None)

    render = Renderer(drawing, make_plan())
    first, again = (
        render(covariates={"age": [1.0] * 5}, generator=[torch.Generator().manual_seed(row) for row in range(5)])
        for _ in range(2)
    )
    assert torch.equal(first.noise, again.noise)


class Network(torch.nn.Module):
    """A velocity of an image [B, 2, 8, 8] under tokens [B, V, 4], as a UNet is called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(2, 16, 3, padding=1), torch.nn.Conv2d(16, 2, 3, padding=1)
        self.scale = torch.nn.Linear(4, 16)

    @property
    def dtype(self) -> torch.dtype:
        return self.first.weight.dtype

    def forward(self, sample, timestep, encoder_hidden_states, class_labels, return_dict):
        scale = self.scale(encoder_hidden_states.mean(1) + class_labels) * (1 + timestep[:, None] / 1000)
        return (self.last(torch.nn.functional.silu(self.first(sample)) * scale.to(sample.dtype)[..., None, None]),)


class Sampler:
    """What `prepared` needs of a pipeline, around that network."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.unet = Network()
        self.covariates, self.scheduler = CHEST_XRAY.covariates, ReversibleFlowScheduler()

    def velocity(self, tokens):
        return conditional_velocity(self.unet, tokens)

    @torch.no_grad()
    def __call__(self, covariates, num_inference_steps, generator, output_type):
        rows = len(covariates["age"])
        velocity = self.velocity(torch.zeros(rows, len(covariates), 4))
        return self.scheduler.predict(velocity, torch.zeros(rows, 2, 2, 8, 8), num_inference_steps)


OPTIONS = [
    {"channels_last": True},
    {"mixed_precision": "bf16"},
    {"compile": True},
    {"mixed_precision": "bf16", "channels_last": True},
]


@pytest.fixture(scope="module")
def samplers() -> dict[str, Sampler]:
    """A sampler under each of the options, for batches of four, by their names."""
    return {str(one): prepared(Sampler(), Numerics(**one), rows=4) for one in OPTIONS}


def states(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, 8, 8, generator=generator), torch.randn(
        rows, len(CHEST_XRAY.covariates.names), 4, generator=generator
    )


def test_without_options_the_pipeline_is_the_one_given():
    sampler = Sampler()
    assert prepared(sampler, Numerics(), rows=4) is sampler


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_every_option_is_the_plain_velocity_up_to_rounding_at_any_number_of_rows(samplers, options):
    plain = Sampler()
    for rows in (1, 3, 4, 9):
        x, tokens = states(rows, seed=rows)
        expected, found = plain.velocity(tokens)(x, 0.5), samplers[str(options)].velocity(tokens)(x, 0.5)
        assert found.dtype == torch.float32
        rounding = 2**-6 if "mixed_precision" in options else 1e-6
        assert torch.allclose(found, expected, rtol=0, atol=rounding * float(expected.abs().max()))
        # rounding is there all the same: an option that did nothing would be none
        assert torch.equal(found, expected) <= ("mixed_precision" not in options)


def test_the_options_do_what_they_say_and_leave_the_given_pipeline_alone():
    sampler = Sampler()
    before = {name: value.clone() for name, value in sampler.unet.state_dict().items()}
    twin = prepared(sampler, Numerics(mixed_precision="bf16", channels_last=True), rows=4)
    assert {value.dtype for value in twin.unet.parameters()} == {torch.bfloat16}
    assert twin.unet.first.weight.is_contiguous(memory_format=torch.channels_last)
    after = sampler.unet.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert sampler.unet.first.weight.is_contiguous()


@torch.no_grad()
def test_a_compiled_network_answers_a_row_by_the_same_bits_in_any_batch(samplers):
    """A program for another size may round otherwise, and which is taken would hang on the sizes that came before."""
    compiled = samplers[str({"compile": True})]
    x, tokens = states(9, seed=0)
    together = compiled.velocity(tokens)(x, 0.5)
    for rows in (slice(0, 1), slice(1, 4), slice(2, 9)):
        assert torch.equal(compiled.velocity(tokens[rows])(x[rows], 0.5), together[rows])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_prediction_undoes_abduction_under_every_option(samplers, options):
    """Exactly up to float32 rounding, unless the network rounds to bf16; states are float32 whatever it does."""
    sampler, (x, tokens) = samplers[str(options)], states(6, seed=1)
    velocity, pair = sampler.velocity(tokens), x[:, None].repeat(1, 2, 1, 1, 1)
    noise = sampler.scheduler.abduct(velocity, pair, 8)
    again = sampler.scheduler.predict(velocity, noise, 8)
    assert noise.dtype == again.dtype == torch.float32
    assert (noise - pair).abs().max() > 0.1
    assert (again - pair).abs().max() < (2e-2 if "mixed_precision" in options else 1e-5)


def test_a_network_that_cannot_be_compiled_is_one_sentence_before_anything_is_written(make_plan, tmp_path):
    sampler = Sampler()
    plan, nowhere = make_plan(compile=True), {"cpp.cxx": (None, str(tmp_path / "none")), "force_disable_caches": True}
    sampler.preset, sampler.config = plan.preset, SimpleNamespace(resolution=plan.resolution)
    with inductor.patch(nowhere), pytest.raises(InputError, match=r"^compile: .*(?s:.)*leave it out\.$") as refused:
        generate(plan, sampler, tmp_path / "out", progress=False)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_numerics_are_of_the_plan_so_that_no_run_mixes_them(make_plan, make_pipeline, tmp_path):
    plan = make_plan()
    generate(plan, make_pipeline(), tmp_path, progress=False)
    for options in OPTIONS:
        other = make_plan(**options)
        assert other.fingerprint != plan.fingerprint
        with pytest.raises(InputError, match=f"holds another plan .*{sorted(options)[0]}"):
            check(other, tmp_path)


@pytest.mark.parametrize("options", [{}, *OPTIONS], ids=str)
def test_plain_numerics_are_no_part_of_a_plans_identity(make_plan, monkeypatch, options):
    """Else every data set from before there were any would be another plan's."""
    hashed = []
    monkeypatch.setattr("synthfair_hf.views.manifest.fingerprint", lambda value: hashed.append(value) or "0" * 16)
    assert make_plan(**options).fingerprint
    assert {name: hashed[-1][name] for name in Numerics.model_fields if name in hashed[-1]} == options


def test_a_compiled_network_is_made_for_fewer_rows_when_a_batch_does_not_fit(make_plan, make_pipeline, monkeypatch):
    sizes = []
    monkeypatch.setattr(render, "prepared", lambda pipeline, numerics, rows: sizes.append(rows) or pipeline)
    pipeline = Small(make_pipeline(), room=2)
    person = {"age": 50.0, "sex": "male", "finding": "pneumonia", "view": "PA", "scanner": "portable"}
    columns = {name: [value] * 5 for name, value in person.items()}
    noise = torch.rand(5, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    Renderer(pipeline, make_plan(batch_size=16, compile=True))(covariates=columns, noise=noise)
    assert sizes == [16, 2]


def test_a_repair_computes_as_the_plan_says(make_plan, make_pipeline, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(render, "prepared", lambda pipeline, numerics, rows: asked.append(numerics) or pipeline)
    generate(make_plan(mixed_precision="bf16"), make_pipeline(), tmp_path, progress=False)
    next((tmp_path / "data").rglob("*.parquet")).unlink()
    assert repair(tmp_path, make_pipeline(), progress=False)
    assert [numerics.mixed_precision for numerics in asked] == ["bf16", "bf16"]


def test_flags_are_fields_of_the_plan(make_plan):
    plain = parse(VERBS["generate"], ["--num_subjects", "9"])
    asked = parse(VERBS["generate"], ["--num_subjects", "9", "--mixed_precision=bf16", "--channels-last", "--compile"])
    plans = [make_plan(**{name: getattr(flags, name) for name in Numerics.model_fields}) for flags in (plain, asked)]
    assert len(plans[0].plain) == 3
    assert not plans[1].plain


@pytest.mark.parametrize("made_by", [MODEL, EDITED, WORLD, None])
def test_a_statement_is_xmp_that_names_the_row_and_what_made_it(made_by):
    (described,) = ElementTree.fromstring(statement(made_by, "0667796f-0000000-00"))[0]
    assert described.get("{http://purl.org/dc/elements/1.1/}identifier") == "0667796f-0000000-00"
    term = described.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert term == (made_by and f"http://cv.iptc.org/newscodes/digitalsourcetype/{made_by}")
    assert statement(None, None) is None
