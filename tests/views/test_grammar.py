import pytest

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.preset import Contrast
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError
from synthfair_hf.views.grammar import groups_of, pairs_of, take_apart
from synthfair_hf.views.layout import word


@pytest.mark.parametrize(
    ("text", "kind", "subject"),
    [
        ("sex_imbalanced_90_10", "imbalanced", "sex"),
        ("sex_imbalanced", "imbalanced", "sex"),
        ("sex_imbalanced_in_50_years_and_older_90_10", "imbalanced_in", "sex"),
        ("age_missing_50_years_and_older", "missing", "age"),
        ("finding_scanner_correlated_90_10", "correlated", "finding_scanner"),
        ("finding_prevalence_by_sex_30_10", "prevalence", "finding"),
        ("finding_noise_in_under_50_years_20", "noise", "finding"),
        ("finding_underdiagnosed_in_female", "underdiagnosed", "finding"),
    ],
)
def test_a_name_says_its_kind_and_what_it_is_about(text, kind, subject):
    taken = take_apart(text, CHEST_XRAY)
    assert (taken.kind, taken.subject) == (kind, subject)


@pytest.mark.parametrize(
    "text", ["", "full", "sex", "sex_imbalanced_90", "sex_imbalanced_9_0.91", "sex_correlated_in_x"]
)
def test_a_name_of_no_kind_is_none(text):
    assert take_apart(text, CHEST_XRAY) is None


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_group_of_a_preset_can_be_named_alone(preset):
    """A group's phrase is its own, and reads back as that group; its word alone too where no other has that."""
    groups = [group for attribute in preset.contrasts for group in groups_of(attribute, preset)]
    for group in groups:
        assert take_apart(f"x_noise_in_{word(group.phrase)}_20", preset).group() == group
        assert (group.phrase == group.words) == (sum(one.words == group.words for one in groups) == 1)


def test_a_word_for_two_groups_is_refused():
    twice = {**CHEST_XRAY.contrasts, "race": Contrast(first="portable", second="black")}
    preset = CHEST_XRAY.model_copy(update={"contrasts": twice})
    race = preset.covariates["race"].model_copy(update={"levels": ("portable", "black")})
    variables = tuple(race if one.name == "race" else one for one in preset.covariates.walk())
    preset = preset.model_copy(update={"covariates": preset.covariates.model_copy(update={"variables": variables})})
    with pytest.raises(InputError, match="'portable' is a group of race and of scanner"):
        take_apart("finding_noise_in_portable_20", preset).group()


def test_of_two_attributes_one_order_is_a_name():
    pairs = pairs_of(CHEST_XRAY)
    assert len(pairs) == 15
    assert {"finding_sex", "finding_scanner", "scanner_sex", "view_scanner", "sex_age"} <= set(pairs)
    assert len({frozenset(pair) for pair in pairs.values()}) == 15


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        ("finding_prevalence_by_sex_30_11", lambda name: name.both(complementary=False), "even sum"),
        ("finding_prevalence_by_sex_100_10", lambda name: name.both(complementary=False), "1 to 99"),
        ("sex_imbalanced_80_30", lambda name: name.both(), "sum to 100"),
        ("finding_noise_in_female_101", lambda name: name.rate(), "0 to 100"),
        ("finding_noise_in_female_05", lambda name: name.rate(), "0 to 100"),
        ("finding_noise_in_female", lambda name: name.rate(), "_20"),
        ("finding_noise_in_femal_20", lambda name: name.group("finding"), "did you mean 'female'?"),
        ("finding_noise_in_pneumonia_20", lambda name: name.group("finding"), "allowed: male, female"),
        ("sex_noise_in_portable_20", lambda name: name.finding(), "name: finding: 'sex'"),
        ("sx_imbalanced_90_10", lambda name: name.attribute(), "did you mean 'sex'?"),
    ],
)
def test_what_a_name_may_not_say_is_answered_in_one_sentence(text, asked, expected):
    with pytest.raises(InputError) as caught:
        asked(take_apart(text, CHEST_XRAY))
    assert expected in str(caught.value)
    assert str(caught.value).startswith("name: ")
    assert "\n" not in str(caught.value)
