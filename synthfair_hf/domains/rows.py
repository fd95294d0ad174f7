"""Rows of a comma-separated table in UTF-8, plain or gzipped (.gz): read whole, or an error with file:line."""

import csv
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path

from ..errors import InputError
from ..records import check_regular

__all__ = ["MAX_BYTES", "read_rows"]

MAX_BYTES = 2**28
"""Larger tables are not read: a few bytes of gzip can stand for any number, and a million rows need less."""


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, row) for each row of the table, at least one; the line is the one on which the row ends.

    Columns at the end without a name or a value are left out.

    Raises:
        InputError: the file is absent, a pipe, damaged, larger than MAX_BYTES, not UTF-8, not CSV, has no rows, rows of
            different lengths or columns of the same name.
    """
    check_regular(path, str(path), "give a table in CSV with one row per image")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES} bytes; give a table with one row per image.")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text ({error.reason}); save the table as UTF-8 CSV.") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a table in CSV with one row per image.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not a readable table ({reason}); give a whole file.") from None

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = next(reader, [])
        # spreadsheets end lines with empty cells that no column stands over
        width = max((place for place, name in enumerate(header, 1) if name), default=0)
        repeated = [name for name, times in Counter(header[:width]).items() if times > 1]
        if repeated:
            raise InputError(f"{path}:1: column {repeated[0]!r} appears twice; columns must have distinct names.")
        for cells in reader:
            if len(cells) not in (width, len(header)) or any(cells[width:]):
                raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {width}.")
            rows.append((reader.line_num, dict(zip(header[:width], cells[:width], strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not comma-separated text ({error}); save it as CSV.") from None
    if not rows:
        raise InputError(f"{path}: no rows; a table needs a header and one row per image.")
    return rows
