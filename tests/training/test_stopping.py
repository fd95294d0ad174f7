"""What is asked to stop ends after its step, with a checkpoint to go on from; asked again, it ends at once."""

import signal
import threading

import pytest
from straight_line import ExactLine, Points

from synthfair_hf.training.config import TrainingConfig
from synthfair_hf.training.loop import train
from synthfair_hf.training.stopping import StopSignals

pytestmark = pytest.mark.usefixtures("interruptible")


class Interrupted(ExactLine):
    """A line at whose call of this number a signal comes, so many times."""

    def __init__(self, number=signal.SIGINT, at=None, times=1):
        super().__init__()
        self.number, self.at, self.times, self.calls = number, at, times, 0

    def forward(self, batch, generator):
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return super().forward(batch, generator)


def run(directory, objective, resume=None):
    config = TrainingConfig(
        output_dir=directory,
        max_train_steps=12,
        train_batch_size=5,
        learning_rate=0.05,
        lr_warmup_steps=0,
        checkpointing_steps=10,
        resume_from_checkpoint=resume,
    )
    record = train(objective, Points(), config, lambda path: None, {}, {})
    return objective.line.weight.item(), objective.line.bias.item(), record


class Ended(Exception):
    pass


def _end(number, frame):
    raise Ended


@pytest.fixture
def terminable():
    """SIGTERM raises, as SIGINT does."""
    before = signal.signal(signal.SIGTERM, _end)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Ended)])
def test_a_stopped_run_loses_no_step(number, error, terminable, tmp_path):
    undisturbed = run(tmp_path / "whole", Interrupted())
    before = signal.getsignal(number)
    with pytest.raises(error):
        run(tmp_path / "parts", Interrupted(number, at=7))
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["checkpoint-7"]
    rest = Interrupted()
    resumed = run(tmp_path / "parts", rest, "latest")
    assert (resumed[:2], rest.calls) == (undisturbed[:2], 5)
    assert resumed[2].counts == undisturbed[2].counts


def test_asked_twice_it_ends_at_once(tmp_path):
    objective = Interrupted(at=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", objective)
    assert objective.calls == 3
    assert list((tmp_path / "run").iterdir()) == []


def test_at_the_last_step_a_run_finishes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Interrupted(at=12))
    assert (tmp_path / "run" / "record.json").exists()


def test_nothing_is_postponed_in_another_thread_or_where_a_signal_is_ignored(terminable):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    held = []

    def look():
        with StopSignals():
            held.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    with StopSignals():
        held += [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert held[0] is before
    assert held[1] is not before
    assert held[2] is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
