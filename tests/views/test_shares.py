"""What is said of a view's shares, against brute force on the rows of a plan, and where it is said."""

from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from datasets import get_dataset_config_names, load_dataset, load_dataset_builder
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.store import read_plan
from synthfair_hf.views.draws import Draws
from synthfair_hf.views.shares import Train, listed_views, realised_shares, unmet_views
from synthfair_hf.views.view import get_view

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))
AGES = {"under 50 years": 30.0, "50 years and older": 70.0}
NAMES = [
    *(name for name in PRESET.views if "race" not in name and "habitus" not in name and "black" not in name),
    "sex_imbalanced_85_15+age_imbalanced_35_65",
    "age_imbalanced_in_male_77_23",
    "finding_sex_correlated_65_35+scanner_imbalanced_in_male_91_9",
    "sex_imbalanced_97_3+finding_noise_in_female_13",
    "finding_noise_in_50_years_and_older_20",
    "scanner_imbalanced_88_12",
    "view_imbalanced_in_50_years_and_older_85_15",
]


@settings(deadline=None)
@given(
    st.integers(1, 2**28), st.sampled_from([1, 2, 4, 8]), st.integers(0, 7), st.booleans(), st.data()
)  # fmt: skip
def test_how_many_draws_are_below_an_edge_is_what_comparing_them_gives(size, parts, part, nudged, data):
    draws = Draws(size, parts, part % parts, nudged)
    near = data.draw(st.integers(0, 100 * 100)) / 10**4
    ranks = np.arange(max(0, int(near * size) - 300), min(size, int(near * size) + 300))
    expected = (ranks[0] if len(ranks) else 0) + int((draws.of(ranks) < near).sum())
    assert draws.below(near) == expected


@lru_cache(maxsize=8)
def plan_of(number, factors, strata, target, version) -> GenerationPlan:
    shares = {"": {}, "sex": {"sex": {"male": 0.7, "female": 0.3}}, "age": {"age": dict.fromkeys(AGES, 0.5)}}[target]
    preset = PRESET.model_copy(update={"strata": strata})
    given = {"factors": factors, "target": shares, "draws_version": version}
    return GenerationPlan(preset=preset, model_revision="r", num_subjects=number, **given)


def rows_of(plan: GenerationPlan) -> dict[str, np.ndarray]:
    rows = [row for shard in plan.shards() if shard.split == "train" for row in plan.rows(shard)]
    columns = {"split": np.array(["train"] * len(rows)), "draw": np.array([row.draw for row in rows])}
    for place, name in enumerate(plan.strata):
        words = [row.stratum[place] for row in rows]
        columns[name] = plan.preset.covariates[name].encode([AGES.get(word, word) for word in words])
    for name in plan.factors:
        columns[name] = plan.preset.covariates[name].encode([row.cell[name] for row in rows])
    return columns


@settings(deadline=None, max_examples=12)
@given(
    st.integers(7, 40),
    st.sampled_from([("sex", "finding", "scanner"), ("sex",), ("scanner",), ("finding", "sex")]),
    st.sampled_from([(), ("age",), ("age", "view")]),
    st.sampled_from(["", "", "sex", "age"]),
    st.sampled_from([1, 2]),
    st.data(),
)
def test_realised_shares_are_the_counts_of_the_rows(quarter, factors, strata, target, version, data):
    if target in strata or target in factors or not target:
        plan = plan_of(4 * quarter, factors, strata, target, version)
    else:
        plan = plan_of(4 * quarter, factors, strata, "", version)
    columns, names = rows_of(plan), [view.name for view in map_views(plan)]
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6, unique=True)):
        view = get_view(name, plan.preset)
        found = plan.train.realised(view)
        if {*view.attributes} <= {*factors, *plan.strata}:
            assert len(found) == len(view.promises)
        mask = view.mask(columns)
        kept = {key: values[mask] for key, values in columns.items()}
        observed = None if view.label is None else view.label.observed(kept)
        for one, promise in zip(found, view.promises, strict=len(found) == len(view.promises)):
            given_rows = all_of(promise.given, kept)
            chosen = all_of(promise.chosen, kept) if promise.chosen else observed != kept[view.label.variable]
            assert (one.rows, one.base) == (int((given_rows & chosen).sum()), int(given_rows.sum())), (name, one)


def map_views(plan):
    for name in NAMES:
        try:
            view = get_view(name, plan.preset)
        except ValueError:
            continue
        if {*view.attributes} <= {*plan.factors, *plan.strata}:
            yield view
    yield get_view("full", plan.preset)


def all_of(clauses, columns) -> np.ndarray:
    compare = {"==": np.equal, "<": np.less, ">=": np.greater_equal}
    kept = np.ones(len(columns["draw"]), dtype=bool)
    for column, operator, value in clauses:
        kept &= compare[operator](columns[column], value)
    return kept


def test_a_share_is_met_within_half_a_subject_who_is_there():
    met = {}
    for number in (10, 14, 28):
        train = plan_of(number, ("sex", "finding", "scanner"), ("age",), "", 2).train
        n = sum(train.sizes)
        for percent in range(1, 100):
            view = get_view(f"sex_imbalanced_{percent}_{100 - percent}", PRESET)
            (one,) = train.realised(view)
            assert abs(one.rows / 6 - n * percent / 100) <= 0.5 + 1e-9
            assert one.met == (one.rows not in (0, one.base))
            assert one.exact == (n * percent % 100 == 0)
            met[number, percent] = train.meets(view)
    assert met[28, 5]
    assert not met[28, 1]
    assert not met[10, 5]
    view = get_view("sex_imbalanced_85_15", PRESET)
    assert realised_shares(view, plan_of(28, ("sex", "finding", "scanner"), ("age",), "", 2).train) == ""
    before = plan_of(28, ("sex", "finding", "scanner"), ("age",), "", 1).train
    assert realised_shares(view, before) == (
        "The 20 subjects of train cannot give these shares: male 96 of 120 rows, 80 % instead of 85 %."
    )
    assert "sex_imbalanced_5_95" in unmet_views(PRESET, before)


def test_a_record_without_a_plans_settings_lists_everything():
    assert Train.of(PRESET, {}) is None
    assert {view.name for view in listed_views(PRESET, None)} >= {"full", "sex_imbalanced_95_5"}
    assert realised_shares(get_view("sex_imbalanced_1_99", PRESET), None) == ""


@pytest.fixture(scope="module")
def small(tmp_path_factory, write_store):
    """A data set of six training subjects."""
    return write_store(tmp_path_factory.mktemp("small") / "synthfair", 3)


def test_a_view_that_cannot_be_met_is_not_listed_and_can_be_named(small, caplog, monkeypatch):
    names = get_dataset_config_names("synthfair", data_dir=str(small))
    card = DatasetCard.load(small / "README.md")
    assert [config["config_name"] for config in card.data.configs] == [one for one in names if "_in_female_" not in one]
    assert "sex_imbalanced_90_10" in names
    assert "sex_imbalanced_5_95" not in names
    told = "The 6 subjects of train cannot give these shares: male 0 of 36 rows, 0 % instead of 5 %."
    assert f"- `sex_imbalanced_5_95`: {told}" in card.text
    said = []
    monkeypatch.setattr("synthfair_hf.views.builder.get_logger", lambda name: Said(said))
    builder = load_dataset_builder("synthfair", "sex_imbalanced_5_95", data_dir=str(small))
    assert builder.config.description.endswith(told)
    assert said == [f"sex_imbalanced_5_95: {told}"]
    stream = load_dataset("synthfair", "sex_imbalanced_5_95", data_dir=str(small), split="train", streaming=True)
    assert told in stream.info.description
    assert {row["sex"] for row in stream} == {1}
    near = load_dataset_builder("synthfair", "sex_imbalanced_90_10", data_dir=str(small)).config.description
    assert near.endswith("To the nearest of the 6 subjects of train: male 30 of 36 rows, 83.3 % instead of 90 %.")


class Said:
    def __init__(self, said: list[str]) -> None:
        self.warning = said.append


def test_the_command_line_says_what_a_view_of_a_data_set_is(small, tmp_path, capsys):
    words = ["views", "--data_dir", str(small), "--output_dir", str(tmp_path)]
    assert main([*words, "--view", "sex_imbalanced_95_5"]) == 0
    told = "The 6 subjects of train cannot give these shares: male 36 of 36 rows, 100 % instead of 95 %."
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "sex_imbalanced_95_5.html").read_text()
    assert main(words) == 0
    assert "sex_imbalanced_95_5: The 6 subjects" in capsys.readouterr().out


def test_views_are_listed_in_a_line_each_and_those_that_are_not_in_one(small, capsys):
    assert main(["views", "--data_dir", str(small)]) == 0
    *lines, unmet, following = capsys.readouterr().out.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    plan = read_plan(small)
    assert list(told) == [view.name for view in listed_views(plan.preset, plan.train)]
    assert (told["full"], told["sex_imbalanced_90_10"]) == ("every row", "male 90 %")
    assert told["finding_sex_correlated_90_10"] == "male in pneumonia 90 %, male in no_finding 10 %"
    assert max(map(len, lines)) < 200
    names = list(unmet_views(plan.preset, plan.train))
    reason = f"not listed, for 6 subjects of train cannot give the shares of {len(names)}: "
    assert unmet == reason + ", ".join(names)
    # the rest of each is told by the next command
    words = following.removeprefix("next: synthfair ").replace("NAME", names[0]).split()
    assert main(words) == 0
    told = capsys.readouterr().out
    assert get_view(names[0], plan.preset).sentence in told
    assert f"here: {unmet_views(plan.preset, plan.train)[names[0]]}" in told


def test_a_dry_run_names_what_will_not_be_listed():
    plan = plan_of(10, ("sex", "finding", "scanner"), ("age",), "", 2)
    told = plan.summary()["views_not_listed"]
    listed = {view.name for view in listed_views(plan.preset, plan.train)}
    assert "sex_imbalanced_5_95" in told
    assert not listed & told.keys()
    # each end of a joined view is rounded, so that it may be a subject off in any train
    ample = plan_of(160, ("sex", "finding", "scanner"), ("age",), "", 2).summary()["views_not_listed"]
    assert all("+" in name for name in ample)


@pytest.mark.parametrize(("number", "partitioned_from"), [(28, 500), (204, 20), (212, 71), (1474, 500)])
def test_the_figures_of_a_dry_run_are_those_of_the_rows(number, partitioned_from):
    for target, version in product(("", "sex", "age"), (1, 2)):
        shares = {
            "": {},
            "sex": {"sex": {"male": 0.7, "female": 0.3}},
            "age": {"age": dict(zip(AGES, (0.4, 0.6), strict=True))},
        }
        plan = GenerationPlan(
            preset=PRESET,
            model_revision="r",
            num_subjects=number,
            target=shares[target],
            draws_version=version,
            partitioned_from=partitioned_from,
            subjects_per_shard=7,
        )
        shards = plan.shards()
        rows = [row for shard in shards for row in plan.rows(shard)]
        told = plan.summary()
        assert told["rows"] == {split: sum(row.split == split for row in rows) for split in plan.subjects}
        assert told["shards"] == {split: sum(one.split == split for one in shards) for split in plan.subjects}
        assert told["cells"] == len({(row.split, row.stratum, row.member) for row in rows})
        assert plan.num_rows == len(rows)


def test_a_plan_of_ten_million_subjects_is_summed_up_without_looking_at_one(monkeypatch):
    plan = GenerationPlan(preset=PRESET, model_revision="r", num_subjects=10**7)
    for looked_at in ("ranks", "stratum_of", "places"):
        monkeypatch.setattr(f"synthfair_hf.generate.design.Design.{looked_at}", property(lambda self: 1 / 0))
    told = plan.summary()
    assert told["rows"] == {"train": 84 * 10**6, "validation": 18 * 10**6, "test": 18 * 10**6}
    assert told["shards"] == {"train": 70_000, "validation": 15_000, "test": 15_000}
    assert plan.sample().num_subjects == 1000
    small = GenerationPlan(preset=PRESET, model_revision="r", num_subjects=28)
    assert small.sample() is small


@pytest.mark.parametrize(
    "changed",
    [
        {"num_subjects": "28"},
        {"num_subjects": 10**400},
        {"num_subjects": None},
        {"split_fractions": []},
        {"split_fractions": {"train": "x"}},
        {"split_fractions": {}},
        {"factors": 3},
        {"factors": ["sxe"]},
        {"levels": {"sex": ["x"]}},
        {"target": [1]},
        {"target": {"sex": {"male": "x"}}},
        {"draws_version": 3},
        {"draws_version": "2"},
    ],
)
def test_settings_that_are_none_of_a_plans_are_one_sentence(changed):
    stored = plan_of(28, ("sex", "finding", "scanner"), ("age",), "", 2).model_dump(mode="json")
    assert Train.of(PRESET, stored) is not None
    with pytest.raises(InputError, match=r"^settings: not those of a plan of chest_xray \(.*; generate it again\.$"):
        Train.of(PRESET, {**stored, **changed})
