"""Load biased views and their unbiased twin, and print the planted bias.

synthfair demo            # writes ./synthfair
python examples/compare_views.py
"""

from collections import Counter

from datasets import load_dataset

import synthfair_hf  # registers the builder, which offers every strength


def main() -> None:
    """Print sex by effusion in train of the twin, a curated strength and one that is not curated."""
    for name in ("sex_imbalanced_50_50", "sex_imbalanced_90_10", "sex_imbalanced_85_15"):
        train = load_dataset("synthfair", name, split="train")
        sex, effusion = train.features["sex"], train.features["effusion"]
        counts = Counter(zip(map(sex.int2str, train["sex"]), map(effusion.int2str, train["effusion"]), strict=True))
        print(f"{name} (synthfair_hf {synthfair_hf.__version__}): {len(train)} rows of train")
        for (group, label), rows in sorted(counts.items()):
            print(f"    {group:8}{label:12}{rows:4}")


if __name__ == "__main__":
    main()
