"""Findings of a person that are unknown: drawn given what is known, followed by their effects, and unknown at last."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError

NAMES = ("age", "sex", "cardiomegaly", "edema", "effusion", "atelectasis", "view")
FINDINGS = ("cardiomegaly", "edema", "effusion", "atelectasis")
SEED = 8
SEVERAL = get_preset("nih_chestxray14").restrict(NAMES)
PERSON = {"age": 61.0, "sex": 1, "cardiomegaly": 0, "edema": -1, "effusion": -1, "atelectasis": 0, "view": 1}
"""Of the chain cardiomegaly -> edema -> effusion -> atelectasis the ends are known."""


@pytest.fixture(scope="module")
def scm() -> StructuralCausalModel:
    """Fitted to a world in which a finding is present in 7 of 10 people with one of its causes, and in 2 of others."""
    generator, rows = torch.Generator().manual_seed(0), 4000
    table = {
        "age": 20 + 60 * torch.rand(rows, generator=generator),
        "sex": torch.randint(2, (rows,), generator=generator),
    }
    model = StructuralCausalModel.from_schema(SEVERAL.covariates, SEVERAL.edges)
    for name in model.graph.names[2:]:
        causes = [table[cause] == 1 for cause in model.graph.parents(name) if cause in FINDINGS]
        share = 0.2 + 0.5 * torch.stack([torch.zeros(rows, dtype=torch.bool), *causes]).any(dim=0)
        table[name] = (torch.rand(rows, generator=generator) < share).long()
    model.fit(table, seed=0, by_counts=True)
    return model


def rows_of(person: Mapping[str, float], rows: int) -> dict[str, Tensor]:
    return {
        name: torch.full((rows,), value, dtype=torch.float32 if name == "age" else torch.int64)
        for name, value in person.items()
    }


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.mark.parametrize("do", [{}, {"cardiomegaly": 1}, {"edema": 1}, {"age": 20.0, "effusion": 1}])
def test_answers_are_those_of_all_people_of_whom_the_same_is_known(scm, do):
    """By rejection: of many people of that age and sex those with the known levels, each with the noise that he has."""
    roots = {"age": PERSON["age"], "sex": PERSON["sex"]}
    noise = scm.sample_noise(100_000, torch.Generator().manual_seed(0))
    people = scm.evaluate(noise, rows_of(roots, 100_000))
    alike = torch.stack([people[name] == level for name, level in PERSON.items() if level != -1]).all(dim=0)
    alike_noise = {name: column[alike] for name, column in noise.items()}
    assert alike.sum() > 2000
    expected = scm.evaluate(alike_noise, rows_of(roots | do, int(alike.sum())))

    observed = rows_of(PERSON, 800)
    abducted = scm.abduct(observed, torch.Generator().manual_seed(1), FINDINGS)
    after = scm.counterfactual(observed, rows_of(do, 800), abducted)
    behind = scm.evaluate(abducted, rows_of(roots | do, 800))
    for name in (*FINDINGS, "view"):
        share = expected[name].double().mean()
        assert abs(behind[name].double().mean() - share) < 0.06, name
        if PERSON[name] != -1:
            assert torch.equal(after[name], behind[name])
    followed = (after["atelectasis"] != observed["atelectasis"]).double().mean()
    assert not do or 0.05 < followed < 0.95, "for some, through what is unknown; or nothing would be shown"


def test_what_is_unknown_stays_so_and_do_nothing_is_the_identity(scm):
    observed = rows_of(PERSON, 200)
    noise = scm.abduct(observed, torch.Generator().manual_seed(0), FINDINGS)
    for do in ({}, {name: column for name, column in observed.items() if PERSON[name] != -1}):
        after = scm.counterfactual(observed, do, noise)
        assert all(torch.equal(after[name], observed[name]) for name in NAMES)
    after = scm.counterfactual(observed, rows_of({"cardiomegaly": 1, "effusion": 1}, 200), noise)
    assert (after["edema"] == -1).all(), "its cause has changed, and it is unknown as before"
    assert (after["effusion"] == 1).all(), "what is set is known"
    assert all(torch.equal(after[name], observed[name]) for name in ("age", "sex"))


@pytest.mark.parametrize("name", FINDINGS)
def test_to_set_what_is_unknown_changes_nothing_where_it_was_so(scm, name):
    """Of do(absent) and do(present) one is what was drawn, and leaves every other covariate alone."""
    observed = rows_of({**PERSON, name: -1}, 300)
    noise = scm.abduct(observed, torch.Generator().manual_seed(3), FINDINGS)
    others = [one for one in NAMES if one != name]
    same = [
        torch.stack([after[one] == observed[one] for one in others]).all(dim=0)
        for after in (scm.counterfactual(observed, rows_of({name: level}, 300), noise) for level in (0, 1))
    ]
    assert (same[0] | same[1]).all()


def test_a_row_does_not_depend_on_what_others_of_its_batch_know(scm):
    people = [PERSON, {**PERSON, "edema": 0, "effusion": 1}, dict.fromkeys(FINDINGS, -1), {**PERSON, "edema": 1}]
    rows = [rows_of({**PERSON, **one}, 1) for one in people]
    together = {name: torch.cat([row[name] for row in rows]) for name in NAMES}
    noise = scm.abduct(together, seeds(0, 1, 2, 3), FINDINGS)
    for place, row in enumerate(rows):
        alone = scm.abduct(row, seeds(place), FINDINGS)
        assert all(torch.allclose(alone[name][0], noise[name][place], atol=1e-5) for name in NAMES)
    known = scm.abduct(rows[1], seeds(1))
    assert all(torch.allclose(known[name][0], noise[name][1], atol=1e-5) for name in NAMES), "as without may_lack"


def test_the_caller_says_which_levels_may_be_unknown(scm):
    observed = rows_of(PERSON, 3)
    with pytest.raises(InputError, match=r"'edema'.*missing in some rows"):
        scm.abduct(observed, None, ["effusion"])
    # a density is no level
    observed["age"][1] = torch.nan
    with pytest.raises(InputError, match=r"'age'.*missing in some rows"):
        scm.abduct(observed, None, NAMES)


def test_all_findings_of_a_preset_may_be_unknown_and_no_more_than_can_be_weighed():
    for name in ("nih_chestxray14", "chexpert"):
        preset = get_preset(name)
        scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
        findings = [one.name for one in preset.covariates.walk() if one.name not in ("age", "sex", "race", "view")]
        person = {one: -1.0 if one in findings else 40.0 if one == "age" else 0 for one in preset.covariates.names}
        observed = rows_of(person, 2)
        after = scm.counterfactual(observed, {}, scm.abduct(observed, seeds(0, 1), findings))
        assert all(torch.equal(after[one], observed[one]) for one in observed)
    names = [f"finding_{place}" for place in range(17)]
    finding = preset.covariates["edema"]
    variables = (*(finding.model_copy(update={"name": one}) for one in names), preset.covariates["view"])
    schema = preset.covariates.model_copy(update={"variables": variables})
    scm = StructuralCausalModel.from_schema(schema, [(one, "view") for one in names])
    observed = rows_of({**dict.fromkeys(names, -1), "view": 0}, 1)
    with pytest.raises(InputError, match=r"^covariates: finding_0, .*finding_16 are unknown, which are too many"):
        scm.abduct(observed, None, names)
    observed["finding_3"] = torch.ones(1, dtype=torch.int64)
    scm.abduct(observed, None, names)
