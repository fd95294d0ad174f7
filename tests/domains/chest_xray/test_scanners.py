"""Planted scanners: the truth is exact, assigned by a stated equation, and independent of the anatomy."""

import numpy as np
import pytest
from PIL import Image

from synthfair_hf.domains.chest_xray.scanners import (
    SCANNER_GIVEN_VIEW,
    SCANNERS,
    AcquisitionWorld,
    _marker,
    acquire,
    assign_scanner,
    assign_scanners,
    expose,
)
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source
from synthfair_hf.errors import InputError
from synthfair_hf.schema import Schema

PRESET = get_preset("chest_xray")


class Radiographs:
    """Smooth radiographs of both views, as a source."""

    name = "radiographs"
    covariates: Schema = PRESET.covariates.subset(("age", "sex", "finding", "view"))
    fingerprint = "radiographs"
    counts: dict = {}  # noqa: RUF012

    def __init__(self, count: int) -> None:
        self.table = {
            "age": [50.0] * count,
            "sex": ["male"] * count,
            "finding": ["no_finding"] * count,
            "view": [("PA", "AP")[index % 2] for index in range(count)],
        }
        self.patient_ids = [f"p{index}" for index in range(count)]
        self.splits = ["train"] * count

    def __len__(self):
        return len(self.splits)

    def image(self, index, resolution):
        rows, columns = np.mgrid[0 : 1 : resolution * 1j, 0 : 1 : resolution * 1j]
        return (0.5 + 0.4 * np.sin(6 * rows + index) * np.cos(5 * columns)).astype(np.float32)

    def draw(self, index, resolution, rng):
        return self.image(index, resolution), {name: column[index] for name, column in self.table.items()}


def test_every_scanner_is_a_preset_level():
    assert tuple(SCANNERS) == PRESET.covariates["scanner"].levels
    for shares in SCANNER_GIVEN_VIEW.values():
        assert tuple(shares) == tuple(SCANNERS)
        assert sum(shares.values()) == pytest.approx(1)


def test_assignment_follows_the_stated_equation():
    rng = np.random.default_rng(0)
    for view, shares in SCANNER_GIVEN_VIEW.items():
        drawn = [assign_scanner(view, rng.gumbel(size=len(SCANNERS))) for _ in range(6000)]
        for scanner, share in shares.items():
            assert drawn.count(scanner) / 6000 == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("scanner", SCANNERS)
def test_images_stay_in_range_and_shape(scanner):
    radiographs = np.stack([Radiographs(3).image(index, 64) for index in range(3)])
    noise = np.random.default_rng(0).standard_normal(radiographs.shape)
    recorded = acquire(radiographs, scanner, noise)
    assert recorded.shape == radiographs.shape
    assert recorded.dtype == np.float32
    assert 0 <= recorded.min() <= recorded.max() <= 1
    alone = acquire(radiographs[1], scanner, noise[1])
    assert np.allclose(recorded[1], alone, atol=1e-6), "a radiograph does not depend on its batch"


def test_scanners_differ_visibly_from_each_other_everywhere():
    radiograph, noise = Radiographs(1).image(0, 64), np.zeros((64, 64))
    recorded = {scanner: acquire(radiograph, scanner, noise) for scanner in SCANNERS}
    for one in SCANNERS:
        for other in SCANNERS:
            if one != other:
                assert np.abs(recorded[one] - recorded[other]).mean() * 255 > 5


@pytest.mark.parametrize("seed", range(3))
def test_standard_exposure_forgets_window_and_power_and_keeps_order(seed):
    rng = np.random.default_rng(seed)
    radiograph = rng.beta(4, 3, (64, 64)).astype(np.float32)
    exposed = expose(radiograph)
    assert exposed.dtype == np.float32
    assert np.median(exposed) == pytest.approx(0.6, abs=0.005)
    assert (exposed.min(), exposed.max()) == (0, 1)
    low, power = rng.uniform(0, 0.3), rng.uniform(0.7, 1.4)
    window = (radiograph - radiograph.min()) / np.ptp(radiograph)
    assert np.abs(expose((low + 0.6 * window).astype(np.float32)) - exposed).max() < 1e-3, "a window"
    assert np.abs(expose(window**power) - exposed).mean() < 0.01, "a power: the 1st percentile is not the minimum"
    assert np.abs(expose(exposed) - exposed).max() < 1e-3, "once is enough"
    order = np.argsort(radiograph.ravel())
    assert (np.diff(exposed.ravel()[order]) >= 0).all()


def test_a_blank_radiograph_stays_blank_in_standard_exposure():
    assert np.array_equal(expose(np.full((8, 8), 0.4, np.float32)), np.full((8, 8), 0.4, np.float32))


@pytest.mark.parametrize("scanner", SCANNERS)
def test_a_scanner_is_the_same_at_any_resolution(scanner):
    small, large = (
        acquire(np.full((side, side), 0.5, np.float32), scanner, np.zeros((side, side))) for side in (32, 64)
    )
    assert np.abs(large.reshape(32, 2, 32, 2).mean(axis=(1, 3)) - small).mean() < 0.006


def test_response_is_monotone_where_nothing_covers_it():
    """Brighter anatomy is recorded brighter: the transform can hide detail, never invert it."""
    noise = np.zeros((64, 64))
    for scanner in SCANNERS:
        centre = [
            acquire(np.full((64, 64), level, np.float32), scanner, noise)[32, 32] for level in np.linspace(0, 1, 9)
        ]
        assert (np.diff(centre) > 0).all()


def test_do_the_own_scanner_is_the_radiograph_itself_and_truth_is_exact():
    world = AcquisitionWorld(Radiographs(6), seed=0, preset=PRESET)
    for index in range(6):
        own = world.table["scanner"][index]
        assert np.array_equal(world.counterfactual(index, own, 32), world.image(index, 32))
        for scanner in SCANNERS:
            again = AcquisitionWorld(Radiographs(6), seed=0, preset=PRESET).counterfactual(index, scanner, 32)
            assert np.array_equal(world.counterfactual(index, scanner, 32), again)


def test_a_radiograph_keeps_its_scanner_whatever_else_is_in_the_source():
    few, many = (AcquisitionWorld(Radiographs(count), seed=3, preset=PRESET) for count in (4, 40))
    assert few.table["scanner"] == many.table["scanner"][:4]
    assert AcquisitionWorld(Radiographs(40), seed=4, preset=PRESET).table["scanner"] != many.table["scanner"]
    assert few.fingerprint != AcquisitionWorld(Radiographs(4), seed=4, preset=PRESET).fingerprint


def test_radiographs_of_unknown_view_are_left_out_counted_and_shift_nothing():
    whole, blank = AcquisitionWorld(Radiographs(9), seed=3, preset=PRESET), Radiographs(9)
    blank.table["view"] = [None if index in (0, 4, 5) else view for index, view in enumerate(blank.table["view"])]
    world = AcquisitionWorld(blank, seed=3, preset=PRESET)
    kept = [1, 2, 3, 6, 7, 8]
    assert len(world) == len(world.splits) == 6
    assert world.patient_ids == [f"p{index}" for index in kept]
    assert world.table == {name: [column[index] for index in kept] for name, column in whole.table.items()}
    assert {name: world.counts[name] for name in ("images", "patients", "unknown view")} == {
        "images": 6,
        "patients": 6,
        "unknown view": 3,
    }
    assert whole.counts["unknown view"] == 0
    for index, original in enumerate(kept):
        assert np.array_equal(world.image(index, 32), whole.image(original, 32))
        for scanner in SCANNERS:
            exact = whole.counterfactual(original, scanner, 32)
            assert np.array_equal(world.counterfactual(index, scanner, 32), exact)
        drawn, again = (one.draw(i, 32, np.random.default_rng(7)) for one, i in ((world, index), (whole, original)))
        assert np.array_equal(drawn[0], again[0])
        assert drawn[1] == again[1]
    blank.table["view"] = [None] * 9
    with pytest.raises(InputError, match="no radiograph of a known view"):
        AcquisitionWorld(blank, seed=3, preset=PRESET)


def test_a_blank_view_gets_no_scanner_and_changes_no_other():
    views = ["PA", "AP"] * 20
    scanners = assign_scanners(views, np.random.default_rng(1))
    gumbel = np.random.default_rng(1).gumbel(size=(40, len(SCANNERS)))
    assert scanners == [assign_scanner(view, noise) for view, noise in zip(views, gumbel, strict=True)]
    some = assign_scanners([None, *views[1:]], np.random.default_rng(1))
    assert some == [None, *scanners[1:]]


@pytest.mark.parametrize("scanner", SCANNERS)
def test_the_marker_is_drawn_once_per_size(scanner):
    device = SCANNERS[scanner]
    assert _marker(device, 32, 48) is _marker(device, 32, 48)
    assert np.array_equal(_marker(device, 32, 48), _marker.__wrapped__(device, 32, 48))


def test_training_draws_scanners_afresh_for_the_same_radiograph():
    world = AcquisitionWorld(Radiographs(2), seed=0, preset=PRESET)
    drawn = [world.draw(0, 32, np.random.default_rng(seed))[1]["scanner"] for seed in range(60)]
    assert set(drawn) == set(SCANNERS)


def test_an_unknown_scanner_is_named():
    with pytest.raises(InputError, match=r"'portabel' is unknown; allowed: flatpanel, computed, portable.*'portable'"):
        acquire(np.zeros((8, 8), np.float32), "portabel", np.zeros((8, 8)))


def test_a_table_of_another_domain_is_told_whose_preset_was_taken_and_what_drafts_its_own(tmp_path):
    for n in range(4):
        Image.linear_gradient("L").rotate(10 * n).save(tmp_path / f"{n}.png")
    people = zip(range(4), ["male", "female"] * 2, ["no_finding"] * 2 + ["pneumonia"] * 2, strict=True)
    rows = [f"{n}.png,p{n},{40 + n},{sex},{finding},A" for n, sex, finding in people]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,patient_id,age,sex,finding,device", *rows]))
    with pytest.raises(InputError, match=r"no column 'view' .* preset chest_xray plants .* `synthfair preset` drafts"):
        open_source(tmp_path, get_preset("chest_xray"), 32)
