"""Preferences as lines of {"text", "image_w", "image_l"}: what was asked, the image that won and the one that lost.

    {"text": "age=61, sex=female, finding=pneumonia", "image_w": "images/0f….png", "image_l": "images/a2….png"}

text is `name=value` for every covariate of the preset in its order, joined by ", "; "?" is a missing value, and numbers
are the shortest that float32 tells apart. Image paths are relative to the file and stay below its directory. Subjects,
splits, judges, margins and comments have no place in this form: `import_jsonl` takes them anew.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch

from ..errors import InputError, unknown
from ..presets import Preset
from ..records import write_atomically
from ..schema import Schema
from ..sources.source import patient_split
from .pairs import Preferences, image_digest
from .pixels import read_pixels, stack, to_png
from .preferences import check_covariates, new_directory

__all__ = ["covariates_of", "export_jsonl", "import_jsonl", "text_of"]

KEYS = ("text", "image_w", "image_l")
FILE = "preferences.jsonl"
MISSING = "?"


def text_of(values: Mapping[str, Any], schema: Schema) -> str:
    """Decoded values, None where missing, as text; InputError where that would not read back as the same."""
    words = []
    for variable in schema.walk():
        value = values[variable.name]
        if value is None:
            word = MISSING
        else:
            word = value if variable.categorical else np.format_float_positional(np.float32(value), trim="-")
        if value is not None and (word == MISSING or ", " in word):
            raise InputError(f"{variable.name}: level {value!r} can't be told in this form; rename it.")
        words.append(f"{variable.name}={word}")
    return ", ".join(words)


def covariates_of(text: str, schema: Schema, where: str = "text") -> dict[str, Any]:
    """The inverse of `text_of`; any other text is an InputError that begins with `where`."""
    words = [word.partition("=") for word in text.split(", ")]
    if tuple(name for name, _, _ in words) != schema.names or not all(equals for _, equals, _ in words):
        form = ", ".join(f"{name}=..." for name in schema.names)
        raise InputError(f"{where}: {text!r} does not say the covariates; write {form!r}, {MISSING} where missing.")
    values: dict[str, Any] = {}
    for name, _, word in words:
        value: Any = None if word == MISSING else word
        if value is not None and not schema[name].categorical:
            try:
                value = float(word)
            except ValueError:
                raise InputError(f"{where}: {name}={word} is not a number; give {schema[name].unit}.") from None
        schema[name].encode_value(value, f"{where}: {name}")
        values[name] = value
    return values


def export_jsonl(preferences: Preferences, directory: str | Path, preset: Preset) -> Path:
    """Write the lines, and every image once under the digest of its pixels, into a new or empty directory.

    All or nothing. Returns the path of the lines.
    """
    if not len(preferences):
        raise InputError("preferences: no pairs; give at least one.")
    check_covariates(preferences.covariates, preset)
    columns = preset.covariates.decode({name: column.numpy() for name, column in preferences.covariates.items()})
    lines, images = [], {}
    for row in range(len(preferences)):
        text = text_of({name: column[row] for name, column in columns.items()}, preset.covariates)
        names = []
        for image in (preferences.preferred[row], preferences.rejected[row]):
            names.append(f"images/{image_digest(image)}.png")
            images[names[-1]] = image
        lines.append(json.dumps(dict(zip(KEYS, (text, *names), strict=True)), ensure_ascii=False))
    with new_directory(directory) as temporary:
        (temporary / "images").mkdir()
        for name, image in images.items():
            write_atomically(temporary / name, to_png(image))
        write_atomically(temporary / FILE, "".join(f"{line}\n" for line in lines).encode())
    return Path(directory) / FILE


def import_jsonl(
    path: str | Path,
    preset: Preset,
    judge: str = "unknown",
    subjects: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> Preferences:
    """The pairs of a file, all by one judge, with unknown margins.

    subjects: by line; by default pairs that share an image, directly or through others, are one subject, named after
        the image among theirs whose digest sorts first.
    splits: by line; by default the `patient_split` of each subject. Give the source's where it has these subjects.

    Raises InputError naming the file and the line where it is not of this form, says another covariate or value than
    the preset has, or names a file that is no image below the directory; and what `Preferences` refuses.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file ({error}).") from None
    told = {line: one for line, one in enumerate(text.split("\n"), start=1) if one.strip()}
    if not told:
        raise InputError(f"{path}: holds no pairs; give one {{text, image_w, image_l}} a line.")
    rows = {f"{path}:{line}": _row(one, f"{path}:{line}") for line, one in told.items()}
    values = [covariates_of(row["text"], preset.covariates, where) for where, row in rows.items()]
    encoded = preset.covariates.encode({name: [one[name] for one in values] for name in preset.covariates.names})
    files = [(f"{where}: {key}", row[key]) for key in KEYS[1:] for where, row in rows.items()]
    images = stack([read_pixels(_file(path.parent, *file), file[0]) for file in files], [where for where, _ in files])
    preferred, rejected = images.chunk(2)
    if subjects is None:
        digests = [image_digest(image) for image in images]
        links = nx.Graph(zip(digests[: len(rows)], digests[len(rows) :], strict=True))
        first = {digest: min(part) for part in nx.connected_components(links) for digest in part}
        subjects = [first[digest] for digest in digests[: len(rows)]]
    try:
        return Preferences(
            preferred,
            rejected,
            {name: torch.from_numpy(column) for name, column in encoded.items()},
            np.array(subjects, dtype=str),
            np.array([patient_split(subject) for subject in subjects] if splits is None else splits, dtype=str),
            np.full(len(rows), judge),
            torch.full((len(rows),), torch.nan),
            np.full(len(rows), ""),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _row(line: str, where: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); give {{text, image_w, image_l}}.") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in KEYS):
        raise InputError(f"{where}: gives no text, image_w and image_l; give each as a string.")
    for key in row:
        if key not in KEYS:
            raise unknown(where, key, KEYS)
    return row


def _file(root: Path, where: str, name: str) -> bytes:
    """The bytes of the file `name` below `root`; a path that leaves it is never opened."""
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()):
            raise InputError(f"{where}: {name!r} leaves the directory; keep images below {root}.")
        # a pipe would be waited for
        if not path.is_file():
            raise InputError(f"{where}: {name!r} is not a file below {root}; name an image.")
        return path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {name!r} can't be read ({error}).") from None
