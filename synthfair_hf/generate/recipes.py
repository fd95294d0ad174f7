"""Recipes: contexts of the images of a data set, one a line, over which every protected attribute is balanced.

    {"posture": "lying supine", "devices": "no devices"}        one recipe
    f(subject) = (rank + shift(seed, split)) mod recipes        rank as in `design`, within split and stratum

A grammar chooses among a domain's phrases, or a language model writes them. A family shows all cells of the factors in
its subject's one recipe, and each stratum gives the same number of subjects to a recipe; so, where no target is set, a
recipe has every protected level in the shares that the data set has, exactly. Any stretch of `draw`, of which views are
made, holds each recipe equally often, to one subject.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..arguments import Count, Seed, checked
from ..domains.contexts import LONGEST_LINE, Contexts, read_contexts
from ..domains.preset import Preset
from ..errors import InputError, counted, printable, shown
from ..records import (
    Record,
    check_new_files,
    check_regular,
    library_versions,
    row_generator,
    write_together,
    written,
)
from ..schema import SPLITS
from .allocation import Allocation
from .balance import planned_balance
from .design import integer
from .language_model import LanguageModel
from .plan import GenerationPlan
from .recipe_table import MOST_RECIPES

__all__ = ["LineWriter", "dependence", "describe_recipes", "grammar", "make_recipes", "read_recipes", "subjects_for"]

TRIES = 64
"""Combinations among which the grammar chooses each recipe."""

PATIENCE, FEWEST = 200, 20
"""Lines after which a language model is given up if fewer than one in so many became a recipe."""

EXAMPLES = 3
"""Recipes of the grammar that a language model is shown at a time."""

OTHER = "other phrases"


class LineWriter(Protocol):
    """Whatever writes lines of text after an instruction, such as `language_model.LanguageModel`."""

    @property
    def revision(self) -> str:
        """Identity of its weights."""

    def write(self, instruction: str, examples: Sequence[str], seed: int) -> list[str]:
        """Some lines, which follow from instruction, examples and seed."""


@checked
def make_recipes(
    output_file: str | Path,
    preset: Preset,
    num_recipes: Count,
    seed: Seed = 0,
    language_model: str | Path | LineWriter | None = None,
    variables: Sequence[str] | None = None,
    contexts: str | Path | None = None,
) -> Record:
    """Write recipes as JSON lines, with a record of the same name that ends in .json.

    Args:
        output_file: where the recipes go, a name that ends in .jsonl; nothing is overwritten.
        preset: the domain.
        num_recipes: how many, all different.
        seed: of what is chosen or written.
        language_model: directory of a causal language model, which writes the phrases; else a grammar chooses them.
        variables: what a context tells of, those of `contexts` by default; also covariates of the acquisition.
        contexts: YAML file of phrases by variable; the preset's own by default.

    Returns:
        The record: `counts` of recipes, of lines by why they were rejected, and of each phrase; `measured`, the
        balance of protected attributes over the recipes in a plan that uses each of them, and the dependence of each
        two variables.

    Raises:
        InputError: invalid arguments, more recipes than there are, or a language model that too seldom writes one.
    """
    path = _new_file(output_file)
    known = read_contexts(preset, contexts, variables)
    if num_recipes > MOST_RECIPES:
        raise InputError(f"num_recipes: {num_recipes} is not allowed; give 1 to {MOST_RECIPES}.")
    writer = LanguageModel(language_model) if isinstance(language_model, str | Path) else language_model
    told: dict[str, Any] = {}
    if writer is None:
        recipes = grammar(known, num_recipes, seed)
    else:
        recipes, told = _written(known, num_recipes, seed, writer)
    record = Record(
        stage="recipes",
        inputs={} if writer is None else {"language_model": writer.revision},
        settings={
            "preset": preset.name,
            "num_recipes": num_recipes,
            "seed": seed,
            "contexts": {name: list(levels) for name, levels in known.levels.items()},
        },
        versions=library_versions(),
        counts={"recipes": len(recipes), **told, "phrases": _coverage(known, recipes)},
        measured={"balance": _planned_balance(preset, recipes), "dependence": dependence(known, recipes)},
    )
    lines = "".join(f"{_line(recipe)}\n" for recipe in recipes)
    write_together({path: lines.encode(), path.with_suffix(".json"): written(record.model_dump(mode="json"))})
    return record


def _new_file(output_file: str | Path) -> Path:
    path = Path(output_file)
    if path.suffix != ".jsonl":
        raise InputError(f"output_file: {shown(str(path))} is no name of JSON lines; give one that ends in .jsonl.")
    check_new_files("output_file", path, path.with_suffix(".json"))
    return path


def _line(recipe: Mapping[str, str]) -> str:
    return json.dumps(recipe, ensure_ascii=False)


def _planned_balance(preset: Preset, recipes: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """The balance in a plan of as many subjects in each stratum as there are recipes, by the preset's defaults."""
    free = [name for name in preset.covariates.names if name not in recipes[0]]
    own = {
        "factors": tuple(name for name in preset.factors if name in free and preset.covariates[name].categorical),
        "strata": tuple(name for name in preset.strata if name in free),
    }
    plan = GenerationPlan(
        preset=preset.model_copy(update=own),
        model_revision="none",
        num_subjects=len(recipes) * 2 ** len(own["strata"]),
        split_fractions={"train": 1.0},
        recipes=tuple(recipes),
    )
    return planned_balance(plan)


def subjects_for(preset: Preset, recipes: int) -> int:
    """A number of subjects of whom each stratum has about one for every recipe, and that every split can balance.

    Args:
        preset: the domain.
        recipes: how many there are.
    """
    strata = 2 ** len(preset.strata)
    return Allocation(recipes * strata, tuple(SPLITS.values()), (1 / strata,) * strata).nearest


def read_recipes(path: str | Path, preset: Preset) -> tuple[dict[str, str], ...]:
    """The recipes of a file, checked.

    Args:
        path: of JSON lines, as `make_recipes` writes them; written by hand they may be, too.
        preset: the domain of the generator that they are for.

    Raises:
        InputError: with file and line, for a line that is no context, is given twice, or has other variables.
    """
    path = Path(path)
    check_regular(path, f"recipes: {path}", "give a file that `synthfair recipes` wrote")
    lines: list[str] = []
    try:
        with path.open(encoding="utf-8") as file:
            # no more of a line, or of lines, than shows that there are too many
            while len(lines) <= MOST_RECIPES and (line := file.readline(LONGEST_LINE + 2)):
                lines.append(line.removesuffix("\n"))
    except FileNotFoundError:
        raise InputError(f"recipes: {path} is not there; write it by `synthfair recipes`.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"recipes: {path} can't be read ({error}); write it by `synthfair recipes`.") from None
    if len(lines) > MOST_RECIPES:
        raise InputError(f"recipes: {path} holds more than {MOST_RECIPES} lines; give 1 to {MOST_RECIPES} recipes.")
    lines = lines or [""]
    known = Contexts.like(preset, lines[0])
    found: dict[str, int] = {}
    recipes = []
    for number, line in enumerate(lines, 1):
        recipe, why = known.parse(line)
        if recipe is None:
            raise InputError(f"recipes: {path}:{number}: {shown(line)} {why}; correct it, or remove the line.")
        first = found.setdefault(_line(recipe).casefold(), number)
        if first != number:
            raise InputError(f"recipes: {path}:{number}: is the recipe of line {first} again; remove it.")
        recipes.append(recipe)
    return tuple(recipes)


def grammar(contexts: Contexts, number: int, seed: int) -> list[dict[str, str]]:
    """So many different combinations of phrases, by a seed alone.

    Each is the one of TRIES combinations of least used phrases that adds least to the chi-square of all pairs of
    variables. So the first n of them have the phrases of a variable equally often, to one, unless hardly any
    combination is left, and nearly every pair of phrases as often as the next.

    Args:
        contexts: the variables with their phrases.
        number: of recipes.
        seed: of what is chosen.

    Raises:
        InputError: more than there are combinations.
    """
    names, sizes = list(contexts.levels), [len(levels) for levels in contexts.levels.values()]
    if number > math.prod(sizes):
        raise InputError(
            f"num_recipes: {number} are not possible, of {', '.join(names)} there are {math.prod(sizes)} combinations; "
            "give at most so many, or more variables."
        )
    rng = row_generator(seed)
    times = [np.zeros(size, dtype=np.int64) for size in sizes]
    pairs = {(i, j): np.zeros((sizes[i], sizes[j]), dtype=np.int64) for i, j in combinations(range(len(sizes)), 2)}
    used: dict[tuple[int, ...], None] = {}
    everything = product(*map(range, sizes))
    for _ in range(number):
        least = [np.flatnonzero(one == one.min()) for one in times]
        tried = np.stack([rng.choice(levels, TRIES) for levels in least], axis=1)
        cost = np.zeros(TRIES)
        for (i, j), table in pairs.items():
            # of so many cells each is expected equally often, so that one more in it adds this and a constant
            cost += table.size * table[tried[:, i], tried[:, j]]
        best = (tuple(row) for row in tried[np.argsort(cost, kind="stable")].tolist())
        chosen = next((row for row in best if row not in used), None)
        if chosen is None:
            chosen = next(row for row in everything if row not in used)
        used[chosen] = None
        for place, level in enumerate(chosen):
            times[place][level] += 1
        for (i, j), table in pairs.items():
            table[chosen[i], chosen[j]] += 1
    return [{name: contexts.levels[name][level] for name, level in zip(names, row, strict=True)} for row in used]


def _written(
    contexts: Contexts, number: int, seed: int, writer: LineWriter
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Recipes by a language model, and the counts of its lines.

    What it was shown, and what it wrote before, counts for nothing.
    """
    instruction = _instruction(contexts)
    there_are = math.prod(map(len, contexts.levels.values()))
    shown_to_it = [_line(one) for one in grammar(contexts, min(100 * EXAMPLES, there_are), seed)]
    recipes: dict[str, dict[str, str]] = {}
    rejected: Counter[str] = Counter()
    first: dict[str, str] = {}
    lines = calls = 0
    while len(recipes) < number:
        if lines >= PATIENCE and len(recipes) * FEWEST < lines:
            raise _too_few(number, lines, len(recipes), rejected, first)
        start = calls * EXAMPLES
        examples = [shown_to_it[place % len(shown_to_it)] for place in range(start, start + EXAMPLES)]
        found = writer.write(instruction, examples, integer(seed, "lines", calls))
        calls += 1
        for line in found or [""]:
            if len(recipes) == number:
                break
            lines += 1
            recipe, why = contexts.parse(line)
            key = "" if recipe is None else _line(recipe).casefold()
            if recipe is not None and key in map(str.casefold, examples):
                why = "repeats an example"
            elif recipe is not None and key in recipes:
                why = "is a recipe again"
            if recipe is None or why is not None:
                rejected[str(why)] += 1
                first.setdefault(str(why), printable(shown(line)))
            else:
                recipes[key] = recipe
    return list(recipes.values()), {"lines": lines, "rejected": dict(rejected.most_common()), "such_as": first}


def _instruction(contexts: Contexts) -> str:
    told = ", ".join(f'"{name}"' for name in contexts.levels)
    closed = [name for name in contexts.levels if name in contexts.preset.covariates]
    fixed = "".join(f" {name} is one of: {', '.join(contexts.levels[name])}." for name in closed)
    unsaid = ", ".join(
        dict.fromkeys(
            ("age", "sex", "race", *(name for name in contexts.preset.covariates.names if name not in closed))
        )
    )
    return (
        f"{contexts.preset.title}: describe the circumstances of one image as a JSON object on one line, with the keys "
        f"{told}.{fixed} Every other value is a short, plain phrase. Vary the phrases. Say nothing of {unsaid}. "
        "Examples:"
    )


def _too_few(number: int, lines: int, recipes: int, rejected: Counter[str], first: Mapping[str, str]) -> InputError:
    why = ", ".join(f"{n} {reason}" for reason, n in rejected.most_common(3))
    most = rejected.most_common(1)[0][0]
    return InputError(
        f"language_model: of its {lines} lines {recipes} became recipes, and {number} are wanted ({why}; such as "
        f"{first[most]}); give a model that follows instructions, or none for the grammar."
    )


def _coverage(contexts: Contexts, recipes: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How often each phrase is used, by variable; those that are not among a variable's own together."""
    found = {}
    for name, levels in contexts.levels.items():
        times = Counter(recipe[name] if recipe[name] in levels else OTHER for recipe in recipes)
        found[name] = {level: times[level] for level in levels} | ({OTHER: times[OTHER]} if times[OTHER] else {})
    return found


def dependence(contexts: Contexts, recipes: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """By pair of variables, the total variation of their joint shares from the product of their own, 0 to 1.

    Args:
        contexts: the variables with their phrases; other phrases of a variable count as one.
        recipes: one or more.
    """
    codes = {}
    for name, levels in contexts.levels.items():
        places = {level: place for place, level in enumerate(levels)}
        codes[name] = np.array([places.get(recipe[name], len(levels)) for recipe in recipes])
    found = {}
    for one, other in combinations(codes, 2):
        table = np.zeros((codes[one].max() + 1, codes[other].max() + 1))
        np.add.at(table, (codes[one], codes[other]), 1 / len(recipes))
        apart = np.outer(table.sum(axis=1), table.sum(axis=0))
        found[f"{one}, {other}"] = round(float(np.abs(table - apart).sum()) / 2, 6)
    return found


def describe_recipes(record: Record) -> list[str]:
    """What was written and what was not, as lines to print.

    Args:
        record: of `make_recipes`.
    """
    counts, measured = record.counts, record.measured
    read = f" of {counted(counts['lines'], 'line')}" if "lines" in counts else ""
    lines = [f"{counted(counts['recipes'], 'recipe')}{read}"]
    for reason, n in counts.get("rejected", {}).items():
        lines.append(f"  rejected {n}: {reason}; such as {counts['such_as'][reason]}")
    for name, times in counts["phrases"].items():
        unused = sum(n == 0 for phrase, n in times.items())
        spread = f"{min(times.values())} to {max(times.values())} times each"
        lines.append(f"  {name}: {counted(len(times), 'phrase')}, {spread}" + (f"; {unused} unused" if unused else ""))
    if measured["dependence"]:
        pair, most = max(measured["dependence"].items(), key=lambda one: one[1])
        lines.append(f"  most dependent: {pair}, total variation {most:g}")
    for name, one in measured["balance"].items():
        lines.append(f"  balance of {name}: total variation {one['total_variation']:g} over {one['n']} planned rows")
    return lines
