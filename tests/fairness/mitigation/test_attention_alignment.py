"""Attention is a distribution over pixels, strength moves it into the region, and strength 0 is ERM."""

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import Batch, LabelledImages, new_classifier, unit_range
from synthfair_hf.fairness.mitigation.attention_alignment import (
    AttentionAlignment,
    attention,
    calibrated_strength,
    changed_pixels,
    share_inside,
    shares_inside,
    sweep,
)
from synthfair_hf.fairness.mitigation.method import Method


@pytest.fixture(scope="module")
def rows(make_toy):
    return make_toy(64, 0.9, 0), make_toy(64, 0.9, 1, prefix="v")


@pytest.fixture(scope="module")
def classifier(rows, small):
    return Method(**small).fit(*rows, 0).classifier


def without_masks(examples):
    return LabelledImages(examples.images, examples.labels, {}, {}, examples.subjects)


def batch_of(examples):
    return Batch(unit_range(examples.images), examples.masks, examples, torch.ones(len(examples)), 0.5)


def test_attention_is_the_effect_of_each_pixel_on_the_logit(rows, classifier):
    """By finite differences, in double precision, at a few pixels of two images."""
    images = unit_range(rows[0].images[:2])
    found = attention(classifier, images).detach()
    assert found.shape == images.shape
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), torch.ones(2))
    double, places = classifier.double(), [(0, 0), (3, 9), (15, 15), (7, 7)]
    try:
        effects = torch.zeros(2, len(places), dtype=torch.float64)
        for place, (row, column) in enumerate(places):
            step = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
            step[..., row, column] = 1e-5
            with torch.no_grad():
                effects[:, place] = (double(images + step) - double(images - step)).abs()
        expected = effects / effects[:, :1]
        maps = attention(double, images.double()).detach()
    finally:
        classifier.float()
    at = torch.stack([maps[:, 0, row, column] for row, column in places], dim=1)
    torch.testing.assert_close(at / at[:, :1], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps.float(), found, rtol=1e-3, atol=1e-6)


def test_attention_of_a_row_is_its_own_and_ignores_the_scale_of_the_head(rows, classifier):
    images = unit_range(rows[0].images[:6])
    together = attention(classifier, images).detach()
    torch.testing.assert_close(attention(classifier, images[2:3]).detach(), together[2:3], rtol=1e-4, atol=1e-7)
    other = type(classifier)(16, (8, 8, 8))
    other.load_state_dict(classifier.state_dict())
    with torch.no_grad():
        other.head.weight *= -3
    torch.testing.assert_close(attention(other, images).detach(), together, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        other.head.weight.zero_()
    assert (attention(other, images) == 0).all()


@given(st.integers(0, 10_000))
def test_the_share_inside_is_a_share(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 1, 16, 16, generator=generator) ** 4
    maps /= maps.sum(dim=(1, 2, 3), keepdim=True)
    masks = torch.rand(3, 1, 16, 16, generator=generator) < 0.3
    inside, outside = share_inside(maps, masks), share_inside(maps, ~masks)
    assert (inside >= 0).all()
    assert (inside <= 1 + 1e-6).all()
    torch.testing.assert_close(inside + outside, torch.ones(3))
    within = maps * masks
    torch.testing.assert_close(share_inside(within / within.sum(dim=(1, 2, 3), keepdim=True), masks), torch.ones(3))
    assert (share_inside(maps, torch.zeros_like(masks)) == 0).all()


def test_shares_are_of_the_rows_with_a_region(rows, classifier):
    examples = rows[1]
    found = shares_inside(classifier, examples)
    marked = torch.nonzero(examples.labels == 1)[:, 0]
    maps = attention(classifier, unit_range(examples.images)).detach().numpy()
    expected = [maps[row][examples.masks[row].numpy()].sum() for row in marked.tolist()]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    assert not found.requires_grad


def test_the_loss_is_cross_entropy_and_what_is_outside_of_rows_with_a_region(rows, classifier, small):
    batch = batch_of(rows[0])
    plain = Method(**small).loss(classifier, batch).item()
    shares = shares_inside(classifier, rows[0])
    assert len(shares) == 32
    found = AttentionAlignment(strength=0.7, **small).loss(classifier, batch).item()
    assert found == pytest.approx(plain + 0.7 * (1 - shares).sum().item() / 64, rel=1e-5)
    absent = batch_of(rows[0].select(rows[0].labels == 0))
    assert torch.equal(
        AttentionAlignment(strength=0.7, **small).loss(classifier, absent), Method(**small).loss(classifier, absent)
    )


def test_without_strength_it_is_plain_risk_minimisation_to_the_bit(rows, small):
    plain = Method(**small).fit(*rows, 3).classifier.state_dict()
    method = AttentionAlignment(strength=0, **small).fit(*rows, 3).classifier.state_dict()
    assert all(torch.equal(method[name], tensor) for name, tensor in plain.items())
    strong = AttentionAlignment(strength=1, **small).fit(*rows, 3).classifier.state_dict()
    assert not all(torch.equal(strong[name], tensor) for name, tensor in plain.items())


def test_its_gradient_moves_attention_into_the_region(rows, small):
    """Twenty small steps on the second term alone, from a network drawn at random."""
    marked = rows[0].select(rows[0].labels == 1)
    network = new_classifier(marked, Method(**small).settings, 0)
    images, before = unit_range(marked.images), shares_inside(network, marked).mean().item()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (1 - share_inside(attention(network, images), marked.masks)).mean().backward()
        optimizer.step()
    assert shares_inside(network, marked).mean().item() > before + 0.005


def test_changed_pixels_are_those_that_differ_by_so_many_grey_levels():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (3, 1, 16, 16), dtype=np.uint8))
    other = torch.from_numpy(rng.integers(0, 256, (3, 1, 16, 16), dtype=np.uint8))
    other[2] = images[2]
    for threshold in (1, 8, 255):
        expected = [abs(int(x) - int(y)) >= threshold for x, y in zip(images.flatten(), other.flatten(), strict=True)]
        found = changed_pixels(images, other, threshold)
        assert found.shape == images.shape
        assert found.flatten().tolist() == expected
        assert torch.equal(found, changed_pixels(other, images, threshold))
        assert not found[2].any()
    with pytest.raises(InputError, match="threshold: 0 is out of range; allowed: 1 to 255"):
        changed_pixels(images, other, 0)
    with pytest.raises(InputError, match=r"counterfactuals: torch\.uint8 of shape \(2, 1, 16, 16\)"):
        changed_pixels(images, other[:2])
    with pytest.raises(InputError, match=r"images: torch\.float32"):
        changed_pixels(images.float(), other)


def test_sets_without_a_region_are_errors_before_work(rows, small):
    train, validation = rows
    method = AttentionAlignment(**{**small, "steps": 10**9})
    absent = train.select(train.labels == 0)
    for strange in (without_masks(train), LabelledImages(absent.images, absent.labels, {}, {}, absent.subjects)):
        with pytest.raises(InputError, match="train: no row has a mask with a pixel in it; give masks"):
            method.fit(strange, validation, 0)
    with pytest.raises(InputError, match="validation: no row has a mask"):
        sweep(train, without_masks(validation), [1.0], [0], **{**small, "steps": 10**9})
    with pytest.raises(InputError, match="strength: -1 is invalid"):
        sweep(train, validation, [1.0, -1], [0], **{**small, "steps": 10**9})


def test_a_sweep_has_a_row_per_strength_and_seed(rows, small):
    train, validation = rows
    table = sweep(train, validation, [0.0, 2.0], [3, 4], **small)
    assert table[["strength", "seed"]].to_numpy().tolist() == [[0, 3], [0, 4], [2, 3], [2, 4]]
    assert set(table["rows"]) == {32}
    plain = Method(**small).fit(train, validation, 4)
    assert table["validation_auc"][1] == max(plain.curve)
    assert table["share_inside"][1] == pytest.approx(shares_inside(plain.classifier, validation).mean().item())


def test_the_calibrated_strength_is_the_largest_within_a_standard_error_of_the_best():
    def table(**areas):
        found = [(float(name[1:]), seed, area) for name, pair in areas.items() for seed, area in enumerate(pair)]
        return pandas.DataFrame(found, columns=["strength", "seed", "validation_auc"])

    # the standard error of (0.90, 0.92) is 0.01
    assert calibrated_strength(table(s0=(0.8, 0.8), s1=(0.90, 0.92), s2=(0.905, 0.905), s4=(0.89, 0.89))) == 2
    assert calibrated_strength(table(s0=(0.95, 0.95), s1=(0.9, 0.94))) == 0
    assert calibrated_strength(table(s0=(0.9, 0.9), s1=(0.9, 0.9))) == 1
    with pytest.raises(InputError, match="table: one seed only"):
        calibrated_strength(table(s0=(0.9,), s1=(0.9,)))


def film_world(n, agree, seed, prefix):
    """Images of 32 pixels with a square of 6, and a brighter corner of 3 that agrees with probability `agree`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    groups = np.where(rng.random(n) < agree, labels, 1 - labels)
    pixels, masks = rng.integers(0, 140, (n, 32, 32)), np.zeros((n, 32, 32), bool)
    for row, (top, left) in enumerate(rng.integers(8, 24, (n, 2))):
        pixels[row, top : top + 6, left : left + 6] += 50 * labels[row]
        masks[row, top : top + 6, left : left + 6] = labels[row]
    pixels[groups == 1, :3, :3] = 255
    names = np.array([f"{prefix}{row}" for row in range(n)])
    images = torch.from_numpy(pixels.astype(np.uint8))[:, None]
    codes = {"corner": torch.from_numpy(groups)}
    return LabelledImages(
        images,
        torch.from_numpy(labels),
        codes,
        {"corner": ("dark", "bright")},
        names,
        {},
        torch.from_numpy(masks)[:, None],
    )


def test_a_planted_shortcut_is_left_for_the_finding():
    """400 images of which 97 % have the corner bright where the square is; on the test half of them do (400 images)."""
    train, validation = film_world(400, 0.97, 0, "s"), film_world(100, 0.97, 100, "v")
    test = film_world(400, 0.5, 200, "t")
    cell = 2 * test.labels.numpy() + test.groups["corner"].numpy()
    settings = {"steps": 200, "batch_size": 32, "channels": (8, 8, 16), "shift": 1, "learning_rate": 5e-3}
    worst, inside = {}, {}
    for strength in (0, 1):
        method = AttentionAlignment(strength=strength, **settings).fit(train, validation, 0)
        wrong = (method.predict_proba(test.images) > 0.5) != (test.labels.numpy() == 1)
        worst[strength] = max(wrong[cell == one].mean() for one in range(4))
        inside[strength] = shares_inside(method.classifier, test).mean().item()
    assert worst[0] > 0.4
    assert worst[1] < worst[0] / 2
    assert inside[1] > 2 * inside[0]
