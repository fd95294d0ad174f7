"""Images to the space the network works in, and back.

Images are `[B, 1|3, H, W]` in [0, 1]; latents are 2x - 1, or the posterior mean that an autoencoder makes of it, folded
by `space_to_depth` (an exact rearrangement of pixels into channels). Both keep the precision of what they are given,
whatever that of the autoencoder.
"""

from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

__all__ = ["to_images", "to_latents"]


def to_latents(images: Tensor, space_to_depth: int, vae: AutoencoderKL | None = None) -> Tensor:
    """Encode images.

    Args:
        images: `[B, C, H, W]` in [0, 1].
        space_to_depth: factor by which pixels, or the autoencoder's latents, are folded into channels.
        vae: the autoencoder, if there is one.

    Returns:
        Latents `[B, c, h, w]`.
    """
    centred = images * 2 - 1
    if vae is not None:
        encoded = vae.encode(centred.to(vae.dtype)).latent_dist.mean.to(centred.dtype)
        centred = encoded * vae.config.scaling_factor
    return pixel_unshuffle(centred, space_to_depth)


def to_images(latents: Tensor, space_to_depth: int, vae: AutoencoderKL | None = None) -> Tensor:
    """Decode latents; exact without an autoencoder.

    Args:
        latents: `[B, c, h, w]`.
        space_to_depth: factor by which they are folded.
        vae: the autoencoder, if there is one.

    Returns:
        Images `[B, C, H, W]`, not clipped.
    """
    centred = pixel_shuffle(latents, space_to_depth)
    if vae is not None:
        centred = vae.decode((centred / vae.config.scaling_factor).to(vae.dtype)).sample.to(centred.dtype)
    return (centred + 1) / 2
