import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.domains.oracle import Oracle
from synthfair_hf.domains.phantom.phantom import Exogenous, Phantom
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import generate_dataset, repair_dataset
from synthfair_hf.generate.render import WORLD, statement
from synthfair_hf.generate.verification import verify

SUBJECTS = 20


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world") / "synthfair"
    generate_dataset(directory, SUBJECTS, world="phantom", resolution=16, batch_size=7, subjects_per_shard=3)
    return directory


def rows(directory):
    return [row for path in sorted((directory / "data").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def test_a_data_set_of_a_world_is_sound_and_says_what_made_it(data_set):
    assert verify(data_set) == []
    assert json.loads((data_set / "records" / "plan.json").read_text())["world"] == "phantom"
    for row in rows(data_set):
        assert row["synthetic"]
        assert Image.open(io.BytesIO(row["image"]["bytes"])).info["XML:com.adobe.xmp"] == statement(WORLD, row["id"])
    card = (data_set / "README.md").read_text()
    assert "every counterfactual is exact" in card
    for claim in ("diffusion model", "training images", "the training data", "model card"):
        assert claim not in card, "nothing of a world was learned"


def test_members_of_a_family_differ_by_what_the_world_says_and_share_its_noise(data_set):
    families = {}
    for row in rows(data_set):
        families.setdefault(row["subject_id"], []).append(row)
    assert len(families) == SUBJECTS
    world, oracle, schema = Phantom(), Oracle("phantom", 16), PHANTOM.covariates
    for family in list(families.values())[:6]:
        drawn = {name: np.array([family[0][f"noise_{name}"]], np.float32) for name in schema.names}
        factual = world.covariates(Exogenous(drawn, *[np.empty((1, 0), np.float32)] * 3))
        held = ("age", "race", "habitus", "view")
        for row in family:
            # stored noise gives back the covariates that nobody set
            assert {name: row[name] for name in held} == {name: factual[name][0].item() for name in held}, (
                "what a factor causes is held at the subject's own value"
            )
        by_cell = {(row["sex"], row["finding"], row["scanner"]): pixels(row) for row in family}
        for (sex, finding, scanner), image in by_cell.items():
            for other in range(3):
                same = np.array_equal(image, by_cell[sex, finding, other])
                assert same == (other == scanner), "another scanner always shows"
    assert oracle.revision == rows(data_set)[0]["model_revision"]


def test_a_lost_shard_is_made_again_to_the_same_bytes(data_set):
    lost = sorted((data_set / "data").rglob("*.parquet"))[1]
    before = lost.read_bytes()
    lost.unlink()
    assert len(repair_dataset(data_set)) == 1
    assert lost.read_bytes() == before
    assert verify(data_set) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 32}, "resolution: 32 is for a world"),
        ({"world": "phantm"}, "world: 'phantm' is unknown; allowed: phantom"),
        ({"world": "phantom", "resolution": 8}, "resolution: 8 is out of range"),
        ({"world": "phantom", "source_dir": "radiographs"}, "source_dir: radiographs is given beside world phantom"),
        ({"world": "phantom", "pretrained_model_name_or_path": "run"}, "world: phantom is given beside"),
        ({"world": "phantom", "num_inference_steps": 3}, "num_inference_steps: is for a network"),
    ],
)
def test_what_does_not_go_with_a_world_is_refused_and_nothing_written(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        generate_dataset(tmp_path / "never", SUBJECTS, **settings)
    assert not (tmp_path / "never").exists()


def test_the_command_line_takes_a_world(tmp_path, capsys):
    words = ["--world", "phantom", "--resolution", "16", "--num_subjects", str(SUBJECTS), "--dry_run"]
    assert main(["generate", "--output_dir", str(tmp_path / "never"), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["rows"].values()) == SUBJECTS * 18
    assert told["estimated_seconds"] > 0
