"""A world is known by the version of its equations: numbers that change force a new one, words do not.

What is pinned is the hash of a small output, rounded so coarsely that another processor rounds alike: with the vector
instructions of numpy and OpenBLAS turned off, no pinned sum moved by more than 2e-7.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest

from synthfair_hf.domains.chest_xray import scanners
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.chest_xray.scanners import SCANNERS, AcquisitionWorld
from synthfair_hf.domains.oracle import Oracle
from synthfair_hf.domains.phantom import anatomy, phantom, thorax
from synthfair_hf.domains.phantom.phantom import Exogenous, Phantom, PhantomSource, sample_noise
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.schema import Schema

ACQUISITION_OUTPUT = {1: "3bf2bc2b00405626"}
"""Hash of what the scanners do, by scanners.EQUATIONS_VERSION."""

PHANTOM_OUTPUT = {(1, 1): "66e84fea766f8c04"}
"""Hash of what the phantom looks like, by phantom.EQUATIONS_VERSION and scanners.EQUATIONS_VERSION."""

STEP = 0.001
SEED = 147
SIDE = 32


class Source:
    """Ramps under noise, in both views, as a source."""

    name = fingerprint = "films"
    covariates: Schema = CHEST_XRAY.covariates.subset(("view",))
    counts: dict = {}  # noqa: RUF012

    def __init__(self, count):
        self.table = {"view": [("PA", "AP")[index % 2] for index in range(count)]}
        self.patient_ids, self.splits = [f"p{index}" for index in range(count)], ["train"] * count

    def __len__(self):
        return len(self.splits)

    def image(self, index, resolution):
        ramp = np.linspace(0, 0.9, resolution)
        noise = np.random.default_rng(index).random((resolution, resolution))
        return (ramp[:, None] * ramp[::-1] + 0.1 * noise).astype(np.float32)

    def draw(self, index, resolution, rng):
        return self.image(index, resolution), {"view": self.table["view"][index]}


def projected(images, count):
    """`count` random sums of the pixels of each image, of the size of one pixel: every place counts in all of them."""
    weights = np.random.default_rng(0).standard_normal((images[0].size, count)) / SIDE
    return np.reshape(images, (len(images), -1)).astype(np.float64) @ weights


def acquisition_output():
    """Real images by every scanner, an example of training of each, and the scanners of many radiographs."""
    world = AcquisitionWorld(Source(4), seed=SEED)
    images = [world.counterfactual(index, scanner, SIDE) for index, scanner in product(range(4), SCANNERS)]
    images += [world.draw(index, SIDE, np.random.default_rng([SEED, index]))[0] for index in range(4)]
    assigned = AcquisitionWorld(Source(2000), seed=SEED).table["scanner"]
    return [projected(images, 16), STEP * np.array([list(SCANNERS).index(one) for one in assigned])]


def phantom_output():
    """Six subjects, one of each sex and race, under every finding, view and scanner; covariates of 4,000 others."""
    world, levels = Phantom(), {name: PHANTOM.covariates[name].levels for name in PHANTOM.covariates.names}
    noise = sample_noise(6, seed=SEED)
    sex, race = zip(*product(levels["sex"], levels["race"]), strict=True)
    images = []
    for finding, view, scanner in product(levels["finding"], levels["view"], levels["scanner"]):
        do = {"sex": sex, "race": race, "finding": finding, "view": view, "scanner": scanner}
        images += list(world.counterfactual(noise, do, SIDE)[0])
    rng, empty = np.random.default_rng(0), np.empty((4000, 0), np.float32)
    drawn = {
        one.name: rng.gumbel(size=(4000, len(one.levels))) if one.categorical else rng.normal(size=(4000, 1))
        for one in PHANTOM.covariates.walk()
    }
    many = Exogenous({name: values.astype(np.float32) for name, values in drawn.items()}, empty, empty, empty)
    tables = [world.covariates(noise), world.covariates(many)]
    return [
        projected(images, 4),
        *(table[name] * (1 if name in ("age", "habitus") else STEP) for table in tables for name in sorted(table)),
    ]


def digest(numbers):
    """16 hex digits of the sha256 of numbers in units of STEP, rounded."""
    units = np.concatenate([np.rint(one.astype(np.float64) / STEP).ravel() for one in numbers])
    return hashlib.sha256(units.astype("<i8").tobytes()).hexdigest()[:16]


def test_the_scanners_are_those_of_their_version():
    assert digest(acquisition_output()) == ACQUISITION_OUTPUT.get(scanners.EQUATIONS_VERSION), (
        "the scanners' numbers changed: raise scanners.EQUATIONS_VERSION, and add the new hash to "
        "ACQUISITION_OUTPUT and, as the phantom's images change with them, to PHANTOM_OUTPUT"
    )


EXPOSED = {1: [0.36691, 0.57413, 0.6945]}
"""Means of a dark, a usual and a bright image in standard exposure, by scanners.EQUATIONS_VERSION."""


def test_exposure_of_dark_and_bright_images_is_that_of_its_version():
    """Whose median lies beyond both ends of what `expose` corrects."""
    ramp = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    means = [float(scanners.expose(image).mean()) for image in (ramp**8, ramp, 1 - ramp**8)]
    assert means == pytest.approx(EXPOSED[scanners.EQUATIONS_VERSION], abs=1e-4)


def test_the_phantom_is_that_of_its_version():
    version = phantom.EQUATIONS_VERSION, scanners.EQUATIONS_VERSION
    assert digest(phantom_output()) == PHANTOM_OUTPUT.get(version), (
        "the phantom's numbers changed: raise phantom.EQUATIONS_VERSION (or, for a scanner, that of acquisition), and "
        "add the new hash to PHANTOM_OUTPUT"
    )


@pytest.mark.parametrize("output", [acquisition_output, phantom_output])
def test_another_processor_rounds_alike(output):
    """No pinned pixel sum lies where a last bit decides its rounding; if one does, pin another SEED."""
    units = output()[0] / STEP
    assert STEP * np.abs(units - np.floor(units) - 0.5).min() > 2e-6


def scanner(patch, name, **changes):
    patch.setitem(scanners.SCANNERS, name, replace(SCANNERS[name], **changes))


def value(patch, table, key, number):
    patch.setitem(table, key, number)


def constant(patch, module, name, number):
    patch.setattr(module, name, number)


def view_logit(patch):
    logit = phantom.LOGITS["view"]["AP"]
    patch.setitem(phantom.LOGITS["view"], "AP", lambda parents: logit(parents) + 0.02)


def spread_of_age(patch):
    low, span, location, _ = phantom.LOGIT_NORMAL["age"]
    patch.setitem(phantom.LOGIT_NORMAL, "age", (low, span, location, 0.91))


SCANNER_CHANGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "gamma": partial(scanner, name="portable", gamma=0.79),
    "blur": partial(scanner, name="computed", blur=0.009),
    "noise": partial(scanner, name="flatpanel", noise=0.005),
    "marker": partial(scanner, name="flatpanel", marker_at=(0.05, 0.84)),
}
REAL_CHANGES = {
    "exposure": partial(value, table=scanners.EXPOSURE, key="median", number=0.61),
    "shares": partial(value, table=scanners.SCANNER_GIVEN_VIEW["PA"], key="computed", number=0.37),
}
PHANTOM_CHANGES = {
    "density": partial(value, table=anatomy.BONE_DENSITY, key="black", number=1.13),
    "bone": partial(constant, module=thorax, name="MU_BONE", number=0.455),
    "air": partial(constant, module=thorax, name="AIR", number=0.865),
    "logit": view_logit,
    "age": spread_of_age,
}


@pytest.mark.parametrize("change", [*SCANNER_CHANGES, *REAL_CHANGES])
def test_one_changed_number_of_the_scanners_is_noticed(change, monkeypatch):
    {**SCANNER_CHANGES, **REAL_CHANGES}[change](monkeypatch)
    assert digest(acquisition_output()) not in ACQUISITION_OUTPUT.values()


@pytest.mark.parametrize("change", [*SCANNER_CHANGES, *PHANTOM_CHANGES])
def test_one_changed_number_of_the_phantom_is_noticed(change, monkeypatch):
    {**SCANNER_CHANGES, **PHANTOM_CHANGES}[change](monkeypatch)
    assert digest(phantom_output()) not in PHANTOM_OUTPUT.values()


def identities():
    return {
        "source": PhantomSource(3, seed=5).fingerprint,
        "oracle": Oracle("phantom").revision,
        "acquisition": AcquisitionWorld(Source(6), seed=7).fingerprint,
    }


@pytest.fixture
def declare(monkeypatch):
    def declared(own, of_scanners):
        monkeypatch.setattr(phantom, "EQUATIONS_VERSION", own)
        monkeypatch.setattr(scanners, "EQUATIONS_VERSION", of_scanners)

    return declared


def test_version_1_is_called_what_was_recorded_before_versions_were_declared(declare):
    """Literal values, computed by the code that identified a world by the sha256 of its files."""
    declare(1, 1)
    recorded = {"source": "e9b13ce6c6072722", "oracle": "7093e1e551f719cc", "acquisition": "d08a9df17bcaa6b6"}
    assert identities() == recorded


def test_a_raised_version_is_another_world_and_other_scanners_are_another_phantom(declare):
    found = {}
    for versions in ((1, 1), (2, 1), (1, 2), (2, 2)):
        declare(*versions)
        found[versions] = identities()
    assert phantom.equations() == ["phantom equations 2", "acquisition equations 2"]
    for name in ("source", "oracle"):
        assert len({one[name] for one in found.values()}) == 4
    assert len({one["acquisition"] for one in found.values()}) == 2
