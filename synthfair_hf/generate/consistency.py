"""Do the rows of a shard say what its plan and their families imply? Every column but the image's pixels is read.

of the plan     id, split, subject_id, draw, the factors, source_dataset, plan, model_revision, the image's name,
                the recipe and what it says
of a subject    one seed among those of its draws, one value of every covariate that is no factor and of every
                noise, all in the planned stratum
of a family     parent_id, intervention and synthetic, from the row that is the subject's own, where there is one
of a sample     no intervention, and the prompt of its covariates
of a row        reached, from what was measured and requested
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from .plan import SCM, GenerationPlan
from .rows import Row
from .store import Store

__all__ = ["UNREADABLE", "read_rows", "row_faults", "subject_faults"]

UNREADABLE = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises of damaged bytes; a flip inside a name is no UTF-8, a ValueError."""

ATTEMPTS = 16
"""Seeds of a subject that no other subject has; a draw of it has one of them."""


def read_rows(path: Path, features: Features) -> pa.Table:
    """The rows of a file, with the names of the images in place of these; raises one of UNREADABLE.

    Args:
        path: of the file.
        features: the columns of the data set.

    Raises:
        ValueError: it has other columns.
    """
    with pq.ParquetFile(path) as file:
        if Features.from_arrow_schema(file.schema_arrow) != features:
            raise ValueError("its columns are not those of the plan")
        columns = ["image.path" if name == "image" else name for name in features]
        # a file is small, and threads cost more than they bring
        table = file.read(columns, use_threads=False)
    names = table["image"].combine_chunks().field("path")
    return table.set_column(table.schema.get_field_index("image"), "image", names).combine_chunks()


def row_faults(store: Store, table: pa.Table, planned: Sequence[Row], recorded: int) -> Iterator[str]:
    """How the rows of one file differ from the plan's, which have no duplicate and no subject in two splits.

    Args:
        store: the data set.
        table: the file, of `read_rows`.
        planned: its rows.
        recorded: number of rows in the record.
    """
    plan = store.plan
    if not len(planned) == len(table) == recorded:
        yield f"{len(table)} rows, {recorded} recorded, {len(planned)} planned"
    twice = [one for one, times in Counter(table["id"].to_pylist()).items() if times > 1]
    if twice:
        yield f"id {twice[0]} occurs more than once"
    constants = {"plan": plan.fingerprint, "source_dataset": plan.source, "model_revision": plan.model_revision}
    expected: dict[str, list[Any]] = {
        **{name: [getattr(row, name) for row in planned] for name in ("id", "subject_id", "split", "draw")},
        **{name: [value] * len(planned) for name, value in constants.items()},
        **{name: [row.cell[name] for row in planned] for name in plan.factors},
        "image": [f"{row.id}.png" for row in planned],
    }
    if plan.shows_support:
        expected["out_of_support"] = [plan.is_out_of_support(row) for row in planned]
    if plan.recipes:
        expected["recipe"] = [row.recipe for row in planned]
        for name in plan.recipe_table.variables:
            expected[plan.recipe_table.column(name)] = [plan.recipes[row.recipe or 0][name] for row in planned]
    for name, wanted in expected.items():
        for position, (found, one) in enumerate(zip(_decoded(store, table, name), wanted, strict=False)):
            if found != one:
                yield f"row {position} has {name} {found} where the plan has {one}"
                break


def subject_faults(store: Store, table: pa.Table, planned: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """How rows that are the plan's contradict each other, as (position, fault), one a kind.

    Args:
        store: the data set.
        table: whole families, in the order of `planned`.
        planned: the rows.
    """
    plan = store.plan
    families: dict[int, list[int]] = {}
    for position, row in enumerate(planned):
        families.setdefault(row.subject, []).append(position)
    first = np.empty(len(planned), dtype=np.int64)
    for positions in families.values():
        first[positions] = positions[0]
    covariates = plan.preset.covariates.names
    own = [name for name in covariates if name not in plan.factors]
    for name in (*own, *(f"noise_{one}" for one in covariates), "seed"):
        column = table[name].combine_chunks()
        if not column.equals(column.take(pa.array(first))):
            found = column.to_pylist()
            position = next(place for place, value in enumerate(found) if value != found[first[place]])
            yield position, f"has another {name} than its subject's other rows"
    values = {name: _decoded(store, table, name) for name in covariates}
    checks = [_seed_faults, _stratum_faults, _intervention_faults if plan.sampling is None else _sample_faults]
    for check in checks:
        yield from check(plan, table, planned, list(families.values()), values)
    if plan.gate is not None:
        read = {name: _decoded(store, table, f"measured_{name}") for name in plan.factors}
        yield from _gate_faults(plan, table["reached"].to_pylist(), read, values)


Values = Mapping[str, Sequence[Any]]
Families = Sequence[Sequence[int]]


def _seed_faults(
    plan: GenerationPlan, table: pa.Table, planned: Sequence[Row], families: Families, values: Values
) -> Iterator[tuple[int, str]]:
    attempts, seeds = ATTEMPTS if plan.source == SCM else 1, table["seed"].to_pylist()
    for position, *_ in families:
        subject = planned[position].subject
        if seeds[position] not in (plan.subject_seed(subject, attempt) for attempt in range(attempts)):
            yield position, f"has seed {seeds[position]}, which is none of its subject's"
            return


def _stratum_faults(
    plan: GenerationPlan, table: pa.Table, planned: Sequence[Row], families: Families, values: Values
) -> Iterator[tuple[int, str]]:
    for position, *_ in families:
        own = {name: values[name][position] for name in plan.strata}
        if None in own.values() or plan.stratum(own) != planned[position].stratum:
            told = ", ".join(f"{name} {value}" for name, value in own.items())
            yield position, f"has {told} where the plan has {' / '.join(planned[position].stratum)}"
            return


def _intervention_faults(
    plan: GenerationPlan, table: pa.Table, planned: Sequence[Row], families: Families, values: Values
) -> Iterator[tuple[int, str]]:
    written = {name: table[name].to_pylist() for name in ("intervention", "parent_id", "synthetic")}

    @cache
    def acted_on(own: int, member: int, known: frozenset[str]) -> frozenset[str]:
        """What an intervention from one cell into another names, of a subject of whom so much is known."""
        told = {name: name if name in known else None for name in plan.preset.covariates.names}
        return frozenset(plan.intervention(plan.cells[member], {**told, **plan.cells[own]}))

    for family in families:
        own = next((place for place in family if written["intervention"][place] == "{}"), None)
        parent = None if own is None else planned[own].id
        known = frozenset(name for name, column in values.items() if column[family[0]] is not None)
        for place in family:
            do = _intervention(written["intervention"][place])
            if do is None:
                yield place, f"has the intervention {written['intervention'][place]}, which is not as it is written"
                return
            if own is not None and do.keys() != acted_on(planned[own].member, planned[place].member, known):
                yield place, f"has the intervention {do}, which does not lead from row {parent} to its cell"
                return
            if any(not _same(value, values[name][place]) for name, value in do.items() if name in values):
                yield place, f"has the intervention {do} but other values"
                return
            if own is None and not _reach(plan, family, written["intervention"], values):
                yield place, f"has the intervention {do}, which contradicts those of its family"
                return
            expected = {"parent_id": parent if do else None, "synthetic": bool(do) or plan.source == SCM}
            for name, value in expected.items():
                if written[name][place] != value:
                    yield place, f"has {name} {written[name][place]} where its family has {value}"
                    return


def _sample_faults(
    plan: GenerationPlan, table: pa.Table, planned: Sequence[Row], families: Families, values: Values
) -> Iterator[tuple[int, str]]:
    """Same-noise samples have no intervention, and the prompt of their covariates."""
    for name, expected in (("intervention", None), ("parent_id", None), ("synthetic", True)):
        for place, found in enumerate(table[name].to_pylist()):
            if found != expected:
                yield place, f"has {name} {found} where a same-noise sample has {expected}"
                return
    for place, found in enumerate(table["prompt"].to_pylist()):
        prompt = plan.prompt({name: column[place] for name, column in values.items()}, planned[place].recipe)
        if found != prompt:
            yield place, f"has prompt {found!r} where its covariates and context have {prompt!r}"
            return


def _reach(plan: GenerationPlan, family: Sequence[int], written: Sequence[str], values: Values) -> bool:
    """Whether interventions on one subject, none of whose rows is its own, agree on what it is.

    A factor that one of them leaves alone has the subject's value in its row.
    """
    for name in plan.factors:
        left = {values[name][place] for place in family if name not in (_intervention(written[place]) or {})}
        if len(left) > 1:
            return False
    return all(set(_intervention(written[place]) or {}) & set(plan.factors) for place in family)


def _gate_faults(
    plan: GenerationPlan, flags: Sequence[bool], read: Values, values: Values
) -> Iterator[tuple[int, str]]:
    for position, reached in enumerate(flags):
        agrees = all(
            read[name][position] == values[name][position]
            if plan.preset.covariates[name].categorical
            # stored in float32, compared before that
            else abs(read[name][position] - values[name][position]) <= plan.gate_tolerance[name] * (1 + 1e-6)
            for name in plan.factors
        )
        if reached != agrees:
            yield position, f"has reached {reached} where what was measured says {agrees}"
            return


def _decoded(store: Store, table: pa.Table, name: str) -> list[Any]:
    """A column's values, levels by name."""
    found: list[Any] = table[name].to_pylist()
    if isinstance(feature := store.features[name], ClassLabel):
        return [None if one is None else feature.names[one] for one in found]
    return found


def _intervention(written: str) -> dict[str, Any] | None:
    """What is set; None where it is not written as `generate` writes it."""
    try:
        do = json.loads(written)
    except ValueError:
        return None
    return do if isinstance(do, dict) and json.dumps(do, sort_keys=True) == written else None


def _same(first: Any, second: Any) -> bool:
    """Whether two values are one as they are stored, numbers in float32."""
    if isinstance(first, float) and isinstance(second, float):
        return np.float32(first) == np.float32(second)
    return bool(first == second)
