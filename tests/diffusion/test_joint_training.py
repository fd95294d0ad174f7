"""Training on two folders of images as one source: from words to a counterfactual at another site."""

from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli.parser import parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.preset import Network
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import open_source
from synthfair_hf.errors import InputError
from synthfair_hf.training.config import TrainingConfig

SIDE = 16
PRESET = get_preset("chest_xray").model_copy(
    update={"network": Network(channels=(32, 32), space_to_depth=2, width=16), "resolution": SIDE}
)


def write_folder(root: Path, first: int, patients: int, columns: str) -> None:
    (root / "images").mkdir(parents=True)
    lines = [columns]
    for n in range(patients):
        pixels = np.random.default_rng(first + n).integers(0, 256, (2 * SIDE, 2 * SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{n}.png")
        cells = [
            f"images/{n}.png",
            f"p{n}",
            "MF"[n % 2],
            ("PA", "AP")[n // 2 % 2],
            ("No Finding", "Pneumonia")[n // 4 % 2],
        ]
        lines.append(",".join([*cells, str(30 + n), ("White", "Black", "Asian")[n % 3]][: columns.count(",") + 1]))
    (root / "metadata.csv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("joint")
    write_folder(place / "west", 0, 60, "file_name,patient_id,sex,view,finding,age,race")
    write_folder(place / "east", 100, 40, "file_name,patient_id,sex,view,finding,Years")
    words = ["--source", f"the_east={place}/east", f"{place}/west", "--column", "the_east.age=Years"]
    settings = parse(VERBS["train"], [*words, "--access", "open", "--output_dir", str(place / "run")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=3))
        config = TrainingConfig(output_dir=place / "run", max_train_steps=1, train_batch_size=8)
        record = train_generator(PRESET, settings.source_dir, config, default_steps=1, access="open")
    sources = record.counts["source"]["sources"]
    assert {name: one["images"] for name, one in sources.items()} == {"the_east": 40, "west": 60}
    assert record.counts["mechanisms"]["race"]["rows_by_site"]["the_east"] == 0
    assert record.counts["mechanisms"]["finding"]["rows_by_site"]["the_east"] > 20
    return place / "run"


def test_the_generator_knows_the_sites_and_what_they_do_not_tell(trained):
    saved = find_generator(trained)
    site = saved.preset.covariates.site
    assert site is not None
    assert site.levels == ("the_east", "west")
    assert saved.preset.covariates["race"].unobserved_at == ("the_east",)
    assert saved.coverage is not None
    assert saved.coverage.number(saved.preset, {"site": "the_east"}) > 20
    assert saved.coverage.number(saved.preset, {"site": "the_east", "race": "white"}) == 0


def test_it_takes_its_sources_and_one_of_them_again(trained):
    saved, place = find_generator(trained), trained.parent
    both = ["--source", f"{place}/west", f"the_east={place}/east", "--column", "the_east.age=Years"]
    alone = ["--source", f"the_east={place}/east", "--column", "the_east.age=Years"]
    for words in (both, alone):
        settings = parse(
            VERBS["rectify"], [*words, "--pretrained_model_name_or_path", str(trained), "--output_dir", "x"]
        )
        source = open_source(settings.source_dir, saved.preset, SIDE)
        # as what trains it further demands
        assert source.covariates == saved.preset.covariates


def test_a_person_of_a_site_without_race_has_none_at_the_other(trained):
    pipeline = load_generator(trained)
    person = {"age": [50], "sex": ["male"], "race": [None], "finding": ["pneumonia"], "view": ["PA"]}
    person |= {"scanner": ["portable"], "site": ["the_east"]}
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    call = {"image": image, "covariates": person, "output_type": "pt"}
    same = pipeline(**call, do={}, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(torch.as_tensor(same.images), image, atol=1e-4)
    assert same.covariates == person
    moved = pipeline(**call, do={"site": "west"}, generator=torch.Generator().manual_seed(0))
    assert moved.covariates["site"] == ["west"]
    assert {name: moved.covariates[name] for name in ("age", "sex", "race")} == {
        "age": [50],
        "sex": ["male"],
        "race": [None],
    }
    # in the west race is told of everybody
    with pytest.raises(InputError, match=r"covariates\['race'\]: is missing"):
        pipeline(**{**call, "covariates": {**person, "site": ["west"]}}, do={})


def test_a_label_table_of_one_set_is_not_for_several(trained):
    words = ["--source", f"a={trained}", f"b={trained}", "--output_dir", "x", "--preset", "chest_xray"]
    settings = parse(VERBS["train"], words)
    config = TrainingConfig(output_dir=trained.parent / "other", max_train_steps=1)
    with pytest.raises(InputError, match=r"covariate_table: .* is of one data set, and tells no site"):
        train_generator(PRESET, settings.source_dir, config, covariate_table=trained / "record.json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--source", "a", "b", "--dataset_name", "brax", "chexpert", "padchest"],
            "dataset_name: 3 names for 2 folders",
        ),
        (["--source", "a", "b", "--column", "c.age=Years"], "columns: 'c.age' is unknown; allowed: a.age, b.age"),
        (["--source", "a", "--shared_patients", "a", "b"], "shared_patients: a, b: is for several sources"),
        (["--source", "a", "x/a"], "are both called a; give each a name of its own, as NAME=DIR"),
    ],
)
def test_words_that_do_not_fit_together_are_told(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(VERBS["train"], [*words, "--output_dir", "x"])
