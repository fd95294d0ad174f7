"""A table is read whole, or refused before it fills the memory."""

import gzip
import tracemalloc

import pytest

from synthfair_hf.domains import rows as module
from synthfair_hf.domains.rows import read_rows
from synthfair_hf.errors import InputError


@pytest.mark.parametrize(("name", "write"), [("table.csv", bytes), ("table.csv.gz", gzip.compress)])
def test_a_table_beyond_the_limit_is_not_read(tmp_path, monkeypatch, name, write):
    data = b"age,sex\n" + b"61,F\n" * 1000
    (tmp_path / name).write_bytes(write(data))
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert read_rows(tmp_path / name) == [(line, {"age": "61", "sex": "F"}) for line in range(2, 1002)]
    monkeypatch.setattr(module, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InputError, match=rf"{name}: more than {len(data) - 1} bytes"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("name", ["state.json", "dataset_dict.json"])
def test_a_folder_that_datasets_saved_is_told_how_it_is_read(tmp_path, name):
    with pytest.raises(InputError, match="no such file; give a table"):
        read_rows(tmp_path / "metadata.csv")
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        InputError, match=r"no such file, in a folder that datasets saved; give dataset_name='datasets'"
    ):
        read_rows(tmp_path / "metadata.csv")


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A hundred megabytes in a hundred kilobytes, against a limit of one."""
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(bytes(10**8)))
    monkeypatch.setattr(module, "MAX_BYTES", 10**6)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than 1000000 bytes"):
            read_rows(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cell", ["p1\0x", "\0", "p1\0"])
def test_a_nul_in_any_cell_is_refused_by_its_line(tmp_path, cell):
    """It would be dropped as what is not seen, and make two patients one."""
    path = tmp_path / "metadata.csv"
    path.write_text(f"file_name,patient_id\na.png,p1\nb.png,{cell}\nc.png,p1x\n")
    with pytest.raises(
        InputError, match=r"metadata\.csv:3: holds a NUL character, and is damaged .*; save it as UTF-8"
    ):
        read_rows(path)


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n\n"])
def test_empty_lines_are_no_rows(tmp_path, blank):
    path = tmp_path / "metadata.csv"
    path.write_text(f"{blank}age;sex\n61;F\n{blank}62;\n{blank}")
    rows = [row for _, row in read_rows(path)]
    assert rows == [{"age": "61", "sex": "F"}, {"age": "62", "sex": ""}]
    lines = path.read_text().split("\n")
    assert [lines[line - 1] for line, _ in read_rows(path)] == ["61;F", "62;"]
