"""One run of the command line, from its words to its exit status.

What came out is printed. Bad input is one sentence and exit status 2; `verify` exits with 1 when it finds problems,
`audit` and `monitor` when a condition holds. The library names its own arguments; its errors are printed with the names
of the flags.
"""

import os
import select
import signal
import sys
from collections.abc import Iterable, Sequence
from shlex import join
from typing import Any

from safetensors import SafetensorError

from .. import __version__
from ..errors import InputError, printable, unknown
from ..training.config import TrainingConfig
from .parser import help_of, in_flags, parse
from .settings import VerbSettings
from .verbs import RENAMED_VERBS, VERBS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    # while the package was imported, Ctrl-C ended the process (`synthfair_hf.__init__`)
    if getattr(signal.getsignal(signal.SIGINT), "__module__", "") == __package__.partition(".")[0]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = settings = None
    rest = words
    try:
        if words[:1] == ["--version"]:
            print(f"synthfair {__version__}")
            return _printed(0)
        if words[:1] in HELP:
            print(_overview(VERBS))
            return _printed(0)
        inner = [name for name in VERBS if name.startswith(f"{words[0]} ")] if words else []
        if inner and words[1:2] in HELP:
            print(_overview(inner))
            return _printed(0)
        verb = _verb(words, bool(inner))
        rest = words[len(verb.verb.split()) :]
        if any([word] in HELP for word in rest):
            print(help_of(verb), end="")
            return _printed(0)
        settings = parse(verb, rest)
        return _printed(settings.run() or 0)
    except InputError as error:
        return _refused(in_flags(str(error), verb, rest))
    except (OSError, SafetensorError) as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return 128 + signal.SIGPIPE
        # a full disk and a failing one name no file
        place = getattr(error, "filename", None) or _place(settings)
        return _refused(f"{place}: {getattr(error, 'strerror', None) or error}.")
    except MemoryError:
        return _refused(f"{_place(settings)}: there is not enough memory; give fewer or smaller images.")
    except BaseException as error:
        # libraries raise errors of their own of an interrupt while they are imported
        if not _was_interrupted(error):
            raise
        # of processes that train together one tells
        if os.environ.get("RANK", "0") == "0":
            print(f"synthfair: interrupted{_how_to_go_on(settings, words)}", file=sys.stderr)
        return 128 + signal.SIGINT


HELP = (["--help"], ["-h"])


def _printed(status: int) -> int:
    """The exit status, once everything is printed: an error of that is not left to the interpreter's end."""
    sys.stdout.flush()
    return status


def _is_unread() -> bool:
    """Whether the reader of the output, such as `head`, has enough; what is still to be printed is dropped then."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _refused(sentence: str) -> int:
    print(f"synthfair: {printable(sentence)}", file=sys.stderr)
    return 2


def _place(settings: Any) -> str:
    """What a verb reads or writes, for an error that does not say."""
    holders = (settings, getattr(settings, "config", None))
    names = ("output_dir", "answers_file", "directory", "pretrained_model_name_or_path")
    found = (getattr(holder, name, None) for holder in holders for name in names)
    return str(next((one for one in found if one is not None), "the system"))


def _was_interrupted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _how_to_go_on(settings: VerbSettings | None, words: Sequence[str]) -> str:
    """What is said of a run that was interrupted: nothing where it had not begun."""
    if settings is None:
        return "."
    if settings.continues:
        return "; the same command goes on from there."
    config = getattr(settings, "config", None)
    if isinstance(config, TrainingConfig):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return "; the same launch goes on with --resume_from_checkpoint latest."
        # of a flag that is given twice the last is taken
        resume = () if config.resume_from_checkpoint == "latest" else ("--resume_from_checkpoint", "latest")
        return f"; it goes on by: {join(['synthfair', *words, *resume])}"
    return "; the same command begins anew."


def _overview(names: Iterable[str]) -> str:
    """Descriptions of the verbs of these names, a line each."""
    lines = [f"  {name:18} {VERBS[name].__doc__}" for name in names]
    return "\n".join(
        [
            "usage: synthfair VERB [--flag value ...]",
            "",
            "SynthFair: counterfactual medical images, biased views, and how to measure and mitigate bias.",
            "",
            *lines,
            "",
            "`synthfair VERB --help` explains a verb's flags and gives an example; `synthfair --version`.",
        ]
    )


def _verb(words: Sequence[str], has_inner: bool) -> type[VerbSettings]:
    """The verb that the words begin with; `has_inner` says that the first word alone is none."""
    if not words:
        raise InputError("verb: not given; see `synthfair --help`.")
    if has_inner and (len(words) == 1 or words[1].startswith("-")):
        inner = ", ".join(name for name in VERBS if name.startswith(f"{words[0]} "))
        raise InputError(f"verb: {words[0]!r} is a group of verbs; give one of: {inner}.")
    name = " ".join(words[: 1 + has_inner])
    if name in RENAMED_VERBS:
        raise InputError(f"verb: {name!r} is called {RENAMED_VERBS[name]!r} now.")
    if name not in VERBS:
        raise unknown("verb", name, VERBS, RENAMED_VERBS)
    return VERBS[name]
