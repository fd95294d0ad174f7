"""Images to the space the network works in, and back.

Images are `[B, 1|3, H, W]` in [0, 1]; latents are 2x - 1, or what an autoencoder makes of it (`autoencoders.encode`),
folded by `space_to_depth` (an exact rearrangement of pixels into channels). Both keep the precision of what they are
given, whatever that of the autoencoder.
"""

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .autoencoders import Autoencoder, decode, encode

__all__ = ["to_images", "to_latents"]


def to_latents(images: Tensor, space_to_depth: int, vae: Autoencoder | None = None) -> Tensor:
    """Encode images.

    Args:
        images: `[B, C, H, W]` in [0, 1].
        space_to_depth: factor by which pixels, or the autoencoder's latents, are folded into channels.
        vae: the autoencoder, if there is one.

    Returns:
        Latents `[B, c, h, w]`.
    """
    centred = images * 2 - 1
    return pixel_unshuffle(centred if vae is None else encode(vae, centred), space_to_depth)


def to_images(
    latents: Tensor, space_to_depth: int, vae: Autoencoder | None = None, channels: int | None = None
) -> Tensor:
    """Decode latents; exact without an autoencoder.

    Args:
        latents: `[B, c, h, w]`.
        space_to_depth: factor by which they are folded.
        vae: the autoencoder, if there is one.
        channels: of the images where that is not the autoencoder's own: one of colours makes gray ones too.

    Returns:
        Images `[B, C, H, W]`, not clipped.
    """
    unfolded = pixel_shuffle(latents, space_to_depth)
    return ((unfolded if vae is None else decode(vae, unfolded, channels)) + 1) / 2
