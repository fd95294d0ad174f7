"""The shipped phantom generator, held against its own world's truth: the figures of docs/scoreboard, on few images."""

import pytest

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.domains.worlds import open_world
from synthfair_hf.measure.interventions import forced_change, hold
from synthfair_hf.measure.scoreboard import PipelineSystem
from synthfair_hf.measure.systems import Identity, answer

FILMS = 4


@pytest.fixture(scope="module")
def world():
    return open_world("phantom", "test", limit=FILMS)


@pytest.fixture(scope="module")
def generator():
    return PipelineSystem("phantom_64", load_generator(DEFAULT_GENERATOR.parent / "phantom_64"))


def test_nothing_asked_nothing_changed(world, generator):
    same = answer(generator, world, world.images, world.table, {})
    assert (same.images - world.images).abs().mean() * 255 < 0.05


@pytest.mark.parametrize(("name", "share"), [("scanner", 1 / 3), ("view", 1), ("habitus", 1)])
def test_a_counterfactual_is_nearer_to_the_truth_than_the_radiograph(world, generator, name, share):
    do = hold(world, {name: forced_change(world, name, 0)}, world.table, "direct")
    truth = world.truth(do).images
    found, identity = (
        (answer(system, world, world.images, world.table, do).images - truth).abs().mean()
        for system in (generator, Identity())
    )
    assert found < share * identity
