import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from synthfair_hf.errors import InputError
from synthfair_hf.generate import store as store_module
from synthfair_hf.generate.render import EDITED, MODEL, encode_png, statement
from synthfair_hf.generate.run import check, generate, repair
from synthfair_hf.generate.store import Store
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import Record, file_sha256


def read(directory: Path) -> list[dict]:
    return [row for path in sorted(directory.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]


def pixels(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def digests(directory: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted((directory / "data").iterdir())}


def from_source(source) -> dict[str, str]:
    return {"source": source.name, "source_fingerprint": source.fingerprint}


@pytest.fixture(params=["scm", "source", "source, lossy"])
def generated(request, tmp_path, make_plan, make_pipeline, source):
    """A finished data set of any kind of subject: plan, directory, record."""
    real = request.param != "scm"
    plan = make_plan(**from_source(source)) if real else make_plan()
    pipeline = make_pipeline(lossy=request.param == "source, lossy")
    record = generate(plan, pipeline, tmp_path, source if real else None, progress=False)
    write_dataset_card(tmp_path, plan.preset, record, "cc-by-4.0")
    return plan, tmp_path, record


def test_the_data_set_is_the_plan_and_sound(generated):
    plan, directory, record = generated
    rows = read(directory)
    assert verify(directory) == []
    assert record.counts["rows"] == len(rows) == plan.num_rows
    assert record.counts["shards"] == len(plan.shards())
    assert record.counts["bytes"] == sum(path.stat().st_size for path in (directory / "data").iterdir())
    assert record == Record.read(directory / "records" / "generate.json")
    assert {row["plan"] for row in rows} == {plan.fingerprint}
    planned = {row.id: row for shard in plan.shards() for row in plan.rows(shard)}
    for row in rows:
        ours = planned[row["id"]]
        assert (row["split"], row["subject_id"], row["draw"]) == (ours.split, ours.subject_id, ours.draw)


def test_covariates_are_the_cell_and_otherwise_the_subjects_own(generated):
    plan, directory, _ = generated
    rows = read(directory)
    observations = {row["subject_id"]: row for row in rows if row["intervention"] == "{}"}
    planned = {row.id: row for shard in plan.shards() for row in plan.rows(shard)}
    assert Counter(row["subject_id"] for row in rows if row["intervention"] == "{}") == dict.fromkeys(observations, 1)
    assert len(observations) == plan.num_subjects
    covariates = plan.preset.covariates
    for row in rows:
        own, cell = observations[row["subject_id"]], planned[row["id"]].cell
        values = {
            one.name: one.levels[row[one.name]] if one.categorical else row[one.name] for one in covariates.walk()
        }
        assert {name: values[name] for name in cell} == cell
        assert all(row[name] == own[name] for name in set(covariates.names) - set(cell))
        do = json.loads(row["intervention"])
        assert do == {name: values[name] for name in sorted(do)}
        assert list(do) == sorted(do)
        assert {name for name in covariates.names if row[name] != own[name]} <= set(do)
        assert plan.stratum(values) == planned[row["id"]].stratum
        assert row["parent_id"] == (None if row is own else own["id"])


def test_the_unchanged_row_is_the_observation_and_the_others_share_its_noise(generated, pipeline):
    plan, directory, _ = generated
    rows = read(directory)
    own = {row["subject_id"]: row for row in rows if row["parent_id"] is None}
    covariates = plan.preset.covariates
    for row in rows:
        table = {
            one.name: [one.levels[row[one.name]] if one.categorical else row[one.name]] for one in covariates.walk()
        }
        parent = own[row["subject_id"]]
        before = {
            one.name: [one.levels[parent[one.name]] if one.categorical else parent[one.name]]
            for one in covariates.walk()
        }
        still = torch.zeros(1, 2, 1, 8, 8)
        effect = (pipeline(covariates=table, noise=still).images - pipeline(covariates=before, noise=still).images)[
            0, 0
        ]
        moved = np.clip(pixels(parent) / 255 + effect.numpy(), 0, 1)
        assert abs(pixels(row) / 255 - moved).max() < 1.01 / 255
        for name in covariates.names:
            assert row[f"noise_{name}"] == parent[f"noise_{name}"]
            assert len(row[f"noise_{name}"]) == max(len(covariates[name].levels), 1)


def test_a_model_subject_is_bit_equal_to_its_observation_drawn_again(tmp_path, make_plan, pipeline):
    plan = make_plan()
    generate(plan, pipeline, tmp_path, progress=False)
    for row in [row for row in read(tmp_path) if row["parent_id"] is None]:
        generator = torch.Generator().manual_seed(row["seed"])
        while row["noise_age"][0] not in pipeline.scm.sample_noise(8, generator)["age"].tolist():
            pass
        covariates = plan.preset.covariates
        table = {
            one.name: [one.levels[row[one.name]] if one.categorical else row[one.name]] for one in covariates.walk()
        }
        image = pipeline(covariates=table, noise=pipeline.sample_noise([generator])).images[0, 0].numpy()
        assert np.array_equal(pixels(row), np.rint(image.clip(0, 1) * 255))


def test_a_real_observation_keeps_its_pixels_and_only_its_counterfactuals_are_marked(
    tmp_path, make_plan, pipeline, source
):
    plan = make_plan(**from_source(source))
    generate(plan, pipeline, tmp_path, source, progress=False)
    originals = {np.rint(source.image(index, 8) * 255).astype(np.uint8).tobytes() for index in range(len(source))}
    for row in read(tmp_path):
        assert row["source_dataset"] == "stub"
        assert row["synthetic"] == (row["parent_id"] is not None)
        made_by = EDITED if row["synthetic"] else None
        assert Image.open(io.BytesIO(row["image"]["bytes"])).info["XML:com.adobe.xmp"] == statement(made_by, row["id"])
        if not row["synthetic"]:
            assert pixels(row).tobytes() in originals


def test_every_draw_from_the_model_is_marked_as_synthetic(tmp_path, make_plan, pipeline):
    generate(make_plan(), pipeline, tmp_path, progress=False)
    for row in read(tmp_path):
        assert row["synthetic"]
        assert row["source_dataset"] == "scm"
        assert Image.open(io.BytesIO(row["image"]["bytes"])).info["XML:com.adobe.xmp"] == statement(MODEL, row["id"])


def test_no_patient_is_named_in_any_file(tmp_path, make_plan, pipeline, source):
    generate(make_plan(**from_source(source)), pipeline, tmp_path, source, progress=False)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(b"patient-0" in path.read_bytes() for path in written)
    assert not any("patient-0" in str(row) for row in read(tmp_path))


@pytest.mark.parametrize("fail_at", [1, 2, 9, 33, 70])
def test_an_interrupted_run_continues_to_the_same_bytes(tmp_path, make_plan, make_pipeline, fail_at):
    plan, whole, parts = make_plan(), tmp_path / "whole", tmp_path / "parts"
    generate(plan, make_pipeline(), whole, progress=False)
    with pytest.raises(KeyboardInterrupt):
        generate(plan, make_pipeline(fail_at=fail_at), parts, progress=False)
    before = {path: path.stat().st_mtime_ns for path in (parts / "data").iterdir()}
    assert not (parts / "records" / "generate.json").exists()
    generate(plan, make_pipeline(), parts, progress=False)
    assert digests(parts) == digests(whole)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (parts / "records" / "generate.json").read_bytes() == (whole / "records" / "generate.json").read_bytes()


def test_a_shard_without_its_record_is_redone_and_no_other(tmp_path, make_plan, make_pipeline, monkeypatch):
    plan, whole, parts = make_plan(), tmp_path / "whole", tmp_path / "parts"
    generate(plan, make_pipeline(), whole, progress=False)

    class Interrupted(Record):
        def write(self, path: Path) -> None:
            if path.stem.startswith("train-00002"):
                raise KeyboardInterrupt
            super().write(path)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "Record", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(plan, make_pipeline(), parts, progress=False)
    before = {path.name: path.stat().st_mtime_ns for path in (parts / "data").iterdir()}
    assert len(before) == 3
    generate(plan, make_pipeline(), parts, progress=False)
    after = {path.name: path.stat().st_mtime_ns for path in (parts / "data").iterdir()}
    assert [name for name in sorted(before) if after[name] != before[name]] == ["train-00002-of-00007.parquet"]
    assert digests(parts) == digests(whole)


def test_a_finished_run_asks_nothing_of_the_pipeline_again(generated, make_pipeline, source):
    plan, directory, record = generated
    idle = make_pipeline()
    assert generate(plan, idle, directory, source if plan.source == "stub" else None, progress=False) == record
    assert idle.calls == 0


def test_images_do_not_depend_on_batch_or_shard_size(tmp_path, make_plan, make_pipeline):
    found = []
    for number, (batch_size, per_shard) in enumerate([(1, 28), (5, 3), (64, 7)]):
        plan = make_plan(batch_size=batch_size, subjects_per_shard=per_shard)
        generate(plan, make_pipeline(), tmp_path / str(number), progress=False)
        rows = read(tmp_path / str(number))
        found.append(
            sorted((row["id"].split("-", 1)[1], pixels(row).tobytes(), row["age"], row["draw"]) for row in rows)
        )
    assert found[0] == found[1] == found[2]


class Spoilt:
    """A pipeline that spoils one image of the calls it is told to."""

    def __init__(self, pipeline, calls: set[int], value: float) -> None:
        self.preset, self.scm, self.config = pipeline.preset, pipeline.scm, pipeline.config
        self.sample_noise = pipeline.sample_noise
        self._pipeline, self._calls, self._value = pipeline, calls, value

    def __call__(self, **arguments):
        result = self._pipeline(**arguments)
        if self._pipeline.calls in self._calls:
            result.images[-1] = self._value
        return result


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1.0])
def test_a_family_with_an_unsound_image_is_drawn_again_and_counted(tmp_path, make_plan, make_pipeline, value):
    plan = make_plan()
    record = generate(plan, Spoilt(make_pipeline(), {1, 4}, value), tmp_path, progress=False)
    assert record.counts["rejected_images"] == 2
    write_dataset_card(tmp_path, plan.preset, record, "cc-by-4.0")
    assert verify(tmp_path) == []
    rows = read(tmp_path)
    redrawn = {row["subject_id"] for row in rows if row["seed"] != plan.subject_seed(int(row["id"].split("-")[1]))}
    assert len(redrawn) == 2
    for row in rows:
        assert len(np.unique(pixels(row))) > 1
        attempt = int(row["subject_id"] in redrawn)
        assert row["seed"] == plan.subject_seed(int(row["id"].split("-")[1]), attempt)


def test_a_model_that_makes_nothing_sound_is_stopped(tmp_path, make_plan, make_pipeline, source):
    broken = Spoilt(make_pipeline(), set(range(10**4)), float("nan"))
    with pytest.raises(InputError, match="some of its images are NaN, infinite or constant after 8 attempts"):
        generate(make_plan(), broken, tmp_path / "scm", progress=False)
    with pytest.raises(InputError, match="after 1 attempts"):
        generate(make_plan(**from_source(source)), broken, tmp_path / "real", source, progress=False)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_family_without_its_own_cell_has_no_parent(tmp_path, make_plan, pipeline):
    plan = make_plan(factors=("age",), levels={"age": (30, 60.1)})
    write_dataset_card(tmp_path, plan.preset, generate(plan, pipeline, tmp_path, progress=False), "cc-by-4.0")
    rows = read(tmp_path)
    assert len(rows) == 56
    assert {row["parent_id"] for row in rows} == {None}
    assert all(json.loads(row["intervention"])["age"] == row["age"] for row in rows)
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    ("changed", "given", "message"),
    [
        ({"source": "nih"}, False, r"source: not given, but the subjects .* are observed in nih \(None\); give it"),
        ({}, True, r"source: stub is given, but the plan draws its subjects; leave it out"),
        (
            {"source": "stub", "source_fingerprint": "x"},
            True,
            r"source: stub \(0123.* is given, but .* are observed in stub \(x\); give that",
        ),
        ({"resolution": 16}, False, "resolution: 16, but the model renders 8"),
    ],
)
def test_a_plan_for_something_else_is_refused(tmp_path, make_plan, pipeline, source, changed, given, message):
    with pytest.raises(InputError, match=message):
        generate(make_plan(**changed), pipeline, tmp_path, source if given else None)
    assert pipeline.calls == 0
    assert not list(tmp_path.iterdir())


def tree(directory: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def test_a_source_with_too_few_patients_is_refused_before_anything_is_written(tmp_path, make_plan, pipeline, source):
    directory, plan = tmp_path / "new", make_plan(num_subjects=1000, **from_source(source))
    for refused in (
        lambda: check(plan, directory, source),
        lambda: generate(plan, pipeline, directory, source, progress=False),
    ):
        with pytest.raises(InputError, match="the largest num_subjects possible is"):
            refused()
        assert not directory.exists()
    check(make_plan(**from_source(source)), directory, source)
    assert not directory.exists()


def test_check_refuses_what_generate_would_and_touches_nothing(tmp_path, make_plan, pipeline, source):
    plan, directory = make_plan(), tmp_path / "data"
    with pytest.raises(InputError, match="source: stub is given, but the plan draws its subjects"):
        check(plan, directory, source)
    directory.mkdir()
    check(plan, directory)
    (directory / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no plan"):
        check(plan, directory)
    (directory / "thesis.tex").unlink()
    with Store(directory, plan).open():
        before = tree(directory)
        with pytest.raises(InputError, match="locked by pid"):
            check(plan, directory)
        assert tree(directory) == before
    generate(plan, pipeline, directory, progress=False)
    before = tree(directory)
    check(plan, directory)
    with pytest.raises(InputError, match="holds another plan"):
        check(make_plan(seed=1), directory)
    assert tree(directory) == before


def test_a_run_that_failed_before_its_first_shard_does_not_block_the_corrected_one(
    tmp_path, make_plan, make_pipeline, source
):
    broken = Spoilt(make_pipeline(), set(range(10**4)), float("nan"))
    with pytest.raises(InputError, match="check the model's weights"):
        generate(make_plan(), broken, tmp_path, progress=False)
    corrected = make_plan(guidance_scale=1.0)
    record = generate(corrected, make_pipeline(), tmp_path, progress=False)
    write_dataset_card(tmp_path, corrected.preset, record, "cc-by-4.0")
    assert verify(tmp_path) == []
    with pytest.raises(InputError, match="holds another plan"):
        generate(make_plan(), make_pipeline(), tmp_path, progress=False)


def test_a_residual_is_added_before_the_clamp(tmp_path, make_plan, make_pipeline, source):
    """An effect that leads out of [0, 1] and a residual that leads back meet before the pixels are clamped."""
    plan, lossy = make_plan(**from_source(source)), make_pipeline(lossy=True)
    generate(plan, lossy, tmp_path / "lossy", source, progress=False)
    generate(plan, make_pipeline(), tmp_path / "lossless", source, progress=False)
    for one, other in zip(read(tmp_path / "lossy"), read(tmp_path / "lossless"), strict=True):
        assert abs(pixels(one).astype(int) - pixels(other)).max() <= 1


def test_a_plan_with_other_covariates_than_the_models_is_refused(tmp_path, make_plan, pipeline):
    other = pipeline.preset.model_copy(update={"edges": pipeline.preset.edges[1:]})
    with pytest.raises(InputError, match="other covariates or edges than the model's chest_xray"):
        generate(make_plan(preset=other), pipeline, tmp_path)


def test_progress_counts_every_image(tmp_path, make_plan, make_pipeline, monkeypatch, capsys):
    # a log is told of what lasts alone
    monkeypatch.setattr("synthfair_hf.progress.LOG_SECONDS", 1e-6)
    generate(make_plan(), Spoilt(make_pipeline(), {1, 4}, 0.0), tmp_path)
    assert "336/336" in capsys.readouterr().err


@pytest.mark.parametrize("level", range(0, 255, 17))
def test_png_levels_are_rounded_not_truncated(level):
    image = np.array([[level + 0.49, level - 0.49, 255, 0]], dtype=np.float32).clip(0, 255) / 255
    data = encode_png(image, None)
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == [[level, level, 255, 0]]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_write_what_one_process_writes_and_the_last_records_the_run(
    tmp_path, make_plan, make_pipeline, world_size
):
    plan = make_plan()
    whole = generate(plan, make_pipeline(), tmp_path / "one", progress=False)
    ranks = [
        generate(plan, make_pipeline(), tmp_path / "many", progress=False, rank=rank, world_size=world_size)
        for rank in reversed(range(world_size))
    ]
    assert ranks == [None] * (world_size - 1) + [whole]
    assert digests(tmp_path / "many") == digests(tmp_path / "one")


def test_a_run_goes_on_under_another_number_of_ranks(tmp_path, make_plan, make_pipeline):
    plan = make_plan()
    whole = generate(plan, make_pipeline(), tmp_path / "one", progress=False)
    parts = tmp_path / "parts"
    assert generate(plan, make_pipeline(), parts, progress=False, rank=1, world_size=3) is None
    for rank in range(2):
        with pytest.raises(KeyboardInterrupt):
            generate(plan, make_pipeline(fail_at=5), parts, progress=False, rank=rank, world_size=2)
    assert generate(plan, make_pipeline(), parts, progress=False) == whole
    assert digests(parts) == digests(tmp_path / "one")


def test_ranks_of_one_division_work_side_by_side_and_nobody_else(tmp_path, make_plan):
    plan = make_plan()
    with Store(tmp_path, plan, 0, 2).open(), Store(tmp_path, plan, 1, 2).open() as second:
        assert second.shards() == plan.shards()[1::2]
        for rank, world_size, owner in [(0, 2, ", rank 0 of 2"), (0, 1, ", rank 0 of 2"), (2, 3, ", rank 0 of 2")]:
            with pytest.raises(InputError, match=rf"locked by pid \d+ on host .*{owner}; wait"):
                check(plan, tmp_path, rank=rank, world_size=world_size)
    check(plan, tmp_path)


def test_a_rank_leaves_what_another_is_writing(tmp_path, make_plan):
    plan = make_plan()
    with Store(tmp_path, plan, 0, 2).open() as first:
        half = first.data_paths(first.shards()[0])[0]
        half = half.with_name(f"{half.name}.tmp")
        half.write_bytes(b"half a shard")
        with Store(tmp_path, plan, 1, 2).open():
            assert half.exists()
    with Store(tmp_path, plan).open():
        assert not half.exists()


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_outside_its_world_is_refused(tmp_path, make_plan, rank, world_size):
    with pytest.raises(InputError, match=f"rank: {rank} is not allowed"):
        Store(tmp_path, make_plan(), rank, world_size)


def finished(directory, plan, pipeline) -> Path:
    write_dataset_card(directory, plan.preset, generate(plan, pipeline, directory, progress=False), "cc-by-4.0")
    return directory


def test_repair_makes_exactly_the_damaged_shards_again_to_the_same_bytes(tmp_path, make_plan, make_pipeline):
    plan = make_plan()
    directory = finished(tmp_path, plan, make_pipeline())
    whole, times = digests(directory), {path: path.stat().st_mtime_ns for path in (directory / "data").iterdir()}
    flipped, missing, unrecorded = (plan.shards()[index] for index in (0, 3, 10))
    path = directory / next(iter(flipped.files))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (directory / next(iter(missing.files))).unlink()
    (directory / "records" / f"{unrecorded.stem}.json").unlink()
    assert len(verify(directory)) == 3
    assert repair(directory, make_pipeline(), progress=False) == [one.stem for one in (flipped, missing, unrecorded)]
    assert digests(directory) == whole
    assert verify(directory) == []
    changed = {path.stem for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {flipped.stem, missing.stem, unrecorded.stem}
    idle = make_pipeline()
    assert repair(directory, idle, progress=False) == []
    assert idle.calls == 0


def test_a_repair_that_gives_other_bytes_says_so(tmp_path, make_plan, make_pipeline):
    plan = make_plan()
    directory = finished(tmp_path, plan, make_pipeline())
    (directory / next(iter(plan.shards()[0].files))).unlink()
    other = make_pipeline(lossy=True)
    other.scm.evaluate = lambda noise: {
        name: one.argmin(dim=1) if one.ndim == 2 else one * 90 + 1 for name, one in noise.items()
    }
    with pytest.raises(InputError, match=r"not, byte for byte, those that were lost \(another type of device\)"):
        repair(directory, other, progress=False)


def test_sixty_flipped_bytes_are_all_found(tmp_path, make_plan, make_pipeline):
    directory = finished(tmp_path, make_plan(), make_pipeline())
    rng = np.random.default_rng(0)
    paths = sorted((directory / "data").iterdir())
    for number in range(60):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        [problem] = verify(directory)
        assert problem.startswith(f"data/{path.name}: its bytes differ")
        path.write_bytes(whole)
    assert verify(directory) == []
