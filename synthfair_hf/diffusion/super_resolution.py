"""An autoencoder whose latents are the image itself, smaller: a generator works on them as it is, and has more pixels.

    small = mean of every block of pixels,    z = E(x),    loss = |z - small| + |D(small + s e) - x|,    e ~ N(0, 1)

x and small are centred to [-1, 1] and | | is the mean absolute difference. The decoder learns from small rather than
from z, and with noise, because it is given what a generator made, which is neither. What it can't know of a film the
pipeline keeps as residual.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..errors import InputError

__all__ = ["NOISE", "SuperResolutionObjective", "build_autoencoder", "check_super_resolution"]

NOISE = 0.02
"""Standard deviation of the decoder's noise, s: 2.5 grey levels, about what a generator's texture is off by."""
CHANNELS = (16, 32, 64)
"""Feature maps at full, half and quarter resolution."""
GROUPS = 8


def check_super_resolution(resolution: int, own: int) -> None:
    """An autoencoder halves as often as it has feature maps but one."""
    allowed = [own * 2**halvings for halvings in range(1, len(CHANNELS))]
    if resolution not in allowed:
        raise InputError(
            f"resolution: {resolution} is not allowed; this generator works at {own} pixels, so give "
            f"{' or '.join(map(str, allowed))}."
        )


def build_autoencoder(resolution: int, own: int, channels: int = 1) -> AutoencoderKL:
    """Untrained, of images `[B, channels, resolution, resolution]` with latents `[B, channels, own, own]`."""
    maps = CHANNELS[: (resolution // own).bit_length()]
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(maps),
        up_block_types=("UpDecoderBlock2D",) * len(maps),
        block_out_channels=maps,
        latent_channels=channels,
        norm_num_groups=GROUPS,
        sample_size=resolution,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


class SuperResolutionObjective(nn.Module):
    """objective(batch, generator) -> (loss, parts), for the one training loop.

    Parts, both on the 0-255 scale: `encoding`, of latents against the smaller image, and `decoding`, of what is decoded
    against the image. The generator draws e.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The module's loss of images `[B, C, R, R]` in [0, 1]."""
        images = 2 * batch["image"] - 1
        latents = self.autoencoder.encode(images).latent_dist.mean.float()
        small = avg_pool2d(images, images.shape[-1] // latents.shape[-1])
        noise = torch.randn(small.shape, generator=generator, device=small.device)
        decoded = self.autoencoder.decode(small + NOISE * noise).sample.float()
        encoding, decoding = (latents - small).abs().mean(), (decoded - images).abs().mean()
        return encoding + decoding, {"encoding": 127.5 * encoding.detach(), "decoding": 127.5 * decoding.detach()}
