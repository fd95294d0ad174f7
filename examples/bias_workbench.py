"""Plant a bias, train, audit, detect, mitigate, and compare with the unbiased twin.

    python examples/bias_workbench.py                       the small classifier of this package, a minute of one core

    python examples/bias_workbench.py phantom_64 --resolution 64 --classifier examples/resnet-18.json \
        --learning_rate 1e-3 --steps 100                    a ResNet-18, in nine minutes of one core

The data are phantoms with exact counterfactuals, so the effect of an attribute on a classifier is known. They are
written to DIRECTORY, the figures to RECORDS as workbench.json and README.md. A classifier is a directory, OWNER/NAME of
the Hub, or a configuration, of which every fit draws the weights; all of it works offline but OWNER/NAME.
"""

# %% What is asked for
import shlex
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset

import synthfair_hf  # noqa: F401 - registers the views with `datasets`
from synthfair_hf import METHODS, LabelledImages, audit, detect, flip_rates, get_preset, open_classifier
from synthfair_hf.fairness.group_figure import group_figure
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.records import Record, library_versions, write_atomically

BEGAN = time.process_time()
parser = ArgumentParser()
parser.add_argument("directory", nargs="?", type=Path, default=Path("phantom"))
parser.add_argument("records", nargs="?", type=Path, help="DIRECTORY/workbench by default")
parser.add_argument("--num_subjects", type=int, default=280)
parser.add_argument("--resolution", type=int, default=32)
parser.add_argument("--classifier", help="what every fit starts from; by default the small one of this package")
parser.add_argument("--learning_rate", type=float, default=2e-3)
parser.add_argument("--steps", type=int, default=400, help="of every fit")
asked = parser.parse_args()
DIRECTORY, RECORDS = asked.directory, asked.records or asked.directory / "workbench"
PHANTOM = get_preset("phantom")
BIASED, TWIN = "finding_scanner_correlated_95_5", "finding_scanner_correlated_50_50"
ATTRIBUTES = ("sex", "scanner", "age")

# %% The data set: people, each as a man and a woman, without and with either finding, on three scanners
classifier = None if asked.classifier is None else open_classifier(asked.classifier, to_fit=True)
if not (DIRECTORY / "README.md").exists():
    generate_dataset(
        DIRECTORY, num_subjects=asked.num_subjects, world="phantom", resolution=asked.resolution, batch_size=72
    )


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


# %% Train: on the twin, and on the biased view without and with mitigations, which need to know more and more
def fit(name: str, examples: LabelledImages, synthetic: LabelledImages | None = None, **settings: Any) -> Any:
    """A method of METHODS, fitted."""
    method = METHODS[name](learning_rate=asked.learning_rate, steps=asked.steps, **settings)
    return method.fit(*train_and_validation(examples), seed=0, synthetic=synthetic, classifier=classifier)


fitted = {
    "ERM on the unbiased twin": fit("erm", twin),
    "ERM on the biased view": fit("erm", biased),
    "last-layer retraining on the biased view": fit("last_layer_retraining", biased, attribute="scanner"),
    "resampling on the biased view": fit("resampling", biased, attribute="scanner"),
    "balanced synthetic rows beside the biased view": fit(
        "balanced_synthetic", biased, balanced, attribute="scanner", ratio=0.5
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
    settings, side, rate = record.settings, record.settings["resolution"], record.settings["learning_rate"]
    return f"""# The workbench

    {settings["command"]}

Printed by that command from `workbench.json` beside it; not typed by hand. The classifier is {settings["network"]},
fitted in {settings["steps"]} steps at learning rate {rate:g}. Phantoms of {side} x {side} pixels, whose
counterfactuals are exact; no generator is in these figures. In `{settings["view"]}`
95 % of pneumonia is on the portable scanner; of train it has {counts["train"]} rows, its unbiased twin
{counts["train of the twin"]}.
One seed; {counts["test"]} unbiased test rows of {counts["test subjects"]} people; 95 % intervals over these people.
{counts["seconds"]} seconds of a processor, generation of the data included.

{chr(10).join(table)}
"""


network = fitted["ERM on the biased view"].classifier
size = sum(one.numel() for one in network.parameters())
record = Record(
    stage="workbench",
    inputs={
        "data_set": str(Record.read(DIRECTORY / "records" / "generate.json").counts["store"]),
        **({} if classifier is None else {"classifier": classifier.fingerprint}),
    },
    settings={
        "command": shlex.join(["python", "examples/bias_workbench.py", *sys.argv[1:]]),
        "view": BIASED,
        "twin": TWIN,
        "seed": 0,
        "attributes": list(ATTRIBUTES),
        "network": f"{type(getattr(network, 'model', network)).__name__} of {size:,} parameters",
        "resolution": test.images.shape[-1],
        "steps": asked.steps,
        "learning_rate": asked.learning_rate,
    },
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
