"""A disk that takes no more bytes: the system itself refuses them, by its limit on the size of a file."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.generate.merge import merge
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import file_sha256


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes; write(2) answers EFBIG where a full disk says ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def digests(directory: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in (directory / "data").iterdir()}


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def plan(make_plan):
    """Its first shard is the largest."""
    return make_plan(subjects_per_shard=16)


@pytest.fixture
def whole(tmp_path, plan, pipeline) -> Path:
    generate(plan, pipeline, tmp_path / "whole", progress=False)
    return tmp_path / "whole"


def test_a_shard_without_room_leaves_nothing_and_is_made_when_there_is(tmp_path, plan, make_pipeline, whole):
    first, *others = (next(iter(shard.files)) for shard in plan.shards())
    size = (whole / first).stat().st_size
    assert all((whole / name).stat().st_size < size - 1 for name in others)
    with (
        room_for(size - 1),
        pytest.raises(InputError, match=rf"{first}: no room for its {size} bytes \(File too large\); free it"),
    ):
        generate(plan, make_pipeline(), tmp_path / "full", progress=False)
    assert names(tmp_path / "full") == {"records/plan.json"}
    record = generate(plan, make_pipeline(), tmp_path / "full", progress=False)
    assert digests(tmp_path / "full") == digests(whole)
    write_dataset_card(tmp_path / "full", plan.preset, record, "cc-by-4.0")
    assert verify(tmp_path / "full") == []


def test_a_merge_without_room_leaves_no_part_of_a_shard(tmp_path, plan, whole):
    first = next(iter(plan.shards()[0].files))
    size = (whole / first).stat().st_size
    with room_for(size - 1), pytest.raises(InputError, match=f"{first}: no room for its {size} bytes"):
        merge([whole], tmp_path / "merged")
    assert names(tmp_path / "merged") == {"records/plan.json"}
    merge([whole], tmp_path / "merged")
    assert digests(tmp_path / "merged") == digests(whole)


def test_a_record_without_room_leaves_its_shard_unfinished(tmp_path, plan, make_pipeline, whole):
    """Whatever file the disk refuses, what was there stays as it was and the same command ends in the same bytes."""
    for size in range(0, 1600, 200):
        with room_for(size), pytest.raises((InputError, OSError)):
            generate(plan, make_pipeline(), tmp_path / "full", progress=False)
        assert not [name for name in names(tmp_path / "full") if name.endswith(".parquet")]
    generate(plan, make_pipeline(), tmp_path / "full", progress=False)
    assert names(tmp_path / "full") == names(whole)
    assert digests(tmp_path / "full") == digests(whole)
