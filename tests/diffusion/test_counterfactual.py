"""The counterfactual of one image file: the file's own pixels, an unknown scanner, and nothing drawn over them."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.diffusion.counterfactual import counterfactual
from synthfair_hf.diffusion.inputs import may_be_unknown
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.source import read_image
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record

SIDE = 16
PERSON = {"age": 61, "sex": "male", "finding": "no_finding", "view": "PA"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, pipeline: CausalDiffusionPipeline) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "generator"
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A radiograph with a marker of its own, in an exposure of its own."""
    pixels = np.random.default_rng(3).integers(30, 120, (96, 80), dtype=np.uint8)
    pixels[5:20, 60:75] = 255
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_real_radiograph_is_answered_as_it_is(saved: Path, film: Path, tmp_path: Path):
    answer = counterfactual(film, PERSON, {"sex": "female"}, tmp_path / "out", 0, saved, 2)
    assert answer == {**PERSON, "sex": "female", "scanner": None}
    own = np.rint(read_image(film, SIDE) * 255).astype(np.uint8)
    assert np.array_equal(pixels(tmp_path / "out" / "observation.png"), own), "neither exposed, framed nor marked"
    record = Record.read(tmp_path / "out" / "counterfactual.json")
    assert record.settings["plant_scanner"] is False
    assert record.settings["covariates"]["scanner"] is None


def test_levels_are_read_as_in_a_table(saved: Path, film: Path, tmp_path: Path):
    words = {"sex": "Male", "finding": "No Finding", "view": "pa"}
    answer = counterfactual(film, {**PERSON, **words}, {"sex": " FEMALE "}, tmp_path / "out", 0, saved, 2)
    assert answer == {**PERSON, "finding": "no_finding", "view": "PA", "sex": "female", "scanner": None}
    with pytest.raises(InputError, match=r"do\['sex'\]: 'femal' is unknown"):
        counterfactual(film, PERSON, {"sex": "femal"}, tmp_path / "none", 0, saved, 2)


@pytest.mark.parametrize("scanner", [None, "flatpanel", "portable"])
def test_without_an_intervention_it_comes_back(saved: Path, film: Path, tmp_path: Path, scanner: str | None):
    person = PERSON if scanner is None else {**PERSON, "scanner": scanner}
    answer = counterfactual(film, person, {}, tmp_path / "out", 0, saved, 2)
    assert answer == {**PERSON, "scanner": scanner}
    found, own = (pixels(tmp_path / "out" / f"{name}.png").astype(int) for name in ("counterfactual", "observation"))
    assert np.abs(found - own).max() <= 1


def test_planting_is_asked_for_and_said(saved: Path, film: Path, tmp_path: Path, capsys: Any):
    words = [f"{name}={value}" for name, value in PERSON.items()]
    command = ["counterfactual", "--image", str(film), "--pretrained_model_name_or_path", str(saved), "--covariates"]
    rest = ["--num_inference_steps", "1", "--output_dir", str(tmp_path / "out")]
    assert main([*command, *words, *rest]) == 0
    assert "planted" not in capsys.readouterr().out
    plain = pixels(tmp_path / "out" / "observation.png")
    assert main([*command, *words, "scanner=flatpanel", *rest, "--plant_scanner"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert json.loads(out[0])["scanner"] == "flatpanel"
    assert out[1] == "planted scanner flatpanel on the radiograph first: observation.png is not as given"
    assert not np.array_equal(pixels(tmp_path / "out" / "observation.png"), plain)
    assert Record.read(tmp_path / "out" / "counterfactual.json").settings["plant_scanner"] is True
    assert main([*command, *words, *rest, "--plant_scanner"]) == 2
    assert "--plant_scanner: no scanner is among the covariates; give the one to plant" in capsys.readouterr().err


@pytest.mark.parametrize("do", [{"sex": "female"}, {"scanner": "portable"}])
def test_an_image_of_the_packages_own_is_taken_by_the_same_verb(
    saved: Path, pipeline: CausalDiffusionPipeline, tmp_path: Path, do: dict[str, str]
):
    rows = {name: [value] for name, value in PERSON.items()} | {"scanner": ["computed"]}
    made = pipeline(covariates=rows, num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0]
    made.save(tmp_path / "made.png")
    answer = counterfactual(tmp_path / "made.png", {**PERSON, "scanner": "computed"}, do, tmp_path / "out", 0, saved, 2)
    assert {**answer, **do} == answer
    assert np.array_equal(pixels(tmp_path / "out" / "observation.png"), np.asarray(made))


@pytest.mark.parametrize("name", ["observation.png", "difference.png", "counterfactual.json", "counterfactual.png.tmp"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_in_the_way_of_a_file_is_named_before_any_work(saved, film, tmp_path, name, make):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out" / name)
    with pytest.raises(InputError, match=rf"output_dir: .*/{name}: is not a file; remove it, or give another"):
        counterfactual(film, PERSON, {"sex": "female"}, tmp_path / "out", 0, saved, 2)
    assert [one.name for one in (tmp_path / "out").iterdir()] == [name]


def test_a_full_disk_leaves_what_was_there(saved, film, tmp_path, monkeypatch):
    counterfactual(film, PERSON, {"sex": "female"}, tmp_path / "out", 0, saved, 2)
    before = {one.name: one.read_bytes() for one in (tmp_path / "out").iterdir()}
    sync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/out/difference\.png'"):
        counterfactual(film, PERSON, {"age": 20}, tmp_path / "out", 0, saved, 2)
    assert {one.name: one.read_bytes() for one in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("word", ["unknown", "", "NaN", None])
def test_unknown_is_a_scanner_and_no_age(saved, film, tmp_path, word):
    answer = counterfactual(film, {**PERSON, "scanner": word}, {"sex": "F"}, tmp_path / "out", 0, saved, 1)
    assert answer == {**PERSON, "sex": "female", "scanner": None}
    for asked, do, where in (({**PERSON, "age": word}, {}, "covariates"), (PERSON, {"age": word}, "do")):
        with pytest.raises(InputError, match=rf"^{where}\['age'\]: is missing; give"):
            counterfactual(film, asked, do, tmp_path / "other", 0, saved, 1)
    assert not (tmp_path / "other").exists()


def test_other_small_images_are_refused(saved: Path, tmp_path: Path):
    Image.new("L", (SIDE, SIDE + 1), 9).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="too small; resolution 16 needs images of at least 32 pixels"):
        counterfactual(tmp_path / "small.png", PERSON, {}, tmp_path / "out", 0, saved)
    assert not (tmp_path / "out").exists()


def test_only_what_causes_nothing_may_be_unknown(saved: Path, film: Path, tmp_path: Path, pipeline):
    assert may_be_unknown(pipeline.preset) == ("scanner",)
    for name in PERSON:
        known = {one: value for one, value in PERSON.items() if one != name}
        with pytest.raises(InputError, match=f"covariates: {name} not given"):
            counterfactual(film, known, {}, tmp_path / "out", 0, saved)


def test_rows_with_and_without_a_known_scanner_are_as_alone(pipeline: CausalDiffusionPipeline, covariates, images):
    """What is unknown in one row is unknown in that row, whatever the others know."""

    def answer(rows: list[int], scanners: list[str | None]) -> Any:
        given = {**{name: [column[row] for row in rows] for name, column in covariates.items()}, "scanner": scanners}
        return pipeline(
            image=images[rows],
            covariates=given,
            do={"view": "PA"},
            num_inference_steps=1,
            generator=[torch.Generator().manual_seed(row) for row in rows],
            output_type="pt",
        )

    together = answer([1, 2], [None, "computed"])
    for place, (row, scanner) in enumerate(((1, None), (2, "computed"))):
        alone = answer([row], [scanner])
        assert torch.allclose(alone.images[0], together.images[place], atol=1e-5)
        assert alone.covariates["scanner"][0] == together.covariates["scanner"][place]
    assert together.covariates["scanner"][0] is None
