"""A view of a data set: how many rows it keeps, and its families side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...schema import Variable
from ...views.shares import Train, listed_views
from ...views.view import BiasedView
from ..pages import render
from ..pictures import data_uri
from ..stored import StoredDataSet, value_text

__all__ = ["PER_PAGE", "families_page", "number_of_pages", "views_of"]

PER_PAGE = 3
"""Families that are shown at once."""


def views_of(store: StoredDataSet) -> dict[str, BiasedView]:
    """The views of the data set that its training subjects meet, by name."""
    return {one.name: one for one in listed_views(store.preset, Train.of(store.preset, store.record.settings))}


def number_of_pages(store: StoredDataSet, view: BiasedView, split: str) -> int:
    """Of the families of a view in a split."""
    return -(-len(_subjects(store, view, split)) // PER_PAGE)


def families_page(store: StoredDataSet, view: BiasedView, split: str, page: int) -> str:
    """A page of families as HTML, below the counts of the view.

    Args:
        store: the data set.
        view: of it.
        split: one of its splits.
        page: from 1 to `number_of_pages`.
    """
    kept, own = view.mask(store.columns), store.columns["split"] == split
    subjects = _subjects(store, view, split)
    shown = subjects[(page - 1) * PER_PAGE : page * PER_PAGE]
    rows = [np.flatnonzero(store.columns["subject_id"] == subject).tolist() for subject in shown]
    images = store.images([row for family in rows for row in family]) if rows else {}
    counts = view.counts(store.columns)
    return render(
        "explorer_families.html.jinja",
        view=view,
        split=split,
        rows=int((kept & own).sum()),
        of=int(own.sum()),
        subjects=len(subjects),
        cells=counts,
        total=max(1, sum(counts.values())),
        relabelled={} if view.label is None else view.label.counts(_train(store, kept)),
        families=[
            {"subject": subject, **_family(store, kept, family, images)}
            for subject, family in zip(shown, rows, strict=True)
        ],
    )


def _subjects(store: StoredDataSet, view: BiasedView, split: str) -> Sequence[str]:
    """Subjects with a row of the view in the split, in the order of the files."""
    kept = view.mask(store.columns) & (store.columns["split"] == split)
    return list(dict.fromkeys(store.columns["subject_id"][kept].tolist()))


def _train(store: StoredDataSet, kept: np.ndarray) -> dict[str, np.ndarray]:
    train = kept & (store.columns["split"] == "train")
    return {name: column[train] for name, column in store.columns.items()}


def _family(store: StoredDataSet, kept: np.ndarray, rows: Sequence[int], images: dict[int, bytes]) -> dict[str, Any]:
    """Covariates that all images of a family share, and its images with the others."""
    variables = list(store.preset.covariates.walk())

    def texts(row: int) -> dict[str, str]:
        return {one.name: _text(one, store.columns[one.name][row]) for one in variables if store.tells(one, row)}

    told = {row: texts(row) for row in rows}
    shared = {name for name, text in told[rows[0]].items() if all(told[row].get(name) == text for row in rows)}
    columns = [store.columns[name] for name in store.factors]
    ordered = sorted(rows, key=lambda row: (not store.observed[row], *(column[row] for column in columns)))
    return {
        "shared": [text for name, text in told[rows[0]].items() if name in shared],
        "images": [
            {
                "id": str(store.columns["id"][row]),
                "image": data_uri(images[row]),
                "observed": bool(store.observed[row]),
                "kept": bool(kept[row]),
                "covariates": [text for name, text in told[row].items() if name not in shared],
            }
            for row in ordered
        ],
    }


def _text(variable: Variable, value: float) -> str:
    return value_text(variable, value).replace("_", " ")
