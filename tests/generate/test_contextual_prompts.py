"""Recipes reach a text-to-image generator by its prompts, and rows hold what the prompts said."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_sampler import ASKED, PRESET, checkpoint, people, rows, sampler  # noqa: F401

from synthfair_hf.domains.prompts import render_prompt
from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.generate.verification import verify
from synthfair_hf.records import Record

TOLD = PRESET.model_copy(
    update={
        "prompt": PRESET.prompt.replace("{{ age }}", "{{ age }} {{ context.at }}"),
        "views": ("sex_imbalanced_50_50",),
    }
)
RECIPES = [{"at": "rest", "view": "AP"}, {"at": "ICU", "view": "PA"}]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    path = tmp_path / "recipes.jsonl"
    path.write_text("\n".join(map(json.dumps, RECIPES)))
    return path


def test_prompts_say_the_contexts_that_rows_hold_and_these_are_balanced(tmp_path, checkpoint, recipes):  # noqa: F811
    directory = tmp_path / "out"
    generate_dataset(directory, text_to_image=checkpoint, recipes=recipes, **{**ASKED, "preset": TOLD})
    stored, covariates = rows(directory), TOLD.covariates
    for row in stored:
        values = {one.name: one.decode([row[one.name]])[0] for one in covariates.walk()}
        assert {"at": row["context_at"], "view": values["view"]} == RECIPES[row["recipe"]]
        assert row["prompt"] == render_prompt(TOLD, values, {"at": row["context_at"]})
        assert f" {row['context_at']}, " in row["prompt"]
    counts = Counter((row["recipe"], row["sex"], row["finding"]) for row in stored)
    assert len(counts) == 8
    assert len({n for key, n in counts.items() if key[0] == 0}) == 1
    record = Record.read(directory / "records" / "generate.json")
    assert record.counts["recipes"]["sex"]["total_variation"] == 0.0
    assert verify(directory) == []


def test_a_context_that_no_prompt_says_is_refused_before_anything_is_written(tmp_path, checkpoint, recipes):  # noqa: F811
    with pytest.raises(InputError, match=r"recipes: at is in no prompt; let the template of .* say context\.at, or"):
        generate_dataset(tmp_path / "out", text_to_image=checkpoint, recipes=recipes, **ASKED)
    assert not (tmp_path / "out").exists()


def test_an_image_follows_its_context_alone_where_all_else_is_equal(sampler, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sampler, "preset", TOLD)
    covariates, noise = people(2)
    one, other = ([{"at": word}] * 2 for word in ("rest", "ICU"))
    first, again, changed = (
        sampler(covariates=covariates, noise=noise, context=said, num_inference_steps=1).images
        for said in (one, one, other)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, changed)
