"""The loop: learns, resumes bit-equal, refuses other settings, and leaves only safetensors."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from synthfair_hf.errors import InputError
from synthfair_hf.training import StepSampler, TrainingConfig, train


class Line(nn.Module):
    """y = a x + b from noisy points: an objective whose answer is known."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch, generator):
        noise = torch.randn(batch["y"].shape, generator=generator) * 0.01
        error = (self.line(batch["x"]) - batch["y"] - noise).square().mean()
        return error, {"slope": self.line.weight.detach()[0, 0]}


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        row, _, _ = key
        x = torch.tensor([row / 10])
        return {"x": x, "y": 3 * x - 1}


def run(directory, steps, **settings):
    config = TrainingConfig(
        output_dir=directory,
        max_train_steps=steps,
        train_batch_size=5,
        learning_rate=0.05,
        lr_warmup_steps=0,
        adam_weight_decay=0,
        ema_decay=0.5,
        checkpointing_steps=20,
        **settings,
    )
    torch.manual_seed(0)
    objective = Line()
    record = train(
        objective, Points(), config, lambda path: (path / "saved").touch(), {"source": "points"}, {"rows": 10}
    )
    return objective.line.weight.item(), objective.line.bias.item(), record


def test_it_learns_the_line_and_records_everything(tmp_path):
    slope, intercept, record = run(tmp_path, 300, lr_scheduler="constant")
    assert slope == pytest.approx(3, abs=0.1)
    assert intercept == pytest.approx(-1, abs=0.1)
    assert (tmp_path / "saved").exists()
    assert record.inputs == {"source": "points"}
    assert record.counts == {"rows": 10, "steps": 300, "parameters": 2}
    assert json.loads((tmp_path / "record.json").read_text())["settings"]["learning_rate"] == 0.05


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path):
    undisturbed = run(tmp_path / "whole", 60)
    run(tmp_path / "parts", 60)
    (tmp_path / "parts" / "record.json").unlink()
    for checkpoint in (tmp_path / "parts").glob("checkpoint-4*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    resumed = run(tmp_path / "parts", 60, resume_from_checkpoint="latest")
    assert resumed[:2] == undisturbed[:2]


def test_checkpoints_hold_no_pickle_and_are_limited(tmp_path):
    run(tmp_path, 90, checkpoints_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-80"]
    assert {path.suffix for path in (tmp_path / "checkpoint-80").iterdir()} == {".safetensors", ".json"}
    assert set(load_file(tmp_path / "checkpoint-80" / "model.safetensors")) == {"line.weight", "line.bias"}


def test_an_earlier_run_is_never_overwritten_unasked(tmp_path):
    run(tmp_path, 30)
    with pytest.raises(InputError, match="holds an earlier run; add --resume_from_checkpoint latest"):
        run(tmp_path, 30)
    with pytest.raises(InputError, match=r"other settings \(max_train_steps: 40 != 30\)"):
        run(tmp_path, 40, resume_from_checkpoint="latest")
    with pytest.raises(InputError, match="allowed: latest, checkpoint-20"):
        run(tmp_path, 30, resume_from_checkpoint="checkpoint-7")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Nowhere(Line):
        def forward(self, batch, generator):
            loss, parts = super().forward(batch, generator)
            return loss / 0, parts

    config = TrainingConfig(output_dir=tmp_path, max_train_steps=3, train_batch_size=5)
    with pytest.raises(InputError, match=r"the loss is inf; lower --learning_rate"):
        train(Nowhere(), Points(), config, lambda path: None, {}, {})
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_each_epoch_without_overlap(ranks):
    """Brute force: what all ranks read in the steps of one epoch is every row once."""
    seen = []
    for rank in range(ranks):
        for batch in StepSampler(12, 2, seed=5, start=0, stop=12 // (2 * ranks), rank=rank, ranks=ranks):
            seen += [row for row, _, _ in batch]
    assert sorted(seen) == list(range(12))


def test_the_sampler_goes_on_from_a_step_as_if_it_had_not_stopped():
    whole = list(StepSampler(7, 3, seed=1, start=0, stop=20, rank=0, ranks=1))
    assert whole[8:] == list(StepSampler(7, 3, seed=1, start=8, stop=20, rank=0, ranks=1))
    places = np.array([[place for _, _, place in batch] for batch in whole])
    assert np.array_equal(places.ravel(), np.arange(60))


@pytest.mark.parametrize("setting", [{"learning_rate": float("nan")}, {"steps": 3}, {"train_batch_size": 0}])
def test_settings_are_checked(setting, tmp_path):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        TrainingConfig(output_dir=tmp_path, **setting)
