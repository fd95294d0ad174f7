"""Benefits and costs of attention alignment by strength.

    python benchmarks/attention_alignment.py --data_dir DATA --output_dir RUN [--docs_dir docs/attention_alignment]

DATA is what `synthfair generate` wrote. A fit is a view, a strength and a seed; masks are where an image differs from
its counterfactual without the finding. Strength 0 is empirical risk minimisation. Strengths are calibrated without test
split and groups: by the AUC on validation, which is as biased as train. Finished fits are kept in RUN and not fitted
again; several processes may share the fits of RUN by the same command.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import torch
from strengths import figure, finished, picture, rows_by_strength, strength_table

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.cells import DataSet, figures, method_identity, parts_of
from synthfair_hf.fairness.mitigation.attention_alignment import AttentionAlignment, shares_inside
from synthfair_hf.records import Record, library_versions, write_atomically
from synthfair_hf.views.view import get_view

FIGURES = ("auc", "worst_group_accuracy", "equal_opportunity_difference", "flip_rate")
LABELS = {
    "share_inside": "attention inside the region",
    "validation_auc": "AUC on the biased validation",
    "auc": "AUC",
    "worst_group_accuracy": "worst-group accuracy",
    "equal_opportunity_difference": "equal opportunity difference",
    "flip_rate": "flip rate",
}
COLUMNS = {
    "share_inside": "inside",
    "validation_auc": "validation AUC",
    "auc": "AUC",
    "auc_difference": "difference",
    "worst_group_accuracy": "worst-group accuracy",
    "worst_group_accuracy_difference": "difference",
    "equal_opportunity_difference": "equal opportunity difference",
    "equal_opportunity_difference_difference": "difference",
    "flip_rate": "flip rate",
}
TITLE = "Attention alignment by strength, mean and 95 % interval; red: chosen on biased validation"


def planned(data: DataSet, views: Sequence[str], strengths: Sequence[float], seeds: int, subjects: int) -> list[Record]:
    """The fits, one record each without figures."""
    found = []
    for name in views:
        view = get_view(name, data.preset)
        for strength in strengths:
            for seed in range(seeds):
                settings = AttentionAlignment(strength=strength).settings.model_dump(mode="json")
                found.append(
                    Record(
                        stage="attention_alignment",
                        inputs={
                            "data_set": data.identity,
                            "view": view.fingerprint,
                            "code": method_identity(AttentionAlignment),
                        },
                        settings={"view": name, "seed": seed, "train_subjects": subjects, "method": settings},
                        versions=library_versions(),
                    )
                )
    return found


def fitted(data: DataSet, record: Record) -> Record:
    """Fit one classifier, and evaluate it on validation and on the unbiased test split."""
    view, seed = get_view(record.settings["view"], data.preset), record.settings["seed"]
    (attribute,) = data.planted(view)
    method = AttentionAlignment(**record.settings["method"])
    train, validation, _ = parts_of(data, view, method.required_annotations, seed, record.settings["train_subjects"])
    method.fit(train, validation, seed)
    test = data.rows("full", "test", (attribute,)).examples
    evaluation = figures(method.predict_proba(test.images), test, attribute, data.preset)
    inside = shares_inside(method.classifier, validation)
    counts = {"train": len(train), "validation": len(validation), "with_region": len(inside), **evaluation.counts}
    measured = {
        "validation_auc": max(method.curve),
        "share_inside": inside.mean().item(),
        **{name: evaluation.figures[name] for name in FIGURES},
    }
    return record.model_copy(update={"counts": counts, "measured": measured})


def rows_of(records: Sequence[Record]) -> pandas.DataFrame:
    """A line per view and strength: means and intervals over seeds and test subjects; the calibrated one is marked."""
    views = dict.fromkeys(one.settings["view"] for one in records)
    return pandas.DataFrame(
        [
            row
            for view in views
            for row in rows_by_strength(
                [one for one in records if one.settings["view"] == view],
                {"view": view},
                ("share_inside", "validation_auc"),
                FIGURES,
            )
        ]
    )


def page(record: Record, table: pandas.DataFrame) -> str:
    """README.md."""
    lines = [
        "# Attention alignment: how much",
        "",
        "Printed by `benchmarks/attention_alignment.py` from `attention_alignment.json`; not typed by hand. Data set",
        f"`{record.inputs['data_set']}` ({record.settings['preset']}, {record.settings['resolution']} pixels), "
        f"{record.settings['train_subjects']} subjects of train, a fifth of them",
        f"validation; {record.settings['seeds']} seeds; {record.counts['fits']} fits. Evaluated on "
        f"{record.counts['rows']} unbiased test rows of {record.counts['subjects']} subjects.",
        "",
        "- *strength*: the penalty, in nats of cross-entropy, of attention entirely outside the region; 0: ERM.",
        "- *inside*: share of the logit's gradient at the pixels that lies in the region, on validation rows with one.",
        "- *validation AUC*: the strength is calibrated on it alone; **bold** is the calibrated one, the largest",
        "  within a standard error of the best. Validation is as biased as train.",
        "- Intervals are of 95 %: over seeds for the first two, over test subjects and seeds for the others;",
        "  *difference* is against strength 0, replicate by replicate under the same seeds.",
        "",
        "![Strength against attention inside, AUC and gaps](strengths.png)",
    ]
    for view, rows in table.groupby("view", sort=False):
        best = rows.iloc[int(np.argmax([one["mean"] for one in rows["worst_group_accuracy"]]))]
        chosen = rows[rows["calibrated"]].iloc[0]
        lines += [
            "",
            f"## {view}",
            "",
            f"Worst-group accuracy is highest at {best['strength']:g}, {figure(best['worst_group_accuracy'])}; at",
            f"the calibrated one, {chosen['strength']:g}, it is {figure(chosen['worst_group_accuracy'])}.",
            "",
            *strength_table(rows, COLUMNS),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record, page and picture go; OUTPUT_DIR by default")
    parser.add_argument(
        "--views", nargs="+", default=["finding_sex_correlated_95_5", "finding_scanner_correlated_95_5"]
    )
    parser.add_argument("--strengths", nargs="+", type=float, default=[0, 0.3, 1, 3, 10, 30], help="0 is added")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train_subjects", type=int, default=200)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = DataSet(chosen.data_dir)
    strengths = sorted({0.0, *chosen.strengths})
    records = planned(data, chosen.views, strengths, chosen.seeds, chosen.train_subjects)
    done = finished(records, chosen.output_dir, partial(fitted, data))
    table = rows_of(done)
    docs = chosen.docs_dir or chosen.output_dir
    docs.mkdir(parents=True, exist_ok=True)
    record = Record(
        stage="attention_alignment_sweep",
        inputs={"data_set": data.identity},
        settings={
            "preset": data.preset.name,
            "resolution": data.resolution,
            "views": chosen.views,
            "strengths": strengths,
            "seeds": chosen.seeds,
            "train_subjects": chosen.train_subjects,
        },
        versions=library_versions(),
        counts={"fits": len(done), "rows": done[0].counts["rows"], "subjects": done[0].counts["subjects"]},
        measured={"table": table.to_dict("records")},
    )
    record.write(docs / "attention_alignment.json")
    write_atomically(docs / "README.md", page(record, table).encode())
    write_atomically(docs / "strengths.png", picture(table, "view", LABELS, TITLE))
    print(page(record, table))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
