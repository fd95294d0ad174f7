"""Networks and functions of one's own: the logit of every kind of output, features, and what a fit starts from."""

import numpy as np
import pytest
import torch
from torch import nn

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.adapter import AdaptedClassifier
from synthfair_hf.fairness.classifier import ImageClassifier, unit_range
from synthfair_hf.fairness.detection import Scores, detect
from synthfair_hf.fairness.interface import check_hooks
from synthfair_hf.fairness.labelled import LabelledImages

SIDE = 16
IMAGES = torch.randint(0, 256, (300, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EXAMPLES = LabelledImages(
    IMAGES,
    torch.arange(300) % 2,
    {"corner": torch.arange(300) // 2 % 2},
    {"corner": ("dark", "bright")},
    np.arange(300).astype(str),
)


def network(outputs=1, bias=True, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 8), nn.ReLU(), nn.Linear(8, outputs, bias=bias))


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("shape", "label", "multi_label"),
    [(None, None, False), (1, None, False), (2, None, False), (2, 0, False), (5, 3, False), (5, 3, True)],
)
def test_the_logit_is_the_log_odds_of_the_finding(outputs, shape, label, multi_label):
    raw = network(shape or 1).double()(unit_range(IMAGES).double()).detach()
    one_each = multi_label or shape in (None, 1)
    shares = raw.sigmoid() if one_each else raw.softmax(dim=1)
    given = {"logits": raw, "probabilities": shares}[outputs]
    given = given[:, 0] if shape is None else given
    classifier = AdaptedClassifier(lambda images: given[: len(images)].float(), outputs, label, multi_label)
    share = shares[:, label if label is not None else {None: 0, 1: 0, 2: 1}[shape]]
    torch.testing.assert_close(
        classifier.logits(IMAGES[:200]), (share / (1 - share)).log()[:200].float(), rtol=1e-3, atol=1e-4
    )


def test_a_certain_probability_has_a_finite_logit():
    logits = AdaptedClassifier(lambda images: torch.tensor([0.0, 1.0]), "probabilities").logits(IMAGES[:2])
    assert torch.isfinite(logits).all()
    assert logits[0] < -10 < 10 < logits[1]


def test_features_are_the_input_of_the_last_linear_layer_whatever_comes_after():
    inner = network(2)
    classifier = AdaptedClassifier(nn.Sequential(inner, nn.Softmax(dim=1)), "probabilities")
    with torch.no_grad():
        expected = inner[:3](unit_range(IMAGES))
    torch.testing.assert_close(classifier.features(IMAGES), expected)
    assert not classifier.training
    assert classifier.features(IMAGES[:0]).shape == (0, 0)
    assert classifier.logits(IMAGES[:0]).shape == (0,)


def test_a_function_is_detected_by_its_logits_alone():
    classifier = AdaptedClassifier(lambda images: 9 * images[:, 0, :3, :3].mean(dim=(1, 2)))
    found = detect(classifier, EXAMPLES, ("corner",), "subgroup_gap", permutations=19)
    same = detect(Scores(classifier.logits(IMAGES).numpy()), EXAMPLES, ("corner",), "subgroup_gap", permutations=19)
    assert found.table.equals(same.table)
    with pytest.raises(InputError, match="classifier: it has no features"):
        detect(classifier, EXAMPLES, ("corner",), "shortcut", permutations=19)
    with pytest.raises(InputError, match="detector: slices looks at features, and the scores have none; give one of s"):
        detect(Scores(classifier.logits(IMAGES).numpy()), EXAMPLES, ("corner",), "slices", permutations=19)
    with pytest.raises(InputError, match=r"a function has no weights to fit; give a torch.nn.Module"):
        classifier.initial(EXAMPLES, 0)
    assert classifier.fingerprint == "unknown"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "label", "multi_label"), [(2, None, False), (2, 0, False), (4, 2, True)])
def test_a_fit_starts_from_the_same_function_with_one_logit(outputs, label, multi_label, bias):
    classifier = AdaptedClassifier(network(outputs, bias), label=label, multi_label=multi_label)
    before = classifier.fingerprint
    begun = classifier.initial(EXAMPLES, 0)
    torch.testing.assert_close(begun.eval().logits(IMAGES), classifier.logits(IMAGES))
    assert begun.hooks == (("features", "last layer") if bias else ("features",))
    with torch.no_grad():
        begun.network[-1].weight.zero_()
    assert classifier.fingerprint == before != begun.fingerprint
    if bias:
        # the head is the network's own layer
        assert torch.equal(begun.eval().logits(IMAGES), begun.head.bias.expand(300))


def test_a_label_among_exclusive_ones_stays_and_has_no_last_layer_of_one_logit():
    classifier = AdaptedClassifier(network(4), label=2)
    begun = classifier.initial(EXAMPLES, 0).eval()
    assert torch.equal(begun.logits(IMAGES), classifier.logits(IMAGES))
    assert begun.hooks == ("features",)
    with pytest.raises(InputError, match="classifier: X needs a last linear layer, and the logit of this classifier"):
        check_hooks(begun, ("features", "last layer"), "X")


def test_a_layer_of_several_labels_is_drawn_anew_by_the_seed():
    classifier = AdaptedClassifier(network(4))
    one, again, other = (classifier.initial(EXAMPLES, seed) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(one.network[1].weight, classifier.network[1].weight)
    with pytest.raises(InputError, match="label: not given, and the classifier has 4 outputs"):
        classifier.logits(IMAGES)


def test_a_network_without_a_linear_layer_has_neither_hook():
    classifier = AdaptedClassifier(nn.Sequential(nn.Conv2d(1, 1, SIDE), nn.Flatten()))
    assert classifier.initial(EXAMPLES, 0).hooks == ()
    with pytest.raises(InputError, match="classifier: X needs features, and no linear layer"):
        check_hooks(classifier.initial(EXAMPLES, 0), ("features",), "X")


class Heads(nn.Module):
    """A head per finding, each behind a layer of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.bodies = nn.ModuleList(nn.Linear(SIDE**2, 6) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))

    def forward(self, images):
        pairs = zip(self.bodies, self.heads, strict=True)
        return torch.cat([head(body(images.flatten(1)).relu()) for body, head in pairs], dim=1)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_of_several_heads_the_last_layer_is_that_of_the_finding(label):
    network = Heads()
    classifier = AdaptedClassifier(network, label=label, multi_label=True)
    with torch.no_grad():
        expected = network.bodies[label](unit_range(IMAGES).flatten(1)).relu()
    torch.testing.assert_close(classifier.features(IMAGES), expected)
    begun = classifier.initial(EXAMPLES, 0).eval()
    assert begun.hooks == ("features", "last layer")
    assert begun.head is begun.network.heads[label]
    torch.testing.assert_close(begun.logits(IMAGES), classifier.logits(IMAGES))
    torch.testing.assert_close(begun.head(begun.features(IMAGES))[:, 0], begun.logits(IMAGES))
    # exclusive labels compete, so that the logit of one depends on all heads
    assert AdaptedClassifier(network, label=label).initial(EXAMPLES, 0).hooks == ("features",)


def test_the_small_network_has_every_hook_and_starts_as_it_is():
    classifier = ImageClassifier(SIDE, (8, 8, 8)).eval()
    begun = classifier.initial(EXAMPLES, 0)
    assert begun.fingerprint == classifier.fingerprint
    assert begun is not classifier
    check_hooks(begun, ("features", "last layer"), "X")
    with torch.no_grad():
        begun.head.bias += 1
    assert begun.fingerprint != classifier.fingerprint


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda images: images, r"its output for 300 images is of shape \[\d+, 1, 16, 16\]; give one that outputs"),
        (lambda images: "yes", "its output for .* images is 'yes'"),
        (lambda images: torch.full((len(images),), torch.nan), "some of its outputs are not finite"),
        (nn.Linear(3, 1), r"classifier: it takes no images of 1 x 16 x 16 \(mat1 and mat2"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(network, message):
    with pytest.raises(InputError, match=message.replace("300", r"\d+")):
        AdaptedClassifier(network).logits(IMAGES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": 3}, "network: 3 is no function; give a torch.nn.Module, or a function"),
        ({"outputs": "odds"}, "outputs: 'odds' is unknown; allowed: logits, probabilities"),
        ({"label": -1}, "label: -1 is invalid; give a whole number from 0 to"),
        ({"label": 4}, "label: 4 is out of range; the classifier has the outputs 0 to 3"),
        ({"label": 0, "outputs": "probabilities"}, r"outputs: some are no probabilities in \[0, 1\]; say that they"),
    ],
)
def test_invalid_settings_are_told_in_a_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        AdaptedClassifier(**{"network": network(4), **settings}).logits(IMAGES)


def test_images_of_another_type_and_saving_are_refused(tmp_path):
    classifier = AdaptedClassifier(network())
    with pytest.raises(InputError, match=r"images: torch.float32 of shape \(300, 1, 16, 16\); give torch.uint8"):
        classifier.logits(unit_range(IMAGES))
    with pytest.raises(InputError, match="save: a Sequential can't be built again from a file; save its weights by"):
        classifier.save_pretrained(tmp_path)
