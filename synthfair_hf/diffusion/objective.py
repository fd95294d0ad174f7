"""What a generator learns, as objectives for the one training loop.

Flow matching: with x_s = (1 - s) x + s e, the network learns the velocity e - x at noise level s.

    loss = E | v(x_s, s, c) - (e - x) |^2,     s = sigmoid(n), n ~ N(location, scale^2), e ~ N(0, 1)

(Lipman et al. 2023; the logit-normal level of Esser et al. 2024.) With e = the noise that a trained network abducts
from x, instead of an independent sample, its paths are rectified (reflow: Liu et al. 2023).

Counterfactual: one covariate k of each image is set to another image's value a'; d_j is how far attribute j that a
predictor estimates from the counterfactual x* is from its value.

    loss = flow matching + weight (mean of d_k(x*, a') + off_target_weight * mean over j != k of d_j(x*, c_j))

(fine-tuning by predictors: De Sousa Ribeiro et al. 2023). x* is estimated in one step from the state at a random
noise level of the solver's own path, and the gradient goes through that step alone (as in Xu et al. 2023).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from ..schema import Schema
from .autoencoders import Autoencoder
from .conditioning import CovariateEncoder
from .denoiser import Denoiser, predict_velocity
from .guidance import Strength, conditional_velocity, guided_velocity
from .latents import to_images, to_latents
from .solver import ReversibleFlowScheduler, Velocity

__all__ = ["NOISE", "STEPS", "CounterfactualObjective", "Disagreement", "FlowMatchingObjective", "intervene"]

NOISE = "image.noise"
"""Entry of a batch that is no covariate: the name of none has a dot, and `noise` may be one."""

Covariates = Mapping[str, Tensor]
"""Encoded values `[B]` by name."""

Disagreement = Callable[[Tensor, Covariates, Tensor, Covariates], dict[str, Tensor]]
"""(counterfactuals `[B, C, H, W]` in [0, 1], their requested covariates, observations, observed covariates) -> by
attribute the error of the prediction `[B]`, differentiable; zero where a covariate is missing."""


def intervene(batch: Covariates, covariates: Schema, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Set one covariate of each row to another row's value; what it causes is held.

    A missing value neither replaces one nor is replaced.

    Args:
        batch: encoded covariates `[B]` by name.
        covariates: the schema.
        generator: draws the covariate and the other row.

    Returns:
        The covariates after the intervention, and which were changed, bool `[B, V]`.
    """
    first = batch[covariates.names[0]]
    which = torch.randint(len(covariates), (len(first),), generator=generator, device=first.device)
    order = torch.randperm(len(first), generator=generator, device=first.device)
    target, changed = {}, []
    for place, variable in enumerate(covariates.walk()):
        own, other = batch[variable.name], batch[variable.name][order]
        known = (own >= 0) & (other >= 0) if variable.categorical else ~(own.isnan() | other.isnan())
        replaced = (which == place) & known & (own != other)
        target[variable.name] = torch.where(replaced, other, own)
        changed.append(replaced)
    return target, torch.stack(changed, dim=1)


STEPS = 4
"""Solver steps of counterfactuals in training: each costs four calls of the network."""


class FlowMatchingObjective(nn.Module):
    """objective(batch, generator) -> (loss, {name: value}), for the one training loop.

    `batch["image"]` is `[B, C, H, W]` in [0, 1], or `batch["latents"]` what an autoencoder made of it, `[B, c, H, W]`
    before it is folded; `batch[NOISE]`, where there is one, the noise `[B, c, h, w]` that
    each image is paired with; the other entries are encoded covariates `[B]`.

    Args:
        denoiser: the network, trained.
        covariate_encoder: covariates to tokens, trained.
        space_to_depth: factor by which pixels or latents are folded into channels.
        vae: autoencoder of the latents, not trained; none by default.
        variable_dropout: probability with which each covariate is hidden, independently.
        whole_dropout: probability with which all covariates are hidden at once.
        location: mean of the noise level's logit.
        scale: its standard deviation.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        covariate_encoder: CovariateEncoder,
        space_to_depth: int,
        vae: Autoencoder | None = None,
        variable_dropout: float = 0.1,
        whole_dropout: float = 0.1,
        location: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.covariate_encoder = denoiser, covariate_encoder
        self.space_to_depth = space_to_depth
        # Kept out of the module's parameters: the autoencoder is not trained here.
        self.__dict__["vae"] = vae
        self.variable_dropout, self.whole_dropout = variable_dropout, whole_dropout
        self.location, self.scale = location, scale

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity, and the same at low and high noise."""
        with torch.no_grad():
            if "latents" in batch:
                latents = pixel_unshuffle(batch["latents"], self.space_to_depth)
            else:
                latents = to_latents(batch["image"], self.space_to_depth, self.vae)
        rows, device = len(latents), latents.device
        variables = len(self.covariate_encoder.covariates)
        uniform = torch.rand(rows, variables + 1, generator=generator, device=device)
        keep = (uniform[:, :-1] >= self.variable_dropout) & (uniform[:, -1:] >= self.whole_dropout)
        level = torch.randn(rows, generator=generator, device=device) * self.scale + self.location
        sigma = torch.sigmoid(level)
        noise = batch[NOISE] if NOISE in batch else torch.randn(latents.shape, generator=generator, device=device)
        mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
        tokens = self.covariate_encoder(batch, keep)
        predicted = predict_velocity(self.denoiser, mixed, sigma, tokens)
        error = (predicted.float() - (noise - latents)).square().mean(dim=(1, 2, 3))
        low = sigma.detach() < 0.5
        parts = {"low_noise": error.detach()[low].mean(), "high_noise": error.detach()[~low].mean()}
        return error.mean(), parts


class CounterfactualObjective(nn.Module):
    """Flow matching, and predictors' disagreement with one counterfactual of each image.

    Args:
        matching: holds the networks that are trained; keeps them a generator of real images.
        scheduler: the solver by which counterfactuals are made.
        disagreement: of the attribute predictors, which are not trained.
        weight: of the disagreement, as in the equation above.
        off_target_weight: of the disagreement on covariates that were not changed, as in the equation above.
        strengths: of each covariate's change, by its place, as the pipeline will use them.
        steps: solver steps of abduction and prediction while training, 2 or more. A change that acts below the last
            but one of their levels alone is never evaluated.
    """

    disagreement: Disagreement

    def __init__(
        self,
        matching: FlowMatchingObjective,
        scheduler: ReversibleFlowScheduler,
        disagreement: Disagreement,
        weight: float = 0.1,
        off_target_weight: float = 1.0,
        strengths: Mapping[int, Strength] | None = None,
        steps: int = STEPS,
    ) -> None:
        super().__init__()
        if steps < 2:
            raise ValueError(f"steps: {steps} is out of range; allowed: 2 or more.")
        self.matching = matching
        # Kept out of the module's parameters: the predictors are not trained here.
        self.__dict__["disagreement"] = disagreement
        self.scheduler, self.weight, self.off_target_weight = scheduler, weight, off_target_weight
        self.strengths, self.steps = dict(strengths or {}), steps

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and its parts: flow matching, disagreement on what was set, disagreement on the rest."""
        matching, _ = self.matching(batch, generator)
        target, changed = intervene(batch, self.matching.covariate_encoder.covariates, generator)
        # From pure noise one step gives the mean of all images, which no predictor was trained on.
        done = int(torch.randint(1, self.steps, (), generator=generator, device=changed.device))
        acts = changed & self.acting(done).to(changed.device)
        names = self.matching.covariate_encoder.covariates.names
        # Above its level a change is not visible yet: the image is compared with the observed value.
        requested = {name: torch.where(acts[:, place], target[name], batch[name]) for place, name in enumerate(names)}
        images = self.counterfactual(batch, target, changed, done)
        found = self.disagreement(images, requested, batch["image"], {name: batch[name] for name in names})
        errors = torch.stack([found[name] for name in names], dim=1)
        on_target = (errors * acts).sum() / acts.sum().clamp(min=1)
        off_target = (errors * ~acts).sum() / (~acts).sum().clamp(min=1)
        # "leak" is the off-target effect's name in records
        parts = {"matching": matching.detach(), "target": on_target.detach(), "leak": off_target.detach()}
        return matching + self.weight * (on_target + self.off_target_weight * off_target), parts

    def acting(self, done: int) -> Tensor:
        """Which covariates' changes act after `done` steps, bool `[V]`."""
        level, places = self.scheduler.levels(self.steps)[done], range(len(self.matching.covariate_encoder.covariates))
        return torch.tensor([self.strengths.get(place, Strength()).acts(level) for place in places])

    def counterfactual(self, batch: Covariates, target: Covariates, changed: Tensor, done: int) -> Tensor:
        """Counterfactuals estimated in one step after others; they carry the gradient of that step.

        Args:
            batch: images and observed covariates.
            target: covariates after the intervention.
            changed: which of them differ, bool `[B, V]`.
            done: solver steps of prediction before the last.

        Returns:
            x* `[B, C, H, W]` in [0, 1].
        """
        matching = self.matching
        with torch.no_grad():
            latents = to_latents(batch["image"], matching.space_to_depth, matching.vae)
            tokens = matching.covariate_encoder(batch)
            pair = latents[:, None].repeat(1, 2, 1, 1, 1)
            pair = self.scheduler.abduct(conditional_velocity(matching.denoiser, tokens), pair, self.steps)
            guided = self._guided(matching.covariate_encoder(target), tokens, changed)
            state = self.scheduler.predict(guided, pair, self.steps, done).mean(dim=1)
        level = self.scheduler.levels(self.steps)[done]
        guided = self._guided(matching.covariate_encoder(target), matching.covariate_encoder(batch), changed)
        estimate = state - level * guided(state, level)
        return to_images(estimate, matching.space_to_depth, matching.vae, batch["image"].shape[1]).clamp(0, 1)

    def _guided(self, target: Tensor, factual: Tensor, changed: Tensor) -> Velocity:
        return guided_velocity(self.matching.denoiser, target, factual, changed, self.strengths)
