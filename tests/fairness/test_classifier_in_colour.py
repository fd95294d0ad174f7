"""What reads images takes three channels as well, and what is saved of gray images is what it was."""

import io
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import (
    FittingSettings,
    ImageClassifier,
    LabelledImages,
    load_classifier,
    new_classifier,
    save_classifier,
)
from synthfair_hf.fairness.mitigation.attention_alignment import attention, changed_pixels
from synthfair_hf.measure.memorisation import nearest, standard_pixels, suspicious_png
from synthfair_hf.measure.predictors import AttributePredictor
from synthfair_hf.records import Record
from synthfair_hf.training.config import architecture

SIDE = 16
VARIABLES = CHEST_XRAY.covariates.subset(("age", "sex")).model_dump(mode="json")["variables"]


def rows(count: int = 4) -> tuple[Dataset, np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    table = {
        "image": [Image.fromarray(one) for one in drawn],
        "subject_id": [f"s{row}" for row in range(count)],
        "intervention": ["{}"] * count,
        "sex": [row % 2 for row in range(count)],
        "finding": [row % 2 for row in range(count)],
    }
    return Dataset.from_dict(table), drawn


def test_rows_in_colours_are_read_pixel_by_pixel_and_classified(tmp_path):
    dataset, drawn = rows()
    examples = LabelledImages.from_dataset(dataset, CHEST_XRAY, ["sex"])
    assert np.array_equal(examples.images.numpy(), np.moveaxis(drawn, -1, 1))
    classifier = new_classifier(examples, FittingSettings(channels=(8, 8, 8)), 0)
    assert (classifier.image_channels, classifier.config["image_channels"]) == (3, 3)
    save_classifier(classifier, tmp_path, Record(stage="fit"))
    again = load_classifier(tmp_path)
    assert torch.equal(again.logits(examples.images), classifier.eval().logits(examples.images))
    with pytest.raises(InputError, match=r"give this classifier torch.uint8 of shape \[n, 3, 16, 16\]"):
        again.logits(examples.images[:, :1])
    with pytest.raises(InputError, match="images: 3 and 1 channels; give the same"):
        examples.concatenate(LabelledImages(examples.images[:, :1], examples.labels, {}, {}, examples.subjects))


def test_networks_of_gray_images_are_saved_and_named_as_before(tmp_path):
    for network in (
        AttributePredictor(VARIABLES, SIDE, (8, 8, 8, 8), 8),
        ImageClassifier(SIDE, (8, 8, 8)),
        ImageClassifier(SIDE, (8, 8, 8), image_channels=1),
    ):
        network.save_pretrained(tmp_path, safe_serialization=True)
        assert "image_channels" not in json.loads((tmp_path / "config.json").read_bytes())
        assert network.image_channels == 1
    gray, colour = (AttributePredictor(VARIABLES, SIDE, (8, 8, 8, 8), 8, channels) for channels in (1, 3))
    assert architecture(gray.config) != architecture(colour.config)
    assert colour.predict(torch.rand(2, 3, SIDE, SIDE))["sex"].shape == (2, 2)
    with pytest.raises(InputError, match=r"this predictor takes \[n, 3, 16, 16\]"):
        colour.features(torch.rand(2, 1, SIDE, SIDE))


def test_attention_is_one_map_of_all_colours(tmp_path):
    torch.manual_seed(0)
    classifier = ImageClassifier(SIDE, (8, 8, 8), 3).eval()
    maps = attention(classifier, torch.rand(2, 3, SIDE, SIDE))
    assert maps.shape == (2, 1, SIDE, SIDE)
    torch.testing.assert_close(maps.sum(dim=(1, 2, 3)), torch.ones(2))
    before = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    after = before.clone()
    after[0, 1, 0, 0], after[0, 2, 1, 1] = 8, 7
    assert changed_pixels(before, after).nonzero().tolist() == [[0, 0, 0, 0]]


@settings(max_examples=8)
@given(st.integers(0, 999))
def test_three_equal_colours_are_as_far_from_each_other_as_gray_images(seed):
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    gray, colour = (nearest(*standard_pixels(one).split(3)) for one in (images, images.repeat(1, 3, 1, 1)))
    assert np.array_equal(gray.row, colour.row)
    np.testing.assert_allclose(gray.distance, colour.distance, rtol=1e-9)
    permuted = standard_pixels(images.reshape(2, 3, 8, 8)[:, [2, 0, 1]])
    np.testing.assert_allclose(
        torch.cdist(permuted, permuted), torch.cdist(*[standard_pixels(images.reshape(2, 3, 8, 8))] * 2), atol=1e-12
    )


def test_suspicious_pairs_are_shown_in_colours():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = {"generated": 1, "training": 0, "distance": 0.5, "held_out_share": 0.1}
    sheet = Image.open(io.BytesIO(suspicious_png(images, images, 2, [pair])))
    first = np.asarray(sheet)[8 + 18, 8]
    assert np.array_equal(first, np.rint(images[1, :, 0, 0].numpy() * 255).astype(np.uint8))
