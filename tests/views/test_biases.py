from fractions import Fraction
from itertools import product

import pytest

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset import Contrast
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError
from synthfair_hf.schema import Schema, Variable
from synthfair_hf.views.biases import get_bias
from synthfair_hf.views.grammar import groups_of

PRESET_OF = {
    part: preset for preset in (*PRESETS.values(), PHANTOM) for name in preset.views for part in name.split("+")
}
# views of one finding stand for those of the others
SINGLE = sorted(
    name
    for name, preset in PRESET_OF.items()
    if not name.startswith(tuple(f"{one}_" for one in findings_of(preset)[:-1]))
)


@pytest.mark.parametrize("name", [name for name in SINGLE if get_bias(name, PRESET_OF[name]).decides])
def test_every_draw_shows_a_subject_in_one_group_of_what_is_decided(name):
    """So the number of rows cannot depend on the strength, and the twin has as many."""
    bias = get_bias(name, PRESET_OF[name])
    given = [groups_of(attribute, PRESET_OF[name]) for attribute in bias.attributes if attribute != bias.decides]
    assert {*bias.attributes} == {group.attribute for branch in bias.branches for group in branch.groups}
    for draw, groups in product((Fraction(2 * rank + 1, 400) for rank in range(200)), product(*given)):
        shown = [
            branch for branch in bias.branches if branch.low <= draw < branch.high and set(groups) <= set(branch.groups)
        ]
        assert len(shown) == 1


@pytest.mark.parametrize("name", SINGLE)
def test_a_twin_is_its_own_twin_and_plants_nothing(name):
    bias = get_bias(name, PRESET_OF[name])
    twin = get_bias(bias.twin, PRESET_OF[name])
    assert bias.name == name
    assert twin.twin == twin.name
    assert (twin.decides, set(twin.attributes)) == (bias.decides, set(bias.attributes))
    if bias.relabelling is not None:
        assert twin.relabelling == bias.relabelling._replace(rate=0)
        return
    widths = {branch.groups: branch.high - branch.low for branch in twin.branches}
    for decided in groups_of(bias.decides, PRESET_OF[name]):
        shares = {width for groups, width in widths.items() if decided in groups}
        assert len(shares) == 1, "the same share in every group of what it is given"


def test_a_relabelling_keeps_every_row_and_swaps_or_misses():
    noise = get_bias("finding_noise_in_female_20", CHEST_XRAY)
    missed = get_bias("finding_underdiagnosed_in_female_20", CHEST_XRAY)
    present, absent = groups_of("finding", CHEST_XRAY)
    assert (noise.branches, noise.decides, noise.rows) == ((), None, "")
    assert noise.relabelling.changes == ((present, absent), (absent, present))
    assert missed.relabelling.changes == ((present, absent),)


def test_one_sentence_part_says_what_holds_with_and_without_balance():
    bias = get_bias("finding_prevalence_by_race_30_10", CHEST_XRAY)
    assert bias.promise(balanced=True).endswith("to the nearest subject")
    assert "with equally many of each" in bias.promise(balanced=False)
    missing = get_bias("race_missing_black", CHEST_XRAY)
    assert missing.promise(balanced=False) == missing.promise(balanced=True) == "so no row of train is black"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("finding_prevalence_by_finding_50_50", "compares finding with itself"),
        ("sex_missing_portable", "allowed: male, female"),
        ("sex_imbalanced_in_male_90_10", "name: group: 'male'"),
        ("finding_scaner_correlated_90_10", "did you mean 'finding_scanner'?"),
    ],
)
def test_a_bias_that_cannot_be_is_answered_in_one_sentence(name, expected):
    with pytest.raises(InputError) as caught:
        get_bias(name, CHEST_XRAY)
    assert expected in str(caught.value)


def test_of_two_findings_either_comes_first_and_the_other_is_decided():
    """However a record has ordered the contrasts."""
    preset = PRESETS["nih_chestxray14"]
    stored = preset.model_copy(update={"contrasts": dict(sorted(preset.contrasts.items()))})
    for name, decided in (("effusion_edema", "edema"), ("edema_effusion", "effusion")):
        bias = get_bias(f"{name}_correlated_90_10", preset)
        assert bias == get_bias(f"{name}_correlated_90_10", stored)
        assert (bias.decides, bias.twin) == (decided, f"{name}_correlated_50_50")
    with pytest.raises(InputError, match=r"names its attributes in another order; write edema_sex_correlated\."):
        get_bias("sex_edema_correlated_90_10", preset)


def test_a_name_that_two_pairs_of_attributes_make_is_refused():
    """One of them would be meant without a word."""
    words = {name: Variable(name=name, levels=("x", "y"), **KIND) for name in ("a", "b_c", "a_b", "c")}
    contrasts = {name: Contrast(first="x", second="y") for name in words}
    own = {"covariates": Schema(variables=tuple(words.values())), "contrasts": contrasts}
    preset = PHANTOM.model_copy(update={**own, "edges": (), "factors": (), "strata": (), "views": ()})
    with pytest.raises(InputError, match="'a_b_c' is of a with b_c and of a_b with c; give these covariates names"):
        get_bias("a_b_c_correlated_90_10", preset)
    assert get_bias("a_c_correlated_90_10", preset).attributes == ("a", "c")


KIND = {"kind": "categorical", "role": "other", "nature": "patient/anatomy"}
