"""Flow matching: with x_s = (1 - s) x + s e, the network learns the velocity e - x at noise level s.

    loss = E | v(x_s, s, covariates) - (e - x) |^2,     s = sigmoid(n), n ~ N(location, 1), e ~ N(0, 1)

(Lipman et al. 2023; the logit-normal level of Esser et al. 2024.)
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from .conditioning import CovariateEncoder
from .denoiser import Denoiser, predict_velocity
from .latents import to_latents

__all__ = ["FlowMatchingObjective"]


class FlowMatchingObjective(nn.Module):
    """objective(batch, generator) -> (loss, {name: value}), for the one training loop.

    `batch["image"]` is `[B, C, H, W]` in [0, 1]; the other entries are encoded covariates `[B]`.
    Covariates are hidden independently with `variable_dropout`, and all at once with `whole_dropout`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        covariate_encoder: CovariateEncoder,
        space_to_depth: int,
        vae: AutoencoderKL | None = None,
        variable_dropout: float = 0.1,
        whole_dropout: float = 0.1,
        location: float = 0.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.covariate_encoder = denoiser, covariate_encoder
        self.space_to_depth = space_to_depth
        # Kept out of the module's parameters: the autoencoder is not trained here.
        self.__dict__["vae"] = vae
        self.variable_dropout, self.whole_dropout, self.location = variable_dropout, whole_dropout, location

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity, and the same at low and high noise."""
        with torch.no_grad():
            latents = to_latents(batch["image"], self.space_to_depth, self.vae)
        rows, device = len(latents), latents.device
        variables = len(self.covariate_encoder.covariates)
        uniform = torch.rand(rows, variables + 1, generator=generator, device=device)
        keep = (uniform[:, :-1] >= self.variable_dropout) & (uniform[:, -1:] >= self.whole_dropout)
        level = torch.randn(rows, generator=generator, device=device) + self.location
        sigma = torch.sigmoid(level)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
        tokens = self.covariate_encoder(batch, keep)
        predicted = predict_velocity(self.denoiser, mixed, sigma, tokens)
        error = (predicted.float() - (noise - latents)).square().mean(dim=(1, 2, 3))
        low = sigma.detach() < 0.5
        parts = {"low_noise": error.detach()[low].mean(), "high_noise": error.detach()[~low].mean()}
        return error.mean(), parts
