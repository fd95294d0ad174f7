"""Records of measurements that lie beside a data set or a generator, and what cards print of them.

    records/soundness-<world>.json    of its generator's counterfactuals, on test patients
    records/realism-<world>.json      of its generator's samples: fidelity, and nearness to training images
    records/benchmark.json            of classifiers fitted on the data set's views and on their twins

A record of another generator or data set is an error, as is one whose figures were not measured on test patients.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pandas

from ..errors import InputError
from ..records import Record, check_regular, file_sha256, written

__all__ = [
    "BENCHMARK",
    "NOTHING",
    "Measured",
    "changed_records",
    "leaderboard_record",
    "scoreboard_records",
    "soundness_figures",
]

KINDS = {"soundness": "measure_soundness", "realism": "measure_realism"}
"""Stages of the records of a scoreboard by the beginning of their names."""

BENCHMARK = "records/benchmark.json"

DIGEST = re.compile(r"^\| `(records/[^`\n]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)
"""A line of the table of records of measurements on a data set's card."""

PRINTED = ("composition_l1", "true_l1", "true_ssim", "reversibility_l1", "delta_auc", "delta_mae", "share_of_gap")
"""Beginnings of the metrics of soundness that a card prints; the scoreboard prints all."""

REFERENCE = "erm"
"""The method of a benchmark whose figures say what a view does to a classifier that mitigates nothing."""

FAIRNESS = ("worst_group_accuracy", "auc_gap", "equal_opportunity_difference")
"""Figures of a benchmark that a data set's card prints."""


class Measured(NamedTuple):
    """Records beside a data set or generator, by name.

    Attributes:
        soundness: one for each world.
        realism: one for each world.
        benchmark: of a data set; empty, or one.
    """

    soundness: Mapping[str, Record] = {}
    realism: Mapping[str, Record] = {}
    benchmark: Mapping[str, Record] = {}

    @classmethod
    def of(cls, records: Mapping[str, Record]) -> "Measured":
        """These records by their stage."""

        def staged(stage: str) -> dict[str, Record]:
            return {name: one for name, one in records.items() if one.stage == stage}

        return cls(staged(KINDS["soundness"]), staged(KINDS["realism"]), staged("benchmark"))

    @classmethod
    def read(cls, directory: Path, generator: str, data_set: str | None = None) -> "Measured":
        """Those in `records/` of a directory.

        Args:
            directory: a data set or a saved generator.
            generator: revision that they must be of.
            data_set: identity of the stored bytes that a benchmark must be of; None for a generator, which has none.

        Raises:
            InputError: one of another generator or data set, of another split, or unreadable.
        """
        records = scoreboard_records(directory / "records", generator)
        path = directory / BENCHMARK
        if data_set is not None and path.exists():
            record = _read(path, str(path))
            _check_data_set(record, str(path), data_set)
            records[BENCHMARK] = record
        return cls.of(records)

    @property
    def records(self) -> dict[str, Record]:
        """All of them by name."""
        return {name: one for kind in self for name, one in kind.items()}

    @property
    def files(self) -> dict[str, bytes]:
        """The records as they are written, by name."""
        return {name: written(one.model_dump(mode="json")) for name, one in self.records.items()}

    def boards(self, factors: Sequence[str] | None = None) -> list[tuple[Record, list[tuple[Any, Any]]]]:
        """Each record of soundness with the figures that a card prints, and beside each that of the identity.

        Args:
            factors: interventions that are printed; all by default.

        Raises:
            InputError: a record without a figure of a generator.
        """
        return [(one, list(soundness_figures(one, factors))) for one in self.soundness.values()]

    def failures(self, factors: Sequence[str] | None = None) -> list[str]:
        """What the generator was measured not to do, a sentence each, with 95 % intervals.

        An intervention whose share of the real gap cannot be told from that of an unchanged image, 0, or whose result
        is farther from the true counterfactual than that image; and a held attribute that a predictor reads worse or
        better after it than on real images.

        Args:
            factors: interventions that are told of; all by default.
        """
        return [sentence for one in self.soundness.values() for sentence in _failures(one, factors)]

    def fairness(self) -> list[dict[str, Any]]:
        """Figures of the unmitigated classifier on each view beside those on its twin, in the order of the benchmark.

        Raises:
            InputError: a benchmark without such a figure.
        """
        return [line for name, one in self.benchmark.items() for line in _fairness(one, name)]


NOTHING = Measured()


def scoreboard_records(directory: Path, generator: str, some: bool = False) -> dict[str, Record]:
    """The records of a scoreboard by their names beside a data set or generator.

    Args:
        directory: that `synthfair measure` wrote, or `records/`.
        generator: revision that they must be of.
        some: whether there must be one.

    Raises:
        InputError: one of another generator or split, or that is unreadable, or none where there must be some.
    """
    found: dict[str, Record] = {}
    for kind, stage in KINDS.items():
        for path in sorted(directory.glob(f"{kind}-*.json")):
            where = f"scoreboard: {path}" if some else str(path)
            record = _read(path, where)
            if record.stage != stage:
                raise InputError(f"{where} is a record of {record.stage}, not of {stage}; remove it.")
            if (of := record.inputs.get("generator")) != generator:
                raise InputError(
                    f"{where} is of generator {of}, not of {generator}; measure this one, into a directory of its own."
                )
            if (split := record.settings.get("split")) != "test":
                raise InputError(f"{where}: measured on {split!r}; measure on test patients first.")
            found[f"records/{path.name}"] = record
    if some and not found:
        raise InputError(f"scoreboard: {directory} holds no record; give the output directory of `synthfair measure`.")
    return found


def changed_records(directory: Path, card: str) -> dict[str, str]:
    """Records of measurements beside a data set that are not those whose sha256 its card holds, with what is wrong.

    Args:
        directory: the data set.
        card: its README.md.
    """
    found = {}
    for name, digest in DIGEST.findall(card):
        remedy = f"restore it, or give the {'leaderboard' if name == BENCHMARK else 'scoreboard'} anew"
        if not (directory / name).is_file():
            found[name] = f"{name}: is missing; {remedy}."
        elif file_sha256(directory / name) != digest:
            found[name] = f"{name}: its bytes are not those whose sha256 README.md holds; {remedy}."
    return found


def leaderboard_record(directory: Path, data_set: str) -> dict[str, Record]:
    """The record of a benchmark with its figures over seeds, by its name beside the data set.

    Args:
        directory: that `synthfair benchmark` wrote.
        data_set: identity of the stored bytes that it must be of.

    Raises:
        InputError: no finished benchmark, or one of another data set.
    """
    record, table = _read(directory / "benchmark.json", f"leaderboard: {directory}"), directory / "figures.csv"
    _check_data_set(record, f"leaderboard: {directory}", data_set)
    try:
        rows = pandas.read_csv(table).to_dict("records")
    except (OSError, ValueError) as error:
        raise InputError(
            f"leaderboard: {table} cannot be read ({error}); give the output directory of a finished "
            "`synthfair benchmark`."
        ) from None
    plain = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
    return {BENCHMARK: record.model_copy(update={"measured": {**record.measured, "figures": plain}})}


def _read(path: Path, where: str) -> Record:
    check_regular(path, where, "remove it")
    return Record.read(path)


def _check_data_set(record: Record, where: str, data_set: str) -> None:
    if (of := record.inputs.get("data_set")) != data_set:
        raise InputError(f"{where}: is of data set {of}, not of {data_set}; benchmark this one first.")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def soundness_figures(soundness: Record, factors: Sequence[str] | None = None) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each figure of the generator that is printed, and that of the identity (the unchanged image).

    Args:
        soundness: the record.
        factors: interventions that are told; all by default.
    """
    rows = [row for row in soundness.measured.get("rows", ()) if row["metric"].startswith(PRINTED)]
    rows = [row for row in rows if row["do"] != "none" or row["metric"].startswith("composition_l1")]
    measured = [row for row in rows if row["system"] not in ("identity", "oracle")]
    if not measured:
        raise InputError("soundness: holds no figure of a generator; run `synthfair measure soundness` first.")
    key = itemgetter("metric", "do", "attribute", "by", "intervention")
    identity = {key(row): row for row in rows if row["system"] == "identity"}
    for row in measured:
        if factors is None or row["do"] in ("none", *factors):
            yield row, identity.get(key(row))


def _failures(soundness: Record, factors: Sequence[str] | None) -> Iterator[str]:
    for row, identity in soundness_figures(soundness, factors):
        if row["mean"] is None or row["do"] == "none":
            continue
        figure = f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}], n = {row['n']}, by {row['by']}"
        world, own = soundness.settings["world"], row["attribute"] == row["do"]
        if row["metric"] == "share_of_gap" and own and row["low"] <= 0:
            yield f"do({row['do']}) in {world}: share of the real gap {figure}, not told from an unchanged image."
        if row["metric"] == "true_l1" and identity is not None and row["low"] > identity["high"]:
            less = f"{identity['mean']:.3g} [{identity['low']:.3g}, {identity['high']:.3g}]"
            yield f"do({row['do']}) in {world}: L1 to the truth {figure}, more than {less} of the unchanged image."
        # of a total effect, what the intervention causes is meant to change
        held = not own and row.get("effect") == "direct" and row["metric"] in ("delta_auc", "delta_mae")
        if held and not row["low"] <= 0 <= row["high"]:
            what = row["metric"].replace("delta_", "").upper()
            yield f"do({row['do']}) in {world}: off-target change of the {what} of {row['attribute']} {figure}."


def _fairness(benchmark: Record, where: str) -> Iterator[dict[str, Any]]:
    rows = benchmark.measured.get("figures", ())
    found = {
        (row["view"], row["attribute"], row["metric"], row["fitted_on"]): row
        for row in rows
        if row["method"] == REFERENCE and row["set"] == "test" and row["metric"] in FAIRNESS
    }
    if not found:
        raise InputError(f"{where}: holds no figure of {REFERENCE} on test; run `synthfair benchmark` first.")
    for (view, attribute, metric, fitted_on), row in found.items():
        if fitted_on == "view":
            twin = found.get((view, attribute, metric, "twin"))
            yield {"view": view, "attribute": attribute, "metric": metric, "figure": row, "twin": twin, "n": row["n"]}
