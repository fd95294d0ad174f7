"""Shortcuts: what is planted in the border or the gray levels is found there and nowhere else; nothing is at chance."""

import json

import numpy as np
import pytest

from synthfair_hf.cli import main
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.measure.shortcuts import measure_shortcuts, shortcut_features
from synthfair_hf.records import Record

PRESET = get_preset("chest_xray")
NAMES = ("age", "sex", "finding", "view")
SIDE = 32


class Noise:
    """Radiographs of noise, of 80 patients with three each; `plant(image, row)` makes some of them different."""

    name, counts, fingerprint = "noise", {"images": 240, "patients": 80}, "noise"
    covariates = PRESET.covariates.subset(NAMES)

    def __init__(self, plant=lambda image, table, row: image, seed=0):
        rng = np.random.default_rng(seed)
        self.plant, self.patient_ids = plant, [f"p{row // 3}" for row in range(240)]
        self.splits = ["train"] * 240
        self.table = {
            "age": [float(age) for age in rng.uniform(0, 100, 240)],
            **{name: list(rng.choice(PRESET.covariates[name].levels, 240)) for name in ("sex", "finding", "view")},
        }
        self.pixels = rng.uniform(0.2, 0.8, (240, SIDE, SIDE)).astype(np.float32)

    def __len__(self):
        return 240

    def image(self, row, resolution):
        return self.plant(self.pixels[row, :resolution, :resolution].copy(), self.table, row)

    def draw(self, row, resolution, rng):
        return self.image(row, resolution), {name: column[row] for name, column in self.table.items()}


def brighter_border(image, table, row):
    image[:2] += 0.2 * (table["finding"][row] == "pneumonia")
    return image


def darker_middle(image, table, row):
    image[8:24, 8:24] *= 0.6 if table["age"][row] >= 50 else 1
    return image


def areas(source, tmp_path):
    record = measure_shortcuts(source, PRESET, tmp_path, resolution=SIDE, n_bootstrap=100)
    assert Record.read(tmp_path / "shortcuts.json") == record
    return {(row["attribute"], row["features"]): row for row in record.measured["rows"]}


def test_noise_tells_nothing(tmp_path):
    found = areas(Noise(), tmp_path)
    assert len(found) == 4 * 3
    for row in found.values():
        assert row["low"] <= 0.5 <= row["high"] or row["mean"] == pytest.approx(0.5, abs=0.08)
        assert (sum(row["images"]), row["groups"]) == (240, 80)


def test_what_is_planted_in_the_border_is_found_there(tmp_path):
    found = areas(Noise(brighter_border), tmp_path)
    assert found["finding", "border"]["mean"] > 0.99
    assert found["finding", "both"]["mean"] > 0.99
    assert found["sex", "border"]["mean"] == pytest.approx(0.5, abs=0.1)


def test_what_is_planted_inside_is_found_in_the_gray_levels_alone(tmp_path):
    found = areas(Noise(darker_middle), tmp_path)
    assert found["age", "histogram"]["mean"] > 0.95
    assert found["age", "border"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert found["age", "histogram"]["levels"] == ["under 50 years", "50 years and older"]


def test_features_do_not_see_the_place_of_what_lies_inside():
    image = np.random.default_rng(0).uniform(size=(SIDE, SIDE)).astype(np.float32)
    moved = image.copy()
    moved[4:-4, 4:-4] = np.roll(image[4:-4, 4:-4], (5, 9), axis=(0, 1))
    for name, features in shortcut_features(image).items():
        assert np.allclose(features, shortcut_features(moved)[name]), name
    colours = np.stack([image, image, image])
    assert all(
        np.allclose(one, shortcut_features(colours)[name], atol=1e-6) for name, one in shortcut_features(image).items()
    )


def test_a_rare_level_has_no_figure_and_too_few_patients_are_refused(tmp_path):
    source = Noise()
    source.table["sex"] = ["male"] * 237 + ["female"] * 3
    found = areas(source, tmp_path / "rare")
    assert found["sex", "both"]["mean"] is None
    source.patient_ids = [f"p{row % 4}" for row in range(240)]
    with pytest.raises(InputError, match="4 patients are too few; give 5 or more"):
        measure_shortcuts(source, PRESET, tmp_path / "few", resolution=SIDE)
    with pytest.raises(InputError, match="resolution: 8 is not allowed; give 16 or more pixels"):
        measure_shortcuts(source, PRESET, tmp_path / "small", resolution=8)
    assert not (tmp_path / "few").exists() or not list((tmp_path / "few").iterdir())


def test_the_verb_prints_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("synthfair_hf.domains.registry.SUBJECTS", 40)
    assert len(PhantomSource(40, 0)) == 40
    assert (
        main(["measure", "shortcuts", "--preset", "phantom", "--resolution", "16", "--output_dir", str(tmp_path)]) == 0
    )
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["AUC", "of", "histogram", "border", "both"]
    assert [line.split()[0] for line in told[1:-1]] == list(get_preset("phantom").covariates.names)
    assert json.loads((tmp_path / "shortcuts.json").read_text())["stage"] == "measure_shortcuts"
