"""A run ends with what matters of its summary, in a few lines, and with the next command."""

import json
from pathlib import Path
from typing import Any

from synthfair_hf.cli import main
from synthfair_hf.generate.summary import describe_summary

SUMMARY: dict[str, Any] = {
    "subjects": {"train": 6, "validation": 2, "test": 2},
    "rows": {"train": 24, "validation": 8, "test": 8},
    "factors": {"sex": ["female", "male"], "scanner": ["a", "b"]},
    "family_size": 4,
    "strata": ["under 50 years", "50 years and older"],
    "views_not_listed": {},
    "support": {"observed": "the generator's 86 training images", "out_of_support": {}},
}


def test_what_can_be_had_is_one_line():
    line = "10 subjects (train 6, validation 2, test 2), 40 images in families of 4: sex x scanner"
    assert describe_summary(SUMMARY) == [line]
    assert describe_summary({**SUMMARY, "support": None}) == [line]
    fewer = describe_summary({**SUMMARY, "rows": {"train": 20, "validation": 8, "test": 8}})
    assert fewer == [line.replace("40 images in families of 4", "36 images in families of at most 4")]


def test_what_cannot_be_had_is_a_line_each():
    support = {"observed": "the generator's 86 training images", "out_of_support": {"under 50 years / male / a": 3}}
    unmet = {"support": support, "views_not_listed": {"sex_imbalanced_95_5": "..."}, "unreached_rows": 3}
    assert describe_summary({**SUMMARY, **unmet})[1:] == [
        "  out of support: 1 of 8 cells (12%), with fewer than 5 observations among the generator's 86 training images"
        "; the generator extrapolates there",
        "  not listed: 1 view, whose shares so few subjects cannot give",
        "  not reached: 3 images without the attributes that were asked for",
    ]


def test_a_run_ends_with_these_lines_its_record_and_the_next_command(tmp_path: Path, capsys: Any):
    target = tmp_path / "synthfair"
    words = ["generate", "--world", "phantom", "--resolution", "16", "--num_subjects", "28", "--factors", "sex"]
    assert main([*words, "--output_dir", str(target)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("28 subjects (train 20, validation 4, test 4), 56 images in families of 2: sex")
    assert told[-2:] == [
        f"wrote {target}; record in {target}/records/generate.json",
        f"next: synthfair verify {target}",
    ]
    assert len(told) < 8
    record = json.loads(Path(told[-2].partition("record in ")[2]).read_text())
    assert (record["counts"]["subjects"], record["counts"]["rows"]) == (28, 56)
    assert main(told[-1].removeprefix("next: synthfair ").split()) == 0
