"""Generate, spread, repair and merge data sets: the public functions behind the verbs of the command line.

Those that train are in `diffusion.fitting` and `diffusion.further_training`, those that measure in
`measure.scoreboard` and `measure.calibration`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..arguments import Seed, checked
from ..diffusion.generator import load_generator
from ..diffusion.saved import DEFAULT_GENERATOR, SavedGenerator, find_generator
from ..domains.joined import JoinedFolders, SourceFolder
from ..domains.oracle import Oracle
from ..domains.preset import Preset
from ..domains.readers import DataSetFolder
from ..domains.registry import open_source
from ..domains.source import Source, access_to
from ..errors import InputError, counted, shown, unknown
from ..publish.croissant import NO_DETAILS
from ..publish.dataset_card import write_dataset_card
from ..records import Access, Record, strictest
from ..schema import SavedPredictor
from .documents import check_license, default_license, kept_details, kept_license
from .engines import ENGINES, launch
from .gate import QualityGate
from .generator import Sampler
from .lock import mutex
from .merge import merge
from .plan import SCM, VERSIONS, GenerationPlan
from .recipes import read_recipes
from .run import check, generate, repair, seconds_per_image
from .sampler import SavedSampler, check_prompts, find_sampler
from .store import PLAN, read_plan
from .subjects import choose
from .support import model_support, say, source_support, trained_support
from .verification import known_plan, restore_plan

__all__ = ["generate_dataset", "merge_datasets", "repair_dataset", "repair_needs", "spread_dataset"]


@checked
def generate_dataset(
    output_dir: str | Path,
    num_subjects: int,
    seed: Seed = 0,
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: SourceFolder | None = None,
    dry_run: bool = False,
    license: str | None = None,
    access: Access | None = None,
    predictor: SavedPredictor | None = None,
    world: str | None = None,
    resolution: int | None = None,
    recipes: str | Path | None = None,
    text_to_image: str | Path | None = None,
    preset: Preset | None = None,
    lora_weights: str | Path | None = None,
    negative_prompt: str | None = None,
    rank: int = 0,
    world_size: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    """Plan and write a data set with its card.

    Subjects are draws from the generator's causal model, or real observations of `source_dir`. Everything is checked
    before the network's weights are loaded, and the same call continues an interrupted run. With `text_to_image` the
    images are made from prompts, and the members of a family are same-noise samples, not counterfactuals.

    Args:
        output_dir: where the data set is written.
        num_subjects: families to generate.
        seed: of subjects and their noise.
        pretrained_model_name_or_path: the saved generator; the package's own by default. With `text_to_image` that
            whose causal model draws the subjects; none by default.
        source_dir: a folder of real images to observe subjects from, or several; with `text_to_image` to fit the
            causal model on.
        dry_run: write nothing, and add to the summary how long it would take, from a batch made on this device.
        license: identifier for the card; cc-by-4.0 for drawn subjects, unknown for a source, by default.
        access: who may see the source, or the images that `text_to_image` was trained on.
        predictor: the attribute predictor of the quality gate (`generate.gate`): its predictions are stored, and
            families that do not pass are drawn again.
        world: a world that generates exact counterfactuals, instead of a saved generator.
        resolution: of the images of a world or of `text_to_image`, in pixels; the preset's by default.
        recipes: file of contexts (`recipes.make_recipes`), over which subjects are spread; of covariates of the
            acquisition alone, unless the generator reads prompts.
        text_to_image: a text-to-image pipeline of diffusers that makes the images: its directory, or name on the Hub.
        preset: its domain, whose `prompt` is the template of its prompts.
        lora_weights: adapter weights for it.
        negative_prompt: what its images shall not show.
        rank: this process among `world_size`, which share the shards; the last one to end writes the card.
        world_size: number of such processes.
        **settings: further fields of GenerationPlan.

    Returns:
        The plan's summary; its `finished` is whether this process completed the data set, `source` what was read of
        the source and what is missing in it, `unreached_rows` how many did not pass the gate at last.

    Raises:
        InputError: settings that are invalid or contradict each other, the generator or the source, or a directory
            that holds something else.
    """
    check_license(license)
    planned = _plan(
        output_dir,
        num_subjects,
        seed=seed,
        pretrained_model_name_or_path=pretrained_model_name_or_path,
        source_dir=source_dir,
        access=access,
        predictor=predictor,
        world=world,
        resolution=resolution,
        recipes=recipes,
        text_to_image=text_to_image,
        preset=preset,
        lora_weights=lora_weights,
        negative_prompt=negative_prompt,
        rank=rank,
        world_size=world_size,
        **settings,
    )
    plan, saved, source, gate = planned
    read = _counts_read(planned)
    if dry_run:
        return {**plan.summary(), **_duration(planned, world_size), **read, "finished": False}
    record = generate(plan, _load(saved, plan), output_dir, source, rank == 0, gate, rank, world_size)
    if record is not None:
        # two ranks that end together both find the run finished
        with mutex(Path(output_dir)):
            _write_card(Path(output_dir), plan, record, license)
    unreached = {} if record is None or gate is None else {"unreached_rows": record.counts["unreached_rows"]}
    return {**plan.summary(), **read, **unreached, "finished": record is not None}


def _counts_read(planned: "_Planned") -> dict[str, Any]:
    """What was read of a source, whether subjects were observed in it or a causal model fitted on it."""
    if isinstance(planned.saved, SavedSampler):
        return {"source": planned.saved.counts} if planned.saved.counts else {}
    return {} if planned.source is None else {"source": planned.source.counts}


class _Planned(NamedTuple):
    """A data set that can be generated, before the network's weights are loaded."""

    plan: GenerationPlan
    saved: SavedGenerator | Oracle | SavedSampler
    source: Source | None
    gate: QualityGate | None


def _plan(
    output_dir: str | Path,
    num_subjects: int,
    seed: int = 0,
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: SourceFolder | None = None,
    access: Access | None = None,
    predictor: SavedPredictor | None = None,
    world: str | None = None,
    resolution: int | None = None,
    recipes: str | Path | None = None,
    text_to_image: str | Path | None = None,
    preset: Preset | None = None,
    lora_weights: str | Path | None = None,
    negative_prompt: str | None = None,
    rank: int = 0,
    world_size: int = 1,
    **settings: Any,
) -> _Planned:
    """What `generate_dataset` is about to make; raises the InputErrors that need nothing but the causal model."""
    saved: SavedGenerator | Oracle | SavedSampler
    if text_to_image is not None:
        if world is not None:
            raise InputError(f"world: {world} is given beside the pipeline {text_to_image}; give one of them.")
        saved = find_sampler(
            text_to_image,
            preset,
            pretrained_model_name_or_path,
            source_dir,
            access,
            resolution,
            lora_weights,
            negative_prompt,
        )
        # the causal model was fitted on it, and no image of it is observed
        source_dir = None
    else:
        own = {"preset": preset, "lora_weights": lora_weights, "negative_prompt": negative_prompt}
        if given := [name for name, value in own.items() if value is not None]:
            raise InputError(f"{given[0]}: is for a text-to-image pipeline; give text_to_image, or leave it out.")
        if source_dir is None and access not in (None, "unknown"):
            raise InputError(f"access: {access} is for a source, and none is given; leave it out.")
        saved = _generator(pretrained_model_name_or_path, world, resolution)
    if world is not None and source_dir is not None:
        raise InputError(f"source_dir: {source_dir} is given beside world {world}, which draws its own; leave one out.")
    crossed = settings.pop("levels", {})
    if not isinstance(crossed, Mapping) or not all(isinstance(one, list | tuple) for one in crossed.values()):
        raise InputError(f"levels: {shown(crossed)} is invalid; give lists of values by name.")
    levels = {
        name: [saved.preset.covariates.parse(name, level, "levels") for level in given]
        for name, given in crossed.items()
    }
    if recipes is not None:
        settings["recipes"] = read_recipes(recipes, saved.preset)
    if (Path(output_dir) / PLAN).is_file():
        # what was begun goes on as it was begun
        begun = read_plan(Path(output_dir))
        settings = {name: getattr(begun, name) for name in VERSIONS} | settings
    passed_on: Access = "open" if predictor is None else predictor.access

    def plan_of(source: Source | None) -> GenerationPlan:
        return GenerationPlan(
            preset=saved.preset,
            model_revision=saved.revision,
            num_subjects=num_subjects,
            seed=seed,
            resolution=saved.resolution,
            world=world,
            source=SCM if source is None else source.name,
            source_fingerprint=None if source is None else source.fingerprint,
            access=strictest(saved.access, passed_on, *(() if source is None else (access_to(source, access),))),
            gate=None if predictor is None else predictor.revision,
            sampling=saved.sampling if isinstance(saved, SavedSampler) else None,
            levels=levels,
            **settings,
        )

    source = None
    if source_dir is not None:
        # what the table alone decides, before its images are read
        source = open_source(
            source_dir, saved.preset, saved.resolution, check=lambda tabled: choose(plan_of(tabled), tabled)
        )
    plan = plan_of(source)
    coverage = None if isinstance(saved, Oracle) else saved.coverage
    if coverage is not None:
        # part of the plan's identity, because rows show it, so before that is asked for and kept
        plan = plan.model_copy(update={"support": trained_support(plan, coverage, saved.preset)})
    if isinstance(saved, SavedSampler):
        check_prompts(plan, saved)
    check(plan, output_dir, source, rank, world_size)
    if coverage is None and not isinstance(saved, SavedSampler):
        found = model_support(plan, saved.causal_model()) if source is None else source_support(plan, source)
        plan = plan.model_copy(update={"support": found})
    if rank == 0 and not isinstance(saved, SavedSampler):
        say(plan, counted=coverage is not None or isinstance(saved, Oracle))
    return _Planned(plan, saved, source, _gate(plan, predictor))


def _generator(path: str | Path | None, world: str | None, resolution: int | None) -> SavedGenerator | Oracle:
    """The saved generator at a path, the package's own without one; or a world."""
    if world is None:
        if resolution is not None:
            raise InputError(f"resolution: {resolution} is for a world; a saved generator has its own, leave it out.")
        return find_generator(DEFAULT_GENERATOR if path is None else path)
    if path is not None:
        raise InputError(f"world: {world} is given beside the saved pipeline {path}; give one of them.")
    return Oracle(world, resolution)


def _load(saved: SavedGenerator | Oracle | SavedSampler, plan: GenerationPlan) -> Sampler:
    """The saved generator with its weights, or the world itself."""
    if isinstance(saved, SavedSampler):
        return saved.load(plan)
    return saved if isinstance(saved, Oracle) else load_generator(saved)


def _duration(planned: _Planned, ranks: int) -> dict[str, float]:
    """How long so many ranks, each as fast as this device, would take without drawing families again."""
    # images of a thousand subjects take as long as those of a million; a source's subjects are those of the plan
    plan = planned.plan.sample() if planned.source is None else planned.plan
    seconds = seconds_per_image(plan, _load(planned.saved, plan), planned.source, planned.gate)
    total = seconds * planned.plan.num_rows / ranks
    return {"seconds_per_image": float(f"{seconds:.3g}"), "ranks": ranks, "estimated_seconds": round(total, 1)}


@checked
def spread_dataset(
    engine: str,
    tasks: int | None,
    workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    logging_dir: str | Path | None = None,
    *,
    output_dir: str | Path,
    dry_run: bool = False,
    **settings: Any,
) -> tuple[dict[str, Any], str]:
    """`generate_dataset` as ranks that an engine runs; settings are checked before anything is launched.

    Args:
        engine: local, slurm or ray; jobs for a dry run.
        tasks: number of ranks.
        workers: ranks at a time; all by default.
        options: the engine's own options, as `engines.launch` takes them.
        logging_dir: where the engine writes its logs; `output_dir`-logs by default.
        output_dir: where the data set is written.
        dry_run: launch nothing, and describe what would be launched.
        **settings: those of `generate_dataset`.

    Returns:
        The plan's summary, and a description of what the engine did or would do.

    Raises:
        InputError: as `generate_dataset` and `engines.launch`.
    """
    if engine not in ENGINES or (engine == "jobs" and not dry_run):
        # a Job's disk ends with it, and what it made
        raise unknown("engine", engine, [name for name in ENGINES if name != "jobs"])
    if tasks is None:
        raise InputError("tasks: not given; give the number of ranks that share the shards.")
    for name in ("source_dir", "pretrained_model_name_or_path", "recipes", "text_to_image", "lora_weights"):
        given = settings.get(name)
        if isinstance(given, DataSetFolder | JoinedFolders):
            settings[name] = given.absolute()
        elif given is not None and Path(given).exists():
            settings[name] = Path(given).absolute()
    check_license(settings.get("license"))
    planned = _plan(output_dir, **{name: value for name, value in settings.items() if name != "license"})
    task = partial(generate_dataset, Path(output_dir).absolute(), **settings)
    logs = logging_dir or f"{Path(output_dir)}-logs"
    launched = launch(engine, task, tasks, workers=workers, logging_dir=logs, dry_run=dry_run, options=options)
    return {
        **planned.plan.summary(),
        **_counts_read(planned),
        **(_duration(planned, tasks) if dry_run else {}),
    }, launched


def _gate(plan: GenerationPlan, predictor: SavedPredictor | None) -> QualityGate | None:
    """The plan's gate; InputError for a predictor other than the plan's."""
    if predictor is None and plan.gate is None:
        return None
    if predictor is None or plan.gate is None or predictor.revision != plan.gate:
        named = "no predictor" if plan.gate is None else f"one with weights {plan.gate}"
        raise InputError(
            f"predictor: {'not given' if predictor is None else predictor.revision}, but the images of this plan are "
            f"read by {named}; "
            f"{'leave it out' if plan.gate is None else 'give that'}."
        )
    attributes = predictor.load(plan.preset.covariates)
    if (channels := getattr(attributes, "image_channels", plan.preset.channels)) != plan.preset.channels:
        raise InputError(
            f"predictor: reads images of {counted(channels, 'channel')}, and those of this plan have "
            f"{plan.preset.channels}; train one on images of this preset."
        )
    return QualityGate(attributes.predict, plan.preset.covariates, plan.factors, plan.gate_tolerance)


@checked
def repair_dataset(
    directory: str | Path,
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: SourceFolder | None = None,
    predictor: SavedPredictor | None = None,
    text_to_image: str | Path | None = None,
    lora_weights: str | Path | None = None,
) -> list[str]:
    """Generate a data set's damaged and missing shards again, and only those, to the same bytes.

    Args:
        directory: the data set.
        pretrained_model_name_or_path: the generator it was made with; the package's own by default.
        source_dir: the folder its subjects were observed in, if any.
        predictor: the predictor of its quality gate, if any.
        text_to_image: the text-to-image pipeline that made it, if any; then the two above are those that gave the
            causal model.
        lora_weights: adapter weights of that pipeline, if any.

    Returns:
        Names of the shards that were made.

    Raises:
        InputError: generator, source or predictor are not those of the data set, or the new bytes differ.
    """
    restore_plan(Path(directory))
    plan = read_plan(Path(directory))
    if plan.sampling is not None or text_to_image is not None:
        given = (text_to_image, lora_weights, pretrained_model_name_or_path, source_dir)
        sampler = _sampler_of(plan, directory, *given)
        return repair(directory, sampler.load(plan), None, _gate(plan, predictor))
    if plan.source != SCM and source_dir is None:
        raise InputError(
            f"source_dir: not given, but the subjects of {directory} were observed in {plan.source} "
            f"({plan.source_fingerprint}); give the folder of its images."
        )
    if plan.source == SCM and source_dir is not None:
        raise InputError(f"source_dir: {source_dir} is given, but {directory} draws its subjects; leave it out.")
    if plan.world is not None and pretrained_model_name_or_path is not None:
        raise InputError(
            f"pretrained_model_name_or_path: {pretrained_model_name_or_path} is given, but the images of {directory} "
            f"are of the world {plan.world}; leave it out."
        )
    saved = _generator(pretrained_model_name_or_path, plan.world, plan.resolution if plan.world else None)
    if plan.model_revision != saved.revision:
        raise InputError(
            f"pretrained_model_name_or_path: {plan.world or pretrained_model_name_or_path or DEFAULT_GENERATOR} is "
            f"revision {saved.revision}, but {directory} was made by {plan.model_revision}; give that generator."
        )
    gate = _gate(plan, predictor)
    source = None if source_dir is None else open_source(source_dir, saved.preset, saved.resolution)
    return repair(directory, _load(saved, plan), source, gate)


def _sampler_of(
    plan: GenerationPlan,
    directory: str | Path,
    text_to_image: str | Path | None,
    lora_weights: str | Path | None,
    pretrained_model_name_or_path: str | Path | None,
    source_dir: SourceFolder | None,
) -> SavedSampler:
    """The text-to-image pipeline of a plan, with what draws its subjects; InputError for another one."""
    if plan.sampling is None or text_to_image is None:
        made = "no text-to-image pipeline" if plan.sampling is None else plan.sampling.generator
        raise InputError(
            f"text_to_image: {'not given' if text_to_image is None else text_to_image}, but {directory} was made by "
            f"{made}; {'leave it out' if plan.sampling is None else 'give that'}."
        )
    negative = plan.sampling.negative_prompt
    found = find_sampler(
        text_to_image,
        plan.preset,
        pretrained_model_name_or_path,
        source_dir,
        plan.access,
        plan.resolution,
        lora_weights,
        negative,
    )
    if found.revision != plan.model_revision:
        asked = plan.sampling
        raise InputError(
            f"text_to_image: {text_to_image} is revision {found.revision}, but {directory} was made by "
            f"{plan.model_revision}: {asked.generator}, adapter {asked.lora_weights or 'none'}, {asked.subjects}; give "
            "the same."
        )
    return found


def repair_needs(directory: str | Path) -> dict[str, str] | None:
    """What `repair_dataset` has to be given for a data set: its arguments, each with what it was made with.

    None where neither the plan nor the record of the run can be read, so that nothing can be made again.

    Args:
        directory: the data set.
    """
    plan = known_plan(Path(directory))
    if plan is None:
        return None
    needs = {} if plan.source == SCM else {"source_dir": plan.source}
    if plan.sampling is not None:
        needs["text_to_image"] = plan.sampling.generator
        others = {
            "lora_weights": plan.sampling.lora_weights,
            "source_dir": plan.sampling.source,
            "pretrained_model_name_or_path": plan.sampling.causal_model,
        }
        needs |= {name: value for name, value in others.items() if value is not None}
    elif plan.world is None and plan.model_revision != find_generator(DEFAULT_GENERATOR).revision:
        needs["pretrained_model_name_or_path"] = plan.model_revision
    return needs if plan.gate is None else {**needs, "predictor": plan.gate}


@checked
def merge_datasets(parts: Sequence[str | Path], output_dir: str | Path, license: str | None = None) -> Record:
    """Merge parts of one plan that several machines generated into one data set with its card.

    Args:
        parts: directories that `generate_dataset` wrote.
        output_dir: where the data set is written.
        license: identifier for the card, as in `generate_dataset`.

    Returns:
        The record of the run.

    Raises:
        InputError: parts of different plans, or a shard that is sound in none of them.
    """
    check_license(license)
    record = merge([Path(part) for part in parts], Path(output_dir))
    plan = read_plan(Path(output_dir))
    _write_card(Path(output_dir), plan, record, license)
    return record


def _write_card(directory: Path, plan: GenerationPlan, record: Record, license: str | None) -> None:
    """The documents of a finished data set; what a publisher added to earlier ones is kept."""
    try:
        details = kept_details(directory)
    except InputError:
        # a run does not end in an error for what it writes anew
        details = NO_DETAILS
    license = license or kept_license(directory) or default_license(plan)
    write_dataset_card(directory, plan.preset, record, license, details)
