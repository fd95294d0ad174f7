"""Rows of a table in CSV in UTF-8, plain or gzipped (.gz): read whole, or an error with file:line.

Cells are separated by commas; by semicolons or tabs where the header has more of these, as spreadsheets of many
countries save them.
"""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ..errors import InputError
from ..records import check_regular

__all__ = ["MAX_BYTES", "SAVED", "read_rows"]

SAVED = ("state.json", "dataset_dict.json")
"""Files of a folder that `datasets` saved, either of them."""

MAX_BYTES = 2**28
"""Larger tables are not read: a few bytes of gzip can stand for any number, and a million rows need less."""


def read_rows(
    path: Path, columns: Collection[str] | None = None, max_bytes: int | None = None
) -> list[tuple[int, dict[str, str]]]:
    """(line, row) for each row of the table, at least one; the line is the one on which the row ends.

    Columns at the end without a name or a value are left out, and so are empty lines.

    Args:
        path: of the table.
        columns: those that are kept, where the table has them; all by default.
        max_bytes: a larger table is an error; MAX_BYTES by default.

    Raises:
        InputError: the file is absent, a pipe, damaged, too large, not UTF-8, not CSV, has a NUL, no rows, rows of
            different lengths or columns of the same name.
    """
    limit = MAX_BYTES if max_bytes is None else max_bytes
    check_regular(path, str(path), "give a table in CSV with one row per image")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"{path}: more than {limit} bytes; give a table with one row per image.")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text ({error.reason}); save the table as UTF-8 CSV.") from None
    except FileNotFoundError:
        if any((path.parent / one).is_file() for one in SAVED):
            raise InputError(
                f"{path}: no such file, in a folder that datasets saved; give dataset_name='datasets', or write its "
                "columns but the images to that file."
            ) from None
        raise InputError(f"{path}: no such file; give a table in CSV with one row per image.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not a readable table ({reason}); give a whole file.") from None

    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            f"{path}:{line}: holds a NUL character, and is damaged or of another encoding; save it as UTF-8 CSV."
        )
    head = text.lstrip("\r\n").partition("\n")[0]
    # a name may hold another one, as in `SEX_ID (1=m, 2=f)`
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = []
    try:
        lines = filter(None, reader)
        header = next(lines, [])
        # spreadsheets end lines with empty cells that no column stands over
        width = max((place for place, name in enumerate(header, 1) if name), default=0)
        repeated = [name for name, times in Counter(header[:width]).items() if times > 1]
        if repeated:
            raise InputError(f"{path}:1: column {repeated[0]!r} appears twice; columns must have distinct names.")
        for cells in lines:
            if len(cells) not in (width, len(header)) or any(cells[width:]):
                raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {width}.")
            row = zip(header[:width], cells[:width], strict=True)
            rows.append((reader.line_num, {name: cell for name, cell in row if columns is None or name in columns}))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not comma-separated text ({error}); save it as CSV.") from None
    if not rows:
        raise InputError(f"{path}: no rows; a table needs a header and one row per image.")
    return rows
