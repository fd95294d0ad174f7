"""Directories of candidates: random images of the phantom's covariates, those of a pair of different brightness."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def write_candidates() -> Callable[..., Path]:
    """`write_candidates(directory, pairs=6, side=16, seed=0)`: every `first` is dark, every `second` light."""
    return _write_candidates


def _write_candidates(directory: Path, pairs: int = 6, side: int = 16, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    (directory / "images").mkdir(parents=True)
    lines = []
    for row in range(pairs):
        names = {"first": f"images/model-a-{row}.png", "second": f"images/model-b-{row}.png"}
        for (low, high), name in zip(((20, 100), (150, 230)), names.values(), strict=True):
            (directory / name).write_bytes(_png(rng.integers(low, high, (side, side), dtype=np.uint8)))
        covariates: dict[str, Any] = {
            "age": float(20 + row % 60),
            "sex": "female",
            "finding": "no_finding",
            "view": "PA",
        }
        told = {"subject_id": f"p{row}", "split": ("train", "validation", "test")[row % 3], "covariates": covariates}
        lines.append({"id": f"pair-{row}", **names, **told})
    (directory / "candidates.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
