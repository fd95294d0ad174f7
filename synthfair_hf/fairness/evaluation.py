"""A saved classifier on a data set of this package: its audit, with the flips of counterfactuals, and its detection.

EvaluationRows          rows of a view, with the classifier's finding present or absent, and the groups of each
audit_classifier        DIR/predictions.csv, and what `audit_page` writes beside it
detect_classifier       the table and verdict of one detector, as a record
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from datasets import Dataset, load_dataset

from ..access import recorded_access
from ..arguments import Fraction, PositiveFraction, Replicates, Seed, checked
from ..causal.scm import StructuralCausalModel
from ..domains.findings import choose_finding
from ..errors import InputError, unknown
from ..records import Record, check_new_files, file_sha256, library_versions, strictest, writable_directory
from ..views.builder import access_of, read_record
from .audit_page import Audited, parse_conditions, write_audit
from .conditions import Outcome
from .detection import ALPHA, Detection, Scores, check_detection, detect
from .detectors import OF_FEATURES
from .flips import flip_rates
from .influence import causal_influence, check_causal_model, open_causal_model
from .interface import weights_hash
from .labelled import LabelledImages, crossed_factors, group_codes_of
from .mitigation.method import probabilities
from .predictions import read_predictions
from .pretrained import open_classifier

__all__ = ["EvaluationRows", "audit_classifier", "detect_classifier"]

ID, SUBJECT, SCORE = "id", "subject_id", "score"
"""Columns of predictions.csv, beside the finding and the groups."""


class EvaluationRows:
    """Rows of one split of a view that have the finding or lack it.

    Args:
        data_dir: a directory that `synthfair generate` wrote.
        view: the view.
        split: of the view.
        finding: the covariate that is classified; by default the only one, or the only one that families cross.

    Attributes:
        dataset: the rows.
        preset: the domain.
        finding: the covariate that is classified.
        identity: hash of the data set's bytes.
        access: to the real images behind it.

    Raises:
        InputError: there is no such data set, view, split or finding.
    """

    def __init__(self, data_dir: str | Path, view: str, split: str, finding: str | None) -> None:
        record, self.preset = read_record(str(data_dir))
        self.finding = choose_finding(self.preset, finding, self.preset.factors)
        self.identity, self.access = str(record.counts.get("store")), access_of(record)
        if split not in ("train", "validation", "test"):
            raise unknown("split", split, ("train", "validation", "test"))
        rows = load_dataset("synthfair", view, data_dir=str(data_dir), split=split)
        contrast, levels = self.preset.contrasts[self.finding], self.preset.covariates[self.finding].levels
        sides = [levels.index(contrast.first), levels.index(contrast.second)]
        self.dataset: Dataset = rows.select(np.flatnonzero(np.isin(np.array(rows[self.finding][:], float), sides)))
        if not len(self.dataset):
            raise InputError(
                f"view: {view!r} has no row of {split} with {self.finding} {contrast.first} or {contrast.second}; give "
                "another view or split."
            )

    def check(self, argument: str, attributes: Sequence[str]) -> None:
        """Raise InputError where an attribute is no covariate with groups, or the finding itself."""
        for name in attributes:
            allowed = [
                one.name for one in self.preset.covariates.walk() if one.levels or one.name in self.preset.contrasts
            ]
            allowed = [one for one in allowed if one != self.finding and one in self.dataset.column_names]
            if name not in allowed:
                raise unknown(argument, name, allowed)

    def examples(self, attributes: Sequence[str] = ()) -> LabelledImages:
        """The rows in memory, with the groups of these attributes."""
        return LabelledImages.from_dataset(self.dataset, self.preset, attributes, self.finding)

    def known(self, attributes: Sequence[str]) -> np.ndarray:
        """Which rows have a value of all of these attributes, bool `[n]`."""
        codes = [group_codes_of(self.dataset, name, self.preset)[0] for name in attributes]
        return np.min([np.ones(len(self.dataset)), *(one >= 0 for one in codes)], axis=0).astype(bool)

    def names(self, attribute: str) -> list[str | None]:
        """The group of each row by its name, None where unknown."""
        codes, levels = group_codes_of(self.dataset, attribute, self.preset)
        return [None if code < 0 else levels[code] for code in codes]

    def flips(
        self,
        scores: np.ndarray,
        attributes: Sequence[str],
        intersections: Sequence[Sequence[str]] = (),
        groups: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> dict[str, pandas.DataFrame]:
        """Flip rates of scores `[n]` (`flips.flip_rates`), of attributes that families cross.

        Args:
            scores: of the rows.
            attributes: those that are intervened on.
            intersections: of attributes: of each the joint intervention, where families cross all of them, and that on
                each of them within the groups of the others.
            groups: by attribute, a categorical `[n]` of its groups, for intersections.
            settings: of `flips.flip_rates`.

        Returns:
            Tables by names such as "sex", "sex & age" (joint) and "sex within age".
        """
        rows = pandas.DataFrame({name: self._values(name) for name in crossed_factors(self.dataset)}, dtype=object)
        subjects = np.asarray(self.dataset[SUBJECT][:])
        # what families hold fixed is named beside what they cross
        rows = rows[[name for name in rows if (rows[name].groupby(subjects).nunique(dropna=False) > 1).any()]]
        known = rows.notna().all(axis=1).to_numpy()
        factors = {str(name): rows[name][known].tolist() for name in rows}

        def rates(attribute: str | Sequence[str], **within: Any) -> pandas.DataFrame:
            columns: dict[str, Any] = {
                "scores": scores[known],
                "subjects": subjects[known].tolist(),
                "factors": factors,
            }
            return flip_rates(**columns, attribute=attribute, **settings, **within)

        found = {name: rates(name) for name in attributes if name in factors}
        for names in intersections:
            if all(name in factors for name in names):
                found[" & ".join(names)] = rates(names)
            for name in names:
                others = {other: (groups or {})[other][known] for other in names if other != name}
                if name in factors:
                    found[f"{name} within {' & '.join(others)}"] = rates(name, within=others)
        return found

    def influence(self, scores: np.ndarray, model: StructuralCausalModel, **settings: Any) -> pandas.DataFrame:
        """The shares of scores `[n]` that are owed to each covariate (`influence.causal_influence`)."""
        covariates = {name: self.dataset[name][:] for name in model.covariates.names}
        subjects = self.dataset[SUBJECT][:]
        return causal_influence(scores, covariates, model, subjects, **settings)  # type: ignore[arg-type]

    def check_model(self, model: StructuralCausalModel) -> None:
        """Raise InputError where a causal model is not of the covariates of the rows."""
        check_causal_model(model.covariates, "causal_model")
        for one in model.covariates.walk():
            known = one.name in self.preset.covariates and one.name in self.dataset.column_names
            if not known or self.preset.covariates[one.name].levels != one.levels:
                raise InputError(
                    f"causal_model: its {one.name} is no covariate of this data set; give that of the generator that "
                    "made the data set, or of another of its domain."
                )

    def _values(self, name: str) -> list[Any]:
        """A column with the names of its levels, None where unknown."""
        levels, values = self.preset.covariates[name].levels, self.dataset[name][:]
        return [None if value in (None, -1) else levels[value] for value in values] if levels else list(values)

    def predictions(self, scores: np.ndarray, groups: Sequence[str], numbers: Sequence[str]) -> pandas.DataFrame:
        """The table of predictions: a line per row, with the groups by name, and as they are for some numbers."""
        levels, contrast = self.preset.covariates[self.finding].levels, self.preset.contrasts[self.finding]
        present = np.array(self.dataset[self.finding][:]) == levels.index(contrast.first)
        columns = {ID: self.dataset[ID][:], SUBJECT: self.dataset[SUBJECT][:], self.finding: present.astype(int)}
        own = {name: self.dataset[name][:] if name in numbers else self.names(name) for name in groups}
        return pandas.DataFrame({**columns, SCORE: scores, **own})


@checked
def audit_classifier(
    classifier: str | Path,
    data_dir: str | Path,
    groups: Sequence[str],
    output_dir: str | Path,
    finding: str | None = None,
    view: str = "full",
    split: str = "test",
    label: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    intersections: Sequence[Sequence[str]] = (),
    fail_if: Sequence[str] = (),
    threshold: Fraction = 0.5,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    permutations: Replicates = 1000,
    max_fpr: PositiveFraction | None = None,
    causal_model: str | Path | None = None,
) -> tuple[Record, list[Outcome]]:
    """Audit a saved classifier on a data set, and write its predictions, page, tables and record.

    Args:
        classifier: a directory or Hub repository (`pretrained.open_classifier`).
        data_dir: a directory that `synthfair generate` wrote.
        groups: covariates to compare; those that families cross are also intervened on.
        output_dir: where the files are written.
        finding: the covariate that the classifier predicts; by default the only one, or the only one that families
            cross.
        view: the view whose rows are scored.
        split: of the view.
        label: which of the classifier's labels is the finding; needed where it has more than two.
        bins: by attribute, the numbers at which groups begin; by default those of the domain's contrast.
        intersections: attributes whose intersections are groups too, intervened on together, and each within the
            groups of the others.
        fail_if: conditions on the figures, of `conditions`.
        threshold: scores at or above it are predicted present.
        seed: of bootstrap and permutations.
        n_bootstrap: bootstrap replicates, from 1.
        permutations: of the tests; 0 leaves them out.
        max_fpr: the false positive rate, in (0, 1], to which a partial AUC is audited too; none by default.
        causal_model: directory of a generator, by whose causal model the share of the predictions that is owed to each
            covariate is told too, with intervals of at most 200 bootstrap replicates; not told by default.

    Returns:
        The record, as written, and each condition's outcome.

    Raises:
        InputError: an argument is invalid, before anything is written.
    """
    directory = writable_directory(output_dir)
    rows = EvaluationRows(data_dir, view, split, finding)
    rows.check("groups", groups)
    conditions = parse_conditions(fail_if, groups, intersections, max_fpr, [rows.finding])
    bins = dict(bins or {})
    for name in bins:
        if name in groups and rows.preset.covariates[name].categorical:
            raise InputError(f"bins[{name!r}]: {name} is no number; leave its bins out.")
    model = None if causal_model is None else open_causal_model(causal_model)
    inputs: dict[str, Any] = {}
    accesses = [rows.access]
    if model is not None and causal_model is not None:
        rows.check_model(model)
        inputs["causal_model"] = weights_hash(model)
        accesses.append(recorded_access(Path(causal_model)))
    opened = open_classifier(classifier, label)
    scores = probabilities(opened.logits(rows.examples().images))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "predictions.csv"
        rows.predictions(scores, groups, list(bins)).to_csv(path, index=False)
        read = read_predictions(path, rows.finding, SCORE, groups, SUBJECT, bins=bins)
        data, digest = path.read_bytes(), file_sha256(path)[:16]
    audited = Audited(
        Path(classifier).name,
        {rows.finding: read},
        {"label": rows.finding, "score": SCORE, "groups": list(groups), "subject": SUBJECT},
        {
            "view": view,
            "split": split,
            **({"bins": {name: list(edges) for name, edges in bins.items()}} if bins else {}),
        },
        {
            "predictions": digest,
            "classifier": opened.fingerprint,
            "data_set": rows.identity,
            "access": strictest(*accesses, opened.access),
            **inputs,
        },
        rows.flips(scores, groups, intersections, read.groups, threshold=threshold, seed=seed, n_bootstrap=n_bootstrap),
        {"predictions.csv": data},
        None if model is None else rows.influence(scores, model, seed=seed, n_bootstrap=min(n_bootstrap, 200)),
    )
    return write_audit(
        directory, audited, conditions, threshold, intersections, seed, n_bootstrap, permutations, max_fpr
    )


@checked
def detect_classifier(
    classifier: str | Path,
    data_dir: str | Path,
    attributes: Sequence[str],
    detector: str = "counterfactual",
    finding: str | None = None,
    view: str = "full",
    split: str = "test",
    label: str | None = None,
    seed: Seed = 0,
    alpha: float = ALPHA,
    permutations: Replicates = 999,
    output_file: str | Path | None = None,
) -> tuple[Record, Detection]:
    """Test which attributes the scores of a saved classifier depend on.

    Rows without a value of an attribute are left out, and counted.

    Args:
        classifier: a directory or Hub repository (`pretrained.open_classifier`).
        data_dir: a directory that `synthfair generate` wrote.
        attributes: covariates to test.
        detector: a name in `detectors.DETECTORS`.
        finding: the covariate that the classifier predicts; by default the only one, or the only one that families
            cross.
        view: the view whose rows are scored.
        split: of the view.
        label: which of the classifier's labels is the finding; needed where it has more than two.
        seed: of the permutations.
        alpha: significance level of the verdict, in (0, 1).
        permutations: number of permutations.
        output_file: where the record is written as JSON; nowhere by default.

    Returns:
        The record, and the detection in it.

    Raises:
        InputError: an argument is invalid, before anything is written.
    """
    check_detection(attributes, detector, alpha, permutations)
    if output_file is not None:
        check_new_files("output_file", Path(output_file))
    rows = EvaluationRows(data_dir, view, split, finding)
    rows.check("attributes", attributes)
    opened = open_classifier(classifier, label)
    known = rows.known(attributes)
    if not known.any():
        raise InputError(f"attributes: no row of {view!r} has a value of all of them; give others, or fewer.")
    left_out = int((~known).sum())
    rows.dataset = rows.dataset.select(np.flatnonzero(known))
    examples = rows.examples(attributes)
    scores = Scores.of(opened, examples, detector in OF_FEATURES)
    found = detect(scores, examples, attributes, detector, seed, alpha, permutations)
    record = Record(
        stage="detection",
        inputs={
            "classifier": opened.fingerprint,
            "data_set": rows.identity,
            "access": strictest(rows.access, opened.access),
        },
        settings={"view": view, "split": split, "finding": rows.finding},
        versions=library_versions(),
        counts={"rows": len(examples), "left_out": left_out, "subjects": len(np.unique(examples.subjects))},
        measured=found.to_record(),
    )
    if output_file is not None:
        record.write(Path(output_file))
    return record, found
