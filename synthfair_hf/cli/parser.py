"""Settings of a verb from the words of a command line: flags are derived from the fields of its settings model.

Flags are snake_case (kebab-case is accepted), with the field's description as help. `--config_file FILE.yaml` holds
settings under the same names; a flag on the command line wins. argparse only separates the words by flag; the model
validates them.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ..arguments import usable_path
from ..errors import InputError, MissingSetting, invalid_value, remedy_of, shown, unknown
from ..yaml_files import UNREADABLE, Loader, read_bytes
from .settings import VerbSettings
from .words import Positional, Words

__all__ = ["flags_of", "help_of", "in_flags", "parse"]

V = TypeVar("V", bound=VerbSettings)

WHOLE = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*")
"""How whole numbers are written: not as 1_000, and not with a point."""


def parse(verb: type[V], words: Sequence[str]) -> V:
    """The settings that the words after a verb give.

    Args:
        verb: one of `verbs.VERBS`.
        words: flags and their values.

    Raises:
        InputError: an unknown, missing or invalid setting, or a settings file that can't be read.
    """
    flags = flags_of(verb)
    found, unread = _parser(verb).parse_known_args([_snake(word) for word in words])
    if unread and not unread[0].startswith("--"):
        raise InputError(f"{unread[0]!r}: belongs to no flag; see `synthfair {verb.verb} --help`.")
    if unread:
        raise _unknown_flag(verb, unread[0].removeprefix("--").partition("=")[0], "--")
    given = vars(found)
    _check_words(flags, given)
    if "config_file" in given:
        given = {**_from_file(verb, Path(given.pop("config_file"))), **given}
        _check_words(flags, given)
    # an inner model must exist to report what it lacks
    settings: dict[str, Any] = {inner: {} for one in flags.values() for inner in one.inside}
    for name, value in given.items():
        place = settings
        for inner in flags[name].inside:
            place = place[inner]
        reading = flags[name].words
        place[name] = value if reading is None else reading.read(name, value)
    try:
        return verb.model_validate(settings)
    except ValidationError as error:
        raise _validation_error(error, verb) from None


def _check_words(flags: Mapping[str, "_Flag"], given: Mapping[str, Any]) -> None:
    """Refuse words that no setting takes, but that pydantic would pass on."""
    for name, value in given.items():
        if value == [] and (name not in flags or not flags[name].several):
            # what argparse makes of `--seed=--`
            raise InputError(f"{name}: '--' is invalid; give a value.")
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and "\0" in word:
                raise InputError(f"{name}: {shown(word)} holds a NUL character; leave it out.")
            if isinstance(word, str) and name in flags and flags[name].kind is int and not WHOLE.fullmatch(word):
                raise InputError(f"{name}: {shown(word)} is invalid; {remedy_of(flags[name].kind_and_limits)}.")
            if isinstance(word, str) and (name == "config_file" or (name in flags and flags[name].kind is Path)):
                usable_path(name, word)


def help_of(verb: type[VerbSettings]) -> str:
    """What `synthfair VERB --help` prints."""
    return _parser(verb).format_help()


def in_flags(sentence: str, verb: type[VerbSettings] | None, words: Sequence[str] = ()) -> str:
    """`num_subjects: 0 is ...` as `--num_subjects: 0 is ...` where these arguments are flags of the verb.

    Args:
        sentence: an error's message; one that begins otherwise is returned as it is.
        verb: one of `verbs.VERBS`, or None.
        words: what was given after the verb; a sentence that begins with a value of these, such as the path of a
            directory called predictor, is about that value.
    """
    if verb is None:
        return sentence
    called = {name: one.name for one in flags_of(verb).values() if not one.positional for name in one.names}
    called |= {**verb.library_names, "config_file": "config_file"}
    argument = r"(\w+)((?:\[[^\]]*\])?)"
    head = re.match(rf"{argument}(?:, {argument})*(?=:)", sentence)
    arguments = [] if head is None else re.findall(argument, head[0])
    told, _, remedy = sentence.partition("; ")
    # lists of names follow the place that they are for
    remedy = remedy if remedy.startswith("allowed:") else _remedy_in_flags(remedy, called)
    if head is not None and head[0] not in _values(verb, words) and all(name in called for name, _ in arguments):
        told = ", ".join(f"--{called[name]}{key}" for name, key in arguments) + told[head.end() :]
    return f"{told}; {remedy}" if remedy else told


def _remedy_in_flags(remedy: str, called: Mapping[str, str]) -> str:
    """`give resume_from_checkpoint='latest'` as `give --resume_from_checkpoint latest`, and so lists and mappings.

    A preset that the library drafts is one that a verb writes.

    A word with a value can only be a name, and one with an underscore. Others, such as `seed`, are English, too.
    """
    outside = r"(?<![\w./'\"`=-])"

    def alternatives(names: Iterable[str]) -> str:
        return "|".join(sorted(names, key=len, reverse=True))

    def listed(found: re.Match[str]) -> str:
        pairs = re.findall(r"'([^']+)'(?:: '([^']+)')?", found[2])
        words = (f"{name}={column}" if column else name for name, column in pairs)
        return " ".join((f"--{called[found[1]]}", *map(quote, words)))

    value, pair = r"'\w+'", r"'[^']+': '[^']+'"
    remedy = re.sub(r"draft_preset\('([^']+)'\)", lambda found: f"`synthfair preset --from {quote(found[1])}`", remedy)
    several = rf"\{{{pair}(?:, {pair})*\}}|\['[^']+'(?:, '[^']+')*\]|{value}"
    remedy = re.sub(rf"{outside}({alternatives(called)})=({several})", listed, remedy)
    names = alternatives(name for name in called if "_" in name)
    if not names:
        return remedy
    return re.sub(rf"{outside}({names})(?![\w/'\"=])", lambda found: f"--{called[found[1]]}", remedy)


def _values(verb: type[VerbSettings], words: Sequence[str]) -> set[str]:
    """The values on a command line and in its settings file, as they stand and as paths print them."""
    try:
        found, unread = _parser(verb).parse_known_args([_snake(word) for word in words])
        given = vars(found)
        if given.get("config_file"):
            given = {**_from_file(verb, Path(given["config_file"])), **given}
    except InputError:
        # what cannot be read is itself what the sentence is about
        return set()
    values = [one for value in given.values() for one in (value if isinstance(value, list) else [value])]
    return {text for one in [*values, *unread] for text in (str(one), str(Path(str(one))))}


def _snake(word: str) -> str:
    """--num-subjects=3 is --num_subjects=3."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


class _Flag(NamedTuple):
    """A flag of a verb: its field, and the models that this lies in, by name."""

    name: str
    field_name: str
    field: FieldInfo
    inside: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """What the flag and the argument are called."""
        return {self.name, self.field_name}

    @property
    def positional(self) -> Positional | None:
        return next((one for one in self.field.metadata if isinstance(one, Positional)), None)

    @property
    def words(self) -> Words | None:
        return next((one for one in self.field.metadata if isinstance(one, Words)), None)

    @property
    def kind(self) -> Any:
        """The type of one word."""
        kind = self.field.annotation
        if get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not NoneType)
        if get_origin(kind) is tuple and self.words is None:
            kind = get_args(kind)[0]
        return get_args(kind)[0] if get_origin(kind) is Annotated else kind

    @property
    def kind_and_limits(self) -> Any:
        """The annotation with its range."""
        return Annotated[self.field.annotation, *self.field.metadata, None]

    @property
    def several(self) -> bool:
        """Whether several words may follow."""
        return self.words is not None or "tuple" in str(self.field.annotation)

    @property
    def metavar(self) -> str:
        if self.positional is not None:
            return self.positional.metavar
        if self.words is not None:
            return self.words.metavar
        if get_origin(self.kind) is Literal:
            return "|".join(get_args(self.kind))
        return {int: "N", float: "X", Path: "PATH"}.get(self.kind, "TEXT")

    @property
    def help(self) -> str:
        default = self.field.default
        if self.field.is_required() or default is None or default is False or default in ((), {}):
            return str(self.field.description)
        text = " ".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{self.field.description} (default: {text})"


def flags_of(model: type[BaseModel]) -> dict[str, _Flag]:
    """The flags of a model by name, those of its inner models last."""
    found: dict[str, _Flag] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {
                flag: one._replace(inside=(name, *one.inside)) for flag, one in flags_of(field.annotation).items()
            }
        else:
            found[field.alias or name] = _Flag(field.alias or name, name, field)
    return found


GROUPS = {
    "source_dir": "settings of the source",
    "external": "settings of the images for a test beside",
    "network": "settings of the network",
    "config": "settings of the training",
}
"""What the flags of an inner model are called together."""


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, nothing else."""

    def error(self, message: str) -> Any:
        if switch := re.match(r"argument (--\w+): ignored explicit argument", message):
            raise InputError(f"{switch[1]}: takes no value; give {switch[1]} alone, or leave it out.")
        missing = message.removeprefix("the following arguments are required: ")
        if missing != message:
            raise InputError(f"{missing}: not given on the command line; see `{self.prog} --help`.")
        raise InputError(f"{message}; see `{self.prog} --help`.")


def _parser(verb: type[VerbSettings]) -> _Parser:
    """What splits a command line into words by flag; the settings model validates them, so nothing is required."""
    flags = flags_of(verb)
    needed = [one for one in flags.values() if one.field.is_required()]
    usage = " ".join(one.metavar if one.positional else f"--{one.name} {one.metavar}" for one in needed)
    parser = _Parser(
        prog=f"synthfair {verb.verb}",
        usage=f"synthfair {verb.verb} {usage} [--flag value ...]".replace("  ", " "),
        description=verb.__doc__,
        epilog=f"example:\n  synthfair {verb.verb} {verb.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    groups = {"": parser.add_argument_group("settings")}
    for one in flags.values():
        inner = one.inside[0] if one.inside else ""
        if inner not in groups:
            groups[inner] = parser.add_argument_group(GROUPS[inner])
        add = groups[inner].add_argument
        name = one.name if one.positional else f"--{one.name}"
        text = one.help.replace("%", "%%")
        if one.kind is bool:
            add(name, action="store_true", help=text)
            continue
        several = "*" if one.words is not None and one.words.may_be_empty else "+"
        single = "?" if one.positional and not one.field.is_required() else None
        add(name, nargs=several if one.several else single, metavar=one.metavar, help=text)
    groups[""].add_argument("--config_file", metavar="PATH", help="YAML with settings under the names of the flags")
    return parser


def _unknown_flag(verb: type[VerbSettings], name: str, prefix: str = "", where: str = "") -> InputError:
    """The error for a flag that a verb does not have."""
    renamed = {f"{prefix}{old}": f"{prefix}{new}" for old, new in verb.renamed_flags.items()}
    if (written := f"{prefix}{name}") in renamed:
        return InputError(f"{where}{written}: is called {renamed[written]} now.")
    known = [f"{prefix}{one.name}" for one in flags_of(verb).values() if not one.positional]
    return unknown(f"{where}synthfair {verb.verb}", written, [*known, "--config_file"] if prefix else known, renamed)


def _validation_error(error: ValidationError, verb: type[VerbSettings]) -> InputError:
    """The first invalid setting, as one sentence."""
    errors = error.errors()
    # of the alternatives of a union, that which got furthest
    first = max(
        (one for one in errors if one["loc"] and one["loc"][0] == errors[0]["loc"][0]), key=lambda one: len(one["loc"])
    )
    flags = flags_of(verb)
    name = next((str(part) for part in first["loc"] if part in flags), "")
    reason = first.get("ctx", {}).get("error")
    name = reason.name if isinstance(reason, MissingSetting) else name
    if first["type"] == "missing" or isinstance(reason, MissingSetting):
        return InputError(f"{name}: not given; see `synthfair {verb.verb} --help`.")
    return invalid_value(name, dict(first), flags[name].kind_and_limits if name else None)


def _from_file(verb: type[VerbSettings], path: Path) -> dict[str, Any]:
    """The settings of a file, as words after each flag; nothing in it is run, interpolated or repeated."""
    flags, given = flags_of(verb), {}
    for key, value in _read_settings(path).items():
        name = str(key).replace("-", "_")
        if name not in flags:
            raise _unknown_flag(verb, name, where=f"config_file: {path}: ")
        if positional := flags[name].positional:
            raise InputError(f"config_file: {name} of {path} is given on the command line, as {positional.metavar}.")
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in values):
            raise InputError(f"config_file: {name} of {path} holds more than a list of values; give one, or a list.")
        if flags[name].kind is bool:
            given[name] = value
        elif any(isinstance(one, bool) for one in values):
            raise InputError(f"config_file: {name} of {path} is {value} in YAML; quote what it is to be.")
        elif flags[name].several:
            words = flags[name].words
            if not values and not (words is not None and words.may_be_empty):
                raise InputError(f"config_file: {name} of {path} is empty; give one value or more, or leave it out.")
            given[name] = [str(one) for one in values]
        elif len(values) != 1:
            raise InputError(f"config_file: {name} of {path} holds {len(values)} values; give one.")
        else:
            given[name] = str(values[0])
    return given


def _read_settings(path: Path) -> dict[Any, Any]:
    try:
        settings = yaml.load(read_bytes(path), _Loader)
    except UNREADABLE as error:
        raise InputError(
            f"config_file: {path} is not readable YAML ({(str(error) or type(error).__name__).splitlines()[0]})."
        ) from None
    if not isinstance(settings, dict):
        raise InputError(f"config_file: {path} must map flag names to values.")
    return settings


class _Loader(Loader):
    """Each name is given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("-", "_")
            if name in names:
                raise yaml.YAMLError(f"it gives {name} twice; give it once")
            names.add(name)
        return super().construct_mapping(node, deep)
