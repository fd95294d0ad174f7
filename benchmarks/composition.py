"""Composition on held-out radiographs: L1 (0-255) to the input after 1 and 10 cycles of abduction and prediction.

    python benchmarks/composition.py [--source ../shared/data/cxr] [--pretrained_model_name_or_path P]

Without --source it takes films of the phantom, which stand in for nothing but the arithmetic. Prints one JSON object
with mean, 95 % bootstrap interval over patients, n, at the checkpoint's default steps in float32, and fails above 0.05.
"""

import argparse
import json
import sys
from dataclasses import asdict

import torch

from synthfair_hf.measure.distances import l1
from synthfair_hf.measure.intervals import bootstrap_mean
from synthfair_hf.simulators.phantom import PhantomSource
from synthfair_hf.verbs import DEFAULT_GENERATOR, load_generator, open_source

LIMIT, FILMS, BATCH = 0.05, 64, 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source")
    parser.add_argument("--pretrained_model_name_or_path", default=DEFAULT_GENERATOR)
    settings = parser.parse_args()
    pipeline, revision = load_generator(settings.pretrained_model_name_or_path)
    if settings.source:
        source = open_source(settings.source, pipeline.preset, pipeline.config.resolution)
    else:
        source = PhantomSource(200, seed=0)
        keep = pipeline.covariates["finding"].levels
        source.table["finding"] = [value if value in keep else None for value in source.table["finding"]]
    names = pipeline.covariates.names
    complete = [row for row in range(len(source)) if all(source.table[name][row] is not None for name in names)]
    first = {source.patient_ids[row]: row for row in reversed(complete) if source.splits[row] == "test"}
    rows = sorted(first.values())[:FILMS]
    films = torch.stack([torch.from_numpy(source.image(row, pipeline.config.resolution))[None] for row in rows])
    current, figures = films, {}
    for cycle in range(1, 11):
        current = torch.cat(
            [
                pipeline(
                    image=current[start : start + BATCH],
                    covariates={
                        name: [source.table[name][row] for row in rows[start : start + BATCH]] for name in names
                    },
                    do={},
                    output_type="pt",
                ).images
                for start in range(0, len(rows), BATCH)
            ]
        )
        if cycle in (1, 10):
            patients = [source.patient_ids[row] for row in rows]
            figures[f"composition_l1_at_{cycle}"] = asdict(bootstrap_mean([l1(current, films)], [patients]))
    print(json.dumps({"source": source.name, "model": revision, "steps": pipeline.config.default_steps, **figures}))
    return int(max(figure["high"] for figure in figures.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
