"""Rows of a comma-separated table in UTF-8, plain or gzipped (.gz): read whole, or refused with file:line."""

import csv
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path

from ..errors import InputError

__all__ = ["read_rows"]


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, row) for each row of the table, at least one; the line is the one on which the row ends.

    Raises InputError when the file is absent, damaged, not UTF-8, not CSV, has no rows, rows of different lengths or
    columns of the same name.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
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
        repeated = [name for name, times in Counter(header).items() if times > 1]
        if repeated:
            raise InputError(f"{path}:1: column {repeated[0]!r} appears twice; columns must have distinct names.")
        for cells in reader:
            if len(cells) != len(header):
                raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}.")
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not comma-separated text ({error}); save it as CSV.") from None
    if not rows:
        raise InputError(f"{path}: no rows; a table needs a header and one row per image.")
    return rows
