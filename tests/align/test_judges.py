"""A judge's scores are its equation's, found again by loops; a mixture ignores the units of its judges."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.align.judges import (
    AttributeFidelity,
    CounterfactualSoundness,
    JudgingPredictor,
    Mixture,
    Realism,
    TruePixels,
    judge_pairs,
)
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.source import patient_split
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import AttributePredictor
from synthfair_hf.records import fingerprint

SCHEMA = PHANTOM.covariates.subset(("age", "sex"))
SCALES = {"age": 10.0}


class Brightness:
    """Predicts the age from the left half's brightness, 0 to 100 years, and the sex from the right half's."""

    def predict(self, images):
        left, right = (half.mean(dim=(1, 2, 3)).double().numpy() for half in images.chunk(2, dim=3))
        return {"age": 100 * left, "sex": np.stack([1 - right, right], axis=1)}


class Mean:
    """Scores an image by its mean brightness, `slope` times and `intercept` more."""

    def __init__(self, name, slope=1.0, intercept=0.0, power=1):
        self.name, self.slope, self.intercept, self.power = name, slope, intercept, power

    @property
    def description(self):
        return {"judge": self.name, "slope": self.slope}

    def __call__(self, images, covariates):
        return self.slope * images.double().mean(dim=(1, 2, 3)) ** self.power + self.intercept


def image(left, right, side=4):
    halves = torch.tensor([left, right]).repeat_interleave(side // 2)
    return halves.expand(1, side, side).clone()


def asked(ages, sexes):
    return {"age": torch.tensor(ages, dtype=torch.float32), "sex": torch.tensor(sexes)}


def fidelity(**changes):
    name = changes.pop("name", "attribute_fidelity")
    return AttributeFidelity(judging(**changes), name)


def judging(predictor=None, schema=SCHEMA, scales=SCALES, identity="b"):
    return JudgingPredictor(predictor or Brightness(), schema, scales, identity)


def test_fidelity_is_the_log_probability_and_the_scaled_error():
    images = torch.stack([image(0.5, 0.75), image(0.25, 0.0), image(0.5, 0.75), image(0.1, 1.0)])
    covariates = asked([50, 45, math.nan, 30], [1, 1, -1, 1])
    parts = fidelity().parts(images, covariates)
    assert parts["age"].tolist() == pytest.approx([0, -2, 0, -2], abs=1e-6)
    assert parts["sex"].tolist() == pytest.approx([math.log(0.75), math.log(1e-6), 0, 0])
    assert torch.equal(fidelity()(images, covariates), parts["age"] + parts["sex"])
    alone = fidelity(schema=PHANTOM.covariates.subset(("sex",)), scales={})
    assert torch.equal(alone(images, covariates), parts["sex"]), "other covariates are not judged"


def test_the_image_that_shows_the_covariates_is_preferred():
    young, old = (torch.stack([image(age, sex) for sex in (0.2, 0.8)] * 3) for age in (0.2, 0.7))
    first, second = ((images * 255).round().byte() for images in (young, old))
    covariates = asked([20, 70, 20, 70, 45, math.nan], [0, 1, 0, 1, 1, 1])
    subjects = [f"s{row}" for row in range(6)]
    splits = [patient_split(subject) for subject in subjects]
    found, counts = judge_pairs(fidelity(), first, second, covariates, subjects, splits, tie=0.1)
    assert found.subjects.tolist() == subjects[:4], "at 45 and where no age was asked it is a tie"
    assert torch.equal(found.preferred, torch.stack([first[0], second[1], first[2], second[3]]))
    assert set(found.judges) == {"attribute_fidelity"}
    told = counts["attribute_fidelity"]
    assert (told["first"], told["second"], told["ties"], told["compared"]) == (2, 2, 2, 6)
    assert told["judge"] == fidelity().description


def test_a_predictor_of_this_package_can_judge():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        variables = SCHEMA.model_dump(mode="json")["variables"]
        predictor = AttributePredictor(variables, 16, channels=(8, 8, 16, 16), width=8)
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    covariates = asked([50, 40, 30], [0, 1, 1])
    read = predictor.predict(images)
    expected = [
        math.log(read["sex"][row, covariates["sex"][row]]) - abs(read["age"][row] - covariates["age"][row].item()) / 10
        for row in range(3)
    ]
    assert fidelity(predictor=predictor)(images, covariates).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_realism_is_minus_the_distance_to_the_kth_neighbour(neighbours):
    generator = torch.Generator().manual_seed(0)
    reference, images = torch.rand(7, 16, generator=generator), torch.rand(4, 1, 4, 4, generator=generator)
    judge = Realism(lambda one: one.flatten(1), reference, "pixels", neighbours)
    for score, one in zip(judge(images, {}), images, strict=True):
        distances = np.sort(np.linalg.norm(reference.numpy() - one.flatten().numpy(), axis=1))
        assert -score == pytest.approx(distances[neighbours - 1], rel=1e-5)
    known = Realism(lambda one: one.flatten(1), images.flatten(1), "pixels", 1)
    assert known(images, {}).tolist() == [0] * 4, "a real image is its own neighbour"


def soundness(observed, covariates, **changes):
    own = {name: changes.pop(name) for name in ("predictor", "schema", "scales", "identity") if name in changes}
    return CounterfactualSoundness(judging(**own), observed, covariates, **changes)


def test_soundness_is_its_three_parts():
    observed = torch.stack([image(0.5, 0.25)] * 5)
    before = asked([50, 50, 50, math.nan, 50], [0, 0, 0, 0, 0])
    # sex was changed, nothing was, both were, the age alone is asked anew, and the image is the observation
    target = asked([50, 50, 70, 60, 50], [1, 0, 1, 0, 1])
    images = torch.stack([image(0.6, 0.75), image(0.5, 0.25), image(0.7, 1.0), image(0.9, 0.35), image(0.5, 0.25)])
    parts = soundness(observed, before).parts(images, target)
    assert parts["effective"].tolist() == pytest.approx(
        [math.log(0.75), 0, (0 + math.log(1)) / 2, 0, math.log(0.25)], abs=1e-6
    )
    assert parts["identity_kept"].tolist() == pytest.approx([-1, 0, 0, -0.1, 0], abs=1e-6)
    assert parts["minimal"].tolist() == pytest.approx([-0.3, 0, -0.475, -0.25, 0], abs=1e-6)
    judge = soundness(observed, before, effective=2, identity_kept=0.5, minimal=0)
    expected = 2 * parts["effective"] + 0.5 * parts["identity_kept"]
    assert torch.allclose(judge(images, target), expected)


def test_doing_nothing_is_best_where_nothing_was_changed():
    generator = torch.Generator().manual_seed(0)
    observed = torch.rand(20, 1, 4, 4, generator=generator)
    covariates = asked([50.0] * 20, [1] * 20)
    judge = soundness(observed, covariates)
    assert torch.equal(judge(observed, covariates), torch.zeros(20).double())
    assert (judge(torch.rand(20, 1, 4, 4, generator=generator), covariates) < 0).all()


def mixture(judges, images, **changes):
    return Mixture(judges, (images[:6], images[6:]), {}, **changes)


IMAGES = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_mixture_is_the_weighted_sum_of_standardised_scores():
    one, other = Mean("one"), Mean("other", power=3)
    found = mixture({one: 3, other: 1}, IMAGES)(IMAGES, {})
    expected = sum(
        weight * (scores - scores.mean()) / scores.std()
        for weight, scores in ((0.75, one(IMAGES, {}).numpy()), (0.25, other(IMAGES, {}).numpy()))
    )
    assert found.tolist() == pytest.approx(expected.tolist())


@settings(max_examples=25)
@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(0.01, 100))
def test_a_mixture_ignores_units_and_the_sum_of_weights(slope, intercept, total):
    plain = mixture({Mean("one"): 2, Mean("other", power=3): 1}, IMAGES)
    scaled = mixture({Mean("one", slope, intercept): 2 * total, Mean("other", power=3): total}, IMAGES)
    assert torch.allclose(plain(IMAGES, {}), scaled(IMAGES, {}), atol=1e-6)


def test_a_mixture_scores_an_image_the_same_in_any_call():
    judge = mixture({Mean("one"): 2, Mean("other", power=3): 1}, IMAGES)
    assert torch.equal(torch.cat([judge(IMAGES[:1], {}), judge(IMAGES[1:], {})]), judge(IMAGES, {}))
    parts = judge.description["parts"]
    assert [part["judge"] for part in parts] == ["one", "other"]
    assert parts[0]["weight"] == pytest.approx(2 / 3)


def test_descriptions_say_what_decides():
    observed, covariates = IMAGES[:2], asked([50.0] * 2, [1] * 2)
    features = IMAGES.flatten(1)
    judges = [
        fidelity(),
        fidelity(identity="c"),
        fidelity(scales={"age": 5.0}),
        Realism(lambda one: one.flatten(1), features, "pixels"),
        Realism(lambda one: one.flatten(1), features, "pixels", 3),
        Realism(lambda one: one.flatten(1), features + 1, "pixels"),
        soundness(observed, covariates),
        soundness(observed, covariates, minimal=0.5),
        mixture({Mean("one"): 1}, IMAGES),
        mixture({Mean("one"): 1}, IMAGES + 1),
    ]
    assert len({fingerprint(judge.description) for judge in judges}) == len(judges)
    assert fingerprint(fidelity().description) == fingerprint(fidelity(name="another").description)


def features(*shape):
    return lambda: Realism(lambda one: one.flatten(1), torch.zeros(*shape), "pixels")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: fidelity(scales={}), "scales: {}; give one above 0, in its unit, for each of age."),
        (lambda: fidelity(scales={"age": 0.0}), "scales: {'age': 0.0}; give one above 0"),
        (lambda: fidelity(scales={"age": 1.0, "sex": 1.0}), "scales: {'age': 1.0, 'sex': 1.0}; give one"),
        (lambda: fidelity()(IMAGES, {"age": torch.zeros(12)}), "covariates: sex not given; needed: age, sex."),
        (
            lambda: fidelity(schema=PHANTOM.covariates.subset(("race",)), scales={})(IMAGES, {"race": torch.zeros(12)}),
            "predictor: does not predict race; it predicts age, sex.",
        ),
        (features(3), "reference: (3,); give finite features [m, d], one row per image."),
        (features(4, 2), "neighbours: 5 is not allowed; give 1 to 4, the real images."),
        (lambda: soundness(IMAGES, {"age": torch.zeros(12)}), "observed_covariates: sex not given; needed: age, sex."),
        (
            lambda: soundness(IMAGES, asked([1.0] * 12, [0] * 12), minimal=-1),
            "effective, identity_kept, minimal: (1.0, 1.0, -1); give weights from 0 on, not all 0.",
        ),
        (
            lambda: soundness(IMAGES, asked([1.0] * 12, [0] * 12))(IMAGES[:3], asked([1.0] * 3, [0] * 3)),
            "images: of shape (3, 1, 4, 4); give one per observation, (12, 1, 4, 4).",
        ),
        (lambda: mixture({}, IMAGES), "weights: {}; give one or more judges, each with a weight above 0."),
        (lambda: mixture({Mean("one"): 0}, IMAGES), "weights: {'one': 0}; give one or more judges"),
        (
            lambda: mixture({Mean("one", slope=0, intercept=0.1): 1}, IMAGES),
            "weights: judge 'one' gives all images one score; leave it out.",
        ),
        (
            lambda: mixture({Mean("one", slope=math.inf): 1}, IMAGES),
            "weights: judge 'one' gives scores that are not finite; leave it out.",
        ),
    ],
)
def test_a_judge_that_can_not_judge_is_refused(build, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        build()


def test_true_pixels_are_in_grey_levels_and_the_truth_is_best():
    truth = torch.stack([image(0.5, 0.75), image(0.25, 0.0)])
    judge = TruePixels(truth)
    assert judge(truth, {}).tolist() == [0, 0]
    assert judge(truth.flip(0), {}).tolist() == pytest.approx([-127.5, -127.5])
    assert judge(truth + torch.tensor([0.1, -0.2])[:, None, None, None], {}).tolist() == pytest.approx([-25.5, -51])
    assert judge.description != TruePixels(truth.flip(0)).description
    with pytest.raises(InputError, match="images: of shape"):
        judge(truth[:1], {})
