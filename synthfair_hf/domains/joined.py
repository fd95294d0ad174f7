"""Several sources as one: their tables joined over the covariates that any of them has, and a site to tell them apart.

    table[site][i]     the name of the source that image i is of; a covariate that this source lacks is None there
    patient_ids[i]     the source's own, told apart by source: patients of two sources are two people, unless the
                       sources say that their identifiers are the same, or two patients have one image
    splits[i]          the source's own; of a patient of several sources the one that is held out most

Sources stand in the order of their names, whatever order they were given in. A variable that is known of nobody at a
site says so (`schema.Variable.unobserved_at`): it is never made up there.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from ..errors import Checked, InputError, shown, unknown
from ..missing import bare_identifier, is_missing
from ..records import Access, fingerprint, strictest
from ..schema import SPLITS, Schema, Variable
from .preset import Preset
from .readers import DataSetFolder
from .source import Source, access_to, channels_of, count_contradictions, count_patients, unit_of

__all__ = ["JoinedFolders", "JoinedSource", "SourceFolder"]

LONGEST = 80
"""Characters of a source's name."""

SITE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST - 1}}}")
"""Names of sources: they are levels of a covariate, and stand in names of files."""


class JoinedFolders(Checked, BaseModel):
    """Several folders of images by the names of their sites; they go wherever a source's directory does.

    `shared_patients` names sites whose patients have the same identifiers, beside those whose readers know it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: dict[str, DataSetFolder]
    shared_patients: tuple[str, ...] = ()

    @field_validator("folders")
    @classmethod
    def _names_are_levels(cls, folders: dict[str, DataSetFolder]) -> dict[str, DataSetFolder]:
        if not folders:
            raise ValueError("no folder is given; give one or more")
        for name, folder in folders.items():
            if not SITE.fullmatch(name) or is_missing(name):
                raise InputError(
                    f"source_dir: {shown(name)} is not the name of a site; give letters, digits, '.', '_' and '-', at "
                    f"most {LONGEST}, as in NAME={folder}."
                )
            if (other := next((one for one in folders if one.casefold() == name.casefold()), name)) != name:
                raise InputError(
                    f"source_dir: {other} and {name} differ by case alone, and names of files may not tell them apart; "
                    f"give one another name, as in NAME={folder}."
                )
        return dict(sorted(folders.items()))

    @field_validator("shared_patients")
    @classmethod
    def _sorted(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))

    def model_post_init(self, context: Any) -> None:
        """Check that the sites that share patients are among the folders."""
        for name in self.shared_patients:
            if name not in self.folders:
                raise unknown("shared_patients", name, self.folders)
        if len(self.shared_patients) == 1:
            raise InputError(f"shared_patients: {self.shared_patients[0]} alone shares none; name two or more.")

    @classmethod
    def of(
        cls, folders: Sequence[DataSetFolder], names: Sequence[str | None] = (), shared_patients: Sequence[str] = ()
    ) -> "JoinedFolders":
        """Folders with names of their own.

        Args:
            folders: one or more.
            names: of their sites; by default that of a folder's data set, where it names one, else its own.
            shared_patients: sites whose patients have the same identifiers.

        Raises:
            InputError: two sites of one name, or a name that no site can have.
        """
        found: dict[str, DataSetFolder] = {}
        for folder, given in zip(folders, names or [None] * len(folders), strict=True):
            one = folder.absolute()
            data_set = None if one.dataset_name in (None, "imagefolder", "datasets") else one.dataset_name
            name = given or data_set or re.split(r"[/\\]", str(one).rstrip("/\\"))[-1]
            if name in found:
                raise InputError(
                    f"source_dir: {found[name]} and {folder} are both called {name}; give each a name of its own, as "
                    "NAME=DIR."
                )
            found[name] = folder
        return cls(folders=found, shared_patients=tuple(shared_patients))

    def __str__(self) -> str:
        return ", ".join(f"{name}={folder}" for name, folder in self.folders.items())

    def absolute(self) -> "JoinedFolders":
        """The same folders by their absolute paths."""
        return self.model_copy(update={"folders": {name: one.absolute() for name, one in self.folders.items()}})


SourceFolder = str | Path | DataSetFolder | JoinedFolders
"""Where the images of a source are, and how they are read."""


class JoinedSource:
    """Several sources as one; a source itself.

    Images whose file is, byte for byte, one of a source before them are left out and counted, and their patients are
    taken for one person. A patient whose sources differ in split is in the last of train, validation and test, and
    counted too.

    Args:
        sources: by the names of their sites, one or more.
        preset: the domain; where it lacks a site, and there are several sources, it gets one (`Preset.with_site`).
        shared_patients: sites whose patients have the same identifiers, beside those that know it of themselves.

    Raises:
        InputError: the preset has a site of other levels, a source has no image of its own, or shows the people of
            another without naming them.
    """

    def __init__(self, sources: Mapping[str, Source], preset: Preset, shared_patients: Sequence[str] = ()) -> None:
        self._sources = dict(sorted(sources.items()))
        channels = {name: channels_of(one) for name, one in self._sources.items()}
        if len(set(channels.values())) > 1:
            raise InputError(
                f"sources: gray and colour images ({channels}) can't be joined; open all with a preset of one "
                "number of channels."
            )
        self.channels = next(iter(channels.values()))
        """Of its images: 1, gray, or 3, colours."""
        domain = preset.with_site(self._sources)
        site = domain.covariates.site
        self.name = "+".join(self._sources)
        self.unit = " or ".join(sorted(set(map(unit_of, self._sources.values()))))
        """What `patient_ids` name; several words where sources differ."""
        self.access: Access = strictest(*(access_to(one, "open") for one in self._sources.values()))
        people = _people(self._sources, shared_patients)
        self._rows, persons, duplicates = self._distinct(people)
        self.domain = domain.model_copy(update={"covariates": self._variables(domain.covariates)})
        """The preset with the site, and with what is unobserved at each."""
        self._check_names(people)
        places = [place for place, _ in self._rows]
        self._site = None if site is None else site.name
        self.table: dict[str, list[Any]] = {
            variable.name: places
            if variable.name == self._site
            else [self._value(variable, *one) for one in self._rows]
            for variable in self.domain.covariates.walk()
            if variable.name == self._site or self._is_known(variable)
        }
        self.covariates = self.domain.covariates.subset(self.table)
        self._place(people, persons)
        names = {place: getattr(one, "file_names", ()) for place, one in self._sources.items()}
        self.file_names = [f"{place}/{names[place][row]}" for place, row in self._rows] if all(names.values()) else []
        """Of each image, below the name of its site; empty before images are read."""
        self.counts = self._count(duplicates)
        self.fingerprint = fingerprint(
            [[[name, people[name], one.fingerprint] for name, one in self._sources.items()], self._site]
        )

    def _variables(self, covariates: Schema) -> Schema:
        """The covariates, with the sites at which each is known of nobody."""
        found = []
        for variable in covariates.walk():
            if covariates.site not in (None, variable) and self._is_known(variable):
                known = {place for place, row in self._rows if self._value(variable, place, row) is not None}
                unobserved = {*variable.unobserved_at, *(set(self._sources) - known)}
                variable = variable.model_copy(update={"unobserved_at": tuple(sorted(unobserved))})
            found.append(variable)
        return Schema(variables=tuple(found))

    def _is_known(self, variable: Variable) -> bool:
        """Whether a source tells a variable, or it is told that none of them does."""
        told = any(variable.name in one.table for one in self._sources.values())
        return told or set(self._sources) <= set(variable.unobserved_at)

    def _value(self, variable: Variable, place: str, row: int) -> Any:
        """A value of the table; None for what is unobserved at a site, whatever its source has."""
        column = self._sources[place].table.get(variable.name)
        return None if column is None or place in variable.unobserved_at else column[row]

    def _distinct(self, people: Mapping[str, str]) -> tuple[list[tuple[str, int]], dict[str, str], Counter[str]]:
        """Images that no source before has, as (site, row); of patients with one image the name they go by; counts."""
        rows: list[tuple[str, int]] = []
        owners: dict[str, tuple[str, str]] = {}
        persons: dict[str, str] = {}
        duplicates: Counter[str] = Counter()
        for place, source in self._sources.items():
            # of what draws its own images there are no files
            digests = getattr(source, "image_sha256", [""] * len(source))
            for row, digest in enumerate(digests):
                patient = _patient(people, place, source.patient_ids[row])
                first, owner = owners.setdefault(digest or f"{place} {row}", (place, patient))
                if first == place:
                    rows.append((place, row))
                    continue
                duplicates[place] += 1
                one, other = _person(persons, patient), _person(persons, owner)
                if one != other:
                    persons[max(one, other)] = min(one, other)
            if len(source) and duplicates[place] == len(source):
                raise InputError(
                    f"source_dir: {place} has no image of its own: every one is also of a source before it "
                    f"({', '.join(list(self._sources)[: list(self._sources).index(place)])}); leave it out."
                )
        return rows, persons, duplicates

    def _check_names(self, people: Mapping[str, str]) -> None:
        """Raise InputError where two sources of the same people spell one of them in two ways."""
        spelt: dict[str, tuple[str, str]] = {}
        for place, source in self._sources.items():
            if list(people.values()).count(people[place]) == 1:
                continue
            for patient in dict.fromkeys(source.patient_ids):
                other, first = spelt.setdefault(f"{people[place]}:{bare_identifier(patient)}", (patient, place))
                if other != patient:
                    raise InputError(
                        f"source_dir: {place} and {first} have the same patients, and patient {shown(patient)} of "
                        f"{place} is {shown(other)} of {first} but for case, spaces, leading zeros or the encoding of "
                        "its letters; give one patient one name."
                    )

    def _place(self, people: Mapping[str, str], persons: Mapping[str, str]) -> None:
        """Patients, and their splits."""
        order = list(SPLITS)
        splits: dict[str, set[str]] = defaultdict(set)
        sites: dict[str, set[str]] = defaultdict(set)
        # also of images that are left out: what one source holds out of a patient, no other may train on
        for place, source in self._sources.items():
            for identifier, split in zip(source.patient_ids, source.splits, strict=True):
                patient = _person(persons, _patient(people, place, identifier))
                splits[patient].add(split)
                sites[patient].add(place)
        self.patient_ids = [
            _person(persons, _patient(people, place, self._sources[place].patient_ids[row]))
            for place, row in self._rows
        ]
        self.splits = [max(splits[patient], key=order.index) for patient in self.patient_ids]
        self._several = sum(len(places) > 1 for places in sites.values())
        self._moved = sum(len(found) > 1 for found in splits.values())

    def _count(self, duplicates: Mapping[str, int]) -> dict[str, Any]:
        counts = {place: one.counts for place, one in self._sources.items()}
        missing: dict[str, Counter[str]] = defaultdict(Counter)
        for place, one in counts.items():
            for name in self.table:
                missing[name].update(one.get("missing", {}).get(name, {}))
                if name != self._site and name not in self._sources[place].table:
                    missing[name][f"{place} does not tell it"] = one["images"]
        left_out = _added(counts, "left out") | {f"in {place}, of another source": n for place, n in duplicates.items()}
        not_read = {
            f"{name} of {place}": reason
            for place, one in counts.items()
            for name, reason in one.get("not read", {}).items()
        }
        quarantined = {
            f"{place}/{file}": reason
            for place, one in counts.items()
            for file, reason in one.get("quarantined", {}).items()
        }
        several = {"patients of several sources": self._several, "patients of several splits": self._moved}
        part = {str(one.get("part", "all")) for one in counts.values()}
        others = {name: preset for one in counts.values() for name, preset in one.get("others in", {}).items()}
        allowed = {name: words for one in counts.values() for name, words in one.get("allowed", {}).items()}
        unread = [f"{name} of {place}" for place, one in counts.items() for name in one.get("columns not read", [])]
        optional = {
            **{"left out": left_out, "not read": not_read, "contrast": _added(counts, "contrast")},
            "copies differ": _added(counts, "copies differ"),
            **{"others in": others, "columns not read": unread, "allowed": allowed},
        }
        return {
            **count_patients(self.patient_ids, self.splits, self.unit),
            **({"sources": counts, **several} if len(counts) > 1 else {}),
            "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons},
            "quarantined": quarantined,
            **{name: found for name, found in optional.items() if found},
            **({"part": part.pop()} if len(part) == 1 and part != {"all"} else {}),
            **count_contradictions(self.covariates, self.table, self.patient_ids),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int, resolution: int) -> np.ndarray:
        """The image, as its source has it."""
        place, row = self._rows[index]
        return self._sources[place].image(row, resolution)

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A training example of the image's source, with all covariates."""
        place, row = self._rows[index]
        image, covariates = self._sources[place].draw(row, resolution, rng)
        values = {name: column[index] for name, column in self.table.items()}
        observed = {name for name in covariates if place not in self.domain.covariates[name].unobserved_at}
        return image, values | {name: covariates[name] for name in values if name in observed}


def _people(sources: Mapping[str, Source], shared: Sequence[str]) -> dict[str, str]:
    """By site, whose identifiers its patients have: sites of one entry share them."""
    own = {name: getattr(one, "people", None) or name for name, one in sources.items()}
    for name, one in sources.items():
        others = [other for other in sources if other != name and own[other] == own[name]]
        if others and not getattr(one, "names_patients", True):
            raise InputError(
                f"source_dir: {name} shows patients of {', '.join(others)} and does not name them, so that one of them "
                "could be in two splits; put what tells patients into its folder (`synthfair sources` names it), or "
                "leave it out."
            )
    common = {own[name] for name in shared}
    joined = "+".join(sorted(name for name in sources if own[name] in common))
    return {name: joined if own[name] in common else own[name] for name in sources}


def _patient(people: Mapping[str, str], place: str, identifier: str) -> str:
    """A patient's name among all sources; the source's own where there is one source."""
    return identifier if len(people) == 1 else f"{people[place]}:{identifier}"


def _person(persons: Mapping[str, str], patient: str) -> str:
    """The name under which a patient goes who has several."""
    while patient in persons:
        patient = persons[patient]
    return patient


def _added(counts: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, int]:
    """What several sources counted under one name."""
    total: Counter[str] = Counter()
    for one in counts.values():
        total.update(one.get(name, {}))
    return dict(total)
