"""Prompts of text-to-image generators, rendered from covariates by the template of a preset.

    "Chest radiograph, {{ view }} view. {{ age }} year old {{ sex }}."    view PA, age 61.2, sex male:
    "Chest radiograph, PA view. 61 year old male."                        and where the sex is unknown:
    "Chest radiograph, PA view."

A template is Jinja (https://jinja.palletsprojects.com) without loops, calls and assignments, so that it ends and stays
small whoever wrote it: it prints covariates, chooses by `if`, and looks levels up in literal mappings. A clause, which
is text up to `,` or `;` or the end of a sentence, is left out where it needs an unknown value. Unknown is also the
site where an image is not of several sources, and a covariate that the source lacks.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jinja2 import StrictUndefined, Template, TemplateError, UndefinedError, nodes
from jinja2.sandbox import SandboxedEnvironment

from ..errors import InputError, printable, shown, unknown
from ..schema import Schema, Variable
from .preset import SITE_NAMES, Preset

__all__ = ["CONTEXT", "LONGEST_TEMPLATE", "render_prompt", "why_no_template"]

CONTEXT = "context"
"""The name by which a template finds what is no covariate: `{{ context.posture }}`."""

LONGEST_TEMPLATE = 2000
"""Characters of a template; a text encoder reads some hundred."""

FILTERS = ("capitalize", "default", "lower", "title", "upper")
TESTS = ("defined", "undefined")
"""Others compare, as `is eq`, and would find no level that is misspelt; == is checked for it."""

ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Name, nodes.Const),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Add, nodes.Sub, nodes.Concat),
    *(nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Getitem, nodes.Getattr, nodes.Filter, nodes.Test),
)
"""None of them repeats anything, or makes a text longer than the template and the values are."""

_CLAUSE = re.compile(r"(?<=[.!?,;])\s+")
_ENDS = (".", "!", "?")


class _UnknownValue(UndefinedError):
    """A clause needs a value that is not known."""


class _Unknown(StrictUndefined):
    """A value that is not known: it can be asked for (`if age`, `age is defined`, `age|default("adult")`), not used."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name=name, exc=_UnknownValue)

    def __bool__(self) -> bool:  # type: ignore[override]
        return False


class _Context:
    """What is no covariate, by name; a name that is not given is unknown."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values.get(name) or _Unknown(f"{CONTEXT}.{name}")


def _printed(value: Any) -> str:
    """Words for a level, digits without a trailing .0 for a number."""
    if value is None or isinstance(value, bool | list | tuple | dict):
        raise ValueError(f"it prints {shown(value)}, which is neither a level nor a number")
    if not isinstance(value, int | float):
        return str(value).replace("_", " ")
    if not math.isfinite(value):
        raise ValueError(f"it prints the number {value}")
    return f"{value:.10g}"


class _Environment(SandboxedEnvironment):
    """What has no item of a name has none: Jinja would go on to look for an attribute, and print a method of it."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """As Jinja's, of items alone."""
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=str(argument))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As Jinja's; only a context has what is written as attributes, and they are items."""
        return self.getitem(obj, attribute)


# the optimizer takes the cube of a template's depth in time
_ENVIRONMENT = _Environment(undefined=StrictUndefined, finalize=_printed, autoescape=False, optimized=False)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters = {name: _ENVIRONMENT.filters[name] for name in FILTERS}
_ENVIRONMENT.tests = {name: _ENVIRONMENT.tests[name] for name in TESTS}


class _Clause(NamedTuple):
    template: Template
    ends_sentence: bool


def render_prompt(preset: Preset, covariates: Mapping[str, object], context: Mapping[str, str] | None = None) -> str:
    """The prompt for one image.

    Args:
        preset: the domain; its `prompt` is the template. Without one the title, the covariates and the context are
            listed in plain words.
        covariates: decoded values by name, levels and numbers; one that is None or absent is unknown.
        context: what is said beside the covariates, by name.

    Returns:
        One line of text. Numbers are rounded to about a twentieth of the variable's range, whole units where that is
        more than one; levels are printed with spaces for underscores.

    Raises:
        InputError: for a name that the preset does not have, a value that its variable cannot have, and a template
            that is not allowed or finds no text for these values.
    """
    for name in covariates:
        if name not in preset.covariates:
            raise unknown("covariates", name, preset.covariates.names)
    values = {one.name: _value(one, covariates.get(one.name)) for one in preset.covariates.walk()}
    said = {str(name): printable(" ".join(str(text).split())) for name, text in (context or {}).items()}
    if preset.prompt is None:
        return _listed(preset, values, said)
    if why := _not_allowed(preset.prompt, preset.covariates, preset.unobserved):
        raise InputError(f"preset {preset.name}: prompt: {why}")
    try:
        return _rendered(preset.prompt, _nobodys(preset.unobserved) | values, said)
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        given = ", ".join(f"{name} {shown(value)}" for name, value in covariates.items())
        raise InputError(f"preset {preset.name}: prompt: has no text for {given}: {error}.") from None


def why_no_template(template: str, covariates: Schema, unobserved: tuple[str, ...] = ()) -> str | None:
    """Why a text cannot be the template of these covariates, in one sentence; None where it can.

    Every level of every covariate is tried, and each as unknown; the others are at their first.

    Args:
        template: the text.
        covariates: all that are known of somebody.
        unobserved: names that it may have beside them, of what is unknown of everybody.
    """
    if why := _not_allowed(template, covariates, unobserved):
        return why
    first = {one.name: _examples(one)[0] for one in covariates.walk()}
    for variable in covariates.walk():
        for example in (*_examples(variable), None):
            values = {one.name: _value(one, {**first, variable.name: example}[one.name]) for one in covariates.walk()}
            for said in (_Anything(), dict[str, str]()):
                try:
                    _rendered(template, _nobodys(unobserved) | values, said)
                except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
                    value = "unknown" if example is None else _printed(example)
                    return f"it has no text for {variable.name} {value}: {str(error).rstrip('.')}; give it one."
    return None


def _nobodys(unobserved: tuple[str, ...]) -> dict[str, Any]:
    """Unknown values of what a template may name and nobody has: a site, unless several sources are joined."""
    return {name: _Unknown(name) for name in (*SITE_NAMES, *unobserved)}


class _Anything(dict[str, str]):
    """A context that says something of everything."""

    def get(self, key: str, default: Any = None) -> Any:
        return "something"


def _examples(variable: Variable) -> tuple[object, ...]:
    return variable.levels if variable.categorical else variable.bounds


def _value(variable: Variable, value: object) -> Any:
    number = variable.encode_value(value)
    if variable.categorical:
        return variable.levels[int(number)] if number >= 0 else _Unknown(variable.name)
    if math.isnan(number):
        return _Unknown(variable.name)
    low, high = variable.bounds
    digits = max(0, math.ceil(-math.log10((high - low) / 20)))
    # as float32, which is what plans and data sets hold, 0.1 is not 0.1
    rounded = round(float(np.float32(number)), digits)
    return rounded if digits else int(rounded)


def _listed(preset: Preset, values: Mapping[str, Any], said: Mapping[str, str]) -> str:
    clauses = [preset.title]
    for variable in preset.covariates.walk():
        if not isinstance(value := values[variable.name], _Unknown):
            unit = "" if variable.categorical else f" {variable.unit}"
            clauses.append(f"{_printed(variable.name)}: {_printed(value)}{unit}")
    clauses += [f"{_printed(name)}: {text}" for name, text in said.items() if text]
    return ". ".join(clauses) + "."


def _rendered(template: str, values: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """The text of the clauses that can be rendered; the last of a sentence ends as the sentence does."""
    text = ""
    for clause in _clauses(template):
        try:
            one = clause.template.render(values, **{CONTEXT: _Context(said)}).strip()
        except _UnknownValue:
            one = ""
        if one:
            text = f"{text} {one}".lstrip()
        elif clause.ends_sentence and text.endswith((",", ";")):
            text = text[:-1] + "."
    return " ".join(text.split())


@lru_cache(maxsize=64)
def _clauses(template: str) -> tuple[_Clause, ...]:
    parts, depth, begun = [""], 0, False
    for _, kind, value in _ENVIRONMENT.lex(" ".join(template.split())):
        if begun or kind in ("raw_begin", "raw_end"):
            depth += {"if": 1, "endif": -1, "raw_begin": 1, "raw_end": -1}.get(value if begun else kind, 0)
        begun = kind == "block_begin" or (begun and kind == "whitespace")
        first, *others = _CLAUSE.split(value) if kind == "data" and not depth else [value]
        parts[-1] += first
        parts += others
    return tuple(
        _Clause(_ENVIRONMENT.from_string(part), part.endswith(_ENDS) or place == len(parts) - 1)
        for place, part in enumerate(parts)
    )


def _not_allowed(template: str, covariates: Schema, unobserved: tuple[str, ...]) -> str | None:
    known = tuple((one.name, one.levels) for one in covariates.walk())
    return _why_not_allowed(template, known, (*SITE_NAMES, *unobserved))


@lru_cache(maxsize=64)
def _why_not_allowed(
    template: str, covariates: tuple[tuple[str, tuple[str, ...]], ...], unobserved: tuple[str, ...]
) -> str | None:
    if not template.strip():
        return "it is empty; leave it out."
    if len(template) > LONGEST_TEMPLATE:
        return f"it is longer than {LONGEST_TEMPLATE} characters; give a shorter one."
    if not _is_printed(template):
        return "it holds characters that are not printed; leave them out."
    levels = dict(covariates)
    if CONTEXT in levels:
        return f"a covariate is called {CONTEXT}, as what is no covariate is; give the covariate another name."
    try:
        if why := next(_problems(_ENVIRONMENT.parse(template), levels, unobserved), None):
            return why
        _clauses(template)
    except (TemplateError, SyntaxError) as error:
        return f"it is not a template of Jinja: {str(error).rstrip('.')}."
    except (RecursionError, MemoryError):
        return "it is nested too deeply; give a simpler one."
    return None


def _is_printed(text: str) -> bool:
    return "".join(text.split()).isprintable()


def _problems(root: nodes.Node, levels: Mapping[str, tuple[str, ...]], unobserved: tuple[str, ...]) -> Iterator[str]:
    of_context = {id(one.node) for one in root.find_all(nodes.Expr) if isinstance(one, nodes.Getattr | nodes.Getitem)}
    for node in (root, *root.find_all(nodes.Node)):
        if not isinstance(node, ALLOWED):
            yield f"{type(node).__name__.lower()!r} is not allowed in it; it prints covariates and chooses by if."
        if isinstance(node, nodes.Name) and node.name == CONTEXT:
            if id(node) not in of_context:
                yield f"it prints {CONTEXT} as a whole; name what of it, as {CONTEXT}.posture."
        elif isinstance(node, nodes.Name) and node.name not in levels and node.name not in unobserved:
            yield str(unknown("variable", node.name, (*levels, CONTEXT)))
        if isinstance(node, nodes.Getattr) and not (isinstance(node.node, nodes.Name) and node.node.name == CONTEXT):
            yield f"attribute {node.attr!r} is not allowed in it; only {CONTEXT} has any."
        if isinstance(node, nodes.Filter) and node.name not in FILTERS:
            yield str(unknown("filter", node.name, FILTERS))
        if isinstance(node, nodes.Test) and node.name not in TESTS:
            yield str(unknown("test", node.name, TESTS))
        if isinstance(node, nodes.Const) and isinstance(node.value, str) and not _is_printed(node.value):
            yield f"{shown(node.value)} holds characters that are not printed; leave them out."
        if isinstance(node, nodes.Const) and isinstance(node.value, float) and not math.isfinite(node.value):
            yield "it has a number that is too large; give a smaller one."
        if isinstance(node, nodes.Compare):
            # a level that is misspelt would never be found, without a word
            sides = (node.expr, *(one.expr for one in node.ops))
            compared = [one.name for one in sides if isinstance(one, nodes.Name) and levels.get(one.name)]
            allowed = [level for name in compared for level in levels[name]]
            for word in [one.value for one in node.find_all(nodes.Const) if isinstance(one.value, str)]:
                if allowed and word not in allowed:
                    yield str(unknown(f"level of {compared[0]}", word, allowed))
