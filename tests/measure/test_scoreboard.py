"""A generator on its scoreboard: the band holds it, the page prints records, strengths are the best of those tried."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.access import sealed
from synthfair_hf.cli import main
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.phantom.phantom import Phantom, PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.worlds import PhantomWorld, open_world
from synthfair_hf.errors import InputError
from synthfair_hf.measure import calibration, scoreboard
from synthfair_hf.measure.autoencoder import train_autoencoder
from synthfair_hf.measure.calibration import calibrate, choose
from synthfair_hf.measure.interventions import forced_change, hold
from synthfair_hf.measure.predictors import agreement, train_predictor
from synthfair_hf.measure.scoreboard import PipelineSystem, measure_realism, measure_soundness, write_page
from synthfair_hf.measure.soundness import score
from synthfair_hf.measure.systems import answer
from synthfair_hf.measure.weights import WEIGHTS
from synthfair_hf.records import Record, file_sha256
from synthfair_hf.training.config import AutoencoderTrainingConfig, PredictorTrainingConfig

SIDE, SUBJECTS = 16, 150


def small_world(name, split, limit=None, seed=0, directory=None, resolution=SIDE, preset=None):
    return PhantomWorld(split, limit, seed, SUBJECTS, resolution)


@pytest.fixture(autouse=True, scope="module")
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoreboard, "open_world", small_world)
        yield


@pytest.fixture(scope="module")
def generator(tmp_path_factory, save_phantom_generator):
    """A saved generator of 16-pixel phantoms."""
    return save_phantom_generator(tmp_path_factory.mktemp("generators") / "tiny", SIDE, SUBJECTS, default_steps=1)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    directory = tmp_path_factory.mktemp("predictors") / "reader"
    config = PredictorTrainingConfig(output_dir=directory, max_train_steps=2, train_batch_size=8)
    train_predictor(PhantomSource(SUBJECTS, seed=0), config, SIDE, channels=(8, 8, 8, 8), width=8)
    return directory


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("encoders") / "autoencoder"
    config = AutoencoderTrainingConfig(output_dir=directory, max_train_steps=2, train_batch_size=8)
    train_autoencoder(PhantomSource(SUBJECTS, seed=0), config, SIDE, block_out_channels=(8, 8))
    return directory


@pytest.fixture(scope="module")
def asked(generator, predictor, autoencoder):
    return {
        "pretrained_model_name_or_path": generator,
        "predictors": [predictor],
        "encoder": autoencoder,
        "limit": 6,
        "seeds": (0, 1),
        "pairs": [("sex", "scanner")],
        "contrasts": {"age": ("30", 75), "sex": ("male", "female")},
    }


@pytest.fixture(scope="module")
def measured(asked, tmp_path_factory):
    """A scoreboard and its record, for reading only."""
    directory = tmp_path_factory.mktemp("scoreboards")
    return directory, measure_soundness(directory, "phantom", **asked)


def test_many_questions_abduct_an_image_once_and_answer_as_if_each_were_alone(generator, monkeypatch):
    world = small_world("phantom", "test", limit=5)
    pipeline = CausalDiffusionPipeline.load(generator)
    system = PipelineSystem("tiny", pipeline)
    calls = []
    abduct = pipeline.scheduler.abduct
    monkeypatch.setattr(pipeline.scheduler, "abduct", lambda *given: calls.append(1) or abduct(*given))
    values = {name: forced_change(world, name, 0) for name in ("sex", "scanner")}
    answers = [answer(system, world, world.images, world.table, {name: column}) for name, column in values.items()]
    assert len(calls) == 1
    for (name, column), one in zip(values.items(), answers, strict=True):
        alone = answer(PipelineSystem("tiny", pipeline), world, world.images, world.table, {name: column}, batch_size=2)
        assert (alone.images - one.images).abs().max() < 1e-4
        for variable in PHANTOM.covariates.walk():
            told, same = (variable.encode(each.covariates[variable.name]) for each in (alone, one))
            assert told == pytest.approx(same, rel=1e-5), variable.name
    back = answer(system, world, answers[0].images, answers[0].covariates, {"sex": world.table["sex"]})
    fresh = answer(
        PipelineSystem("tiny", pipeline), world, answers[0].images, answers[0].covariates, {"sex": world.table["sex"]}
    )
    assert (back.images - fresh.images).abs().max() < 1e-4, "another image is abducted anew"


def test_a_score_abducts_each_answer_once(generator, monkeypatch):
    world = small_world("phantom", "test", limit=3)
    pipeline = CausalDiffusionPipeline.load(generator)
    done = {"abduct": 0, "predict": 0}
    for name in done:
        method = getattr(pipeline.scheduler, name)

        def count(*given, name=name, method=method):
            done[name] += 1
            return method(*given)

        monkeypatch.setattr(pipeline.scheduler, name, count)
    names = ["sex", "view", "scanner"]
    score(PipelineSystem("tiny", pipeline), world, {}, (0,), names, effect="direct", cycles=(1,), n_bootstrap=20)
    assert done["abduct"] == 1 + 3, "the observation, and the answer to each do()"
    assert done["predict"] == 1 + 3 + 3 + 3 + 6, "nothing, what is, do(), back, and three pairs in both orders"


def test_a_scoreboard_holds_the_band_and_prints_what_it_recorded(measured, asked, autoencoder, tmp_path):
    directory, record = measured
    assert record == Record.read(directory / "soundness-phantom.json")
    rows = {(row["system"], row["metric"], row["do"], row["attribute"]): row for row in record.measured["rows"]}
    assert rows["tiny", "composition_l1_at_10", "none", "image"]["high"] < 0.01
    for name in PHANTOM.covariates.names:
        oracle, identity = (rows[one, "true_l1", name, "image"]["mean"] for one in ("oracle", "identity"))
        assert oracle == 0
        assert identity > 0
        assert ("tiny", "auc" if PHANTOM.covariates[name].categorical else "mae", "sex", name) in rows
        assert {"identity", "tiny", "oracle"} == {
            one for one, *others in rows if others == ["minimality", name, "image"]
        }
    assert record.settings["contrasts"] == {"age": [30.0, 75], "sex": ["male", "female"]}
    for effect in ("total_effect", "direct_effect", "indirect_effect"):
        assert {one for one, *others in rows if others == [effect, "age", "age"]} == {"tiny", "oracle"}
    assert rows["oracle", "indirect_effect", "age", "age"]["n"] == 6
    weights = file_sha256(autoencoder / WEIGHTS)[:16]
    assert record.inputs["encoder autoencoder"] == weights
    page = (directory / "README.md").read_text()
    assert "### Minimality" in page
    assert "| total_effect | age | age | reader | 30.0 -> 75 |" in page
    assert "| minimality | sex | image | encoder |" in page
    rare = [row for row in record.measured["rows"] if row["draws"] < 1000 and row["mean"] is not None]
    assert rare, "of six subjects some replicates lack a sex"
    assert all(f"({row['draws']} of 1000 replicates)" in page for row in rare)
    assert page.count("of 1000 replicates)") <= len(rare)
    assert "| metric | do | attribute | by | values | identity | tiny | oracle |" in page
    composition = rows["tiny", "composition_l1_at_1", "none", "image"]
    assert f"{composition['mean']:.3g} [{composition['low']:.3g}, {composition['high']:.3g}]" in page
    algebra = {(row["system"], row["metric"], row["do"]): row for row in record.measured["algebra"]}
    for name in ("tiny", "random weights"):
        assert algebra[name, "composition_l1_at_10", "none"]["high"] < 0.05, "of any weights"
        assert algebra[name, "noise_spread", "none"]["n"] == 6
        assert {do for one, metric, do in algebra if (one, metric) == (name, "reversibility_l1")} == {
            *PHANTOM.covariates.names
        }
    assert algebra["tiny", "reversibility_l1", "sex"] == rows["tiny", "reversibility_l1", "sex", "image"]
    assert "| metric | do | values | tiny | random weights |" in page
    assert "| noise_spread | none | none |" in page
    again = measure_soundness(tmp_path / "again", "phantom", **asked)
    assert again.measured == record.measured
    assert (tmp_path / "again" / "README.md").read_text() == page


def test_a_scoreboard_of_some_variables_has_their_interventions_alone(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("synthfair_hf.measure.scoreboard.FEW", 4)
    given = {**asked, "contrasts": None, "encoder": None, "pairs": None}
    given |= {"variables": ["sex", "scanner"], "cycles": (2,)}
    record = measure_soundness(tmp_path, "phantom", **given)
    assert record.settings["variables"] == ["sex", "scanner"]
    assert {row["do"] for row in record.measured["rows"]} == {"none", "sex", "scanner"}
    composed = {row["metric"] for row in record.measured["rows"] if row["metric"].startswith("composition")}
    assert composed == {"composition_l1_at_2"}
    few = {row["n"] for row in record.measured["algebra"] if row["system"] == "random weights"}
    assert few == {4}, "random weights answer one batch"
    assert "before any training, on 4 images" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("variables", "message"), [(["weight"], "'weight'"), ([], "none"), (["sex", "sex"], "once")])
def test_variables_to_intervene_on_are_checked_before_anything_is_loaded(asked, tmp_path, variables, message):
    with pytest.raises(InputError, match=message):
        measure_soundness(tmp_path / "board", "phantom", **{**asked, "variables": variables})


def test_guidance_is_the_systems_and_is_recorded(asked, tmp_path):
    given = {**asked, "contrasts": None, "encoder": None, "pairs": (), "variables": ["sex"], "cycles": (1,)}
    found = {}
    for name, scale in (("plain", 1.0), ("guided", {"sex": 3.0})):
        record = measure_soundness(tmp_path / name, "phantom", **given, guidance_scale=scale)
        assert record.settings["guidance_scale"] == scale
        found[name] = {
            (row["metric"], row["do"]): row["mean"] for row in record.measured["rows"] if row["system"] == "tiny"
        }
    assert found["plain"]["composition_l1_at_1", "none"] == found["guided"]["composition_l1_at_1", "none"]
    assert found["plain"]["true_l1", "sex"] != found["guided"]["true_l1", "sex"]
    with pytest.raises(InputError, match="guidance_scale: 'weight' is unknown"):
        measure_soundness(tmp_path / "board", "phantom", **given, guidance_scale={"weight": 2.0})
    assert not (tmp_path / "board").exists()


def boxed_world(name, split, limit=None, seed=0, directory=None, resolution=SIDE, preset=None):
    """Phantoms as if they were files, each patient with two images that differ at least in their view."""
    world = small_world(name, split, limit)
    table, n = world.listing.covariates, len(world.listing.groups)
    held = {one: [column[row - row % 2] for row in range(n)] for one, column in table.items() if one != "finding"}
    held["view"] = [PHANTOM.covariates["view"].levels[row % 2] for row in range(n)]
    names = [f"images/{row:08}_000.jpg" for row in range(n)]
    world.listing = world.listing._replace(
        covariates={**table, **held}, groups=[f"p{row // 2}" for row in range(n)], file_names=names
    )
    return world


BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def test_boxes_and_a_patients_second_image_are_used_where_they_are(generator, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "open_world", boxed_world)
    level = PHANTOM.covariates["finding"].levels[1]
    found = boxed_world("phantom", "test").listing.covariates["finding"]
    ill = [row for row, value in enumerate(found) if value == level]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(BOXES + "".join(f"{row:08}_000.png,{level},300,300,400,300\n" for row in range(len(found))))
    asked = {
        "pretrained_model_name_or_path": generator,
        "predictors": [predictor],
        "limit": 4,
        "pairs": [],
        "seeds": [0],
    }
    record = measure_soundness(tmp_path / "out", "phantom", **asked, boxes=boxes)
    rows = {(row["system"], row["metric"], row["do"], row["attribute"]): row for row in record.measured["rows"]}
    assert rows["tiny", "box_energy_ratio", "finding", "image"]["n"] == min(4, len(ill))
    assert rows["tiny", "box_energy_ratio", "finding", "image"]["intervention"] == f"{level} -> no_finding"
    assert rows["identity", "pair_share_of_gap", "view", "view"]["mean"] == 0
    assert rows["tiny", "pair_nearer", "view", "image"]["n"] == 8
    assert rows["other image", "pair_drift", "view", "age"]["mean"] >= 0
    assert ("tiny", "pair_drift", "scanner", "age") not in rows, "planted"
    assert record.measured["origins"] == {"reader": "unknown"}, "the generator has no record"
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| metric | do | attribute | by | values | identity | tiny | oracle | other image | predictor |" in page
    assert "| share_of_gap | sex | sex | reader | from_marginal |" in page
    assert all(line.endswith("| unknown |") for line in page.splitlines() if "| reader |" in line)
    assert "| box_energy_ratio | finding | image | boxes |" in page
    assert "of the image, with the heart" in page


@pytest.mark.parametrize("rows", ["", "00000000_000.png,Hernia,3,3,4,4\n", "other.png,Effusion,3,3,4,4\n"])
def test_boxes_of_no_image_are_refused_before_weights_are_loaded(rows, generator, tmp_path, monkeypatch):
    def late(*given, **named):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(scoreboard, "open_world", boxed_world)
    monkeypatch.setattr(scoreboard, "load_generator", late)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(BOXES + rows)
    with pytest.raises(InputError):
        measure_soundness(tmp_path / "out", "phantom", pretrained_model_name_or_path=generator, boxes=boxes)
    assert not (tmp_path / "out").exists()


def test_a_predictor_that_taught_the_generator_is_told(generator, predictor, tmp_path):
    taught = Path(shutil.copytree(generator, tmp_path / "tiny"))
    weights = file_sha256(predictor / WEIGHTS)[:16]
    part = {"source": {"images": 1, "part": "generator"}, "origins": []}
    for inputs, expected in (
        ({"source": "g"}, "unknown"),
        ({"source": "g", "predictor": weights}, "used to train or calibrate the generator"),
        ({"source": Record.read(predictor / "record.json").inputs["source"]}, "same images as the generator"),
    ):
        sealed(Record(stage="train", inputs=inputs, counts=part), taught).write(taught / "record.json")
        assert scoreboard.relations(find_generator(taught), [predictor]) == {"reader": expected}
    judge = Path(shutil.copytree(predictor, tmp_path / "judge"))
    own = Record.read(judge / "record.json")
    counts = {**own.counts, "source": {**own.counts["source"], "part": "judge"}}
    own.model_copy(update={"counts": counts, "inputs": {**own.inputs, "source": "j"}}).write(judge / "record.json")
    saved = find_generator(taught)
    sealed(Record(stage="train", inputs={"source": "g"}, counts=part), taught).write(taught / "record.json")
    assert scoreboard.relations(saved, [judge]) == {"judge": "independent: other patients"}
    calibrated = Record(stage="calibrate", inputs={"world": "v", "predictor judge": "w"}, counts=part)
    calibrated.write(taught / "calibration.json")
    assert scoreboard.relations(saved, [judge]) == {"judge": "independent: other patients"}
    calibrated.model_copy(update={"inputs": {"world": "v", "predictor judge": weights}}).write(
        taught / "calibration.json"
    )
    assert scoreboard.relations(saved, [judge]) == {"judge": "used to train or calibrate the generator"}


def test_realism_is_measured_overall_and_by_group(generator, predictor, tmp_path):
    record = measure_realism(
        tmp_path, "phantom", predictor, pretrained_model_name_or_path=generator, limit=12, group="sex"
    )
    assert record.counts["images"] == 12
    assert record.counts["training_images"] == PhantomSource(SUBJECTS, seed=0).splits.count("train")
    assert set(record.measured["features"]["groups"]) == {"male", "female"}
    page = write_page(tmp_path).read_text()
    assert "| all | 12 |" in page
    assert "`suspicious-phantom.png`" in page
    measured = record.measured
    assert measured["discrimination"]["generated"]["mean"] > 0.5, "weights that know nothing draw noise"
    assert measured["discrimination"]["real_halves"]["mean"] is None, "of six patients each"
    assert measured["texture"]["generated"]["grain"]["generated"] > measured["texture"]["generated"]["grain"]["real"][2]
    distances = [measured["texture"][name]["spectrum"]["distance"] for name in ("training_images", "generated")]
    assert distances == sorted(distances)
    assert measured["noise_spread"]["n"] == 12
    assert "| AUC of a network trained to tell them from real held-out images |" in page
    assert "| spread of the noise of real images |" in page
    assert "not published, because it shows training images" in page
    with Image.open(tmp_path / "suspicious-phantom.png") as picture:
        assert picture.height > 10 * 128, "ten pairs"


def test_a_page_of_records_without_texture_is_printed(measured, generator, predictor, tmp_path):
    """Records of earlier versions say nothing of it, nor of random weights."""
    realism = measure_realism(tmp_path, "phantom", predictor, pretrained_model_name_or_path=generator, limit=2)
    for record in (realism, measured[1]):
        kept = {"features", "training_films", "memorisation", "rows"} & set(record.measured)
        old = record.model_copy(update={"measured": {name: record.measured[name] for name in kept}})
        old.write(tmp_path / f"{record.stage.removeprefix('measure_')}-phantom.json")
    page = write_page(tmp_path).read_text()
    assert "## phantom: soundness" in page
    assert "## phantom: realism" in page
    assert "grain" not in page
    assert "random weights" not in page


def test_pictures_of_training_images_are_never_committed():
    rules = (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
    assert "suspicious-*.png" in rules


def test_a_page_of_records_without_replicates_is_printed(measured, tmp_path):
    """Records of earlier versions say nothing of undefined replicates."""
    _, record = measured
    whole = {
        part: [row for row in record.measured[part] if row["draws"] == record.settings["draws"]]
        for part in ("rows", "algebra")
    }
    record = record.model_copy(update={"measured": {**record.measured, **whole}})
    record.write(tmp_path / "soundness-phantom.json")
    page = write_page(tmp_path).read_text()
    assert "replicates)" not in page
    assert "| composition_l1_at_10 |" in page
    without = {part: [{name: row[name] for name in row if name != "draws"} for row in whole[part]] for part in whole}
    settings = {name: value for name, value in record.settings.items() if name != "draws"}
    old = record.model_copy(update={"settings": settings, "measured": {**record.measured, **without}})
    old.write(tmp_path / "soundness-phantom.json")
    assert write_page(tmp_path).read_text() == page


def test_calibration_saves_the_least_error_of_those_it_tried(generator, predictor, tmp_path):
    directory = shutil.copytree(generator, tmp_path / "tiny")
    record = calibrate(directory, "phantom", limit=4, scales=(1.0, 4.0), levels=(1.0, 0.3), seed=2)
    world = small_world("phantom", "validation", limit=4)
    pipeline = CausalDiffusionPipeline.load(directory)
    for name, tried in record.measured["errors"].items():
        best = min(tried, key=lambda one: one["error"])
        assert record.measured["chosen"][name] == {**best, "images": 4}
        assert pipeline.config.default_guidance_scale[name] == best["scale"]
        assert pipeline.config.default_intervention_level[name] == best["level"]
        do = hold(world, {name: forced_change(world, name, 2)}, world.table, "direct")
        output = pipeline(
            image=world.images,
            covariates=world.table,
            do=do,
            generator=[torch.Generator().manual_seed(row) for row in range(4)],
            output_type="pt",
        )
        by_hand = float((output.images - world.truth(do).images).abs().mean() * 255)
        assert best["error"] == pytest.approx(by_hand, abs=1e-3), "the saved defaults give the error recorded"
    assert json.loads((directory / "calibration.json").read_text())["stage"] == "calibrate"
    assert record.access == find_generator(directory).access == "unknown", "of the generator, which has no record"


def test_calibration_passes_on_the_strictest_access(generator, predictor, tmp_path):
    directory = Path(shutil.copytree(generator, tmp_path / "tiny"))
    sealed(Record(stage="train", inputs={"access": "open"}), directory).write(directory / "record.json")
    reader = Path(shutil.copytree(predictor, tmp_path / "reader"))
    assert calibrate(directory, "phantom", predictors=[reader], limit=2, scales=(1.0,), levels=(1.0,)).access == "open"
    assert find_generator(directory).access == "open"
    own = Record.read(reader / "record.json")
    closed = own.model_copy(update={"inputs": {**own.inputs, "access": "credentialed"}})
    sealed(closed, reader).write(reader / "record.json")
    record = calibrate(directory, "phantom", predictors=[reader], limit=2, scales=(1.0,), levels=(1.0,))
    assert record.access == find_generator(directory).access == "credentialed"


def test_the_weakest_change_that_is_good_enough_is_chosen():
    tried = [
        {"scale": scale, "level": level, "error": error}
        for (scale, level), error in {(1.0, 1.0): 0.038, (2.0, 1.0): 0.028, (1.0, 0.5): 0.14, (2.0, 0.5): 0.061}.items()
    ]
    assert choose(tried, 0) == tried[1]
    assert choose(tried, 0.02) == tried[0]
    assert choose(tried, 1) == tried[2]


def graded(world, strength, seed=0):
    """Predictions of sex on real images, and under do(sex) to this share of their gap; of the others at random."""
    rng = np.random.default_rng(seed)
    before = {}
    for variable in world.covariates.walk():
        shape = (len(world.groups), len(variable.levels)) if variable.categorical else (len(world.groups),)
        before[variable.name] = (
            rng.dirichlet(np.ones(shape[1]), shape[0]) if variable.categorical else rng.random(shape)
        )
    signs = np.where(np.array(world.table["sex"]) == world.covariates["sex"].levels[1], 1.0, -1.0)

    def read(odds):
        return np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], axis=1)

    before["sex"] = read(signs)
    return before, {**before, "sex": read(signs - strength * 2 * signs)}


@pytest.mark.parametrize(("strength", "side"), [(1.0, 0.0), (0.0, 5.0), (0.6, 2.0), (1.4, 2.0)])
def test_without_truth_the_error_is_of_the_share_of_the_gap_and_of_what_changes_beside_it(strength, side):
    world = small_world("phantom", "validation", limit=60)
    before, after = graded(world, strength)
    values = forced_change(world, "sex", 0)
    found = calibration._off_by(world, "sex", values, {"reader": before}, {"reader": after}, world.table)
    assert found["share_of_gap"] == pytest.approx(strength, abs=1e-5)
    assert found["off_target"] == 0, "no other prediction changed"
    assert found["error"] == pytest.approx(side / 2, abs=1e-3)

    after["age"] = after["age"][::-1]
    known, changed = (
        agreement(world.covariates["age"], one["age"], world.table["age"])["mae"] for one in (before, after)
    )
    moved = abs(changed - known) / np.std(world.training["age"]) / (len(world.covariates.names) - 1)
    found = calibration._off_by(world, "sex", values, {"reader": before}, {"reader": after}, world.table)
    assert found["off_target"] == pytest.approx(moved, abs=1e-5)
    assert found["error"] == pytest.approx((side + moved / calibration.OFF_TARGET) / 2, abs=1e-3)


def test_a_covariate_that_no_predictor_reads_has_no_share_and_its_weakest_change_is_chosen():
    world = small_world("phantom", "validation", limit=60)
    before, _ = graded(world, 1.0)
    before["sex"] = np.random.default_rng(1).dirichlet(np.ones(2), len(world.groups))
    tried = [
        {"scale": scale, "level": 1.0}
        | calibration._off_by(
            world,
            "sex",
            forced_change(world, "sex", 0),
            {"reader": before},
            {"reader": {**before, "sex": before["sex"] ** scale}},
            world.table,
        )
        for scale in (1.0, 3.0)
    ]
    assert [one["share_of_gap"] for one in tried] == [None, None]
    assert choose(tried, calibration.TOLERANCE)["scale"] == 1


def test_calibration_of_some_covariates_leaves_the_others_as_they_are(generator, tmp_path):
    directory = Path(shutil.copytree(generator, tmp_path / "tiny"))
    pipeline = CausalDiffusionPipeline.load(directory)
    pipeline.register_to_config(default_guidance_scale={"age": 3.0}, default_intervention_level=0.5)
    pipeline.save_config(directory)
    calibrate(directory, "phantom", limit=2, variables=["sex"], scales=(2.0,), levels=(1.0,))
    config = CausalDiffusionPipeline.load(directory).config
    assert (config.default_guidance_scale["age"], config.default_intervention_level["age"]) == (3.0, 0.5)
    assert (config.default_guidance_scale["sex"], config.default_intervention_level["sex"]) == (2.0, 1.0)


def test_a_calibration_keeps_the_record_of_others_by_the_same_predictors(generator, predictor, tmp_path):
    directory = Path(shutil.copytree(generator, tmp_path / "tiny"))
    once = {"scales": (1.0,), "levels": (1.0,)}
    calibrate(directory, "phantom", limit=2, variables=["sex"], **once)
    both = calibrate(directory, "phantom", limit=3, variables=["age"], **once)
    assert {name: one["images"] for name, one in both.measured["chosen"].items()} == {"sex": 2, "age": 3}
    assert set(both.measured["errors"]) == {"sex", "age"}
    again = calibrate(directory, "phantom", limit=1, variables=["sex"], **once)
    assert {name: one["images"] for name, one in again.measured["chosen"].items()} == {"sex": 1, "age": 3}
    other = calibrate(directory, "phantom", predictors=[predictor], limit=2, variables=["view"], **once)
    assert set(other.measured["chosen"]) == {"view"}, "figures of different predictors are not compared"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variables": ["colour"]}, "'colour' is unknown; allowed: "),
        ({"variables": []}, r"variables: \[\] is empty or has one twice; give one or more, each once"),
        ({"scales": (1.0, 1.0)}, r"scales: \[1.0, 1.0\] is empty or has one twice"),
        ({"scales": (-1.0,)}, r"scales\[0\]: -1"),
        ({"levels": (0.0,)}, r"levels\[0\]: 0"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_an_image_is_drawn(settings, message, generator, monkeypatch):
    monkeypatch.setattr(calibration, "open_for", None)
    with pytest.raises(InputError, match=message):
        calibrate(generator, "phantom", **settings)


def test_two_predictors_of_one_name_are_refused(generator, predictor):
    with pytest.raises(InputError, match="is in use; give directories of other names"):
        scoreboard.open_predictors(find_generator(generator), [predictor, predictor])


def test_predictors_of_another_resolution_are_refused(generator, predictor, autoencoder):
    other = find_generator(generator)._replace(resolution=32)
    with pytest.raises(InputError, match=r"images: .*this predictor takes \[n, 1, 16, 16\]"):
        scoreboard.open_predictors(other, [predictor])
    with pytest.raises(InputError, match=r"images: .*this encoder takes \[n, 1, 16, 16\]"):
        scoreboard._open_encoder(other, autoencoder)


@pytest.mark.parametrize(
    ("measure", "settings", "message"),
    [
        (measure_soundness, {"effect": "partial"}, "effect: 'partial' is unknown"),
        (measure_soundness, {"interventions": ["forced"]}, "interventions: 'forced' is unknown"),
        (measure_soundness, {"pairs": [("sex", "colour")]}, "pairs: 'colour' is unknown"),
        (measure_soundness, {"contrasts": {"colour": (0, 1)}}, "'colour' is unknown"),
        (measure_soundness, {"contrasts": {"sex": ("male",)}}, r"contrasts\['sex'\]: 1 value; give the two"),
        (measure_soundness, {"contrasts": {"age": ("30", "old")}}, r"contrasts\['age'\]: 'old' is not a number"),
        (measure_soundness, {"contrasts": {"age": (30, 300)}}, r"contrasts\['age'\]: 300 is out of range"),
        (
            measure_soundness,
            {"num_inference_steps": 0},
            "num_inference_steps: 0 is invalid; give a whole number from 1",
        ),
        (measure_soundness, {"seeds": (0, -1)}, r"seeds\[1\]: -1 is invalid; give a whole number from 0"),
        (measure_soundness, {"limit": 0}, "limit: 0 is invalid; give a whole number from 1"),
        (measure_realism, {"limit": 0}, "limit: 0 is invalid; give a whole number from 1"),
        (measure_realism, {"group": "colour"}, "group: 'colour' is unknown; allowed: age"),
        (measure_realism, {"group": "age"}, "group: age is continuous"),
        (measure_realism, {"split": "train"}, "split: 'train'"),
        (measure_realism, {"seed": -1}, "seed: -1 is invalid; give a whole number from 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_weights_and_images(
    measure, settings, message, generator, predictor, tmp_path, monkeypatch
):
    def late(*given, **named):
        raise AssertionError("weights were loaded or a radiograph drawn")

    monkeypatch.setattr(scoreboard, "open_world", open_world)
    monkeypatch.setattr("synthfair_hf.domains.worlds.SUBJECTS", SUBJECTS)
    monkeypatch.setattr(scoreboard, "load_generator", late)
    monkeypatch.setattr(scoreboard, "load_predictor", late)
    monkeypatch.setattr(Phantom, "render", late)
    readers = {"predictor": predictor} if measure is measure_realism else {"predictors": [predictor]}
    with pytest.raises(InputError, match=message):
        measure(tmp_path / "out", "phantom", pretrained_model_name_or_path=generator, **readers, **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["measure", "soundness", "--world", "phantoms", "--output_dir", "{out}"], "did you mean 'phantom'"),
        (["measure", "soundness", "--world", "phantom", "--output_dir", "{out}"], "give a generator trained for this"),
        (
            ["measure", "soundness", "--world", "phantom", "--contrasts", "sex=male", "--output_dir", "{out}"],
            "give the two to compare",
        ),
        (["measure", "soundness", "--world", "acquisition", "--output_dir", "{out}"], "needs a folder of radiographs"),
        (["measure", "soundness", "--world", "phantom", "--split", "tests", "--output_dir", "{out}"], "'test'"),
        (["calibrate", "--world", "phantom", "--pretrained_model_name_or_path", "{out}"], "not a saved pipeline"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(command, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scoreboard, "open_world", open_world)
    out = tmp_path / "out"
    assert main([word.format(out=out) for word in command]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in told
    assert not out.exists()


def test_where_the_world_measures_an_attribute_no_predictor_does(generator, predictor):
    world = small_world("phantom", "test", limit=6)
    reader = calibration.open_predictors(find_generator(generator), [predictor])["reader"]
    plain = calibration._predict(world, reader, world.images)
    assert plain.keys() == reader.predict(world.images).keys()
    world.measured_attributes["age"] = lambda images: images.mean(dim=(1, 2, 3)).numpy()
    ruled = calibration._predict(world, reader, world.images)
    assert (ruled["age"] == world.images.mean(dim=(1, 2, 3)).numpy()).all()
    assert all((ruled[name] == plain[name]).all() for name in plain if name != "age")
