"""The picture of groups: its size follows its lines, and what it cannot show it still names."""

import io

import numpy as np
import pytest
from PIL import Image

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.group_figure import group_figure


def table(labels=None, levels=("a", "b")):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60) if labels is None else labels
    return audit(rng.random(60), labels, {"group": rng.choice(list(levels), 60)}, n_bootstrap=20, permutations=0)


def test_a_group_more_is_a_line_more():
    heights = [Image.open(io.BytesIO(group_figure(table(levels=levels), "auc"))).height for levels in ("ab", "abc")]
    assert heights[0] < heights[1]


def test_a_metric_without_a_value_is_drawn_without_points():
    labels = np.zeros(60, dtype=int)
    drawn = [_has_ink(group_figure(table(labels), metric)) for metric in ("auc", "fpr")]
    assert drawn == [False, True]


def _has_ink(png):
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return bool((pixels == (0x1B, 0x4F, 0x72)).all(axis=1).any())


def test_an_unknown_metric_is_named():
    with pytest.raises(InputError, match="metric: 'area' is unknown; allowed: auc"):
        group_figure(table(), "area")
