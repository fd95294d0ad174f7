"""A preset as a YAML file: read with the line of whatever is wrong, and written so that reading gives it back.

    name: written_digits
    title: Written digits
    covariates:
      thickness: {kind: continuous, role: protected, nature: patient/anatomy, unit: pixels, range: [0.5, 7]}
      digit: {kind: categorical, role: finding, nature: patient/pathology, levels: ['0', '1', '2']}
    edges: [thickness -> digit]                # cause -> effect
    resolution: 32
    factors: [digit]
    strata: [thickness]
    contrasts:
      thickness: {first: under 2 pixels, second: 2 pixels and more, threshold: 2}
    views: [thickness_imbalanced_90_10, thickness_imbalanced_50_50]

    read_preset(p).preset == preset     for every p that holds preset_yaml(preset)

The fields are those of `Preset`, `Variable`, `Contrast` and `Network`. Every value is read as the text that stands
there, so a level `no` is the word, not a falsehood. What the names of curated views mean is for `views.preset`.
"""

import re
import reprlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ..causal.graph import CausalGraph
from ..errors import InputError, unknown
from ..schema import Schema, Variable
from ..yaml_files import UNREADABLE, Loader, read_bytes, reason
from .cells import IDENTIFIED, bare_name
from .preset import CHANNELS, Contrast, Network, Preset
from .prompts import LONGEST_TEMPLATE, why_no_template

__all__ = ["PresetFile", "preset_yaml", "read_preset", "why_no_name"]

MAX_COVARIATES = 100
"""A domain with more was not meant to be one; every sentence about a name lists all of them."""

MAX_SIZE = 2048
"""Of an image in pixels, and of what a network is built from: more does not fit any memory."""

LARGEST = 1e12
"""Numbers beyond are no measurement, and ends of a range that differ by less than its inverse none either."""

LONGEST = 200
"""Characters of one value other than the template of prompts."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

COLUMNS = re.compile(
    "id|image|split|subject_id|parent_id|intervention|seed|draw|synthetic|source_dataset|plan|model_revision|reached|"
    "out_of_support|prompt|recipe|sha256|latents|preferred|rejected|judge|margin|comment"
)
DERIVED = ("noise_", "measured_", "observed_")
"""What a data set and its source have beside covariates, and what columns are made of covariates' names by."""

OF_MODULES = re.compile(
    "apply|bfloat16|buffers|children|clear|compile|cpu|cuda|double|eval|float|forward|half|ipu|items|keys|modules|mtia|"
    "parameters|pop|smart_apply|to|train|training|type|update|values|xpu|T_destination|(call|dump|extra|load|requires|share|state|to|"
    r"zero)_(super_init|patches|repr|state_dict|grad_?|memory|dict|empty)|(add|get|named|register|set)_(\w+_hook|"
    "buffers?|children|extra_state|modules?|parameters?|submodule)"
)
"""Attributes that torch's modules have, one of them from transformers, and so no module inside them can be called."""

PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "timestamp")}
NULL = "tag:yaml.org,2002:null"

Keys = tuple[str | int, ...]
"""Where a value stands: names of mappings and places in lists, from the outside in."""


def _fields(model: type[BaseModel], **others: Any) -> Any:
    """A model of these fields that checks each of them alone, so that an error has a place; `others` replace some."""
    own = {name: (field.annotation, field) for name, field in model.model_fields.items()}
    config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    return create_model(model.__name__, __config__=config, **{**own, **others})


_NETWORK, _CONTRAST, _NAMED_VARIABLE = _fields(Network), _fields(Contrast), _fields(Variable, name=(str, ""))
_PRESET = _fields(
    Preset,
    covariates=(dict[str, _NAMED_VARIABLE], ...),  # type: ignore[valid-type]
    edges=(tuple[str, ...], ...),
    contrasts=(dict[str, _CONTRAST], ...),  # type: ignore[valid-type]
    network=(_NETWORK, _NETWORK()),
)
_PLAIN_FIELDS = ("name", "title", "resolution", "factors", "strata", "views", "channels", "prompt", "unobserved")
_INSIDE = {"covariates": _NAMED_VARIABLE, "contrasts": _CONTRAST, "network": _NETWORK}


class PresetFile(NamedTuple):
    """A preset that was read from a file, and where in it everything stands."""

    preset: Preset
    path: Path
    lines: Mapping[Keys, int]

    def error(self, keys: Keys, sentence: str) -> InputError:
        """The error for what stands there: `my.yaml:12: sentence`."""
        return _error(self.path, self.lines, keys, sentence)


def read_preset(path: str | Path) -> PresetFile:
    """Read a preset.

    Args:
        path: of a YAML file of at most `yaml_files.MAX_BYTES`.

    Raises:
        InputError: with file and line: no YAML, a tag or an alias, a key that is unknown, missing or given twice, a
            value that is not allowed, or a name that nothing in the file has.
    """
    path, lines = Path(path), dict[Keys, int]()
    try:
        node = yaml.compose(read_bytes(path), Loader)
    except UNREADABLE as error:
        why, line = reason(error)
        raise InputError(f"{path}{'' if line is None else f':{line}'}: not a readable preset ({why}).") from None
    data = {} if node is None else _plain(node, (), lines, path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a preset; give a mapping with {', '.join(_PRESET.model_fields)}.")
    try:
        own = _PRESET.model_validate(data)
    except ValidationError as error:
        raise _invalid(path, lines, error) from None
    for keys, sentence in _problems(own):
        raise _error(path, lines, keys, sentence)
    given = {name: getattr(own, name) for name in _PLAIN_FIELDS}
    preset = Preset(
        **given,
        covariates=_schema(own),
        edges=tuple(_ends(edge) for edge in own.edges),
        contrasts={name: Contrast(**one.model_dump()) for name, one in own.contrasts.items()},
        network=Network(**own.network.model_dump()),
    )
    return PresetFile(preset, path, lines)


def _schema(own: Any) -> Schema:
    variables = [Variable(**{**one.model_dump(), "name": name}) for name, one in own.covariates.items()]
    return Schema(variables=tuple(variables))


def preset_yaml(preset: Preset, remarks: Sequence[str] = ()) -> str:
    """The text of a preset's file.

    Args:
        preset: the domain.
        remarks: comments at its top, a line each.
    """
    data = preset.model_dump(mode="json", exclude_defaults=True)
    variables = data["covariates"].get("variables", [])
    data["covariates"] = {variable.pop("name"): variable for variable in variables}
    data["edges"] = [f"{cause} -> {effect}" for cause, effect in preset.edges]
    text = yaml.dump(_numbers(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=90)
    return "".join(f"# {remark}\n" for remark in remarks) + text.rstrip("\n") + "\n"


class _Dumper(yaml.SafeDumper):
    """Innermost lists and mappings on one line."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{**keywords, "default_flow_style": None})

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _numbers(value: Any) -> Any:
    """The value with 100 for 100.0; but -0.0 has no other form."""
    if isinstance(value, dict):
        return {name: _numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15 and str(value) != "-0.0"
    return int(value) if whole else value


def _plain(node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: Path) -> Any:
    """What a node holds, as text, lists and mappings; where each of them stands goes into `lines`."""
    lines.setdefault(keys, node.start_mark.line + 1)
    if node.tag == NULL:
        return None
    if node.tag not in PLAIN:
        raise _error(path, lines, keys, f"the tag {reprlib.repr(node.tag)} is not supported; give plain values.")
    if isinstance(node, yaml.ScalarNode):
        if keys == ("prompt",):
            # a template may be written on several lines
            return _text(" ".join(node.value.split()), keys, lines, path, LONGEST_TEMPLATE)
        return _text(node.value, keys, lines, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one, (*keys, place), lines, path) for place, one in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _error(path, {(): line}, (), "a list or mapping is not a name; give a word.")
        name = _text(key.value, (), {(): line}, path)
        if name in found:
            first = lines[*keys, name]
            raise _error(path, {(): line}, (), f"{name!r} is given again (first in line {first}); give it once.")
        lines[*keys, name] = line
        found[name] = _plain(value, (*keys, name), lines, path)
    return found


def _text(text: str, keys: Keys, lines: Mapping[Keys, int], path: Path, longest: int = LONGEST) -> str:
    if len(text) > longest or not text.isprintable():
        why = f"is longer than {longest} characters" if text.isprintable() else "holds characters that are not printed"
        raise _error(path, lines, keys, f"{reprlib.repr(text)} {why}; give a short text in one line.")
    return text


def _error(path: Path, lines: Mapping[Keys, int], keys: Keys, sentence: str) -> InputError:
    while keys not in lines:
        keys = keys[:-1]
    return InputError(f"{path}:{lines[keys]}: {sentence}")


def _invalid(path: Path, lines: Mapping[Keys, int], error: ValidationError) -> InputError:
    """The first value that is not of its field's kind, or the first key that is unknown or missing."""
    lines = {(): 1, **lines}
    # an unknown key is often the missing one, misspelt
    ranks = {"extra_forbidden": 0, "missing": 1}
    first = min(error.errors(), key=lambda one: ranks.get(one["type"], 2))
    keys = first["loc"]
    where, parent = ".".join(map(str, keys)), ".".join(map(str, keys[:-1])) or "preset"
    if first["type"] == "extra_forbidden":
        fields = [name for name in (_INSIDE[str(keys[0])] if len(keys) > 1 else _PRESET).model_fields]
        return _error(path, lines, keys, str(unknown(parent, keys[-1], [name for name in fields if name != "name"])))
    if first["type"] == "missing":
        return _error(path, lines, keys, f"{parent}: {keys[-1]} is not given; give it.")
    if first["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return _error(path, lines, keys, str(unknown(where, first["input"], allowed)))
    kinds = {"tuple_type": "a list, such as [a, b]", "dict_type": "a mapping", "model_type": "a mapping"}
    message = (
        f"give {kinds[first['type']]}" if first["type"] in kinds else first["msg"].replace("Input should", "it must")
    )
    return _error(path, lines, keys, f"{where}: {reprlib.repr(first['input'])} is invalid; {message}.")


def why_no_name(name: str, names: Sequence[str]) -> str | None:
    """Why a covariate cannot have this name, beside the others of `names`; None where it can."""
    if not NAME.fullmatch(name):
        return "is not a name; use letters, digits and _, from a letter on, at most 40"
    prefix = next((one for one in DERIVED if name.startswith(one) and name.removeprefix(one) in names), None)
    if COLUMNS.fullmatch(name) or prefix is not None or bare_name(name) in map(bare_name, IDENTIFIED):
        return "is a column of its own in every data set; use another name"
    return "is reserved; use another name" if OF_MODULES.fullmatch(name) else None


def _ends(edge: str) -> tuple[str, str]:
    cause, _, effect = edge.partition("->")
    return cause.strip(), effect.strip()


def _problems(own: Any) -> Iterator[tuple[Keys, str]]:
    """Whatever fits its field but not the rest of the file, with its place; the first comes first."""
    if not NAME.fullmatch(own.name):
        yield ("name",), f"name: {own.name!r} is not a name; use letters, digits and _, from a letter on, at most 40."
    names, spelt = list(own.covariates), dict[str, str]()
    if not 0 < len(names) <= MAX_COVARIATES:
        yield ("covariates",), f"covariates: {len(names)} are not allowed; give 1 to {MAX_COVARIATES}."
    for name, variable in own.covariates.items():
        if why := why_no_name(name, names):
            yield ("covariates", name), f"covariates: {name!r} {why}."
        if (first := spelt.setdefault(bare_name(name), name)) != name:
            # a table could have but one column for both
            yield ("covariates", name), f"covariates: {name!r} is another spelling of {first!r}; use another name."
        for keys, sentence in _of_categorical(variable) if variable.kind == "categorical" else _of_number(variable):
            yield ("covariates", name, *keys), f"covariates.{name}: {sentence}"
    yield from _of_edges(own.edges, names)
    yield from _of_contrasts(own)
    for field in ("factors", "strata"):
        chosen = getattr(own, field)
        for place, name in enumerate(chosen):
            if why := _why_not_chosen(own, field, name, chosen[:place]):
                yield (field, place), why
    for place, name in enumerate(own.views):
        if name in own.views[:place]:
            yield ("views", place), f"views: {name!r} is given again; give it once."
    yield from _of_sizes(own)
    if own.prompt is not None and (why := why_no_template(own.prompt, _schema(own), own.unobserved)):
        yield ("prompt",), f"prompt: {why}"


def _of_categorical(variable: Any) -> Iterator[tuple[Keys, str]]:
    for field in ("unit", "range"):
        if getattr(variable, field) is not None:
            yield (field,), f"{field} is for a continuous variable, and this one has levels; leave it out."
    if len(variable.levels) < 2:
        yield ("levels",) if variable.levels else (), "a categorical variable needs two or more levels; give them."
    for place, level in enumerate(variable.levels):
        if not level or level != level.strip():
            yield ("levels", place), f"{level!r} is not a level; give a word without spaces around it."
        if level in variable.levels[:place]:
            yield ("levels", place), f"level {level!r} is given again; give it once."
    for alias, level in variable.aliases.items():
        if alias in variable.levels and alias != level:
            yield ("aliases", alias), f"alias {alias!r} of {level!r} is a level itself; leave the alias out."


def _of_number(variable: Any) -> Iterator[tuple[Keys, str]]:
    for field in ("levels", "aliases"):
        if getattr(variable, field):
            yield (field,), f"{field} are for a categorical variable, and this one is continuous; leave them out."
    for field in ("unit", "range"):
        if not getattr(variable, field):
            yield (), f"{field} is not given; a continuous variable needs its unit and its range, [lowest, highest]."
    if variable.range:
        low, high = variable.range
        if low >= high:
            yield ("range",), f"range {low:g}, {high:g} is invalid; the lowest value comes first, below the highest."
        # what is known of a covariate is of single precision
        elif max(-low, high) > LARGEST or high - low < 1 / LARGEST or np.float32(low) == np.float32(high):
            yield (
                ("range",),
                f"range {low!r}, {high!r} is invalid; numbers up to {LARGEST:g} are told apart to seven digits: give "
                "them in another unit, or from another zero.",
            )


def _of_edges(edges: Sequence[str], names: Sequence[str]) -> Iterator[tuple[Keys, str]]:
    pairs = [_ends(edge) for edge in edges]
    seen: dict[tuple[str, str], int] = {}
    for place, (edge, pair) in enumerate(zip(edges, pairs, strict=True)):
        if not all(pair):
            yield ("edges", place), f"edges: {edge!r} is not CAUSE -> EFFECT; write it as age -> finding."
        for end in pair:
            if end not in names:
                yield ("edges", place), str(unknown(f"edges: {' -> '.join(pair)}", end, names))
        if seen.setdefault(pair, place) < place:
            yield ("edges", place), f"edges: {' -> '.join(pair)} is given again; give it once."
    if cycle := _cycle(names, pairs):
        # the edge that closes the first cycle
        closing = bisect_left(range(len(pairs)), True, key=lambda place: bool(_cycle(names, pairs[: place + 1])))
        yield ("edges", closing), _cycle(names, pairs[: closing + 1]) or cycle


def _cycle(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str | None:
    try:
        CausalGraph(names, pairs)
    except InputError as error:
        return str(error)
    return None


def _of_contrasts(own: Any) -> Iterator[tuple[Keys, str]]:
    for name, contrast in own.contrasts.items():
        keys: Keys = ("contrasts", name)
        if name not in own.covariates:
            yield keys, str(unknown("contrasts", name, own.covariates))
            continue
        variable, threshold, where = own.covariates[name], contrast.threshold, f"contrasts.{name}"
        for side in ("first", "second"):
            if not getattr(contrast, side).strip():
                yield (*keys, side), f"{where}: {side} is empty; give the group a name."
        if contrast.first == contrast.second:
            yield (*keys, "second"), f"{where}: first and second are both {contrast.first!r}; give two groups."
        if variable.kind == "continuous":
            low, high = variable.range
            if threshold is None:
                yield keys, f"{where}: threshold is not given; a continuous variable is divided at one, in its unit."
            elif not low < threshold < high:
                yield (
                    (*keys, "threshold"),
                    f"{where}: threshold {threshold:g} is out of range; give one between {low:g} and {high:g}.",
                )
            continue
        if threshold is not None:
            yield (*keys, "threshold"), f"{where}: threshold is for a continuous variable; leave it out."
        for side in ("first", "second"):
            if (level := getattr(contrast, side)) not in variable.levels:
                yield (*keys, side), str(unknown(f"{where}.{side}", level, variable.levels))


def _why_not_chosen(own: Any, field: str, name: str, before: Sequence[str]) -> str | None:
    """Why a variable cannot be a factor or a stratum; None where it can."""
    if name not in own.covariates:
        return str(unknown(field, name, own.covariates))
    if name in before:
        return f"{field}: {name} is given again; give it once."
    if field == "factors":
        if own.covariates[name].kind == "categorical":
            return None
        return f"factors: {name} is continuous, and families cross levels; leave it out, or make it one of the strata."
    if name in own.factors:
        return f"strata: {name} is one of the factors, and so balanced already; leave it out."
    return None if name in own.contrasts else f"strata: {name} has no contrast; give it one under contrasts."


def _of_sizes(own: Any) -> Iterator[tuple[Keys, str]]:
    network = Network(**own.network.model_dump())
    sizes: list[tuple[Keys, int]] = [
        (("network", name), getattr(network, name)) for name in ("space_to_depth", "width")
    ]
    sizes += [(("network", "channels", place), number) for place, number in enumerate(network.channels)]
    for keys, size in [*sizes, (("resolution",), own.resolution)]:
        if not 0 < size <= MAX_SIZE:
            yield keys, f"{'.'.join(map(str, keys))}: {size} is not allowed; give 1 to {MAX_SIZE}."
    if own.channels not in CHANNELS:
        yield ("channels",), f"channels: {own.channels} are not allowed; give 1, gray, or 3, colours."
    for place, number in enumerate(network.channels):
        if number % 32:
            yield ("network", "channels", place), f"network.channels: {number} is not a multiple of 32; give one."
    if not 0 < len(network.channels) <= 8:
        yield ("network", "channels"), f"network.channels: {len(network.channels)} levels are not allowed; give 1 to 8."
    if own.resolution % network.factor:
        yield (
            ("resolution",),
            f"resolution: {own.resolution} is not a multiple of {network.factor}, as this network needs.",
        )
