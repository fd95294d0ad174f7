"""The loop: learns, resumes bit-equal, refuses other settings, and leaves only safetensors."""

import json

import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from straight_line import ExactLine, Line, Points

from synthfair_hf.errors import InputError
from synthfair_hf.records import Record
from synthfair_hf.training.checkpoints import check_output_dir
from synthfair_hf.training.config import TrainingConfig
from synthfair_hf.training.loop import train


def run(directory, steps, objective=Line, **settings):
    defaults = {
        "train_batch_size": 5,
        "learning_rate": 0.05,
        "lr_warmup_steps": 0,
        "adam_weight_decay": 0,
        "ema_decay": 0.5,
        "checkpointing_steps": 20,
    }
    config = TrainingConfig(output_dir=directory, max_train_steps=steps, **{**defaults, **settings})
    objective = objective()
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


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path, accumulation):
    settings = {"gradient_accumulation_steps": accumulation, "train_batch_size": 2}
    undisturbed = run(tmp_path / "whole", 60, **settings)
    run(tmp_path / "parts", 60, **settings)
    (tmp_path / "parts" / "record.json").unlink()
    for checkpoint in (tmp_path / "parts").glob("checkpoint-4*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    resumed = run(tmp_path / "parts", 60, resume_from_checkpoint="latest", **settings)
    assert resumed[:2] == undisturbed[:2]


@pytest.mark.parametrize(("size", "accumulation"), [(1, 6), (2, 3), (3, 2)])
def test_accumulation_is_a_larger_batch_in_pieces(tmp_path, size, accumulation):
    """Rows, schedule, average and number of updates are those of the whole batch."""
    whole = run(tmp_path / "whole", 45, ExactLine, train_batch_size=6)
    pieces = run(tmp_path / "pieces", 45, ExactLine, train_batch_size=size, gradient_accumulation_steps=accumulation)
    assert pieces[:2] == pytest.approx(whole[:2], abs=1e-5)
    assert pieces[2].counts == whole[2].counts
    assert pieces[2].measured == pytest.approx(whole[2].measured, abs=2e-5)
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "pieces")]
    assert names[0] == names[1]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    _, _, record = run(tmp_path, 30)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    slope, intercept, again = run(tmp_path, 30, resume_from_checkpoint="latest")
    assert (slope, intercept) == (0, 0), "nothing was trained"
    assert again == record
    with pytest.raises(InputError, match=r"record\.json: made by other settings \(learning_rate: 0\.01 != 0\.05\)"):
        run(tmp_path, 30, resume_from_checkpoint="latest", learning_rate=0.01)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("figures", [None, {}, {"validation": {"error": 0.5, "n": 3}}])
def test_what_saving_measures_is_in_the_one_record_that_is_written(tmp_path, monkeypatch, figures):
    order = []

    def save(directory):
        order.append("save")
        return figures

    def write(record, path):
        order.append("record")
        written(record, path)

    written = Record.write
    monkeypatch.setattr(Record, "write", write)
    config = TrainingConfig(output_dir=tmp_path, max_train_steps=3, train_batch_size=5)
    record = train(ExactLine(), Points(), config, save, {}, {})
    assert order == ["save", "record"]
    assert record == Record.read(tmp_path / "record.json")
    trained = {"training_loss", "training_gradient_norm", "training_clipped"}
    assert set(record.measured) == {*trained, *(figures or {})}
    assert record.measured.get("validation") == (figures or {}).get("validation")


@pytest.mark.parametrize(("until", "asked"), [(99, [4, 8, 10]), (8, [4, 8])])
def test_validation_sees_the_average_and_may_end_the_run(tmp_path, until, asked):
    """Asked every 4 of 10 steps and after the last; what is saved is what it saw there, and it moves nothing."""
    seen, saved = {}, {}
    objectives = ExactLine(), ExactLine()

    def validate(step):
        seen[step] = objectives[0].line.weight.item()
        return step == until

    def run(name, objective, *hook):
        def save(directory):
            saved[name] = objective.line.weight.item()

        config = TrainingConfig(output_dir=tmp_path / name, max_train_steps=10, train_batch_size=5, learning_rate=0.05)
        return train(objective, Points(), config, save, {}, {}, *hook)

    record = run("watched", objectives[0], validate, 4)
    assert list(seen) == asked
    assert record.counts["steps"] == asked[-1]
    assert saved["watched"] == seen[asked[-1]]
    run("alone", objectives[1])
    assert (saved["watched"] == saved["alone"]) is (until == 99)


def test_a_run_stopped_while_saving_is_not_a_finished_one(tmp_path):
    def stopped(directory):
        raise KeyboardInterrupt

    asked = {"output_dir": tmp_path, "max_train_steps": 30, "train_batch_size": 5, "checkpointing_steps": 20}
    with pytest.raises(KeyboardInterrupt):
        train(ExactLine(), Points(), TrainingConfig(**asked), stopped, {}, {})
    assert not (tmp_path / "record.json").exists()
    again = TrainingConfig(**asked, resume_from_checkpoint="latest")
    record = train(ExactLine(), Points(), again, lambda path: {"error": 0.5}, {}, {})
    assert record.measured["error"] == 0.5


def test_checkpoints_hold_no_pickle_and_are_limited(tmp_path):
    run(tmp_path, 90, checkpoints_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-80"]
    assert {path.suffix for path in (tmp_path / "checkpoint-80").iterdir()} == {".safetensors", ".json"}
    assert set(load_file(tmp_path / "checkpoint-80" / "model.safetensors")) == {"line.weight", "line.bias"}


def test_an_earlier_run_is_never_overwritten_unasked(tmp_path):
    run(tmp_path, 30)
    with pytest.raises(InputError, match="holds an earlier run; give resume_from_checkpoint='latest'"):
        run(tmp_path, 30)
    with pytest.raises(InputError, match=r"other settings \(max_train_steps: 40 != 30\)"):
        run(tmp_path, 40, resume_from_checkpoint="latest")
    with pytest.raises(InputError, match="allowed: latest, checkpoint-20"):
        run(tmp_path, 30, resume_from_checkpoint="checkpoint-7")


def test_an_output_directory_is_checked_before_any_work(tmp_path):
    check_output_dir(TrainingConfig(output_dir=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    run(tmp_path / "old", 30)
    with pytest.raises(InputError, match="holds an earlier run"):
        check_output_dir(TrainingConfig(output_dir=tmp_path / "old"))
    check_output_dir(TrainingConfig(output_dir=tmp_path / "old", resume_from_checkpoint="latest"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; give a directory"):
        check_output_dir(TrainingConfig(output_dir=tmp_path / "file"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Nowhere(Line):
        def forward(self, batch, generator):
            loss, parts = super().forward(batch, generator)
            return loss / 0, parts

    config = TrainingConfig(output_dir=tmp_path, max_train_steps=3, train_batch_size=5)
    with pytest.raises(InputError, match=r"the loss is inf; give a lower learning_rate and another output_dir"):
        train(Nowhere(), Points(), config, lambda path: None, {}, {})
    assert not (tmp_path / "record.json").exists()


def test_half_precision_is_close_to_single(tmp_path, request):
    ends = {}
    request.addfinalizer(AcceleratorState._reset_state)
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()  # accelerate keeps one precision per process
        ends[precision] = run(tmp_path / precision, 60, mixed_precision=precision)
    single, half = ends["no"], ends["bf16"]
    assert half[:2] == pytest.approx(single[:2], abs=0.1)
    assert half[:2] != single[:2]
    assert half[2].settings["mixed_precision"] == "bf16"
