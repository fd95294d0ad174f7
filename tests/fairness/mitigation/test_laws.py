"""Laws of every method: with one group it is ERM, seeds decide, invalid input is an error."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import load_classifier
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.fairness.mitigation.method import GroupSettings
from synthfair_hf.records import Record

GROUP_AWARE = [name for name, method in METHODS.items() if issubclass(method.Settings, GroupSettings)]


def settings_of(name, small, **changes):
    own = {"attribute": "corner"} if name in GROUP_AWARE else {"first_steps": 2} if name == "jtt" else {}
    return METHODS[name](**{**small, **own, **changes})


def synthetic_for(name, make_toy):
    if "synthetic images" not in METHODS[name].required_annotations:
        return None
    if name == "balanced_synthetic":
        return make_toy(240, 0.5, 9, prefix="y")
    return make_toy(64, 0.9, 0, counterfactuals=True)


def weights(method):
    return torch.cat([tensor.flatten() for tensor in method.classifier.state_dict().values()])


@pytest.fixture(scope="module")
def rows(make_toy):
    return make_toy(64, 0.9, 0), make_toy(64, 0.9, 1, prefix="v")


# rows are added, or mixed across labels, whatever the groups are
@pytest.mark.parametrize("name", [name for name in GROUP_AWARE if name not in ("balanced_synthetic", "lisa")])
def test_one_group_leaves_empirical_risk_minimisation(name, make_toy, small):
    train, validation = (make_toy(64, 0.9, seed, groups=(1,), prefix=p) for seed, p in ((0, "s"), (1, "v")))
    assert set(train.groups["corner"].tolist()) == {1}
    synthetic = train if "synthetic images" in METHODS[name].required_annotations else None
    method = settings_of(name, small).fit(train, validation, 3, synthetic)
    plain = METHODS["erm"](**small).fit(train, validation, 3)
    # these add up the same numbers in another order: the groups' losses, the norm that gradients are clipped by
    tolerance = {"group_dro": 1e-4, "domain_adversarial": 1e-6}.get(name, 0)
    torch.testing.assert_close(weights(method), weights(plain), rtol=0, atol=tolerance)
    scores = method.predict_proba(validation.images, validation.groups)
    np.testing.assert_allclose(scores, plain.predict_proba(validation.images), atol=tolerance)


def test_two_groups_do_not(rows, make_toy, small):
    plain = METHODS["erm"](**small).fit(*rows, 3)
    for name in GROUP_AWARE:
        method = settings_of(name, small).fit(*rows, 3, synthetic_for(name, make_toy))
        gap = np.abs(method.predict_proba(rows[1].images, rows[1].groups) - plain.predict_proba(rows[1].images)).max()
        assert gap > 1e-4, name


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(name, rows, make_toy, small):
    synthetic = synthetic_for(name, make_toy)
    before = torch.random.get_rng_state()
    first, again, other = (settings_of(name, small, steps=2).fit(*rows, seed, synthetic) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    scores = first.predict_proba(rows[1].images, rows[1].groups)
    assert scores.dtype == np.float64
    assert scores.shape == (64,)
    assert (scores > 0).all()
    assert (scores < 1).all()


@pytest.mark.parametrize("name", METHODS)
def test_annotations_that_a_method_does_not_require_do_not_matter(name, rows, make_toy, small):
    """Group labels are removed, or exchanged, where `required_annotations` does not name them."""
    method, (train, validation) = METHODS[name], rows
    assert len(set(method.required_annotations)) == len(method.required_annotations)

    def blind(examples):
        return type(examples)(examples.images, examples.labels, {}, {}, examples.subjects, masks=examples.masks)

    hidden_train = train if "training groups" in method.required_annotations else blind(train)
    hidden_validation = validation if "validation groups" in method.required_annotations else blind(validation)
    synthetic = synthetic_for(name, make_toy)
    with_groups = settings_of(name, small, steps=2).fit(train, validation, 0, synthetic)
    without = settings_of(name, small, steps=2).fit(hidden_train, hidden_validation, 0, synthetic)
    assert torch.equal(weights(with_groups), weights(without))
    groups = validation.groups if "groups at prediction" in method.required_annotations else None
    np.testing.assert_array_equal(
        with_groups.predict_proba(validation.images, validation.groups),
        without.predict_proba(validation.images, groups),
    )


@pytest.mark.parametrize("name", GROUP_AWARE)
def test_a_missing_attribute_is_an_error_before_work(name, rows, make_toy, small):
    method = settings_of(name, small, attribute="sex", steps=1_000_000)
    with pytest.raises(InputError, match=r"attribute \((groups|pairs) of .*'sex' is unknown; allowed: corner"):
        method.fit(*rows, 0, synthetic_for(name, make_toy))


def test_invalid_input_is_one_sentence(rows, make_toy, small):
    train, validation = rows
    plain = METHODS["erm"](**small)
    with pytest.raises(InputError, match="train: rows of one class only"):
        plain.fit(train.select(train.labels == 1), validation, 0)
    with pytest.raises(InputError, match="validation: rows of one class only"):
        plain.fit(train, validation.select(validation.labels == 0), 0)
    with pytest.raises(InputError, match=r"validation: 64 subjects are also in train \(such as 's0'\)"):
        plain.fit(train, train, 0)
    with pytest.raises(InputError, match="Method does not use them; leave them out"):
        plain.fit(train, validation, 0, synthetic=train)
    with pytest.raises(InputError, match="BalancedSynthetic requires them; give them"):
        settings_of("balanced_synthetic", small).fit(train, validation, 0)
    with pytest.raises(InputError, match="not fitted yet"):
        plain.predict_proba(train.images)
    with pytest.raises(InputError, match="Reweighting: 'strength' is unknown; allowed: steps"):
        METHODS["reweighting"](attribute="corner", strength=1)
    with pytest.raises(InputError, match="Reweighting: attribute is not given"):
        METHODS["reweighting"]()
    with pytest.raises(InputError, match="step_size: nan is invalid"):
        METHODS["group_dro"](attribute="corner", step_size=float("nan"))
    with pytest.raises(InputError, match="steps: 0 is invalid"):
        METHODS["erm"](steps=0)


def test_what_is_saved_is_loaded_again_and_says_how_it_came_about(rows, small, tmp_path):
    train, validation = rows
    method = METHODS["reweighting"](attribute="corner", **small).fit(train, validation, 4)
    method.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert torch.equal(loaded.logits(validation.images), method.classifier.logits(validation.images))
    record = Record.read(tmp_path / "record.json")
    assert record.settings["method"] == "Reweighting"
    assert record.settings["seed"] == 4
    assert record.inputs == {"train": train.fingerprint, "validation": validation.fingerprint, "access": "unknown"}
    assert record.measured["validation_auc"] == max(method.curve)


def test_the_recipe_of_a_view_is_in_the_record_of_what_is_trained_on_it(rows, small, tmp_path):
    recipe = {"view": "sex_imbalanced_90_10", "recipe": "0123456789abcdef", "data_set": "fedcba9876543210"}
    train, validation = (replace(one, recipe=recipe) for one in rows)
    assert train.select(np.arange(9)).recipe == recipe
    assert train.concatenate(validation).recipe == recipe
    assert train.concatenate(rows[1]).recipe == {}
    assert train.fingerprint == rows[0].fingerprint
    METHODS["erm"](**small).fit(train, validation, 4).save(tmp_path)
    inputs = Record.read(tmp_path / "record.json").inputs
    assert {name: inputs[f"{name} of train"] for name in recipe} == recipe


def worst_group_error(method, test):
    wrong = (method.predict_proba(test.images, test.groups) > 0.5) != (test.labels.numpy() == 1)
    cell = 2 * test.labels.numpy() + test.groups["corner"].numpy()
    return max(wrong[cell == one].mean() for one in range(4))


def test_a_planted_shortcut_is_taken_and_left(make_toy, small):
    """400 images of which 97 % have the corner bright where the square is; on the test half of them do (800 images)."""
    train, validation = make_toy(400, 0.97, 0), make_toy(200, 0.97, 100, prefix="v")
    test = make_toy(800, 0.5, 200, prefix="t")
    keywords = {**small, "steps": 125, "channels": (8, 8, 16)}
    errors = {
        name: worst_group_error(METHODS[name](**keywords, **more).fit(train, validation, 2), test)
        for name, more in (("erm", {}), ("reweighting", {"attribute": "corner"}))
    }
    assert errors["erm"] > 0.4
    assert errors["reweighting"] < errors["erm"] / 2
    both = make_toy(400, 0.97, 0, counterfactuals=True)
    paired = METHODS["pair_consistency"](**keywords, attribute="corner").fit(train, validation, 2, both)
    assert worst_group_error(paired, test) < 0.1
