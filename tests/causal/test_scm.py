"""Laws of the causal model: identity, untouched non-descendants, recovery of a known world, save and load."""

import numpy as np
import pytest
import torch

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError

FULL = get_preset("chest_xray")
PRESET = FULL.restrict(tuple(name for name in FULL.covariates.names if name != "race"))


def world(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """A known world with the preset's edges: shares by hand-written logits."""
    rng = np.random.default_rng(seed)
    age = rng.gamma(9, 5, rows).clip(1, 99).round()
    sex = rng.integers(0, 2, rows)
    sick = rng.random(rows) < 1 / (1 + np.exp(-(-2 + 0.03 * age + 0.5 * sex)))
    ap = rng.random(rows) < 1 / (1 + np.exp(-(-1.5 + 0.01 * age + 2.0 * sick)))
    scanner = np.where(ap, rng.choice(3, rows, p=[0.2, 0.2, 0.6]), rng.choice(3, rows, p=[0.6, 0.3, 0.1]))
    columns = {"age": age.astype(np.float32), "sex": sex, "finding": sick, "view": ap, "scanner": scanner}
    return {
        name: torch.from_numpy(np.asarray(c, np.float32 if name == "age" else np.int64)) for name, c in columns.items()
    }


@pytest.fixture(scope="module")
def fitted() -> StructuralCausalModel:
    scm = StructuralCausalModel.from_schema(PRESET.covariates, PRESET.edges)
    scm.fit(world(6000, seed=0), seed=0, steps=250, batch_size=1024)
    return scm


def test_do_nothing_is_the_identity(fitted):
    observed = world(200, seed=1)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    after = fitted.counterfactual(observed, {}, noise)
    assert all(torch.equal(after[name], observed[name]) for name in observed)


@pytest.mark.parametrize("name", PRESET.covariates.names)
def test_do_the_observed_value_is_the_identity(fitted, name):
    observed = world(200, seed=2)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    after = fitted.counterfactual(observed, {name: observed[name]}, noise)
    assert all(torch.equal(after[one], observed[one]) for one in observed)


def test_abducted_noise_evaluates_to_what_was_observed(fitted):
    observed = world(500, seed=3)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    after = fitted.evaluate(noise)
    assert torch.allclose(after["age"], observed["age"], atol=2e-3)
    assert all(torch.equal(after[name], observed[name]) for name in ("sex", "finding", "view", "scanner"))


@pytest.mark.parametrize("name", PRESET.covariates.names)
def test_what_is_not_a_descendant_stays_bit_equal(fitted, name):
    observed = world(300, seed=4)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    value = torch.full_like(observed[name], 70.0) if name == "age" else 1 - observed[name].clamp(max=1)
    after = fitted.counterfactual(observed, {name: value}, noise)
    assert torch.equal(after[name], value)
    touched = {name, *fitted.graph.descendants([name])}
    assert all(torch.equal(after[one], observed[one]) for one in observed if one not in touched)


def test_several_interventions_at_once_with_several_parents(fitted):
    observed = world(2000, seed=5)
    noise = fitted.abduct(observed, torch.Generator().manual_seed(0))
    do = {"age": torch.full((2000,), 90.0), "sex": torch.ones(2000, dtype=torch.int64)}
    after = fitted.counterfactual(observed, do, noise)
    alone = fitted.counterfactual(observed, {"age": do["age"]}, noise)
    was, with_age, with_both = (one["finding"].float().mean().item() for one in (observed, alone, after))
    assert was < with_age < with_both


def test_interventional_shares_match_the_known_world(fitted):
    """p(finding | do(age=80), sex=female) = sigmoid(-2 + 2.4 + 0.5) in the world above."""
    noise = fitted.sample_noise(20_000, torch.Generator().manual_seed(1))
    do = {"age": torch.full((20_000,), 80.0), "sex": torch.ones(20_000, dtype=torch.int64)}
    share = fitted.evaluate(noise, do)["finding"].float().mean().item()
    assert share == pytest.approx(1 / (1 + np.exp(-0.9)), abs=0.06)


def test_observational_marginals_match_the_training_table(fitted):
    table, drawn = world(6000, seed=0), fitted.sample(20_000, torch.Generator().manual_seed(2))
    assert drawn["age"].mean().item() == pytest.approx(table["age"].mean().item(), abs=2)
    assert drawn["age"].std().item() == pytest.approx(table["age"].std().item(), abs=2)
    for name in ("sex", "finding", "view"):
        assert drawn[name].float().mean().item() == pytest.approx(table[name].float().mean().item(), abs=0.05)


def test_rows_with_missing_values_are_used_where_they_can_be():
    table = world(3000, seed=6)
    table["finding"][:1000] = -1
    scm = StructuralCausalModel.from_schema(PRESET.covariates, PRESET.edges)
    report = scm.fit(table, seed=0, steps=2)
    rows = {name: one["rows"] + one["held_out_rows"] for name, one in report.items()}
    assert rows == {"age": 3000, "sex": 3000, "finding": 2000, "view": 2000, "scanner": 3000}


def test_save_and_load_answer_alike(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    loaded = StructuralCausalModel.from_pretrained(tmp_path, use_safetensors=True)
    ours, theirs = (scm.sample(50, torch.Generator().manual_seed(3)) for scm in (fitted, loaded))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(tmp_path.glob("*.bin"))


def test_strangers_and_missing_values_are_refused(fitted):
    observed = world(10, seed=7)
    with pytest.raises(InputError, match="'race' is unknown"):
        fitted.evaluate(fitted.sample_noise(10, None), {"race": observed["sex"]})
    observed["age"][3] = torch.nan
    with pytest.raises(InputError, match=r"age.*missing"):
        fitted.abduct(observed, None)
    with pytest.raises(InputError, match="needs 20 or more"):
        StructuralCausalModel.from_schema(PRESET.covariates, PRESET.edges).fit(world(10, seed=8), seed=0)


SEVERAL = get_preset("nih_chestxray14")


@pytest.fixture(scope="module")
def labels() -> dict[str, torch.Tensor]:
    """Ages, sexes, views and fourteen findings, of each of which a tenth is not known."""
    generator, table = torch.Generator().manual_seed(0), {}
    for variable in SEVERAL.covariates.walk():
        column = torch.randint(0, 2, (400,), generator=generator)
        table[variable.name] = column if variable.categorical else 20.0 + 60 * torch.rand(400, generator=generator)
        if variable.role == "finding":
            column[torch.rand(400, generator=generator) < 0.1] = -1
    return table


@pytest.fixture(scope="module")
def several(labels) -> tuple[StructuralCausalModel, dict]:
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(SEVERAL.covariates, SEVERAL.edges)
    return scm, scm.fit(labels, seed=0, steps=10)


def test_each_finding_is_fitted_on_the_rows_that_know_it_and_its_causes(labels, several):
    _, report = several
    for name in SEVERAL.covariates.names:
        needed = [name, *(cause for cause, effect in SEVERAL.edges if effect == name)]
        known = sum(all(float(labels[one][row]) >= 0 for one in needed) for row in range(400))
        assert report[name]["rows"] + report[name]["held_out_rows"] == known
        assert (known < 400) == any(SEVERAL.covariates[one].role == "finding" for one in needed)


@pytest.mark.parametrize("finding", ["effusion", "hernia", "cardiomegaly"])
def test_do_of_one_finding_changes_it_and_what_follows_from_it_alone(labels, several, finding):
    scm, _ = several
    known = torch.stack([column >= 0 for column in labels.values()]).all(dim=0)
    observed = {name: column[known] for name, column in labels.items()}
    present = torch.ones_like(observed[finding])
    after = scm.counterfactual(observed, {finding: present}, scm.abduct(observed, torch.Generator().manual_seed(0)))
    assert torch.equal(after[finding], present)
    followers, before = set(), {finding}
    while before:
        before = {effect for cause, effect in SEVERAL.edges if cause in before} - followers
        followers |= before
    assert {"effusion": {"atelectasis", "pleural_thickening", "view"}, "hernia": {"view"}}.get(
        finding, followers
    ) == followers
    already = observed[finding] == 1
    for name in SEVERAL.covariates.names:
        same = after[name] == observed[name]
        assert same[already].all()
        assert name in {finding, *followers} or same.all()
