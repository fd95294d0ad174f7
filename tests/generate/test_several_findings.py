"""A family crosses the findings that are chosen, holds the others, and is not crossed with all by mistake."""

from collections import Counter

import pytest

from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.generate.plan import MOST_CELLS, GenerationPlan
from synthfair_hf.views.shares import listed_views

PRESET = get_preset("nih_chestxray14")
FINDINGS = findings_of(PRESET)


def plan_of(*factors: str, **settings) -> GenerationPlan:
    return GenerationPlan(preset=PRESET, model_revision="r1", num_subjects=28, factors=factors, **settings)


def test_all_findings_crossed_by_mistake_are_refused_before_a_cell_is_made():
    with pytest.raises(InputError) as caught:
        plan_of(*FINDINGS)
    told = str(caught.value)
    assert "makes families of 16384 images; cross fewer variables or levels, for at most 1024" in told
    assert told.count("\n") == 0
    assert len(plan_of(*FINDINGS[:10]).cells) == MOST_CELLS
    # a number of levels counts, and not of factors
    assert len(plan_of(*FINDINGS, levels={name: ("absent",) for name in FINDINGS[2:]}).cells) == 4


@pytest.mark.parametrize("factors", [("effusion", "sex"), ("mass", "edema"), ("pneumothorax",)])
def test_what_is_crossed_is_balanced_and_every_other_finding_is_the_subjects_own(factors):
    plan = plan_of(*factors)
    rows = [row for shard in plan.shards() for row in plan.rows(shard)]
    for split in ("train", "validation", "test"):
        for name in factors:
            counts = Counter(row.cell[name] for row in rows if row.split == split)
            assert len(counts) == 2
            assert len(set(counts.values())) == 1
    own = {one.name: one.levels[0] if one.categorical else 40.0 for one in PRESET.covariates.walk()}
    for row in rows[: len(plan.cells)]:
        after = {**own, **plan.intervention(row.cell, own)}
        assert after == {**own, **row.cell}


@pytest.mark.parametrize("finding", ["effusion", "hernia"])
def test_the_views_of_a_crossed_finding_are_listed_and_those_of_others_are_not(finding):
    plan = plan_of(finding, "sex")
    listed = {view.name for view in listed_views(plan.preset, plan.train)}
    assert {f"{finding}_imbalanced_90_10", f"{finding}_sex_correlated_90_10"} <= listed
    assert f"{finding}_underdiagnosed_in_female_30" in listed
    assert not any(name.startswith(tuple(set(FINDINGS) - {finding})) for name in listed)
