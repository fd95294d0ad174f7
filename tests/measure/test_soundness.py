"""Soundness in a world small enough to check by hand; identity and oracle land on the ends of the band."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from synthfair_hf.domains.worlds import Counterfactuals
from synthfair_hf.errors import InputError
from synthfair_hf.measure.distances import divergence, l1, minimality, ssim
from synthfair_hf.measure.interventions import bins, forced_change, from_marginal, hold
from synthfair_hf.measure.soundness import score
from synthfair_hf.measure.systems import Identity, Oracle

SEEDS = (0, 1, 2)


class Slip(Oracle):
    """The truth, spoiled by `change(images, table, do, rows)`."""

    name = "slip"

    def __init__(self, world, change):
        super().__init__(world)
        self.change = change

    def counterfactual(self, image, covariates, do, rows):
        images, table = super().counterfactual(image, covariates, do, rows)
        return Counterfactuals(*self.change(images.clone(), dict(table), do, rows))


def figure(rows, metric, do="none", attribute="image", by="pixels", **others):
    (found,) = [
        row
        for row in rows
        if (row["metric"], row["do"], row["attribute"], row["by"]) == (metric, do, attribute, by)
        and all(row[name] == value for name, value in others.items())
    ]
    return found


@pytest.fixture(scope="module")
def world(patches):
    return patches()


@pytest.fixture(scope="module")
def measured(world, reader):
    """Rows of oracle and identity, by name."""
    settings = {
        "contrasts": {"size": (0.2, 0.6)},
        "n_bootstrap": 200,
        "encoder": lambda x: (x.flatten(1), 0 * x.flatten(1)),
    }
    systems = (Oracle(world), Identity())
    return {system.name: score(system, world, {"reader": reader()}, SEEDS, **settings) for system in systems}


def test_rows_are_tidy(measured, world):
    rows = measured["oracle"]
    labels = ["system", "world", "metric", "do", "attribute", "by", "intervention", "effect"]
    keys = [*labels, "mean", "low", "high", "n", "groups", "seeds", "draws"]
    assert all(list(row) == keys for row in rows)
    assert len({tuple(row[key] for key in labels) for row in rows}) == len(rows)
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)
    # what no seed can change is measured once
    assert {(row["seeds"], row["intervention"]) for row in rows} == {
        (1, "none"),
        (1, "factual"),
        (1, "0.2 -> 0.6"),
        (3, "from_marginal"),
    }
    assert all(row["groups"] == len(world.groups) for row in rows if row["metric"] != "minimality")


def test_the_oracle_is_at_the_near_end(measured):
    rows = measured["oracle"]
    for row in rows:
        if row["metric"].endswith(("_l1", "_at_1", "_at_10")) or row["metric"] == "nondescendants_changed":
            assert row["mean"] == pytest.approx(0, abs=1e-4), row
        if row["metric"] in ("accuracy", "auc", "true_ssim"):
            assert row["mean"] == pytest.approx(1, abs=1e-6), row
        if row["metric"] in ("mae", "delta_mae", "delta_auc"):
            assert row["mean"] == pytest.approx(0, abs=1e-6), row


def test_the_identity_is_at_the_far_end_by_brute_force(measured, world):
    rows = measured["identity"]
    for name in ("size", "tone"):
        asked = [np.array(from_marginal(world, name, seed)) for seed in SEEDS]
        error = np.mean([np.abs(one - world.table[name]).mean() for one in asked])
        for by in ("ruler", "reader"):
            assert figure(rows, "mae", name, name, by)["mean"] == pytest.approx(error, abs=1e-6)
    asked = [np.array(from_marginal(world, "kind", seed)) for seed in SEEDS]
    right = np.mean([one == np.array(world.table["kind"]) for one in asked])
    assert figure(rows, "accuracy", "kind", "kind", "reader")["mean"] == pytest.approx(right)
    # do(size) moves tone in truth, half as far, so doing nothing fails there too; do(tone) and do(kind) leave size
    half = figure(rows, "mae", "size", "size", "ruler")["mean"] / 2
    assert figure(rows, "mae", "size", "tone", "ruler")["mean"] == pytest.approx(half, abs=1e-6)
    assert figure(rows, "mae", "tone", "size", "ruler")["mean"] == pytest.approx(0, abs=1e-6)
    moved = [
        l1(world.images, world.truth({"size": from_marginal(world, "size", seed)}).images).mean() for seed in SEEDS
    ]
    assert figure(rows, "true_l1", "size")["mean"] == pytest.approx(np.mean(moved))
    assert figure(rows, "true_ssim", "size")["mean"] < 0.95
    assert figure(rows, "composition_l1_at_10")["mean"] == 0
    assert figure(rows, "reversibility_l1", "size")["mean"] == 0


def test_every_attribute_is_reported_under_every_do(measured):
    cells = {(row["do"], row["attribute"], row["by"]) for row in measured["oracle"] if row["metric"] in ("mae", "auc")}
    attributes = {"reader": ("size", "tone", "kind"), "ruler": ("size", "tone")}
    expected = {
        (do, k, by) for by, names in attributes.items() for do in ("none", "size", "tone", "kind") for k in names
    }
    assert cells == expected


def test_a_predictors_own_error_cancels_in_the_delta(world, reader):
    rows = score(Oracle(world), world, {"reader": reader(bias=0.3)}, (0,), names=["kind", "tone"], n_bootstrap=50)
    assert figure(rows, "mae", "tone", "size", "reader")["mean"] == pytest.approx(0.3, abs=1e-6)
    assert figure(rows, "mae", "none", "size", "reader")["mean"] == pytest.approx(0.3, abs=1e-6)
    assert figure(rows, "delta_mae", "tone", "size", "reader")["mean"] == pytest.approx(0, abs=1e-6)


def test_natural_effects_of_size_on_tone_are_all_indirect(measured):
    for by in ("reader", "ruler"):
        effects = {
            metric: [figure(measured["oracle"], metric, "size", k, by)["mean"] for k in ("size", "tone")]
            for metric in ("total_effect", "direct_effect", "indirect_effect")
        }
        assert effects["total_effect"] == pytest.approx([0.4, 0.2], abs=1e-6)
        assert effects["direct_effect"] == pytest.approx([0.4, 0], abs=1e-6)
        assert effects["indirect_effect"] == pytest.approx([0, 0.2], abs=1e-6)
    assert figure(measured["oracle"], "total_effect", "size", "kind=two", "reader")["mean"] == 0


def test_direct_effect_holds_descendants_total_lets_them_follow(world, reader):
    direct = score(Oracle(world), world, {}, (0,), names=["size"], effect="direct", n_bootstrap=50)
    assert {row["effect"] for row in direct} == {"direct"}
    asked = hold(world, {"size": from_marginal(world, "size", 0)}, world.table, "direct")
    assert asked["tone"] == world.table["tone"]
    assert figure(direct, "true_l1", "size")["mean"] == 0
    ignoring = score(Identity(), world, {}, (0,), names=["size"], effect="direct", n_bootstrap=50)
    assert figure(ignoring, "mae", "size", "tone", "ruler")["mean"] == pytest.approx(0, abs=1e-6)


def test_pairs_of_which_one_causes_the_other_commute_only_when_held(world):
    def pairs(effect):
        rows = score(Oracle(world), world, {}, (0,), effect=effect, n_bootstrap=20)
        return {row["do"]: row["mean"] for row in rows if row["metric"] == "commutativity_l1"}

    assert pairs("total") == {"size, kind": 0, "tone, kind": 0}
    assert pairs("direct") == {"size, tone": 0, "size, kind": 0, "tone, kind": 0}


def test_a_system_that_forgets_what_was_done_does_not_commute(world):
    class Forgetful(Oracle):
        name = "forgetful"

        def counterfactual(self, image, covariates, do, rows):
            own = {name: [column[row] for row in rows] for name, column in world.table.items()}
            return super().counterfactual(image, own, do, rows)

    rows = score(Forgetful(world), world, {}, (0,), names=["size", "kind"], n_bootstrap=20)
    assert figure(rows, "commutativity_l1", "size, kind")["mean"] > 5


def test_one_grey_level_everywhere_is_one_grey_level_of_each_distance(world):
    def darker(images, table, do, rows):
        return (images * 0.5 + 0.25 + (1 / 255 if do else 0), table)

    def brighten(images, table, do, rows):
        return (images - 1 / 255).clamp(0, 1) if do == {} else images, table

    rows = score(Slip(world, brighten), world, {}, (0,), names=["kind"], n_bootstrap=20)
    once = l1((world.images - 1 / 255).clamp(0, 1), world.images).mean()
    assert figure(rows, "composition_l1_at_1")["mean"] == pytest.approx(once)
    rows = score(Slip(world, darker), world, {}, (0,), names=["kind"], n_bootstrap=20)
    expected = l1(world.images * 0.5 + 0.25 + 1 / 255, world.images).mean()
    assert figure(rows, "factual_l1", "kind")["mean"] == pytest.approx(expected)
    assert figure(rows, "reversibility_l1", "kind")["mean"] == pytest.approx(expected)


def test_a_changed_non_descendant_is_counted(world):
    def change(images, table, do, rows):
        if "tone" in do:
            table["size"] = [0.5 if row < 10 else value for row, value in zip(rows, table["size"], strict=True)]
        return images, table

    rows = score(Slip(world, change), world, {}, (0,), n_bootstrap=20)
    assert figure(rows, "nondescendants_changed", "tone", "covariates", "covariates")["mean"] == 0.25
    assert figure(rows, "nondescendants_changed", "size", "covariates", "covariates")["mean"] == 0


def test_without_truth_the_systems_own_covariates_are_the_target(patches):
    world = patches(knows=())
    rows = score(Identity(), world, {}, (0,), names=["size"], n_bootstrap=20)
    assert not [row for row in rows if row["metric"].startswith("true_")]
    assert figure(rows, "mae", "size", "tone", "ruler")["mean"] == pytest.approx(0, abs=1e-6)
    assert figure(rows, "mae", "size", "size", "ruler")["mean"] > 0.1
    with pytest.raises(InputError, match=r"oracle: patches knows no exact counterfactual of do\(size\); leave it out"):
        score(Oracle(world), world, {}, (0,), names=["size"])


@pytest.mark.parametrize("batch_size", [1, 7])
def test_results_do_not_depend_on_the_batch_size(patches, reader, batch_size):
    world = patches(n=12)

    def grain(images, table, do, rows):
        noise = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(row)) for row in rows]
        return 0.9 * images + 0.1 * torch.stack(noise), table

    settings = {"names": ["size", "kind"], "cycles": (1, 2), "n_bootstrap": 20}
    one, other = (
        score(Slip(world, grain), world, {"reader": reader()}, (0, 1), batch_size=size, **settings)
        for size in (batch_size, 12)
    )
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, t, do, rows: (x[..., :8], t),
            r"slip: returned images of shape \[32, 1, 16, 8\]; must be \[32, 1, 16, 16\]",
        ),
        (lambda x, t, do, rows: (x.log().log(), t), r"slip: \d+ pixels are not finite"),
        (lambda x, t, do, rows: (x * 2, t), r"slip: pixels in \[0, 2\]"),
        (lambda x, t, do, rows: (x - 0.5, t), r"slip: pixels in \[-0.5, 0.5\]"),
        (lambda x, t, do, rows: (x, {"size": t["size"]}), "slip: covariates: tone, kind not given"),
        (lambda x, t, do, rows: (x, {**t, "kind": ["four"] * len(x)}), "slip: .*'four' is unknown"),
        (lambda x, t, do, rows: (x, {**t, "size": [None] * len(x)}), "slip: 0 known values of size for 32 images"),
        (lambda x, t, do, rows: (x, {n: c[1:] for n, c in t.items()}), "slip: 31 known values of size for 32 images"),
        (lambda x, t, do, rows: (x, {**t, "kind": ["one"] * len(x)}), r"slip: kind is not the value of do\(kind\)"),
    ],
)
def test_a_broken_system_is_named(world, change, message):
    with pytest.raises(InputError, match=message):
        score(Slip(world, change), world, {}, (0,), names=["kind"], n_bootstrap=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["colour"]}, "variable: 'colour' is unknown; allowed: size, tone, kind"),
        ({"contrasts": {"colour": (0, 1)}}, "'colour' is unknown"),
        ({"pairs": [("size", "colour")]}, "pairs: 'colour' is unknown; allowed: size, tone, kind"),
        ({"pairs": [("size", "size")]}, "pairs: size, size is not a pair; give two different variables"),
        ({"pairs": [("size", "kind"), ("kind", "size")]}, "pairs: one is given twice"),
        ({"interventions": ["from_margin"]}, "interventions: 'from_margin' is unknown.*'from_marginal'"),
        ({"interventions": ["from_marginal"] * 2}, "interventions: from_marginal, from_marginal names one twice"),
        ({"effect": "partial"}, "effect: 'partial' is unknown; allowed: total, direct"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, r"seeds: \[1, 1\] must be one or more distinct integers"),
        ({"seeds": (0, -1)}, r"seeds: \[0, -1\] must be one or more distinct integers from 0 on"),
        ({"cycles": (0, 1)}, r"batch_size, cycles: 32, \[0, 1\] must be positive"),
        ({"batch_size": 0}, "batch_size, cycles: 0, .* must be positive"),
    ],
)
def test_bad_settings_are_refused_before_the_system_is_asked(world, settings, message):
    with pytest.raises(InputError, match=message):
        score(None, world, {}, **{"seeds": (0,), **settings})


def test_a_reading_that_is_not_finite_is_named(world):
    class Blind:
        def predict(self, images):
            return {"size": np.full(len(images), np.nan)}

    with pytest.raises(InputError, match=r"blind: predicted size of images of identity as \[40\] with 40 not finite"):
        score(Identity(), world, {"blind": Blind()}, (0,))


def test_from_marginal_is_a_permutation_of_the_training_values(patches):
    world = patches(n=200)
    for name in world.covariates.names:
        drawn = from_marginal(world, name, 3)
        assert sorted(drawn) == sorted(world.training[name])
        assert drawn == from_marginal(world, name, 3) != from_marginal(world, name, 4)
    many = from_marginal(patches(n=500), "kind", 0)
    assert abs(many.count("one") / 500 - world.training["kind"].count("one") / 200) < 0.05


def test_forced_change_changes_every_level_and_every_quintile(world):
    for name in world.covariates.names:
        drawn = forced_change(world, name, 3)
        assert (bins(world, name, drawn) != bins(world, name, world.table[name])).all()
        assert drawn == forced_change(world, name, 3) != forced_change(world, name, 4)
    assert set(forced_change(world, "size", 0)) <= set(world.training["size"])


def test_divergence_is_the_integral_it_stands_for():
    first, second = (0.3, -0.4), (-0.5, 0.2)

    def integrand(z):
        p, q = norm(first[0], np.exp(first[1])), norm(second[0], np.exp(second[1]))
        return p.pdf(z) * (p.logpdf(z) - q.logpdf(z))

    normals = [tuple(torch.tensor([[number]]) for number in pair) for pair in (first, second)]
    assert divergence(*normals).item() == pytest.approx(quad(integrand, -15, 15)[0], abs=1e-6)


def test_divergence_of_many_dimensions_is_torchs():
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(n, 6, generator=generator) for n in (4, 4, 3, 3)]
    found = divergence((draw[0], draw[1]), (draw[2], draw[3]))
    for i in range(4):
        for j in range(3):
            p, q = (torch.distributions.Normal(draw[k][row], draw[k + 1][row].exp()) for k, row in ((0, i), (2, j)))
            expected = torch.distributions.kl_divergence(p, q).sum().item()
            assert found[i, j].item() == pytest.approx(expected, rel=1e-5)
    same = divergence((draw[0], draw[1]), (draw[0], draw[1]))
    assert same.diagonal().abs().max() < 1e-9


def test_mean_and_scale_are_not_confused():
    """A peer passed one column as both; the divergence must see each."""
    zero = torch.zeros(1, 1)
    assert divergence((zero, zero), (zero + 1, zero)).item() == pytest.approx(0.5)
    assert divergence((zero, zero), (zero, zero + 1)).item() == pytest.approx(0.5 * (np.exp(-2) - 1) + 1)


@pytest.mark.parametrize("at_once", [5, 256])
def test_minimality_by_brute_force(monkeypatch, at_once):
    monkeypatch.setattr("synthfair_hf.measure.distances.ROWS", at_once)
    rng = np.random.default_rng(1)
    latents, moved = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
    own, target = rng.integers(0, 3, 12), rng.integers(0, 4, 12)  # nobody has bin 3
    posteriors = [(torch.from_numpy(one), torch.zeros(12, 2)) for one in (latents, moved)]
    found = minimality(*posteriors, own, target)
    for i in range(12):
        distance = [0.5 * np.sum((latents[i] - other) ** 2) for other in latents]
        reach = 0.5 * np.sum((latents[i] - moved[i]) ** 2)
        after = [distance[j] <= reach for j in range(12) if j != i and own[j] == target[i]]
        before = [distance[j] >= reach for j in range(12) if j != i and own[j] == own[i]]
        if after and before:
            expected = np.log(0.8 * np.exp(np.mean(after)) + 0.2 * np.exp(np.mean(before)))
            assert found[i] == pytest.approx(expected)
        else:
            assert np.isnan(found[i])


def test_minimality_never_holds_all_pairs(monkeypatch):
    """Nor do parts change a figure: they are those of the whole matrix."""
    shapes = []

    def spy(first, second):
        found = divergence(first, second)
        shapes.append(tuple(found.shape))
        return found

    generator = torch.Generator().manual_seed(0)
    observed, changed = ((torch.randn(90, 4, generator=generator), torch.zeros(90, 4)) for _ in range(2))
    own, target = np.arange(90) % 3, np.arange(90) // 3 % 3
    whole = minimality(observed, changed, own, target)
    monkeypatch.setattr("synthfair_hf.measure.distances.ROWS", 20)
    monkeypatch.setattr("synthfair_hf.measure.distances.divergence", spy)
    np.testing.assert_array_equal(minimality(observed, changed, own, target), whole)
    assert max(rows for rows, _ in shapes) == 20


def test_real_images_are_encoded_once(world):
    asked = []

    def encoder(images):
        asked.append(images is world.images)
        return images.flatten(1), 0 * images.flatten(1)

    score(Identity(), world, {}, (0, 1), pairs=(), encoder=encoder, n_bootstrap=20)
    assert asked.count(True) == 1
    assert len(asked) == 1 + 2 * 3


def test_questions_about_one_answer_are_asked_in_a_row(world):
    """Whoever remembers what it last abducted abducts each answer once."""

    class Asked(Oracle):
        name, starts = "asked", []

        def counterfactual(self, image, covariates, do, rows):
            self.starts.append(image.sum().item())
            return super().counterfactual(image, covariates, do, rows)

    score(Asked(world), world, {}, (0,), effect="direct", cycles=(), batch_size=40, n_bootstrap=20)
    begun = [start for start, last in zip(Asked.starts, [None, *Asked.starts], strict=False) if start != last]
    observed = world.images.sum().item()
    answers = [start for start in begun if start != observed]
    assert len(answers) == len(set(answers)) == 3
    assert len(Asked.starts) == 3 + 3 + 3 + 6, "what is, do(), back, and three pairs in both orders"


def test_minimality_of_doing_nothing_is_its_closed_form(measured):
    for name in ("size", "tone", "kind"):
        stayed = figure(measured["identity"], "minimality", name, by="encoder")
        assert stayed["mean"] == pytest.approx(np.log(0.8 + 0.2 * np.e))
        assert 0 < figure(measured["oracle"], "minimality", name, by="encoder")["low"] < 1


def test_image_distances_of_known_pairs(world):
    assert l1(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)).tolist() == [255, 255]
    np.testing.assert_allclose(ssim(world.images, world.images), 1, atol=1e-6)
    both = torch.cat([world.images, world.images])
    np.testing.assert_allclose(ssim(both, both.flip(0))[:40], ssim(world.images, world.images.flip(0)), atol=1e-6)
