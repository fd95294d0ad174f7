"""The datasheet of a data set in its seven parts (Gebru et al. 2021, arXiv 1803.09010), answered from its record.

Motivation, composition, collection, preprocessing and labelling, uses, distribution, maintenance. Most answers are
those that croissant.json gives to machines (`responsible`); sections of the card above are named, not repeated.
"""

from typing import Any, NamedTuple

from ..domains.preset import Preset
from ..domains.registry import READERS
from ..records import Record
from .contents import Contents
from .responsible import MAINTENANCE, responsible
from .stored import NOT_RECORDED

__all__ = ["Origin", "datasheet", "origins"]


class Origin(NamedTuple):
    """What a data set was made from: a source, or its generator.

    Attributes:
        what: source, or generator.
        name: as the record has it.
        access: open, unknown or credentialed.
        license: terms of use, as far as they are known.
        request: where it is asked for or described.
    """

    what: str
    name: str
    access: str
    license: str
    request: str


def origins(record: Record) -> list[Origin]:
    """Licence and access of everything that a data set was made from.

    Args:
        record: of the run that wrote it.
    """
    settings, unknown = record.settings, "not recorded; ask whoever gave it"
    world, sampling = settings.get("world"), settings.get("sampling")
    if world:
        return [
            Origin("world", world, "open", "equations of synthfair-hf, Apache-2.0", "docs/domains.md of synthfair-hf")
        ]
    found = []
    # several sources are named together
    for name in str(settings["source"]).split("+"):
        if name in READERS:
            reader = READERS[name]
            found.append(Origin("source", reader.title, reader.access, reader.license, reader.request))
        elif name != "scm":
            found.append(Origin("source", name, settings["access"], unknown, unknown))
    if sampling:
        license = sampling["license"] or "not stated on its model card"
        return [*found, Origin("generator", sampling["generator"], settings["access"], license, "its model card")]
    revision = str(settings["model_revision"])
    return [*found, Origin("generator", revision, settings["access"], "that of its model card", "its model card")]


def datasheet(
    contents: Contents, preset: Preset, record: Record, license: str, creator: str
) -> dict[str, list[tuple[str, str]]]:
    """Answers by part, each with what it answers.

    Args:
        contents: of the data set's files.
        preset: its domain.
        record: of the run that wrote it.
        license: an identifier of the Hub.
        creator: who publishes it.
    """
    told, settings = responsible(contents, preset, record), record.settings
    rows, subjects = contents.rows, contents.subjects
    missing = [
        f"{variable.name} of {absent:,} images"
        for variable in preset.covariates.walk()
        if (absent := contents.missing(variable))
    ]
    access = settings["access"]
    open_to = {
        "open": "Anybody.",
        "unknown": "Access to what it was made from is unknown: only a private repository, or a permission in writing.",
        "credentialed": "Those alone whom the owner of the source admits: only a private, gated repository, or a "
        "permission in writing.",
    }
    return {
        "Motivation": [
            (
                "Purpose",
                "To measure detection and mitigation of biases of known kind and strength; see Curation Rationale.",
            ),
            ("Created by", creator),
            ("Written by", f"synthfair-hf {record.versions['synthfair-hf']}"),
        ],
        "Composition": [
            ("Instances", f"{sum(rows.values()):,} images of {sum(subjects.values()):,} subjects, with covariates."),
            ("Generated", str(told["rai:syntheticDataExplanation"])),
            ("Splits", "; ".join(f"{split}: {rows[split]:,} images of {subjects[split]:,} subjects" for split in rows)),
            ("Labels", str(told["rai:dataAnnotationProtocol"])),
            ("Values that are missing", f"{'; '.join(missing)}, {NOT_RECORDED}." if missing else "None."),
            ("Relations", "Images of a subject share subject_id; parent_id names the observation."),
            ("Confidential or personal", " ".join(told["rai:personalSensitiveInformation"])),
        ],
        "Collection Process": [
            ("How", str(told["rai:dataCollection"])),
            (
                "Sampling",
                f"{settings['num_subjects']:,} subjects from seed {settings['seed']}, by plan {record.inputs['plan']}.",
            ),
            ("From", "; ".join(f"{one.what} {one.name}" for one in origins(record))),
            ("Consent and review", _consent(record)),
        ],
        "Preprocessing and Labelling": [
            ("Images", " ".join(told["rai:dataPreprocessingProtocol"])),
            ("Tools", ", ".join(told["rai:machineAnnotationTools"])),
            (
                "Raw data",
                "Not part of it: rows with synthetic false hold observations as they were read, at this size.",
            ),
        ],
        "Intended and Refused Uses": [
            ("For", " ".join(told["rai:dataUseCases"])),
            ("Not for", " ".join(told["rai:dataLimitations"])),
            ("What may harm", str(told["rai:dataSocialImpact"])),
        ],
        "Distribution": [
            ("Licence", license),
            ("Open to", open_to.get(access, open_to["unknown"])),
            ("How", "As one tagged release of a repository on the Hub, by synthfair push."),
            ("Regulation", "See Regulatory Notes."),
        ],
        "Maintenance": [
            ("By", creator),
            ("Versions", MAINTENANCE),
            (
                "Errors",
                "synthfair validate compares this page with the records, synthfair verify every byte with them.",
            ),
            ("Extension", "Another plan is another data set; synthfair generate writes it from its records/plan.json."),
        ],
    }


def _consent(record: Record) -> str:
    settings: dict[str, Any] = record.settings
    if settings.get("world"):
        return "Does not apply: nobody's data were used."
    return "That of the images which source and generator are made from; see Licence and Access of Sources."
