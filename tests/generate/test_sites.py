"""A data set whose families cross the site, by a generator of two sites, one of which does not tell race."""

from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
import torch
from datasets import load_dataset

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.source import count_patients
from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.subjects import choose
from synthfair_hf.generate.verification import verify
from synthfair_hf.schema import Schema

SIDE = 16


def preset_of_sites(**unobserved: tuple[str, ...]):
    sited = get_preset("chest_xray").with_site(("a", "b"))
    variables = [
        one.model_copy(update={"unobserved_at": unobserved.get(one.name, ())}) for one in sited.covariates.walk()
    ]
    return sited.model_copy(update={"covariates": Schema(variables=tuple(variables)), "resolution": SIDE})


PRESET = preset_of_sites(race=("b",))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(PRESET.covariates, PRESET.edges)
    pipeline = CausalDiffusionPipeline.from_preset(PRESET, scm, SIDE, channels=(32, 32), space_to_depth=2, width=16)
    directory = tmp_path_factory.mktemp("generator") / "g"
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture(scope="module")
def data_set(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sites") / "synthfair"
    generate_dataset(
        directory, 20, pretrained_model_name_or_path=generator, factors=("finding", "site"), num_inference_steps=1
    )
    return directory


def test_families_cross_the_site_and_nobody_is_given_a_race(data_set):
    assert verify(data_set) == []
    columns = (
        pyarrow.dataset.dataset(data_set / "data")
        .to_table(columns=["subject_id", "site", "finding", "race", "parent_id"])
        .to_pydict()
    )
    cells = list(zip(columns["subject_id"], columns["site"], columns["finding"], strict=True))
    assert len(set(cells)) == len(cells) == 20 * 4
    races: dict[str, set[int | None]] = {}
    own: dict[str, int] = {}
    for subject, site, race, parent in zip(
        *(columns[name] for name in ("subject_id", "site", "race", "parent_id")), strict=True
    ):
        races.setdefault(subject, set()).add(race)
        if parent is None:
            own[subject] = site
    # of a subject drawn at b none of the family has one, also not at a; of one drawn at a each has the same
    assert set(own.values()) == {0, 1}
    for subject, site in own.items():
        assert (races[subject] == {None}) == (site == 1)
        assert len(races[subject]) == 1


@pytest.mark.parametrize("name", ["site_imbalanced_90_10", "finding_site_correlated_90_10"])
def test_views_of_the_site_load(data_set, name, tmp_path):
    # listed by the card, so that plain `datasets` knows it by the path
    rows = load_dataset(str(data_set), name, cache_dir=str(tmp_path))["train"]
    found = (
        np.array(rows["site"])
        if name.startswith("site")
        else (np.array(rows["site"]) == 0) == (np.array(rows["finding"]) == 1)
    )
    share = (found == 0).mean() if name.startswith("site") else found.mean()
    assert abs(share - 0.9) < 0.08


class Observed:
    """Two patients of each site; those of b without race."""

    name, access, fingerprint, covariates = "sites", "open", "f", PRESET.covariates

    def __init__(self) -> None:
        self.patient_ids = list("pqrs")
        self.splits = ["train"] * 4
        self.table = {"age": [30.0, 60.0] * 2, "sex": ["male"] * 4, "race": ["white", "black", None, None]}
        self.table |= {"finding": ["pneumonia"] * 4, "view": ["PA"] * 4, "scanner": ["portable"] * 4}
        self.table["site"] = ["a", "a", "b", "b"]
        self.counts = count_patients(self.patient_ids, self.splits)

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize(("factors", "largest"), [(("sex", "site"), 4), (("race",), 2)])
def test_observed_subjects_need_what_their_site_tells(factors, largest):
    settings = {"split_fractions": {"train": 1.0}, "source": "sites", "source_fingerprint": "f", "factors": factors}
    plan = GenerationPlan(preset=PRESET, model_revision="m", num_subjects=largest, **settings)
    assert sorted(choose(plan, Observed()).values()) == list(range(largest))
    unknown = r" \(race is unknown in 2 images\)" if factors == ("race",) else ""
    with pytest.raises(InputError, match=f"needed{unknown}; the largest num_subjects possible is {largest}"):
        choose(GenerationPlan(preset=PRESET, model_revision="m", num_subjects=largest + 2, **settings), Observed())


def test_families_cross_the_site_where_each_lacks_a_finding(tmp_path):
    """Two sites that tell one finding each: families over the site or a told finding can be made, of both cannot."""
    sited = get_preset("chexpert").with_site(("a", "b"))
    names = ("age", "sex", "effusion", "pneumonia", "view", "site")
    lacks = {"effusion": ("a",), "pneumonia": ("b",)}
    variables = tuple(
        one.model_copy(update={"unobserved_at": lacks.get(one.name, ())})
        for one in sited.restrict(names).covariates.walk()
    )
    preset = sited.restrict(names).model_copy(update={"covariates": Schema(variables=variables), "resolution": SIDE})
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, SIDE, channels=(32, 32), space_to_depth=2, width=16)
    pipeline.save_pretrained(tmp_path / "g", safe_serialization=True)
    settings = {"pretrained_model_name_or_path": tmp_path / "g", "num_inference_steps": 1}
    generate_dataset(tmp_path / "sites", 10, factors=("sex", "site"), **settings)
    assert verify(tmp_path / "sites") == []
    rows = pyarrow.dataset.dataset(tmp_path / "sites" / "data").to_table().to_pydict()
    findings: dict[str, set[tuple[int | None, int | None]]] = {}
    for subject, effusion, pneumonia in zip(rows["subject_id"], rows["effusion"], rows["pneumonia"], strict=True):
        findings.setdefault(subject, set()).add((effusion, pneumonia))
    # a family has the findings of its subject, also those that are unknown
    assert all(len(one) == 1 and None in next(iter(one)) for one in findings.values())
    with pytest.raises(InputError, match=r"effusion is unknown in \d+ draws.*; give other factors or strata"):
        generate_dataset(tmp_path / "both", 10, factors=("effusion", "pneumonia"), **settings)
