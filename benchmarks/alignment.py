"""Does alignment to a judge's preferences make images that another judge prefers, for every subgroup alike?

    python benchmarks/alignment.py --pretrained_model_name_or_path P --predictor A --other_predictor B --output_dir RUN

    pairs     two samples of each drawn subject; judge A prefers the one that shows better what was asked
    align     `synthfair align` at each beta and seed, on the pairs of train, stopped by those of validation
    measure   accuracy on the pairs of test;  by judge B, on new subjects and the same noise for both generators:
              win rate of the aligned image over the base's, fidelity by subgroup, and the gap between the best and the
              worst subgroup;  how far images moved

A and B read covariates, trained with other seeds on training patients alone; B decides nothing. Fidelity is the mean
over the covariates asked for of log p(asked), or -|error| in standard deviations. Every stage is kept in RUN and not
made again. Whether soundness and realism stand is for `synthfair measure`, on the generator with its adapters merged.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthfair_hf.align.config import AlignmentConfig
from synthfair_hf.align.judges import AttributeFidelity
from synthfair_hf.alignment import align_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.errors import InputError
from synthfair_hf.judging import judge_candidates, make_candidates
from synthfair_hf.measure.predictors import load_predictor
from synthfair_hf.measure.weights import weights_fingerprint
from synthfair_hf.records import Record, library_versions, write_atomically
from synthfair_hf.saved import find_generator

DRAWS = 1000
COLUMNS = (
    *("beta", "seed", "step kept", "held-out accuracy", "win rate", "fidelity, base", "aligned"),
    *("gap, base", "aligned", "reduction, %", "moved, grey levels"),
)


def sampled(pipeline: CausalDiffusionPipeline, rows: int, seed: int, batch: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Images `[rows, C, r, r]` of drawn subjects and their decoded covariates; equal seeds give equal noise."""
    generator = torch.Generator().manual_seed(seed)
    drawn = pipeline.scm.sample(rows, generator)
    covariates = pipeline.covariates.decode({name: values.numpy() for name, values in drawn.items()})
    noise = pipeline.sample_noise(generator, rows)
    parts = []
    for start in range(0, rows, batch):
        asked = {name: values[start : start + batch] for name, values in covariates.items()}
        parts.append(pipeline(covariates=asked, noise=noise[start : start + batch], output_type="pt").images)
    return torch.cat(parts), covariates


def gap(fidelity: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> float:
    """Mean fidelity of the best subgroup less that of the worst, of rows by place."""
    means = [fidelity[rows][groups[rows] == one].mean() for one in np.unique(groups) if (groups[rows] == one).any()]
    return max(means) - min(means)


def interval(values: list[float]) -> list[float]:
    return [round(float(one), 5) for one in np.quantile(values, [0.025, 0.975])]


def compared(base: np.ndarray, own: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
    """Win rate and gaps of fidelities `[n]` under two generators, with 95 % intervals over subjects drawn alike."""
    rng, n = np.random.default_rng(seed), len(base)
    draws = [rng.integers(0, n, n) for _ in range(DRAWS)]
    won = (own > base) + 0.5 * (own == base)
    every = np.arange(n)
    before, after = gap(base, groups, every), gap(own, groups, every)
    gaps = [(gap(base, groups, rows), gap(own, groups, rows)) for rows in draws]
    return {
        "win_rate": {"value": float(won.mean()), "interval": interval([won[rows].mean() for rows in draws])},
        "fidelity": {"base": float(base.mean()), "aligned": float(own.mean())},
        "gap": {
            "base": before,
            "aligned": after,
            "reduction": 100 * (before - after) / before,
            "interval": interval([100 * (one - other) / one for one, other in gaps]),
        },
        "n": n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained_model_name_or_path", required=True)
    parser.add_argument("--predictor", required=True, help="judge A, of the pairs")
    parser.add_argument("--other_predictor", required=True, help="judge B, of the result")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record and page go; OUTPUT_DIR by default")
    parser.add_argument("--num_pairs", type=int, default=600)
    parser.add_argument("--num_subjects", type=int, default=256, help="new subjects that B judges")
    parser.add_argument("--betas", nargs="+", type=float, default=[100, 500, 2500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max_train_steps", type=int, default=300)
    parser.add_argument("--balance", default="sex,finding", help="covariates whose subgroups are drawn equally often")
    parser.add_argument("--batch_size", type=int, default=16)
    asked = parser.parse_args()
    if weights_fingerprint(asked.predictor) == weights_fingerprint(asked.other_predictor):
        raise InputError("--other_predictor: is the judge of the pairs; give one trained with another seed.")
    saved = find_generator(asked.pretrained_model_name_or_path)
    schema = saved.preset.covariates
    run = asked.output_dir
    if not (run / "candidates" / "record.json").exists():
        make_candidates(
            run / "candidates", asked.num_pairs, "samples", saved.directory, seed=0, batch_size=asked.batch_size
        )
    if not (run / "preferences" / "record.json").exists():
        judge_candidates(run / "candidates", run / "preferences", asked.predictor, {"attribute_fidelity": 1.0})
    reader = load_predictor(asked.other_predictor, schema)
    scales = {one: float(reader.standards[one][1]) for one in schema.names if not schema[one].categorical}
    judge = AttributeFidelity(reader, schema, scales, weights_fingerprint(asked.other_predictor))

    def judged(pipeline: CausalDiffusionPipeline, seed: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        images, covariates = sampled(pipeline, asked.num_subjects, 10_000 + seed, asked.batch_size)
        encoded = {name: torch.from_numpy(column) for name, column in schema.encode(covariates).items()}
        fidelity = judge(images, encoded).numpy() / len(schema.names)
        return (
            images,
            fidelity,
            np.array([f"{s}, {f}" for s, f in zip(covariates["sex"], covariates["finding"], strict=True)]),
        )

    base = {seed: judged(saved.load(), seed) for seed in range(asked.seeds)}
    rows = []
    for beta, seed in product(asked.betas, range(asked.seeds)):
        directory = run / f"beta-{beta:g}-seed-{seed}"
        config = AlignmentConfig(
            output_dir=directory,
            seed=seed,
            beta_dpo=beta,
            max_train_steps=asked.max_train_steps,
            balance=asked.balance or None,
            resume_from_checkpoint="latest" if directory.exists() else None,
        )
        record = align_generator(run / "preferences", saved.directory, config)
        pipeline = saved.load()
        pipeline.load_lora_weights(directory)
        images, fidelity, groups = judged(pipeline, seed)
        rows.append(
            {
                "beta": beta,
                "seed": seed,
                "kept_step": record.measured["kept_step"],
                "accuracy": record.measured["test"]["accuracy"],
                "distance": record.measured["test"]["distance"],
                "moved": float((images - base[seed][0]).abs().mean() * 255),
                **compared(base[seed][1], fidelity, groups, seed),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    docs = asked.docs_dir or run
    docs.mkdir(parents=True, exist_ok=True)
    record = Record(
        stage="alignment_experiment",
        inputs={
            "generator": saved.revision,
            "judge of the pairs": weights_fingerprint(asked.predictor),
            "judge of the result": weights_fingerprint(asked.other_predictor),
        },
        settings={
            "preset": saved.preset.name,
            **{key: value for key, value in vars(asked).items() if isinstance(value, int | float | list)},
            "balance": asked.balance,
        },
        versions=library_versions(),
        counts={"pairs": Record.read(run / "preferences" / "record.json").counts["pairs"]},
        measured={"rows": rows},
    )
    record.write(docs / "alignment.json")
    write_atomically(docs / "README.md", page(record).encode())


def page(record: Record) -> str:
    """README.md."""
    settings = record.settings
    lines = [
        "# Alignment to a judge's preferences",
        "",
        f"Printed by `benchmarks/alignment.py` from `alignment.json`: {settings['preset']}, {record.counts['pairs']}",
        f"pairs, {settings['max_train_steps']} steps at most, {settings['num_subjects']} new subjects for the judge",
        "that was not used for the pairs. *gap*: mean fidelity of the best subgroup (sex x finding) less that of the",
        "worst. Intervals are of 95 %, over subjects.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in record.measured["rows"]:
        accuracy, win, gaps = row["accuracy"], row["win_rate"], row["gap"]
        cells = [
            f"{row['beta']:g}",
            row["seed"],
            row["kept_step"],
            f"{accuracy['mean']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]",
            f"{win['value']:.3f} [{win['interval'][0]:.3f}, {win['interval'][1]:.3f}]",
            f"{row['fidelity']['base']:.3f}",
            f"{row['fidelity']['aligned']:.3f}",
            f"{gaps['base']:.3f}",
            f"{gaps['aligned']:.3f}",
            f"{gaps['reduction']:.0f} [{gaps['interval'][0]:.0f}, {gaps['interval'][1]:.0f}]",
            f"{row['moved']:.2f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
