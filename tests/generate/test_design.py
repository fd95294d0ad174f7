import json
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.generate.allocation import Allocation
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.rows import Row
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.schema import SPLITS
from synthfair_hf.views.draws import places
from synthfair_hf.views.shares import largest_remainder
from synthfair_hf.views.view import curated_views, get_view

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))
UNDER, OLDER = "under 50 years", "50 years and older"


def make(**changed: Any) -> GenerationPlan:
    return GenerationPlan(**{"preset": PRESET, "model_revision": "r1", "num_subjects": 140, **changed})


def all_rows(plan: GenerationPlan) -> list[Row]:
    return [row for shard in plan.shards() for row in plan.rows(shard)]


def shares(*levels: str) -> st.SearchStrategy[dict[str, float]]:
    weights = st.lists(st.integers(1, 20), min_size=len(levels), max_size=len(levels))
    return weights.map(lambda found: {level: one / sum(found) for level, one in zip(levels, found, strict=True)})


SEX = shares("male", "female")
SCANNER = shares("flatpanel", "computed", "portable")
AGE = shares(UNDER, OLDER)
VIEW = shares("PA", "AP")


@settings(max_examples=20)
@given(AGE, VIEW, st.integers(200, 900), st.booleans())
def test_subjects_have_the_shares_of_a_target_by_largest_remainder_in_every_split(age, view, number, both):
    plan = make(num_subjects=number, target={"view": view, "age": age} if both else {"age": age})
    assert plan.strata == (("age", "view") if both else ("age",))
    subjects = {(row.subject, row.split, row.stratum) for row in all_rows(plan)}
    found = Counter((split, stratum) for _, split, stratum in subjects)
    joint = [(one,) for one in age] if not both else [(one, other) for one in age for other in view]
    parts = [math.prod({**age, **view}[group] for group in stratum) for stratum in joint]
    for split, size in zip(SPLITS, largest_remainder(number, list(SPLITS.values())), strict=True):
        assert [found[split, stratum] for stratum in joint] == largest_remainder(size, parts)
    assert sorted(subject for subject, *_ in subjects) == list(range(number))
    for row in all_rows(plan)[::50]:
        assert row.subject in plan.groups[row.split, row.stratum]


@settings(max_examples=20)
@given(SEX, SCANNER, AGE, st.sampled_from([500, 10]))
def test_rows_have_the_shares_of_a_target_to_the_nearest_subject(sex, scanner, age, partitioned_from):
    plan = make(
        target={"sex": sex, "scanner": scanner, "age": age},
        num_subjects=600,
        subjects_per_shard=7,
        partitioned_from=partitioned_from,
    )
    rows = all_rows(plan)
    found = Counter((row.split, row.stratum, row.cell["sex"], row.cell["scanner"]) for row in rows)
    largest = max(sex.values()) * max(scanner.values())
    for (split, stratum), subjects in plan.groups.items():
        for one in sex:
            for other in scanner:
                wanted = len(subjects) * sex[one] * scanner[other] / largest
                # two levels of the finding, which is not targeted
                assert abs(found[split, stratum, one, other] / 2 - wanted) <= 0.5 + 1e-9
    assert len(rows) == len({row.id for row in rows}) == plan.num_rows
    summary = plan.summary()
    assert summary["rows"] == Counter(row.split for row in rows)
    assert summary["cells"] == len({(row.split, row.stratum, *row.cell.values()) for row in rows})
    assert json.loads(json.dumps(summary)) == summary
    for shard in plan.shards():
        own = plan.rows(shard)
        assert len(own) == plan.count(shard)
        held = Counter(name for name, members in shard.files.items() for row in own if row.member in members)
        assert set(held) == set(shard.files), "a file without rows"
        assert sum(held.values()) == len(own)


@settings(max_examples=20)
@given(SEX, SCANNER, st.integers(2, 20))
def test_families_are_paired_and_a_smaller_share_keeps_fewer_of_the_same_rows(sex, scanner, divisor):
    def kept(scanner):
        plan = make(target={"sex": sex, "scanner": scanner})
        families = defaultdict(set)
        for row in all_rows(plan):
            families[row.subject].add(row.member)
        return plan, families

    plan, families = kept(scanner)
    joint = [sex[cell["sex"]] * scanner[cell["scanner"]] for cell in plan.cells]
    complete = {member for member, share in enumerate(joint) if share == max(joint)}
    for members in families.values():
        assert complete <= members
        smallest = min(joint[member] for member in members)
        assert members >= {member for member, share in enumerate(joint) if share > smallest}
    if scanner["portable"] < max(scanner.values()):
        rest = 1 - scanner["portable"]
        smaller = scanner["portable"] / divisor
        others = {level: share * (1 - smaller) / rest for level, share in scanner.items()}
        _, fewer = kept({**others, "portable": smaller})
        assert all(fewer[subject] <= families[subject] for subject in families)


def test_equal_shares_are_the_balanced_rows():
    plan, balanced = make(target={"sex": {"male": 0.5, "female": 0.5}}), make()
    assert plan.fingerprint != balanced.fingerprint
    content = [
        [(row.subject, row.member, row.draw, row.stratum, row.cell) for row in all_rows(one)]
        for one in (plan, balanced)
    ]
    assert content[0] == content[1]


@settings(max_examples=30)
@given(st.integers(1, 3000), st.floats(0.01, 1), st.integers(0, 2**32))
def test_every_stretch_of_draw_holds_its_part_of_a_cell(n, share, seed):
    ranks = np.random.default_rng(seed).permutation(n)
    found = places(ranks)
    assert np.allclose(np.sort(found), (np.arange(n) + 0.5) / n)
    kept = np.cumsum(found[np.argsort(ranks)] < share)
    assert np.abs(kept - share * np.arange(1, n + 1)).max() <= 4


def test_a_view_of_another_variable_does_not_trade_what_is_targeted():
    plan = make(num_subjects=2000, target={"sex": {"male": 0.7, "female": 0.3}})
    codes = {name: plan.preset.covariates[name] for name in ("sex", "scanner")}
    rows = [row for row in all_rows(plan) if row.split == "train"]
    columns = {name: np.array([one.encode_value(row.cell[name]) for row in rows]) for name, one in codes.items()}
    columns |= {"draw": np.array([row.draw for row in rows]), "split": np.array(["train"] * len(rows))}
    kept = get_view("scanner_imbalanced_90_10", plan.preset).mask(columns)
    for level in ("portable", "flatpanel"):
        shown = kept & (columns["scanner"] == codes["scanner"].encode_value(level))
        assert (columns["sex"][shown] == 0).mean() == pytest.approx(0.7, abs=0.01)
    portable = columns["scanner"][kept] == codes["scanner"].encode_value("portable")
    assert portable.mean() == pytest.approx(0.9, abs=0.005)


def test_what_is_targeted_is_not_among_the_curated_views():
    plan = make(target={"sex": {"male": 0.7, "female": 0.3}, "age": {UNDER: 0.6, OLDER: 0.4}})
    assert (plan.preset.factors, plan.preset.strata, plan.strata) == (("finding", "scanner"), (), ("age",))
    names = [view.name for view in curated_views(plan.preset)]
    assert not [name for name in names if "sex" in name or "age_" in name]
    assert "finding_scanner_correlated_90_10" in names
    assert "sex" not in curated_views(plan.preset)[0].sentence
    again = GenerationPlan(**json.loads(plan.model_dump_json()))
    assert (again, again.fingerprint) == (plan, plan.fingerprint)
    assert all_rows(again) == all_rows(plan)


def test_names_of_paths_and_any_order_mean_the_same_target():
    plan = make(target={"age": {UNDER: 0.6, OLDER: 0.4}, "sex": {"male": 0.7, "female": 0.3}})
    same = make(target={"sex": {"female": 0.3, "male": 0.7}, "age": {"50_years_and_older": 0.4, "under_50_years": 0.6}})
    assert (same.fingerprint, all_rows(same)) == (plan.fingerprint, all_rows(plan))
    ages = {"factors": ("age",), "levels": {"age": (30, 60.1)}}
    assert make(**ages, target={"age": {"30.0": 0.9, "60.10": 0.1}}).target == {"age": {"30.0": 0.9, "60.1": 0.1}}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"sxe": {"male": 1}},
            "target: 'sxe' is unknown; allowed: sex, finding, scanner, age, view; did you mean 'sex'",
        ),
        ({"sex": {"mal": 0.5, "female": 0.5}}, r"target\['sex'\]: 'mal' is unknown; .*did you mean 'male'"),
        ({"sex": {"male": 1.0}}, r"target\['sex'\]: female not named; give every level its share"),
        ({"sex": {}}, r"target\['sex'\]: male, female not named"),
        ({"sex": {"male": 1.0, "female": 0.0}}, r"target\['sex'\]: 0 of female is not allowed; give a share above 0"),
        ({"sex": {"male": 1.5, "female": -0.5}}, r"target\['sex'\]: -0.5 of female is not allowed"),
        ({"sex": {"male": float("nan"), "female": 0.5}}, "target.sex.male: nan is invalid"),
        ({"sex": {"male": 0.7, "female": 0.2}}, r"target\['sex'\]: the shares sum to 0.9; they must sum to 1"),
        ({"age": {UNDER: 0.5, "under_50_years": 0.5}}, r"target\['age'\]: under 50 years is named twice"),
        (
            {"age": {UNDER: 0.99, OLDER: 0.01}},
            r"num_subjects: 140 .* a subject in each of 2 strata by this target; \d+ can",
        ),
    ],
)
def test_a_target_that_cannot_be_met_is_refused_in_one_sentence(target, message):
    with pytest.raises(InputError, match=message) as error:
        make(target=target)
    assert "\n" not in str(error.value)


@settings(max_examples=20)
@given(AGE, st.integers(1, 60))
def test_the_number_that_is_named_instead_can_be_planned(age, number):
    allocation = Allocation(number, tuple(SPLITS.values()), tuple(age.values()), balanced=False)
    assert allocation._replace(num_subjects=allocation.nearest).fills
    assert not allocation._replace(num_subjects=allocation.nearest - 1).fills


@settings(max_examples=20)
@given(AGE, st.lists(st.integers(0, 40), min_size=6, max_size=6))
def test_the_largest_number_agrees_with_trying_them_all(age, numbers):
    available = np.reshape(numbers, (3, 2)).tolist()
    allocation = Allocation(120, tuple(SPLITS.values()), tuple(age.values()), balanced=False)
    tried = (allocation._replace(num_subjects=number) for number in range(1, 121))
    possible = [one.num_subjects for one in tried if one.fills and (np.array(one.counts) <= available).all()]
    assert allocation.largest(available) == max(possible, default=0)


@pytest.mark.parametrize(("real", "partitioned_from"), [(False, 500), (True, 5)])
def test_a_targeted_data_set_is_written_sound_and_its_card_tells(
    tmp_path, make_plan, pipeline, source, real, partitioned_from
):
    of_source = {"source": source.name, "source_fingerprint": source.fingerprint} if real else {}
    target = {"sex": {"male": 0.7, "female": 0.3}, "age": {UNDER: 0.4, OLDER: 0.6}}
    plan = make_plan(num_subjects=40, target=target, partitioned_from=partitioned_from, **of_source)
    record = generate(plan, pipeline, tmp_path, source if real else None, progress=False)
    write_dataset_card(tmp_path, plan.preset, record, "cc-by-4.0")
    assert verify(tmp_path) == []
    assert record.counts["rows"] == plan.num_rows < 40 * 12
    text = (tmp_path / "README.md").read_text()
    assert "age under 50 years 0.4, 50 years and older 0.6" in text
    assert "sex_imbalanced" not in text.partition("### Views")[2].partition("## Dataset Creation")[0]
    assert generate(plan, pipeline, tmp_path, source if real else None, progress=False) == record


def asked(monkeypatch, words: list[str]) -> dict[str, Any]:
    """What the command line asks of `generate_dataset`."""
    found: dict[str, Any] = {}

    def note(**settings: Any) -> dict[str, Any]:
        found.update(settings)
        return {"finished": False}

    monkeypatch.setattr("synthfair_hf.generate.dataset.generate_dataset", note)
    assert main(["generate", "--num_subjects", "28", *words]) == 0
    return found


def test_the_command_line_says_what_a_plan_says(monkeypatch, tmp_path, capsys):
    words = ["--target", "sex=male:0.7,female:0.3", "age=under_50_years:0.6,50_years_and_older:0.4"]
    found = asked(
        monkeypatch, [*words, "--factors", "sex", "bmi", "--levels", "bmi=20,30", "--gate_tolerance", "bmi=5"]
    )
    target = {"sex": {"male": 0.7, "female": 0.3}, "age": {"under_50_years": 0.6, "50_years_and_older": 0.4}}
    assert (found["target"], found["levels"], found["gate_tolerance"]) == (target, {"bmi": ("20", "30")}, {"bmi": 5.0})
    path = tmp_path / "plan.yaml"
    path.write_text(f"target:\n  - {words[1]}\n  - {words[2]}\nlevels: bmi=20,30\n")
    found = asked(monkeypatch, ["--config_file", str(path)])
    assert (found["target"], found["levels"]) == (target, {"bmi": ("20", "30")})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "sex"], "--target: 'sex' is not NAME=VALUE"),
        (["--target", "sex=male"], "--target: 'male' is not LEVEL:SHARE,...; write it as sex=male:0.7,female:0.3"),
        (["--target", "sex=male:half,female:0.5"], "--target: 'half' is invalid; give a finite number"),
        (["--target", "sex=male:0.5,male:0.5"], "is not LEVEL:SHARE"),
        (["--gate_tolerance", "age=x"], "--gate_tolerance: 'x' is invalid; give a finite number"),
        (
            ["--factors", "age", "--levels", "age=30,old"],
            "--levels['age']: 'old' is not a number; give years in [0, 100]",
        ),
        (
            ["--factors", "age", "--levels", "age=30,300"],
            "--levels['age']: 300.0 is out of range; allowed: 0 to 100 years",
        ),
    ],
)
def test_words_that_cannot_be_read_are_refused(tmp_path, capsys, words, message):
    assert main(["generate", "--num_subjects", "28", "--output_dir", str(tmp_path / "never"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "never").exists()
