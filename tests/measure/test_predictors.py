"""Predictors learn what is there, ignore what is missing, and are refused when they saw more than training patients."""

import shutil

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import (
    AttributePredictor,
    PredictionObjective,
    agreement,
    load_predictor,
    train_predictor,
)
from synthfair_hf.measure.weights import WEIGHTS
from synthfair_hf.records import Record
from synthfair_hf.schema import Schema
from synthfair_hf.training.config import PredictorTrainingConfig, architecture

SCHEMA: Schema = CHEST_XRAY.covariates.subset(("age", "sex", "scanner"))
VARIABLES = SCHEMA.model_dump(mode="json")["variables"]
SIDE = 16


class Films:
    """Noise whose left half is brighter for one sex, and its right half with age; two radiographs per patient."""

    name, covariates, fingerprint = "radiographs", SCHEMA, "radiographs"
    counts: dict = {}  # noqa: RUF012

    def __init__(self, count: int = 120) -> None:
        rng = np.random.default_rng(0)
        self.table = {
            "age": [None if row % 7 == 0 else float(age) for row, age in enumerate(rng.uniform(20, 80, count))],
            "sex": [None if row % 9 == 0 else ("male", "female")[rng.integers(2)] for row in range(count)],
            "scanner": [None] * count,
        }
        self.patient_ids = [f"p{row // 2}" for row in range(count)]
        self.splits = ["test" if row < count // 3 else "train" for row in range(count)]

    def __len__(self):
        return len(self.splits)

    def image(self, index, resolution):
        radiograph = np.random.default_rng(index).uniform(0, 0.2, (resolution, resolution)).astype(np.float32)
        radiograph[:, : resolution // 2] += 0.6 * (self.table["sex"][index] == "female")
        radiograph[:, resolution // 2 :] += (self.table["age"][index] or 20) / 100
        return radiograph

    def draw(self, index, resolution, rng):
        return self.image(index, resolution), {name: column[index] for name, column in self.table.items()}

    def of(self, split):
        rows = [row for row, one in enumerate(self.splits) if one == split]
        images = torch.stack([torch.from_numpy(self.image(row, SIDE))[None] for row in rows])
        return images, {name: [column[row] for row in rows] for name, column in self.table.items()}


def settings(directory, **changes):
    small = {
        "max_train_steps": 60,
        "train_batch_size": 16,
        "lr_warmup_steps": 5,
        "learning_rate": 5e-3,
        "ema_decay": 0.9,
    }
    return PredictorTrainingConfig(output_dir=directory, **{**small, **changes})


def small(seed=0, variables=VARIABLES):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributePredictor(variables, SIDE, channels=(8, 8, 16, 16), width=8)


def images(count, seed=0, side=SIDE):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("predictor") / "run"
    record = train_predictor(Films(), settings(directory), SIDE, channels=(8, 8, 16, 16), width=8)
    return directory, record


def test_it_learns_what_is_there_and_says_what_it_saw(trained):
    directory, record = trained
    predictor = load_predictor(directory, SCHEMA)
    shown, table = Films().of("test")
    told = predictor.predict(shown)
    figures = {name: agreement(SCHEMA[name], told[name], column) for name, column in table.items()}
    assert figures["sex"]["auc"] > 0.95
    assert figures["age"]["mae"] < 0.5 * figures["age"]["mae_of_mean"]
    assert figures["scanner"] == {"auc": None, "accuracy": None, "n": 0}
    assert figures["age"]["n"] == sum(age is not None for age in Films().table["age"][:40])
    assert record.counts["seen"] == {"train": {"images": 80, "patients": 40}}
    assert record == Record.read(directory / "record.json")
    question = {"variables": VARIABLES, "resolution": SIDE, "channels": [8, 8, 16, 16], "width": 8}
    assert record.inputs == {"source": "radiographs", "access": "unknown", "architecture": architecture(question)}, (
        "the same in every process"
    )
    assert {path.suffix for path in directory.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_training_repeats_whatever_the_global_generator_did(tmp_path):
    ends = []
    for name in ("one", "two"):
        train_predictor(Films(), settings(tmp_path / name, max_train_steps=3), SIDE, channels=(8,) * 4, width=8)
        ends.append(load_file(tmp_path / name / WEIGHTS))
        torch.rand(3)
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_saved_and_loaded_it_says_the_same(tmp_path, trained):
    directory, _ = trained
    predictor = load_predictor(directory, SCHEMA)
    predictor.save_pretrained(tmp_path)
    shutil.copy(directory / "record.json", tmp_path)
    again = load_predictor(tmp_path, SCHEMA)
    for name, answer in predictor.predict(images(5)).items():
        assert np.array_equal(answer, again.predict(images(5))[name])
    ages = np.array([age for age in Films().table["age"][40:] if age is not None])
    assert predictor.standards["age"].tolist() == pytest.approx([ages.mean(), ages.std()])


@pytest.mark.parametrize("side", [16, 32, 64])
def test_predictions_have_the_shapes_and_ranges_of_the_schema(side):
    predictor = AttributePredictor(VARIABLES, side, channels=(8, 8, 8, 8), width=8)
    predicted, features = predictor.predict(images(3, side=side)), predictor.features(images(3, side=side))
    assert (features.shape, features.dtype, features.requires_grad) == ((3, 8), torch.float32, False)
    assert {name: one.shape for name, one in predicted.items()} == {"age": (3,), "sex": (3, 2), "scanner": (3, 3)}
    assert np.allclose(predicted["scanner"].sum(axis=1), 1)
    assert predictor.features(images(0, side=side)).shape == (0, 8)
    assert predictor.predict(images(0, side=side))["sex"].shape == (0, 2)


def test_an_image_does_not_depend_on_its_batch():
    predictor = small()
    together = predictor.features(images(70))
    alone = torch.cat([predictor.features(one[None]) for one in images(70)])
    assert torch.allclose(together, alone, atol=1e-5)


def rows(count=6, **columns):
    known = {"age": torch.full((count,), 50.0), "sex": torch.ones(count).long(), "scanner": torch.zeros(count).long()}
    return {"image": images(count), **known, **columns}


def loss_of(batch, predictor=None, seed=0, **changes):
    objective = PredictionObjective(predictor or small(), **changes)
    return objective(batch, torch.Generator().manual_seed(seed))


def test_the_loss_is_the_mean_of_the_parts_of_known_values_by_hand():
    predictor = small()
    batch = rows(age=torch.tensor([20.0, torch.nan, 60, 50, torch.nan, 30]), sex=torch.tensor([0, 1, -1, 1, -1, 0]))
    loss, parts = loss_of(batch, predictor, dropout=0, label_smoothing=0)
    predicted = predictor.predict(batch["image"])
    right = {name: predicted[name] for name in ("sex", "scanner")}
    by_hand = {
        "sex": -np.mean([np.log(right["sex"][row, level]) for row, level in ((0, 0), (1, 1), (3, 1), (5, 0))]),
        "scanner": -np.log(right["scanner"][:, 0]).mean(),
    }
    location, scale = predictor.standards["age"].tolist()
    off = np.abs((predicted["age"] - batch["age"].numpy()) / scale)[[0, 2, 3, 5]]
    by_hand["age"] = np.where(off < 0.1, off**2 / 0.2, off - 0.05).mean()
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(by_hand, rel=1e-4)
    assert loss.item() == pytest.approx(np.mean(list(by_hand.values())), rel=1e-4)
    assert location == 50


def test_missing_values_move_no_weight():
    predictor = small()
    missing = {"age": torch.full((6,), torch.nan), "sex": torch.full((6,), -1), "scanner": torch.full((6,), -1)}
    loss, parts = loss_of(rows(**missing), predictor)
    loss.backward()
    assert (loss.item(), parts) == (0, {})
    assert all((parameter.grad == 0).all() for parameter in predictor.parameters() if parameter.requires_grad)


def test_dropout_comes_from_the_generator_alone():
    assert torch.equal(loss_of(rows(), seed=1)[0], loss_of(rows(), seed=1)[0])
    assert not torch.equal(loss_of(rows(), seed=1)[0], loss_of(rows(), seed=2)[0])


def read(predictor, pictures):
    """What a predictor reads, as encoded covariates: levels most probable, numbers in their unit."""
    predicted = {name: torch.from_numpy(one) for name, one in predictor.predict(pictures).items()}
    return {name: one if one.ndim == 1 else one.argmax(dim=1) for name, one in predicted.items()}


def certain(seed=0):
    """A predictor sure of every level it reads."""
    predictor = small(seed).requires_grad_(False).eval()
    for name in ("sex", "scanner"):
        predictor.heads[name].weight *= 1e6
    return predictor


def test_a_reader_agrees_with_what_it_reads():
    predictor, before, after = certain(), images(6), images(6, seed=1)
    errors = predictor.disagreement(after, read(predictor, after), before, read(predictor, before))
    assert set(errors) == {"age", "sex", "scanner"}
    assert all(error.shape == (6,) and error.abs().max() < 1e-6 for error in errors.values())
    wrong = {name: 1 - level for name, level in read(predictor, after).items() if name == "sex"}
    assert (predictor.disagreement(after, wrong, before, read(predictor, before))["sex"] > 1).all()


@given(st.lists(st.floats(-200, 200), min_size=6, max_size=6), st.floats(-5, 5))
@hypothesis.settings(max_examples=20)
def test_what_is_misread_in_the_observation_cancels(misread, bias):
    """A number that moves as its reading does is right, however far off both readings are; levels are judged alone."""
    predictor, before, after = certain(), images(6), images(6, seed=1)
    first, second = read(predictor, before), read(predictor, after)
    predictor.heads["age"].bias += bias
    observed, asked = ({**one, "age": one["age"] + torch.tensor(misread)} for one in (first, second))
    errors = predictor.disagreement(after, asked, before, observed)
    assert errors["age"].max() < 1e-5
    scale = predictor.standards["age"][1].item()
    further = {**asked, "age": asked["age"] + 3 * scale}
    # smooth L1 of a difference of 3 standard deviations, quadratic up to 0.1
    assert predictor.disagreement(after, further, before, observed)["age"].numpy() == pytest.approx(2.95, abs=1e-3)
    other = {**observed, "sex": 1 - observed["sex"], "scanner": torch.full((6,), -1)}
    again = predictor.disagreement(after, asked, images(6, seed=2), other)
    assert torch.equal(again["sex"], errors["sex"])
    assert torch.equal(again["scanner"], errors["scanner"])


def test_covariates_not_given_are_not_judged_and_missing_values_agree():
    predictor, before, after = small(), images(6), images(6, seed=1)
    asked, observed = rows(sex=torch.tensor([0, 1, -1, 1, 0, -1])), rows(age=torch.full((6,), 20.0))
    everything = predictor.disagreement(after, asked, before, observed)
    assert set(everything) == {"age", "sex", "scanner"}
    assert (everything["sex"] == 0).tolist() == [False, False, True, False, False, True]
    for names in (("age",), ("sex", "scanner"), ()):
        judged = predictor.disagreement(after, {name: asked[name] for name in names}, before, observed)
        assert set(judged) == set(names)
        assert all(torch.equal(judged[name], everything[name]) for name in names)
    unknown = torch.full((6,), torch.nan)
    assert not predictor.disagreement(after, {"age": unknown}, before, observed)["age"].any()
    itself = predictor.errors(predictor(predictor.embed(after)), asked)["age"]
    unobserved = predictor.disagreement(after, asked, before, {**observed, "age": unknown})["age"]
    assert torch.equal(unobserved, itself)
    assert not torch.equal(itself, everything["age"])


def test_disagreement_moves_the_counterfactuals_alone():
    predictor = small().requires_grad_(False)
    before, after = images(6).requires_grad_(), images(6, seed=1).requires_grad_()
    errors = predictor.disagreement(after, rows(), before, rows(age=torch.full((6,), 20.0)))
    for name, error in errors.items():
        (gradient,) = torch.autograd.grad(error[:3].sum(), after, retain_graph=True)
        assert (gradient[:3].flatten(1) != 0).any(dim=1).all(), name
        assert not gradient[3:].any(), "an image has its own error alone"
    sum(error.sum() for error in errors.values()).backward()
    assert before.grad is None
    assert all(parameter.grad is None for parameter in predictor.parameters())


def test_scores_are_those_of_scikit_learn_and_by_hand():
    rng = np.random.default_rng(0)
    sexes = [("male", "female", None)[code] for code in rng.integers(3, size=50)]
    told = rng.dirichlet((1, 1), 50)
    known = np.array([sex is not None for sex in sexes])
    is_female = np.array([sex == "female" for sex in sexes])[known]
    figures = agreement(SCHEMA["sex"], told, sexes)
    assert figures["auc"] == pytest.approx(roc_auc_score(is_female, told[known, 1]))
    assert figures["accuracy"] == np.mean((told[known, 1] > 0.5) == is_female)
    assert figures["n"] == known.sum()
    scanners = [SCHEMA["scanner"].levels[code] for code in rng.integers(3, size=50)]
    told = rng.dirichlet((1, 1, 1), 50)
    macro = roc_auc_score(SCHEMA["scanner"].encode(scanners), told, multi_class="ovr")
    assert agreement(SCHEMA["scanner"], told, scanners)["auc"] == pytest.approx(macro)
    assert agreement(SCHEMA["age"], np.array([10.0, 20, 30]), [12, None, 24]) == {"mae": 4, "mae_of_mean": 6, "n": 2}


def test_what_the_rows_cannot_tell_is_none():
    assert agreement(SCHEMA["sex"], np.full((2, 2), 0.5), ["male", "male"]) == {"auc": None, "accuracy": 1, "n": 2}
    assert agreement(SCHEMA["sex"], np.full((1, 2), 0.5), [None]) == {"auc": None, "accuracy": None, "n": 0}
    assert agreement(SCHEMA["age"], np.array([3.0]), [None]) == {"mae": None, "mae_of_mean": None, "n": 0}


def test_what_training_did_not_save_is_refused(tmp_path, trained):
    copy = shutil.copytree(trained[0], tmp_path / "copy")
    (copy / WEIGHTS).unlink()
    with pytest.raises(InputError, match=rf"not a saved predictor \(no {WEIGHTS}\)"):
        load_predictor(copy, SCHEMA)


def test_a_schema_it_was_not_trained_on_is_refused(trained):
    directory, _ = trained
    assert load_predictor(directory, SCHEMA.subset(["sex"])).covariates == SCHEMA
    with pytest.raises(
        InputError, match="does not predict 'finding' as the schema has it; it predicts age, sex, scanner"
    ):
        load_predictor(directory, CHEST_XRAY.covariates.subset(["sex", "finding"]))
    other = SCHEMA["sex"].model_copy(update={"levels": ("female", "male")})
    with pytest.raises(InputError, match="does not predict 'sex' as the schema has it"):
        load_predictor(directory, Schema(variables=(other,)))


def test_bad_input_is_refused_by_name(tmp_path):
    predictor = small()
    with pytest.raises(InputError, match=r"images: unexpected shape \(2, 1, 32, 32\); this predictor takes \[n, 1, 16"):
        predictor.predict(images(2, side=32))
    with pytest.raises(InputError, match="images: values span 0 to 255; expected"):
        predictor.features(torch.tensor([0.0, 255.0]).repeat(128).view(1, 1, 16, 16))
    with pytest.raises(InputError, match="resolution: 40 is not allowed; give a multiple of 16"):
        train_predictor(Films(), settings(tmp_path / "run"), 40)
    assert not (tmp_path / "run").exists()
