"""What the draws of a plan promise of every view, by brute force on the plan's rows."""

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.store import PLAN, read_plan
from synthfair_hf.views.layout import known
from synthfair_hf.views.view import get_view

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))
GROUPS = {"age": {"under 50 years": 30.0, "50 years and older": 70.0}}


@lru_cache(maxsize=64)
def make(num_subjects: int, factors=("sex", "finding", "scanner"), strata=("age",), **changed: Any) -> GenerationPlan:
    preset = PRESET.model_copy(update={"strata": strata})
    return GenerationPlan(preset=preset, model_revision="r", num_subjects=num_subjects, factors=factors, **changed)


TABLES: dict[str, dict[str, np.ndarray]] = {}


def train(plan: GenerationPlan) -> dict[str, np.ndarray]:
    """The rows of train as columns that `mask` takes."""
    if plan.fingerprint in TABLES:
        return TABLES[plan.fingerprint]
    columns = defaultdict(list)
    for shard in plan.shards():
        for row in plan.rows(shard) if shard.split == "train" else ():
            columns["split"].append(row.split)
            columns["subject"].append(row.subject)
            columns["draw"].append(row.draw)
            stratum = dict(zip(plan.strata, row.stratum, strict=True))
            for name in (*plan.factors, *plan.strata):
                value = row.cell[name] if name in plan.factors else stratum[name]
                columns[name].append(plan.preset.covariates[name].encode_value(GROUPS.get(name, {}).get(value, value)))
    TABLES[plan.fingerprint] = {name: np.array(values) for name, values in columns.items()}
    return TABLES[plan.fingerprint]


def kept(plan: GenerationPlan, name: str) -> dict[str, np.ndarray]:
    columns = train(plan)
    mask = get_view(name, plan.preset).mask(columns)
    return {key: values[mask] for key, values in columns.items()}


def first(plan: GenerationPlan, rows: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Which rows are in the first group of a contrast."""
    contrast = plan.preset.contrasts[name]
    if contrast.threshold is not None:
        return rows[name] < contrast.threshold
    return rows[name] == plan.preset.covariates[name].levels.index(contrast.first)


def shares(plan: GenerationPlan, attribute: str, other: str | None) -> Iterator[tuple[int, list[int], list[set]]]:
    """For each percentage of an imbalance, or a correlation, the rows, those of the first group, and their keys."""
    for percent in range(1, 100):
        stem = f"{attribute}_imbalanced" if other is None else f"{other}_{attribute}_correlated"
        rows = kept(plan, f"{stem}_{percent}_{100 - percent}")
        own = first(plan, rows, attribute)
        sides = [own] if other is None else [own & first(plan, rows, other), own & ~first(plan, rows, other)]
        names = [name for name in rows if name != "split"]
        keys = [set(zip(*(rows[name][side] for name in names), strict=True)) for side in sides]
        yield len(own), [int(side.sum()) for side in sides], keys


designs = st.sampled_from(
    [
        (("sex", "finding", "scanner"), ("age",)),
        (("sex", "finding", "scanner"), ()),
        (("sex", "finding"), ("age", "view")),
        (("scanner", "sex"), ("view",)),
    ]
)


@settings(deadline=None, max_examples=12)
@given(designs, st.integers(2, 10), st.integers(0, 99), st.data())
def test_shares_are_exact_over_the_whole_view_and_sizes_mirrors_and_nesting_hold(design, strata_size, seed, data):
    factors, strata = design
    number = 2 ** len(strata) * 4 * strata_size
    plan = make(number, factors, strata, seed=seed)
    attribute = data.draw(st.sampled_from([name for name in (*factors, *strata) if name != "finding"]))
    findings = [None, "finding"] if "finding" in factors and attribute in factors else [None]
    other = data.draw(st.sampled_from(findings))
    found = list(shares(plan, attribute, other))
    (size,) = {one for one, _, _ in found}
    half = size if other is None else size / 2
    subjects = len(plan.subjects["train"]) / (2 if attribute in strata else 1)
    for percent, (_, counts, keys) in enumerate(found, start=1):
        wanted = [percent, 100 - percent][: len(counts)]
        for count, share in zip(counts, wanted, strict=True):
            assert abs(count - half * share / 100) <= half / subjects / 2 + 1e-9, percent
        if percent != 50:
            # the one subject in the middle of an odd number is in one of both halves
            assert [half - count for count in counts] == found[99 - percent][1], "the mirror"
        if percent > 1:
            assert found[percent - 2][2][0] <= keys[0], "nested in strength"
            assert found[percent - 2][2][-1] <= keys[-1] or other is not None
    if len(plan.subjects["train"]) % 2 == 0:
        assert found[49][1] == [half / 2] * len(found[49][1]), "the twin"


@settings(deadline=None, max_examples=12)
@given(st.sampled_from([10, 14, 16, 20, 28, 36, 44]), st.integers(1, 99), st.integers(1, 99))
def test_a_joined_view_has_its_rows_at_every_strength_and_an_exact_twin(number, one, other):
    plan = make(number)
    name = f"finding_scanner_correlated_{one}_{100 - one}+sex_imbalanced_{other}_{100 - other}"
    view, rows = get_view(name, plan.preset), kept(plan, name)
    twin = kept(plan, str(view.twin))
    assert len(rows["sex"]) == len(twin["sex"])
    for finding in (0, 1):
        inside = twin["finding"] == finding
        assert int(first(plan, twin, "sex")[inside].sum()) * 2 == int(inside.sum())
        assert int(first(plan, twin, "scanner")[inside].sum()) * 2 == int(inside.sum())
    # three pieces of the draws meet in each finding, and each end is rounded once
    assert abs(first(plan, rows, "sex").mean() - other / 100) <= 1.5 / len(plan.subjects["train"]) + 1e-9


def test_the_demo_and_ten_subjects_plant_what_the_names_say():
    men = {
        name: np.unique(first(make(number), kept(make(number), name), "sex"), return_counts=True)[1].tolist()
        for number, name in [
            (28, "sex_imbalanced_5_95"),
            (28, "sex_imbalanced_95_5"),
            (28, "sex_imbalanced_85_15"),
            (28, "finding_scanner_correlated_50_50+sex_imbalanced_50_50"),
        ]
    }
    # rows of women, then of men: 20 subjects in six cells of findings and scanners, or two of each finding
    assert men == {
        "sex_imbalanced_5_95": [19 * 6, 6],
        "sex_imbalanced_95_5": [6, 19 * 6],
        "sex_imbalanced_85_15": [3 * 6, 17 * 6],
        "finding_scanner_correlated_50_50+sex_imbalanced_50_50": [20, 20],
    }
    ten = make(10)
    for name in ("sex_imbalanced_50_50", "age_imbalanced_50_50", "finding_scanner_correlated_50_50"):
        rows = kept(ten, name)
        attribute = get_view(name, ten.preset).attributes[-1]
        assert first(ten, rows, attribute).mean() == 0.5


def test_one_subject_of_each_stratum_at_most_has_its_rows_divided():
    for number in (10, 28, 52):
        plan = make(number)
        for percent in range(1, 100):
            rows = kept(plan, f"sex_imbalanced_{percent}_{100 - percent}")
            divided = defaultdict(set)
            for subject, man, old in zip(rows["subject"], first(plan, rows, "sex"), rows["age"] > 50, strict=True):
                divided[old, subject].add(man)
            both = [old for (old, _), men in divided.items() if len(men) > 1]
            assert len(both) == len(set(both))


def test_no_draw_is_a_share_and_each_has_its_mirror():
    for number in (14, 28, 56, 140):
        draws = np.unique(train(make(number))["draw"])
        assert not set(draws.tolist()) & {part / 10**4 for part in range(1, 10**4)}
        assert np.allclose(draws, 1 - draws[::-1], rtol=0, atol=1e-15)
        for percent in range(1, 100):
            below, above = (draws < percent / 100).sum(), (draws >= (100 - percent) / 100).sum()
            assert below == above


@pytest.mark.parametrize("number", [1430, 1450, 1474, 1510])
def test_files_of_a_large_train_hold_the_draws_that_their_names_say(number):
    plan = make(number, factors=("sex", "scanner"))
    assert plan.partitioned
    names = []
    for shard in plan.shards():
        rows = plan.rows(shard)
        held = 0
        for name, members in shard.files.items():
            own = [row for row in rows if row.member in members]
            held += len(own)
            assert own
            if shard.split == "train":
                low, high = known(name, plan.preset)["draw"]
                assert all(low <= row.draw < high for row in own), name
            names.append(name)
        assert held == len(rows)
    assert len(names) == len(set(names))
    stems = [shard.stem for shard in plan.shards()]
    assert len(stems) == len(set(stems))
    straddling = [shard for shard in plan.shards() if len({name[-13:] for name in shard.files}) > 1]
    assert bool(straddling) == (len(plan.groups["train", ("under 50 years",)]) % 10 != 0)


def test_the_first_version_has_the_draws_it_had():
    plan = make(28, draws_version=1)
    draws = defaultdict(list)
    for shard in plan.shards():
        for row in plan.rows(shard):
            draws[row.split, row.stratum, row.member].append(row.draw)
    for (split, _, _), found in draws.items():
        n = len(plan.subjects[split]) // 2
        assert sorted(found) == [(rank + 0.5) / n for rank in range(n)]


def test_a_plan_stored_without_a_version_is_read_as_the_first_and_is_itself(tmp_path):
    before = make(28, draws_version=1)
    stored = {name: value for name, value in before.model_dump(mode="json").items() if name != "draws_version"}
    (tmp_path / "records").mkdir()
    (tmp_path / PLAN).write_text(json.dumps(stored))
    assert read_plan(tmp_path) == before
    assert read_plan(tmp_path).fingerprint == before.fingerprint != make(28).fingerprint
    (tmp_path / PLAN).write_text(json.dumps(make(28).model_dump(mode="json")))
    assert read_plan(tmp_path) == make(28)
