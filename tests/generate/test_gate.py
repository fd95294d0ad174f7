import json
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.generate.gate import QualityGate
from synthfair_hf.generate.run import generate, repair
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card

FACTORS = ("sex", "finding", "scanner")


class Reader:
    """Reads the first level of everything, and a hundred times the mean pixel as any number."""

    def __init__(self, covariates) -> None:
        self.covariates = covariates

    def __call__(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        found = {}
        for variable in self.covariates.walk():
            if variable.categorical:
                found[variable.name] = np.eye(len(variable.levels))[np.zeros(len(images), dtype=int)]
            else:
                found[variable.name] = images.mean(dim=(1, 2, 3)).numpy() * 100
        return found


def asked_of(covariates, **changed):
    return {
        "sex": covariates["sex"].levels[0],
        "finding": covariates["finding"].levels[0],
        "scanner": "flatpanel",
        **changed,
    }


@pytest.fixture
def covariates(make_plan):
    return make_plan().preset.covariates


def test_a_row_is_reached_when_every_judged_factor_is_read_as_asked(covariates):
    gate = QualityGate(Reader(covariates), covariates, (*FACTORS, "age"), {"age": 5})
    images = np.full((3, 8, 8), 0.5, dtype=np.float32)
    own = asked_of(covariates, age=47.0, scanner=covariates["scanner"].levels[0])
    readings = gate.read(images, [own, {**own, "sex": covariates["sex"].levels[1]}, {**own, "age": 40.0}])
    assert [one.reached for one in readings] == [True, False, False]
    assert readings[0].values["sex"] == covariates["sex"].levels[0]
    assert readings[0].values["age"] == pytest.approx(128 / 255 * 100)


def test_images_are_read_as_they_are_stored(covariates):
    gate = QualityGate(Reader(covariates), covariates, ())
    image = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)
    stored = (np.rint(image * 255) / 255).astype(np.float32)
    assert gate.read(image, [{}])[0].values == gate.read(stored, [{}])[0].values
    assert gate.read(np.full((1, 8, 8), np.nan, dtype=np.float32), [{}])[0].values["age"] == 0


@pytest.mark.parametrize(
    ("factors", "tolerance", "sentence"),
    [
        (("age",), {}, "gate_tolerance: age is continuous; give its largest"),
        (("age",), {"age": 0}, r"gate_tolerance\['age'\]: 0 is not allowed"),
        (("sex",), {"age": 5}, "gate_tolerance: 'age' is unknown"),
        (("sex",), {"sex": 5}, "gate_tolerance: 'sex' is unknown"),
    ],
)
def test_a_tolerance_must_fit_the_factors(covariates, factors, tolerance, sentence):
    with pytest.raises(InputError, match=sentence):
        QualityGate(Reader(covariates), covariates, factors, tolerance)


class Chance:
    """A gate by lot: every family's draw is good or bad by its pixels alone, so that any order of asking agrees.

    What it reads is what was asked, or its opposite.
    """

    def __init__(self, covariates) -> None:
        self.covariates, self.inner = covariates, QualityGate(Reader(covariates), covariates, ())

    def read(self, images, asked):
        readings = self.inner.read(images, asked)
        good = [crc32(image.tobytes()) % 8 > 0 for image in images]
        return [
            one._replace(values={**one.values, **(row if lucky else self.other(row))}, reached=lucky)
            for one, row, lucky in zip(readings, asked, good, strict=True)
        ]

    def other(self, row) -> dict:
        return {name: next(one for one in self.covariates[name].levels if one != row[name]) for name in row}


def rows_of(directory) -> list[dict]:
    return [row for path in sorted(directory.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_readings_are_columns_families_are_redrawn_and_the_rest_is_flagged(tmp_path, make_plan, make_pipeline):
    found = {}
    for attempts in (1, 4):
        plan = make_plan(gate="reader", gate_attempts=attempts)
        directory = tmp_path / str(attempts)
        record = generate(plan, make_pipeline(), directory, progress=False, gate=Chance(plan.preset.covariates))
        write_dataset_card(directory, plan.preset, record, "cc-by-4.0")
        assert verify(directory) == []
        rows = rows_of(directory)
        assert len(rows) == plan.num_rows
        assert record.counts["unreached_rows"] == sum(not row["reached"] for row in rows)
        seeds = {row["subject_id"]: row["seed"] for row in rows}
        first = {f"{plan.fingerprint[:8]}-{one:07d}": plan.subject_seed(one) for one in range(plan.num_subjects)}
        assert (seeds != first) == (attempts > 1)
        assert {"measured_age", "measured_sex", "measured_view", "reached"} <= set(rows[0])
        assert all(len({row["seed"] for row in rows if row["subject_id"] == one}) == 1 for one in seeds)
        found[attempts] = record.counts
    assert found[4]["unreached_rows"] < found[1]["unreached_rows"]
    assert found[1]["redrawn_families"] == 0 < found[4]["redrawn_families"]


def test_the_best_draw_is_kept(tmp_path, make_plan, make_pipeline):
    """By brute force: each subject's draws one by one, and the first with the fewest unreached rows."""
    unreached: dict[int, dict[str, int]] = {}
    for attempt in range(3):
        plan = make_plan(gate="reader", seed=0, gate_attempts=1)
        object.__setattr__(
            plan,
            "subject_seed",
            lambda subject, number=0, plan=plan, attempt=attempt: type(plan).subject_seed(plan, subject, attempt),
        )
        generate(plan, make_pipeline(), tmp_path / str(attempt), progress=False, gate=Chance(plan.preset.covariates))
        unreached[attempt] = {}
        for row in rows_of(tmp_path / str(attempt)):
            number = row["subject_id"].split("-")[1]
            unreached[attempt][number] = unreached[attempt].get(number, 0) + (not row["reached"])
    plan = make_plan(gate="reader", seed=0, gate_attempts=3)
    generate(plan, make_pipeline(), tmp_path / "best", progress=False, gate=Chance(plan.preset.covariates))
    for row in rows_of(tmp_path / "best"):
        number = row["subject_id"].split("-")[1]
        tries = [unreached[attempt][number] for attempt in range(3)]
        used = next((index + 1 for index, one in enumerate(tries) if not one), 3)
        chosen = int(np.argmin(tries[:used]))
        assert row["seed"] == plan.subject_seed(int(number), chosen)


def test_ranks_and_repair_keep_the_bytes_of_a_gated_run(tmp_path, make_plan, make_pipeline):
    plan = make_plan(gate="reader", gate_attempts=3)
    gate = Chance(plan.preset.covariates)
    whole = generate(plan, make_pipeline(), tmp_path / "one", progress=False, gate=gate)
    for rank in range(2):
        last = generate(plan, make_pipeline(), tmp_path / "two", progress=False, gate=gate, rank=rank, world_size=2)
    assert last == whole
    (tmp_path / "one" / next(iter(plan.shards()[2].files))).unlink()
    assert repair(tmp_path / "one", make_pipeline(), gate=gate, progress=False) == [plan.shards()[2].stem]


def test_a_real_observation_is_read_and_flagged_but_never_redrawn(tmp_path, make_plan, make_pipeline, source):
    plan = make_plan(source=source.name, source_fingerprint=source.fingerprint, gate="reader")
    record = generate(plan, make_pipeline(), tmp_path, source, progress=False, gate=Chance(plan.preset.covariates))
    assert record.counts["redrawn_families"] == 0 < record.counts["unreached_rows"]
    assert json.loads(rows_of(tmp_path)[0]["intervention"]) is not None


@pytest.mark.parametrize("named", [True, False])
def test_plan_and_gate_must_agree(tmp_path, make_plan, make_pipeline, named):
    plan = make_plan(gate="reader" if named else None)
    gate = None if named else Chance(plan.preset.covariates)
    with pytest.raises(InputError, match="gate: not given, but the plan names reader" if named else "gate: given, but"):
        generate(plan, make_pipeline(), tmp_path, progress=False, gate=gate)
    assert not list(tmp_path.iterdir())
