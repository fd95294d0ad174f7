from types import SimpleNamespace

import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.generate.render import Renderer
from synthfair_hf.generate.run import generate


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
