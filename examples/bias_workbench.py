"""Plant a bias, train on it, audit, detect, mitigate, and compare with the unbiased twin: under a minute on one core.

    python examples/bias_workbench.py [DIRECTORY]

The data are the phantom's: every counterfactual in them is exact, so what a classifier exploits is known.
"""

# %% The data set: 280 people, each as a man and a woman, without and with either finding, on three scanners
import sys
from pathlib import Path

import numpy as np
import pandas
from datasets import load_dataset

import synthfair_hf  # noqa: F401 - registers the views with `datasets`
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.detection import detect
from synthfair_hf.fairness.flips import flips
from synthfair_hf.fairness.group_figure import group_figure
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.generate.dataset import generate_dataset

DIRECTORY = Path(sys.argv[1] if len(sys.argv) > 1 else "phantom")
ATTRIBUTES = ("sex", "scanner", "age")
if not (DIRECTORY / "README.md").exists():
    generate_dataset(DIRECTORY, num_subjects=280, world="phantom", resolution=32, batch_size=72)


# %% A biased view and its twin: the same number of rows; in the first, 95 % of pneumonia is on the portable scanner
def view(name: str, split: str) -> LabelledImages:
    """The rows of a view that show pneumonia or no finding."""
    rows = load_dataset("synthfair", name, split=split, data_dir=str(DIRECTORY))
    return LabelledImages.from_dataset(rows, PHANTOM, ATTRIBUTES)


biased, twin = view("finding_scanner_correlated_95_5", "train"), view("finding_scanner_correlated_50_50", "train")
test = view("full", "test")
balanced = view("full", "validation")
print(f"{len(biased)} rows of train in the biased view, {len(twin)} in its twin, {len(test)} of test")


def apart(examples: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Train, and every fifth subject for choosing the weights: as biased as what is trained on."""
    held = np.isin(examples.subjects, np.unique(examples.subjects)[::5])
    return examples.select(~held), examples.select(held)


# %% Train: a classifier on the biased view, one on the twin, and two mitigations on the biased view
fitted = {
    "trained on the twin": METHODS["erm"]().fit(*apart(twin), seed=0),
    "trained on the biased view": METHODS["erm"]().fit(*apart(biased), seed=0),
    "with resampling": METHODS["resampling"](attribute="scanner").fit(*apart(biased), seed=0),
    "with balanced synthetic rows": METHODS["balanced_synthetic"](attribute="scanner", ratio=0.5).fit(
        *apart(biased), seed=0, synthetic=balanced
    ),
}


groups = {name: np.array(test.levels[name])[test.groups[name]].tolist() for name in ATTRIBUTES}


# %% Audit: figures by group with intervals over subjects; and what do(scanner) alone does to the answers
def figures(method: object) -> dict[str, str]:
    """The figures of one classifier on the balanced test rows."""
    scores = method.predict_proba(test.images)  # type: ignore[attr-defined]
    gaps = audit(scores, test.labels, groups, test.subjects, draws=200, permutations=0).gaps
    gaps = gaps[gaps.attribute == "scanner"].set_index("metric")
    factors = {name: groups[name] for name in ("sex", "scanner")} | {"finding": test.labels.tolist()}
    moved = flips(scores, test.subjects, factors, "scanner", draws=200)
    moved = moved[(moved["from"] == "any") & (moved.metric == "flip_rate")].iloc[0]
    found = detect(method.classifier, test, ATTRIBUTES, "counterfactual", permutations=199)  # type: ignore[attr-defined]
    return {
        "worst group": f"{gaps.value['worst_group_accuracy']:.2f}",
        "AUC gap": "{:.2f} [{:.2f}, {:.2f}]".format(*gaps.loc["auc_gap", ["value", "low", "high"]]),
        "answers flipped by do(scanner)": "{:.2f} [{:.2f}, {:.2f}]".format(*moved[["value", "low", "high"]]),
        "leans most on": str(found.top),
    }


# %% Compare
table = pandas.DataFrame({name: figures(method) for name, method in fitted.items()}).T
print(table.to_string())

# %% A picture of the biased classifier's groups; it needs the package's extra `report`
scores = fitted["trained on the biased view"].predict_proba(test.images)
audited = audit(scores, test.labels, groups, test.subjects, intersections=[ATTRIBUTES[:2]], permutations=0)
(DIRECTORY / "groups.png").write_bytes(group_figure(audited, "auc"))
print(f"AUC by group: {DIRECTORY / 'groups.png'}")
