import re
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset_file import preset_yaml
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.records import fingerprint
from synthfair_hf.views.view import curated_views, get_view, uncurated_views

LEVELS = {variable.name: variable.levels for variable in CHEST_XRAY.covariates.walk() if variable.categorical}
ATTRIBUTES = tuple(CHEST_XRAY.contrasts)
OTHERS = tuple(name for name in ATTRIBUTES if name != "finding")

percents = st.integers(1, 99)
seeds = st.integers(0, 2**32 - 1)


def random_rows(seed: int, count: int = 60) -> list[dict]:
    """Rows of words with missing values, draws on the very edge of a share and ages on the threshold."""
    rng = np.random.default_rng(seed)
    return [
        {
            "split": str(rng.choice(["train", "train", "validation", "test"])),
            "draw": float(rng.choice([rng.random(), rng.integers(0, 100) / 100])),
            "age": rng.choice([None, 50.0, float(np.float32(rng.uniform(0, 100)))]),
            **{name: rng.choice([None, *levels, *levels]) for name, levels in LEVELS.items()},
        }
        for _ in range(count)
    ]


def encoded(table: list[dict]) -> dict[str, np.ndarray]:
    """Rows of words as the columns that `mask` takes."""
    names = CHEST_XRAY.covariates.names
    columns = {name: CHEST_XRAY.covariates[name].encode([row[name] for row in table]) for name in names}
    return columns | {name: np.array([row[name] for row in table]) for name in ("split", "draw")}


def stored(table: list[dict]) -> pa.Table:
    """Rows of words as parquet holds them: level indices, missing = null."""
    index = {name: [None if row[name] is None else LEVELS[name].index(row[name]) for row in table] for name in LEVELS}
    plain = {name: [row[name] for row in table] for name in ("split", "draw", "age")}
    return pa.table({**index, **plain})


def side(row: dict, name: str) -> str | None:
    """Which group of a contrast a row of words belongs to, re-derived from the preset."""
    contrast, value = CHEST_XRAY.contrasts[name], row[name]
    if value is None:
        return None
    if contrast.threshold is not None:
        return "first" if value < contrast.threshold else "second"
    return {contrast.first: "first", contrast.second: "second"}.get(value)


def kept_imbalanced(row: dict, attribute: str, percent: int) -> bool:
    if row["split"] != "train":
        return True
    low = row["draw"] < percent / 100
    return (side(row, attribute), low) in (("first", True), ("second", False))


def kept_correlated(row: dict, attribute: str, percent: int) -> bool:
    if row["split"] != "train":
        return True
    sides = side(row, "finding"), side(row, attribute)
    return None not in sides and (sides[0] == sides[1]) == (row["draw"] < percent / 100)


def balanced(subjects: int) -> dict[str, np.ndarray]:
    """Train of a generated data set: two age groups of `subjects`, each subject in every cell of the factors."""
    draws = (np.arange(subjects) + 0.5) / subjects
    table = [
        dict(
            split="train",
            subject=f"{age}-{draw}",
            draw=draw,
            age=age,
            race="white",
            view="PA",
            sex=sex,
            finding=finding,
            scanner=scanner,
        )
        for age, draw, sex, finding, scanner in product(
            (30.0, 70.0), draws, LEVELS["sex"], LEVELS["finding"], LEVELS["scanner"]
        )
    ]
    return encoded(table) | {"subject": np.array([row["subject"] for row in table])}


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(ATTRIBUTES), percents)
def test_imbalanced_is_the_brute_force_filter_and_the_parquet_filter(seed, attribute, percent):
    table = random_rows(seed)
    view = get_view(f"{attribute}_imbalanced_{percent}_{100 - percent}", CHEST_XRAY)
    expected = [kept_imbalanced(row, attribute, percent) for row in table]
    assert view.mask(encoded(table)).tolist() == expected
    assert parquet_rows(view, table) == np.flatnonzero(expected).tolist()


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(OTHERS), percents)
def test_correlated_is_the_brute_force_filter_and_the_parquet_filter(seed, attribute, percent):
    table = random_rows(seed)
    view = get_view(f"finding_{attribute}_correlated_{percent}_{100 - percent}", CHEST_XRAY)
    expected = [kept_correlated(row, attribute, percent) for row in table]
    assert view.mask(encoded(table)).tolist() == expected
    assert parquet_rows(view, table) == np.flatnonzero(expected).tolist()


def parquet_rows(view, table: list[dict]) -> list[int]:
    expression = pq.filters_to_expression(view.filters_for_parquet())
    return stored(table).append_column("row", pa.array(range(len(table)))).filter(expression)["row"].to_pylist()


@settings(deadline=None)
@given(percents, st.sampled_from(ATTRIBUTES))
def test_names_parse_to_themselves_and_strength_completes_a_stem(percent, attribute):
    for stem in (f"{attribute}_imbalanced", f"finding_{attribute}_correlated"):
        if stem == "finding_finding_correlated":
            continue
        name = f"{stem}_{percent}_{100 - percent}"
        view = get_view(name, CHEST_XRAY)
        assert (view.name, view.strength, view.twin) == (name, percent / 100, f"{stem}_50_50")
        assert get_view(stem, CHEST_XRAY, strength=percent / 100) == view
        assert get_view(name, CHEST_XRAY, strength=percent / 100) == view


@pytest.mark.parametrize("stem", ["sex_imbalanced", "age_imbalanced", "scanner_imbalanced", "finding_sex_correlated"])
def test_every_strength_has_the_same_size_the_named_shares_and_nests(stem):
    columns = balanced(subjects=100)
    first_group_before = np.zeros(len(columns["draw"]), dtype=bool)
    sizes = set()
    for percent in range(1, 100):
        view = get_view(stem, CHEST_XRAY, strength=percent / 100)
        mask, counts = view.mask(columns), view.counts(columns)
        sizes.add(int(mask.sum()))
        assert sum(counts.values()) == mask.sum()
        cells = list(counts.values())
        pairs = zip(cells[::2], cells[1::2], strict=True)
        shares = [first / (first + second) for first, second in pairs]
        assert shares == [percent / 100, (100 - percent) / 100][: len(shares)]
        first_group = mask & (columns["draw"] < percent / 100)
        assert np.all(first_group[first_group_before])
        first_group_before = first_group
    assert len(sizes) == 1


@pytest.mark.parametrize("stem", ["sex_imbalanced", "finding_sex_correlated"])
def test_a_subject_is_in_one_group_only_so_it_enters_once_and_not_twice(stem):
    columns = balanced(subjects=20)
    other = columns["scanner"] if stem == "sex_imbalanced" else columns["finding"]
    fixed = columns["finding"] if stem == "sex_imbalanced" else columns["scanner"]
    mask = get_view(f"{stem}_70_30", CHEST_XRAY).mask(columns)
    keys = [key for key, kept in zip(zip(columns["subject"], other, fixed, strict=True), mask, strict=True) if kept]
    assert len(keys) == len(set(keys)) == len(columns["draw"]) // 2


def test_shares_are_as_near_as_the_number_of_subjects_allows():
    for subjects, percent in product((1, 3, 7, 10, 13), range(1, 100)):
        counts = get_view("age_imbalanced", CHEST_XRAY, strength=percent / 100).counts(balanced_ages(subjects))
        assert abs(counts["under 50 years"] - subjects * percent / 100) <= 0.5 + 1e-9
        assert sum(counts.values()) == subjects


def balanced_ages(subjects: int) -> dict[str, np.ndarray]:
    draws = np.tile((np.arange(subjects) + 0.5) / subjects, 2)
    return {"split": np.full(2 * subjects, "train"), "draw": draws, "age": np.repeat([30.0, 50.0], subjects)}


def test_full_keeps_everything_and_needs_no_filter():
    view = get_view("full", CHEST_XRAY)
    assert view.filters_for_parquet() is None
    assert view.mask({"draw": np.zeros(3)}).tolist() == [True] * 3
    assert (view.strength, view.twin, view.cells) == (None, None, ())


@pytest.mark.parametrize("preset", [CHEST_XRAY, PHANTOM])
def test_curated_views_hold_full_and_every_strength_with_its_mirror(preset):
    views = {name: get_view(name, preset) for name in ("full", *preset.views)}
    listed = [view.name for view in curated_views(preset)]
    assert listed == [name for name in views if not named(name) & {"race", "habitus"}]
    for name, view in views.items():
        assert view.twin is None or view.twin in views
        if single := re.fullmatch(r"(\w+_(?:imbalanced|correlated)\w*?)_(\d+)_(\d+)", name):
            stem, first, second = single.groups()
            assert f"{stem}_{second}_{first}" in views
    assert len({view.fingerprint for view in views.values()}) == len(views)


WORDS = {
    "sex": ("sex", "male"),
    "age": ("age_", "years"),
    "finding": ("finding",),
    "scanner": ("scanner",),
    "race": ("race", "black"),
    "habitus": ("habitus",),
}


def named(name: str) -> set[str]:
    """The attributes that a curated name speaks of."""
    return {attribute for attribute, words in WORDS.items() if any(word in name for word in words)}


@pytest.mark.parametrize(
    ("factors", "strata"),
    [
        (("sex",), ("age",)),
        (("finding",), ("age",)),
        (("finding", "scanner"), ()),
        (("sex", "finding"), ()),
        ((), ()),
    ],
)
def test_only_what_generation_balances_is_curated(factors, strata):
    preset = CHEST_XRAY.model_copy(update={"factors": factors, "strata": strata})
    listed = curated_views(preset)
    assert [view.name for view in listed] == [
        "full",
        *(name for name in CHEST_XRAY.views if named(name) <= {*factors, *strata}),
    ]
    assert not any("does not balance" in view.sentence for view in listed)
    for name, words in ((factors, "equally many rows"), (strata, "equally many subjects")):
        assert (words in listed[0].sentence) == bool(name)
        assert ", ".join(name) in listed[0].sentence


@pytest.mark.parametrize("more", [0, 30, 300])
def test_no_more_than_100_are_curated_with_their_twins_and_the_others_load_by_name(more):
    own = get_preset("chest_xray")
    shares = [
        f"{stem}_{one}_{100 - one}" for stem in ("sex_imbalanced", "finding_sex_correlated") for one in range(99, 0, -1)
    ]
    added = tuple(name for name in shares[:more] if name not in own.views)
    preset = own.model_copy(update={"views": (*own.views, *added)})
    names = [view.name for view in curated_views(preset)]
    assert names == ["full", *preset.views][:100]
    assert {*names, *uncurated_views(preset)} == {"full", *preset.views}
    for name, why in uncurated_views(preset).items():
        assert "no more than 100 are curated" in why
        assert get_view(name, preset).name == name


def test_a_view_whose_twin_is_not_curated_is_not_either():
    own = get_preset("chest_xray")
    others = [name for name in own.views if get_view(name, own).twin != "sex_imbalanced_50_50"]
    shares = [f"sex_imbalanced_{one}_{100 - one}" for one in range(99, 0, -1)]
    preset = own.model_copy(update={"views": (*others, *shares)})
    assert ["full", *preset.views].index("sex_imbalanced_50_50") >= 100
    assert [view.name for view in curated_views(preset)] == ["full", *others]
    assert set(uncurated_views(preset)) == set(shares)
    first = own.model_copy(update={"views": ("sex_imbalanced_50_50", *others, *shares[:49])})
    assert [view.name for view in curated_views(first)] == ["full", *first.views][:100]


def test_a_view_without_its_contrast_is_not_curated():
    contrasts = {name: contrast for name, contrast in CHEST_XRAY.contrasts.items() if name != "scanner"}
    names = [view.name for view in curated_views(CHEST_XRAY.model_copy(update={"contrasts": contrasts}))]
    assert names == ["full", *(name for name in CHEST_XRAY.views if "scanner" not in name)]


@pytest.mark.parametrize("name", ["race_imbalanced_90_10", "finding_race_correlated_90_10"])
def test_a_view_of_what_is_not_balanced_promises_no_shares(name):
    sentence = get_view(name, CHEST_XRAY).sentence
    assert "about 90 % of the former and 10 % of the latter" in sentence
    assert "Generation does not balance race, so the shares of train also follow its frequency." in sentence
    assert "to the nearest subject" not in sentence
    assert "to the nearest subject" in get_view(name.replace("race", "sex"), CHEST_XRAY).sentence


def test_the_sentence_says_which_rows_stay_and_which_are_left_out():
    sentence = get_view("finding_scanner_correlated_90_10", CHEST_XRAY).sentence
    for words in ("draw < 0.9", "draw >= 0.9", "portable", "flatpanel", "Rows whose scanner is computed are left out"):
        assert words in sentence
    assert "does not balance" not in sentence
    assert "Generation does not balance race" in get_view("race_imbalanced_90_10", CHEST_XRAY).sentence
    assert "finding is effusion are left out" in get_view("finding_sex_correlated_90_10", PHANTOM).sentence


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sex_imbalanced_80_30", "sum to 100"),
        ("sex_imbalanced_100_0", "1 to 99"),
        ("sex_imbalanced_05_95", "1 to 99"),
        ("sex_imbalanced_9_0.91", "is no view"),
        ("sex_imbalanced", "_90_10"),
        ("sx_imbalanced_90_10", "did you mean 'sex'?"),
        ("finding_scaner_correlated_90_10", "did you mean 'finding_scanner'?"),
        ("finding_finding_correlated_90_10", "finding_sex"),
        ("sex_finding_correlated_90_10", "write finding_sex_correlated"),
        ("full+sex_imbalanced_90_10", "keeps every row"),
        ("sex_imbalanced_90_10+sex_missing_male", "both decide sex"),
        ("finding_sex_correlated_90_10+finding_prevalence_by_sex_60_40", "in a circle"),
        ("finding_noise_in_female_20+finding_underdiagnosed_in_male_10", "relabels twice"),
        ("sex_imbalanced_90_10+", "'' is no view"),
        ("sex_inbalanced_90_10", "did you mean 'sex_imbalanced_90_10'?"),
        ("everything", "<finding>_<attribute>_correlated_<A>_<B>"),
    ],
)
def test_a_name_outside_the_grammar_is_answered_in_one_sentence(name, expected):
    with pytest.raises(InputError) as caught:
        get_view(name, CHEST_XRAY)
    message = str(caught.value)
    assert expected in message
    assert message.startswith("name: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("sex_imbalanced", 0.855),
        ("sex_imbalanced", 0.0),
        ("sex_imbalanced", 1.0),
        ("sex_imbalanced", 90),
        ("sex_imbalanced", float("nan")),
        ("sex_imbalanced", "0.9"),
        ("sex_imbalanced_90_10", 0.8),
        ("full", 0.9),
        ("sex_missing_male", 0.9),
        ("finding_noise_in_female", 1.5),
        ("finding_noise_in_female_20", 0.3),
        ("sex_imbalanced+age_imbalanced", 0.9),
        ("sex_imbalanced_90_10+age_imbalanced", (0.9, 0.8)),
    ],
)
def test_a_strength_that_is_no_percentage_or_contradicts_the_name_is_refused(name, strength):
    with pytest.raises(InputError, match=r"^strength: "):
        get_view(name, CHEST_XRAY, strength=strength)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_view_or_an_input_error_of_one_line(text):
    try:
        answer = get_view(text, CHEST_XRAY).name
    except InputError as error:
        answer = str(error)
    assert answer == text or "\n" not in answer


def test_a_column_the_view_needs_is_named():
    with pytest.raises(InputError, match="'draw'"):
        get_view("sex_imbalanced_90_10", CHEST_XRAY).mask({"split": np.array(["train"]), "sex": np.array([0])})


def test_views_do_not_change():
    with pytest.raises(ValidationError):
        get_view("full", CHEST_XRAY).name = "other"


def test_the_recipe_of_a_name_that_others_recorded_is_the_same():
    filters = (
        (("split", "==", "train"), ("sex", "==", 0), ("draw", "<", 0.9)),
        (("split", "==", "train"), ("sex", "==", 1), ("draw", ">=", 0.9)),
        (("split", "!=", "train"),),
    )
    recipe = fingerprint({"name": "sex_imbalanced_90_10", "filters": filters})
    assert get_view("sex_imbalanced_90_10", CHEST_XRAY).fingerprint == recipe
    assert get_view("finding_noise_in_male_10", CHEST_XRAY).fingerprint != get_view("full", CHEST_XRAY).fingerprint


GROUPS = {
    "male": ("sex", "first"),
    "female": ("sex", "second"),
    "under_50_years": ("age", "first"),
    "50_years_and_older": ("age", "second"),
    "portable": ("scanner", "first"),
    "flatpanel": ("scanner", "second"),
}


def place(row: dict, part: str, draw: Fraction) -> Fraction | None:
    """Where in what a bias keeps of a row's group its draw lies, in [0, 1); None where the row is not kept.

    Every kind keeps the first group of what it decides below a share, and the second from there on.
    """
    numbers = [Fraction(int(number), 100) for number in re.findall(r"_(\d+)(?=_\d+$|$)", part)]
    subject = re.split("_imbalanced|_missing|_correlated|_prevalence", part)[0]
    if "_missing_" in part:
        group, share = side(row, subject), Fraction(GROUPS[part.split("_missing_")[1]][1] == "second")
    elif "_imbalanced_in_" in part:
        within, where = GROUPS[re.sub(r"_\d+_\d+$", "", part.split("_imbalanced_in_")[1])]
        if side(row, within) is None:
            return None
        group, share = side(row, subject), numbers[0] if side(row, within) == where else Fraction(1, 2)
    elif "_prevalence_by_" in part:
        other = side(row, part.split("_by_")[1].rsplit("_", 2)[0])
        if other is None:
            return None
        group, share = side(row, subject), numbers[other == "second"]
    elif "_correlated_" in part:
        sides = [side(row, name) for name in subject.split("_")]
        group = None if None in sides else "first" if sides[0] == sides[1] else "second"
        share = numbers[0]
    else:
        group, share = side(row, subject), numbers[0]
    if group is None or (group == "first") != (draw < share):
        return None
    return draw / share if group == "first" else (draw - share) / (1 - share)


def kept_and_labelled(row: dict, name: str) -> tuple[bool, str | None]:
    """Whether a row of train belongs, and its observed label, re-derived part by part in the order of the names."""
    draw = row["exact"]
    *parts, last = name.split("+")
    relabels = "_noise_in_" in last or "_underdiagnosed_in_" in last
    for part in parts if relabels else (*parts, last):
        draw = place(row, part, draw)
        if draw is None:
            return False, None
    label = row["finding"]
    if relabels:
        stem, rate = last.rsplit("_", 1)
        group, where = GROUPS[stem.split("_in_")[1]]
        swapped = {"pneumonia": "no_finding", "no_finding": "pneumonia"}
        affected = swapped if "_noise_in_" in last else {"pneumonia": "no_finding"}
        if side(row, group) == where and draw < Fraction(int(rate), 100):
            label = affected.get(label, label)
    return True, label


attributes = st.sampled_from(("sex", "age", "scanner"))
groups = st.sampled_from(tuple(GROUPS))


@st.composite
def names(draw) -> str:
    """A name of any kind, or several of different attributes joined; what is given another's attribute follows it."""

    def single(kind: str) -> str:
        first, attribute, group = draw(percents), draw(attributes), draw(groups)
        if kind == "in" and GROUPS[group][0] == attribute:
            kind = "imbalanced"
        second = 2 * draw(st.integers(1, 49)) - first % 2
        return {
            "imbalanced": f"{attribute}_imbalanced_{first}_{100 - first}",
            "in": f"{attribute}_imbalanced_in_{group}_{first}_{100 - first}",
            "missing": f"{GROUPS[group][0]}_missing_{group}",
            "correlated": f"finding_{attribute}_correlated_{first}_{100 - first}",
            "confounded": f"scanner_sex_correlated_{first}_{100 - first}",
            "prevalence": f"finding_prevalence_by_{attribute}_{first}_{max(2 - first % 2, second)}",
            "noise": f"finding_noise_in_{group}_{first}",
            "underdiagnosed": f"finding_underdiagnosed_in_{group}_{first}",
        }[kind]

    selections = ("imbalanced", "in", "missing", "correlated", "confounded", "prevalence")
    kinds = draw(st.lists(st.sampled_from(selections), max_size=3)) + draw(
        st.sampled_from(([], ["noise"], ["underdiagnosed"]))
    )
    return "+".join(map(single, kinds or ["imbalanced"]))


def train_rows(subjects: int) -> list[dict]:
    """Train of a generated data set in words, each draw beside the exact fraction it stands for."""
    return [
        {
            "split": "train",
            "exact": Fraction(2 * rank + 1, 2 * subjects),
            "draw": (rank + 0.5) / subjects,
            "age": age,
            "race": "white",
            "view": "PA",
            "sex": sex,
            "finding": finding,
            "scanner": scanner,
        }
        for rank, age, sex, finding, scanner in product(
            range(subjects), (30.0, 70.0), LEVELS["sex"], LEVELS["finding"], LEVELS["scanner"]
        )
    ]


def view_of(name: str):
    """The view, or None where the parts of a name do not go together, which `goes_together` says once more."""
    try:
        view = get_view(name, CHEST_XRAY)
    except InputError:
        view = None
    assert (view is not None) == goes_together(name), name
    return view


def decided_and_given(name: str) -> list[tuple[str, set[str]]]:
    """What each selecting part of a name decides, and what it is given."""
    selecting = [part for part in name.split("+") if not re.search("_noise_in_|_underdiagnosed_in_", part)]
    attributes = [get_view(part, CHEST_XRAY).attributes for part in selecting]
    return [(names[-1], {*names[:-1]}) for names in attributes]


def goes_together(name: str) -> bool:
    """Whether every part decides another attribute, and some order of the parts has each after what it is given."""
    parts = decided_and_given(name)
    return len({decided for decided, _ in parts}) == len(parts) and any(map(in_order, permutations(parts)))


def in_order(parts) -> bool:
    """Whether no part is given what a later one decides."""
    return not any(later in given for place, (_, given) in enumerate(parts) for later, _ in parts[place + 1 :])


@settings(max_examples=150)
@given(names(), st.integers(1, 12))
def test_every_kind_and_join_is_the_brute_force_rule_and_the_parquet_filter(name, subjects):
    view = view_of(name)
    if view is None or not in_order(decided_and_given(name)):
        return
    table = train_rows(subjects)
    expected = [kept_and_labelled(row, name) for row in table]
    columns = encoded(table)
    mask = view.mask(columns)
    assert mask.tolist() == [kept for kept, _ in expected]
    if view.filters:
        assert parquet_rows(view, table) == np.flatnonzero(mask).tolist()
        assert sum(view.counts(columns).values()) == mask.sum()
    if view.label is not None:
        observed = CHEST_XRAY.covariates["finding"].decode(view.label.observed(columns))
        assert [label for (kept, label), told in zip(expected, observed, strict=True) if kept and label != told] == []
        changed = int((view.label.observed(columns) != columns["finding"])[mask].sum())
        assert sum(view.label.counts(columns).values()) == changed


@settings(max_examples=150)
@given(names(), st.integers(1, 12), st.sampled_from([CHEST_XRAY, PHANTOM]))
def test_a_view_has_the_rows_of_its_twin_in_number(name, subjects, preset):
    view = view_of(name)
    if view is None:
        return
    columns = encoded(train_rows(subjects))
    view = get_view(name, preset)
    twin = get_view(view.twin, preset)
    assert twin.twin == twin.name
    assert view.mask(columns).sum() == twin.mask(columns).sum() > 0
    if twin.label is not None:
        assert (twin.label.observed(columns) == columns["finding"]).all()
        assert twin.label.column == view.label.column


@settings(max_examples=60)
@given(st.sampled_from(range(1, 20)), st.sampled_from(range(1, 20)))
def test_joined_biases_have_the_shares_of_each_and_are_independent(first, second):
    """At steps of 5 % and 400 subjects every cell is exact: the share of the product, no association planted beside."""
    name = f"finding_scanner_correlated_{5 * first}_{100 - 5 * first}+sex_imbalanced_{5 * second}_{100 - 5 * second}"
    view = get_view(name, CHEST_XRAY)
    draws = (np.arange(400) + 0.5) / 400
    for cell, clauses in zip(view.cells, view.filters, strict=False):
        low = next((value for column, operator, value in clauses if (column, operator) == ("draw", ">=")), 0)
        high = next((value for column, operator, value in clauses if (column, operator) == ("draw", "<")), 1)
        finding, scanner, sex = cell.split("/")
        agree = (finding == "pneumonia") == (scanner == "portable")
        share = (first if agree else 20 - first) * (second if sex == "male" else 20 - second)
        assert ((draws >= low) & (draws < high)).sum() == share, "of 400 = 20 x 20"


@settings(max_examples=60)
@given(percents, st.integers(1, 30), st.sampled_from(("sex_imbalanced_30_70+", "finding_sex_correlated_80_20+", "")))
def test_strengths_of_the_bias_named_last_are_nested(percent, subjects, before):
    columns = encoded(train_rows(subjects))
    for last, first_group in (
        ("scanner_imbalanced_{}_{}", columns["scanner"] == 2),
        ("age_imbalanced_in_portable_{}_{}", (columns["age"] < 50) & (columns["scanner"] == 2)),
    ):
        weaker, stronger = (
            get_view(before + last.format(one, 100 - one), CHEST_XRAY).mask(columns)
            for one in (percent, (percent + 99) // 2)
        )
        assert not (weaker & ~stronger & first_group).any()


@settings(max_examples=60)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 30))
def test_relabelling_is_nested_and_exact_to_the_nearest_subject_of_each_stratum(one, other, subjects):
    table = train_rows(subjects)
    columns = encoded(table)
    weaker, stronger = (
        get_view(f"finding_noise_in_female_{rate}", CHEST_XRAY).label.observed(columns) != columns["finding"]
        for rate in sorted((one, other))
    )
    assert not (weaker & ~stronger).any()
    assert not stronger[columns["sex"] == 0].any()
    for age, finding, scanner in product((30, 70), (0, 1), (0, 1, 2)):
        cell = (columns["age"] == age) & (columns["finding"] == finding) & (columns["scanner"] == scanner)
        assert abs(stronger[cell].sum() - subjects * max(one, other) / 100) <= 0.5 + 1e-9


def test_relabelling_leaves_evaluation_and_missing_labels_as_they_are():
    table = random_rows(0, 500)
    columns = encoded(table)
    view = get_view("finding_noise_in_female_100", CHEST_XRAY)
    observed = view.label.observed(columns)
    affected = (columns["split"] == "train") & (columns["sex"] == 1) & (columns["finding"] >= 0)
    assert (observed != columns["finding"]).tolist() == affected.tolist()
    assert set(view.label.needs) == {"finding", "split", "sex"}
    assert view.filters_for_parquet() is None
    assert view.mask(columns).all()


def test_a_missing_group_is_the_end_of_the_strengths_of_its_attribute():
    columns = balanced(subjects=100)
    missing = get_view("sex_missing_female", CHEST_XRAY).mask(columns)
    assert set(columns["sex"][missing]) == {0}
    for percent in range(1, 100):
        weaker = get_view(f"sex_imbalanced_{percent}_{100 - percent}", CHEST_XRAY)
        assert not (weaker.mask(columns) & (columns["sex"] == 0) & ~missing).any()
        assert weaker.mask(columns).sum() == missing.sum()


def test_strengths_complete_the_names_without_numbers_in_turn():
    name = "sex_imbalanced+age_missing_under_50_years+finding_prevalence_by_scanner_30_10+finding_noise_in_male"
    view = get_view(name, CHEST_XRAY, strength=[0.9, 0.2])
    assert view.name == (
        "sex_imbalanced_90_10+age_missing_under_50_years+finding_prevalence_by_scanner_30_10+finding_noise_in_male_20"
    )
    assert view.twin == (
        "sex_imbalanced_50_50+age_imbalanced_50_50+finding_prevalence_by_scanner_20_20+finding_noise_in_male_0"
    )
    assert view.attributes == ("sex", "age", "scanner", "finding")
    assert view.strength is None
    assert get_view("finding_prevalence_by_sex", CHEST_XRAY, 0.8).name == "finding_prevalence_by_sex_80_20"


def test_the_sentence_of_several_biases_says_each():
    view = get_view("finding_sex_correlated_90_10+finding_underdiagnosed_in_female_30", CHEST_XRAY)
    for words in (
        "90 % of pneumonia",
        "observed_finding",
        "in female rows of train 30 % of pneumonia is labelled no_f",
    ):
        assert words in view.sentence
    both = get_view("sex_imbalanced_90_10+finding_scanner_correlated_80_20", CHEST_XRAY).sentence
    for words in (
        "independently",
        "90 % of train is male",
        "80 % of pneumonia and 20 %",
        "scanner is computed are left",
    ):
        assert words in both
    assert "equally many" in get_view("race_imbalanced_90_10+sex_imbalanced_90_10", CHEST_XRAY).sentence
    assert get_view("race_missing_black", CHEST_XRAY).sentence.startswith("Train keeps rows whose race is white, so no")


def test_what_is_not_curated_is_told_with_its_reason(tmp_path: Path, capsys):
    preset = get_preset("nih_chestxray14")
    left_out = uncurated_views(preset)
    assert [view.name for view in curated_views(preset)] == [
        "full",
        *(one for one in preset.views if one not in left_out),
    ]
    reason = "generation balances factors and strata alone, and hernia is none of them"
    assert left_out["hernia_sex_correlated_90_10"] == reason
    gone = {name: one for name, one in preset.contrasts.items() if name != "sex"}
    assert uncurated_views(preset.model_copy(update={"contrasts": gone}))["sex_imbalanced_90_10"].startswith(
        "attribute:"
    )
    (tmp_path / "own.yaml").write_text(preset_yaml(preset.model_copy(update={"name": "own"})))
    assert main(["views", "--preset", str(tmp_path / "own.yaml")]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith(f"not listed, for {reason}: ")]
    assert line.partition(": ")[2].split(", ") == [name for name, why in left_out.items() if why == reason]
    assert uncurated_views(get_preset("chest_xray")) == {}
