from itertools import pairwise

import numpy as np
import pytest

from synthfair_hf.causal.graph import CausalGraph
from synthfair_hf.domains.chest_xray import scanners
from synthfair_hf.domains.phantom import anatomy, thorax
from synthfair_hf.domains.phantom.phantom import Exogenous, Phantom, PhantomSource, sample_noise
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.source import patient_split
from synthfair_hf.errors import InputError

WORLD = Phantom()
SCHEMA = PHANTOM.covariates
GRAPH = CausalGraph(SCHEMA.names, PHANTOM.edges)
NOISE = sample_noise(12, seed=7)
OBSERVED = WORLD.covariates(NOISE)
RADIOGRAPHS = WORLD.render(OBSERVED, NOISE, 64)
ANOTHER = {"age": 31.5, "sex": "female", "race": "black", "habitus": 33.0, "finding": "effusion", "view": "AP"}
INTERVENTIONS = [{name: value} for name, value in (ANOTHER | {"scanner": "portable"}).items()]

# One body on one scanner in one view, so that a measure sees one cause at a time.
STANDARD = {
    "age": 45,
    "sex": "male",
    "race": "white",
    "habitus": 25,
    "finding": "no_finding",
    "view": "PA",
    "scanner": "flatpanel",
}
CENTIMETRES = ((np.arange(128) + 0.5) / 128 - 0.5) * thorax.FIELD


def radiograph(**do):
    return WORLD.counterfactual(NOISE, STANDARD | do, 128)[0]


def window(radiographs, left, right, top, bottom):
    rows = (top < CENTIMETRES) & (bottom > CENTIMETRES)
    columns = (left < CENTIMETRES) & (right > CENTIMETRES)
    return radiographs[:, rows][:, :, columns]


def covariate_noise(n):
    """Noise of many subjects whose radiographs are not wanted."""
    rng = np.random.default_rng(0)
    drawn = {
        v.name: (rng.gumbel(size=(n, len(v.levels))) if v.categorical else rng.normal(size=(n, 1))).astype(np.float32)
        for v in SCHEMA.walk()
    }
    return Exogenous(drawn, np.empty((n, 0)), np.empty((n, 0)), np.empty((n, 0)))


def equal(first, second):
    return all(np.array_equal(first[name], second[name]) for name in SCHEMA.names)


def test_radiographs_are_finite_and_in_range():
    assert RADIOGRAPHS.shape == (12, 64, 64)
    assert RADIOGRAPHS.dtype == np.float32
    assert np.isfinite(RADIOGRAPHS).all()
    assert RADIOGRAPHS.min() >= 0
    assert RADIOGRAPHS.max() <= 1


def test_doing_nothing_and_doing_what_was_observed_change_nothing():
    values = SCHEMA.decode(OBSERVED)
    for do in ({}, values, *({name: values[name]} for name in SCHEMA.names)):
        radiographs, covariates = WORLD.counterfactual(NOISE, do, 64)
        assert equal(covariates, OBSERVED)
        np.testing.assert_array_equal(radiographs, RADIOGRAPHS)


@pytest.mark.parametrize("do", INTERVENTIONS, ids=lambda do: next(iter(do)))
def test_an_intervention_sets_its_variable_and_leaves_what_it_does_not_cause(do):
    (name,) = do
    changed = WORLD.covariates(NOISE, do)
    assert SCHEMA[name].decode(changed[name]) == [do[name]] * 12
    for other in set(SCHEMA.names) - {name} - GRAPH.descendants([name]):
        np.testing.assert_array_equal(changed[other], OBSERVED[other])


@pytest.mark.parametrize(("cause", "effect"), PHANTOM.edges)
def test_every_edge_carries_an_effect(cause, effect):
    noise = covariate_noise(4000)
    if SCHEMA[cause].categorical:
        worlds = [WORLD.covariates(noise, {cause: level})[effect] for level in SCHEMA[cause].levels]
    else:
        worlds = [WORLD.covariates(noise, {cause: value})[effect] for value in SCHEMA[cause].bounds]
    assert any(not np.array_equal(worlds[0], world) for world in worlds[1:])


@pytest.mark.parametrize("name", SCHEMA.names)
def test_every_covariate_moves_pixels_of_every_subject(name):
    variable = SCHEMA[name]
    values = variable.levels if variable.categorical else (18, 30, 44)
    radiographs = [radiograph(**{name: value}) for value in values]
    for first, second in pairwise(radiographs):
        assert (np.abs(first - second).max(axis=(1, 2)) > 0.005).all()


def test_a_subject_depends_on_its_number_and_the_seed_alone():
    alone = sample_noise(1, seed=7, first=5)
    np.testing.assert_array_equal(alone.grain, NOISE.grain[[5]])
    np.testing.assert_array_equal(alone.texture, NOISE.texture[[5]])
    np.testing.assert_array_equal(WORLD.counterfactual(alone, {}, 64)[0], RADIOGRAPHS[[5]])
    assert not np.array_equal(sample_noise(1, seed=8, first=5).anatomy, alone.anatomy)
    backward = np.arange(12)[::-1]
    np.testing.assert_array_equal(WORLD.counterfactual(NOISE[backward], {}, 64)[0], RADIOGRAPHS[::-1])


def test_noise_has_the_declared_distributions():
    noise = sample_noise(300, seed=1)
    for field in (noise.anatomy, noise.texture, noise.grain):
        assert abs(field.mean()) < 4 / np.sqrt(field.size)
        assert abs(field.std() - 1) < 4 / np.sqrt(2 * field.size)
    gumbel = np.concatenate([noise.covariates[v.name].ravel() for v in SCHEMA.walk() if v.categorical])
    assert abs(np.mean(gumbel < 0) - np.exp(-1)) < 4 * np.sqrt(0.25 / gumbel.size)
    assert abs(np.corrcoef(noise.anatomy.T) - np.eye(len(anatomy.ANATOMY))).max() < 6 / np.sqrt(300)


def test_continuous_equations_by_their_closed_form_quantiles():
    """Logit-normal: P(value < low + span sigmoid(m + s z)) = Phi(z)."""
    n = 40_000
    noise = covariate_noise(n)
    normal = {-1.0: 0.158655, 0.0: 0.5, 1.5: 0.933193}
    for z, share in normal.items():
        age = 18 + 77 / (1 + np.exp(-(0.15 + 0.9 * z)))
        assert abs(np.mean(WORLD.covariates(noise)["age"] < age) - share) < 4 * np.sqrt(0.25 / n)
        # Age 70 is one unit of t; habitus of women there is centred on -0.55 - 0.35 + 0.15 + 0.12.
        habitus = 15 + 30 / (1 + np.exp(-(-0.63 + 0.55 * z)))
        found = WORLD.covariates(noise, {"age": 70, "sex": "female"})["habitus"]
        assert abs(np.mean(found < habitus) - share) < 4 * np.sqrt(0.25 / n)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize(
    ("do", "name", "shares"),
    [
        ({}, "sex", softmax([0, -0.08])),
        ({}, "race", [0.60, 0.25, 0.15]),
        ({"age": 50, "sex": "male", "race": "white"}, "finding", softmax([1.2, 0, -0.8])),
        ({"age": 70, "sex": "male", "race": "white"}, "finding", softmax([1.2, 0.3, -0.1])),
        ({"age": 50, "sex": "female", "race": "black"}, "finding", softmax([1.2, 0.1, -0.9])),
        ({"age": 50, "finding": "no_finding"}, "view", softmax([0, -1.0])),
        ({"age": 30, "finding": "effusion"}, "view", softmax([0, -0.5])),
        ({"view": "PA"}, "scanner", [0.55, 0.35, 0.10]),
        ({"view": "AP"}, "scanner", [0.15, 0.30, 0.55]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_categorical_equations_by_softmax_of_their_declared_logits(do, name, shares):
    n = 40_000
    found = WORLD.covariates(covariate_noise(n), do)[name]
    counts = np.bincount(found, minlength=len(shares)) / n
    assert np.abs(counts - shares).max() < 4 * np.sqrt(0.25 / n)


@pytest.mark.parametrize("finding", ["pneumonia", "effusion"])
def test_a_finding_moves_pixels_inside_its_mask_only_and_brightens_them(finding):
    healthy, sick = radiograph(), radiograph(finding=finding)
    mask = WORLD.lesion_mask(WORLD.covariates(NOISE, STANDARD | {"finding": finding}), NOISE, 128)
    assert (mask.mean(axis=(1, 2)) > 0.005).all()
    assert (mask.mean(axis=(1, 2)) < 0.25).all()
    np.testing.assert_array_equal(healthy[~mask], sick[~mask])
    assert ((sick - healthy).max(axis=(1, 2)) > 0.05).all()
    # Noise and marker are common to both, so fluid in the place of air can only brighten.
    assert (sick >= healthy).all()
    assert not WORLD.lesion_mask(WORLD.covariates(NOISE, STANDARD), NOISE, 128).any()


def test_a_lesion_lies_in_the_lungs():
    """Where the finding acts, the healthy radiograph is darker than the mediastinum beside it."""
    healthy = radiograph()
    mask = WORLD.lesion_mask(WORLD.covariates(NOISE, STANDARD | {"finding": "pneumonia"}), NOISE, 128)
    for image, lesion in zip(healthy, mask, strict=True):
        assert np.median(image[lesion]) < window(image[None], -2, 2, 2, 5).mean() - 0.1


def test_scanner_moves_nothing_but_the_scan():
    """do(scanner) equals the known transform of the same scanless radiograph, noise included."""
    covariates = WORLD.covariates(NOISE, STANDARD)
    body = anatomy.measure(
        {"age": covariates["age"], "habitus": covariates["habitus"], "female": np.zeros(12), "ap": np.zeros(12)},
        np.full(12, anatomy.BONE_DENSITY["white"]),
        dict(zip(anatomy.ANATOMY, NOISE.anatomy.T, strict=True)),
    )
    drawn = thorax.Thorax(body, dict(zip(anatomy.ANATOMY, NOISE.anatomy.T, strict=True)), NOISE.texture, 128)
    plain = drawn.develop(drawn.lung_air(), 128)
    for scanner in SCHEMA["scanner"].levels:
        np.testing.assert_allclose(
            radiograph(scanner=scanner), scanners.acquire(plain, scanner, NOISE.grain), atol=1e-6
        )


def test_measured_sex_brightens_the_breasts():
    change = window(radiograph(sex="female") - radiograph(), -10, -6, 2, 6).mean(axis=(1, 2))
    assert (change > 0.03).all()


def test_measured_ap_magnifies_the_heart():
    def width(radiographs):
        row = window(radiographs, -11, 11, 0, 1.5).mean(axis=1)
        middle = (np.quantile(row, 0.15, axis=1) + row.max(axis=1)) / 2
        return (row > middle[:, None]).sum(axis=1) * thorax.FIELD / 128

    assert (width(radiograph(view="AP")) > width(radiograph()) + 1).all()


def test_measured_habitus_widens_the_trunk():
    def width(radiographs):
        return (window(radiographs, -19, 19, 8, 10).mean(axis=1) > 0.35).sum(axis=1) * thorax.FIELD / 128

    assert (width(radiograph(habitus=36)) > width(radiograph(habitus=18)) + 2).all()


def test_measured_age_unfolds_the_aorta():
    change = window(radiograph(age=85) - radiograph(age=25), 2, 5, -8, -3).mean(axis=(1, 2))
    assert (change > 0.03).all()


def test_measured_race_acts_on_bone_density_alone():
    """The order of the radiographs' mean brightness is that of the declared factors; the brightened pixels are bone."""
    change = radiograph(race="black") - radiograph(race="asian")
    assert (change >= -1e-6).all()
    ribs_and_spine = np.abs(window(change, -2, 2, -15, -8)).mean()
    assert ribs_and_spine > 5 * np.abs(window(change, -18, -16, 12, 18)).mean()


@pytest.mark.parametrize("scanner", SCHEMA["scanner"].levels)
def test_a_small_radiograph_is_the_averaged_large_radiograph(scanner):
    noise = NOISE[:6]
    small, large = (WORLD.counterfactual(noise, {"scanner": scanner}, resolution)[0] for resolution in (64, 256))
    averaged = large.reshape(6, 64, 4, 64, 4).mean(axis=(2, 4))
    inside = np.s_[:, 3:-3, 3:-3]  # the frame of collimation is drawn to whole pixels
    assert np.abs(small - averaged)[inside].mean() < 0.01
    assert np.abs(small - averaged[::-1])[inside].mean() > 0.03


def test_the_heart_is_on_the_patients_left_and_the_right_diaphragm_is_higher():
    mean = radiograph().mean(axis=0)[None]
    assert window(mean, 4, 7, 1, 4).mean() > window(mean, -7, -4, 1, 4).mean() + 0.1
    assert window(mean, -10, -8, 6.5, 8).mean() > window(mean, 8, 10, 6.5, 8).mean() + 0.03
    lungs = window(mean, -10, -6, -6, 2).mean()
    assert window(mean, -1, 1, -2, 4).mean() > lungs + 0.2
    assert window(mean, -6, 6, 14, 18).mean() > lungs + 0.2


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ({"sexx": "male"}, "do: 'sexx' is unknown; allowed: age, sex, race"),
        ({"sex": "femal"}, "did you mean 'female'"),
        ({"age": 130}, r"do\['age'\]: 130 is out of range; allowed: 0 to 100 years"),
        ({"age": [40, 50]}, r"do\['age'\]: 2 values for 12 subjects"),
        ({"view": None}, r"do\['view'\]: is missing; give one of"),
    ],
)
def test_a_wrong_intervention_is_answered_by_a_sentence(do, message):
    with pytest.raises(InputError, match=message):
        WORLD.covariates(NOISE, do)


def test_wrong_radiographs_are_answered_by_a_sentence():
    with pytest.raises(InputError, match="resolution: 8 is out of range; allowed: 16 to 1024"):
        WORLD.render(OBSERVED, NOISE, 8)
    with pytest.raises(InputError, match=r"covariates\['age'\]: 12 values with 12 missing"):
        WORLD.render({**OBSERVED, "age": np.full(12, np.nan, np.float32)}, NOISE, 64)
    with pytest.raises(InputError, match=r"covariates\['view'\]: 11 values"):
        WORLD.render({**OBSERVED, "view": OBSERVED["view"][1:]}, NOISE, 64)
    with pytest.raises(InputError, match="must not be negative"):
        sample_noise(2, seed=-1)


def test_source_is_the_world_seen_as_a_data_set():
    source = PhantomSource(12, seed=7)
    assert source.table == SCHEMA.decode(OBSERVED)
    assert len(source) == len(set(source.patient_ids)) == 12
    assert source.splits == [patient_split(patient) for patient in source.patient_ids]
    np.testing.assert_array_equal(source.image(3, 64), RADIOGRAPHS[3])
    image, covariates = source.draw(3, 64, np.random.default_rng(0))
    np.testing.assert_array_equal(image, RADIOGRAPHS[3])
    assert covariates == {name: values[3] for name, values in source.table.items()}
    expected = WORLD.counterfactual(NOISE, {"sex": "female"}, 64)[0][3]
    np.testing.assert_array_equal(source.counterfactual(3, {"sex": "female"}, 64), expected)
    with pytest.raises(IndexError):
        source.image(12, 64)


def test_a_source_tells_where_each_lesion_is():
    source, masks = PhantomSource(12, seed=7), WORLD.lesion_mask(OBSERVED, NOISE, 64)
    for index, finding in enumerate(source.table["finding"]):
        np.testing.assert_array_equal(source.lesion_mask(index, 64), masks[index])
        assert masks[index].any() == (finding != "no_finding")


def test_source_grows_without_changing_and_is_known_by_its_fingerprint():
    small, large = PhantomSource(5, seed=3), PhantomSource(1005, seed=3)
    assert {name: values[:5] for name, values in large.table.items()} == small.table
    assert large.patient_ids[:5] == small.patient_ids
    shares = {split: large.splits.count(split) / 1005 for split in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.70, "validation": 0.15, "test": 0.15}, abs=0.06)
    assert small.fingerprint == PhantomSource(5, seed=3).fingerprint
    assert len({small.fingerprint, large.fingerprint, PhantomSource(5, seed=4).fingerprint}) == 3
    with pytest.raises(InputError, match="num_subjects: 0 must be positive"):
        PhantomSource(0, seed=3)
