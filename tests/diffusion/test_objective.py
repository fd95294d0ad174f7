"""Objectives state what a generator learns: checked against their equations, by replayed draws and by descent."""

import pytest
import torch

from synthfair_hf.diffusion import objective as objectives
from synthfair_hf.diffusion.conditioning import CovariateEncoder
from synthfair_hf.diffusion.guidance import Strength
from synthfair_hf.diffusion.latents import to_latents
from synthfair_hf.diffusion.objective import NOISE, CounterfactualObjective, FlowMatchingObjective, intervene
from synthfair_hf.diffusion.solver import ReversibleFlowScheduler

NAMES = ("age", "sex", "finding", "view", "scanner")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch(images, covariates, pipeline):
    encoded = pipeline.covariates.encode(covariates)
    return {"image": images, **{name: torch.from_numpy(column) for name, column in encoded.items()}}


def matching(pipeline) -> FlowMatchingObjective:
    return FlowMatchingObjective(pipeline.unet, pipeline.covariate_encoder, pipeline.config.space_to_depth)


def brightness(images, covariates, observed, known):
    """A reader of sex alone: female radiographs are to be white, male ones black."""
    wanted = covariates["sex"].to(images.dtype)
    errors = (images.mean(dim=(1, 2, 3)) - wanted).square()
    return {name: errors if name == "sex" else torch.zeros(len(images)) for name in NAMES}


def test_a_given_noise_replaces_the_drawn_one(fresh_pipeline, batch):
    objective = matching(fresh_pipeline)
    drawn, _ = objective(batch, seeded(3))
    replay = seeded(3)
    torch.rand(3, len(NAMES) + 1, generator=replay)
    torch.randn(3, generator=replay)
    latents = to_latents(batch["image"], fresh_pipeline.config.space_to_depth)
    noise = torch.randn(latents.shape, generator=replay)
    given, _ = objective({**batch, NOISE: noise}, seeded(3))
    other, _ = objective({**batch, NOISE: noise + 1}, seeded(3))
    assert given == drawn
    assert other != drawn


@pytest.mark.parametrize("name", ["noise", "latent", "weight", "sigma", "keep"])
def test_what_a_covariate_is_called_changes_no_loss(fresh_pipeline, batch, name):
    """Covariates stand in a batch beside the image, and what belongs to that is told by a name that none can have."""
    losses = []
    for called in ("age", name):
        torch.manual_seed(0)
        variables = [one.model_dump() for one in fresh_pipeline.covariates.walk()]
        variables = [{**one, "name": called} if one["name"] == "age" else one for one in variables]
        encoder = CovariateEncoder(variables, fresh_pipeline.covariate_encoder.config.width)
        objective = FlowMatchingObjective(fresh_pipeline.unet, encoder, fresh_pipeline.config.space_to_depth)
        columns = {called if one == "age" else one: column for one, column in batch.items()}
        losses.append(objective(columns, seeded(3))[0])
    assert losses[0] == losses[1]


def test_without_weight_it_is_flow_matching(fresh_pipeline, batch):
    base = matching(fresh_pipeline)
    objective = CounterfactualObjective(base, fresh_pipeline.scheduler, brightness, weight=0)
    alone, _ = base(batch, seeded(0))
    loss, parts = objective(batch, seeded(0))
    assert loss == alone == parts["matching"]


def test_the_loss_is_the_stated_sum(fresh_pipeline, batch):
    parts_of = {}
    for weight, off_target_weight in ((0.5, 3.0), (2.0, 0.0)):
        base = matching(fresh_pipeline)
        objective = CounterfactualObjective(base, fresh_pipeline.scheduler, brightness, weight, off_target_weight)
        loss, parts = objective(batch, seeded(5))
        expected = parts["matching"] + weight * (parts["target"] + off_target_weight * parts["leak"])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        parts_of[weight] = parts
    assert parts_of[0.5] == parts_of[2.0]


def test_one_covariate_of_a_row_takes_another_rows_value_and_nothing_missing_is_touched(pipeline, batch):
    batch["sex"] = torch.tensor([0, -1, 1])
    batch["age"] = torch.tensor([30.0, float("nan"), 80.0])
    seen = set()
    for seed in range(60):
        target, changed = intervene(batch, pipeline.covariates, seeded(seed))
        assert (changed.sum(dim=1) <= 1).all()
        for place, name in enumerate(NAMES):
            own = torch.nan_to_num(batch[name].float(), nan=-1)
            after = torch.nan_to_num(target[name].float(), nan=-1)
            assert torch.equal(own != after, changed[:, place]), "changed says where a value differs, and only there"
            assert set(after.tolist()) <= set(own.tolist())
            assert (after[own < 0] < 0).all()
            assert (own[after < 0] < 0).all()
            seen |= {(name, row) for row in changed[:, place].nonzero()[:, 0].tolist()}
    assert {("sex", 0), ("sex", 2), ("age", 0), ("age", 2)} <= seen
    assert {(name, row) for name in ("finding", "view", "scanner") for row in range(3)} <= seen


def test_only_the_generators_networks_are_trained(fresh_pipeline, batch):
    reader = torch.nn.Linear(1, 1)

    def disagreement(images, covariates, observed, known):
        read = reader(images.mean(dim=(1, 2, 3))[:, None])[:, 0]
        return {name: (read - covariates["sex"]).square() for name in NAMES}

    base = matching(fresh_pipeline)
    objective = CounterfactualObjective(base, fresh_pipeline.scheduler, disagreement)
    assert {id(one) for one in objective.parameters()} == {id(one) for one in base.parameters()}
    assert not any("disagreement" in name for name in objective.state_dict())


def test_descent_brings_readings_to_what_was_asked(fresh_pipeline, batch, monkeypatch):
    """Known truth: a reader of brightness is satisfied by brightness alone, which this network can learn."""
    objective = CounterfactualObjective(
        matching(fresh_pipeline), fresh_pipeline.scheduler, brightness, weight=100, off_target_weight=0, steps=2
    )
    changed = torch.zeros(3, len(NAMES), dtype=torch.bool)
    changed[:, NAMES.index("sex")] = True
    monkeypatch.setattr(objectives, "intervene", lambda one, *_: ({**one, "sex": 1 - one["sex"]}, changed))
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-3)
    found = []
    for _ in range(12):
        loss, parts = objective(batch, seeded(0))
        found.append(parts["target"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found[0] > 0.1
    assert found[-1] < found[0] / 2


def test_a_change_that_does_not_act_yet_shows_nothing_and_is_judged_by_what_was(fresh_pipeline, batch, monkeypatch):
    """With 2 steps, estimates are made at level 0.5: a change that acts from 0.4 down has not acted yet."""
    place, judged = NAMES.index("sex"), {}
    target = {**batch, "sex": 1 - batch["sex"]}
    changed = torch.zeros(3, len(NAMES), dtype=torch.bool)
    changed[:, place] = True

    def judge(images, covariates, observed, known):
        judged["images"], judged["sex"] = images.detach(), covariates["sex"]
        assert torch.equal(observed, batch["image"])
        assert torch.equal(known["sex"], batch["sex"])
        return {name: torch.full((3,), 2.0 if name == "sex" else 1.0) for name in NAMES}

    for level, acts in ((1.0, True), (0.5, True), (0.4, False)):
        objective = CounterfactualObjective(
            matching(fresh_pipeline),
            fresh_pipeline.scheduler,
            judge,
            strengths={place: Strength(1.0, level)},
            steps=2,
        )
        monkeypatch.setattr(objectives, "intervene", lambda *_: (target, changed))
        assert objective.acting(1).tolist() == [name != "sex" or acts for name in NAMES]
        with torch.no_grad():
            _, parts = objective(batch, seeded(0))
            factual = objective.counterfactual(batch, batch, torch.zeros_like(changed), 1)
        assert torch.equal(judged["images"], factual) is not acts
        assert torch.equal(judged["sex"], target["sex"] if acts else batch["sex"])
        assert parts["target"] == (2 if acts else 0)
        assert parts["leak"] == (1 if acts else pytest.approx(6 / 5))


def test_a_path_can_be_followed_part_of_the_way():
    scheduler = ReversibleFlowScheduler()
    pair = torch.randn(2, 2, 1, 4, 4, generator=seeded(1))

    def velocity(states, level):
        return states.sin() + level

    levels = scheduler.levels(5)
    assert torch.equal(scheduler.predict(velocity, pair, 5, 0), pair)
    assert torch.equal(scheduler.predict(velocity, pair, 5, 5), scheduler.predict(velocity, pair, 5))
    y, z = scheduler.predict(velocity, pair, 5, 4).unbind(dim=1)
    step = levels[5] - levels[4]
    y = scheduler.mixing * y + (1 - scheduler.mixing) * z + step * velocity(z, levels[4])
    z = z + step * velocity(y, levels[5])
    assert torch.allclose(torch.stack([y, z], dim=1), scheduler.predict(velocity, pair, 5), atol=1e-6)


def test_a_single_step_is_refused(pipeline):
    with pytest.raises(ValueError, match="steps: 1 is out of range"):
        CounterfactualObjective(matching(pipeline), pipeline.scheduler, brightness, steps=1)
