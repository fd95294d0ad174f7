import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.generate.merge import merge
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import file_sha256


@pytest.fixture
def parts(tmp_path, make_plan, make_pipeline):
    """Three machines' parts of one plan."""
    for rank in range(3):
        generate(make_plan(), make_pipeline(), tmp_path / f"part-{rank}", progress=False, rank=rank, world_size=3)
    return [tmp_path / f"part-{rank}" for rank in range(3)]


def digests(directory) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in (directory / "data").iterdir()}


def test_parts_become_what_one_machine_makes(tmp_path, parts, make_plan, make_pipeline):
    whole = generate(make_plan(), make_pipeline(), tmp_path / "whole", progress=False)
    assert merge(parts, tmp_path / "merged") == whole
    assert digests(tmp_path / "merged") == digests(tmp_path / "whole")
    write_dataset_card(tmp_path / "merged", make_plan().preset, whole, "cc-by-4.0")
    assert verify(tmp_path / "merged") == []
    assert merge(parts[:1], tmp_path / "merged") == whole


def test_a_missing_part_is_named_and_the_rest_is_kept(tmp_path, parts, make_plan):
    with pytest.raises(InputError, match=r"4 shards are sound in none of the parts, such as train-00001-of-00007"):
        merge([parts[0], parts[2]], tmp_path / "merged")
    assert len(list((tmp_path / "merged" / "data").iterdir())) == len(make_plan().shards()) - 4
    merge([parts[1]], tmp_path / "merged")


def test_a_damaged_shard_is_not_merged(tmp_path, parts, make_plan, make_pipeline):
    path = parts[0] / next(iter(make_plan().shards()[0].files))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="1 shards are sound in none of the parts, such as train-00000-of-00007"):
        merge(parts, tmp_path / "merged")
    generate(make_plan(), make_pipeline(), tmp_path / "again", progress=False, rank=0, world_size=3)
    merge([*parts, tmp_path / "again"], tmp_path / "merged")


def test_parts_of_different_plans_are_refused_before_anything_is_written(tmp_path, parts, make_plan, make_pipeline):
    generate(make_plan(seed=1), make_pipeline(), tmp_path / "other", progress=False)
    with pytest.raises(InputError, match=r"holds another plan than .*part-0 \(seed: 0 != 1\); merge parts of one plan"):
        merge([*parts, tmp_path / "other"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(InputError, match="parts: none given"):
        merge([], tmp_path / "merged")


def test_what_rotted_in_the_merged_set_is_taken_from_a_part_and_never_called_whole(tmp_path, parts, make_plan):
    merge(parts, tmp_path / "merged")
    whole, shard = digests(tmp_path / "merged"), make_plan().shards()[0]
    path = tmp_path / "merged" / next(iter(shard.files))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"1 shards are sound in none of the parts, such as {shard.stem}"):
        merge(parts[1:], tmp_path / "merged")
    merge(parts, tmp_path / "merged")
    assert digests(tmp_path / "merged") == whole
