"""Super-resolution: an autoencoder whose latents are the image at a generator's own, lower resolution.

    small = mean of every block of pixels,    z = E(x),    loss = |z - small| + |D(small + s e) - x|,    e ~ N(0, 1)

x and small are centred to [-1, 1] and | | is the mean absolute difference. The decoder is trained on small rather than
on z, and with noise, because in use it decodes generated images, which are neither. Detail of an observed image that it
cannot reconstruct is kept by the pipeline as residual.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..errors import InputError

__all__ = ["NOISE", "SuperResolutionObjective", "build_autoencoder", "check_super_resolution"]

NOISE = 0.02
"""Standard deviation of the decoder's noise, s: 2.5 grey levels, about the error of a generator's texture."""
CHANNELS = (16, 32, 64)
"""Feature maps at full, half and quarter resolution."""
GROUPS = 8


def check_super_resolution(resolution: int, own: int) -> None:
    """Raise InputError unless an autoencoder can bridge the resolutions: it halves once per feature map but the first.

    Args:
        resolution: of the images, in pixels.
        own: of the generator.
    """
    allowed = [own * 2**halvings for halvings in range(1, len(CHANNELS))]
    if resolution not in allowed:
        raise InputError(
            f"resolution: {resolution} is not allowed; this generator works at {own} pixels, so give "
            f"{' or '.join(map(str, allowed))}."
        )


def build_autoencoder(resolution: int, own: int, channels: int = 1) -> AutoencoderKL:
    """An untrained autoencoder.

    Args:
        resolution: of the images `[B, channels, resolution, resolution]`, twice or four times `own`.
        own: of the latents `[B, channels, own, own]`.
        channels: of both.
    """
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

    Parts, both on the 0-255 scale: `encoding`, of latents against the smaller image, and `decoding`, of decoded images
    against the originals. The generator draws e.
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
