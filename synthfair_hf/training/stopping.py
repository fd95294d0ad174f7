"""A run that is asked to stop ends after its step, when what is to be written is whole.

Ctrl-C, a notebook's interrupt and the end of a job (SIGTERM, which Slurm sends some time before it kills) set a flag;
the loop writes a checkpoint and lets the signal act then. The same signal once more acts at once.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals"]


class StopSignals:
    """`with StopSignals() as stop:` postpones them; `stop.requested` is the one that came, `stop.obey()` lets it act.

    A handler can be set in the main thread alone: elsewhere, and where a signal is ignored, nothing is postponed.

    Args:
        postpones: whether anything is postponed; processes that train together would not stop after the same step.
    """

    def __init__(self, postpones: bool = True) -> None:
        self.requested: int | None = None
        self._postpones = postpones and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM) if self._postpones else ():
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._postpone)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _postpone(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            self.obey()
        self.requested = number

    def obey(self) -> None:
        """Let the signal that came do what it did before: Ctrl-C raises KeyboardInterrupt."""
        if self.requested is not None:
            self.__exit__(None, None, None)
            signal.raise_signal(self.requested)
