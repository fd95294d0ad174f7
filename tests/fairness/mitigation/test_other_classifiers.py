"""Every method fits classifiers of transformers, from given weights or random ones, and says what it cannot fit."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.adapter import AdaptedClassifier
from synthfair_hf.fairness.classifier import Batch, ImageClassifier
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.fairness.mitigation.method import GroupSettings
from synthfair_hf.fairness.pretrained import open_classifier
from synthfair_hf.records import Record

SIDE = 16
CONFIGS = {
    "resnet": transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_channels=1),
    "vit": transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=SIDE,
        patch_size=8,
        num_channels=1,
    ),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """`opened(name, weights)` opens a configuration, or random weights that were saved."""

    def find(name, weights):
        directory = tmp_path_factory.mktemp(name)
        if not weights:
            CONFIGS[name].save_pretrained(directory)
            return open_classifier(directory, to_fit=True)
        torch.manual_seed(0)
        transformers.AutoModelForImageClassification.from_config(CONFIGS[name]).save_pretrained(directory)
        return open_classifier(directory, to_fit=True)

    return find


def method_of(name, small, **changes):
    own = {"attribute": "corner"} if issubclass(METHODS[name].Settings, GroupSettings) else {}
    own |= {"first_steps": 2} if name == "jtt" else {}
    own |= {"ratio": 0.5} if name in ("balanced_synthetic", "selective_finetuning") else {}
    return METHODS[name](**{**small, **own, **changes})


def rows_of(name, make_toy):
    synthetic = None
    if "synthetic images" in METHODS[name].required_annotations:
        synthetic = make_toy(64, 0.5, 0, counterfactuals=True)
    return make_toy(48, 0.9, 0), make_toy(48, 0.9, 1, prefix="v"), 3, synthetic


@pytest.mark.parametrize("network", CONFIGS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_it_and_what_it_fitted_is_saved(name, network, opened, make_toy, small, tmp_path):
    given = opened(network, weights=True)
    before = given.fingerprint
    rows = rows_of(name, make_toy)
    fitted = method_of(name, small).fit(*rows, classifier=given)
    again = method_of(name, small).fit(*rows, classifier=given)
    assert given.fingerprint == before != fitted.classifier.fingerprint
    assert fitted.classifier.fingerprint == again.classifier.fingerprint
    scores = fitted.predict_proba(rows[1].images, rows[1].groups)
    assert np.isfinite(scores).all()
    fitted.save(tmp_path)
    saved = open_classifier(tmp_path)
    assert torch.equal(saved.logits(rows[1].images), fitted.classifier.logits(rows[1].images))
    record = Record.read(tmp_path / "record.json")
    assert record.inputs["classifier"] == before
    assert saved.access == record.access == "unknown"


def test_random_weights_are_drawn_by_the_seed_of_the_fit_and_given_ones_are_not(opened, make_toy, small):
    train, validation, _, _ = rows_of("erm", make_toy)
    for weights in (False, True):
        given = opened("resnet", weights)
        first, second = (
            method_of("erm", small).fit(train, validation, seed, classifier=given).initial(train, seed)
            for seed in (0, 1)
        )
        assert (first.fingerprint == second.fingerprint) == weights
        # no image has moved the statistics of its normalisation layers
        assert given.initial(validation, 0).fingerprint == first.fingerprint
        # jtt's first classifier starts as its second does
        method = method_of("jtt", small).fit(train, validation, 0, classifier=given)
        plain = method.empirical_risk_minimisation()
        assert plain.initial(train, 0).fingerprint == first.fingerprint


def test_more_steps_from_a_fitted_network_of_this_package(make_toy, small):
    train, validation, seed, _ = rows_of("erm", make_toy)
    first = METHODS["erm"](**small).fit(train, validation, seed)
    still = METHODS["erm"](**{**small, "learning_rate": 1e-12}).fit(train, validation, 1, classifier=first.classifier)
    torch.testing.assert_close(
        still.classifier.logits(validation.images), first.classifier.logits(validation.images), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_a_classifier_without_what_it_needs(name, make_toy, small):
    bare = AdaptedClassifier(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, SIDE - 2), nn.Flatten()))
    method, rows = method_of(name, small), rows_of(name, make_toy)
    if not method.required_hooks:
        method.fit(*rows, classifier=bare)
        return
    with pytest.raises(InputError, match=rf"classifier: {type(method).__name__} needs features, and no linear layer"):
        method.fit(*rows, classifier=bare)


def test_a_classifier_of_another_resolution_is_refused(make_toy, small):
    rows = rows_of("erm", make_toy)
    with pytest.raises(InputError, match=r"give this classifier torch.uint8 of shape \[n, 1, 32, 32\]"):
        METHODS["erm"](**small).fit(*rows, classifier=ImageClassifier(32, (8, 8, 8)))
    with pytest.raises(InputError, match="a function has no weights to fit; give a torch"):
        METHODS["erm"](**small).fit(*rows, classifier=AdaptedClassifier(lambda images: images.mean(dim=(1, 2, 3))))
    with pytest.raises(InputError, match=r"classifier: 'vit' is none to fit; open it by open_classifier, or give"):
        METHODS["erm"](**small).fit(*rows, classifier="vit")


def test_rows_of_a_step_are_moved_to_the_device_of_the_classifier(make_toy, small, monkeypatch):
    train, validation, seed, _ = rows_of("erm", make_toy)
    moved = []
    monkeypatch.setattr(Batch, "to", lambda batch, device: moved.append(device) or batch)
    fitted = METHODS["erm"](**small).fit(train, validation, seed)
    assert moved == [fitted.classifier.device] * small["steps"]
    assert train.to(torch.device("cpu")) is train


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_fits_on_a_gpu_as_on_the_cpu(name, opened, make_toy, small):
    rows = rows_of(name, make_toy)
    scores = []
    for device in ("cpu", "cuda"):
        given = opened("resnet", weights=True).to(device)
        fitted = method_of(name, small).fit(*rows, classifier=given)
        assert fitted.classifier.device.type == device
        scores.append(fitted.predict_proba(rows[1].images, rows[1].groups))
    np.testing.assert_allclose(*scores, atol=1e-2)
