"""Bars: on a terminal, in a log, and switched off as the Hub's are."""

import io
import sys

import diffusers
import pytest
import transformers
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from synthfair_hf import progress
from synthfair_hf.progress import progress_bar, without_bars


class Screen(io.StringIO):
    def isatty(self):
        return True


def drawn(monkeypatch, stream, **settings):
    """What a bar of 400 steps writes, and what went through it."""
    monkeypatch.setattr(sys, "stderr", stream)
    steps = list(progress_bar(range(400), desc="steps", unit="image", file=stream, **settings))
    return stream.getvalue(), steps


def test_a_terminal_gets_a_bar_and_a_log_whole_lines(monkeypatch):
    shown, steps = drawn(monkeypatch, Screen(), mininterval=0)
    assert steps == list(range(400))
    assert shown.count("\r") > 100
    assert "|" in shown
    monkeypatch.setattr(progress, "LOG_SECONDS", 1e-6)
    logged, steps = drawn(monkeypatch, io.StringIO())
    assert steps == list(range(400))
    lines = [line.strip() for line in logged.splitlines() if line.strip()]
    assert lines[-1].startswith("steps: 100% 400/400 in ")
    assert "left" in lines[-1]
    assert "image/s" in lines[-1]
    assert not any("|" in line for line in lines)


@pytest.mark.parametrize("leave", [True, False])
def test_a_log_has_nothing_of_what_is_soon_over(monkeypatch, leave):
    assert drawn(monkeypatch, io.StringIO(), leave=leave)[0] == ""
    assert drawn(monkeypatch, Screen(), leave=leave)[0] != ""


def test_a_stream_that_is_no_file_is_a_log(monkeypatch):
    class Tee:
        written = ""

        def write(self, text):
            self.written += text

        def flush(self):
            pass

    monkeypatch.setattr(progress, "LOG_SECONDS", 1e-6)
    stream = Tee()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), file=stream)) == [0, 1, 2]
    assert "3/3" in stream.written


def test_the_hubs_switch_is_ours(monkeypatch):
    disable_progress_bars("synthfair_hf")
    try:
        assert drawn(monkeypatch, Screen())[0] == ""
    finally:
        enable_progress_bars("synthfair_hf")
    assert drawn(monkeypatch, Screen())[0] != ""


@pytest.mark.parametrize("logging", [diffusers.utils.logging, transformers.logging])
@pytest.mark.parametrize("shown", [True, False])
def test_a_librarys_bars_are_as_before_afterwards(logging, shown):
    before = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        with pytest.raises(ZeroDivisionError), without_bars(logging):
            1 / logging.is_progress_bar_enabled()
        with without_bars(logging):
            assert not logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled() is shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
