"""How often detectors name the planted attribute, and how often they name one where none was planted.

    synthfair generate --world phantom --resolution 64 --num_subjects 1120 --batch_size 72 --output_dir DATA
    python benchmarks/detection.py --data_dir DATA --output_dir RUN
    python benchmarks/detection.py --quick --output_dir RUN

DATA is any data set of a world with exact counterfactuals. A cell is a view `finding_<attribute>_correlated_A_B`, or
its twin, and a seed: a small classifier fitted by empirical risk minimisation on its train (a sample of its subjects,
another for each seed), weights selected on a fifth of these, and every detector evaluated on the unbiased test split.
Finished cells are lines of RUN/cells.jsonl, keyed by their recipe; the same command continues. --quick simulates scores
from a known distribution instead, and needs no data.

A verdict is made by two rules: `permutation`, and `references`, in which a classifier is compared with those fitted on
the unbiased twins.
"""

import argparse
import io
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from datasets import load_dataset
from matplotlib.figure import Figure

import synthfair_hf  # noqa: F401  registers the builder
from synthfair_hf.domains.preset import Preset
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import FittingSettings, LabelledImages, fit_classifier, new_classifier
from synthfair_hf.fairness.detection import ALPHA, TWIN, Detection, Scores, against, detect, score
from synthfair_hf.fairness.detectors import DETECTORS
from synthfair_hf.records import Record, fingerprint, library_versions, write_atomically
from synthfair_hf.views.builder import read_record
from synthfair_hf.views.view import get_view

FINDING = "finding"
HELD_OUT = 5
"""One in so many subjects of train is validation, on which the weights are selected."""

TOP_1, FROM, FALSE_ALARMS = 0.9, 80, ALPHA
"""Goals: top-1 from a strength on, and false alarms on twins."""

SIMULATED = ("sex", "age", "scanner")

ESTIMATE = ("value", "low", "high")

GIVEN = ("planted", "strengths", "seeds", "train_subjects", "permutations", "steps")
"""Arguments that decide the figures."""


def simulated(planted: str, strength: float, seed: int, families: int = 100) -> tuple[Scores, LabelledImages]:
    """Families that cross sex, scanner and finding, in age groups, and the outputs of a classifier biased by `planted`.

    Its logit depends on the attribute as log odds do where `strength` percent of train agree; not at all at 50.
    """
    rng = np.random.default_rng(seed)
    columns = np.array(np.meshgrid(range(families), (0, 1), (0, 1), (0, 1), indexing="ij")).reshape(4, -1)
    family, groups, labels = columns[0], {"sex": columns[1], "scanner": columns[2]}, columns[3]
    groups["age"] = rng.permutation(np.arange(families) % 2)[family]
    features = rng.normal(size=(len(family), 8)) + rng.normal(size=(families, 8))[family]
    features[:, 0] += 3 * labels
    for place, name in enumerate(SIMULATED, start=1):
        features[:, place] += 2 * (groups[name] == 1)
    leaning = math.log(strength / (100 - strength)) / 2 * (2 * groups[planted] - 1)
    logits = features[:, 0] - 1.5 + leaning
    features[:, 4] += leaning
    names = np.array([f"s{number}" for number in family])
    cells = {"sex": 4 * family + 2 * groups["scanner"] + labels, "scanner": 4 * family + 2 * groups["sex"] + labels}
    pairs = {name: cell.astype(str) for name, cell in cells.items()}
    codes = {name: torch.from_numpy(groups[name]) for name in SIMULATED}
    images = torch.zeros(len(family), 1, 16, 16, dtype=torch.uint8)
    levels = {name: ("first", "second") for name in SIMULATED}
    return Scores(logits, features), LabelledImages(images, torch.from_numpy(labels), codes, levels, names, pairs)


class Fitted:
    """Classifiers fitted on the views of a data set, and its test rows of contrasted groups."""

    def __init__(self, data_dir: str, train_subjects: int, settings: FittingSettings) -> None:
        record, self.preset = read_record(data_dir)
        self.train_subjects = train_subjects
        self.data_dir, self.settings, self.data_set = data_dir, settings, str(record.counts.get("store"))
        self.attributes = [name for name in self.preset.contrasts if name != FINDING]
        self.test = contrasted(self.load("full", "test"), self.preset)

    def load(self, view: str, split: str) -> LabelledImages:
        """One split of a view."""
        dataset = load_dataset("synthfair", view, data_dir=self.data_dir, split=split)
        return LabelledImages.from_dataset(dataset, self.preset, self.attributes, FINDING)

    def recipe(self, planted: str, strength: int) -> dict[str, Any]:
        """What decides a classifier, except its seed, and the attributes that it is tested for."""
        view = get_view(f"{FINDING}_{planted}_correlated_{strength}_{100 - strength}", self.preset)
        return {
            "view": view.fingerprint,
            "data_set": self.data_set,
            "train_subjects": self.train_subjects,
            "fitting": self.settings.model_dump(mode="json"),
            "attributes": self.attributes,
        }

    def __call__(self, planted: str, strength: int, seed: int) -> tuple[Scores, LabelledImages]:
        """Fit one classifier, and compute its outputs for the test rows."""
        examples = self.load(f"{FINDING}_{planted}_correlated_{strength}_{100 - strength}", "train")
        used = np.random.default_rng(seed).permutation(np.unique(examples.subjects))[: self.train_subjects]
        validation = examples.select(np.isin(examples.subjects, used[::HELD_OUT]))
        train = examples.select(np.isin(examples.subjects, np.delete(used, np.s_[::HELD_OUT])))
        classifier = new_classifier(train, self.settings, seed)
        fit_classifier(classifier, train, validation, self.settings, seed)
        return Scores.of(classifier, self.test), self.test


def contrasted(examples: LabelledImages, preset: Preset) -> LabelledImages:
    """Rows of the two groups of every attribute's contrast, as classifiers are fitted on no others."""
    kept = np.ones(len(examples), dtype=bool)
    for name, levels in examples.levels.items():
        contrast = preset.contrasts[name]
        kept &= np.isin(np.array(levels)[examples.groups[name].numpy()], (contrast.first, contrast.second))
    return examples.select(kept)


def cell_seed(recipe: dict[str, Any]) -> int:
    """A different seed for each cell, so that cells of one data set are independent of each other."""
    return int(fingerprint(recipe, 8), 16)


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Cells by key; a truncated last line of a killed run is removed."""
    if not path.is_file():
        return {}
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    cells = [json.loads(line) for line in whole.splitlines()]
    write_atomically(path, "".join(f"{json.dumps(cell)}\n" for cell in cells).encode())
    return {cell["key"]: cell for cell in cells}


def result_rows(cells: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The argument of `score`: a row per cell, detector and rule."""
    for detector in DETECTORS:
        found = [Detection.from_record(cell["detections"][detector]) for cell in cells]
        twins = [place for place, cell in enumerate(cells) if cell["strength"] == TWIN]
        for place, (cell, own) in enumerate(zip(cells, found, strict=True)):
            others = [found[twin] for twin in twins if twin != place]
            rules = {"permutation": own} | ({"references": against(own, others)} if others else {})
            for rule, one in rules.items():
                largest = one.largest if math.isfinite(one.largest) else None
                outcome = {"top": one.top, "verdict": one.verdict, "largest": largest}
                place_of = {name: cell[name] for name in ("planted", "strength", "seed")}
                yield {"detector": detector, "rule": rule, **place_of, **outcome}


def figure(table: pandas.DataFrame, **selection: Any) -> str:
    for name, value in selection.items():
        table = table[table[name] == value]
    if table.empty or pandas.isna(table["value"].iloc[0]):
        return "-"
    one = table.iloc[0]
    return f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def page(record: Record, table: pandas.DataFrame) -> str:
    """docs/detection/README.md."""
    settings, cells = record.settings, record.counts["cells"]
    attributes, strengths = settings["planted"], settings["strengths"]
    origin = "simulated classifiers" if settings["simulated"] else "classifiers fitted on biased views and their twins"
    lines = [
        "# Detection",
        "",
        f"Printed by `benchmarks/detection.py` from `detection.json`; {cells} {origin},",
        f"{settings['seeds']} seeds per view and strength, {settings['train_subjects']} subjects of train each, on "
        f"{record.counts['test_rows']} unbiased test rows.",
        f"Planted: a correlation of the finding with {' or '.join(attributes)}. Attributes tested:",
        f"{', '.join(settings['attributes'])}. Strengths are percentages; 50 is the unbiased twin.",
        "",
        "- top_1: the attribute ranked first is the planted one",
        "- named: the verdict is the planted one",
        "- false_alarm: the verdict is any attribute, on a twin",
        "- auc: of the detector's largest statistic, this strength against the twins",
        "",
        f"Rule `permutation`: Holm's adjusted p at most {settings['alpha']:g}, of {settings['permutations']}",
        "permutations, subjects as unit. Rule `references`: the scores depend on the attribute more than those of",
        "classifiers fitted on the other twins, at that level; with fewer than 20 twins it never names an attribute.",
        "Intervals are of 95 %: Clopper and Pearson's for shares, a bootstrap over seeds for AUC.",
        "",
        "The scores of an unbiased classifier, too, depend a little on habitus, sex or scanner, and the first rule",
        "detects that on nearly every twin. The second tests whether they depend on it more than unbiased ones do.",
        "",
        "![Top-1, verdicts and false alarms by strength](detection.png)",
        "",
        "## Goals",
        "",
        *goals(table),
    ]
    for rule in ("permutation", "references"):
        lines += ["", f"## Rule `{rule}`", "", f"| detector | planted | metric | {' | '.join(map(str, strengths))} |"]
        lines += ["|---" * (3 + len(strengths)) + "|"]
        for detector in DETECTORS:
            for planted in (*attributes, "any"):
                for metric in ("false_alarm", "top_1", "named", "auc"):
                    row = {"detector": detector, "rule": rule, "planted": planted, "metric": metric}
                    cells_of_row = [figure(table, strength=strength, **row) for strength in strengths]
                    lines.append(f"| {detector} | {planted} | {metric} | {' | '.join(cells_of_row)} |")
    return "\n".join(lines) + "\n"


def picture(table: pandas.DataFrame, strengths: Sequence[int]) -> bytes:
    """PNG: by rule, how often each detector ranks and names the planted attribute; at 50, how often it names any."""
    drawn = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    axes = drawn.subplots(1, 4, sharey=True)
    for (rule, metric), axis in zip(product(("permutation", "references"), ("top_1", "named")), axes, strict=True):
        every = table[(table["rule"] == rule) & (table["planted"] == "any")]
        for number, detector in enumerate(DETECTORS):
            own = every[every["detector"] == detector]
            wanted = [metric if strength != TWIN else "false_alarm" for strength in strengths]
            found = [own[(own["metric"] == m) & (own["strength"] == s)] for m, s in zip(wanted, strengths, strict=True)]
            places = np.arange(len(strengths)) + 0.1 * (number - 1.5)
            values, lows, highs = (np.array([one[name].iloc[0] for one in found], float) for name in ESTIMATE)
            spread = np.maximum([values - lows, highs - values], 0)
            bars = axis.errorbar(places, values, spread, fmt="o", markersize=4, linewidth=1, label=detector)
            axis.plot(places[1:], values[1:], linewidth=1, color=bars[0].get_color())
        axis.axvline(0.5, color="#888888", linewidth=0.8)
        axis.set_xticks(range(len(strengths)), ["twin", *map(str, strengths[1:])], fontsize=8)
        axis.set_title(f"{rule}: {'ranked first' if metric == 'top_1' else 'named'}", fontsize=9)
        axis.set_xlabel("strength; on the twin: false alarms", fontsize=8)
        axis.spines[["right", "top"]].set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    drawn.suptitle("How often a detector finds the planted attribute, with 95 % intervals", fontsize=10)
    file = io.BytesIO()
    drawn.savefig(file, format="png")
    return file.getvalue()


def goals(table: pandas.DataFrame) -> Iterator[str]:
    """One line per detector and rule: met or missed, over all planted attributes."""
    table = table[table["planted"] == "any"]
    for (detector, rule), every in table.groupby(["detector", "rule"], sort=False):
        top = every[(every["metric"] == "top_1") & (every["strength"] >= FROM)]
        false = every[every["metric"] == "false_alarm"]
        if top.empty or false.empty:
            continue
        least = top[top["value"] == top["value"].min()]
        met = least["value"].iloc[0] >= TOP_1 and false["value"].iloc[0] <= FALSE_ALARMS
        yield (
            f"- {detector}, {rule}: least top-1 from {FROM} on {figure(least)}, n = {least['n'].iloc[0]} "
            f"(goal {TOP_1:g}); false alarms {figure(false)}, n = {false['n'].iloc[0]} (goal {FALSE_ALARMS:g}): "
            f"{'met' if met else 'missed'}"
        )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="a directory `synthfair generate` wrote")
    parser.add_argument("--quick", action="store_true", help="simulated scores instead of fitted classifiers")
    parser.add_argument("--output_dir", type=Path, required=True, help="where finished cells are kept")
    parser.add_argument("--docs_dir", type=Path, help="where record and page go; OUTPUT_DIR by default")
    parser.add_argument("--planted", nargs="+", default=["sex", "scanner"])
    parser.add_argument("--strengths", nargs="+", type=int, default=[50, 60, 70, 80, 90])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--train_subjects", type=int, default=200, help="subjects of train that a fit uses")
    parser.add_argument("--permutations", type=int, default=999)
    parser.add_argument("--steps", type=int, default=FittingSettings().steps)
    chosen = parser.parse_args(arguments)
    if chosen.quick == (chosen.data_dir is not None):
        parser.error("give one of --data_dir and --quick")
    return chosen


def fitted_cells(
    chosen: argparse.Namespace, world: Any, attributes: Sequence[str], data_set: str
) -> list[dict[str, Any]]:
    """All cells in order; those that are not in OUTPUT_DIR/cells.jsonl yet are fitted and appended to it."""
    path = chosen.output_dir / "cells.jsonl"
    known, cells = finished(path), []
    grid = [(a, b, c) for c in range(chosen.seeds) for a in chosen.planted for b in chosen.strengths]
    for number, (planted, strength, seed) in enumerate(grid, start=1):
        recipe = {"planted": planted, "strength": strength, "seed": seed, "permutations": chosen.permutations}
        recipe |= {"data_set": data_set} if chosen.quick else world.recipe(planted, strength)
        key = fingerprint(recipe)
        if key not in known:
            began = time.perf_counter()
            scores, test = world(planted, strength, cell_seed(recipe))
            fitted = time.perf_counter()
            found = {
                name: detect(scores, test, attributes, name, seed, ALPHA, chosen.permutations).to_record()
                for name in DETECTORS
            }
            cell = {"key": key, "planted": planted, "strength": strength, "seed": seed, "detections": found}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(cell, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            known[key] = cell
            verdicts = ", ".join(f"{name} {one['verdict']}" for name, one in found.items())
            seconds = f"{fitted - began:.1f} s to fit, {time.perf_counter() - fitted:.1f} s to test"
            print(f"{number}/{len(grid)} {planted} {strength} seed {seed}: {verdicts} ({seconds})", flush=True)
        cells.append(known[key])
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = parsed(arguments)
    if chosen.quick:
        world, attributes = simulated, list(SIMULATED)
        test_rows, data_set = len(simulated(SIMULATED[0], TWIN, 0)[1]), "simulated"
    else:
        world = Fitted(chosen.data_dir, chosen.train_subjects, FittingSettings(steps=chosen.steps))
        attributes, test_rows, data_set = world.attributes, len(world.test), world.data_set
    chosen.output_dir.mkdir(parents=True, exist_ok=True)
    cells = fitted_cells(chosen, world, attributes, data_set)
    rows = list(result_rows(cells))
    table = score(rows)
    settings = {name: getattr(chosen, name) for name in GIVEN}
    settings |= {"alpha": ALPHA, "attributes": attributes, "simulated": chosen.quick}
    record = Record(
        stage="detection",
        inputs={"data_set": data_set},
        settings=settings,
        versions=library_versions(),
        counts={"cells": len(cells), "test_rows": test_rows},
        measured={"rows": rows, "score": table.astype(object).where(table.notna(), None).to_dict("records")},
    )
    docs_dir = chosen.docs_dir or chosen.output_dir
    docs_dir.mkdir(parents=True, exist_ok=True)
    record.write(docs_dir / "detection.json")
    write_atomically(docs_dir / "README.md", page(record, table).encode())
    write_atomically(docs_dir / "detection.png", picture(table, sorted(chosen.strengths)))
    print("\n".join(goals(table)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
