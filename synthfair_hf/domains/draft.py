"""A preset drafted from a table: the kinds, levels and ranges of its columns; the rest is for its author to edit.

    column of numbers           continuous: a range that holds them, in round numbers; few that repeat are levels
    column of words that repeat categorical: its levels, in whatever case they are written
    several columns of findings each is present or absent: see below
    any other column            left out, with the reason in a remark

Columns are several findings where they are named, or, where two or more are called as findings that data sets publish
and no column is called as one that holds all is, by themselves. Their cells are 1 and 0, present and absent, yes and
no, or true and false; -1, uncertain, is missing. All are present or absent whatever else a row has. So is each label
that the cells of the column FINDINGS join (`findings`).

Levels of which there is no image to learn from are left out, as far as so many cells may be unreadable: whoever trains
takes no finding that lacks a level.

Whoever drafts knows no domain: roles and natures follow from the columns' names, and the only edges are those of what
is the patient's to the finding. What no name tells is of the role other: nobody said that it is protected.
"""

import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Context, Decimal
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, counted
from ..missing import is_missing
from ..schema import Schema, Variable, spelling
from .cells import FEWEST, IDENTIFIED, MAX_UNREADABLE, check_identifiers, match_columns
from .findings import FINDINGS
from .preset import Contrast, Preset, strengths
from .preset_file import LARGEST, MAX_COVARIATES, NAME, why_no_name
from .presets import PRESETS
from .readers import key_of, map_columns
from .rows import read_rows
from .several_findings import MAX_LEVELS, present_or_absent, told_by_labels, told_in_columns, told_together
from .table_images import TableImages
from .values import ABSENT, NO_FINDING, PRESENT, is_no_finding, published

__all__ = ["Draft", "draft_preset"]

LONGEST = 80
"""A column with longer words is text: a level's name stands in commands and paths."""

EXACT = Context(prec=LONGEST)
"""By which a number that is as long as a level may be loses no digit."""

DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")

UNITS = {"day": "days", "week": "weeks", "month": "months", "mo": "months"}
"""Of an age, by the words of its column's name; years, where it has none of them."""

SEVERAL = 0.05
"""Share of the cells of a column, 0 to 1, from which on several words in a cell are several labels."""

SEVERAL_LABELS = "holds several labels"
"""Why a column is left out whose cells join them."""

SIGNS = {"<=": " up_to ", ">=": " from ", "<": " under ", ">": " over ", "&": " and ", "%": " percent "}
"""Words for signs that tell levels apart, and that no command can hold."""

FEW = 10
"""Up to so many numbers that repeat are levels, such as stages of a disease."""

MAX_CROSSED = 24
"""Members of a family that a draft crosses, unless the finding alone has more levels."""

WORDS = {
    "finding": "finding findings diagnosis dx label labels class disease pathology target outcome",
    "acquisition": "scanner device camera view projection site_id hospital center centre institution manufacturer "
    "vendor sequence protocol field_strength field strength magnification stain light exposure source detector machine "
    "operator",
    "device": "scanner device camera manufacturer vendor detector machine field_strength field strength",
    "site": "site_id hospital center centre institution",
    "demographic": "age sex gender race ethnicity ethnic ancestry nationality skin_tone skintone skin_type fitzpatrick "
    "insurance language religion marital education income",
    "sex": "sex gender",
    "negative": "no_finding normal healthy negative none no absent benign control intact sound 0 0.0 false",
}
"""Names of columns by what they are for, and of levels of a finding that is absent."""

WORDS_BY_USE = {use: frozenset(words.split()) for use, words in WORDS.items()}


SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
"""Levels by what is written for them, where a column that is called so has no other words: M may be mujer."""


class Draft(NamedTuple):
    """A preset, and what its author should know: a remark for each column that was left out."""

    preset: Preset
    remarks: list[str]


def draft_preset(
    table: str | Path,
    name: str = "my_domain",
    findings: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    image_column: str | None = None,
) -> Draft:
    """Draft a preset from the table of a folder of images.

    Args:
        table: `metadata.csv` with `file_name`, `patient_id` and a column for each covariate (`imagefolder`).
        name: of the domain; what can be none becomes `my_domain`.
        findings: columns that each are one finding, present or absent; by default those that are called so.
        columns: by covariate, `file_name`, `patient_id` or `findings`, the column that holds it, where it has another
            name. Whoever reads the table by the draft needs the same.
        image_column: short for that of `file_name`.

    Raises:
        InputError: a finding that is no column, or not present or absent; no table, a damaged one, one without these
            columns, or without two levels or numbers of anything; a name that no covariate can have.
    """
    path = Path(table)
    numbered = read_rows(path)
    for given in columns or {}:
        if given not in IDENTIFIED and (why := why_no_name(given, list(columns or {}))):
            raise InputError(f"columns: {given!r} {why}.")
    map_columns(path, numbered, columns or {}, image_column)
    rows = [row for _, row in numbered]
    spelt = match_columns(path, list(rows[0]), IDENTIFIED)
    own = {column: name for name, column in spelt.items()}
    rows = [{own.get(column, column): cell for column, cell in row.items()} for row in rows]
    check_identifiers(path, list(rows[0]))
    name = name if NAME.fullmatch(name) and name not in PRESETS else "my_domain"
    images = TableImages(path.parent, rows)
    joined = None if findings else match_columns(path, list(rows[0]), [FINDINGS]).get(FINDINGS)
    told = [] if joined is None else told_together([row[joined] for row in rows])
    candidates = [column for column in rows[0] if column not in IDENTIFIED]
    one_holds_all = not told and any(map(_holds_findings, candidates))
    labels = {}
    if findings or not one_holds_all:
        labels = told_in_columns(path, rows, candidates, findings, 1 if told else 2)
    found: dict[str, dict[str, Any]] = {}
    remarks = ["Drafted: check roles, natures, units and contrasts, and draw the causal graph by `edges`."]
    if images.missing:
        every = len(images.missing) == len(rows)
        remarks.append(
            f"Images: {'none' if every else f'{len(images.missing)}'} of {len(rows)} that file_name names "
            f"{'is' if every else 'are not'} in {path.parent} (first: {reprlib.repr(images.missing[0])}); "
            "train needs them there."
        )
    for column in candidates:
        if column in labels:
            found[key_of(column)] = labels[column]
            continue
        if told and column == joined:
            found |= told_by_labels(path, list(rows[0]), told, labels)
            remarks.append(f"Taken apart: {reprlib.repr(column)}, whose cells join findings.")
            continue
        if (labels or told) and spelling(column) == spelling(NO_FINDING):
            remarks.append(f"Left out: {reprlib.repr(column)} says that all findings are absent.")
            continue
        called = _called(column)
        why = why_no_name(called, list(map(_called, rows[0])))
        described = why or _described(called, [row[column].strip() for row in rows], images)
        if isinstance(described, str):
            remarks.append(f"Left out: {reprlib.repr(column)} {described}.")
            continue
        if called != column:
            remarks.append(f"Renamed: {reprlib.repr(column)} is read as {called}.")
        found[called] = described
    match_columns(path, list(rows[0]), found)
    if len(found) > MAX_COVARIATES:
        raise InputError(f"{path}:1: {len(found)} columns are covariates; keep at most {MAX_COVARIATES}.")
    if not found:
        raise InputError(f"{path}: no column of words or numbers that repeat beside file_name; add the covariates.")
    several = [column for column, one in found.items() if one.get("optional")]
    for column in several:
        found[column]["taught"] = images.taught(found[column]["states"])
    # one that lacks a level in train is not learned
    learned = [column for column in several if len(+found[column]["taught"]) > 1] or several
    finding = max(learned, key=lambda one: found[one]["counts"][PRESENT]) if several else _finding(found)
    if several:
        remarks.append(f"Taken as findings, present or absent: {', '.join(several)}.")
    elif finding is None or not _is(finding, "finding"):
        lost = next(filter(_holds_findings, candidates), None)
        if lost is not None:
            cells = [row[lost].strip() for row in rows]
            reason = why_no_name(_called(lost), list(map(_called, rows[0]))) or _described(lost, cells, images)
            why, _, remedy = (reason if isinstance(reason, str) else "holds numbers").partition("; ")
            if told_together(cells):
                why, remedy = SEVERAL_LABELS, _mapped(lost)
            remedy = remedy or "give it one of two or more labels in each row, or another name"
            raise InputError(f"{path}:1: column {lost!r} is called as a finding is, but {why}; {remedy}.")
        if finding is not None:
            remarks.append(f"Taken as the finding: {finding!r}, for no column is called as one is, such as 'finding'.")
        alike = present_or_absent(rows, [column for column in candidates if _called(column) in found])
        if alike and alike != [finding]:
            words = ", ".join(map(repr, alike))
            remarks.append(f"Present or absent: {words}; where these are the findings, give findings={alike}.")
    for column, one in found.items():
        one.update(zip(("role", "nature"), _role(column, (*several, finding)), strict=True))
    remarks += _rare(found)
    if others := [column for column, one in found.items() if one["role"] == "other"]:
        remarks.append(f"Taken as other, for no name says what they are to fairness: {', '.join(others)}.")
    covariates = Schema(
        variables=tuple(
            Variable(name=column, **{field: value for field, value in one.items() if field in Variable.model_fields})
            for column, one in found.items()
        )
    )
    preset = _preset(name, covariates, found, finding, images.resolution)
    return Draft(preset.model_copy(update={"channels": images.channels}), remarks)


def _rare(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Remarks on levels of which there are few images to learn from, or none."""
    remarks = []
    few = []
    for column, one in found.items():
        if left_out := one.get("left_out"):
            remarks.append(
                f"Left out: {_levels_of(column, left_out)}, with no image to learn from ({_rows(left_out)})."
            )
        lost = {}
        for level in one.get("levels", ()):
            images = one["taught"][level]
            if not images and one["role"] == "finding":
                lost[level] = one["counts"][level]
            elif images < FEWEST:
                few.append(f"{level!r} of {column} ({images})")
        if lost:
            what = "train will leave the finding out" if one.get("optional") else "train will refuse it"
            remarks.append(f"No image to learn from: {_levels_of(column, lost)} ({_rows(lost)}); {what}.")
    return [*remarks, f"Few images to learn from: {', '.join(few)}."] if few else remarks


def _levels_of(column: str, rows: Mapping[str, int]) -> str:
    return f"{', '.join(map(repr, rows))} of {column}"


def _rows(rows: Mapping[str, int]) -> str:
    """The rows of each of these levels, in their order: `1 row`, `1 and 2 rows`."""
    *others, last = rows.values()
    return f"{', '.join(map(str, others))} and {last} rows" if others else counted(last, "row")


def _described(column: str, cells: Sequence[str], images: TableImages) -> dict[str, Any] | str:
    """The fields of a column's variable and what occurs in it, or why it is left out."""
    unit = _unit(column)
    probe = Variable(
        name=column, kind="continuous", role="protected", nature="patient/anatomy", unit=unit, range=(-LARGEST, LARGEST)
    )
    # as whoever trains reads them: of a view, LL is lateral
    cells = [published(probe, cell) for cell in cells]
    known = [cell for cell in cells if not is_missing(cell)]
    # among words it says that there is none, and its author can strike it out
    words = [cell for cell in cells if cell.casefold() == "none" or not is_missing(cell)]
    if 2 * len(words) < len(cells):
        return "is empty in most rows"
    numbers: list[Any] = [number for number, _ in map(probe.parse, known) if number is not None]
    distinct = len(set(numbers))
    repeated = distinct <= FEW and 2 * distinct <= len(numbers)
    if numbers and len(numbers) > 0.95 * len(known) and (unit == "years" or not repeated):
        values = np.array(numbers, dtype=float)
        # covariates are of single precision
        if len(np.unique(values.astype(np.float32))) < 2:
            return "has one value" if distinct < 2 else "holds numbers too near each other for single precision"
        return {"kind": "continuous", "unit": unit, "range": _range(values, unit), "values": values}
    if not all(cell.isprintable() for cell in words):
        return "holds characters that are not printed"
    several = [word for word in words if re.search(r"[^|;][|;]+[^|;]", word)]
    if several and len(several) >= SEVERAL * len(words):
        return f"{SEVERAL_LABELS} in a cell, such as {reprlib.repr(several[0])}; {_mapped(column)}"
    distinct = len(set(map(_key, words)))
    if distinct < 2:
        return "has one value"
    if 2 * sum(map(bool, map(DECIMAL_COMMA.fullmatch, words))) > len(words):
        return "holds numbers with decimal commas; write them with points"
    if distinct > MAX_LEVELS or max(map(len, words)) > LONGEST or 2 * distinct > len(words):
        return "holds text, or a name of each row"
    own = SEXES if _is(column, "sex") and {_key(word) for word in words} <= {*SEXES, "other"} else {}
    none = {_key(word) for word in words if is_no_finding(word)} if _holds_findings(column) else set()
    if len(none) > 1:
        own = dict.fromkeys(none, key_of(NO_FINDING))
    levels, aliases, counts = _levels(words, own)
    called = {**dict(zip(levels, levels, strict=True)), **aliases}
    taught = images.taught([called.get(cell) for cell in cells])
    left_out: Counter[str] = Counter()
    for level in sorted(levels, key=lambda one: counts[one]):
        if not taught[level] and left_out.total() + counts[level] <= MAX_UNREADABLE * len(cells):
            left_out[level] = counts.pop(level)
    levels = tuple(level for level in levels if level not in left_out)
    if len(levels) < 2:
        return "has one value in the images to learn from"
    aliases = {cell: level for cell, level in aliases.items() if level not in left_out}
    fields = {"kind": "categorical", "levels": levels, "aliases": aliases, "counts": counts}
    return {**fields, "taught": taught, "left_out": left_out}


def _mapped(column: str) -> str:
    """The remedy for a column whose cells join labels."""
    return f"give each row one, or columns={ {FINDINGS: column} }, by which each label is a finding"


def _unit(column: str) -> str:
    """The unit of a column's numbers, of which an age alone has one by its name."""
    words = _words(column).split("_")
    if "age" not in words:
        return "units"
    return next((UNITS[one] for word in words if (one := word.removesuffix("s")) in UNITS), "years")


def _range(values: np.ndarray, unit: str) -> tuple[float, float]:
    """A range in round numbers with the values inside."""
    low, high = values.min(), values.max()
    if unit == "years" and low >= 0 and high <= 120:
        return 0, 120 if high > 100 else 100
    step = _step(low, high)
    return _rounded(0 if 0 <= low < step else low - step, step, math.floor), _rounded(high + step, step, math.ceil)


def _step(low: float, high: float) -> float:
    """A power of ten, a tenth to a hundredth of the span."""
    return float(10.0 ** math.floor(math.log10(high - low) - 1))


def _rounded(value: float, step: float, rounding: Callable[[float], int]) -> float:
    """The value as a multiple of the step, without the remains of binary fractions."""
    return float(f"{rounding(value / step) * step:.12g}")


def _levels(cells: Sequence[str], own: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str], Counter[str]]:
    """Levels in the order of their names, the aliases of spellings that differ from them, and how often each occurs.

    Spellings that differ in case and separators alone are one level. It is called as its commonest one where commands
    and paths can hold that. Those that `own` has, by what their spellings have in common, are called as it says.
    """
    spellings: dict[str, Counter[str]] = {}
    for cell, times in Counter(cells).items():
        spellings.setdefault(own.get(_key(cell), _key(cell)), Counter())[cell] += times
    commonest = {key: key if key in own.values() else spellings[key].most_common(1)[0][0] for key in sorted(spellings)}
    names = {key: cell for key, cell in commonest.items() if re.fullmatch(r"[0-9A-Za-z.+_-]+", cell)}
    for key in [key for key in commonest if key not in names]:
        stem = _stem(key) or "level"
        free = (name for number in count() if (name := f"{stem}_{number}" if number else stem) not in cells)
        names[key] = next(name for name in free if name not in names.values())
    levels = {key: names[key] for key in commonest}
    aliases = {cell: levels[key] for key, one in spellings.items() for cell in sorted(one) if cell != levels[key]}
    return tuple(levels.values()), aliases, Counter({levels[key]: one.total() for key, one in spellings.items()})


def _stem(key: str) -> str:
    """A level's name in letters that commands and paths can hold."""
    plain = unicodedata.normalize("NFKD", key.replace("\u2264", "<=").replace("\u2265", ">="))
    for sign, word in SIGNS.items():
        plain = plain.replace(sign, word)
    plain = "".join(one for one in plain if not unicodedata.combining(one))
    return re.sub(r"[^0-9a-z.+-]+", "_", plain.casefold()).strip("_")


def _key(cell: str) -> str:
    """What two spellings of one level have in common; 3 and 3.0 are one number, 1000001 and 1000002 are two."""
    # Python would read 6_1 as 61
    if "_" not in cell:
        with suppress(ArithmeticError, ValueError):
            number = Decimal(cell)
            short = f"{float(number):g}"
            return short if Decimal(short) == number else str(number.normalize(EXACT))
    # an accent is one letter with the one below, or a letter of its own
    return re.sub(r"[\s_/-]+", "_", unicodedata.normalize("NFC", cell).casefold())


def _finding(found: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The column that holds what is to be predicted: by its name, else the last one of words."""
    categorical = [column for column, one in found.items() if one["kind"] == "categorical"]
    named = [column for column in categorical if _is(column, "finding")]
    return next(iter(named or categorical[-1:]), None)


def _called(column: str) -> str:
    """What a covariate of this column is called: as the column, or so that the column is a spelling of it."""
    return column if NAME.fullmatch(column) else key_of(column)


def _words(column: str) -> str:
    """Its words, joined by `_`: PatientAge is patient_age."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).casefold()


def _is(column: str, use: str) -> bool:
    known, words = WORDS_BY_USE[use], _words(column)
    return not known.isdisjoint((words, column.casefold(), *words.split("_")))


def _holds_findings(column: str) -> bool:
    """Whether a column of a table is called as one that says what is found."""
    return _is(_called(column), "finding") and spelling(column) != spelling(NO_FINDING)


def _role(column: str, findings: Collection[str | None]) -> tuple[str, str]:
    if column in findings:
        return "finding", "patient/pathology"
    if _is(column, "acquisition"):
        nature = "device" if _is(column, "device") else "site" if _is(column, "site") else "protocol"
        return "acquisition", f"external/{nature}"
    return ("protected", "patient/demographic") if _is(column, "demographic") else ("other", "patient/anatomy")


def _preset(
    name: str, covariates: Schema, found: Mapping[str, Mapping[str, Any]], finding: str | None, resolution: int
) -> Preset:
    contrasts = {column: _contrast(covariates[column], one) for column, one in found.items()}
    order = ("protected", "other", "acquisition")
    own = [variable for role in order[:2] for variable in covariates.walk() if variable.role == role]
    strata = [variable.name for variable in own if not variable.categorical][:1]
    findings = [variable.name for variable in covariates.walk() if variable.role == "finding"]
    attributes = [one.name for one in covariates.walk() if one.categorical and one.name not in findings]
    attributes.sort(key=lambda column: order.index(covariates[column].role))
    factors, size = [finding] if finding else [], len(covariates[finding].levels) if finding else 1
    for column in attributes:
        size *= len(covariates[column].levels)
        if len(factors) == 3 or size > MAX_CROSSED:
            break
        factors.append(column)
    traded = [column for column in (*factors, *strata) if column != finding]
    views = [view for column in traded for view in strengths(f"{column}_imbalanced", (50, 90))]
    views += [view for one in findings for by in traded for view in strengths(f"{one}_{by}_correlated", (50, 90))]
    return Preset(
        name=name,
        title=name.replace("_", " ").capitalize(),
        covariates=covariates,
        edges=tuple((variable.name, one) for one in findings for variable in covariates.walk() if variable in own),
        resolution=resolution,
        factors=tuple(factors),
        strata=tuple(strata),
        contrasts=contrasts,
        views=tuple(views),
    )


def _contrast(variable: Variable, found: Mapping[str, Any]) -> Contrast:
    """The two commonest levels, of a finding that which is present first; or the two sides of the median."""
    if found.get("optional"):
        return Contrast(first=PRESENT, second=ABSENT)
    if not variable.categorical:
        values = found["values"]
        step = _step(values.min(), values.max())
        threshold = _rounded(float(np.median(values)), step, round)
        if not values.min() < threshold <= values.max():
            threshold = float(np.unique(values)[1])
        text = f"{threshold:.6g} {variable.unit}"
        more = "older" if variable.unit == "years" else "more"
        return Contrast(first=f"under {text}", second=f"{text} and {more}", threshold=threshold)
    first, second = (level for level, _ in found["counts"].most_common(2))
    if variable.role == "finding":
        negative = [level for level in variable.levels if level.casefold() in WORDS_BY_USE["negative"]]
        present = [level for level, _ in found["counts"].most_common() if level not in negative]
        if negative and present:
            first, second = present[0], negative[0]
    return Contrast(first=first, second=second)
