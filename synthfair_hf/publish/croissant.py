"""croissant.json of a data set, for machines that look for one: Croissant 1.1 with what its RAI vocabulary asks.

    distribution    every shard with its sha256, and a set of shards for each split
    recordSet       the rows of each split, column by column; the levels of each categorical covariate
    rai:, prov:     collection, biases, limitations, uses, personal information, synthetic share; sources and generator

All of it is derived from the records and the rows, as the card is, but for what only a publisher knows (`Details`). A
row loads through `mlcroissant.Dataset("croissant.json").records("train")`. The vocabularies: Croissant 1.1
(http://mlcommons.org/croissant/1.1), RAI 1.0 (http://mlcommons.org/croissant/RAI/1.0; Jain et al. 2024), W3C PROV.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

from datasets import ClassLabel, Features, Image, List

from ..domains.preset import Preset
from ..errors import InputError, shown
from ..records import FileRecord, Record, written
from .contents import Contents
from .responsible import RESPONSIBLE, responsible

__all__ = ["CROISSANT", "NO_DETAILS", "REQUIRED", "Details", "check_details", "check_line", "croissant", "raw_details"]

CROISSANT = "croissant.json"

VERSIONS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
"""The specifications that the file conforms to."""

PARQUET = "application/x-parquet"

TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
"""The context of the specification, whole, as readers expect it, and PROV."""

REQUIRED = (
    *("@context", "@type", "conformsTo", "name", "description", "license", "version", "creator", "citeAs"),
    *("keywords", "isLiveDataset", "distribution", "recordSet", *RESPONSIBLE),
)
"""Keys without which the file is not complete; mlcroissant itself checks those of the core alone."""


class Details(NamedTuple):
    """What only a publisher knows of a data set.

    Attributes:
        creator: a person or an organisation.
        url: address of its page.
        date_published: as 2026-11-28.
    """

    creator: str = "unknown"
    url: str | None = None
    date_published: str | None = None

    def check(self) -> None:
        """InputError for what is none of these."""
        check_line("creator", self.creator)
        if self.url is not None and not (self.url.isprintable() and re.fullmatch(ADDRESS, self.url)):
            raise InputError(f"url: {shown(self.url)} is no address; give one that begins with https://.")
        if self.date_published is not None:
            try:
                known = date.fromisoformat(self.date_published).isoformat() == self.date_published
            except ValueError:
                known = False
            if not known:
                raise InputError(f"date_published: {shown(self.date_published)} is no date; write it as 2026-01-31.")


ADDRESS = r"https?://[^\s<>\"@]{1,2000}"
LONGEST = 200
"""Characters of a licence or a name."""


def check_line(argument: str, value: str) -> None:
    """Raise InputError for what is no short line of text.

    Args:
        argument: named by the error.
        value: a licence or a name.
    """
    if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > LONGEST:
        raise InputError(
            f"{argument}: {shown(value)} is no line of 1 to {LONGEST} characters; give a name, or unknown."
        )


NO_DETAILS = Details()


def croissant(contents: Contents, preset: Preset, record: Record, license: str, details: Details) -> bytes:
    """The bytes of croissant.json.

    Args:
        contents: of the data set's files.
        preset: its domain.
        record: of the run that wrote it; lists the sha256 of every file.
        license: an identifier of the Hub, such as cc-by-4.0.
        details: what else the record does not tell.

    Raises:
        InputError: a record of an earlier version, which lists no files, or details that are none.
    """
    details.check()
    if not record.files:
        raise InputError("record: lists no files; generate the data set by today's version before its croissant.json.")
    store, version = record.counts["store"], record.versions["synthfair-hf"]
    title = f"SynthFair: {preset.title}"
    given = {"url": details.url, "datePublished": details.date_published}
    return written(
        {
            "@context": CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": list(VERSIONS),
            "name": title,
            "description": " ".join(_description(contents, record)),
            "license": license,
            **{name: value for name, value in given.items() if value is not None},
            "version": f"{version}+{store}",
            "creator": {"@type": "sc:Organization", "name": details.creator},
            "citeAs": f"{title}. Data set {store}, plan {record.inputs['plan']}, model "
            f"{record.settings['model_revision']}, written by synthfair-hf {version}.",
            "keywords": ["synthetic", "fairness", "bias", "medical imaging", preset.name.replace("_", " ")],
            "isLiveDataset": False,
            **responsible(contents, preset, record),
            "distribution": list(_distribution(contents, record.files)),
            "recordSet": [*_levels(contents.features), *(_rows(split, contents.features) for split in contents.files)],
        }
    )


def raw_details(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a croissant.json says that neither record nor card tells, by the names of `Details`, as it stands.

    Args:
        found: its JSON.
    """
    creator = found.get("creator")
    named = creator.get("name") if isinstance(creator, Mapping) else None
    return {"creator": named, "url": found.get("url"), "date_published": found.get("datePublished")}


def check_details(given: Mapping[str, Any]) -> Details:
    """The details, where they are some.

    Args:
        given: values by the names of `Details`.

    Raises:
        InputError: one of them is no name, address or date.
    """
    for name, value in given.items():
        if not isinstance(value, str) and (name == "creator" or value is not None):
            raise InputError(f"{name}: {shown(value)} is no text; give another {name}.")
    details = Details(**given)
    details.check()
    return details


def _description(contents: Contents, record: Record) -> Iterator[str]:
    settings = record.settings
    factors = ", ".join(settings["factors"]) or "nothing"
    yield f"{sum(contents.rows.values())} images of {sum(contents.subjects.values())} subjects."
    if settings.get("sampling"):
        yield f"Families of same-noise samples, not counterfactuals, that cross {factors}."
    else:
        yield f"Families of counterfactuals that cross {factors}, all other covariates held."
    yield "Biased views plant one or several known biases, each beside an unbiased twin. For research only."


def _distribution(contents: Contents, files: Mapping[str, FileRecord]) -> Iterator[dict[str, Any]]:
    for names in contents.files.values():
        for name in names:
            yield {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name.rpartition("/")[2],
                "contentUrl": name,
                "contentSize": f"{files[name].bytes} B",
                "encodingFormat": PARQUET,
                "sha256": files[name].sha256,
            }
    for split in contents.files:
        # in no other file: mlcroissant looks for what it includes beside croissant.json
        yield {
            "@type": "cr:FileSet",
            "@id": f"{split}-files",
            "name": f"{split}-files",
            "encodingFormat": PARQUET,
            "includes": f"data/{split}*.parquet",
        }


def _levels(features: Features) -> Iterator[dict[str, Any]]:
    """What the codes of each categorical column mean."""
    for name, feature in features.items():
        if isinstance(feature, ClassLabel):
            yield {
                "@type": "cr:RecordSet",
                "@id": f"levels/{name}",
                "name": f"levels/{name}",
                "dataType": "sc:Enumeration",
                "key": {"@id": f"levels/{name}/code"},
                "field": [
                    {"@type": "cr:Field", "@id": f"levels/{name}/code", "name": "code", "dataType": "cr:Int64"},
                    {"@type": "cr:Field", "@id": f"levels/{name}/name", "name": "name", "dataType": "sc:Text"},
                ],
                "data": [
                    {f"levels/{name}/code": code, f"levels/{name}/name": level}
                    for code, level in enumerate(feature.names)
                ],
            }


def _rows(split: str, features: Features) -> dict[str, Any]:
    """The rows of a split; what an unlabelled row has for a level is null."""
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "key": {"@id": f"{split}/id"},
        "field": [_field(split, name, feature) for name, feature in features.items()],
    }


def _field(split: str, name: str, feature: Any) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": name}}
    several = {"isArray": True, "arrayShape": "-1"} if isinstance(feature, List) else {}
    if isinstance(feature, Image):
        kind, source = "sc:ImageObject", {**source, "transform": {"jsonPath": "bytes"}}
    else:
        kind = _type_of(feature)
    return {"@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "dataType": kind, **several, "source": source}


def _type_of(feature: Any) -> str:
    if isinstance(feature, ClassLabel):
        return "cr:Int64"
    dtype = (feature.feature if isinstance(feature, List) else feature).dtype
    return {"string": "sc:Text", "bool": "sc:Boolean"}.get(dtype, f"cr:{dtype.capitalize()}")
