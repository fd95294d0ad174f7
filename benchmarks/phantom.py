"""The phantom's scoreboard from the shipped weights, with the goal it is held against.

    python benchmarks/phantom.py

Every do() has an exact answer here, pixel by pixel, and the goal is the same for all of them: at most a third of the
distance at which the untouched image lies. With --run RUN --predictor MEASURES the shipped weights are made first:
those of a run of `synthfair train` or `rectify` in half precision, and the predictor that measures them. Values
that an image does not have are set (forced change), and what they cause is held (direct effect): whether a finding
would have moved the view too is decided by noise that the covariates do not tell, and where model and truth draw it
otherwise the pixels would be those of another image. The subjects of the test split trained nothing and chose nothing.
"""

import argparse
from pathlib import Path

from morphomnist import ship

from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.measure.scoreboard import measure_soundness

WORLD = "phantom"
GENERATOR = DEFAULT_GENERATOR.parent / "phantom_64"
PREDICTOR = DEFAULT_GENERATOR.parent / "phantom_predictor"
SHARE = 1 / 3
PAIRS = (("sex", "finding"),)
CONTRASTS = {"age": (30.0, 75.0), "sex": ("male", "female"), "finding": ("no_finding", "pneumonia")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default="test", help="subjects that are measured")
    parser.add_argument("--images", type=int, default=48, help="how many of their images")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/scoreboard"))
    settings = ship(parser, GENERATOR, PREDICTOR)
    record = measure_soundness(
        settings.output_dir,
        WORLD,
        pretrained_model_name_or_path=GENERATOR,
        predictors=[PREDICTOR],
        split=settings.split,
        limit=settings.images,
        interventions=("forced_change",),
        effect="direct",
        pairs=PAIRS,
        contrasts=CONTRASTS,
    )
    true = {(row["system"], row["do"]): row for row in record.measured["rows"] if row["metric"] == "true_l1"}
    for (system, do), one in true.items():
        if system != GENERATOR.name:
            continue
        identity = true["identity", do]["mean"]
        met = "met" if one["mean"] <= SHARE * identity else "missed"
        line = f"true_l1 do({do}):".ljust(24) + f"{one['mean']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"
        print(f"{line}  identity {identity:.3g}  goal <= {SHARE * identity:.3g}: {met}")


if __name__ == "__main__":
    main()
