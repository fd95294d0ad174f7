"""The page and picture of `box_alignment.py`, from its record."""

from typing import Any

import pandas
from strengths import figure, picture, strength_table

from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record

GAPS = ("worst_group_accuracy", "equal_opportunity_difference")
FIGURES = ("auc", "out_of_domain_auc", *(f"{gap}_{name}" for name in ("sex", "view") for gap in GAPS))
NUMBERS = ("inside_boxes", "inside_moved_boxes", "inside_changes", "validation_auc")

GAP_OF = {"PA": "view", "view_90_10": "view", "sex_90_10": "sex"}
"""The attribute whose gap a training set is about."""

OUT_OF_DOMAIN = {
    "PA": "test radiographs of view AP",
    "view_90_10": "test radiographs on a planted portable scanner",
    "sex_90_10": "test radiographs on a planted portable scanner",
}
NAMES = {"boxes": "boxes", "moved_boxes": "moved boxes", "changes": "changes", "none": "no alignment"}
LABELS = {
    "inside_boxes": "attention in the boxes",
    "validation_auc": "AUC on validation, as biased",
    "auc": "test AUC",
    "out_of_domain_auc": "out-of-domain AUC",
    "equal_opportunity_difference_sex": "TPR difference, sex",
    "equal_opportunity_difference_view": "TPR difference, view",
}
TITLE = "Attention alignment by strength, mean and 95 % interval; red: chosen on validation, without groups"


INTRODUCTION = """\
# Attention aligned with radiologists' boxes

Printed by `benchmarks/box_alignment.py` from `box_alignment.json`; not typed by hand. A small network learns {finding}
from radiographs of NIH ChestX-ray14 (Wang et al., CVPR 2017; images: NIH Clinical Center) at {resolution} pixels;
{seeds} seeds, {fits} fits. Of radiographs of the package's train patients {learned} have the finding and a box of it.

- *boxes*: attention should lie in what radiologists drew. *moved boxes*: the same boxes anywhere with their centres in
  the lungs. *changes*: the pixels that change most under do({finding} = absent) at guidance {guidance_scale:g}, as many
  as the boxes cover, by {generator}. All are of the same radiographs.
- The penalty holds for rows with the finding and a box. Rows without the finding, and those with it but without a box,
  have cross-entropy alone. *strength*: nats for attention entirely outside of the region; 0 is ERM.
- *validation AUC*: the strength is calibrated on it alone, without groups; **bold** is the calibrated one, the largest
  within a standard error of the best. Validation is as biased as train.
- *gap*: equal opportunity difference (of TPR) at a threshold of .5, over all test radiographs; *worst*: the least
  accuracy over (finding, group). Rows with the finding are repeated in train until they are half of it.
- *in boxes* and so on: share of the attention there, on validation rows with a box.
- Intervals are of 95 %: over seeds for attention and validation AUC, over test patients and seeds for the others;
  differences replicate by replicate under the same seeds. They are not adjusted for their number.

*Out of domain* is not another hospital: the other sources at hand (MHH and Cohen et al., of COVID-19) have no label of
the finding. It is the view for `PA`, a real shift, and a planted scanner, a simulated one, for the others. Of these,
90 % of the rows with the finding and 10 % of those without are AP, or of men; the test radiographs are as they were
found, so that test AUC and gaps are of another distribution than train.
"""

CLAIMS = """\
## What is claimed, and what was found

Aligner ([Luo et al., 2025](https://arxiv.org/abs/2505.10231): a pretrained vision-language model, several hospitals, a
Dice loss on cross-attention; none of these here) reports that attention aligned with regions that experts marked
reduces gaps between groups and raises performance out of domain, and that too much of it costs performance. Shown are
differences from strength 0, by alignment with boxes at the strength in brackets; *yes* and *reverse*: the interval lies
on one side of 0.
"""


def plot(table: pandas.DataFrame) -> bytes:
    """PNG: a row of panels per training set, a line per region."""
    named = table.assign(region=[NAMES[one] for one in table["region"]])
    return picture(named, "training_set", LABELS, TITLE, lines="region")


def page(record: Record, table: pandas.DataFrame) -> str:
    """README.md."""
    settings, counts = record.settings, record.counts
    sets = list(dict.fromkeys(table["training_set"]))
    absent = [text for name, text in NAMES.items() if name not in {"none", *table["region"]}]
    words = {**settings, "fits": counts["fits"], **counts["boxed"], "generator": edition(record.inputs["generator"])}
    lines = [
        INTRODUCTION.format(**words),
        "| training set | train rows (present, with region) | validation rows (with region) | test AUC on | "
        "out-of-domain AUC on | gaps on |",
        "|---" * 6 + "|",
        *(_sizes(name, counts[name]) for name in sets),
        "",
        *([f"Not fitted here: {', '.join(absent)}.", ""] if absent else []),
        "![Strength against attention, AUC and gaps](strengths.png)",
        "",
        CLAIMS,
        f"| claim | {' | '.join(sets)} |",
        "|---" * (1 + len(sets)) + "|",
        *_claims(table, sets),
        "",
        "## Boxes against the others",
        "",
        "Alignment with boxes less the other, means over the strengths above 0.",
        "",
        "| training set | less | test AUC | out-of-domain AUC | worst | gap |",
        "|---" * 6 + "|",
        *(_against(one) for one in record.measured["against"]),
    ]
    for name in sets:
        attribute = GAP_OF[name]
        worst, gap = f"worst_group_accuracy_{attribute}", f"equal_opportunity_difference_{attribute}"
        other = "sex" if attribute == "view" else "view"
        columns = {
            "inside_boxes": "in boxes",
            "inside_moved_boxes": "in moved boxes",
            "inside_changes": "in changes",
            "validation_auc": "validation AUC",
            "auc": "test AUC",
            "auc_difference": "difference",
            "out_of_domain_auc": "out-of-domain AUC",
            "out_of_domain_auc_difference": "difference",
            worst: f"worst, {attribute}",
            f"{worst}_difference": "difference",
            gap: f"gap, {attribute}",
            f"{gap}_difference": "difference",
            f"worst_group_accuracy_{other}": f"worst, {other}",
            f"equal_opportunity_difference_{other}": f"gap, {other}",
        }
        rows = table[table["training_set"] == name]
        named = rows.assign(region=[NAMES[one] for one in rows["region"]])
        lines += ["", f"## {name}", "", *strength_table(named, columns, {"region": "region"})]
    return "\n".join(lines) + "\n"


def _sizes(name: str, counts: dict[str, Any]) -> str:
    test, other, groups = (
        f"{counts[one]['rows']} ({counts[one]['positives']} present, {counts[one]['subjects']} patients)"
        for one in ("test", "out_of_domain", "groups")
    )
    return (
        f"| {name} | {counts['train']:.0f} ({counts['train_present']:.0f}, {counts['train_with_region']:.0f}) | "
        f"{counts['validation']:.0f} ({counts['validation_with_region']:.0f}) | {test} | "
        f"{OUT_OF_DOMAIN[name]}: {other} | {groups} |"
    )


def _claims(table: pandas.DataFrame, sets: list[str]) -> list[str]:
    boxes = table[table["region"] == "boxes"]
    calibrated, largest = boxes[boxes["calibrated"]], boxes[boxes["strength"] == boxes["strength"].max()]
    claims = (
        ("the gap falls, calibrated strength", calibrated, "equal_opportunity_difference_{}", -1),
        ("the worst group gains, calibrated strength", calibrated, "worst_group_accuracy_{}", 1),
        ("out-of-domain AUC rises, calibrated strength", calibrated, "out_of_domain_auc", 1),
        ("too strong costs test AUC, largest strength", largest, "auc", -1),
    )
    lines = []
    for text, rows, name, sign in claims:
        cells = []
        for one in sets:
            row = rows[rows["training_set"] == one].iloc[0]
            found = row[f"{name.format(GAP_OF[one])}_difference"]
            cells.append(f"({row['strength']:g}) {figure(found)}, {_verdict(found, sign)}")
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


def _verdict(found: dict[str, Any], sign: int) -> str:
    """Whether a difference has the sign that is claimed, by its interval."""
    ends = [] if found["mean"] is None else [sign * found["low"], sign * found["high"]]
    if ends and min(ends) > 0:
        return "yes"
    return "reverse" if ends and max(ends) < 0 else "not shown"


def _against(row: dict[str, Any]) -> str:
    attribute = GAP_OF[row["training_set"]]
    shown = (
        *("auc", "out_of_domain_auc"),
        *(f"{gap}_{attribute}" for gap in GAPS),
    )
    return f"| {row['training_set']} | {NAMES[row['region']]} | {' | '.join(figure(row[name]) for name in shown)} |"
