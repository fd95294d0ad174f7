"""Load a biased view and its unbiased twin, and look at what was planted.

synthfair demo            # writes ./synthfair
python examples/compare_views.py
"""

from collections import Counter

from datasets import load_dataset

import synthfair_hf  # registers the builder, so that any strength can be asked for


def main() -> None:
    """Print sex by finding in train for the twin, a curated strength and one that no card lists."""
    for name in ("sex_imbalanced_50_50", "sex_imbalanced_90_10", "sex_imbalanced_85_15"):
        train = load_dataset("synthfair", name, split="train")
        sex, finding = train.features["sex"], train.features["finding"]
        counts = Counter(zip(map(sex.int2str, train["sex"]), map(finding.int2str, train["finding"]), strict=True))
        print(f"{name} (synthfair_hf {synthfair_hf.__version__}): {len(train)} rows of train")
        for (group, label), rows in sorted(counts.items()):
            print(f"    {group:8}{label:12}{rows:4}")


if __name__ == "__main__":
    main()
