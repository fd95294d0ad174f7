import re

import pytest

from synthfair_hf.causal.graph import CausalGraph
from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.preset import Contrast, Network, Preset
from synthfair_hf.domains.presets import PRESETS, get_preset
from synthfair_hf.errors import InputError

every_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
CHEST = PRESETS["chest_xray"]


def changed(**change: object) -> Preset:
    return Preset.model_validate({**CHEST.model_dump(), **change})


@every_preset
def test_edges_form_a_causal_graph(preset: Preset):
    graph = CausalGraph(preset.covariates.names, preset.edges)
    assert set(graph.names) == set(preset.covariates.names)


@every_preset
def test_factors_are_categorical_and_strata_have_contrasts(preset: Preset):
    assert all(preset.covariates[name].categorical for name in preset.factors)
    assert set(preset.strata) <= set(preset.contrasts)
    assert not set(preset.strata) & set(preset.factors)


@every_preset
def test_contrasts_split_their_variable_in_two(preset: Preset):
    for name, contrast in preset.contrasts.items():
        variable = preset.covariates[name]
        assert contrast.first != contrast.second
        if variable.categorical:
            assert contrast.threshold is None
        else:
            low, high = variable.bounds
            assert contrast.threshold is not None
            assert low < contrast.threshold < high


@every_preset
def test_curated_views_are_distinct_and_each_strength_has_its_mirror(preset: Preset):
    assert len(set(preset.views)) == len(preset.views)
    for view in preset.views:
        if match := re.fullmatch(r"(\w+_(?:imbalanced|correlated)\w*?)_(\d+)_(\d+)", view):
            stem, first, second = match.groups()
            assert int(first) + int(second) == 100
            assert f"{stem}_{second}_{first}" in preset.views


@every_preset
def test_json_round_trip_and_lookup(preset: Preset):
    assert Preset.model_validate_json(preset.model_dump_json()) == preset
    assert get_preset(preset.name) is preset


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match=r"preset: 'chest_xry' is unknown; allowed: .*; did you mean 'chest_xray'\?"):
        get_preset("chest_xry")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": (("age", "smoking"),)}, "'smoking' is unknown"),
        ({"factors": ("sexx",)}, "did you mean 'sex'"),
        ({"strata": ("income",)}, "'income' is unknown"),
        ({"contrasts": {"income": Contrast(first="low", second="high")}}, "'income' is unknown"),
        ({"contrasts": {"sex": Contrast(first="male", second="other")}}, "male, other are not levels"),
        ({"contrasts": {"age": Contrast(first="young", second="old")}}, "needs a threshold"),
        ({"colour": "grey"}, "Preset: 'colour' is unknown"),
    ],
)
def test_a_preset_that_names_a_stranger_is_refused(change: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        changed(**change)


def test_restrict_to_everything_changes_nothing():
    assert CHEST.restrict(CHEST.covariates.names) == CHEST


def test_restrict_drops_every_mention_of_an_optional_covariate():
    fewer = CHEST.restrict(tuple(name for name in CHEST.covariates.names if name != "race"))
    assert "race" in CHEST.covariates
    assert "race" not in fewer.covariates
    assert "race" not in fewer.contrasts
    assert fewer.edges == tuple(edge for edge in CHEST.edges if "race" not in edge)
    assert (fewer.factors, fewer.strata) == (CHEST.factors, CHEST.strata)
    assert Preset.model_validate(fewer.model_dump()) == fewer


def test_restrict_refuses_to_drop_what_is_needed_and_to_keep_what_is_unknown():
    with pytest.raises(InputError, match="chest_xray: age, finding, view, scanner not among sex, and not optional"):
        CHEST.restrict(("sex",))
    with pytest.raises(InputError, match=r"scanner not among what is told \(nothing\), and not optional"):
        CHEST.restrict(())
    several = get_preset("nih_chestxray14")
    with pytest.raises(InputError, match=r"among age, sex, view; .* ingest its original with preset='nih_chestxray14'"):
        several.restrict(("age", "sex", "view"))
    with pytest.raises(InputError, match="'smoking' is unknown"):
        CHEST.restrict((*CHEST.covariates.names, "smoking"))


def test_a_preset_stored_without_a_network_has_the_default_one():
    stored = {name: value for name, value in CHEST.model_dump(mode="json").items() if name != "network"}
    assert Preset.model_validate(stored) == CHEST
    assert CHEST.network == Network(channels=(96, 128, 160), space_to_depth=4, width=128)


@every_preset
def test_a_pipeline_is_built_from_the_preset(preset: Preset):
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, preset.resolution)
    assert pipeline.preset == preset
    assert tuple(pipeline.unet.config.block_out_channels) == preset.network.channels
    assert pipeline.config.space_to_depth == preset.network.space_to_depth
    with pytest.raises(InputError, match="is not a positive multiple"):
        CausalDiffusionPipeline.from_preset(preset, scm, preset.resolution + 1)


def test_the_digits_generator_is_small_in_half_precision():
    preset = PRESETS["morphomnist"]
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, preset.resolution)
    parts = (pipeline.unet, pipeline.covariate_encoder, pipeline.scm)
    assert 2 * sum(weights.numel() for part in parts for weights in part.parameters()) <= 5_000_000
