"""The classifier learns, keeps its best weights, and reads rows of a data set as they are."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from PIL import Image as Pillow
from sklearn.metrics import roc_auc_score

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import (
    FittingSettings,
    ImageClassifier,
    LabelledImages,
    _batches,
    _shifted,
    fit_classifier,
    load_classifier,
    mean_loss,
    new_classifier,
    save_classifier,
    unit_range,
)
from synthfair_hf.records import Record
from synthfair_hf.views.view import get_view

SIDE = 16
SMALL = FittingSettings(steps=12, batch_size=16, channels=(8, 8, 16), learning_rate=5e-3)


def labelled(n=64, seed=0, masks=False, prefix="s"):
    """Noise, brighter in its lower half where the label is 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 200, (n, 1, SIDE, SIDE))
    pixels[:, :, SIDE // 2 :] += 55 * labels[:, None, None, None]
    keys = np.array([f"{prefix}{row // 2}" for row in range(n)])
    return LabelledImages(
        torch.from_numpy(pixels.astype(np.uint8)),
        torch.from_numpy(labels),
        {"sex": torch.from_numpy(rng.integers(0, 2, n))},
        {"sex": ("male", "female")},
        keys,
        {"sex": keys},
        torch.from_numpy(pixels > 128) if masks else None,
    )


def test_it_learns_and_keeps_the_weights_of_the_best_look():
    train, validation = labelled(), labelled(seed=1)
    classifier = new_classifier(train, SMALL, 0)
    curve = fit_classifier(classifier, train, validation, SMALL, 0)
    assert len(curve) == 10
    assert max(curve) > 0.9
    kept = roc_auc_score(validation.labels, classifier.logits(validation.images))
    assert kept == pytest.approx(max(curve))


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    train, validation = labelled(), labelled(seed=1)
    before = torch.random.get_rng_state()

    def fitted(seed):
        classifier = new_classifier(train, SMALL, seed)
        fit_classifier(classifier, train, validation, SMALL, seed)
        return classifier.logits(validation.images)

    assert torch.equal(fitted(1), fitted(1))
    assert not torch.equal(fitted(1), fitted(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_hooks_decide_rows_weights_loss_and_what_is_changed():
    train, validation = labelled(masks=True), labelled(seed=1)
    classifier = new_classifier(train, SMALL, 0)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    batches = []

    def loss(network, batch):
        batches.append(batch)
        return mean_loss(network, batch)

    fit_classifier(
        classifier,
        train,
        validation,
        SMALL.model_copy(update={"steps": 6}),
        0,
        rows=lambda examples, generator: torch.arange(33),
        sample_weights=lambda examples: torch.arange(1, 65).float(),
        loss=loss,
        trainable_parameters=lambda network: network.head.parameters(),
    )
    # 33 rows at 16 a batch: the last row joins the batch before it
    assert [len(batch.images) for batch in batches] == [16, 17] * 3
    assert [batch.progress for batch in batches] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert torch.cat([batch.weights for batch in batches[:2]]).tolist() == pytest.approx(
        [row / 32.5 for row in range(1, 34)]
    )
    assert all(torch.equal(batch.masks, (batch.images * 255).round() > 128) for batch in batches)
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("head."), name


@pytest.mark.parametrize("size", [2, 5, 16])
@pytest.mark.parametrize("rows", [2, 16, 17, 33])
def test_batches_hold_every_row_once_and_none_is_alone(rows, size):
    batches = _batches(torch.arange(rows), size)
    assert torch.cat(batches).tolist() == list(range(rows))
    assert all(2 <= len(batch) <= size + 1 for batch in batches)


def test_a_shift_moves_columns_and_repeats_edges():
    images = torch.arange(3 * 4).reshape(1, 1, 3, 4).repeat(3, 1, 1, 1)
    shifted = _shifted(images, torch.tensor([0, 1, -2]))
    assert torch.equal(shifted[0], images[0])
    assert shifted[1, 0, 0].tolist() == [0, 0, 1, 2]
    assert shifted[2, 0, 0].tolist() == [2, 3, 3, 3]


def test_logits_features_and_the_map_agree():
    classifier = ImageClassifier(32, (8, 8, 16)).eval()
    images = torch.randint(0, 256, (300, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = classifier.features(images)
    assert features.shape == (300, 16)
    with torch.no_grad():
        spatial = classifier.feature_map(unit_range(images))
        assert spatial.shape == (300, 16, 4, 4)
        torch.testing.assert_close(spatial.amax(dim=(2, 3)), features)
        torch.testing.assert_close(classifier.head(features)[:, 0], classifier.logits(images))
        torch.testing.assert_close(classifier(unit_range(images)), classifier.logits(images))
    assert classifier.features(images[:0]).shape == (0, 16)
    with pytest.raises(InputError, match=r"give this classifier torch.uint8 of shape \[n, 1, 32, 32\]"):
        classifier.logits(unit_range(images))
    with pytest.raises(InputError, match="resolution: 24 is not allowed; give a multiple of 16"):
        ImageClassifier(24)
    with pytest.raises(InputError, match=r"channels: .* is not allowed; give three multiples of 8"):
        ImageClassifier(32, (4, 8, 8))


def test_saved_and_loaded_again(tmp_path):
    classifier, examples = ImageClassifier(SIDE, (8, 8, 16)).eval(), labelled()
    save_classifier(classifier, tmp_path, Record(stage="fit_classifier"))
    assert torch.equal(load_classifier(tmp_path).logits(examples.images), classifier.logits(examples.images))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    weights = next(tmp_path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="not a classifier that can be loaded"):
        load_classifier(tmp_path)
    with pytest.raises(InputError, match="no record here"):
        load_classifier(tmp_path / "elsewhere")


def test_invalid_fits_are_errors():
    train, validation = labelled(), labelled(seed=1)
    classifier = new_classifier(train, SMALL, 0)
    with pytest.raises(InputError, match="train: rows of one class only"):
        fit_classifier(classifier, train.select(train.labels == 0), validation, SMALL, 0)
    for weights in (torch.zeros(64), torch.full((64,), torch.nan), torch.ones(63)):
        with pytest.raises(InputError, match="give 64 positive numbers"):
            fit_classifier(
                classifier, train, validation, SMALL, 0, sample_weights=lambda examples, weights=weights: weights
            )
    with pytest.raises(InputError, match="step 0: the loss is nan; lower learning_rate"):
        fit_classifier(
            classifier, train, validation, SMALL, 0, loss=lambda network, batch: mean_loss(network, batch) * torch.nan
        )


def test_selected_and_concatenated_rows_are_the_rows():
    examples = labelled(masks=True)
    some = examples.select(torch.tensor([5, 3, 3]))
    assert torch.equal(some.images, examples.images[[5, 3, 3]])
    assert torch.equal(some.masks, examples.masks[[5, 3, 3]])
    assert some.labels.tolist() == [1, 1, 1]
    assert some.subjects.tolist() == ["s2", "s1", "s1"]
    assert some.pairs["sex"].tolist() == ["s2", "s1", "s1"]
    halves = [examples.select(examples.labels == label) for label in (0, 1)]
    joined = halves[0].concatenate(halves[1])
    order = torch.cat([torch.arange(0, 64, 2), torch.arange(1, 64, 2)])
    assert joined.fingerprint == examples.select(order).fingerprint
    assert joined.fingerprint != examples.fingerprint
    without = LabelledImages(examples.images, examples.labels, {}, {}, examples.subjects)
    mixed = examples.concatenate(without)
    assert (mixed.groups, mixed.pairs, mixed.masks) == ({}, {}, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(64, 1, SIDE, SIDE)}, "images: torch.float32"),
        ({"images": torch.zeros(64, 1, 8, 8, dtype=torch.uint8)}, "images: 8 pixels a side"),
        ({"labels": torch.full((64,), torch.nan)}, "labels: torch.float32"),
        ({"labels": torch.full((64,), 2)}, "labels: values 2 to 2; allowed: 0 to 1"),
        ({"labels": torch.zeros(63, dtype=torch.int64)}, r"labels: torch.int64 of shape \(63,\)"),
        ({"groups": {"sex": torch.full((64,), -1)}}, r"groups\['sex'\]: values -1 to -1; allowed: 0 to 1"),
        ({"levels": {}}, r"levels: of \(none\); give those of sex"),
        ({"subjects": np.array(["a"])}, "subjects: 1 values for 64 images"),
        ({"pairs": {"sex": np.array(["a"])}}, r"pairs\['sex'\]: 1 values for 64 images"),
        ({"masks": torch.zeros(64, 1, SIDE, SIDE)}, "masks: torch.float32"),
    ],
)
def test_invalid_examples_are_errors(change, message):
    good = {name: getattr(labelled(), name) for name in ("images", "labels", "groups", "levels", "subjects", "pairs")}
    with pytest.raises(InputError, match=message):
        LabelledImages(**{**good, **change})


def dataset_of(families=6, missing=None):
    """Families that cross sex and finding, as a view holds them: the observation, and do() of what differs."""
    covariates = CHEST_XRAY.covariates
    rows = {name: [] for name in ("image", "subject_id", "intervention", "sex", "finding", "observed_finding", "age")}
    rng = np.random.default_rng(0)
    for family in range(families):
        factual = (covariates["sex"].levels[family % 2], "no_finding")
        for sex in covariates["sex"].levels:
            for finding in covariates["finding"].levels:
                do = {"sex": sex} if sex != factual[0] else {}
                do |= {"finding": finding} if finding != factual[1] else {}
                rows["image"].append(Pillow.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)))
                rows["subject_id"].append(f"p{family}")
                rows["intervention"].append(json.dumps(do))
                rows["sex"].append(covariates["sex"].levels.index(sex))
                rows["finding"].append(covariates["finding"].levels.index(finding))
                rows["observed_finding"].append(0)
                rows["age"].append(missing if family == 0 else 44.0 + 2 * family)
    finding = ClassLabel(names=list(covariates["finding"].levels))
    features = Features(
        {
            "image": Image(),
            "subject_id": Value("string"),
            "intervention": Value("string"),
            "sex": ClassLabel(names=list(covariates["sex"].levels)),
            "finding": finding,
            "observed_finding": finding,
            "age": Value("float32"),
        }
    )
    return Dataset.from_dict(rows, features=features)


def test_rows_of_a_view_are_read_as_they_are():
    dataset = dataset_of(missing=30.0)
    examples = LabelledImages.from_dataset(dataset, CHEST_XRAY, ("sex", "age"))
    assert len(examples) == 24
    for place, row in enumerate(dataset):
        np.testing.assert_array_equal(examples.images[place, 0].numpy(), np.asarray(row["image"]))
        assert examples.labels[place] == int(row["finding"] == 1)
        assert examples.groups["sex"][place] == row["sex"]
        assert examples.groups["age"][place] == int(row["age"] >= 50)
        assert examples.subjects[place] == row["subject_id"]
    assert examples.levels == {"sex": ("male", "female"), "age": ("under 50 years", "50 years and older")}
    observed = LabelledImages.from_dataset(dataset, CHEST_XRAY, ("sex",), label="observed_finding")
    assert observed.labels.sum() == 0
    assert examples.fingerprint != observed.fingerprint


def test_pair_keys_join_rows_that_differ_in_the_attribute_alone():
    dataset = dataset_of(missing=30.0)
    examples = LabelledImages.from_dataset(dataset, CHEST_XRAY, ("sex", "age"))
    # age is no factor of the families, so nothing pairs by it
    assert set(examples.pairs) == {"sex", "finding"}
    for attribute, held in (("sex", "finding"), ("finding", "sex")):
        keys = examples.pairs[attribute]
        for one in range(24):
            for other in range(24):
                same = all(dataset[one][name] == dataset[other][name] for name in ("subject_id", held))
                assert (keys[one] == keys[other]) == same


def test_invalid_data_sets_are_errors():
    with pytest.raises(InputError, match="dataset: 4 rows without a value of 'age'; filter them out first"):
        LabelledImages.from_dataset(dataset_of(), CHEST_XRAY, ("age",))
    dataset = dataset_of(missing=30.0)
    with pytest.raises(InputError, match="dataset: column: 'race' is unknown; allowed: image, subject_id"):
        LabelledImages.from_dataset(dataset, CHEST_XRAY, ("race",))
    with pytest.raises(InputError, match="finding: 'age' is unknown; allowed: sex"):
        LabelledImages.from_dataset(dataset, CHEST_XRAY, (), finding="age")
    with pytest.raises(InputError, match="dataset: no row whose finding is pneumonia or no_finding"):
        LabelledImages.from_dataset(dataset.select([]), CHEST_XRAY, ())


def test_a_biased_view_gives_the_groups_it_plants_and_the_whole_data_set_their_partners(store):
    def read(view):
        rows = load_dataset("synthfair", view, data_dir=str(store), split="train")
        return LabelledImages.from_dataset(rows, CHEST_XRAY, ("sex", "scanner"))

    biased, whole = read("finding_sex_correlated_80_20"), read("full")
    assert biased.recipe["view"] == "finding_sex_correlated_80_20"
    assert biased.recipe["recipe"] == get_view("finding_sex_correlated_80_20", CHEST_XRAY).fingerprint
    agree = biased.labels == (biased.groups["sex"] == 0)
    assert agree.float().mean() == pytest.approx(0.8)
    for attribute, levels in (("sex", 2), ("scanner", 3)):
        found, sizes = np.unique(whole.pairs[attribute], return_counts=True)
        assert (sizes == levels).all()
        assert set(biased.pairs[attribute]) <= set(found)
