import json
from collections import Counter, defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.preset import Network
from synthfair_hf.errors import InputError
from synthfair_hf.generate.design import Support
from synthfair_hf.generate.numerics import Numerics
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.rows import Row
from synthfair_hf.records import fingerprint
from synthfair_hf.schema import SPLITS
from synthfair_hf.views.layout import known
from synthfair_hf.views.shares import largest_remainder

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))


def make(**changed: Any) -> GenerationPlan:
    return GenerationPlan(**{"preset": PRESET, "model_revision": "r1", "num_subjects": 28, **changed})


def all_rows(plan: GenerationPlan) -> list[Row]:
    return [row for shard in plan.shards() for row in plan.rows(shard)]


def feasible(**changed: Any) -> bool:
    try:
        make(**changed)
    except InputError:
        return False
    return True


fractions = st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(any).map(lambda w: [x / sum(w) for x in w])


@given(st.integers(0, 10**7), fractions)
def test_largest_remainder_sums_exactly_and_stays_within_one(total, fractions):
    counts = largest_remainder(total, fractions)
    assert sum(counts) == total
    assert all(count >= 0 for count in counts)
    assert all(abs(count - total * fraction) < 1 + 1e-6 for count, fraction in zip(counts, fractions, strict=True))


def test_twenty_eight_subjects_in_two_strata_are_twenty_four_and_four():
    assert {split: len(subjects) for split, subjects in make().subjects.items()} == {
        "train": 20,
        "validation": 4,
        "test": 4,
    }


def test_nearest_possible_number_is_possible_and_none_is_nearer():
    possible = [number for number in range(1, 60) if feasible(num_subjects=number)]
    for number in set(range(1, 50)) - set(possible):
        with pytest.raises(InputError, match=f"num_subjects: {number} cannot") as error:
            make(num_subjects=number)
        nearest = int(str(error.value).rstrip(".").split()[-1])
        assert nearest in possible
        assert abs(nearest - number) == min(abs(other - number) for other in possible)


plans = st.builds(
    lambda half, per_shard, seed, factors: make(
        num_subjects=2 * half, subjects_per_shard=per_shard, seed=seed, factors=factors
    ),
    st.integers(7, 60),
    st.integers(1, 50),
    st.integers(-(2**70), 2**70),
    st.sampled_from([("sex",), ("scanner", "sex"), ("sex", "finding", "scanner"), ()]),
)


@settings(deadline=None, max_examples=30)
@given(plans)
def test_shards_partition_the_rows(plan):
    shards, rows = plan.shards(), all_rows(plan)
    assert [subject for shard in shards for subject in shard.subjects] == list(range(plan.num_subjects))
    assert len({shard.stem for shard in shards}) == len(shards)
    assert all(0 < len(shard.subjects) <= plan.subjects_per_shard for shard in shards)
    assert len({row.id for row in rows}) == len(rows) == plan.num_rows
    wanted = list(product(range(plan.num_subjects), (tuple(cell.items()) for cell in plan.cells)))
    assert [(row.subject, tuple(row.cell.items())) for row in rows] == wanted


@settings(deadline=None, max_examples=30)
@given(plans)
def test_every_cell_of_a_split_is_balanced_and_has_the_same_equally_spaced_draws(plan):
    draws: dict[tuple, list[float]] = defaultdict(list)
    strata: dict[tuple, list[float]] = defaultdict(list)
    for row in all_rows(plan):
        draws[row.split, *row.cell.values()].append(row.draw)
        strata[row.split, row.stratum].append(row.draw)
    assert len(draws) == len(SPLITS) * len(plan.cells)
    for (split, *_), found in draws.items():
        n = len(plan.subjects[split])
        # without factors there is no parity, and both strata have one half of the points, twice
        parts = [(rank + 0.5) / n for rank in range(n)] if plan.factors else [(r + 0.5) * 2 / n for r in range(n // 2)]
        assert np.allclose(sorted(found), sorted(parts * (1 if plan.factors else 2)), rtol=0, atol=1e-12)
        one, other = (sorted(found) for (of, _), found in strata.items() if of == split)
        assert one == other, "what trades strata trades equally many rows"


@settings(deadline=None, max_examples=30)
@given(plans)
def test_a_family_shares_all_but_its_cell_and_its_draws_differ_by_less_than_a_subject(plan):
    shared = {(row.subject_id, row.split, row.subject, row.seed, row.stratum) for row in all_rows(plan)}
    assert len(shared) == plan.num_subjects
    assert len({subject_id for subject_id, *_ in shared}) == plan.num_subjects
    draws = defaultdict(set)
    for row in all_rows(plan):
        draws[row.split, row.subject].add(row.draw)
    for (split, _), found in draws.items():
        assert max(found) - min(found) < 2 / len(plan.subjects[split])
        assert len(found) <= 2


def test_shard_files_are_named_by_split_and_number():
    stems = [shard.stem for shard in make(subjects_per_shard=3).shards()]
    assert stems == [
        *(f"train-{index:05d}-of-00007" for index in range(7)),
        *(f"{split}-{index:05d}-of-00002" for split in ("validation", "test") for index in range(2)),
    ]


def test_a_shard_of_a_million_rows_is_planned_alone():
    plan = make(num_subjects=84_000)
    shard = plan.shards()[500]
    assert plan.num_rows == 1_008_000
    assert [row.subject for row in plan.rows(shard)] == [subject for subject in shard.subjects for _ in range(12)]


def test_a_large_train_is_partitioned_by_cell_and_tenth_of_draw():
    plan = make(num_subjects=1450, subjects_per_shard=30)
    assert plan.partitioned
    assert not make(num_subjects=1420).partitioned
    shards = plan.shards()
    assert sorted(subject for shard in shards for subject in shard.subjects) == list(range(plan.num_subjects))
    assert len({shard.stem for shard in shards}) == len(shards)
    names = [name for shard in shards for name in shard.files]
    assert len(set(names)) == len(names)
    for shard in shards:
        assert sorted(member for members in shard.files.values() for member in members) == list(range(len(plan.cells)))
        rows = plan.rows(shard)
        for name, members in shard.files.items():
            told = known(name, plan.preset)
            assert told["split"] == shard.split
            for row in (row for place, row in enumerate(rows) if place % len(plan.cells) in members):
                if shard.split == "train":
                    low, high = told["draw"]
                    assert low <= row.draw < high
                    codes = {
                        factor: plan.preset.covariates[factor].encode_value(row.cell[factor]) for factor in row.cell
                    }
                    assert {factor: told[factor] for factor in row.cell} == codes
                    [threshold] = {end for end in told["age"] if np.isfinite(end)}
                    assert (row.stratum == ("under 50 years",)) == (told["age"] == (-np.inf, threshold))


def test_draws_are_shuffled_and_depend_on_the_seed():
    draws = [[row.draw for row in all_rows(make(seed=seed, num_subjects=200))] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] != sorted(draws[0])


@given(st.integers(), st.integers(14, 2**27).map(lambda half: 2 * half), st.data())
def test_seeds_fit_the_32_bits_torch_looks_at_and_no_two_are_equal(seed, num_subjects, data):
    plan = make(seed=seed, num_subjects=num_subjects)
    draws = st.tuples(st.integers(0, num_subjects - 1), st.integers(0, 15))
    asked = data.draw(st.sets(draws, min_size=2, max_size=20))
    seeds = {plan.subject_seed(*draw) for draw in asked}
    assert all(0 <= one < 2**32 for one in seeds)
    assert len(seeds) == len(asked)


def test_no_two_subjects_of_a_large_plan_draw_the_same_noise():
    plan = make(num_subjects=200_000)
    seeds = {plan.subject_seed(subject, attempt) % 2**32 for subject in range(200_000) for attempt in range(2)}
    assert len(seeds) == 400_000


def test_another_plan_seed_gives_other_subjects():
    plans = [make(seed=seed) for seed in range(20)]
    assert len({plan.subject_seed(subject) for plan in plans for subject in range(28)}) == 20 * 28


def test_a_row_tells_its_subjects_first_seed():
    plan = make()
    assert all(row.seed == plan.subject_seed(row.subject) for row in all_rows(plan))


CHANGED = {
    "preset": PRESET.model_copy(update={"edges": PRESET.edges[1:]}),
    "model_revision": "r2",
    "num_subjects": 30,
    "seed": 1,
    "factors": ("sex",),
    "levels": {"scanner": ("portable",)},
    "split_fractions": {"train": 0.5, "validation": 0.25, "test": 0.25},
    "subjects_per_shard": 99,
    "partitioned_from": 400,
    "batch_size": 17,
    "num_inference_steps": 8,
    "guidance_scale": 1.5,
    "resolution": 32,
    "world": "phantom",
    "source": "nih",
    "source_fingerprint": "f",
    "access": "open",
    "gate": "g",
    "gate_attempts": 2,
    "gate_tolerance": {"age": 5.0},
    "target": {"age": {"under 50 years": 0.5, "50 years and older": 0.5}},
    "draws_version": 1,
    "png_version": 1,
    "parquet_version": 1,
    "recipes": ({"view": "AP"}, {"view": "PA"}),
    "sampling": {"generator": "g", "pipeline": "p", "subjects": "s"},
}


@pytest.mark.parametrize("name", sorted(set(GenerationPlan.model_fields) - {"support", *Numerics.model_fields}))
def test_every_setting_changes_the_fingerprint(name):
    gate = {"gate": "g"} if name.startswith("gate_") else {}
    assert make(**gate, **{name: CHANGED[name]}).fingerprint != make(**gate).fingerprint


def reversed_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(one) for one in value] if isinstance(value, list) else value


def test_a_plan_stored_before_presets_named_a_network_is_still_itself():
    plan = make()
    stored = plan.model_dump(mode="json")
    del stored["preset"]["network"]
    assert GenerationPlan.model_validate(stored).fingerprint == plan.fingerprint
    other = plan.preset.model_copy(update={"network": Network(width=64)})
    assert plan.model_copy(update={"preset": other}).fingerprint == plan.fingerprint


def test_a_plan_stored_before_targets_support_and_worlds_is_still_itself():
    plan = make()
    later = ("target", "support", "world")
    stored = {name: value for name, value in plan.model_dump(mode="json").items() if name not in later}
    assert GenerationPlan.model_validate(stored).fingerprint == plan.fingerprint
    del stored["preset"]["network"], stored["preset"]["views"]
    told = {name: value for name, value in stored.items() if name not in Numerics.model_fields}
    assert fingerprint(told) == plan.fingerprint, "what is not asked for is no part of a plan's identity"
    seen = Support(observed="10 draws", out_of_support={"under 50 years / male": 0})
    assert make(support=seen).fingerprint == plan.fingerprint
    assert all_rows(make(support=seen)) == all_rows(plan)


def test_what_is_for_a_network_is_refused_of_a_world():
    for name, value in (("num_inference_steps", 4), ("guidance_scale", 2.0), ("mixed_precision", "bf16")):
        with pytest.raises(InputError, match=f"{name}: is for a network, and the world phantom has none"):
            make(world="phantom", **{name: value})


def test_which_views_are_listed_changes_no_row():
    plan = make()
    other = plan.model_copy(update={"preset": plan.preset.model_copy(update={"views": plan.preset.views[:1]})})
    assert other.fingerprint == plan.fingerprint


def test_fingerprint_ignores_the_order_of_keys_and_survives_json():
    plan = make(levels={"sex": ("male", "female"), "scanner": ("portable", "flatpanel")}, guidance_scale=1.5)
    written = json.loads(plan.model_dump_json())
    shuffled = reversed_keys(written)
    assert list(shuffled) != list(written)
    assert GenerationPlan(**shuffled).fingerprint == GenerationPlan(**written).fingerprint == plan.fingerprint
    assert all_rows(GenerationPlan(**shuffled)) == all_rows(plan)


def reachable(names: set[str]) -> set[str]:
    reached: set[str] = set()
    while new := {effect for cause, effect in PRESET.edges if cause in names | reached} - reached:
        reached |= new
    return reached


factual_values = st.fixed_dictionaries(
    {one.name: st.sampled_from(one.levels) if one.categorical else st.just(44.0) for one in PRESET.covariates.walk()}
)


@given(factual_values, st.sampled_from([("sex",), ("finding", "scanner"), ("view",), ("sex", "finding", "scanner")]))
def test_intervention_sets_what_differs_and_holds_what_that_causes(factual, factors):
    plan = make(factors=factors)
    for cell in plan.cells:
        target = {**factual, **cell}
        do = plan.intervention(cell, factual)
        differing = {name for name in target if target[name] != factual[name]}
        assert set(do) == differing | reachable(differing)
        assert all(do[name] == target[name] for name in do)
        assert set(do) <= set(plan.acted_on)
    assert sum(not plan.intervention(cell, factual) for cell in plan.cells) == 1


def test_a_continuous_factor_is_crossed_at_float32_values_and_needs_no_strata():
    plan = make(factors=("age", "sex"), levels={"age": (30, 60.1)}, num_subjects=27)
    assert plan.strata == ()
    assert len(plan.cells) == 4
    ages = [cell["age"] for cell in plan.cells]
    assert ages == PRESET.covariates["age"].decode(PRESET.covariates["age"].encode([30, 30, 60.1, 60.1]))
    assert plan.acted_on == ("age", "sex", "finding", "view", "scanner")


def test_strata_are_the_two_sides_of_the_contrast():
    plan = make()
    groups = ("under 50 years",), ("50 years and older",)
    assert [plan.stratum({"age": age}) for age in (0.0, 49.99, 50.0, 100.0)] == [groups[side] for side in (0, 0, 1, 1)]
    by_scanner = make(preset=PRESET.model_copy(update={"strata": ("scanner",)}), factors=("sex",))
    assert by_scanner.stratum({"scanner": "portable"}) == ("portable",)
    assert by_scanner.stratum({"scanner": "computed"}) is None


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 40), min_size=6, max_size=6))
def test_largest_num_subjects_agrees_with_trying_them_all(numbers):
    plan = make(num_subjects=100)
    available = dict(zip(plan.groups, numbers, strict=True))

    def served(number: int) -> bool:
        groups = make(num_subjects=number).groups
        return all(len(subjects) <= available[group] for group, subjects in groups.items())

    possible = [number for number in range(1, 101) if feasible(num_subjects=number) and served(number)]
    assert plan.largest_num_subjects(available) == max(possible, default=0)


@pytest.mark.parametrize(
    ("changed", "factors", "strata", "lost"),
    [
        ({}, ("sex", "finding", "scanner"), ("age",), set()),
        ({"factors": ("sex",)}, ("sex",), ("age",), set()),
        ({"factors": ("age",), "levels": {"age": (30, 70)}}, ("age",), (), set()),
        ({"factors": ("age",), "levels": {"age": (30, 40, 70)}}, ("age",), (), {"age"}),
        ({"factors": ("age",), "levels": {"age": (30,)}}, ("age",), (), {"age"}),
        ({"levels": {"scanner": ("portable", "computed")}}, ("sex", "finding", "scanner"), ("age",), {"scanner"}),
        ({"levels": {"scanner": ("portable", "flatpanel")}}, ("sex", "finding", "scanner"), ("age",), set()),
    ],
)
def test_the_preset_of_a_plan_tells_what_this_plan_balances(changed, factors, strata, lost):
    plan = make(**changed)
    assert (plan.preset.factors, plan.preset.strata, plan.strata) == (factors, strata, strata)
    assert set(PRESET.contrasts) - set(plan.preset.contrasts) == lost
    again = GenerationPlan(**json.loads(plan.model_dump_json()))
    assert (again, again.fingerprint) == (plan, plan.fingerprint)


def test_summary_counts_what_the_rows_are():
    plan = make(subjects_per_shard=3)
    rows, summary = all_rows(plan), plan.summary()
    assert summary["rows"] == Counter(row.split for row in rows)
    assert summary["subjects"] == {s: len({row.subject for row in rows if row.split == s}) for s in SPLITS}
    assert summary["shards"] == Counter(shard.split for shard in plan.shards())
    assert summary["cells"] == len({(row.split, row.stratum, *row.cell.values()) for row in rows})
    assert summary["family_size"] == 12
    assert summary["factors"] == {name: list(PRESET.covariates[name].levels) for name in plan.factors}
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_subjects": 0}, "num_subjects: 0 is invalid"),
        ({"num_subjects": float("nan")}, "num_subjects: nan is invalid"),
        ({"num_subject": 3}, "plan: 'num_subject' is unknown; allowed: .*did you mean 'num_subjects'"),
        ({"factors": ("Sex",)}, "factors: 'Sex' is unknown; .*did you mean 'sex'"),
        (
            {"factors": ("age",)},
            "factors: age is continuous; give the values to cross as levels of age, in years",
        ),
        ({"num_subjects": 2**28 + 2}, "num_subjects: 268435458 is invalid"),
        ({"factors": ("sex", "sex")}, "factors: sex, sex names a variable twice"),
        (
            {"factors": ("age",), "levels": {"age": (-5,)}},
            r"levels\['age'\]: -5.0 is out of range; allowed: 0 to 100 years",
        ),
        ({"levels": {"sex": ("Male",)}}, r"levels\['sex'\]: 'Male' is unknown; .*did you mean 'male'"),
        ({"levels": {"sex": ("male", "male")}}, r"levels\['sex'\]: .* distinct"),
        ({"levels": {"sex": ()}}, r"levels\['sex'\]: .* one or more"),
        ({"levels": {"view": ("PA",)}}, "levels: 'view' is unknown; allowed: sex, finding, scanner"),
        ({"split_fractions": {"train": 0.7, "test": 0.2}}, "they sum to 0.9; they must sum to 1"),
        ({"split_fractions": {"train": 1.5, "test": -0.5}}, r"split_fractions\['test'\]: -0.5 is negative"),
        ({"split_fractions": {"train": float("nan"), "test": 1}}, "split_fractions.train: nan is invalid"),
        (
            {"split_fractions": {"train": 0.8, "val": 0.2}},
            "split_fractions: 'val' is unknown; allowed: train, validation, test",
        ),
        ({"guidance_scale": float("inf")}, "guidance_scale: inf is invalid"),
        ({"guidance_scale": float("nan")}, "guidance_scale: nan is invalid"),
        ({"guidance_scale": -1}, "guidance_scale: -1 is invalid; give a finite number from 0 on"),
        ({"preset": PRESET.model_copy(update={"contrasts": {}})}, "strata: age has no contrast"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_sentence(changed, message):
    with pytest.raises(InputError, match=message) as error:
        make(**changed)
    assert "\n" not in str(error.value)


def test_a_setting_that_is_not_given_is_named():
    with pytest.raises(InputError, match="plan: num_subjects is not given"):
        GenerationPlan(preset=PRESET, model_revision="r1")


weights = st.lists(st.integers(1, 100), min_size=3, max_size=3)


@given(weights, st.sampled_from([0, 1e-9, -1e-9]))
def test_fractions_may_miss_one_by_rounding(values, excess):
    shares = {split: value / sum(values) + excess for split, value in zip(SPLITS, values, strict=True)}
    assert sum(map(len, make(num_subjects=10**6, split_fractions=shares).subjects.values())) == 10**6


@given(weights, st.sampled_from([1e-3, -1e-3, -0.2, 1]))
def test_fractions_are_never_renormalised(values, excess):
    shares = {split: value / sum(values) for split, value in zip(SPLITS, values, strict=True)}
    with pytest.raises(InputError, match="split_fractions"):
        make(num_subjects=10**6, split_fractions={**shares, "train": shares["train"] + excess})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gate_attempts": 3}, "are for a gate, and none is given"),
        ({"gate_tolerance": {"age": 5.0}}, "are for a gate, and none is given"),
        ({"gate": "g", "gate_attempts": 3, "source": "nih"}, "a real observation cannot be drawn again"),
    ],
)
def test_settings_of_a_gate_that_could_do_nothing_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        make(**settings)


def test_groups_that_would_share_a_file_are_refused():
    age = PRESET.contrasts["age"].model_copy(update={"first": "< 50 years", "second": ">= 50 years"})
    with pytest.raises(InputError, match=r"age: two of '< 50 years', '>= 50 years' have one name in paths"):
        make(preset=PRESET.model_copy(update={"contrasts": {**PRESET.contrasts, "age": age}}))


@pytest.mark.parametrize("key", [1, None, b"x", (1, 2)])
def test_a_field_that_is_named_by_no_text_is_one_sentence(key):
    with pytest.raises(InputError, match=r"^plan: a field is named by no text; give its fields by name\.$"):
        GenerationPlan(preset={key: 2}, model_revision="none", num_subjects=20)
