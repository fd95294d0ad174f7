"""Plant a bias, train, audit, detect, mitigate, and compare with the unbiased twin: under a minute on one core.

    python examples/bias_workbench.py [DIRECTORY [RECORD_DIRECTORY]]

The data are phantoms with exact counterfactuals, so the effect of an attribute on a classifier is known. They are
written to DIRECTORY (phantom), the figures to RECORD_DIRECTORY (DIRECTORY/workbench) as workbench.json and README.md.
"""

# %% The data set: 280 people, each as a man and a woman, without and with either finding, on three scanners
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset

import synthfair_hf  # noqa: F401 - registers the views with `datasets`
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.detection import detect
from synthfair_hf.fairness.flips import flip_rates
from synthfair_hf.fairness.group_figure import group_figure
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.records import Record, library_versions, write_atomically

BEGAN = time.process_time()
DIRECTORY = Path(sys.argv[1] if len(sys.argv) > 1 else "phantom")
RECORDS = Path(sys.argv[2]) if len(sys.argv) > 2 else DIRECTORY / "workbench"
BIASED, TWIN = "finding_scanner_correlated_95_5", "finding_scanner_correlated_50_50"
ATTRIBUTES = ("sex", "scanner", "age")
if not (DIRECTORY / "README.md").exists():
    generate_dataset(DIRECTORY, num_subjects=280, world="phantom", resolution=32, batch_size=72)


# %% A biased view and its twin: the same number of rows; in the first, 95 % of pneumonia is on the portable scanner
def view(name: str, split: str) -> LabelledImages:
    """The rows of a view with pneumonia or no finding."""
    rows = load_dataset("synthfair", name, split=split, data_dir=str(DIRECTORY))
    return LabelledImages.from_dataset(rows, PHANTOM, ATTRIBUTES)


biased, twin = view(BIASED, "train"), view(TWIN, "train")
test = view("full", "test")
balanced = view("full", "validation")
print(f"{len(biased)} rows of train in the biased view, {len(twin)} in its twin, {len(test)} of test")


def train_and_validation(examples: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Train, and every fifth subject as validation to select the weights on, which is as biased as train."""
    held = np.isin(examples.subjects, np.unique(examples.subjects)[::5])
    return examples.select(~held), examples.select(held)


# %% Train: a classifier on the biased view, one on the twin, and two mitigations on the biased view
fitted = {
    "ERM on the unbiased twin": METHODS["erm"]().fit(*train_and_validation(twin), seed=0),
    "ERM on the biased view": METHODS["erm"]().fit(*train_and_validation(biased), seed=0),
    "resampling on the biased view": METHODS["resampling"](attribute="scanner").fit(
        *train_and_validation(biased), seed=0
    ),
    "balanced synthetic rows beside the biased view": METHODS["balanced_synthetic"](attribute="scanner", ratio=0.5).fit(
        *train_and_validation(biased), seed=0, synthetic=balanced
    ),
}


groups = {name: np.array(test.levels[name])[test.groups[name]].tolist() for name in ATTRIBUTES}


# %% Audit: figures by group with intervals over subjects, and flips of the prediction under do(scanner) alone
def measured(method: Any) -> dict[str, Any]:
    """The figures of one classifier on the balanced test rows: values, and [value, low, high] where resampled."""
    scores = method.predict_proba(test.images)
    gaps = audit(scores, test.labels, groups, test.subjects, n_bootstrap=200, permutations=0).gaps
    gaps = gaps[gaps.attribute == "scanner"].set_index("metric")
    factors = {name: groups[name] for name in ("sex", "scanner")} | {"finding": test.labels.tolist()}
    moved = flip_rates(scores, test.subjects, factors, "scanner", n_bootstrap=200)
    moved = moved[(moved["from"] == "any") & (moved.metric == "flip_rate")].iloc[0]
    found = detect(method.classifier, test, ATTRIBUTES, "counterfactual", permutations=199)
    interval = ["value", "low", "high"]
    return {
        "worst-group accuracy": [float(one) for one in gaps.loc["worst_group_accuracy", interval]],
        "AUC gap": [float(one) for one in gaps.loc["auc_gap", interval]],
        "flip rate of do(scanner)": [float(one) for one in moved[interval]],
        "detector ranks first": str(found.top),
    }


# %% Compare, and record the figures
def page(record: Record) -> str:
    """The record as a page."""
    counts, methods = record.counts, record.measured
    lines = [["fitted by", *next(iter(methods.values()))]]
    for method, found in methods.items():
        texts = [one if isinstance(one, str) else "{:.2f} [{:.2f}, {:.2f}]".format(*one) for one in found.values()]
        lines.append([method, *texts])
    table = [f"| {' | '.join(line)} |" for line in lines]
    table.insert(1, "|" + "---|" * len(lines[0]))
    return f"""# The workbench

    python examples/bias_workbench.py phantom docs/workbench

Printed by that command from `workbench.json` beside it; not typed by hand. Phantoms of 32 x 32 pixels, whose
counterfactuals are exact; no generator is in these figures. In `{record.settings["view"]}`
95 % of pneumonia is on the portable scanner; of train it has {counts["train"]} rows, its unbiased twin
{counts["train of the twin"]}.
One seed; {counts["test"]} unbiased test rows of {counts["test subjects"]} people; 95 % intervals over these people.
{counts["seconds"]} seconds of one core, generation of the data included.

{chr(10).join(table)}
"""


record = Record(
    stage="workbench",
    inputs={"data_set": str(Record.read(DIRECTORY / "records" / "generate.json").counts["store"])},
    settings={"view": BIASED, "twin": TWIN, "seed": 0, "attributes": list(ATTRIBUTES)},
    versions=library_versions(),
    measured={name: measured(method) for name, method in fitted.items()},
)
record = record.model_copy(
    update={
        "counts": {
            "train": len(biased),
            "train of the twin": len(twin),
            "test": len(test),
            "test subjects": len(np.unique(test.subjects)),
            "seconds": round(time.process_time() - BEGAN),
        }
    }
)
RECORDS.mkdir(parents=True, exist_ok=True)
record.write(RECORDS / "workbench.json")
write_atomically(RECORDS / "README.md", page(record).encode())
print(page(record))

# %% A picture of the biased classifier's groups; it needs the package's extra `report`
scores = fitted["ERM on the biased view"].predict_proba(test.images)
audited = audit(scores, test.labels, groups, test.subjects, intersections=[ATTRIBUTES[:2]], permutations=0)
(DIRECTORY / "groups.png").write_bytes(group_figure(audited, "auc"))
print(f"AUC by group: {DIRECTORY / 'groups.png'}")
