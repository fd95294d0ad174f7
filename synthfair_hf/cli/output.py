"""Sentences that several verbs print."""

from collections.abc import Mapping
from pathlib import Path
from shlex import join
from typing import Any

from ..domains.source import describe_counts
from ..errors import counted
from ..records import Record
from ..training.config import TrainingConfig

__all__ = ["next_command", "print_counts", "print_saved", "trial"]


def next_command(verb: str, *words: object) -> str:
    """The command to go on with, as a shell takes it; words in capitals are for the reader to replace."""
    return f"next: {join(['synthfair', *verb.split(), *map(str, words)])}"


def trial() -> str:
    """What is said of the time that the next command takes."""
    steps = TrainingConfig.model_fields["max_train_steps"].default
    return f"training takes {steps:,} steps, hours without a GPU; with --max_train_steps 300 it is a trial"


def print_counts(counts: Mapping[str, Any]) -> None:
    """Print what was read of a folder and what was not, where counts of a record or summary tell."""
    source = counts.get("source")
    # what draws its own images misses nothing
    if isinstance(source, Mapping) and "missing" in source:
        print("\n".join(describe_counts(source)))


def print_saved(output_dir: Path, record: Record) -> None:
    """Print where a trained network is, and what was read for it."""
    print(f"saved {output_dir} after {counted(record.counts['steps'], 'step')}; record in {output_dir}/record.json")
    print_counts(record.counts)
