"""A world small enough to check by hand: three covariates, each a patch of the image, with exact answers."""

import numpy as np
import pytest
import torch

from synthfair_hf.domains.worlds import Counterfactuals
from synthfair_hf.schema import Schema, Variable

PATCHES = {"size": (slice(0, 8), slice(0, 8)), "tone": (slice(0, 8), slice(8, 16)), "kind": (slice(8, 16), slice(0, 8))}
CONTINUOUS = {"kind": "continuous", "role": "protected", "nature": "patient/anatomy", "unit": "-", "range": (0, 1)}


class Patches:
    """size -> tone = (size + e) / 2, and kind out of three; the last quarter of the image is the image's own noise."""

    name = "patches"
    covariates = Schema(
        variables=(
            Variable(name="size", **CONTINUOUS),
            Variable(name="tone", **CONTINUOUS),
            Variable(
                name="kind",
                kind="categorical",
                role="finding",
                nature="patient/pathology",
                levels=("one", "two", "three"),
            ),
        )
    )

    def __init__(self, n=40, seed=0, knows=("size", "tone", "kind")):
        rng = np.random.default_rng(seed)
        self.noise, self.grain = rng.random(n), torch.from_numpy(rng.random((n, 8, 8), dtype=np.float32))
        self.knows = knows
        size = rng.random(n).astype(np.float32).astype(float)
        kind = rng.choice(["one", "two", "three"], size=n).tolist()
        self.table = {"size": size.tolist(), "tone": self.tone(size, self.noise), "kind": kind}
        self.images = self.render(self.table, range(n))
        self.groups = [f"patches{row}" for row in range(n)]
        size = rng.random(200)
        self.training = {
            "size": size.tolist(),
            "tone": self.tone(size, rng.random(200)),
            "kind": rng.choice(["one", "two", "three"], size=200, p=[0.7, 0.2, 0.1]).tolist(),
        }
        self.measured_attributes = {name: self.ruler(name) for name in ("size", "tone")}

    @staticmethod
    def tone(size, noise):
        return ((np.asarray(size) + noise) / 2).astype(np.float32).astype(float).tolist()

    @staticmethod
    def ruler(name):
        return lambda images: images[:, 0][:, *PATCHES[name]].mean(dim=(1, 2)).double().numpy()

    def render(self, table, rows):
        images = torch.zeros(len(rows), 1, 16, 16)
        encoded = self.covariates.encode(table)
        for name, (height, width) in PATCHES.items():
            level = encoded[name] / 2 if name == "kind" else encoded[name]
            images[:, 0, height, width] = torch.from_numpy(level.astype(np.float32))[:, None, None]
        images[:, 0, 8:, 8:] = self.grain[list(rows)]
        return images

    def effects(self, name):
        return ("tone",) if name == "size" else ()

    def truth(self, do, rows=None):
        rows = list(range(len(self.groups)) if rows is None else rows)
        table = {name: [column[row] for row in rows] for name, column in self.table.items()}
        if not {name for name, values in do.items() if list(values) != table[name]} <= set(self.knows):
            return None
        table |= {name: list(values) for name, values in do.items()}
        if "size" in do and "tone" not in do:
            table["tone"] = self.tone(do["size"], self.noise[rows])
        return Counterfactuals(self.render(table, rows), table)


class Reader:
    """Reads every covariate off its patch, with a bias of its own in size."""

    def __init__(self, bias=0.0):
        self.bias = bias

    def predict(self, images):
        kind = np.rint(2 * Patches.ruler("kind")(images)).astype(int)
        return {
            "size": Patches.ruler("size")(images) + self.bias,
            "tone": Patches.ruler("tone")(images),
            "kind": np.eye(3)[kind.clip(0, 2)],
        }


@pytest.fixture(scope="session")
def patches():
    return Patches


@pytest.fixture(scope="session")
def reader():
    return Reader
