"""The MorphoMNIST scoreboard from the shipped weights, with the goals it is held against.

    python benchmarks/morphomnist.py --source ../shared/data/morphomnist

With --run RUN --predictor MEASURES the shipped weights are made first: those of a run of `synthfair train` or
`finetune` in half precision, and the predictor that measures them, which must not be the one that judged in `finetune`.
Changes act at scale and level 1: another strength is not undone by the way back, and reversibility is asked for. Test
digits trained nothing and chose nothing. Interventions are drawn from the training marginal; what do() causes follows
(do(thickness) moves intensity).
"""

import argparse
import shutil
import time
from pathlib import Path

from default_generator import finish

from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.diffusion.solver import BASES
from synthfair_hf.measure.scoreboard import measure_realism, measure_soundness
from synthfair_hf.measure.soundness import MEASURED

WORLD = "morphomnist"
GENERATOR = DEFAULT_GENERATOR.parent / "morphomnist_32"
PREDICTOR = DEFAULT_GENERATOR.parent / "morphomnist_predictor"
LEARNED = PREDICTOR.name
SECONDS = 1200

# metric, do, attribute, by -> the most or least that is hoped for; None is reported alone
GOALS: dict[tuple[str, str, str, str], tuple[str, float] | None] = {
    ("composition_l1_at_1", "none", "image", "pixels"): ("<=", 0.05),
    ("composition_l1_at_10", "none", "image", "pixels"): ("<=", 0.05),
    ("mae", "thickness", "thickness", MEASURED): ("<=", 0.15),
    ("mae", "intensity", "intensity", MEASURED): ("<=", 2.0),
    ("accuracy", "digit", "digit", LEARNED): (">=", 0.985),
    ("accuracy", "thickness", "digit", LEARNED): (">=", 0.99),
    ("accuracy", "intensity", "digit", LEARNED): (">=", 0.99),
    **{("reversibility_l1", do, "image", "pixels"): ("<=", 1.0) for do in ("thickness", "intensity", "digit")},
    **{("true_l1", do, "image", "pixels"): None for do in ("thickness", "intensity")},
    ("mae", "thickness", "intensity", MEASURED): None,
    ("mae", "intensity", "thickness", MEASURED): None,
}


def ship(parser: argparse.ArgumentParser, generator: Path, reader: Path) -> argparse.Namespace:
    """The command's settings.

    With --run, that run's generator, in half precision, and the predictor that measures it are put among the shipped
    weights first.
    """
    parser.add_argument("--run", type=Path, help="make the shipped weights from this run first")
    parser.add_argument("--predictor", type=Path, metavar="MEASURES")
    parser.add_argument("--default_steps", type=int, help="solver steps to ship; the run's own by default")
    parser.add_argument("--base", choices=BASES, help="the solver's base method to ship; the run's own by default")
    settings = parser.parse_args()
    if (settings.run is None) != (settings.predictor is None):
        parser.error("--run and --predictor go together")
    if settings.run is not None:
        finish(settings.run, generator, settings.default_steps, settings.base)
        reader.mkdir(exist_ok=True)
        for path in settings.predictor.glob("*.*"):
            shutil.copy(path, reader / path.name)
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--split", default="test", help="digits that are measured; true pixels are known of test alone")
    parser.add_argument("--images", type=int, default=200, help="how many of them")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/scoreboard"))
    settings = ship(parser, GENERATOR, PREDICTOR)

    began = time.perf_counter()
    asked = {
        "source_dir": settings.source,
        "pretrained_model_name_or_path": GENERATOR,
        "split": settings.split,
        "limit": settings.images,
    }
    record = measure_soundness(
        settings.output_dir,
        WORLD,
        **asked,
        predictors=[PREDICTOR],
        pairs=(("digit", "thickness"),),
        contrasts={"thickness": (2.0, 3.5)},
    )
    measure_realism(settings.output_dir, WORLD, PREDICTOR, **asked, group="digit")
    seconds = time.perf_counter() - began
    rows = {
        (row["system"], row["metric"], row["do"], row["attribute"], row["by"]): row for row in record.measured["rows"]
    }
    for question, goal in GOALS.items():
        one, identity, oracle = (rows.get((system, *question)) for system in (GENERATOR.name, "identity", "oracle"))
        if one is None:
            continue
        line = f"{' '.join(question):52} {one['mean']:.4g} [{one['low']:.4g}, {one['high']:.4g}]"
        line += "".join(
            f"  {name} {row['mean']:.4g}" for name, row in (("identity", identity), ("oracle", oracle)) if row
        )
        if goal is not None:
            sign, limit = goal
            met = one["mean"] <= limit if sign == "<=" else one["mean"] >= limit
            line += f"  goal {sign} {limit:g}: {'met' if met else 'missed'}"
        print(line)
    print(f"{seconds:.0f} s  goal <= {SECONDS} s on 2 cores: {'met' if seconds <= SECONDS else 'missed'}")


if __name__ == "__main__":
    main()
