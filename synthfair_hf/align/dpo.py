"""Diffusion-DPO: a denoiser learns which of two images was preferred, kept near the denoiser it started from.

Preferred image w and rejected image l get the same noise e and noise level s; d is the mean square, over an image's
elements, of the denoising error, and d_ref that of the reference, the same denoiser with its adapters off:

    logit = beta ((d_ref(w) - d(w)) - (d_ref(l) - d(l)))
    loss  = mean of g_i (-log sigmoid(logit_i) + anchor beta max(0, d(w_i) - d_ref(w_i)))

(Wallace et al. 2024.) The second term keeps the preferred image's error from growing while the rejected one's grows
faster (as in Pal et al. 2024); g_i = n / (G n_group(i)) makes each of G subgroups' mean loss count the same.

beta is that of diffusers' script; Salesforce's own is halved in its loss, so its 5000 is 2500 here. As d is a mean,
beta per element is what compares across sizes: 2500 on latents of 4 x 64 x 64 is 625 on one channel of 64 x 64 pixels.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import Dataset

from ..diffusion.autoencoders import Autoencoder
from ..diffusion.conditioning import CovariateEncoder
from ..diffusion.denoiser import Denoiser, predict_velocity
from ..diffusion.latents import to_latents
from ..errors import unknown
from ..records import row_seed
from .config import LossType, PredictionType
from .lora import adapter_parameters, reference

__all__ = [
    "ERROR_WEIGHTS",
    "LOSSES",
    "WEIGHT",
    "DPOObjective",
    "WeightedExamples",
    "implicit_accuracy",
    "preference_logit",
    "subgroup_weights",
]

LOSSES: dict[LossType, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda logit: softplus(-logit),
    "ipo": lambda logit: (logit - 0.5).square(),
    "hinge": lambda logit: (1 - logit).relu(),
}
"""Logits `[B]` -> losses `[B]`: log 2, 1/4 and 1 where policy = reference.

`ipo` is Azar et al.'s (h - 1 / (2 beta))^2 with logit = beta h, times beta^2, which makes its scale that of the others.
"""

ERROR_WEIGHTS: dict[PredictionType, Callable[[Tensor], Tensor]] = {
    "flow_prediction": torch.ones_like,
    "epsilon": lambda sigma: (1 - sigma).square(),
    "v_prediction": lambda sigma: (1 - sigma).square() + sigma.square(),
}
"""Noise level `[B]` -> the factor by which the velocity's squared error, u = e - x, becomes that of another form.

The network predicts u at x_s = (1 - s) x + s e. The noise that this implies is x_s + (1 - s) u, whose error is (1 - s)
times that of u; of v = alpha e - sigma x, where (alpha, sigma) is (1 - s, s) at length 1, it is the length times that.
"""

LEVELS = 4
"""Noise levels at which a held-out pair is compared: the middles of as many equal parts of the level's distribution."""


def preference_logit(
    policy_preferred: Tensor,
    policy_rejected: Tensor,
    reference_preferred: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """Log odds of the preferred image under the policy.

    Args:
        policy_preferred: mean squared errors `[B]` of the policy on the preferred images.
        policy_rejected: of the policy on the rejected ones.
        reference_preferred: of the reference on the preferred images.
        reference_rejected: of the reference on the rejected ones.
        beta: as in the equation above, above 0.

    Returns:
        Logits `[B]`.
    """
    return beta * ((reference_preferred - policy_preferred) - (reference_rejected - policy_rejected))


def implicit_accuracy(logits: Tensor) -> Tensor:
    """By pair 1 where the logit is above 0, 0 where below, and 1/2 for a tie: policy = reference has 1/2."""
    return (logits.sign() + 1) / 2


WEIGHT = "pair.weight"
"""Entry of a batch that is no covariate: the name of none has a dot, and a patient's weight may be one."""


def subgroup_weights(subgroups: Mapping[str, np.ndarray], rows: int) -> Tensor:
    """Weights that make each subgroup's mean loss count the same.

    Args:
        subgroups: by name, the rows of each of G subgroups.
        rows: number of rows, n.

    Returns:
        n / (G n_g) `[rows]` for rows of subgroup g; the mean is 1.
    """
    weights = torch.zeros(rows)
    for members in subgroups.values():
        weights[torch.from_numpy(members)] = rows / (len(subgroups) * len(members))
    return weights


class WeightedExamples(Dataset[dict[str, Tensor]]):
    """Examples addressed by (row, place), each with the WEIGHT of its row."""

    def __init__(self, examples: Dataset[dict[str, Tensor]], weights: Tensor) -> None:
        self.examples, self.weights = examples, weights

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return {**self.examples[key], WEIGHT: self.weights[key[0]]}


class Comparison(NamedTuple):
    """Of B pairs, `[B]` each: mean squared errors, and how far policy and reference are apart.

    `distance` is the mean square of the difference of their velocities on both images.
    """

    policy_preferred: Tensor
    policy_rejected: Tensor
    reference_preferred: Tensor
    reference_rejected: Tensor
    distance: Tensor


class DPOObjective(nn.Module):
    """objective(batch, generator) -> (loss, {name: value}), for the one training loop.

    `batch["preferred"]` and `batch["rejected"]` are `[B, C, H, W]` in [0, 1]; `batch[WEIGHT]` `[B]`, where there is
    one, is g; the other entries are encoded covariates `[B]`. The only parameters are the denoiser's adapters.

    Args:
        denoiser: the network, with adapters of `lora.add_lora`.
        covariate_encoder: covariates to tokens, not trained.
        space_to_depth: factor by which pixels or latents are folded into channels.
        vae: autoencoder of the latents, not trained; none by default.
        beta: as in the equation above, above 0.
        loss_type: one of LOSSES.
        anchor: as in the equation above, 0 or more.
        prediction_type: one of ERROR_WEIGHTS, whose squared error is compared.
        location: mean of the noise level's logit.

    Raises:
        InputError: for a loss or prediction type that is unknown, and a denoiser without adapters.
    """

    denoiser: Denoiser
    covariate_encoder: CovariateEncoder
    vae: Autoencoder | None

    def __init__(
        self,
        denoiser: Denoiser,
        covariate_encoder: CovariateEncoder,
        space_to_depth: int,
        vae: Autoencoder | None = None,
        beta: float = 500.0,
        loss_type: LossType = "sigmoid",
        anchor: float = 1.0,
        prediction_type: PredictionType = "flow_prediction",
        location: float = 0.0,
    ) -> None:
        super().__init__()
        for argument, value, allowed in (
            ("loss_type", loss_type, get_args(LossType)),
            ("prediction_type", prediction_type, get_args(PredictionType)),
        ):
            if value not in allowed:
                raise unknown(argument, value, allowed)
        self.adapters = nn.ParameterList(adapter_parameters(denoiser))
        # Kept out of the module: what is trained, and what a checkpoint holds, is the adapters alone.
        self.__dict__ |= {"denoiser": denoiser, "covariate_encoder": covariate_encoder, "vae": vae}
        self.space_to_depth, self.beta, self.anchor, self.location = space_to_depth, beta, anchor, location
        self.loss, self.error_weight = LOSSES[loss_type], ERROR_WEIGHTS[prediction_type]

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts: accuracy, distance, and the change of either image's error."""
        rows, device = len(batch["preferred"]), batch["preferred"].device
        sigma = torch.sigmoid(torch.randn(rows, generator=generator, device=device) + self.location)
        noise = torch.randn(rows, *self._shape(), generator=generator, device=device)
        found = self.compare(batch, noise, sigma)
        logits = preference_logit(*found[:4], self.beta)
        losses = self.loss(logits)
        growth = found.policy_preferred - found.reference_preferred
        weight = batch.get(WEIGHT, torch.ones_like(logits))
        loss = (weight * (losses + self.anchor * self.beta * growth.relu())).mean()
        parts = {
            "preference": (weight * losses).mean(),
            "largest_preference": losses.max(),
            "accuracy": implicit_accuracy(logits).mean(),
            "distance": found.distance.mean(),
            "preferred_change": growth.mean(),
            "rejected_change": (found.policy_rejected - found.reference_rejected).mean(),
        }
        return loss, {name: value.detach() for name, value in parts.items()}

    def compare(self, batch: Mapping[str, Tensor], noise: Tensor, sigma: Tensor) -> Comparison:
        """Errors of policy and reference, at the same noise and level for both images of a pair.

        Each network is called once, with both images; the reference leaves no gradient.

        Args:
            batch: as for the objective.
            noise: `[B, c, h, w]`.
            sigma: noise levels `[B]` in (0, 1).
        """
        with torch.no_grad():
            images = torch.cat([batch["preferred"], batch["rejected"]])
            latents = to_latents(images, self.space_to_depth, self.vae)
            noise, sigma = noise.repeat(2, 1, 1, 1), sigma.repeat(2)
            mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
            tokens = self.covariate_encoder(batch).repeat(2, 1, 1)
            with reference(self.denoiser):
                start = predict_velocity(self.denoiser, mixed, sigma, tokens).float()
        velocity = predict_velocity(self.denoiser, mixed, sigma, tokens).float()
        target, weight = noise - latents, self.error_weight(sigma)
        policy, before = ((one - target).square().mean(dim=(1, 2, 3)) * weight for one in (velocity, start))
        apart = (velocity - start).square().mean(dim=(1, 2, 3))
        (preferred, rejected), (of_preferred, of_rejected) = policy.chunk(2), before.chunk(2)
        return Comparison(preferred, rejected, of_preferred, of_rejected, torch.stack(apart.chunk(2)).mean(dim=0))

    @torch.no_grad()
    def held_out(self, examples: Dataset[dict[str, Tensor]], seed: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Evaluate held-out pairs, averaged over LEVELS noise levels.

        Args:
            examples: the pairs.
            seed: of the noise. A pair's noise comes from (seed, row), whatever its batch.
            batch_size: pairs evaluated at once.

        Returns:
            Logits and distances, float64 `[n]` each.
        """
        middles = (torch.arange(LEVELS) + 0.5) / LEVELS
        levels = torch.sigmoid(torch.special.ndtri(middles) + self.location)
        device, logits, distances = self.adapters[0].device, [], []
        for first in range(0, len(examples), batch_size):  # type: ignore[arg-type]
            rows = range(first, min(first + batch_size, len(examples)))  # type: ignore[arg-type]
            items = [examples[row, row] for row in rows]
            batch = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
            for place, level in enumerate(levels):
                noise = torch.stack([self._noise_of(seed, row * LEVELS + place) for row in rows]).to(device)
                found = self.compare(batch, noise, level.to(device).expand(len(rows)))
                logits.append(preference_logit(*found[:4], self.beta).double().cpu())
                distances.append(found.distance.double().cpu())
        return _mean_over_levels(logits), _mean_over_levels(distances)

    def _noise_of(self, seed: int, place: int) -> Tensor:
        generator = torch.Generator().manual_seed(row_seed(seed, place))
        return torch.randn(self._shape(), generator=generator)

    def _shape(self) -> tuple[int, int, int]:
        config = self.denoiser.config
        return config.in_channels, config.sample_size, config.sample_size


def _mean_over_levels(found: list[Tensor]) -> Tensor:
    """`[n]` from LEVELS columns after another of each batch."""
    batches = [torch.stack(found[first : first + LEVELS]) for first in range(0, len(found), LEVELS)]
    return torch.cat([batch.mean(dim=0) for batch in batches])
