"""A straight line and points of it: an objective of the training loop whose answer is known."""

import torch
from torch import nn

__all__ = ["ExactLine", "Line", "Points"]


class Line(nn.Module):
    """y = a x + b from noisy points: an objective whose answer is known."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch, generator):
        noise = torch.randn(batch["y"].shape, generator=generator, device=batch["y"].device) * 0.01
        error = (self.line(batch["x"]) - batch["y"] - noise).square().mean()
        return error, {"slope": self.line.weight.detach()[0, 0]}


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        row, _ = key
        x = torch.tensor([row / 10])
        return {"x": x, "y": 3 * x - 1}


class ExactLine(Line):
    """The same without noise: a deterministic objective."""

    def forward(self, batch, generator):
        return (self.line(batch["x"]) - batch["y"]).square().mean(), {}
