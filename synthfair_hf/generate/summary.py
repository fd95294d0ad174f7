"""What a plan's summary says in a few lines: who is generated, and what of what was asked cannot be had."""

from collections.abc import Mapping
from typing import Any

from ..errors import counted
from .support import FEWEST

__all__ = ["describe_summary"]


def describe_summary(summary: Mapping[str, Any]) -> list[str]:
    """Subjects, images and what is unmet, as lines to print.

    Args:
        summary: as `dataset.generate_dataset` gives it.
    """
    subjects, images, size = sum(summary["subjects"].values()), sum(summary["rows"].values()), summary["family_size"]
    splits = ", ".join(f"{name} {number}" for name, number in summary["subjects"].items())
    # a target gives some subjects a part of the cells
    most = "" if images == subjects * size else "at most "
    lines = [
        f"{counted(subjects, 'subject')} ({splits}), {counted(images, 'image')} in families of {most}{size}: "
        f"{' x '.join(summary['factors'])}"
    ]
    support = summary["support"]
    if support is not None and (outside := len(support["out_of_support"])):
        cells = max(1, len(summary["strata"])) * size
        lines.append(
            f"  out of support: {outside} of {cells} cells ({outside / cells:.0%}), with fewer than {FEWEST} "
            f"observations among {support['observed']}; the generator extrapolates there"
        )
    if unlisted := summary["views_not_listed"]:
        lines.append(f"  not listed: {counted(len(unlisted), 'view')}, whose shares so few subjects cannot give")
    if unreached := summary.get("unreached_rows"):
        lines.append(f"  not reached: {counted(unreached, 'image')} without the attributes that were asked for")
    return lines
