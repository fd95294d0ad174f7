"""The network that predicts velocity, and the one way the rest of the package calls it.

Any diffusers model that takes one token per covariate will do: UNet2DConditionModel by cross-attention,
SD3Transformer2DModel by joint attention. The mean of the tokens also enters beside the time embedding, where
conditioning reaches every layer.

A network predicts either the velocity itself or the image, from which it follows:

    v(x_s, s) = (x_s - image) / max(s, 0.05)

An image lies near a manifold of few dimensions, while noise and velocity fill the whole space: a network whose layers
are hardly wider than a patch of pixels can predict the first but not the others (Li and He 2025).
"""

from typing import TypeAlias

# ModelMixin: diffusers looks in a component's module for the class by which it is loaded
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel  # noqa: F401
from torch import Tensor

from ..domains.preset import HEAD, Network

__all__ = ["Denoiser", "SampleTransformer", "SampleUNet", "build_denoiser", "build_unet", "predict_velocity"]

LOWEST = 0.05
"""Noise level below which the velocity of a predicted image no longer grows, or its error would without bound."""


class SampleUNet(UNet2DConditionModel):
    """A UNet that predicts the image, diffusers' prediction type "sample", and not the velocity."""

    prediction_type = "sample"


class SampleTransformer(SD3Transformer2DModel):
    """A transformer that predicts the image."""

    prediction_type = "sample"


Denoiser: TypeAlias = UNet2DConditionModel | SD3Transformer2DModel

TIME_SCALE = 1000
"""Noise levels in [0, 1] become the time steps these networks expect."""


def build_denoiser(network: Network, in_channels: int, sample_size: int) -> Denoiser:
    """An untrained network.

    Args:
        network: its architecture, layers, width of tokens, and what it predicts.
        in_channels: channels of its input and output.
        sample_size: their height and width.
    """
    sample = network.prediction_type == "sample"
    if network.architecture == "unet":
        kind = SampleUNet if sample else UNet2DConditionModel
        return build_unet(network.channels, in_channels, sample_size, network.width, kind)
    width = network.channels[0]
    return (SampleTransformer if sample else SD3Transformer2DModel)(
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
        kind: its class, by which it predicts the velocity or the image.
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
    if getattr(denoiser, "prediction_type", "velocity") == "velocity":
        return found
    return (latents - found) / sigma.clamp(min=LOWEST)[:, None, None, None]
