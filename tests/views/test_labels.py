"""Labels are only text: whatever a level is called, its rows come back under that name, in files that fit a disk."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import load_dataset

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.preset import Contrast, Preset
from synthfair_hf.generate.verification import verify
from synthfair_hf.schema import Schema
from synthfair_hf.views.layout import word

VIEW = "sex_imbalanced_50_50"

LABELS = (
    "=cmd|' /C calc'!A0",
    "<script>alert('1')</script>",
    "\u202eelam \u0645\u0631\u0623\u0629",
    "\u7537\u6027",
    "../../etc/passwd",
    "C:\\CON",
    "a | b\n---\nconfigs: []",
    "{{ 7 * 7 }} {% raw %}",
    "&a *a !!python/none",
    "null",
    "x" * 300,
    "",
)


def named(sexes: tuple[str, str], views: tuple[str, ...]) -> Preset:
    """Chest radiographs with these levels."""
    levels = {"sex": sexes, "view": views}
    variables = [
        variable.model_copy(update={"levels": levels[variable.name], "aliases": {}})
        if variable.name in levels
        else variable
        for variable in CHEST_XRAY.covariates.walk()
    ]
    groups = {name: Contrast(first=names[0], second=names[1]) for name, names in levels.items()}
    contrasts = {**CHEST_XRAY.contrasts, **groups}
    return CHEST_XRAY.model_copy(update={"covariates": Schema(variables=tuple(variables)), "contrasts": contrasts})


@pytest.mark.parametrize(("sexes", "partitioned_from"), [((LABELS[6], LABELS[10]), 2), ((LABELS[8], ""), 10**6)])
def test_any_label_comes_back_by_card_and_by_builder(
    sexes: tuple[str, str], partitioned_from: int, tmp_path: Path, write_store: Callable[..., Path]
):
    preset = named(sexes, LABELS)
    directory = write_store(
        tmp_path / "synthfair", 2, preset, factors=("sex", "view"), partitioned_from=partitioned_from
    )
    assert verify(directory) == []
    by_card = load_dataset(str(directory), VIEW, split="train", streaming=True).select_columns(["id", "sex", "view"])
    by_builder = load_dataset(
        "synthfair", VIEW, data_dir=str(directory), split="train", streaming=True, columns=["id", "sex", "view"]
    )
    assert by_card.features["sex"].names == by_builder.features["sex"].names == list(sexes)
    assert by_card.features["view"].names == by_builder.features["view"].names == list(LABELS)
    rows = list(by_card)
    assert rows == list(by_builder)
    # of four subjects of train, each in one group of sex and in every view
    assert Counter((row["sex"], row["view"]) for row in rows) == {
        (sex, view): 2 for sex in range(2) for view in range(len(LABELS))
    }
    for path in directory.rglob("*"):
        assert re.fullmatch(r"[0-9A-Za-z.,_+-]{1,200}", path.name), path.name


@pytest.mark.parametrize("label", LABELS)
def test_a_label_in_a_path_is_plain_and_short(label: str):
    assert re.fullmatch(r"[0-9A-Za-z.+_-]{0,40}", word(label))
