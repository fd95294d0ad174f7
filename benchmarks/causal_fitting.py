"""Both ways to fit the causal model of many findings, by counts and by steps: held-out likelihood and seconds.

    python benchmarks/causal_fitting.py nih=NIH/metadata.csv [NAME=TABLE ...] [--seeds 3]
                                        [--note TEXT] [--output_dir docs/causal_fitting]

A table is one of ChestX-ray14: the data set's own (`Finding Labels`, `Patient Age`, ...), gzipped or not, or a
metadata.csv of its images. Every mechanism of the preset is fitted on nine tenths of the rows, and what it gives the
others is its negative log likelihood in nats; of all mechanisms it is summed. A seed decides the rows that are held
out, the same for both ways, and the first weights. Seconds are of one processor. Intervals are of the mean over seeds,
by Student's t, of the difference of the same seed. Writes causal_fitting.json, and from it README.md.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from precision import processor
from scipy import stats
from torch import Tensor

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.domains.findings import FINDINGS, is_label, state_in
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.records import Record, file_sha256, fingerprint, library_versions

PRESET = get_preset("nih_chestxray14")
COLUMNS = {
    "Finding Labels": FINDINGS,
    "finding_labels": FINDINGS,
    "Patient Age": "age",
    "Patient Gender": "sex",
    "Patient Sex": "sex",
    "View Position": "view",
}
WAYS = {"by counts": True, "by steps": False}


def read(path: Path) -> dict[str, Tensor]:
    """The covariates of a table, encoded."""
    cells = pandas.read_csv(path, dtype=str, keep_default_na=False).rename(columns=COLUMNS)
    encoded = {}
    for variable in PRESET.covariates.walk():
        own = cells[variable.name] if variable.name in cells else cells[FINDINGS]
        if is_label(variable) and variable.name not in cells:
            own = [state_in(variable, cell) for cell in own]
        encoded[variable.name] = torch.from_numpy(variable.encode([variable.parse(cell)[0] for cell in own]))
    return encoded


def fit(table: dict[str, Tensor], seed: int, by_counts: bool) -> tuple[float, float]:
    """Held-out nats of all mechanisms, and seconds of processor."""
    torch.manual_seed(seed)
    scm = StructuralCausalModel.from_schema(PRESET.covariates, PRESET.edges)
    began = time.process_time()
    report = scm.fit(table, seed, by_counts=by_counts)
    return sum(one["held_out_nll"] for one in report.values()), time.process_time() - began


def interval(values: Any) -> list[float]:
    """Mean and 95 % interval."""
    mean, half = np.mean(values), stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return [round(float(one), 3) for one in (mean, mean - half, mean + half)]


def page(record: Record) -> str:
    """The page of a record."""
    settings = record.settings
    rows = "\n".join(
        f"| {name} | {found['rows']} | {way} | "
        + " | ".join("{:.3f} [{:.3f}, {:.3f}]".format(*one) for one in found[way].values())
        + " |"
        for name, found in record.measured.items()
        for way in WAYS
    )
    differences = "\n".join(
        "- {}: {:+.3f} [{:+.3f}, {:+.3f}] nats by counts against by steps.".format(name, *found["difference"])
        for name, found in record.measured.items()
    )
    return f"""# Fitting the causal model of several findings

By `python benchmarks/causal_fitting.py`: the {len(PRESET.covariates)} mechanisms of `{PRESET.name}` (preset
`{record.inputs["preset"]}`), fitted [by counts](../../synthfair_hf/causal/fitting.py), as presets with several
findings are, and by steps, as the others; {settings["seeds"]} seeds, one thread of {settings["processor"]}.
{settings["note"]}

| table | rows | fitted | held-out negative log likelihood, nats a row | processor, s |
|---|---:|---|---:|---:|
{rows}

Of the same held-out rows, less is better:

{differences}

Means over seeds, which hold other rows out and begin with other weights, and their 95 % intervals by Student's t.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", metavar="NAME=TABLE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/causal_fitting"))
    settings = parser.parse_args()
    torch.set_num_threads(1)
    measured, inputs = {}, {}
    for word in settings.tables:
        name, path = word.split("=", 1)
        table = read(Path(path))
        found = {
            way: [fit(table, seed, by_counts) for seed in range(settings.seeds)] for way, by_counts in WAYS.items()
        }
        nats = {way: np.array(runs)[:, 0] for way, runs in found.items()}
        inputs[name] = file_sha256(Path(path))[:16]
        measured[name] = {
            "rows": len(table["age"]),
            **{
                way: {"nats": interval(nats[way]), "seconds": interval(np.array(runs)[:, 1])}
                for way, runs in found.items()
            },
            "difference": interval(nats["by counts"] - nats["by steps"]),
        }
        print(name, measured[name], flush=True)
    record = Record(
        stage="causal_fitting",
        inputs={"preset": fingerprint(PRESET), **inputs},
        settings={"seeds": settings.seeds, "note": settings.note, "processor": processor()},
        versions=library_versions(),
        measured=measured,
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "causal_fitting.json")
    (settings.output_dir / "README.md").write_text(page(record))


if __name__ == "__main__":
    main()
