"""A causal model of several sites, one of which does not tell some covariates."""

import numpy as np
import pytest
import torch

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.schema import Schema

NAMES = ("sex", "race", "finding", "view", "site")
SITED = get_preset("chest_xray").with_site(("east", "west"))
EDGES = [edge for edge in SITED.edges if set(edge) <= set(NAMES)]
UNOBSERVED = {"race": ("east",), "view": ("east",)}
COVARIATES = Schema(
    variables=tuple(
        variable.model_copy(update={"unobserved_at": UNOBSERVED.get(variable.name, ())})
        for variable in SITED.covariates.subset(NAMES).walk()
    )
)
EAST, WEST = 0, 1
SICK = {(WEST, 0): 0.1, (WEST, 1): 0.5, (WEST, 2): 0.9, (EAST, 0): 0.3, (EAST, 1): 0.3, (EAST, 2): 0.3}
"""P(pneumonia) by site and race."""


def world(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Two sites of one population; in the east nobody's race and no view is told."""
    rng = np.random.default_rng(seed)
    site, race = rng.integers(0, 2, rows), rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    sick = rng.random(rows) < np.array([SICK[key] for key in zip(site.tolist(), race.tolist(), strict=True)])
    view = np.where(rng.random(rows) < 0.2 + 0.6 * sick, 1, 0)
    columns = {"sex": rng.integers(0, 2, rows), "race": race, "finding": sick, "view": view, "site": site}
    for name in UNOBSERVED:
        columns[name] = np.where(site == EAST, -1, columns[name])
    return {name: torch.from_numpy(np.asarray(column, np.int64)) for name, column in columns.items()}


def model() -> StructuralCausalModel:
    torch.manual_seed(0)
    return StructuralCausalModel.from_schema(COVARIATES, EDGES)


@pytest.fixture(scope="module")
def fitted() -> StructuralCausalModel:
    scm = model()
    report = scm.fit(world(4000, seed=0), seed=0, steps=200, batch_size=512)
    east = int((world(4000, seed=0)["site"] == EAST).sum())
    assert report["race"]["rows_by_site"] == {"east": 0, "west": 4000 - east}
    assert report["finding"]["rows_by_site"] == {"east": east, "west": 4000 - east}
    return scm


def test_a_mechanism_is_that_of_the_rows_that_know_it():
    table, rows = world(300, seed=1), world(300, seed=1)["site"] == WEST
    joint, alone = model(), model()
    joint.fit(table, seed=0, steps=3)
    alone.fit({name: column[rows] for name, column in table.items()}, seed=0, steps=3)
    weights = [scm.mechanism("race").state_dict() for scm in (joint, alone)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_cause_that_is_told_at_one_site_keeps_no_row_of_another_out(fitted):
    """Where race is known the finding follows it, elsewhere it has its own share, and not that of the others."""
    drawn = fitted.sample(20_000, torch.Generator().manual_seed(0))
    for site, race, share in ((WEST, 0, 0.1), (WEST, 1, 0.5), (WEST, 2, 0.9), (EAST, -1, 0.3)):
        kept = (drawn["site"] == site) & (drawn["race"] == race)
        assert abs(drawn["finding"][kept].float().mean() - share) < 0.06, (site, race)


def test_what_is_drawn_has_no_value_that_its_site_does_not_tell(fitted):
    drawn = fitted.sample(500, torch.Generator().manual_seed(1))
    for name in UNOBSERVED:
        assert torch.equal(drawn[name] < 0, drawn["site"] == EAST)
    assert (drawn["finding"] >= 0).all()


def test_abduction_of_what_is_not_told_gives_back_what_was_observed(fitted):
    observed = world(300, seed=2)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    after = fitted.evaluate(noise)
    assert all(torch.equal(after[name], observed[name]) for name in after)
    same = fitted.counterfactual(observed, {}, noise)
    assert all(torch.equal(same[name], observed[name]) for name in same)
    # elsewhere every value is needed
    lacking = {**observed, "race": torch.full_like(observed["race"], -1)}
    with pytest.raises(InputError, match=r"'race'.*missing in some rows"):
        fitted.abduct(lacking, torch.Generator().manual_seed(0))


def test_another_site_changes_what_it_causes_alone(fitted):
    observed = world(400, seed=3)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    for site in (EAST, WEST):
        after = fitted.counterfactual(observed, {"site": torch.full_like(observed["site"], site)}, noise)
        # nobody gets a race, or loses it, or falls ill for having one
        assert all(torch.equal(after[name], observed[name]) for name in ("sex", "race", "finding"))
        moved = observed["site"] != site
        assert torch.equal(after["view"][~moved], observed["view"][~moved])
        # how an image is taken is told in the west, and not in the east
        assert ((after["view"][moved] >= 0) == (site == WEST)).all()


def test_a_finding_that_only_one_site_tells_is_not_made_up_at_another():
    """do(site) makes no value of a person known that was not, and takes none; do() of its causes neither."""
    names = ("sex", "effusion", "pneumonia", "view", "site")
    domain = get_preset("chexpert").with_site(("east", "west"))
    lacks = {"pneumonia": ("east",), "effusion": ("west",)}
    schema = Schema(
        variables=tuple(
            one.model_copy(update={"unobserved_at": lacks.get(one.name, ())})
            for one in domain.covariates.subset(names).walk()
        )
    )
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(schema, [edge for edge in domain.edges if set(edge) <= set(names)])
    observed = scm.sample(200, torch.Generator().manual_seed(0))
    noise = scm.abduct(observed, torch.Generator().manual_seed(1))
    other = {"site": 1 - observed["site"]}
    for do in (other, {"sex": 1 - observed["sex"]}, {**other, "sex": 1 - observed["sex"]}):
        after = scm.counterfactual(observed, do, noise)
        for name in lacks:
            assert torch.equal(after[name] < 0, observed[name] < 0)
    after = scm.counterfactual(observed, other, noise)
    assert all(torch.equal(after[name], observed[name]) for name in lacks)


def test_what_a_domain_of_its_own_says_the_site_causes_follows_it():
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(COVARIATES, [*EDGES, ("site", "finding")])
    observed = world(400, seed=3)
    scm.fit(world(4000, seed=0), seed=0, steps=200, batch_size=512)
    noise = scm.abduct(observed, torch.Generator().manual_seed(0))
    # in the west the east's people have the findings of a population of which race is not known
    west = scm.counterfactual(observed, {"site": torch.full_like(observed["site"], WEST)}, noise)
    moved = observed["site"] == EAST
    assert abs(west["finding"][moved].float().mean() - (0.6 * 0.1 + 0.3 * 0.5 + 0.1 * 0.9)) < 0.1


def test_race_is_set_where_it_is_not_told(fitted):
    observed = {name: column[:50] for name, column in world(400, seed=4).items()}
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    after = fitted.counterfactual(observed, {"race": torch.full_like(observed["race"], 2)}, noise)
    assert (after["race"] == 2).all()
    east = observed["site"] == EAST
    assert torch.equal(after["finding"][east], observed["finding"][east])


def test_a_row_does_not_depend_on_the_sites_of_its_batch(fitted):
    observed = {name: column[:6] for name, column in world(400, seed=5).items()}
    assert len(set(observed["site"].tolist())) == 2
    generators = [torch.Generator().manual_seed(row) for row in range(6)]
    together = fitted.abduct(observed, generators)
    for row in range(6):
        alone = {name: column[row : row + 1] for name, column in observed.items()}
        noise = fitted.abduct(alone, [torch.Generator().manual_seed(row)])
        assert all(torch.allclose(noise[name][0], together[name][row], atol=1e-5) for name in noise)


def test_saved_and_loaded_it_knows_what_is_not_told(fitted, tmp_path):
    fitted.save_pretrained(tmp_path, safe_serialization=True)
    loaded = StructuralCausalModel.from_pretrained(tmp_path, use_safetensors=True)
    drawn = [scm.sample(50, torch.Generator().manual_seed(2)) for scm in (fitted, loaded)]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_a_number_that_is_not_told_is_nan_and_stays_so():
    age = get_preset("chest_xray").covariates["age"].model_copy(update={"unobserved_at": ("east",)})
    schema = Schema(variables=(age, *COVARIATES.variables))
    scm = StructuralCausalModel.from_schema(schema, [*EDGES, ("age", "finding")])
    drawn = scm.sample(40, torch.Generator().manual_seed(0))
    assert torch.equal(drawn["age"].isnan(), drawn["site"] == EAST)
    noise = scm.abduct(drawn, torch.Generator().manual_seed(0))
    for do in ({}, {"site": 1 - drawn["site"]}):
        after = scm.counterfactual(drawn, do, noise)
        assert torch.equal(after["age"].nan_to_num(-1), drawn["age"].nan_to_num(-1))
        assert (after["finding"] >= 0).all()


def test_a_site_cannot_follow_from_what_it_may_not_tell():
    with pytest.raises(InputError, match="edges: race -> site, at some of which race is unobserved"):
        StructuralCausalModel.from_schema(COVARIATES, [("race", "site")])
