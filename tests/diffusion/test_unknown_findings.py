"""Counterfactuals where a few of several findings are known: the others are hidden, and unknown in the answer."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.diffusion.inputs import may_be_unknown, with_unknown
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record
from synthfair_hf.schema import Schema

SIDE = 16
KNOWN = {"age": 61, "sex": "male", "view": "PA", "effusion": "present", "cardiomegaly": "absent"}
NIH = get_preset("nih_chestxray14")
UNKNOWN = [name for name in NIH.covariates.names if name not in KNOWN]


@pytest.fixture(scope="module")
def several() -> CausalDiffusionPipeline:
    """Of the labels of ChestX-ray14, weights from a seed."""
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(NIH.covariates, NIH.edges)
    scm.mechanism("age").prepare(torch.tensor([20.0, 50.0, 80.0]))  # type: ignore[attr-defined]
    pipeline = CausalDiffusionPipeline.from_preset(NIH, scm, SIDE, channels=(32, 64), space_to_depth=2, width=16)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.covariate_encoder, pipeline.scm):
        part.eval()
    return pipeline


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def answer(pipeline: CausalDiffusionPipeline, image: Any, covariates: dict[str, Any], do: Any, **more: Any) -> Any:
    settings = {"num_inference_steps": 2, "output_type": "pt", "generator": torch.Generator().manual_seed(0)}
    return pipeline(image=image, covariates=covariates, do=do, **{**settings, **more})


def test_findings_may_be_unknown_where_there_are_several():
    for name, how_it_was_taken in (("nih_chestxray14", {"view"}), ("chexpert", {"view", "support_devices"})):
        assert set(may_be_unknown(get_preset(name))) == {*findings_of(get_preset(name)), *how_it_was_taken}
    for name in ("phantom", "dermatology", "brain_mri"):
        assert not set(findings_of(get_preset(name))) & set(may_be_unknown(get_preset(name)))


def test_what_is_left_out_is_unknown_and_not_absent(several, image):
    left_out = answer(several, image, KNOWN, {"sex": "female"})
    as_none = answer(several, image, {**KNOWN, **dict.fromkeys(UNKNOWN)}, {"sex": "female"})
    absent = answer(several, image, {**KNOWN, **dict.fromkeys(UNKNOWN, "absent")}, {"sex": "female"})
    assert torch.equal(left_out.images, as_none.images)
    assert left_out.covariates == as_none.covariates
    assert [name for name, (value,) in left_out.covariates.items() if value is None] == UNKNOWN
    assert not torch.equal(left_out.images, absent.images)
    assert all(absent.covariates[name] != [None] for name in UNKNOWN)


def test_without_an_intervention_image_and_covariates_come_back(several, image):
    after = answer(several, image, KNOWN, {})
    assert torch.allclose(after.images, image, atol=1e-5)
    assert {name: value for name, (value,) in after.covariates.items() if value is not None} == KNOWN
    # what is abducted is reused without a draw, and makes the same
    reused = {"noise": after.noise, "covariate_noise": after.covariate_noise, "residual": after.residual}
    for do in ({}, {"edema": "present"}, {"cardiomegaly": "present", "age": 30}):
        again = answer(several, None, KNOWN, do, generator=torch.Generator().manual_seed(9), **reused)
        first = answer(several, image, KNOWN, do)
        assert again.covariates == first.covariates
        assert torch.allclose(again.images, first.images, atol=1e-5)


def test_what_is_set_is_known_and_its_unknown_effects_are_not(several, image):
    after = answer(several, image, KNOWN, {"edema": "present"})
    assert after.covariates["edema"] == ["present"]
    # edema causes infiltration, which stays hidden from the network; so does the rest
    assert [name for name, (value,) in after.covariates.items() if value is None] == [
        name for name in UNKNOWN if name != "edema"
    ]
    untouched = answer(several, image, KNOWN, {})
    assert not torch.equal(after.images, untouched.images)


def test_who_it_is_must_be_known(several, image):
    for name in ("age", "sex"):
        with pytest.raises(InputError, match=f"covariates: {name} not given"):
            answer(several, image, {one: value for one, value in KNOWN.items() if one != name}, {})
        with pytest.raises(InputError, match=rf"covariates\['{name}'\]: is missing"):
            answer(several, image, {**KNOWN, name: None}, {})


def test_a_file_is_answered_by_what_is_known_of_it(several, tmp_path: Path, capsys):
    several.save_pretrained(tmp_path / "generator", safe_serialization=True)
    Image.fromarray(np.random.default_rng(3).integers(30, 220, (64, 64), dtype=np.uint8)).save(tmp_path / "film.png")
    words = [f"{name}={value}" for name, value in KNOWN.items()]
    command = ["counterfactual", "--image", str(tmp_path / "film.png"), "--pretrained_model_name_or_path"]
    command += [str(tmp_path / "generator"), "--num_inference_steps", "1", "--covariates", *words]
    out = ["--output_dir", str(tmp_path / "out")]
    assert main([*command, "hernia=unknown", "--do", "edema=present", *out]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told == Record.read(tmp_path / "out" / "counterfactual.json").measured["counterfactual"]
    assert set(told) == set(NIH.covariates.names)
    assert {name for name, value in told.items() if value is None} == {*UNKNOWN} - {"edema"}
    given = Record.read(tmp_path / "out" / "counterfactual.json").settings["covariates"]
    assert given == {**KNOWN, **dict.fromkeys(UNKNOWN)}
    assert main([*command[:-5], *words[1:], *out]) == 2
    assert "--covariates: age not given" in capsys.readouterr().err


def test_an_error_names_what_is_needed_and_what_may_be_left_out(several, image):
    free = ", ".join(name for name in NIH.covariates.names if name not in ("age", "sex"))
    for given, absent in (({"age": 61}, "sex"), ({"sex": "male", "view": "PA"}, "age")):
        told = f"covariates: {absent} not given; needed: age, sex; may be left out: {free}."
        with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
            answer(several, image, given, {"sex": "female"})
    with pytest.raises(InputError, match=r"^covariates: not given; needed: age, sex; may be left out: .*list of them"):
        answer(several, image, {}, {"sex": "female"})


def test_what_is_unobserved_at_the_site_of_all_rows_may_be_left_out():
    sited = NIH.with_site(["east", "west"])
    variables = [
        one.model_copy(update={"unobserved_at": ("east",)}) if one.name == "sex" else one
        for one in sited.covariates.walk()
    ]
    preset = sited.model_copy(update={"covariates": Schema(variables=tuple(variables))})
    for site, unobserved in (("east", True), (["east", "east"], True), (["east", "west"], False), (None, False)):
        assert ("sex" in with_unknown({"site": site}, preset)) == unobserved
    given = {name: [one] for name, one in with_unknown({"site": "east"}, preset).items() if name != "site"}
    with pytest.raises(InputError, match=r"age not given; needed: age, site; may be left out: sex, "):
        preset.covariates.encode({**given, "site": ["east"]}, unneeded=may_be_unknown(preset))


def test_an_intervention_of_a_word_for_nothing_is_told_the_levels(tmp_path: Path, several, capsys):
    several.save_pretrained(tmp_path / "saved")
    Image.new("L", (SIDE, SIDE), 9).save(tmp_path / "image.png")
    words = ["--covariates", "age=61", "sex=male", "--pretrained_model_name_or_path", str(tmp_path / "saved")]
    assert main(["counterfactual", "--image", str(tmp_path / "image.png"), *words, "--do", "effusion=none"]) == 2
    told = "--do['effusion']: is missing; give one of absent, present ('none' says that nothing is known)"
    assert capsys.readouterr().err == f"synthfair: {told}.\n"
