"""A folder of the patients that no shipped generator was trained on, for `synthfair benchmark --external`.

    python benchmarks/held_out.py --source ../shared/data/cxr --output_dir HELD_OUT

Copies the images of the patients outside the package's train split, with their lines of metadata.csv.
"""

import argparse
import shutil
from pathlib import Path

import pandas

from synthfair_hf.domains.source import patient_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    settings = parser.parse_args()
    rows = pandas.read_csv(settings.source / "metadata.csv", dtype=str, keep_default_na=False)
    kept = rows[[patient_split(patient) != "train" for patient in rows["patient_id"]]]
    for name in kept["file_name"]:
        target = settings.output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(settings.source / name, target)
    kept.to_csv(settings.output_dir / "metadata.csv", index=False)
    print(f"{len(kept)} images of {kept['patient_id'].nunique()} patients, of {len(rows)}")


if __name__ == "__main__":
    main()
