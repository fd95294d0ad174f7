"""A saved generator as a model repository on the Hub: its weights, its records and its card only.

    record.json                     of its training; unreadable images by number, not by name
    calibration.json                where its strengths were calibrated
    records/<measure>-<world>.json  of a scoreboard, where it was measured
    records/card.json               licence, publisher and names, which no other record tells
    <component>/, model_index.json  as they were saved, so that it is the same revision
    README.md                       the card, printed from these records

Its records come in the first commit, then weights and their configurations, and last model_index.json and README.md,
so that the index never names a file that is still missing.
The repository loads as the directory does. Checkpoints, logs and pictures of training images are not published.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline

from ..access import RECORD, same_weights, sealed, warn_of_unsealed
from ..errors import InputError
from ..publish.hub.release import CARD, PERMISSION, Publication, Release, Target
from ..records import Access, Record, file_sha256, fingerprint, strictest
from .documents import CALIBRATION, Publisher, card_files, read_measured
from .saved import INDEX, SavedGenerator, access_to_training_images, find_generator, read_index

__all__ = ["push_directory", "push_pipeline"]


def push_directory(
    directory: str | Path,
    hub_model_id: str,
    load: Callable[[Path], object],
    *,
    scoreboard: str | Path | None = None,
    license: str | None = None,
    datasets: Sequence[str] | None = None,
    **settings: Any,
) -> Publication:
    """Push a saved pipeline with its card to the Hub, and tag it by its bytes.

    Args:
        directory: of the saved pipeline.
        hub_model_id: OWNER/NAME of the model repository.
        load: loads the pipeline, and raises InputError where it is not whole.
        scoreboard: directory that `synthfair measure` wrote for this generator; by default the records that its card
            was written with, and without these the card says that it was not measured.
        license: licence identifier for the card; by default as its card was written with, or unknown.
        datasets: names on the Hub of the data sets it was trained on; by default as its card was written with.
        **settings: those of `publish.hub.release.Target`.

    Returns:
        What was published, and where.

    Raises:
        InputError: before anything is sent, for a pipeline that is not whole, contains a local path or was trained on
            images that may not be published so, for figures of another generator, and for a tag that names other
            files; and for any error of the Hub.
    """
    target = Target("model", hub_model_id, **settings)
    directory = Path(directory)
    if not (directory / INDEX).is_file():
        raise InputError(
            f"{directory}: is not a saved pipeline (no {INDEX}); give the output directory of a finished "
            "`synthfair train`."
        )
    # by what the records say, before gigabytes are hashed or loaded
    _check_access(directory, target)
    saved = find_generator(directory)
    target.check(saved.access)
    warn_of_unsealed(directory)
    measured = read_measured(saved, scoreboard)
    publisher = Publisher.kept(saved.directory, license=license, datasets=datasets, hub_model_id=hub_model_id)
    for name in saved.files:
        _check_place(saved.directory / name)
    load(saved.directory)
    with TemporaryDirectory() as staged:
        _stage(saved, Path(staged))
        for name, content in card_files(saved, Path(staged), publisher, measured).items():
            (Path(staged) / name).write_bytes(content)
        components = sorted({name.split("/")[0] for name in saved.files if "/" in name})
        return _publish(Path(staged), target, saved.access, saved.revision, components)


def push_pipeline(pipeline: DiffusionPipeline, hub_model_id: str, **settings: Any) -> str:
    """Push a pipeline as it is in memory.

    Its records are those of the directory it was loaded from, if its weights are still the same; otherwise the access
    to its training images is unknown.

    Args:
        pipeline: the pipeline.
        hub_model_id: OWNER/NAME of the model repository.
        **settings: those of `push_directory`.

    Returns:
        The repository's address.

    Raises:
        InputError: as `push_directory` does.
    """
    rules = {name: one for name, one in settings.items() if name not in ("scoreboard", "license", "datasets")}
    target, known = Target("model", hub_model_id, **rules), _saved_in(pipeline)
    if known is None:
        target.check(strictest("unknown", pipeline.config.get("access", "unknown")))
    else:
        _check_access(known, target)
    source = _origin(pipeline, known)
    with TemporaryDirectory() as directory:
        saved = Path(directory)
        pipeline.save_pretrained(saved)
        for path in saved.rglob("*.json"):
            config = json.loads(path.read_bytes())
            if config.get("_name_or_path"):
                path.write_text(json.dumps({**config, "_name_or_path": ""}, indent=2, sort_keys=True) + "\n")
        if source is not None:
            access_to_training_images(source)
            for name in (RECORD, CALIBRATION):
                if (source / name).exists():
                    record = Record.read(source / name)
                    # the same weights, which may be held and written in another precision
                    (sealed(record, saved) if record.seal else record).write(saved / name)
        return push_directory(saved, hub_model_id, type(pipeline).load, **settings).url


def _check_access(directory: Path, target: Target) -> None:
    """Raise InputError where record or configuration name an access that the target does not allow."""
    accesses: list[Access] = []
    if (directory / RECORD).exists():
        accesses.append(Record.read(directory / RECORD).access)
    if (own := read_index(directory / INDEX).get("access")) is not None:
        accesses.append(own if own in get_args(Access) else "unknown")
    target.check(strictest(*(accesses or ["unknown"])))


def _saved_in(pipeline: DiffusionPipeline) -> Path | None:
    """The directory that a pipeline says it was loaded from, if it is one."""
    place = getattr(pipeline, "saved_in", None) or pipeline.config.get("_name_or_path")
    if not place:
        return None
    directory = Path(place) if Path(place).is_dir() else None
    if directory is None:
        with suppress(InputError):
            directory = find_generator(place).directory
    return directory if directory is not None and (directory / INDEX).is_file() else None


def _origin(pipeline: DiffusionPipeline, directory: Path | None) -> Path | None:
    """The directory a pipeline was loaded from, if its weights are still the same; else None."""
    if directory is None:
        return None
    parts = {name: one for name, one in pipeline.components.items() if isinstance(one, torch.nn.Module)}
    return directory if all(same_weights(one, directory / name) for name, one in parts.items()) else None


def _check_place(path: Path) -> None:
    """Raise InputError for a configuration that contains the local path it was loaded from."""
    if path.suffix != ".json":
        return
    place = json.loads(path.read_bytes()).get("_name_or_path")
    if place:
        raise InputError(
            f"{path}: contains the local path {place!r}; load it by CausalDiffusionPipeline.load and save it anew."
        )


def _stage(saved: SavedGenerator, staged: Path) -> None:
    """Lay out the repository; weights are linked, not copied."""
    (staged / "records").mkdir()
    for name in saved.files:
        (staged / name).parent.mkdir(exist_ok=True)
        (staged / name).symlink_to((saved.directory / name).resolve())
    _training_record(saved).write(staged / RECORD)
    if (saved.directory / CALIBRATION).exists():
        Record.read(saved.directory / CALIBRATION).write(staged / CALIBRATION)


def _training_record(saved: SavedGenerator) -> Record:
    """The record as it may be published: file names of unreadable images may identify patients."""
    if not (saved.directory / RECORD).exists():
        return Record(stage="save", inputs={"access": saved.access})
    record = Record.read(saved.directory / RECORD)
    source = record.counts.get("source", {})
    if not isinstance(source.get("quarantined"), Mapping):
        return record
    source = {**source, "quarantined": len(source["quarantined"])}
    return record.model_copy(update={"counts": {**record.counts, "source": source}})


def _publish(directory: Path, target: Target, access: Access, revision: str, components: Sequence[str]) -> Publication:
    """Push a directory that holds a saved generator, its records and its card only, and tag it by its bytes.

    Args:
        directory: the staged repository.
        target: the repository on the Hub.
        access: to the training images.
        revision: fingerprint of weights and configuration.
        components: directories of its parts.

    Raises:
        InputError: as `push_directory` does.
    """
    source = Record.read(directory / RECORD).inputs.get("source", "unknown")
    permission = target.write_permission(directory, access, source, {"generator": revision})
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    sha256 = {name: file_sha256(directory / name) for name in names}
    parts = [name for name in names if name.split("/")[0] in components]
    last = [INDEX, CARD]
    release = Release(
        directory,
        stages=[
            [RECORD, *permission, *(name for name in names if name not in (RECORD, PERMISSION, *parts, *last))],
            parts,
            last,
        ],
        access=access,
        identity=f"generator-{fingerprint(sha256)}",
        title=f"Generator {revision}",
        own=rf"(?:{'|'.join((*components, 'records'))})/.*|[^/]*\.json|.*\.(?:safetensors|bin)",
        contents=r".*\.(?:safetensors|bin)|model_index\.json",
        completing=(INDEX, CARD),
        sha256=sha256,
    )
    return release.publish(target)
