"""Bars of progress, drawn on a terminal and in notebooks; in the log of a job a line every half a minute of what lasts.

They are those of the Hub's library, so what its users know holds here: `HF_HUB_DISABLE_PROGRESS_BARS=1`, or
`huggingface_hub.utils.disable_progress_bars("synthfair_hf")`, switches them off.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["progress_bar", "without_bars"]

LOG_SECONDS = 30
LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} in {elapsed}, {remaining} left, {rate_fmt}{postfix}\n"


def progress_bar(iterable: Iterable[Any] | None = None, **settings: Any) -> "tqdm[Any]":
    """A bar of tqdm; where the standard error is no terminal, plain lines, and none of what is over before the first.

    Args:
        iterable: what is gone through; without it, the bar is updated by hand.
        settings: those of tqdm.
    """
    # the Hub's library takes its time to import, and only who waits needs a bar
    from huggingface_hub.utils import tqdm as hub_bar

    in_notebook = any(kind.__module__ == "tqdm.notebook" for kind in hub_bar.__mro__)
    if not in_notebook and not getattr(sys.stderr, "isatty", bool)():
        settings |= {"delay": LOG_SECONDS, "mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS}
        settings |= {"bar_format": LINE, "leave": True}
    bar: tqdm[Any] = hub_bar(iterable, name=__package__, **settings)
    return bar


@contextmanager
def without_bars(logging: Any) -> Iterator[None]:
    """No bars of a library for what takes no time.

    Args:
        logging: `diffusers.utils.logging` or `transformers.logging`, which switch theirs on and off.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
