"""The figures of a leaderboard and of an audit, read from their records, as tables with intervals."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas

from ...errors import InputError
from ...records import Record, check_regular
from ..pages import render

__all__ = ["Audit", "Leaderboard"]

COLUMNS = ("view", "twin", "attribute", "set", "fitted_on", "method", "metric", "mean", "low", "high", "n")

OVERVIEW = "equal_opportunity_difference"
"""The gap that is shown first, as on the leaderboard's page."""

ABBREVIATED = ("auc", "tpr", "fpr", "ppv", "ece")


class Leaderboard:
    """benchmark.json and figures.csv of a benchmark.

    Args:
        directory: that `synthfair benchmark` wrote.

    Attributes:
        choices: of view, set and metric: texts with their values.

    Raises:
        InputError: one of them is missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.record = Record.read(directory / "benchmark.json")
        path = directory / "figures.csv"
        check_regular(path, str(path), "run the benchmark again, which prints it from its cells")
        try:
            self.figures = pandas.read_csv(io.BytesIO(path.read_bytes()))[list(COLUMNS)]
        except (FileNotFoundError, KeyError, ValueError):
            raise InputError(
                f"leaderboard: {path} is no table of figures; run the benchmark again, which prints it from its cells."
            ) from None
        found = {name: list(dict.fromkeys(self.figures[name].astype(str))) for name in ("view", "set", "metric")}
        found["metric"].sort(key=lambda name: name != OVERVIEW)
        self.choices = {
            name: [(_words(one) if name == "metric" else one, one) for one in values] for name, values in found.items()
        }

    def page(self, view: str, rows: str, metric: str) -> str:
        """One metric of every method on a view and on its twin, as HTML.

        Args:
            view: its name.
            rows: the set on which it was measured, `test` or `external`.
            metric: its name.
        """
        chosen = self.figures[
            (self.figures["view"] == view) & (self.figures["set"] == rows) & (self.figures["metric"] == metric)
        ]
        lines: dict[str, dict[str, Any]] = {}
        for row in _rows(chosen):
            lines.setdefault(row["method"], {})[row["fitted_on"]] = row
        first = next(iter(_rows(chosen)), {"twin": "", "attribute": ""})
        return render(
            "explorer_leaderboard.html.jinja",
            view=view,
            twin=first["twin"],
            attribute=first["attribute"],
            rows=rows,
            metric=_words(metric),
            lines=lines,
            settings=self.record.settings,
        )


class Audit:
    """audit.json of an audit.

    Args:
        directory: that `synthfair audit` wrote.

    Raises:
        InputError: it is missing, damaged, or not the record of an audit.
    """

    def __init__(self, directory: Path) -> None:
        self.record = Record.read(directory / "audit.json")
        measured = self.record.measured
        try:
            self.groups, self.gaps = (pandas.DataFrame(measured[name]) for name in ("groups", "gaps"))
            self.attributes = [str(name) for name in dict.fromkeys(self.gaps["attribute"])]
            findings: Iterable[Any] = self.gaps.get("finding", [])
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"audit: {directory / 'audit.json'} is not the record of an audit; give a directory that "
                "`synthfair audit` wrote."
            ) from None
        self.findings = [str(name) for name in dict.fromkeys(findings)]

    def page(self, attribute: str, finding: str | None) -> str:
        """The metrics of each group of an attribute and their differences, as HTML.

        Args:
            attribute: its name.
            finding: of several, its name.
        """

        def of(table: pandas.DataFrame, *attributes: str) -> list[dict[str, Any]]:
            kept = table["attribute"].isin(attributes)
            return _rows(table[kept & (table["finding"] == finding)] if self.findings else table[kept])

        groups: dict[str, dict[str, Any]] = {}
        for row in of(self.groups, "everyone", attribute):
            one = groups.setdefault(row["group"], {"n": row["n"], "positives": row["positives"], "metrics": {}})
            one["metrics"][row["metric"]] = row
        return render(
            "explorer_audit.html.jinja",
            attribute=attribute,
            settings=self.record.settings,
            conditions=self.record.measured["conditions"],
            gaps=[{**row, "metric": _words(row["metric"])} for row in of(self.gaps, attribute)],
            groups=groups,
            metrics={one: _words(one) for group in groups.values() for one in group["metrics"]},
        )


def _rows(table: pandas.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table, None for what is undefined."""
    return [
        {str(name): None if pandas.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _words(metric: str) -> str:
    """A metric's name as text: `worst group accuracy`, `AUC gap`."""
    return " ".join(word.upper() if word in ABBREVIATED else word for word in metric.split("_"))
