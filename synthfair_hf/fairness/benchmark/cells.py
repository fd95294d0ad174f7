"""A cell of the benchmark: one method, fitted on one view under one seed, and evaluated on the whole test split.

    subjects of train, by stratum and then draw:  `subjects` of them, evenly spaced, are used, the others set aside
    of those used, every fifth, offset by the seed:     validation, from the rows the view keeps, so as biased as train
    synthetic = rows of full train, not of validation's subjects, that are not in train: what the view withholds of
                train's subjects, and whole families of the subjects set aside; balanced, and with true labels
    masks = where a row with the finding differs from its counterfactual without, |x - x*| under do(finding)

`draw` is uniform within every stratum, so each part is as biased as the whole. Synthetic images are of the generator
that made the data set: an upper bound on what a generator fitted on biased images could provide. Where the view
relabels, the labels to learn are the annotator's; the evaluation is by true labels. A figure is one of
`fairness.summaries`, over the two groups of the attribute's contrast, with N_BOOTSTRAP replicates over test subjects
that are the same for every cell of one test split, so that cells are compared replicate by replicate.
"""

import ast
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import torch
from datasets import Dataset, load_dataset

from ...domains.findings import choose_finding
from ...domains.imagefolder import ImageFolder
from ...domains.images import to_batch
from ...domains.preset import Preset
from ...domains.readers import DataSetFolder
from ...domains.registry import open_images
from ...errors import InputError
from ...measure.intervals import mean_of, resample
from ...records import fingerprint, row_generator
from ...schema import Schema
from ...views.builder import access_of, read_record
from ...views.grammar import groups_of
from ...views.view import COMPARE, BiasedView
from ..interface import TrainableClassifier
from ..labelled import LabelledImages
from ..mitigation import METHODS
from ..mitigation.attention_alignment import changed_pixels
from ..mitigation.method import Annotation, Method
from ..rates import METRICS, check_scores, rates
from ..summaries import EQUALIZED_ODDS, SUMMARIES, summarise

__all__ = [
    "CELL_VERSION",
    "FIGURES",
    "HELD_OUT",
    "N_BOOTSTRAP",
    "DataSet",
    "Evaluation",
    "ExternalSet",
    "Parts",
    "UnsupportedView",
    "figures",
    "fit_cell",
    "method_identity",
    "parts_of",
]

CELL_VERSION = 1
"""Version of what the cells of all methods share: the rows of a fit, the classifier and its training, the figures.

Raise it by one whenever a change moves figures of `erm`: every cell is then fitted anew. Where a change moves the
figures of one method alone, raise its `Method.version`.
"""

_FIRST = {
    "erm": "2a47e78e5db6009e",
    "resampling": "a7833d31cc2541a1",
    "reweighting": "8f7eb945ca13cb3f",
    "group_dro": "beda66b96610d753",
    "jtt": "472d8e197f424631",
    "last_layer_retraining": "abf6d8ebb9390552",
    "domain_adversarial": "1ff089e3f4b88939",
    "threshold_postprocessing": "62b261dcc3e35aba",
    "balanced_synthetic": "70ca9ba2eab7cdca",
    "counterfactual_augmentation": "b949555c2f50cc78",
    "pair_consistency": "b949555c2f50cc78",
    "selective_finetuning": "c5c64b72db3d5d1f",
    "attention_alignment": "2a47e78e5db6009e",
}
"""Version 1 of each method under version 1 of cells: the hash of source text that stood in records before versions were
declared, so that benchmarks of that time continue. Where two are equal, recipes differ by the method's name."""

N_BOOTSTRAP = 200
"""Bootstrap replicates over test subjects of every figure."""

HELD_OUT = 5
"""One in so many subjects of train is validation, on which the weights are selected."""

GAPS = (
    "worst_group_accuracy",
    "auc_gap",
    "equal_opportunity_difference",
    *EQUALIZED_ODDS,
    "equity_scaled_auc",
    "ece_gap",
    "underdiagnosis_rate_gap",
)
FIGURES = ("auc", *GAPS, "flip_rate")
"""Figures of a cell: of all rows, over the groups, and under do(attribute)."""

_BLOCK = 20  # replicates at once


class UnsupportedView(InputError):
    """A method cannot be fitted on a view, which is a result; any other InputError would be one of every cell."""


class DataSet:
    """A data set that `synthfair generate` wrote, as cells read it.

    Args:
        data_dir: its directory.
        finding: the covariate to classify; by default the only finding, or the only one that families cross.

    Attributes:
        data_dir: its directory.
        identity: hash of its stored bytes.
        preset: its domain.
        world: the world that its images were drawn from, or None.
        generator: the revision of the generator that made its images, None where a world did.
        finding: the covariate to classify.
        resolution: height and width of the images in pixels.

    Raises:
        InputError: the directory holds no finished data set, or its domain has no such finding with a contrast, or
            several and none is named.
    """

    def __init__(self, data_dir: str | Path, finding: str | None = None) -> None:
        record, self.preset = read_record(str(data_dir))
        self.data_dir, self.identity = str(data_dir), str(record.counts.get("store"))
        self.finding = choose_finding(self.preset, finding, self.preset.factors)
        self.access = access_of(record)
        self.world = record.settings.get("world")
        self.generator = None if self.world else record.settings["model_revision"]
        self.resolution = int(record.settings["resolution"])
        self.rows = lru_cache(maxsize=4)(self._rows)

    def planted(self, view: BiasedView) -> tuple[str, ...]:
        """The attributes that a view trades, other than the finding."""
        return tuple(name for name in view.attributes if name != self.finding)

    @cached_property
    def subjects(self) -> np.ndarray:
        """Subjects of train, by stratum and then draw."""
        columns = ["subject_id", "draw", *self.preset.strata]
        rows = self._open("full", "train").select_columns(columns).to_pandas().drop_duplicates("subject_id")
        sides = [_side(rows[name].to_numpy(), name, self.preset) for name in self.preset.strata]
        return rows["subject_id"].to_numpy().astype(str)[np.lexsort((rows["draw"], *sides))]

    def _open(self, view: str, split: str) -> Dataset:
        return load_dataset("synthfair", view, data_dir=self.data_dir, split=split)

    def _rows(self, view: str, split: str, planted: tuple[str, ...], label: str | None = None) -> "Rows":
        """The rows of a view that are in one of the contrast's two groups of the finding and of each planted."""
        rows = self._open(view, split)
        sides = [_side(np.array(rows[name][:], dtype=float), name, self.preset) for name in (self.finding, *planted)]
        rows = rows.select(np.flatnonzero(np.min(sides, axis=0) >= 0))
        examples = LabelledImages.from_dataset(rows, self.preset, planted, self.finding, label)
        return Rows(examples, np.asarray(rows["id"][:], dtype=str))


class Rows(NamedTuple):
    """Labelled images `[n]` and the identifiers `[n]` of their rows."""

    examples: LabelledImages
    ids: np.ndarray


class ExternalSet:
    """A folder of real images with metadata.csv, all of whose rows are test rows; patients are resampled as a whole.

    Args:
        directory: the folder.
        data: the data set whose preset and resolution the images are read in.
        planted: attributes that views of the benchmark plant, which metadata.csv must have.

    Raises:
        InputError: the folder cannot be read, or a column or a side of the finding is missing.
    """

    def __init__(self, directory: str | Path | DataSetFolder, data: DataSet, planted: Sequence[str]) -> None:

        def check(source: ImageFolder) -> None:
            for name in (data.finding, *planted):
                if name in source.counts.get("not read", {}):
                    raise InputError(
                        f"external: {directory} has {source.counts['not read'][name]} of {name}; add some."
                    )
                if name not in source.table:
                    raise InputError(f"external: {directory} has no column {name!r}; add it to metadata.csv.")
            contrast, found = data.preset.contrasts[data.finding], source.table[data.finding]
            for side in (contrast.first, contrast.second):
                if side not in found:
                    raise InputError(
                        f"external: {directory} has no image of {data.finding} {side}, so no classifier can be judged "
                        "on it; add some."
                    )

        self.source, self.data = open_images(directory, _needing(data), data.resolution, check), data
        check(self.source)
        self.examples = lru_cache(maxsize=4)(self._examples)

    def _examples(self, planted: tuple[str, ...]) -> LabelledImages:
        """The images in one of the contrast's two groups of the finding and of each planted."""
        preset, finding = self.data.preset, self.data.finding
        names = (finding, *planted)
        encoded = {name: preset.covariates[name].encode(self.source.table[name]) for name in names}
        sides = {name: _side(np.asarray(encoded[name], dtype=float), name, preset) for name in names}
        kept = np.flatnonzero(np.min(list(sides.values()), axis=0) >= 0)
        if not len(kept):
            raise InputError(f"external: no image is in a group of the contrasts of {', '.join(names)}; give others.")
        pixels = to_batch([self.source.image(int(row), self.data.resolution) for row in kept])
        return LabelledImages(
            torch.from_numpy(np.rint(pixels * 255).astype(np.uint8)),
            torch.from_numpy((sides[finding][kept] == 0).astype(np.int64)),
            {name: torch.from_numpy(_code(sides[name][kept], name, preset)) for name in planted},
            {name: _levels(name, preset) for name in planted},
            np.array(self.source.patient_ids)[kept],
        )


def _needing(data: DataSet) -> Preset:
    """The preset, with the finding read wherever it has images: what is not in train can be judged."""
    variables = [
        one.model_copy(update={"optional": False}) if one.name == data.finding else one
        for one in data.preset.covariates.walk()
    ]
    return data.preset.model_copy(update={"covariates": Schema(variables=tuple(variables))})


def _side(values: np.ndarray, name: str, preset: Preset) -> np.ndarray:
    """0 in the first group of a contrast, 1 in the second, -1 in neither, of encoded values `[n]`."""
    first, second = (COMPARE[operator](values, value) for _, operator, value in _clauses(name, preset))
    return np.select([first, second], [0, 1], default=-1)


def _clauses(name: str, preset: Preset) -> Iterator[tuple[str, str, Any]]:
    return (group.clause for group in groups_of(name, preset))


def _levels(name: str, preset: Preset) -> tuple[str, ...]:
    """Names of the groups as LabelledImages has them."""
    contrast = preset.contrasts[name]
    return preset.covariates[name].levels or (contrast.first, contrast.second)


def _code(sides: np.ndarray, name: str, preset: Preset) -> np.ndarray:
    """The contrast's sides `[n]` as codes into the groups of LabelledImages."""
    contrast, levels = preset.contrasts[name], _levels(name, preset)
    return np.array([levels.index(contrast.first), levels.index(contrast.second)])[sides]


class Evaluation(NamedTuple):
    """The evaluation of a cell on one set of rows.

    Attributes:
        figures: by figure its `value` and its bootstrap replicates, `draws` as records have it; None where undefined.
        counts: numbers of rows, positives and subjects.
    """

    figures: dict[str, dict[str, Any]]
    counts: dict[str, int]


class Parts(NamedTuple):
    """The rows of a fit: train, validation to select the weights on, and synthetic rows if the method requires them."""

    train: LabelledImages
    validation: LabelledImages
    synthetic: LabelledImages | None


def parts_of(
    data: DataSet, view: BiasedView, required_annotations: Sequence[Annotation], seed: int, subjects: int
) -> Parts:
    """The rows of a fit on a view.

    Args:
        data: the data set.
        view: the view that train and validation are rows of.
        required_annotations: of the method; synthetic rows and masks are made only if they are among these.
        seed: decides which fifth of the subjects is validation.
        subjects: number of subjects of train that are used, validation included.

    Returns:
        The rows; train and validation have masks if these are required.
    """
    planted, label = data.planted(view), view.label.column if view.label else None
    kept = data.rows(view.name, "train", planted, label)
    used = data.subjects[(2 * np.arange(subjects) + 1) * len(data.subjects) // (2 * subjects)]
    held = used[np.arange(subjects) % HELD_OUT == seed % HELD_OUT]
    in_validation = np.isin(kept.examples.subjects, held)
    in_train = np.isin(kept.examples.subjects, used) & ~in_validation
    synthetic = None
    if "synthetic images" in required_annotations:
        full = data.rows("full", "train", planted)
        synthetic = full.examples.select(
            ~np.isin(full.examples.subjects, held) & ~np.isin(full.ids, kept.ids[in_train])
        )
    examples = kept.examples
    if "training masks" in required_annotations:
        examples = replace(examples, masks=_regions(kept, data.rows("full", "train", planted), data.finding))
    return Parts(examples.select(in_train), examples.select(in_validation), synthetic)


def _regions(rows: Rows, full: Rows, finding: str) -> torch.Tensor:
    """Masks of rows of the full data set; empty without the finding, or without a counterfactual that lacks it."""
    masks = torch.zeros(rows.examples.images.shape, dtype=torch.bool)
    if finding not in full.examples.pairs:
        return masks
    labels, keys = full.examples.labels.tolist(), full.examples.pairs[finding].tolist()
    absent = {key: place for place, (key, label) in enumerate(zip(keys, labels, strict=True)) if label == 0}
    place_of = {row: place for place, row in enumerate(full.ids.tolist())}
    pairs = [(row, place_of[own]) for row, own in enumerate(rows.ids.tolist())]
    marked = [(row, place, absent[keys[place]]) for row, place in pairs if labels[place] and keys[place] in absent]
    if marked:
        own, present, other = torch.tensor(marked).T
        masks[own] = changed_pixels(full.examples.images[present], full.examples.images[other])
    return masks


def fit_cell(
    data: DataSet,
    view: BiasedView,
    attribute: str,
    method: Method,
    seed: int,
    subjects: int,
    external: ExternalSet | None = None,
    classifier: TrainableClassifier | None = None,
) -> tuple[dict[str, Evaluation], dict[str, Any]]:
    """Fit a method on a view and evaluate it.

    Args:
        data: the data set.
        view: the view to fit on.
        attribute: the attribute whose groups are compared.
        method: a method that is not fitted yet.
        seed: seed of the fit and of the validation fold.
        subjects: number of subjects of train that are used, validation included.
        external: real images to evaluate on as well.
        classifier: what the fit starts from; by default a new `ImageClassifier`.

    Returns:
        Evaluations by set, `test` and `external`, and the numbers of rows and seconds of the fit.

    Raises:
        UnsupportedView: the method cannot be fitted on the view.
    """
    planted = data.planted(view)
    train, validation, synthetic = parts_of(data, view, method.required_annotations, seed, subjects)
    sets = {"test": data.rows("full", "test", planted).examples}
    if external is not None:
        sets["external"] = external.examples(planted)
    started = time.perf_counter()
    try:
        method.fit(train, validation, seed, synthetic, classifier)
        seconds = time.perf_counter() - started
        scores = {name: method.predict_proba(one.images, one.groups) for name, one in sets.items()}
    except InputError as error:
        raise UnsupportedView(str(error)) from None
    evaluated = {name: figures(scores[name], one, attribute, data.preset) for name, one in sets.items()}
    rows = {"train": len(train), "validation": len(validation), "synthetic": len(synthetic or ())}
    return evaluated, {"rows": rows, "seconds": round(seconds, 2)}


def figures(
    scores: np.ndarray,
    examples: LabelledImages,
    attribute: str,
    preset: Preset,
    n_bootstrap: int = N_BOOTSTRAP,
    gaps: Sequence[str] = GAPS,
) -> Evaluation:
    """FIGURES of a classifier's scores, each with its bootstrap replicates over subjects.

    Sets of the same subjects have the same replicates. The flip rate is that of `fairness.flips`, and undefined where
    families do not cross the attribute.

    Args:
        scores: `[n]` in [0, 1].
        examples: the rows that were scored.
        attribute: the attribute whose groups are compared.
        preset: the domain, whose contrast of the attribute defines the two groups.
        n_bootstrap: number of bootstrap replicates.
        gaps: names in SUMMARIES, which stand between the AUC of all rows and the flip rate.

    Returns:
        The figures, and the sizes of the set.
    """
    score = check_scores(scores)
    labels, codes = examples.labels.numpy(), examples.groups[attribute].numpy()
    names, members = np.unique(examples.subjects, return_inverse=True)
    masks = [np.ones(len(score), dtype=bool), *(codes == code for code in _code(np.array([0, 1]), attribute, preset))]
    parts = [rates(score[mask], labels[mask], members[mask]) for mask in masks]
    flipped = _flips(score, examples, attribute, members)

    def metrics(weights: np.ndarray) -> np.ndarray:
        return np.stack([part(weights) for part in parts], axis=1)

    everyone = np.ones((1, len(names)))
    point = metrics(everyone)

    def evaluate(weights: np.ndarray) -> np.ndarray:
        values = metrics(weights)
        over = [summarise(SUMMARIES[name], values, point)[0] for name in gaps]
        return np.stack([values[:, 0, list(METRICS).index("auc")], *over, flipped(weights)], axis=1)

    rng = row_generator(0)
    sizes = [min(_BLOCK, n_bootstrap - first) for first in range(0, n_bootstrap, _BLOCK)]
    drawn = np.concatenate([resample(rng, size, len(names), evaluate) for size in sizes])
    found = {
        name: {"value": _plain(value), "draws": [_plain(one) for one in column]}
        for name, value, column in zip(("auc", *gaps, "flip_rate"), evaluate(everyone)[0], drawn.T, strict=True)
    }
    return Evaluation(found, {"rows": len(score), "positives": int(labels.sum()), "subjects": len(names)})


def _flips(score: np.ndarray, examples: LabelledImages, attribute: str, members: np.ndarray) -> Any:
    """The share of pairs on different sides of 1/2, from weights of subjects `[replicates, subjects]`."""
    if attribute not in examples.pairs:
        return lambda weights: np.full(len(weights), np.nan)
    rows = pandas.DataFrame({"pair": examples.pairs[attribute], "subject": members, "above": score >= 0.5})
    pairs = rows.groupby("pair").agg(subject=("subject", "first"), above=("above", "sum"), rows=("above", "size"))
    pairs = pairs[pairs["rows"] == 2]
    share, subject = mean_of((pairs["above"] == 1).to_numpy(dtype=float)), pairs["subject"].to_numpy()
    return lambda weights: share(weights[:, subject])


def _plain(value: float) -> float | None:
    """A number rounded to six digits, None for NaN, as records hold it."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def method_identity(method: type[Method]) -> str:
    """Identity of what decides a method's figures: the declared versions of cells, of the method and of its bases.

    A class that is not in METHODS, as of a submitted file, is identified by the statements of its file as well, without
    comments and docstrings. What such a file imports, other than bases of the class, is covered by its `version` alone.
    """
    versions = [kind.version for kind in method.__mro__ if issubclass(kind, Method)]
    name = next((name for name, kind in METHODS.items() if kind is method), None)
    if name in _FIRST and {CELL_VERSION, *versions} == {1}:
        return _FIRST[name]
    if name is None:
        name = _statements(Path(str(sys.modules[method.__module__].__file__)))
    return f"cells {CELL_VERSION}, {name} {'.'.join(map(str, versions))}"


def _statements(path: Path) -> str:
    """Hash of the syntax tree of a Python file without comments, docstrings and layout."""
    return fingerprint(ast.unparse(_WithoutDocstrings().visit(ast.parse(path.read_bytes()))))


class _WithoutDocstrings(ast.NodeTransformer):
    """Drops strings that are statements, which have no effect."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node
