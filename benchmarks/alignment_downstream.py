"""What a generator's images do for a classifier when they fill a biased training set up to balance.

    biased    real radiographs in which the finding correlates with sex: CELLS of either majority cell, 1/19 as many
              of the others, and a validation part that is as biased
    filled    the minority cells brought up to the majority's number, by other real radiographs or by generated samples
    test      every held-out radiograph of a world

Plain empirical risk minimisation on each, of three seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import SavedGenerator
from synthfair_hf.domains.preset import Preset
from synthfair_hf.domains.worlds import World, open_world
from synthfair_hf.fairness.benchmark.cells import figures
from synthfair_hf.fairness.benchmark.leaderboard import compare, summary
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.mitigation.method import Method

CELLS = {"train": 95, "validation": 19}
SHOWN = ("auc", "worst_group_accuracy", "equal_opportunity_difference")
BATCH = 32
TEST = 800
"""Test radiographs at most."""


class DownstreamData:
    """Real radiographs of a world by cell (finding, sex): the two groups of either's contrast."""

    def __init__(self, world: str, source: str | None, preset: Preset) -> None:
        self.preset, self.name, self.source = preset, world, source
        finding, sex = preset.contrasts["finding"], preset.contrasts["sex"]
        self.levels = {"finding": (finding.second, finding.first), "sex": (sex.first, sex.second)}

    def opened(self, split: str, limit: int | None = None) -> World:
        """Its radiographs of a split."""
        return open_world(self.name, split, limit, directory=self.source)

    def biased(self, split: str) -> tuple[LabelledImages, LabelledImages]:
        """Radiographs in which finding and sex correlate, and those that would make up for it."""
        world = self.opened(split)
        cells = {
            (label, sex): [
                row
                for row in range(len(world.groups))
                if world.table["finding"][row] == self.levels["finding"][label]
                and world.table["sex"][row] == self.levels["sex"][sex]
            ]
            for label in range(2)
            for sex in range(2)
        }
        # present goes with the first sex, absent with the second
        size = min(CELLS[split], *(len(rows) for rows in cells.values()))
        few = max(1, size // 19)
        majority = [row for cell in ((1, 0), (0, 1)) for row in cells[cell][:size]]
        minority = [row for cell in ((1, 1), (0, 0)) for row in cells[cell][:few]]
        others = [row for cell in ((1, 1), (0, 0)) for row in cells[cell][few:size]]
        return self.radiographs(world, majority + minority), self.radiographs(world, others)

    def test(self) -> LabelledImages:
        """Test radiographs that are of one of the contrast's findings."""
        world = self.opened("test", TEST)
        return self.radiographs(
            world, [row for row, one in enumerate(world.table["finding"]) if one in self.levels["finding"]]
        )

    def radiographs(self, world: World, rows: Sequence[int]) -> LabelledImages:
        """Radiographs of a world by place."""
        found = world.truth({}, rows)
        assert found is not None, "doing nothing is always known"
        return self.labelled(found.images, found.covariates, [world.groups[row] for row in rows])

    def labelled(self, images: Tensor, covariates: Mapping[str, list[Any]], subjects: Sequence[str]) -> LabelledImages:
        """Images in [0, 1] with their finding as label and sex as group."""
        label, sex = (torch.tensor([self.levels[one].index(value) for value in covariates[one]]) for one in self.levels)
        pixels = (images * 255).round().to(torch.uint8)
        return LabelledImages(pixels, label, {"sex": sex}, {"sex": self.levels["sex"]}, np.array(subjects))

    def samples(self, saved: SavedGenerator, adapters: Path | None, like: LabelledImages, seed: int) -> LabelledImages:
        """Samples of a generator, as many of every cell as `like` has."""
        pipeline, schema = load_generator(saved), self.preset.covariates
        if adapters is not None:
            pipeline.load_lora_weights(adapters)
        codes = {"finding": like.labels, "sex": like.groups["sex"]}
        do = {
            name: torch.tensor([schema[name].levels.index(self.levels[name][code]) for code in column.tolist()])
            for name, column in codes.items()
        }
        generator = torch.Generator().manual_seed(seed)
        asked = pipeline.scm.evaluate(pipeline.scm.sample_noise(len(like), generator), do)
        covariates = schema.decode({name: values.numpy() for name, values in asked.items()})
        noise = pipeline.sample_noise(generator, len(like))
        parts = []
        for start in range(0, len(like), BATCH):
            rows = slice(start, start + BATCH)
            wanted = {name: values[rows] for name, values in covariates.items()}
            parts.append(pipeline(covariates=wanted, noise=noise[rows], output_type="pt").images)
        return self.labelled(torch.cat(parts), covariates, [f"sample-{seed}-{row}" for row in range(len(like))])


def downstream(data: DownstreamData, saved: SavedGenerator, adapters: Sequence[Path]) -> dict[str, Any]:
    """By what filled the training set: figures on the test set, and how much they differ from the base's."""
    (train, others), (validation, _), test = data.biased("train"), data.biased("validation"), data.test()
    filled: dict[str, list[LabelledImages]] = {
        "nothing": [train] * len(adapters),
        "base": [train.concatenate(data.samples(saved, None, others, seed)) for seed in range(len(adapters))],
        "aligned": [train.concatenate(data.samples(saved, one, others, seed)) for seed, one in enumerate(adapters)],
        "real films": [train.concatenate(others)] * len(adapters),
    }
    judged: dict[str, list[dict[str, Any]]] = {}
    for name, sets in filled.items():
        judged[name] = []
        for seed, examples in enumerate(sets):
            method = Method().fit(examples, validation, seed)
            judged[name].append(figures(method.predict_proba(test.images), test, "sex", data.preset).figures)
    found: dict[str, Any] = {"train": len(train), "added": len(others), "test": len(test)}
    for name, seeds in judged.items():
        found[name] = {
            one: {
                "value": summary([figure[one] for figure in seeds]),
                "against base": compare([figure[one] for figure in judged["base"]], [figure[one] for figure in seeds])[
                    0
                ],
            }
            for one in SHOWN
        }
    return found
