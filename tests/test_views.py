from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthfair_hf.errors import InputError
from synthfair_hf.presets import CHEST_XRAY, PHANTOM
from synthfair_hf.views import curated_views, get_view

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
    views = {view.name: view for view in curated_views(preset)}
    assert list(views) == ["full", *preset.views]
    for view in views.values():
        assert view.twin is None or view.twin in views
        if view.strength not in (None, 0.5):
            percent = round(view.strength * 100)
            assert view.name.replace(f"_{percent}_{100 - percent}", f"_{100 - percent}_{percent}") in views
    assert len({view.fingerprint for view in views.values()}) == len(views)


@pytest.mark.parametrize(
    ("factors", "strata", "stems"),
    [
        (("sex",), ("age",), {"sex_imbalanced", "age_imbalanced"}),
        (("finding",), ("age",), {"age_imbalanced"}),
        (("finding", "scanner"), (), {"finding_scanner_correlated"}),
        (("sex", "finding"), (), {"sex_imbalanced", "finding_sex_correlated"}),
        ((), (), set()),
    ],
)
def test_only_what_generation_balances_is_curated(factors, strata, stems):
    preset = CHEST_XRAY.model_copy(update={"factors": factors, "strata": strata})
    listed = curated_views(preset)
    assert [view.name for view in listed] == [
        "full",
        *(name for name in CHEST_XRAY.views if name.rsplit("_", 2)[0] in stems),
    ]
    assert not any("does not balance" in view.sentence for view in listed)
    for name, words in ((factors, "equally many rows"), (strata, "equally many subjects")):
        assert (words in listed[0].sentence) == bool(name)
        assert ", ".join(name) in listed[0].sentence


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
        ("sex_age_correlated_90_10", "finding_age"),
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
