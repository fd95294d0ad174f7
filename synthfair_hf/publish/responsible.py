"""What the RAI and PROV vocabularies of Croissant ask of a data set, said from its record.

    collection, preprocessing, annotation    how subjects, images and labels came about
    biases, limitations, uses, impact        what it may be used for, and what it cannot show
    persons, maintenance                     whose data it is, and how releases change
    synthetic share, sources, generator      how much of it was generated, from what and by what

RAI 1.0 (http://mlcommons.org/croissant/RAI/1.0; Jain et al. 2024); W3C PROV.
"""

from typing import Any

from ..domains.preset import Preset
from ..records import Record
from .contents import Contents

__all__ = ["RESPONSIBLE", "responsible"]

RESPONSIBLE = (
    *("rai:dataCollection", "rai:dataCollectionType", "rai:dataPreprocessingProtocol", "rai:dataAnnotationProtocol"),
    *("rai:machineAnnotationTools", "rai:dataBiases", "rai:dataLimitations", "rai:dataUseCases"),
    *("rai:dataSocialImpact", "rai:personalSensitiveInformation", "rai:dataReleaseMaintenancePlan"),
    *("rai:hasSyntheticData", "rai:syntheticDataExplanation", "prov:wasDerivedFrom", "prov:wasGeneratedBy"),
)
"""The properties, all of which are said of every data set."""

MAINTENANCE = "Releases are tagged by the identity of their bytes and are not changed afterwards."
IMPACT = (
    "Made to find and reduce unequal performance of medical image classifiers between groups; a method that does well "
    "on planted biases may still fail on those of real data."
)
LABELS = (
    "Labels of generated images are the covariates that were requested of the generator; nobody has read the images."
)


def responsible(contents: Contents, preset: Preset, record: Record) -> dict[str, Any]:
    """Texts of the properties in RESPONSIBLE by name.

    Args:
        contents: of the data set's files.
        preset: its domain.
        record: of the run that wrote it.
    """
    settings = record.settings
    world, source, generator = settings.get("world"), settings["source"], _generator(record)
    observed = world is None and not settings.get("sampling") and source != "scm"
    protected = ", ".join(one.name for one in preset.covariates.walk() if one.role == "protected") or "none"
    return {
        "rai:dataCollection": _collection(record),
        "rai:dataCollectionType": ["Synthetic", "Secondary data analysis"] if observed else ["Synthetic"],
        "rai:dataPreprocessingProtocol": [f"Images have {settings['resolution']} x {settings['resolution']} pixels."],
        "rai:dataAnnotationProtocol": LABELS,
        "rai:machineAnnotationTools": [f"synthfair-hf {record.versions['synthfair-hf']}"],
        "rai:dataBiases": _biases(record),
        "rai:dataLimitations": _limitations(record),
        "rai:dataUseCases": _uses(record),
        "rai:dataSocialImpact": IMPACT,
        "rai:personalSensitiveInformation": [_persons(record), f"Protected attributes in the columns: {protected}."],
        "rai:dataReleaseMaintenancePlan": MAINTENANCE,
        "rai:hasSyntheticData": contents.synthetic > 0,
        "rai:syntheticDataExplanation": f"{contents.synthetic} of {sum(contents.rows.values())} images are generated "
        f"by {generator}; the column synthetic marks them.",
        "prov:wasDerivedFrom": f"the equations of the world {world}" if world else source,
        "prov:wasGeneratedBy": f"synthfair generate, plan {record.inputs['plan']}, by {generator}",
    }


def _generator(record: Record) -> str:
    world, sampling = record.settings.get("world"), record.settings.get("sampling")
    if world:
        return f"version {record.settings['model_revision']} of the equations of the world {world}"
    if sampling:
        return f"the text-to-image pipeline {sampling['generator']} ({sampling['pipeline']})"
    return f"the causal diffusion pipeline {record.settings['model_revision']}"


def _collection(record: Record) -> str:
    settings = record.settings
    if settings.get("world"):
        return f"Subjects and images are computed by {_generator(record)}; nothing was collected from people."
    if sampling := settings.get("sampling"):
        return (
            f"Covariates are {sampling['subjects']}; prompts say them in words, from which {_generator(record)} draws."
        )
    if settings["source"] == "scm":
        return f"Subjects are draws from a structural causal model; {_generator(record)} generates all images."
    return f"Subjects were observed in {settings['source']}; {_generator(record)} generates their counterfactuals."


def _biases(record: Record) -> list[str]:
    planted = "Biases are planted by the views, each of known kind and strength beside an unbiased twin; full has none."
    if record.settings.get("world"):
        return [planted, "How a group appears is an assumption of the world's equations, not a claim about people."]
    return [
        planted,
        "A group appears as it does, on average, in the generator's training images, whose biases are inherited.",
        "Levels of protected attributes are coarse and follow the labels of the training images.",
    ]


def _limitations(record: Record) -> list[str]:
    settings = record.settings
    found = [
        "Not for diagnosis, triage or treatment, and no evidence that a system is safe, accurate or fair on patients.",
        "Prevalences and shares of groups are set by design and estimate nothing.",
    ]
    if settings.get("sampling"):
        found.append("Images of a family are no counterfactuals of each other: nothing is abducted.")
    elif not settings.get("world"):
        found.append("Counterfactual images may show off-target effects; the generator's card has those measured.")
    support = (settings.get("support") or {}).get("out_of_support", {})
    return found + [f"Out of support: {cell} ({number})." for cell, number in support.items()]


def _uses(record: Record) -> list[str]:
    found = [
        "Measuring whether an audit detects a bias of known kind and strength.",
        "Comparing mitigation methods on a biased view with its unbiased twin.",
    ]
    if record.settings.get("sampling"):
        return found
    return [
        *found,
        "Testing whether a classifier depends on a factor, by images that are meant to differ in that factor alone.",
    ]


def _persons(record: Record) -> str:
    settings = record.settings
    if settings.get("world"):
        return "No image or covariate was made from, or learned from, a real person's."
    if settings.get("sampling") or settings["source"] == "scm":
        return "No image was made from a real person's, but a generative model can reproduce its training images."
    return f"Every family starts from a real person's image in {settings['source']}, whose terms of use bind it too."
