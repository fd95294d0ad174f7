from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.run import generate, seconds_per_image
from synthfair_hf.generate.store import read_plan
from synthfair_hf.generate.support import FEWEST, cell_counts, model_support, source_support
from synthfair_hf.publish.dataset_card import write_dataset_card

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))


def brute_force(plan: GenerationPlan, rows: list[tuple[int, dict[str, Any]]]) -> dict[str, int]:
    """Each cell's observations, row by row; a number has those on its scarcer side."""
    counts = {}
    for stratum in plan.stratum_names:
        for cell in plan.cells:
            levels = {name: value for name, value in cell.items() if isinstance(value, str)}
            inside = [
                (who, row)
                for who, row in rows
                if plan.stratum(row) == stratum and all(row[name] == level for name, level in levels.items())
            ]
            sizes = [len({who for who, _ in inside})]
            for name in set(cell) - set(levels):
                sizes.append(len({who for who, row in inside if row[name] <= cell[name]}))
                sizes.append(len({who for who, row in inside if row[name] >= cell[name]}))
            words = [f"{value:g}" if isinstance(value, float) else value for value in cell.values()]
            counts[" / ".join([*stratum, *words])] = min(sizes)
    return counts


@settings(max_examples=15)
@given(
    st.sampled_from(
        [
            {},
            {"factors": ("sex",)},
            {"factors": ()},
            {"factors": ("age", "sex"), "levels": {"age": (5, 30, 71.5)}},
            {"target": {"scanner": {"flatpanel": 0.2, "computed": 0.2, "portable": 0.6}}},
            {"factors": ("sex",), "target": {"scanner": {"flatpanel": 0.4, "portable": 0.6}}},
        ]
    ),
    st.integers(0, 120),
    st.integers(0, 2**32),
)
def test_counts_are_those_of_looking_at_every_row(changed, size, seed):
    plan = GenerationPlan(preset=PRESET, model_revision="r", num_subjects=280, **changed)
    rng = np.random.default_rng(seed)
    table = {
        one.name: rng.choice(one.levels, size).tolist() if one.categorical else rng.integers(10, 90, size).tolist()
        for one in PRESET.covariates.walk()
    }
    who = rng.integers(0, max(1, size // 2), size)
    rows = [(int(who[index]), {name: column[index] for name, column in table.items()}) for index in range(size)]
    assert cell_counts(plan, PRESET.covariates.encode(table), who) == brute_force(plan, rows)


def test_a_model_is_asked_for_draws_and_those_out_of_range_are_none(make_plan, pipeline):
    class Model:
        def sample(self, rows, generator):
            return pipeline.scm.evaluate(pipeline.scm.sample_noise(rows, generator))

    plan = make_plan(factors=("age", "sex"), levels={"age": (0, 50, 100)})
    found = model_support(plan, Model(), draws=2000)
    assert found == model_support(plan, Model(), draws=2000)
    assert found.observed == "2000 draws from the causal model"
    # a tenth of the ages is out of range, on both sides, so that none in range lies beyond its ends
    assert set(found.out_of_support) == {f"{age} / {sex}" for age in (0, 100) for sex in ("male", "female")}
    assert all(count < FEWEST for count in found.out_of_support.values())


def test_a_source_is_asked_for_training_patients_by_their_complete_images(make_plan, source):
    plan = make_plan(source=source.name, source_fingerprint=source.fingerprint)
    whole = [
        index
        for index in range(len(source))
        if source.splits[index] == "train" and source.table["age"][index] is not None
    ]
    rows = [
        (int(source.patient_ids[index][-4:]), {name: column[index] for name, column in source.table.items()})
        for index in whole
    ]
    counts = brute_force(plan, rows)
    found = source_support(plan, source)
    assert found.observed == f"{len({who for who, _ in rows})} training patients of stub"
    assert found.out_of_support == {cell: count for cell, count in counts.items() if count < FEWEST}
    assert found.out_of_support
    assert len(found.out_of_support) < len(counts)


def test_the_record_and_the_card_tell_what_is_out_of_support(tmp_path, make_plan, pipeline, source):
    plan = make_plan(source=source.name, source_fingerprint=source.fingerprint)
    seen = source_support(plan, source)
    told = plan.model_copy(update={"support": seen})
    record = generate(told, pipeline, tmp_path, source, progress=False)
    assert read_plan(tmp_path).support == seen
    assert record.settings["support"] == seen.model_dump()
    assert told.summary()["support"] == seen.model_dump()
    write_dataset_card(tmp_path, told.preset, record, "unknown")
    [line] = [
        line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("- Out of support:")
    ]
    assert all(f"{cell} ({count})" in line for cell, count in seen.out_of_support.items())
    assert line.endswith("The generator extrapolates there.")
    everything = seen.model_copy(update={"out_of_support": {}})
    told = record.model_copy(update={"settings": {**record.settings, "support": everything.model_dump()}})
    write_dataset_card(tmp_path, plan.preset, told, "unknown")
    assert (
        f"Out of support: no cell; observations of the cell among {seen.observed}.\n"
        in (tmp_path / "README.md").read_text()
    )


@pytest.mark.parametrize("real", [False, True])
def test_an_image_is_timed_by_a_batch_of_the_plans_own(tmp_path, monkeypatch, make_plan, pipeline, source, real):
    monkeypatch.chdir(tmp_path)
    of_source = {"source": source.name, "source_fingerprint": source.fingerprint} if real else {}
    plan = make_plan(batch_size=24, **of_source)
    clock = iter([10.0, 16.0])
    monkeypatch.setattr("synthfair_hf.generate.run.time.perf_counter", lambda: next(clock))
    state = torch.get_rng_state()
    assert seconds_per_image(plan, pipeline, source if real else None) == 6 / 24
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())
