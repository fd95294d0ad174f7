"""The network that predicts velocity, and the one way the rest of the package calls it.

Any diffusers model that takes one token per covariate will do: UNet2DConditionModel by cross-attention,
SD3Transformer2DModel by joint attention. The mean of the tokens also enters beside the time embedding, where
conditioning reaches every layer.

A network predicts either the velocity itself or the image, from which it follows:

    v(x_s, s) = (x_s - image) / max(s, 0.05)

An image lies near a manifold of few dimensions, while noise and velocity fill the whole space: a network whose layers
are hardly wider than a patch of pixels can predict the first but not the others (Li and He 2025).

What lies below its resolution, the grain of a detector above all, such a network leaves out of its image, and the
velocity above takes it for noise: abducted, it is amplified 1/0.05 times. A network of the third kind also learns the
variance of what it leaves out, by place, coefficient of a discrete cosine transform over each patch, and covariates.
With x = image + r, r ~ N(0, variance), x_s = (1 - s) x + s e has the mean velocity

    E[e - x | x_s] = c y - image,   y = x_s - (1 - s) image,   c = (s - (1 - s) variance) / ((1 - s)^2 variance + s^2)

which carries standard normal noise to grain of that variance and back, and is finite at s = 0, where it is -x_s. The
variance does not depend on the state: so what was left out of an observed image is carried to its counterfactual as it
is, times the ratio of the two deviations. (A variance that does, as that of a step in Nichol and Dhariwal 2021, draws
grain that differs from image to image, but feeds back on itself: counterfactuals of some radiographs diverged.)
"""

from functools import lru_cache, wraps
from typing import Any, TypeAlias, cast

import torch

# ModelMixin: diffusers looks in a component's module for the class by which it is loaded
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel  # noqa: F401
from scipy.fft import dct
from torch import Tensor, nn

from ..domains.preset import HEAD, Network

__all__ = [
    "Denoiser",
    "SampleTransformer",
    "SampleUNet",
    "VarianceTransformer",
    "VarianceUNet",
    "build_denoiser",
    "build_unet",
    "predict_velocity",
    "with_variance",
]

LOWEST = 0.05
"""Noise level below which the velocity of a predicted image no longer grows, or its error would without bound."""


class SampleUNet(UNet2DConditionModel):
    """A UNet that predicts the image, diffusers' prediction type "sample", and not the velocity."""

    prediction_type = "sample"


class SampleTransformer(SD3Transformer2DModel):
    """A transformer that predicts the image."""

    prediction_type = "sample"


LOG_STD = -3.0
"""Logarithm of the standard deviation of what is left out before it is learned: 6 grey levels of 255."""

LOG_STDS = (-5.0, 0.0)
"""The least and largest that are used: an 8-bit image is known to half a grey level, and a network to less."""


class Grain(nn.Module):
    """Standard deviations of what a network leaves out of its image, by coefficient: of a place, and of covariates.

    Args:
        channels: of the folded image.
        size: its height and width.
        width: length of the covariate tokens.
    """

    def __init__(self, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.full((channels, size, size), LOG_STD))
        self.covariates = nn.Linear(width, channels)
        nn.init.zeros_(self.covariates.weight)
        nn.init.zeros_(self.covariates.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Standard deviations `[B, C, H, W]` under the mean of the tokens, `[B, D]`."""
        log_std = self.place + self.covariates(pooled)[:, :, None, None]
        return log_std.clamp(*LOG_STDS).exp()


class VarianceUNet(UNet2DConditionModel):
    """A UNet that predicts the image, and knows the variance of what it leaves out."""

    prediction_type = "sample_and_variance"

    @wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.grain = Grain(self.config.in_channels, self.config.sample_size, self.config.cross_attention_dim)


class VarianceTransformer(SD3Transformer2DModel):
    """A transformer that predicts the image, and knows the variance of what it leaves out."""

    prediction_type = "sample_and_variance"

    @wraps(SD3Transformer2DModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.grain = Grain(self.config.in_channels, self.config.sample_size, self.config.pooled_projection_dim)


Denoiser: TypeAlias = UNet2DConditionModel | SD3Transformer2DModel

TIME_SCALE = 1000
"""Noise levels in [0, 1] become the time steps these networks expect."""


UNETS: dict[str, type[UNet2DConditionModel]] = {
    "velocity": UNet2DConditionModel,
    "sample": SampleUNet,
    "sample_and_variance": VarianceUNet,
}
TRANSFORMERS: dict[str, type[SD3Transformer2DModel]] = {
    "velocity": SD3Transformer2DModel,
    "sample": SampleTransformer,
    "sample_and_variance": VarianceTransformer,
}


def build_denoiser(network: Network, in_channels: int, sample_size: int) -> Denoiser:
    """An untrained network.

    Args:
        network: its architecture, layers, width of tokens, and what it predicts.
        in_channels: channels of its input and output.
        sample_size: their height and width.
    """
    if network.architecture == "unet":
        return build_unet(network.channels, in_channels, sample_size, network.width, UNETS[network.prediction_type])
    width, kind = network.channels[0], TRANSFORMERS[network.prediction_type]
    return kind(
        sample_size=sample_size,
        patch_size=1,
        in_channels=in_channels,
        out_channels=in_channels,
        num_layers=len(network.channels),
        attention_head_dim=HEAD,
        num_attention_heads=width // HEAD,
        joint_attention_dim=network.width,
        caption_projection_dim=width,
        pooled_projection_dim=network.width,
        pos_embed_max_size=sample_size,
    )


def build_unet(
    channels: tuple[int, ...],
    in_channels: int,
    sample_size: int,
    width: int,
    kind: type[UNet2DConditionModel] = UNet2DConditionModel,
) -> UNet2DConditionModel:
    """An untrained UNet.

    Args:
        channels: feature maps by level, each half the resolution of the one before; multiples of 32.
        in_channels: channels of its input and output.
        sample_size: their height and width.
        width: length of the covariate tokens.
        kind: its class, by which it predicts the velocity, the image, or the image and what it leaves out.
    """
    below = len(channels) - 1
    return kind(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=in_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * below),
        up_block_types=(*("CrossAttnUpBlock2D",) * below, "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=HEAD,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=width,
    )


def with_variance(denoiser: Denoiser) -> Denoiser:
    """A network that predicts the image as this one does, and is yet to learn the variance of what it leaves out.

    Args:
        denoiser: predicts the image (`SampleUNet` or `SampleTransformer`).
    """
    kind: type[Denoiser] = VarianceUNet if isinstance(denoiser, UNet2DConditionModel) else VarianceTransformer
    with torch.random.fork_rng(devices=[]):
        made = cast("Denoiser", kind.from_config(denoiser.config))
    grain = {f"grain.{name}": weights for name, weights in made.grain.state_dict().items()}
    made.load_state_dict({**denoiser.state_dict(), **grain})
    return made.train(denoiser.training)


@lru_cache(maxsize=8)
def _cosines(channels: int, device: torch.device) -> Tensor:
    """The discrete cosine transform of patches that are folded into channels (`latents`), orthonormal, `[C, C]`."""
    side = max(side for side in range(1, int(channels**0.5) + 1) if channels % side**2 == 0)
    line = torch.from_numpy(dct(torch.eye(side, dtype=torch.float64).numpy(), axis=0, norm="ortho"))
    colours = torch.eye(channels // side**2, dtype=torch.float64)
    return torch.kron(colours, torch.kron(line, line)).to(device, torch.float32)


def _with_grain(image: Tensor, std: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
    """The velocity of an image and of what it leaves out, `[B, C, H, W]` each, by the equation above."""
    variance, level = std.square(), sigma[:, None, None, None]
    cosines = _cosines(image.shape[1], image.device).to(image.dtype)
    apart = torch.einsum("kp,bphw->bkhw", cosines, latents - (1 - level) * image)
    moved = apart * (level - (1 - level) * variance) / ((1 - level).square() * variance + level.square())
    return torch.einsum("kp,bkhw->bphw", cosines, moved) - image


def predict_velocity(denoiser: Denoiser, latents: Tensor, sigma: Tensor, tokens: Tensor) -> Tensor:
    """The velocity d(latents)/d(sigma).

    Args:
        denoiser: the network.
        latents: states `[B, C, H, W]`.
        sigma: noise levels `[B]` in [0, 1].
        tokens: of the covariates, `[B, V, D]`.

    Returns:
        `[B, C, H, W]`, in the precision of the latents.
    """
    steps = sigma * TIME_SCALE
    # States stay float32 whatever the precision of the weights.
    precision = denoiser.dtype  # asked once: diffusers looks through every module for it
    states, tokens = latents.to(precision), tokens.to(precision)
    pooled = tokens.mean(dim=1)
    # torch.compile wraps a module, which keeps its attributes but not its class
    if isinstance(getattr(denoiser, "_orig_mod", denoiser), SD3Transformer2DModel):
        found = denoiser(states, tokens, pooled, steps, return_dict=False)[0]
    else:
        found = denoiser(states, steps, encoder_hidden_states=tokens, class_labels=pooled, return_dict=False)[0]
    found = found.to(latents.dtype)
    kind = getattr(denoiser, "prediction_type", "velocity")
    if kind == "velocity":
        return found
    if kind == "sample_and_variance":
        return _with_grain(found, denoiser.grain(pooled).to(latents.dtype), latents, sigma)
    return (latents - found) / sigma.clamp(min=LOWEST)[:, None, None, None]
