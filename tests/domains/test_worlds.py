"""Worlds: their truth is the simulator's, doing what is changes nothing, and oracle and identity span the band."""

from functools import cache

import numpy as np
import pytest
import torch

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.chest_xray.scanners import SCANNERS, AcquisitionWorld
from synthfair_hf.domains.morphomnist.preset import MORPHOMNIST
from synthfair_hf.domains.morphomnist.source import MorphoMNIST
from synthfair_hf.domains.morphomnist.world import evaluate, render, sample_noise
from synthfair_hf.domains.phantom.phantom import Phantom, PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.registry import open_source
from synthfair_hf.domains.source import patient_split
from synthfair_hf.domains.worlds import DigitWorld, PhantomWorld, ScannerWorld, confounded_scanners, open_world
from synthfair_hf.errors import InputError
from synthfair_hf.measure.soundness import score
from synthfair_hf.measure.systems import Identity, Oracle


class Radiographs:
    """Two smooth radiographs of each patient; the first radiograph of every fifth patient has no age."""

    name = "radiographs"
    covariates = CHEST_XRAY.covariates.subset(("age", "sex", "finding", "view"))
    fingerprint = "radiographs"

    def __init__(self, patients=120):
        rows = range(2 * patients)
        self.table = {
            "age": [None if row % 10 == 0 else 20.0 + row % 60 for row in rows],
            "sex": [("male", "female")[row // 2 % 2] for row in rows],
            "finding": [("no_finding", "pneumonia")[row // 2 % 3 == 0] for row in rows],
            "view": [("PA", "AP")[row // 4 % 2] for row in rows],
        }
        self.patient_ids = [f"p{row // 2}" for row in rows]
        self.splits = [patient_split(patient) for patient in self.patient_ids]
        self.counts = {}

    def __len__(self):
        return len(self.splits)

    def image(self, index, resolution):
        rows, columns = np.mgrid[0 : 1 : resolution * 1j, 0 : 1 : resolution * 1j]
        return (0.5 + 0.4 * np.sin(6 * rows + index) * np.cos(5 * columns)).astype(np.float32)


def scanners(**settings):
    return ScannerWorld(AcquisitionWorld(Radiographs(), seed=0), CHEST_XRAY, "test", None, resolution=32, **settings)


def digits_folder(directory):
    """A bar, drawn with sampled covariates, in place of every digit."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 5)):
        table = evaluate(sample_noise(count, rng))
        originals = np.zeros((count, 28, 28), np.uint8)
        for index, width in enumerate(rng.integers(3, 6, count)):
            originals[index, 5:23, 12 : 12 + width] = 255
        arrays = {
            "images": render(originals, table["thickness"], table["intensity"]) if part == "test" else originals,
            "digit": np.array(table["digit"], np.uint8),
            "thickness": np.array(table["thickness"], np.float32),
            "intensity": np.array(table["intensity"], np.float32),
        }
        np.savez(directory / f"{part}.npz", **arrays, **({"originals": originals} if part == "test" else {}))
    return directory


@cache
def phantom():
    return PhantomWorld("test", 5, seed=3, num_subjects=60, resolution=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return digits_folder(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def digits(folder):
    return DigitWorld(MorphoMNIST(folder, MORPHOMNIST, 32), "test", None)


@pytest.fixture(params=["phantom", "acquisition", "morphomnist"])
def world(request):
    return {"phantom": phantom, "acquisition": scanners}.get(request.param, lambda: request.getfixturevalue("digits"))()


def test_a_world_is_what_the_protocol_says(world):
    n, names = len(world.images), world.covariates.names
    assert world.images.dtype == torch.float32
    assert world.images.ndim == 4
    assert world.images.shape[2:] == (world.resolution, world.resolution)
    assert 0 <= world.images.min() <= world.images.max() <= 1
    assert len(world.groups) == n
    assert all(list(table) == list(names) for table in (world.table, world.training))
    assert all(None not in column and len(column) == n for column in world.table.values())
    assert all(None not in column and len(column) > n for column in world.training.values())
    world.covariates.encode(world.table)
    for measure in world.measured_attributes.values():
        assert np.isfinite(measure(world.images)).all()
        assert np.isfinite(measure(torch.zeros_like(world.images))).all(), "a blank answer has a reading too"


def test_doing_nothing_and_doing_what_is_are_the_observations(world):
    for do in ({}, world.table, *({name: column} for name, column in world.table.items())):
        truth = world.truth(do)
        assert torch.equal(truth.images, world.images)
        assert truth.covariates == world.table


def test_some_rows_are_those_rows_of_all(world):
    name = {"morphomnist": "thickness"}.get(world.name, "scanner")
    values = list(reversed(world.table[name]))
    whole, part = world.truth({name: values}), world.truth({name: [values[4], values[1]]}, [4, 1])
    assert torch.equal(part.images, whole.images[[4, 1]])
    assert part.covariates == {one: [column[4], column[1]] for one, column in whole.covariates.items()}
    assert not torch.equal(whole.images, world.images)


def test_effects_are_the_descendants_in_the_graph():
    assert phantom().effects("age") == ("habitus", "finding", "view", "scanner")
    assert phantom().effects("view") == ("scanner",)
    assert phantom().effects("scanner") == ()
    assert scanners().effects("sex") == ("finding", "view", "scanner")
    with pytest.raises(InputError, match="'colour' is unknown"):
        phantom().effects("colour")


def test_oracle_and_identity_span_the_band(world):
    names = {"phantom": ["view"], "acquisition": ["scanner"], "morphomnist": ["thickness", "intensity"]}
    settings = {"names": names[world.name], "cycles": (1, 2), "n_bootstrap": 20, "interventions": ["forced_change"]}
    oracle, identity = (score(system, world, {}, (0,), **settings) for system in (Oracle(world), Identity()))
    for near, far in zip(oracle, identity, strict=True):
        if near["metric"] == "true_l1":
            assert near["mean"] == 0
            assert far["mean"] > 1
        elif near["metric"].endswith(("_l1", "_1", "_2", "_changed")):
            assert near["mean"] == pytest.approx(0, abs=1e-6)
        elif near["metric"] == "mae" and near["do"] == near["attribute"]:
            assert near["mean"] < far["mean"]


def test_the_phantoms_truth_is_the_simulators():
    source = PhantomSource(60, seed=3)
    world = phantom()
    rows = world.kept
    assert len(set(rows)) == 5
    assert {source.splits[row] for row in rows} == {"test"}
    assert world.groups == [source.patient_ids[row] for row in rows]
    assert world.table == {name: [column[row] for row in rows] for name, column in source.table.items()}
    do = {"age": [30.0, 40.0, 50.0, 60.0, 70.0]}
    truth = world.truth(do)
    for place, row in enumerate(rows):
        radiograph = source.counterfactual(row, {"age": do["age"][place]}, 16)
        np.testing.assert_array_equal(truth.images[place, 0].numpy(), radiograph)
    assert truth.covariates["sex"] == world.table["sex"]
    fewer = PhantomWorld("test", 2, seed=3, num_subjects=60, resolution=16)
    assert torch.equal(fewer.images, world.images[:2])


def test_radiographs_are_scored_once_per_patient_and_only_where_all_is_known():
    source, world, every = Radiographs(), scanners(), scanners(one_per_patient=False)
    tested = {patient for patient, split in zip(source.patient_ids, source.splits, strict=True) if split == "test"}
    assert sorted(world.groups) == sorted(tested)
    complete = [row for row, split in enumerate(source.splits) if split == "test" and row % 10]
    assert sorted(every.kept) == complete
    assert every.groups == [source.patient_ids[row] for row in every.kept]
    train = sum(split == "train" and row % 10 > 0 for row, split in enumerate(source.splits))
    assert len(world.training["age"]) == train


def test_a_limit_is_a_fair_choice_from_a_sorted_folder():
    """A folder that lists one finding first must not make the scored radiographs those of one finding."""
    source = Radiographs(400)
    order = sorted(range(len(source)), key=lambda row: source.table["finding"][row])
    for name, column in source.table.items():
        source.table[name] = [column[row] for row in order]
    source.patient_ids = [f"s{row}" for row in range(len(source))]
    source.splits = ["test" if row % 3 else "train" for row in range(len(source))]
    world = ScannerWorld(AcquisitionWorld(source, seed=0), CHEST_XRAY, "test", 60, resolution=32)
    share = sum(one == "pneumonia" for one in world.table["finding"]) / 60
    assert 0.2 < share < 0.5, "a third of the folder"


def test_only_do_scanner_has_truth_on_real_radiographs():
    world, radiographs = scanners(), AcquisitionWorld(Radiographs(), seed=0)
    n = len(world.images)
    for scanner in SCANNERS:
        truth = world.truth({"scanner": [scanner] * n})
        assert truth.covariates == {**world.table, "scanner": [scanner] * n}
        for place, row in enumerate(world.kept):
            np.testing.assert_array_equal(truth.images[place, 0].numpy(), radiographs.counterfactual(row, scanner, 32))
    assert world.truth({"view": ["PA"] * n}) is None
    assert world.truth({"view": world.table["view"], "scanner": ["portable"] * n}) is not None


def test_confounding_ties_scanner_to_finding_and_keeps_the_truth():
    plain, tied = scanners(), scanners(confounding=1.0)
    partner = {"pneumonia": "portable", "no_finding": "flatpanel"}
    assert tied.table["scanner"] == [partner[finding] for finding in tied.table["finding"]]
    portable = {"scanner": ["portable"] * len(plain.images)}
    assert torch.equal(plain.truth(portable).images, tied.truth(portable).images)
    assert torch.equal(tied.images, plain.truth({"scanner": tied.table["scanner"]}).images)


def test_confounding_is_nested_in_its_strength():
    table = {"finding": ["pneumonia"] * 1000, "scanner": ["computed"] * 1000}
    changed = []
    for strength in (0, 0.3, 0.8, 1):
        scanner = confounded_scanners(table, CHEST_XRAY, range(1000), strength, seed=0)
        changed.append({row for row, one in enumerate(scanner) if one == "portable"})
        assert abs(len(changed[-1]) / 1000 - strength) < 4 * np.sqrt(0.25 / 1000)
    assert changed[0] < changed[1] < changed[2] < changed[3]
    with pytest.raises(InputError, match=r"strength: 1\.5 is out of range; allowed: 0 to 1"):
        confounded_scanners(table, CHEST_XRAY, range(1000), 1.5, seed=0)


def test_thickness_moves_intensity_and_nothing_knows_another_digit(digits):
    n = len(digits.images)
    thick = digits.truth({"thickness": [4.0] * n})
    assert all(
        after > before for after, before in zip(thick.covariates["intensity"], digits.table["intensity"], strict=True)
    )
    bright = digits.truth({"intensity": [200.0] * n})
    assert bright.covariates["thickness"] == digits.table["thickness"]
    np.testing.assert_allclose(digits.measured_attributes["intensity"](bright.images), 200, atol=2)
    other = [str((int(digit) + 1) % 10) for digit in digits.table["digit"]]
    assert digits.truth({"digit": other}) is None


def test_without_originals_nothing_is_known(folder):
    world = DigitWorld(MorphoMNIST(folder, MORPHOMNIST, 32), "train", 3)
    assert world.truth({"thickness": [4.0] * 3}) is None
    assert world.truth({"thickness": world.table["thickness"]}) is not None


@pytest.mark.parametrize("name", ["phantom", "acquisition", "morphomnist"])
def test_a_world_is_open_before_an_image_is_drawn(name, folder, monkeypatch):
    """So that invalid input is found before minutes of drawing."""

    def drawn(*given, **named):
        raise AssertionError("an image was drawn or read")

    for owner in (Phantom, AcquisitionWorld):
        monkeypatch.setattr(owner, "counterfactual", drawn)
    monkeypatch.setattr(MorphoMNIST, "image", drawn)
    opened = {
        "phantom": lambda: PhantomWorld("test", 5, seed=3, num_subjects=60, resolution=16),
        "acquisition": scanners,
        "morphomnist": lambda: DigitWorld(MorphoMNIST(folder, MORPHOMNIST, 32), "test", None),
    }[name]()
    assert opened.table
    assert opened.resolution in (16, 32)
    with pytest.raises(AssertionError, match="an image was drawn or read"):
        _ = opened.images


def test_what_is_measured_in_is_what_was_trained_on(monkeypatch):
    for module in ("domains.worlds", "domains.registry"):
        monkeypatch.setattr(f"synthfair_hf.{module}.SUBJECTS", 40)
    assert open_world("phantom", "test").fingerprint == open_source(None, PHANTOM, 64).fingerprint


def test_identity_and_oracle_have_one_drawing_of_each_answer(folder, monkeypatch):
    drawings = []

    def count(originals, thickness, intensity, own=None):
        drawings.append((thickness[0], intensity[0]))
        return render(originals, thickness, intensity, own)

    monkeypatch.setattr("synthfair_hf.domains.morphomnist.world.render", count)
    world = DigitWorld(MorphoMNIST(folder, MORPHOMNIST, 32), "test", None)
    asked = {"names": ["thickness"], "pairs": (), "cycles": (), "n_bootstrap": 20, "interventions": ["forced_change"]}
    rows = [score(system, world, {}, (0, 1), **asked) for system in (Identity(), Oracle(world), Identity())]
    assert rows[0] == rows[2]
    # two values of thickness for each of five digits, and the way back
    assert len(drawings) == len(set(drawings)) <= 3 * 5


def test_worlds_open_by_name(folder, monkeypatch):
    assert open_world("morphomnist", "test", directory=folder).images.shape == (5, 1, 32, 32)
    monkeypatch.setattr("synthfair_hf.domains.worlds.SUBJECTS", 40)
    world = open_world("phantom", "validation", limit=2, seed=1)
    assert world.images.shape == (2, 1, PHANTOM.resolution, PHANTOM.resolution)
    assert open_world("phantom", "validation", limit=2, resolution=32).images.shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "phantm"}, "world: 'phantm' is unknown; allowed: phantom, acquisition, morphomnist"),
        ({"name": "acquisition"}, "source_dir: the acquisition world needs a folder of radiographs"),
        ({"name": "morphomnist"}, r"source_dir: the morphomnist world needs a folder with train\.npz"),
        ({"split": "tests"}, "split: 'tests' is unknown; allowed: train, validation, test"),
        ({"limit": 0}, "limit: 0 is invalid; give a whole number from 1"),
    ],
)
def test_what_cannot_be_opened_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        open_world(**{"name": "phantom", "split": "test", **settings})


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"colour": ["red"] * 5}, "do: 'colour' is unknown"),
        ({"age": [50.0]}, r"do\['age'\]: 1 values for 5 images"),
        ({"age": [None] * 5}, r"do\['age'\]: is missing; give years"),
        ({"age": [200.0] * 5}, r"do\['age'\]: 200.0 is out of range"),
    ],
)
def test_a_malformed_do_is_named(do, message):
    with pytest.raises(InputError, match=message):
        phantom().truth(do)
