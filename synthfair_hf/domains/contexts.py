"""Contexts: what differs between images beside a domain's covariates, such as posture or devices.

    posture: [standing upright, lying supine]            # contexts.yaml: variables, each with phrases to choose from
    devices: [no devices, a cardiac pacemaker]

    {"posture": "lying supine", "devices": "chest drain on one side"}            # a context, as JSON on a line

A context says one thing of each of its variables: a phrase, those of the file or others. A variable that is a covariate
of the acquisition, such as the view, takes its levels alone. No phrase may speak of a covariate, or of a patient's age,
sex or race: the context of some images would say what those of others do not, and they would no longer be balanced.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, shown, unknown
from ..schema import Variable, spelling
from ..yaml_files import UNREADABLE, Loader, read_bytes, reason
from .preset import Preset
from .preset_file import COLUMNS
from .prompts import CONTEXT

__all__ = ["CONTEXTS", "DEMOGRAPHIC", "Contexts", "acquisition", "read_contexts"]

CONTEXTS = {
    domain: Path(__file__).parent / domain / "contexts.yaml" for domain in ("chest_xray", "dermatology", "brain_mri")
}
"""The files of this package's presets."""

_SEX = """
    sex gender man men male woman women female boy girl lady ladies gentleman gentlemen he him his she her hers mother
    father husband wife masculine feminine pregnant pregnancy breast menopause prostate testicular mrs madam madame sir
    son daughter brother sister aunt uncle niece nephew grandma grandpa granny widow widower bride nun monk transgender
    menopausal menstrual menstruation lactating uterus uterine ovary ovaries ovarian vagina vaginal hysterectomy penis
    penile scrotum scrotal testis testes testicle beard bearded moustache gynecomastia gynaecomastia
"""
_AGE = """
    age aged ageing aging old older elderly young younger youth child children childhood adult adolescent adolescence
    teen teenage teenager infant baby babies newborn neonate neonatal pediatric paediatric geriatric senior juvenile
    year yr yo month decade octogenarian toddler preschooler kindergarten adulthood midlife pensioner retired retiree
    birthday preterm twenties thirties forties fifties sixties seventies eighties nineties
"""
_RACE = """
    race racial ethnic ethnicity white black asian african caucasian hispanic latino latina european indian chinese
    japanese korean arab nationality complexion melanin fitzpatrick afro negro oriental american mexican brazilian cuban
    colombian peruvian jamaican haitian caribbean nigerian ethiopian somali kenyan ghanaian congolese sudanese egyptian
    moroccan algerian tunisian turkish kurdish iranian persian iraqi syrian lebanese israeli saudi afghan pakistani
    bangladeshi nepali tamil thai vietnamese filipino indonesian malaysian mongolian russian ukrainian polish german
    italian spanish portuguese greek irish scottish british scandinavian swedish jewish muslim hindu aboriginal
    indigenous maori polynesian inuit romani biracial multiracial
"""
_SKIN = "dark darker light lighter fair pale brown tanned olive"

DEMOGRAPHIC: dict[str, tuple[str, ...]] = {
    "sex": tuple(_SEX.split()),
    "age": tuple(_AGE.split()),
    "race": (
        *_RACE.split(),
        *(f"{one} skin" for one in _SKIN.split()),
        *("skin tone", "skin colour", "skin color", "skin type"),
    ),
}
"""Words by what they tell of a person; of any domain, whether or not it has the attribute as a covariate.

The commonest in English. No list is complete, and words that mean something else in a hospital, such as Ms, French or
minor, are left out: what a language model wrote is to be read.
"""

PARTS = {
    "sex": "(?:wom[ae]n|girl|boy|wife|(?:grand|step|god)(?:mother|father|daughter|son))",
    "age": "(?:[a-z]genarian|centenarian|child|adolescen|neonat)",
    "race": "(?:african|american|asian|european|caucasian)",
}
"""What tells the same inside any word, as in schoolboy, as patterns; not mother, which is inside chemotherapy."""

LONGEST_LINE, LONGEST = 2000, 80
"""Characters of a context's JSON, and of one phrase."""

PHRASE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9 ,.()/%+'-]{{0,{LONGEST - 1}}}")
"""No brackets, quotes or colons, to which templates and text-to-image pipelines give a meaning."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

MOST = 40
"""Variables, and phrases of one, in a file that a person writes."""


@dataclass(frozen=True)
class Contexts:
    """Which contexts there are in a domain.

    `levels` holds the phrases of each variable, by name; of a covariate its levels. A variable without any takes every
    phrase.
    """

    preset: Preset
    levels: Mapping[str, tuple[str, ...]]

    @classmethod
    def like(cls, preset: Preset, line: str) -> "Contexts":
        """Those that tell of the variables that a line tells of; of none if it is no context at all.

        Args:
            preset: the domain.
            line: the first of a file.
        """
        try:
            found = json.loads(line[: LONGEST_LINE + 1])
        except (ValueError, RecursionError):
            found = None
        names: list[str] = []
        for name in found if isinstance(found, dict) else ():
            if _why_no_variable(name, names) is None:
                names.append(name)
        return cls(preset, {name: () for name in names})

    def parse(self, line: str) -> tuple[dict[str, str] | None, str | None]:
        """A line of JSON as (context, None), or as (None, why it is none).

        Names come in the order of `levels`, and levels and phrases of these in their own spelling.

        Args:
            line: whatever somebody, or a language model, wrote.
        """
        if len(line) > LONGEST_LINE:
            return None, f"is longer than {LONGEST_LINE} characters"
        try:
            found = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        except _Twice:
            return None, "names a variable twice"
        except (ValueError, RecursionError):
            return None, "is not JSON"
        if not isinstance(found, dict):
            return None, "is not a JSON object"
        if others := set(found) - set(self.levels):
            column = any(map(_is_column, others))
            return None, "names a column of every data set" if column else "names an unknown variable"
        if not self.levels:
            return None, "tells of no variable"
        if len(found) < len(self.levels):
            return None, "lacks a variable"
        if not all(isinstance(value, str) for value in found.values()):
            return None, "holds a value that is no text"
        context: dict[str, str] = {}
        for name in self.levels:
            value, why = self._value(name, " ".join(found[name].split()))
            if why is not None:
                return None, why
            context[name] = value
        return context, None

    def _value(self, name: str, text: str) -> tuple[str, str | None]:
        if name in self.preset.covariates:
            level, _ = self.preset.covariates[name].parse(text)
            return (str(level), None) if level is not None else ("", f"holds no level of {name}")
        if why := self.why_no_phrase(text):
            return "", why
        same = (level for level in self.levels[name] if spelling(level) == spelling(text))
        return next(same, text), None

    def why_no_phrase(self, text: str) -> str | None:
        """Why a text can be no phrase of a context; None where it can.

        Args:
            text: on one line.
        """
        if not PHRASE.fullmatch(text):
            return f"holds a text that is no phrase of letters, digits and , . ( ) / % + ' - up to {LONGEST} characters"
        spoken = next(filter(None, map(self._telling.search, _readings(text))), None)
        if spoken is None:
            return None
        word = spoken[0]
        if inside := next((name for name, part in PARTS.items() if re.search(part, word)), None):
            return f"speaks of {inside}"
        return f"speaks of {self._told.get(word) or self._told.get(word.removesuffix('s')) or 'age'}"

    @cached_property
    def _told(self) -> dict[str, str]:
        """What each phrase tells of."""
        found = {_words(word): name for name, words in DEMOGRAPHIC.items() for word in words}
        for variable in self.preset.covariates.walk():
            names = () if variable.role == "acquisition" else (variable.name,)
            for word in map(_words, (*names, *variable.levels, *variable.aliases)):
                # a letter or a number alone means many things
                if len(word) > 1 and not word.replace(" ", "").isdigit():
                    found.setdefault(word, variable.name)
        return found

    @cached_property
    def _telling(self) -> re.Pattern[str]:
        words = "|".join(map(re.escape, sorted(self._told, key=len, reverse=True)))
        parts = "|".join(PARTS.values())
        return re.compile(rf"\b(?:(?:{words})s?|[a-z]*(?:{parts})[a-z]*|[0-9]+ ?(?:y|yo|yr|yrs|year|years))\b")


def _is_column(name: str) -> bool:
    return name == CONTEXT or COLUMNS.fullmatch(name) is not None


def _why_no_variable(name: str, before: Collection[str]) -> str | None:
    """Why a context can have no variable of this name beside others; None where it can."""
    if not NAME.fullmatch(name):
        return "is no name; use letters, digits and _, from a letter on, at most 40"
    if _is_column(name):
        return "is a column of every data set, or what templates call all of a context; use another name"
    same = next((one for one in before if one.casefold() == name.casefold()), None)
    return None if same is None else f"is given again (first as {same}); give it once"


class _Twice(ValueError):
    """A name that is given again."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _words(text: str) -> str:
    """Its words and numbers alone, in lower case."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _readings(text: str) -> tuple[str, ...]:
    """The words of a text as they stand, apart from numbers, and with what separates their letters left out."""
    apart = re.sub(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", " ", text)
    together = re.sub(r"(?<=[A-Za-z])[^A-Za-z0-9 ]+(?=[A-Za-z])", "", text)
    single = re.sub(r"\b[A-Za-z](?: [A-Za-z])+\b", lambda found: found[0].replace(" ", ""), _words(text))
    return tuple(map(_words, (text, apart, together, single)))


def acquisition(preset: Preset) -> tuple[Variable, ...]:
    """The covariates that a context may set: how an image was acquired, by levels.

    Args:
        preset: the domain.
    """
    return tuple(one for one in preset.covariates.walk() if one.role == "acquisition" and one.categorical)


def read_contexts(preset: Preset, path: str | Path | None = None, variables: Sequence[str] | None = None) -> Contexts:
    """The contexts of a domain.

    Args:
        preset: the domain.
        path: of a YAML file with a list of phrases by variable; that of the preset, if it is the package's, by default.
        variables: the variables wanted, in order, among those of the file and the covariates that `acquisition` gives;
            those of the file by default, and of a preset without one those covariates: what families do not cross, or
            else all, as long as something is left to cross.

    Raises:
        InputError: with file and line, for a file that is not such a list; an unknown variable, or none at all.
    """
    file = CONTEXTS.get(preset.name) if path is None else Path(path)
    of_file = {} if file is None else _read(Contexts(preset, {}), file)
    known = of_file | {one.name: one.levels for one in acquisition(preset)}
    chosen = (list(of_file) or _acquired(preset)) if variables is None else list(variables)
    if not chosen:
        raise InputError(
            f"contexts: {preset.name} has none of its own, and no levels of how images are acquired but what families "
            "need to cross; give a YAML file with lists of phrases by variable."
        )
    for place, name in enumerate(chosen):
        if name in preset.covariates and name not in known:
            role = preset.covariates[name].role
            why = "continuous" if role == "acquisition" else f"of the role {role}, and balanced by the plan"
            raise InputError(f"variables: {name} is {why}; leave it out.")
        if name not in known:
            raise unknown("variables", name, known)
        if name in chosen[:place]:
            raise InputError(f"variables: {name} is given twice; give it once.")
    return Contexts(preset, {name: known[name] for name in chosen})


def _acquired(preset: Preset) -> list[str]:
    """The covariates that contexts of a preset without a file set."""
    names = [one.name for one in acquisition(preset) if one.name not in preset.strata]
    free = [name for name in names if name not in preset.factors]
    return free or (names if set(preset.factors) - set(names) else [])


def _read(contexts: Contexts, path: Path) -> dict[str, tuple[str, ...]]:
    try:
        root = yaml.compose(read_bytes(path), Loader)
    except UNREADABLE as error:
        why, line = reason(error)
        raise InputError(f"{path}{'' if line is None else f':{line}'}: not readable YAML ({why}).") from None
    if not isinstance(root, yaml.MappingNode) or not 0 < len(root.value) <= MOST:
        raise InputError(f"{path}: not a file of contexts; give 1 to {MOST} variables, each with a list of phrases.")
    found: dict[str, tuple[str, ...]] = {}
    for key, value in root.value:
        for node, why in _faults(contexts, key, value, found):
            raise InputError(f"{path}:{node.start_mark.line + 1}: {why}")
        found[key.value] = tuple(one.value for one in value.value)
    return found


def _faults(
    contexts: Contexts, key: yaml.Node, value: yaml.Node, before: Collection[str]
) -> Iterator[tuple[yaml.Node, str]]:
    """What is wrong with a variable and its phrases, each with its place; the first comes first."""
    name = key.value if isinstance(key, yaml.ScalarNode) else ""
    if why := _why_no_variable(name, before):
        yield key, f"{shown(name)} {why}."
    if name in contexts.preset.covariates:
        yield key, f"{name} is a covariate of {contexts.preset.name}, with levels of its own; leave it out."
    if not isinstance(value, yaml.SequenceNode) or not 2 <= len(value.value) <= MOST:
        yield value, f"{name}: give a list of 2 to {MOST} phrases."
        return
    seen: set[str] = set()
    for one in value.value:
        text = one.value if isinstance(one, yaml.ScalarNode) else ""
        if why := contexts.why_no_phrase(text):
            yield one, f"{name}: {shown(text)} {why}; give another phrase."
        if spelling(text) in seen:
            yield one, f"{name}: {shown(text)} is given again; give it once."
        seen.add(spelling(text))
