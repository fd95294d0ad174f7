"""Guidance equals its definition term by term, amplifies only what changed, and acts only at the levels it should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.diffusion.guidance import Strength, classifier_free_velocity, conditional_velocity, guided_velocity
from synthfair_hf.diffusion.inputs import encode_covariates

NAMES = ("age", "sex", "finding", "view", "scanner")


@pytest.fixture(scope="module")
def tokens(pipeline):
    """Tokens of three rows: row 0 changes in sex and scanner, row 1 in scanner, row 2 in nothing."""
    factual = {
        "age": [30, 61.5, 80],
        "sex": ["male", "female", "female"],
        "finding": ["no_finding", "pneumonia", "no_finding"],
        "view": ["PA", "AP", "AP"],
        "scanner": ["flatpanel", "portable", "computed"],
    }
    target = {**factual, "sex": ["female", "female", "female"], "scanner": ["portable", "computed", "computed"]}
    with torch.no_grad():
        as_was, asked = (
            pipeline.covariate_encoder(encode_covariates(one, pipeline.covariates)) for one in (factual, target)
        )
    changed = torch.zeros(3, len(NAMES), dtype=torch.bool)
    changed[0, 1] = changed[0, 4] = changed[1, 4] = True
    latents = torch.randn(3, *pipeline.latent_shape(), generator=torch.Generator().manual_seed(3))
    return pipeline.unet, as_was, asked, changed, latents


strength = st.builds(
    Strength, st.sampled_from([0.0, 1.0, 2.5]), st.floats(0.05, 1).map(lambda number: round(number, 2))
)


@given(sex=strength, scanner=strength, level=st.floats(0, 1))
def test_guidance_is_its_definition_term_by_term(tokens, sex, scanner, level):
    unet, as_was, asked, changed, latents = tokens
    with torch.no_grad():

        def plain(acting: set[int]) -> torch.Tensor:
            mixed = as_was.clone()
            for place in acting:
                mixed[:, place] = asked[:, place]
            return conditional_velocity(unet, mixed)(latents, level)

        acting = {place for place, one in ((1, sex), (4, scanner)) if level <= one.level}
        expected = plain(acting)
        for place, one in ((1, sex), (4, scanner)):
            if place in acting:
                expected = expected + (one.scale - 1) * (plain(acting) - plain(acting - {place}))
        velocity = guided_velocity(unet, asked, as_was, changed, {1: sex, 4: scanner})
        assert torch.allclose(velocity(latents, level), expected, atol=1e-4)


def test_guidance_of_samples_is_classifier_free(tokens):
    unet, hidden, asked, _, latents = tokens
    with torch.no_grad():
        without, plain = (conditional_velocity(unet, one)(latents, 0.4) for one in (hidden, asked))
        for scale in (0.0, 1.0, 2.5):
            found = classifier_free_velocity(unet, asked, hidden, scale)(latents, 0.4)
            assert torch.allclose(found, without + scale * (plain - without), atol=1e-4)


def test_what_has_not_changed_is_never_amplified(tokens):
    unet, as_was, asked, changed, latents = tokens
    with torch.no_grad():
        modest, strong = (
            guided_velocity(unet, asked, as_was, changed, {place: Strength(scale) for place in range(len(NAMES))})
            for scale in (1.0, 4.0)
        )
        difference = (modest(latents, 0.4) - strong(latents, 0.4)).abs().amax(dim=(1, 2, 3))
    assert (difference > 1e-5).tolist() == [True, True, False]


def test_above_its_level_a_change_has_not_happened(tokens):
    unet, as_was, asked, changed, latents = tokens
    with torch.no_grad():
        velocity = guided_velocity(
            unet, asked, as_was, changed, {place: Strength(3.0, 0.5) for place in range(len(NAMES))}
        )
        factual = conditional_velocity(unet, as_was)
        assert torch.equal(velocity(latents, 0.51), factual(latents, 0.51))
        assert not torch.allclose(velocity(latents, 0.5), factual(latents, 0.5))
