"""The residual block of small image networks: attribute predictors and classifiers."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GROUPS", "ResidualBlock"]

GROUPS = 8
"""Groups of GroupNorm: every number of channels is a multiple of it."""


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
