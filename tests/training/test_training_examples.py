"""Examples and their order: every rank reads its share of each epoch, and a resumed run reads the same."""

import numpy as np
import pytest
import torch

from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.schema import MISSING_LEVEL, Schema
from synthfair_hf.training.examples import StepSampler, TrainingExamples


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_each_epoch_without_overlap(ranks):
    """Brute force: what all ranks read in the steps of one epoch is every row once."""
    seen = []
    for rank in range(ranks):
        for batch in StepSampler(12, 2, seed=5, start=0, stop=12 // (2 * ranks), rank=rank, ranks=ranks):
            seen += [row for row, _ in batch]
    assert sorted(seen) == list(range(12))


def test_the_sampler_goes_on_from_a_step_as_if_it_had_not_stopped():
    whole = list(StepSampler(7, 3, seed=1, start=0, stop=20, rank=0, ranks=1))
    assert whole[8:] == list(StepSampler(7, 3, seed=1, start=8, stop=20, rank=0, ranks=1))
    places = np.array([[place for _, place in batch] for batch in whole])
    assert np.array_equal(places.ravel(), np.arange(60))


def test_examples_of_a_split_repeat_by_place_and_differ_between_places():
    class Noise:
        name, splits = "noise", ["test", "train", "train"]
        covariates = Schema(variables=(PHANTOM.covariates["sex"],))

        def draw(self, index, resolution, rng):
            return rng.random((resolution, resolution), dtype=np.float32), {"sex": ("male", "female", None)[index]}

    examples = TrainingExamples(Noise(), "train", 8, seed=1)
    assert len(examples) == 2
    first, again, later, other = (examples[key] for key in ((0, 5), (0, 5), (0, 6), (1, 5)))
    assert first["image"].shape == (1, 8, 8)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], later["image"])
    assert (int(first["sex"]), int(other["sex"])) == (PHANTOM.covariates["sex"].levels.index("female"), MISSING_LEVEL)
    with pytest.raises(InputError, match="no image in split 'validation'"):
        TrainingExamples(Noise(), "validation", 8, seed=1)
