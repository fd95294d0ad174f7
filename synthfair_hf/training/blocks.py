"""What small image networks, attribute predictors and classifiers, are built from."""

from typing import Any

from diffusers import ConfigMixin, ModelMixin
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GROUPS", "ImageNetwork", "ResidualBlock"]

GROUPS = 8
"""Groups of GroupNorm: every number of channels is a multiple of it."""


class ImageNetwork(ModelMixin, ConfigMixin):
    """A network of images `[B, image_channels, r, r]`, saved with its configuration as diffusers does."""

    config_name = "config.json"

    def register_to_config(self, **settings: Any) -> None:
        """As diffusers does, but without `image_channels` of gray images: configurations of old stay as they were."""
        super().register_to_config(
            **{name: value for name, value in settings.items() if (name, value) != ("image_channels", 1)}
        )

    @property
    def image_channels(self) -> int:
        """1, gray, or 3, colours."""
        return int(self.config.get("image_channels", 1))


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), `[B, C, H, W] -> [B, C', H, W]`; the last convolution starts at 0.

    Args:
        inputs: channels C, a multiple of GROUPS.
        outputs: channels C', a multiple of GROUPS.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(GROUPS, inputs), nn.GroupNorm(GROUPS, outputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C', H, W]`."""
        change = self.first(functional.silu(self.first_norm(x)))
        return self.skip(x) + self.second(functional.silu(self.second_norm(change)))
