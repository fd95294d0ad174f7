"""Governance of a data set: its records, and those of its generator, audits and monitoring, followed stage by stage.

    sound = `documents.validate` finds no fault; the generator and its scoreboard are the revision that the plan names;
            an audit of a data set is of this one

Else nothing is written. What no record tells is named as missing. Every figure is that of a record.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..diffusion.saved import find_generator
from ..errors import InputError, counted
from ..publish.croissant import CROISSANT
from ..publish.governance import STAGES, Evidence, Figure, Governance, Missing, Stage, Statement, write_pages
from ..publish.hub.release import PERMISSION
from ..publish.measured import soundness_figures
from ..records import file_sha256, library_versions, writable_directory
from ..views.manifest import CARD, RUN
from .deployment import said_of_audits, said_of_monitoring
from .documents import kept_details, kept_license, validate
from .evidence import RecordFile, Said, interval, missing, strict

__all__ = ["write_governance"]


@checked
def write_governance(
    directory: str | Path,
    output_dir: str | Path,
    pretrained_model_name_or_path: str | Path | None = None,
    scoreboard: str | Path | None = None,
    audit: Sequence[str | Path] = (),
    monitoring: Sequence[str | Path] = (),
) -> Governance:
    """Write governance.json, its schema and governance.html of a finished data set.

    Args:
        directory: the data set.
        output_dir: where the files go; not inside the data set, whose files are those of its records.
        pretrained_model_name_or_path: the generator that made it; what is known of none is named as missing.
        scoreboard: directory that `synthfair measure` wrote, of that generator.
        audit: directories that `synthfair audit` wrote, of classifiers that were trained or tested on it.
        monitoring: directories that `synthfair monitor` wrote, of such classifiers.

    Returns:
        What was written.

    Raises:
        InputError: the data set's documents or records have a fault, a record lacks a field, or is of another data set
            or generator; nothing is written.
    """
    directory, place = Path(directory), writable_directory(output_dir)
    if place.resolve().is_relative_to(directory.resolve()):
        raise InputError(
            f"output_dir: {place} is inside the data set, whose files are those of its records; give another place."
        )
    if faults := validate(directory):
        more = f" ({len(faults) - 1} more by `synthfair validate`)" if len(faults) > 1 else ""
        raise InputError(f"{directory}: {faults[0]}{more}")
    run = RecordFile(directory / RUN, RUN).stage("generate")
    revision = run("settings", "model_revision")
    saved = None if pretrained_model_name_or_path is None else find_generator(pretrained_model_name_or_path)
    if saved is not None:
        _check_revision(f"pretrained_model_name_or_path: {saved.directory}", saved.revision, revision)
    generator = None if saved is None else saved.directory
    audited = [_inside(Path(one), "audit.json", "audit") for one in audit]
    monitored = [_inside(Path(one), "monitoring.json", "monitor") for one in monitoring]
    said: dict[str, Said] = {
        "sources": _sources(directory, run, generator),
        "training": _training(run, generator),
        "calibration": _calibration(run, generator),
        "generation": _generation(run),
        "gate": _gate(run, None if scoreboard is None else Path(scoreboard)),
        "release": _release(directory),
        "audit": said_of_audits(run, audited),
        "monitoring": said_of_monitoring(monitored, audited),
    }
    found = Governance(
        version=library_versions()["synthfair-hf"],
        data_set=run("counts", "store"),
        plan=run("inputs", "plan"),
        model_revision=revision,
        stages=tuple(_stage(name, said[name]) for name in STAGES),
    )
    write_pages(place, found)
    return found


def _inside(directory: Path, name: str, stage: str) -> RecordFile:
    return RecordFile(directory / name, f"{directory.name}/{name}").stage(stage)


def _stage(name: Any, said: Said) -> Stage:
    try:
        told = list(said)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{name}: a record of this stage is damaged ({error}); write it anew.") from None
    return Stage(
        stage=name,
        decides=STAGES[name][1],
        statements=tuple(one for one in told if isinstance(one, Statement)),
        missing=tuple(one for one in told if isinstance(one, Missing)),
    )


def _check_revision(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise InputError(f"{what} is of the generator {found}, but the data set was made by {expected}; give that one.")


def _computed(run: RecordFile) -> str | None:
    """The world whose equations computed the images; None where a generator drew them."""
    world: str | None = run.record.settings.get("world")
    return world


def _sources(directory: Path, run: RecordFile, generator: Path | None) -> Said:
    # validated: it is what the records say
    documents = Evidence(file=CROISSANT, sha256=file_sha256(directory / CROISSANT))
    path = directory / CROISSANT
    described = strict(json.loads(path.read_bytes()), "the file", path)
    for name in ("rai:dataCollection", "prov:wasDerivedFrom", "rai:personalSensitiveInformation"):
        value = described[name]
        text = " ".join(value) if isinstance(value, list) else value
        yield Statement(checked=f"Derived from: {text}." if name.startswith("prov") else text, record=documents)
    yield run.says(f"Access to the real images behind it: {run('settings', 'access')}.")
    if _computed(run):
        return
    if generator is None:
        yield missing("What the generator was trained on.", "Give the generator's directory.")
        return
    trained = RecordFile(generator / "record.json", f"{generator.name}/record.json")
    source = trained("counts", "source")
    named = [("images", "images"), ("patients", "patients")]
    figures = [
        Figure(name=f"{title} of the training source", value=source[key]) for title, key in named if key in source
    ]
    access = trained("inputs", "access") if "access" in trained.record.inputs else "unknown"
    yield trained.says(
        f"Source {trained('inputs', 'source')} of the generator's training images, access {access}.", *figures
    )
    yield missing(
        "The licence of the generator's training images: its record has their fingerprint and access alone.",
        "`synthfair sources` lists the licences of known data sets; the data steward compares them.",
    )


def _training(run: RecordFile, generator: Path | None) -> Said:
    if world := _computed(run):
        yield run.says(f"No generator was trained: the equations of the world {world} compute every image.")
        return
    if generator is None:
        yield missing("The record of the generator's training.", "Give the generator's directory.")
        return
    trained = RecordFile(generator / "record.json", f"{generator.name}/record.json")
    yield trained.says(
        f"Trained by the stage {trained.record.stage}, seed {trained('settings', 'seed')}.",
        Figure(name="steps", value=trained("counts", "steps")),
        Figure(name="training images", value=trained("counts", "training_images")),
        Figure(
            name="training loss", value=trained("measured", "training_loss"), n=trained("counts", "training_images")
        ),
    )
    if trained.record.seal is None:
        yield missing("A seal of the weights: the record was written before there were any.", "Train anew to have one.")


def _calibration(run: RecordFile, generator: Path | None) -> Said:
    if _computed(run):
        yield run.says("Nothing to calibrate: counterfactuals of the world's equations are exact.")
        return
    path = None if generator is None else generator / "calibration.json"
    if generator is None or path is None or not path.is_file():
        what = "The record of a calibration" + ("." if generator is None else f": {generator.name} has none.")
        yield missing(what, "Run `synthfair calibrate` before generating, or give the generator's directory.")
        return
    calibrated = RecordFile(path, f"{generator.name}/calibration.json").stage("calibrate")
    for name, one in calibrated("measured", "chosen").items():
        scale, level, error = one["scale"], one["level"], one["error"]
        n = one.get("images", calibrated("counts", "images"))
        split = calibrated("settings", "split")
        yield calibrated.says(
            f"do({name}), its strength chosen on {split} images: scale {scale:g}, level {level:g}.",
            Figure(name="error", value=error, n=n),
            *([Figure(name="share of the real gap", value=one["share_of_gap"], n=n)] if "share_of_gap" in one else []),
        )
    if calibrated("inputs", "generator") != run("settings", "model_revision"):
        yield missing(
            "A calibration of this very revision: it was measured before its strengths, or other changes, were saved.",
            "The strengths that count are those in the plan; measure soundness of the revision.",
        )


def _generation(run: RecordFile) -> Said:
    names = ("subjects", "rows", "shards", "rejected_candidates", "rejected_images")
    yield run.says(
        f"Written as planned: records of all shards add up to the run's, seed {run('settings', 'seed')}.",
        *(
            Figure(name=name.replace("_", " "), value=run.record.counts[name])
            for name in names
            if name in run.record.counts
        ),
    )
    support = run.record.settings.get("support")
    if support is None:
        yield missing("How far the requested covariates are in the support of the training data.", "Generate anew.")
    else:
        outside, observed = (run("settings", "support", name) for name in ("out_of_support", "observed"))
        yield run.says(
            f"Requested covariates compared with {observed}: {counted(len(outside), 'combination')} out of support"
            + "".join(f"; {cell} ({number})" for cell, number in list(outside.items())[:5])
            + "."
        )


def _gate(run: RecordFile, scoreboard: Path | None) -> Said:
    gate = run("settings", "gate")
    if world := _computed(run):
        yield run.says(f"Counterfactuals are exact and memorise nothing: the world {world} computes them.")
        return
    if gate is None:
        yield missing("A quality gate: no attribute predictor judged the families.", "Generate with a predictor.")
    else:
        yield run.says(f"Quality gate by the attribute predictor {gate}.")
    found = {kind: _measures(scoreboard, kind, run("settings", "model_revision")) for kind in ("soundness", "realism")}
    for kind, title in (("soundness", "Soundness of counterfactuals"), ("realism", "Realism and memorisation")):
        if not found[kind]:
            yield missing(f"{title}.", f"Run `synthfair measure {kind}` on the generator, and give the directory.")
    for one in found["soundness"]:
        on = f"{one('settings', 'split')} images of {one('settings', 'world')}"
        whole = one.record.model_copy(update={"measured": one("measured")})
        for row, identity in soundness_figures(whole):
            what = (
                f"{row['metric']}, do({row['do']}), {row['attribute']} by {row['by']}, {row['intervention']}, on {on}."
            )
            beside = [] if identity is None else [_measured("the unchanged image", identity)]
            yield one.says(what, _measured(row["system"], row), *beside)
    for one in found["realism"]:
        for space, own in one("measured", "memorisation").items():
            near = own["near"]
            yield one.says(
                f"Memorisation by {space}: generated images nearer to a training image than held-out patients' are.",
                interval("share near", near, own["generated"]["n"]),
                Figure(name="expected without memorisation", value=near["expected"]),
            )
        overall = one("measured", "features", "overall")
        kernel = interval("kernel distance", overall["kernel_distance"], overall["n_real"])
        yield one.says("Realism: distance to real images in features.", kernel)


def _measures(scoreboard: Path | None, kind: str, revision: str) -> list[RecordFile]:
    """The records of a kind that are of this generator; InputError where there are others alone."""
    if scoreboard is None:
        return []
    if not scoreboard.is_dir():
        raise InputError(f"scoreboard: {scoreboard} is no directory; give one that `synthfair measure` wrote.")
    found = [RecordFile(path, f"{scoreboard.name}/{path.name}") for path in sorted(scoreboard.glob(f"{kind}-*.json"))]
    own = [one for one in found if one("inputs", "generator") == revision]
    if found and not own:
        _check_revision(f"scoreboard: {found[0].path}", found[0]("inputs", "generator"), revision)
    return own


def _measured(name: str, row: Mapping[str, Any]) -> Figure:
    return Figure(name=name, value=row["mean"], low=row["low"], high=row["high"], n=row["n"])


def _release(directory: Path) -> Said:
    card, documents = (Evidence(file=name, sha256=file_sha256(directory / name)) for name in (CARD, CROISSANT))
    yield Statement(
        checked="The card is, byte for byte, what the records and rows say; it seals the run's record.", record=card
    )
    yield Statement(
        checked="Croissant with RAI and PROV properties is what the records and rows say.", record=documents
    )
    licence = kept_license(directory)
    if licence in (None, "unknown"):
        yield missing("The licence of the data set: it is unknown.", "Give it to `synthfair card`.")
    else:
        yield Statement(checked=f"Licence of the data set: {licence}.", record=card)
    details = kept_details(directory)
    if details.creator == "unknown":
        yield missing("Who publishes it.", "Give the creator to `synthfair card`.")
    for title, value in (("Publisher", details.creator), ("Address", details.url), ("Date", details.date_published)):
        if value is None:
            yield missing(f"{title} of the release.", "Give it to `synthfair card`.")
        elif value != "unknown":
            yield Statement(checked=f"{title} of the release, by the publisher's word: {value}.", record=documents)
    if (directory / PERMISSION).is_file():
        allowed = RecordFile(directory / PERMISSION, PERMISSION)
        yield allowed.says("A permission to publish restricted images is published with them.")
    yield missing(
        "Where it was pushed to: the Hub alone knows, by the tag of its bytes.", "Look at its repository on the Hub."
    )
