"""Questions have two answers of one generator, repeat by their seed, and judges prefer one by what they read."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.access import recorded_access, sealed
from synthfair_hf.align.candidates import SAMPLE_GUIDANCE, make_candidates
from synthfair_hf.align.judgement import judge_candidates
from synthfair_hf.align.labelling.candidates import Candidates
from synthfair_hf.align.preferences import read_preferences
from synthfair_hf.cli import main
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.registry import WORLD_SEED
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import AttributePredictor, load_predictor
from synthfair_hf.records import Record

SIDE = 16


@pytest.fixture(scope="module", autouse=True)
def _few_subjects():
    """The phantom has as many as are asked about, not its 20,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthfair_hf.domains.registry.SUBJECTS", 100)
        yield


@pytest.fixture(scope="module")
def generator(tmp_path_factory, save_phantom_generator):
    return save_phantom_generator(tmp_path_factory.mktemp("generators") / "tiny", SIDE, 0, default_steps=2)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Reads at random, but always the same from the same image."""
    directory = tmp_path_factory.mktemp("predictors") / "random"
    torch.manual_seed(0)
    variables = PHANTOM.covariates.model_dump(mode="json")["variables"]
    AttributePredictor(variables, SIDE, (8, 8, 8, 8), 8).save_pretrained(directory, safe_serialization=True)
    Record(stage="train", inputs={}, settings={}, versions={}, counts={"seen": {"train": {"images": 1}}}).write(
        directory / "record.json"
    )
    return directory


@pytest.fixture(scope="module", params=["samples", "guided_samples", "counterfactuals"])
def candidates(request, tmp_path_factory, generator):
    directory = tmp_path_factory.mktemp("candidates") / request.param
    make_candidates(directory, 7, request.param, generator, seed=3, batch_size=4)
    return directory


def lines(directory, name):
    return [json.loads(line) for line in (directory / name).read_text().splitlines()]


def test_both_answers_are_to_one_question_and_the_shown_lines_say_nothing_more(candidates):
    read = Candidates.read(candidates, PHANTOM)
    assert len(read) == 7
    shown, known = lines(candidates, "candidates.jsonl"), lines(candidates, "questions.jsonl")
    assert [one["id"] for one in shown] == [one["id"] for one in known]
    assert {key for one in shown for key in one} == {"id", "subject_id", "split", "covariates", "first", "second"}
    if "do" not in known[0]:
        assert read.values(0) == pytest.approx(shown[0]["covariates"])
        return
    for asked, beside in zip(shown, known, strict=True):
        ((name, value),) = beside["do"].items()
        assert asked["covariates"][name] == pytest.approx(value)
        assert beside["observed_covariates"][name] != value
        assert len(set(beside["strengths"])) == 2
        with Image.open(candidates / beside["observed"]) as radiograph:
            assert radiograph.size == (SIDE, SIDE)


@pytest.mark.parametrize("comparison_type", ["samples", "guided_samples", "counterfactuals"])
def test_a_pair_repeats_by_its_seed_whatever_the_batch(comparison_type, tmp_path, generator):
    for name, settings in (("one", {"batch_size": 1}), ("all", {"batch_size": 9}), ("other", {"seed": 1})):
        make_candidates(tmp_path / name, 5, comparison_type, generator, **{"seed": 0, **settings})
    one, same, other = (Candidates.read(tmp_path / name, PHANTOM) for name in ("one", "all", "other"))
    assert one.ids == same.ids
    assert (one.pairs.preferred.int() - same.pairs.preferred.int()).abs().max() <= 1
    for name, column in one.pairs.covariates.items():
        assert torch.equal(column, same.pairs.covariates[name])
    assert not torch.equal(one.pairs.preferred, other.pairs.preferred)


def test_subgroups_are_asked_for_equally_often(generator, tmp_path):
    make_candidates(tmp_path / "c", 12, "samples", generator, batch_size=5, balance=("sex", "finding"))
    covariates = Candidates.read(tmp_path / "c", PHANTOM).pairs.covariates
    asked = Counter(zip(covariates["sex"].tolist(), covariates["finding"].tolist(), strict=True))
    assert asked == {(sex, finding): 2 for sex in range(2) for finding in range(3)}
    assert Record.read(tmp_path / "c" / "record.json").settings["balance"] == ["sex", "finding"]


def test_guided_samples_are_of_one_noise_plain_and_guided(generator, tmp_path):
    make_candidates(tmp_path / "c", 8, "guided_samples", generator, seed=2, batch_size=3)
    pipeline, pairs = load_generator(generator), Candidates.read(tmp_path / "c", PHANTOM).pairs
    scales = [one["guidance"] for one in lines(tmp_path / "c", "questions.jsonl")]
    assert {max(pair) for pair in scales} == set(SAMPLE_GUIDANCE)
    assert all(min(pair) == 1 for pair in scales)
    covariates = pipeline.covariates.decode({name: column.numpy() for name, column in pairs.covariates.items()})
    for row, pair in enumerate(scales):
        for scale, image in zip(pair, (pairs.preferred[row], pairs.rejected[row]), strict=True):
            again = pipeline(
                covariates={name: [column[row]] for name, column in covariates.items()},
                sample_guidance_scale=scale,
                generator=[torch.Generator().manual_seed(2 * 1_000_003 + 3 * row + 1)],
                output_type="pt",
            ).images
            assert ((again[0] * 255).round() - image).abs().max() <= 1


def test_realism_prefers_the_image_nearer_to_training_radiographs(generator, predictor, tmp_path, capsys):
    make_candidates(tmp_path / "c", 5, "samples", generator)
    words = f"judge --candidates {tmp_path / 'c'} --predictor {predictor} --judges realism=1"
    assert main([*words.split(), "--output_dir", str(tmp_path / "p")]) == 0
    world, trained = PhantomSource(100, WORLD_SEED), load_predictor(predictor, PHANTOM.covariates)
    radiographs = [world.image(row, SIDE) for row, split in enumerate(world.splits) if split == "train"]
    reference = trained.features(torch.from_numpy(np.stack(radiographs))[:, None]).double()
    found = read_preferences(tmp_path / "p", PHANTOM)
    better, worse = (
        torch.cdist(trained.features(images.float() / 255).double(), reference).sort(dim=1).values[:, 4]
        for images in (found.preferred, found.rejected)
    )
    assert (worse - better).numpy() == pytest.approx(found.margins.numpy(), abs=1e-4)
    assert (better < worse).all()


def test_radiographs_to_compare_with_are_for_realism_alone(generator, predictor, tmp_path):
    make_candidates(tmp_path / "c", 2, "samples", generator)
    with pytest.raises(InputError, match="source_dir: radiographs is for realism alone"):
        judge_candidates(
            tmp_path / "c", tmp_path / "p", predictor, {"attribute_fidelity": 1.0}, source_dir="radiographs"
        )
    assert not (tmp_path / "p").exists()


def test_a_judge_prefers_what_it_scores_higher_and_several_are_weighted(candidates, predictor, tmp_path):
    kind = candidates.name
    weights = {"attribute_fidelity": 1.0, **({"counterfactual_soundness": 2.0} if kind == "counterfactuals" else {})}
    record = judge_candidates(candidates, tmp_path / "preferences", predictor, weights)
    found = read_preferences(tmp_path / "preferences", PHANTOM)
    ((name, counted),) = record.counts["comparisons"].items()
    assert name == ("mixture" if len(weights) > 1 else "attribute_fidelity")
    assert counted["first"] + counted["second"] + counted["ties"] == counted["compared"] == 7
    assert len(found) == 7 - counted["ties"]
    assert (found.margins > 0).all()
    asked = Candidates.read(candidates, PHANTOM)
    held = {subject: asked.pairs.splits[place] for place, subject in enumerate(asked.pairs.subjects)}
    assert all(held[subject] == split for subject, split in zip(found.subjects, found.splits, strict=True))
    margins = np.sort(found.margins.double().numpy())
    fewer = judge_candidates(candidates, tmp_path / "fewer", predictor, weights, tie=float(margins[2:4].mean()))
    assert fewer.counts["pairs"] == len(margins) - 3


def test_the_exact_answer_decides_where_the_world_knows_it(generator, tmp_path, capsys):
    make_candidates(tmp_path / "c", 6, "counterfactuals", generator, seed=5)
    words = f"judge --candidates {tmp_path / 'c'} --judges true_pixels=1 --output_dir {tmp_path / 'p'}"
    assert main(words.split()) == 0
    found = {
        one.subjects[0]: one for one in (read_preferences(tmp_path / "p", PHANTOM).select([row]) for row in range(6))
    }
    world = PhantomSource(100, WORLD_SEED)
    for asked in lines(tmp_path / "c", "candidates.jsonl"):
        pair = found[asked["subject_id"]]
        row = world.patient_ids.index(asked["subject_id"])
        truth = np.rint(world.counterfactual(row, asked["covariates"], SIDE) * 255)
        errors = [np.abs(image[0, 0].numpy() - truth).mean() for image in (pair.preferred, pair.rejected)]
        assert errors[1] - errors[0] == pytest.approx(float(pair.margins[0]), abs=1e-3)
        assert errors[0] < errors[1]


def test_from_the_command_line_to_preferences(generator, predictor, tmp_path, capsys):
    words = f"candidates --pretrained_model_name_or_path {generator} --num_pairs 3 --output_dir {tmp_path / 'c'}"
    assert main(words.split()) == 0
    words = f"judge --candidates {tmp_path / 'c'} --predictor {predictor} --judges attribute_fidelity=1"
    assert main([*words.split(), "--output_dir", str(tmp_path / "p")]) == 0
    assert "3 pairs" in capsys.readouterr().out
    assert len(read_preferences(tmp_path / "p", PHANTOM)) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"comparison_type": "sample"}, "did you mean 'samples'"),
        ({"num_pairs": 0}, "num_pairs: 0"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"source_dir": "radiographs"}, "source_dir: is for counterfactuals"),
        ({"balance": ("colour",)}, "balance: 'colour' is unknown"),
        ({"balance": ("age",)}, "balance: age is continuous"),
        ({"balance": ("sex",), "comparison_type": "counterfactuals"}, "balance: is for samples"),
        ({"comparison_type": "counterfactuals", "num_pairs": 10**6}, "num_pairs: 1000000 is too many"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(asked, message, generator, tmp_path):
    with pytest.raises(InputError, match=message):
        make_candidates(
            **{"output_dir": tmp_path / "c", "num_pairs": 2, "pretrained_model_name_or_path": generator, **asked}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights: none"),
        ({"beauty": 1.0}, "weights: 'beauty' is unknown"),
        ({"counterfactual_soundness": 1.0}, "these candidates are samples"),
        ({"true_pixels": 1.0}, "these candidates are samples"),
    ],
)
def test_what_cannot_judge_is_refused_and_nothing_is_written(weights, message, generator, predictor, tmp_path):
    make_candidates(tmp_path / "c", 2, "samples", generator)
    with pytest.raises(InputError, match=message):
        judge_candidates(tmp_path / "c", tmp_path / "p", predictor, weights)
    assert not (tmp_path / "p").exists()


def test_eyes_are_given_to_the_judges_that_read_and_to_no_other(generator, predictor, tmp_path):
    make_candidates(tmp_path / "c", 2, "counterfactuals", generator)
    for given, name in ((None, "attribute_fidelity"), (predictor, "true_pixels")):
        with pytest.raises(InputError, match="predictor"):
            judge_candidates(tmp_path / "c", tmp_path / "p", given, {name: 1.0})
    told = lines(tmp_path / "c", "questions.jsonl")
    kept = [json.dumps({key: value for key, value in one.items() if key != "truth"}) for one in told]
    (tmp_path / "c" / "questions.jsonl").write_text("\n".join(kept))
    sealed(Record.read(tmp_path / "c" / "record.json"), tmp_path / "c").write(tmp_path / "c" / "record.json")
    with pytest.raises(InputError, match="needs exact counterfactuals"):
        judge_candidates(tmp_path / "c", tmp_path / "p", None, {"true_pixels": 1.0})
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("recorded", "expected"), [("credentialed", "credentialed"), ("open", "unknown"), (None, "unknown")]
)
def test_preferences_take_over_the_strictest_access(candidates, predictor, tmp_path, recorded, expected):
    """The candidates' own is unknown; the judging predictor's counts as well, if its record names one."""
    reader = Path(shutil.copytree(predictor, tmp_path / "reader"))
    record = Record.read(reader / "record.json")
    inputs = {} if recorded is None else {"access": recorded}
    sealed(record.model_copy(update={"inputs": inputs}), reader).write(reader / "record.json")
    directory = tmp_path / "preferences"
    assert judge_candidates(candidates, directory, reader, {"attribute_fidelity": 1.0}).access == expected
    assert recorded_access(directory) == expected
    opened = (directory / "record.json").read_text().replace(f'"access": "{expected}"', '"access": "open"')
    (directory / "record.json").write_text(opened)
    with pytest.raises(InputError, match="its access 'open' was recorded of other contents"):
        recorded_access(directory)
    with pytest.raises(InputError, match="access: open is for a source of real images, and none is given"):
        judge_candidates(candidates, tmp_path / "other", reader, {"attribute_fidelity": 1.0}, access="open")


def test_a_line_that_names_a_file_elsewhere_is_not_read(candidates, predictor, tmp_path):
    copied = Path(shutil.copytree(candidates, tmp_path / "candidates"))
    known = lines(copied, "questions.jsonl")
    if "observed" not in known[0]:
        return
    Record.read(copied / "record.json").model_copy(update={"seal": None}).write(copied / "record.json")
    known[0]["observed"] = "../secret.png"
    (copied / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in known))
    with pytest.raises(InputError, match=r"'\.\./secret\.png' leads out of it"):
        judge_candidates(copied, tmp_path / "preferences", predictor, {"counterfactual_soundness": 1.0})
