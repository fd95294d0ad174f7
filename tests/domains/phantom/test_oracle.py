from itertools import product

import numpy as np
import pytest
import torch

from synthfair_hf.domains.oracle import Oracle
from synthfair_hf.domains.phantom.phantom import Exogenous, Phantom, sample_noise
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError

ORACLE = Oracle("phantom", 32)
SUBJECTS = 3
GENERATORS = [torch.Generator().manual_seed(seed) for seed in range(SUBJECTS)]
KEYS = ORACLE.sample_noise(GENERATORS)
NOISE = ORACLE.scm.sample_noise(SUBJECTS, torch.Generator().manual_seed(5))
VALUES = PHANTOM.covariates.decode({name: value.numpy() for name, value in ORACLE.scm.evaluate(NOISE).items()})
FAMILY = list(product(("male", "female"), ("no_finding", "effusion"), ("flatpanel", "portable")))


def families():
    """Every subject's family of eight: covariates, keys, noise and do, subject after subject."""
    repeated = {name: value.repeat_interleave(len(FAMILY), 0) for name, value in NOISE.items()}
    do = {
        name: [cell[place] for _ in range(SUBJECTS) for cell in FAMILY]
        for place, name in enumerate(("sex", "finding", "scanner"))
    }
    table = {name: [value for value in column for _ in FAMILY] for name, column in VALUES.items()}
    return {"covariates": table, "noise": KEYS.repeat_interleave(len(FAMILY), 0), "covariate_noise": repeated, "do": do}


def world_answer(subject, do):
    """The same counterfactual, asked of the world directly."""
    drawn = sample_noise(1, int(KEYS[subject]))
    covariates = {name: value[subject : subject + 1].numpy() for name, value in NOISE.items()}
    noise = Exogenous(covariates, drawn.anatomy, drawn.texture, drawn.grain)
    return Phantom().counterfactual(noise, do, 32)[0][0]


def test_every_member_of_a_family_is_the_worlds_own_counterfactual():
    asked = families()
    images = ORACLE(**asked).images
    assert images.shape == (SUBJECTS * len(FAMILY), 1, 32, 32)
    for row in range(len(images)):
        do = {name: values[row] for name, values in asked["do"].items()}
        np.testing.assert_array_equal(images[row, 0].numpy(), world_answer(row // len(FAMILY), do))


def test_without_do_the_observation_is_drawn():
    images = ORACLE(VALUES, KEYS, NOISE).images
    for subject in range(SUBJECTS):
        np.testing.assert_array_equal(images[subject, 0].numpy(), world_answer(subject, {}))


def test_a_row_does_not_depend_on_its_batch():
    asked = families()
    together = ORACLE(**asked).images
    for row in (0, 5, 19):
        alone = {
            "covariates": {name: column[row : row + 1] for name, column in asked["covariates"].items()},
            "noise": asked["noise"][row : row + 1],
            "covariate_noise": {name: value[row : row + 1] for name, value in asked["covariate_noise"].items()},
            "do": {name: values[row : row + 1] for name, values in asked["do"].items()},
        }
        assert torch.equal(ORACLE(**alone).images[0], together[row])


def test_its_covariates_are_distributed_as_the_worlds():
    number = 4000
    encoded = ORACLE.scm.evaluate(ORACLE.scm.sample_noise(number, torch.Generator().manual_seed(0)))
    world = Phantom().covariates(sample_noise(number, 0))
    for variable in PHANTOM.covariates.walk():
        drawn, expected = encoded[variable.name].numpy(), world[variable.name]
        if variable.categorical:
            shares = [np.bincount(one, minlength=len(variable.levels)) / number for one in (drawn, expected)]
            np.testing.assert_allclose(*shares, atol=0.04)
        else:
            assert abs(drawn.mean() - expected.mean()) < 4 * expected.std() / np.sqrt(number / 2)


def test_keys_come_from_each_rows_own_generator():
    again = ORACLE.sample_noise([torch.Generator().manual_seed(seed) for seed in (2, 0)])
    assert torch.equal(again, KEYS[[2, 0]])


def test_what_is_for_a_trained_generator_is_refused():
    with pytest.raises(InputError, match="num_inference_steps: 4 is for a trained generator"):
        ORACLE(VALUES, KEYS, NOISE, num_inference_steps=4)
    with pytest.raises(InputError, match="world: 'acquisition' is unknown; allowed: phantom"):
        Oracle("acquisition")
    with pytest.raises(InputError, match="resolution: 8 is out of range; allowed: 16 to 1024"):
        Oracle("phantom", 8)


def test_its_identity_does_not_depend_on_the_resolution():
    assert Oracle("phantom").revision == ORACLE.revision
    assert Oracle("phantom").resolution == PHANTOM.resolution
