"""synthfair VERB: each verb calls one public function, with the settings that `cli_arguments` declares.

Here paths are opened, and what came out is printed. Bad input is one sentence and exit status 2; `verify` exits with 1
when it finds problems, `audit` and `monitor` when a condition holds. The library names its own arguments; its errors
are printed with the names of the flags.
"""

import json
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from . import __version__
from . import cli_arguments as verbs
from .cli_arguments import RENAMED_VERBS, VERBS
from .cli_parser import help_of, in_flags, parse
from .errors import InputError, counted, printable, unknown

if TYPE_CHECKING:
    from .diffusion.saved import SavedGenerator
    from .domains.preset import Preset
    from .publish.stored import StoredDataSet
    from .records import Record

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    # while the package was imported, Ctrl-C ended the process (`synthfair_hf.__init__`)
    if getattr(signal.getsignal(signal.SIGINT), "__module__", "") == __package__:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb, rest = "", words
    settings = None
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
        rest = words[len(verb.split()) :]
        if any([word] in HELP for word in rest):
            print(help_of(verb), end="")
            return _printed(0)
        settings = parse(verb, rest)
        return _printed(RUNS[verb](settings))
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
        print(
            "synthfair: interrupted; `generate`, `ingest`, `merge`, `push`, `benchmark`, `label` continue by the same "
            "command, `train` and what else trains by --resume_from_checkpoint latest.",
            file=sys.stderr,
        )
        return 130


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


def _verb(words: Sequence[str], has_inner: bool) -> str:
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
    return name


def _next(verb: str, *words: object) -> str:
    """The command to go on with, as a shell takes it; words in capitals are for the reader to replace."""
    return f"next: {join(['synthfair', *verb.split(), *map(str, words)])}"


def _trial() -> str:
    """What is said of the time that the next command takes."""
    from .training.config import TrainingConfig

    steps = TrainingConfig.model_fields["max_train_steps"].default
    return f"training takes {steps:,} steps, hours without a GPU; with --max_train_steps 300 it is a trial"


def _given(settings: verbs.VerbSettings) -> dict[str, Any]:
    """The settings by name, without those that are None: the function's own defaults stand for them."""
    return {name: value for name, value in settings if value is not None}


def _read(counts: Mapping[str, Any]) -> None:
    """Print what was read of a folder and what was not, where counts of a record or summary tell."""
    from .domains.source import describe_counts

    source = counts.get("source")
    # what draws its own images misses nothing
    if isinstance(source, Mapping) and "missing" in source:
        print("\n".join(describe_counts(source)))


def _saved(output_dir: Path, record: "Record") -> int:
    print(f"saved {output_dir} after {counted(record.counts['steps'], 'step')}; record in {output_dir}/record.json")
    _read(record.counts)
    return 0


def _domain(name: str | None, source: verbs.Source) -> "Preset":
    """The preset that is named; without a name that of an ingested folder, which is said, or chest_xray."""
    from .domains.ingested import ingested_preset
    from .domains.joined import JoinedFolders
    from .views.preset import load_preset

    folders = list(source.folders.values()) if isinstance(source, JoinedFolders) else [source] if source else []
    names = [] if name else [one for folder in folders if (one := ingested_preset(Path(folder)))]
    if not names:
        return load_preset(name or "chest_xray")
    first, *others = map(load_preset, names)
    if len(names) < len(folders) or any(one != first for one in others):
        raise InputError(
            f"preset: not given, and {', '.join(map(str, folders))} were not all ingested for one; give one that suits "
            "all of them."
        )
    print(f"preset: {first.name}, for which {folders[0]} was ingested")
    return first


def _train(settings: verbs.Train) -> int:
    from .diffusion.fitting import train_generator
    from .diffusion.saved import find_generator

    domain, place = _domain(settings.preset, settings.source_dir), settings.config.output_dir
    _saved(place, train_generator(**{**dict(settings), "preset": domain}))
    if settings.source_dir is not None:
        words = ("--pretrained_model_name_or_path", place, "--output_dir", "counterfactual")
        print(_next("counterfactual", *_somebody(find_generator(place).preset), *words))
    return 0


def _somebody(preset: "Preset") -> tuple[object, ...]:
    """Of an image of somebody, whose covariates are the reader's to replace, and of one that changes."""
    values = {
        one.name: one.levels[0] if one.categorical else f"{sum(one.bounds) / 2:g}" for one in preset.covariates.walk()
    }
    changed = next(one for one in preset.covariates.walk() if one.categorical)
    known = (f"{name}={value}" for name, value in values.items())
    return ("--image", "IMAGE", "--covariates", *known, "--do", f"{changed.name}={changed.levels[1]}")


def _finetune(settings: verbs.Finetune) -> int:
    from .diffusion.fitting import finetune_generator
    from .measure.predictors import SavedPredictor

    arguments = {**dict(settings), "predictor": SavedPredictor(settings.predictor)}
    return _saved(settings.config.output_dir, finetune_generator(**arguments))


def _rectify(asked: verbs.Rectify) -> int:
    from .diffusion.fitting import rectify_generator

    return _saved(asked.config.output_dir, rectify_generator(**dict(asked)))


def _super_resolve(asked: verbs.SuperResolve) -> int:
    from .diffusion.fitting import super_resolve_generator

    return _saved(asked.config.output_dir, super_resolve_generator(**dict(asked)))


def _predictor(settings: verbs.Predictor) -> int:
    from .domains.registry import open_source
    from .measure.predictors import train_predictor
    from .training.checkpoints import check_output_dir
    from .training.examples import TrainingExamples

    domain = _domain(settings.preset, settings.source_dir)
    check_output_dir(settings.config)
    examples = partial(TrainingExamples, split="train", resolution=domain.resolution, seed=settings.config.seed)
    source = open_source(settings.source_dir, domain, domain.resolution, check=examples)
    record = train_predictor(source, settings.config, domain.resolution, settings.access)
    return _saved(settings.config.output_dir, record)


def _autoencoder(settings: verbs.Autoencoder) -> int:
    from .domains.registry import open_source
    from .measure.autoencoder import train_autoencoder
    from .training.checkpoints import check_output_dir
    from .training.examples import TrainingExamples

    domain = _domain(settings.preset, settings.source_dir)
    check_output_dir(settings.config)
    examples = partial(TrainingExamples, split="train", resolution=domain.resolution, seed=settings.config.seed)
    source = open_source(settings.source_dir, domain, domain.resolution, check=examples)
    record = train_autoencoder(source, settings.config, domain.resolution, access=settings.access)
    return _saved(settings.config.output_dir, record)


def _calibrate(settings: verbs.Calibrate) -> int:
    from .measure.calibration import calibrate

    record = calibrate(**_given(settings))
    for name, one in record.measured["chosen"].items():
        share = one.get("share_of_gap")
        told = "" if share is None else f", share of the real gap {share:.2f}"
        print(f"{name}: scale {one['scale']:g}, level {one['level']:g}, error {one['error']:g}{told}")
    print(f"saved as defaults of {settings.pretrained_model_name_or_path}")
    _read(record.counts)
    return 0


def _soundness(settings: verbs.MeasureSoundness) -> int:
    from .measure.scoreboard import measure_soundness

    record = measure_soundness(**_given(settings))
    print(f"wrote {settings.output_dir}/soundness-{settings.world}.json and {settings.output_dir}/README.md")
    _read(record.counts)
    return 0


def _shortcuts(settings: verbs.MeasureShortcuts) -> int:
    from .domains.registry import open_source
    from .measure.shortcuts import FEATURES, measure_shortcuts

    domain, given = _domain(settings.preset, settings.source_dir), _given(settings)
    source = open_source(settings.source_dir, domain, settings.resolution)
    arguments = {name: given[name] for name in ("output_dir", "resolution", "splits") if name in given}
    rows = measure_shortcuts(source, domain, **arguments).measured["rows"]
    print(f"{'AUC of':24}" + "".join(f"{features:24}" for features in FEATURES))
    for name in dict.fromkeys(row["attribute"] for row in rows):
        own = [row for row in rows if row["attribute"] == name]
        told = ["-" if (m := row["mean"]) is None else f"{m:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in own]
        print(f"{name:24}" + "".join(f"{one:24}" for one in told))
    print(f"wrote {settings.output_dir}/shortcuts.json")
    return 0


def _realism(settings: verbs.MeasureRealism) -> int:
    from .measure.scoreboard import measure_realism

    record = measure_realism(**_given(settings))
    print(f"wrote {settings.output_dir}/realism-{settings.world}.json and {settings.output_dir}/README.md")
    _read(record.counts)
    return 0


def _candidates(settings: verbs.Candidates) -> int:
    from .align.candidates import make_candidates

    record, place = make_candidates(**dict(settings)), settings.output_dir
    print(f"wrote {place}: {counted(record.counts['pairs'], 'pair')}")
    _read(record.counts)
    answers = place.with_name(f"{place.name}-answers.jsonl")
    print(_next("label", "--candidates", place, "--annotator", "NAME", "--output_file", answers))
    judges = ("--predictor", "PREDICTOR", "--judges", "attribute_fidelity=1")
    print(_next("judge", "--candidates", place, *judges, "--output_dir", place.with_name(f"{place.name}-preferences")))
    return 0


def _judge(settings: verbs.Judge) -> int:
    from .align.judgement import judge_candidates

    record, place = judge_candidates(**dict(settings)), settings.output_dir
    print(f"wrote {place}: {counted(record.counts['pairs'], 'pair')}")
    _read(record.counts)
    generator = ("--pretrained_model_name_or_path", "PIPELINE")
    print(_next("align", *generator, "--train_data_dir", place, "--output_dir", f"runs/{place.name}"))
    return 0


def _label(settings: verbs.Label) -> int:
    from .align.judgement import export_answers, open_candidates
    from .align.labelling.answers import Answers
    from .align.labelling.page import serve
    from .align.labelling.session import Labelling
    from .views.preset import load_preset

    domain = None if settings.preset is None else load_preset(settings.preset)
    if settings.output_dir is not None:
        exported = export_answers(settings.candidates_dir, settings.answers_file, settings.output_dir, domain)
        print(json.dumps({name: exported[name] for name in ("annotators", "agreement")}, indent=2))
        print(f"wrote {settings.output_dir} of {counted(exported['pairs'], 'preference')}")
        return 0

    def ready(addresses: dict[str, str]) -> None:
        for name, address in addresses.items():
            print(f"{name}: {address}", flush=True)
        print(f"answers: {settings.answers_file} (Ctrl-C ends; the same command goes on)", flush=True)

    candidates, _ = open_candidates(settings.candidates_dir, domain)
    serve(
        Labelling(candidates, Answers(settings.answers_file), settings.annotators, settings.seed), settings.port, ready
    )
    return 0


def _align(settings: verbs.Align) -> int:
    from .align.finetuning import align_generator

    return _saved(settings.config.output_dir, align_generator(**dict(settings)))


def _fuse(settings: verbs.Fuse) -> int:
    from .align.finetuning import fuse_generator

    fuse_generator(**dict(settings))
    place = settings.output_dir
    measured = ("--pretrained_model_name_or_path", place, "--world", "WORLD", "--output_dir", f"{place}-scoreboard")
    print(f"wrote {place}; {_next('measure soundness', *measured)}")
    return 0


def _recipes(settings: verbs.Recipes) -> int:
    from .domains.registry import DRAWN
    from .generate.recipes import describe_recipes, make_recipes, subjects_for
    from .views.preset import load_preset

    preset, file = load_preset(settings.preset), settings.output_file
    record = make_recipes(**{**_given(settings), "preset": preset})
    print("\n".join(describe_recipes(record)))
    who: tuple[str, ...] = ()
    if not set(record.settings["contexts"]) <= set(preset.covariates.names):
        # no covariate, and so for whoever reads prompts
        who = ("--text_to_image", "PIPELINE", "--preset", settings.preset, "--source", "DIR")
    elif preset.name in DRAWN:
        who = ("--world", preset.name)
    elif preset.name != "chest_xray":
        who = ("--pretrained_model_name_or_path", "PIPELINE")
    number = subjects_for(preset, record.counts["recipes"])
    # what a recipe sets is not crossed as well
    crossed = [name for name in preset.factors if name not in record.settings["contexts"]]
    if len(crossed) < len(preset.factors):
        others = (one.name for one in preset.covariates.walk() if one.categorical)
        crossed = crossed or [one for one in others if one not in record.settings["contexts"]][:1]
        who = (*who, *(("--factors", *crossed) if crossed else ()))
    words = ("--recipes", file, "--num_subjects", number, "--output_dir", file.with_suffix(""))
    if "PIPELINE" in who:
        print("PIPELINE is the directory or Hub name of your generator")
    print(f"wrote {file}; {_next('generate', *who, *words)}")
    return 0


def _generate(settings: verbs.Generate) -> int:
    from .generate.dataset import generate_dataset, spread_dataset
    from .generate.engines import place_from_environment
    from .generate.store import RUN
    from .generate.summary import describe_summary

    arguments = _given(settings)
    if settings.preset is not None:
        from .views.preset import load_preset

        arguments["preset"] = load_preset(settings.preset)
    if settings.predictor is not None:
        from .measure.predictors import SavedPredictor

        arguments["predictor"] = SavedPredictor(settings.predictor)
    if settings.engine is not None:
        summary, launched = spread_dataset(**{"tasks": None, **arguments})
        # nothing is written that could be looked up
        print(json.dumps(summary, indent=2) if settings.dry_run else "\n".join(describe_summary(summary)))
        print(launched)
        return 0
    for name in ("tasks", "workers", "options", "logging_dir"):
        if name in arguments:
            raise InputError(f"{name}: is for an engine; give --engine too, or leave it out.")
    place = place_from_environment()
    summary = generate_dataset(rank=place.rank, world_size=place.world_size, **arguments)
    if place.rank == 0 and settings.dry_run:
        print(json.dumps(summary, indent=2))
    if summary["finished"]:
        print("\n".join(describe_summary(summary)))
        _read(summary)
        print(f"wrote {settings.output_dir}; record in {settings.output_dir / RUN}")
        print(_next("verify", settings.output_dir))
    elif not settings.dry_run:
        print(f"rank {place.rank} of {place.world_size} has written its shards; the last one to end writes the card")
    return 0


def _verify(settings: verbs.Verify) -> int:
    from .generate.verification import verify

    directory = settings.directory
    if settings.repair:
        from .generate.dataset import repair_dataset
        from .measure.predictors import SavedPredictor
        from .records import Record

        predictor = None if settings.predictor is None else SavedPredictor(settings.predictor)
        made = repair_dataset(
            directory,
            settings.pretrained_model_name_or_path,
            settings.source_dir,
            predictor,
            settings.text_to_image,
            settings.lora_weights,
        )
        print(f"{directory}: made {counted(len(made), 'shard')} again" + "".join(f"\n  {name}" for name in made))
        if settings.source_dir is not None:
            _read(Record.read(directory / "records" / "generate.json").counts)
    else:
        for name in ("source_dir", "pretrained_model_name_or_path", "predictor", "text_to_image", "lora_weights"):
            if getattr(settings, name) is not None:
                raise InputError(f"{name}: is for repair; give --repair too, or leave it out.")
    problems = verify(directory)
    for problem in problems:
        print(problem)
    print(f"{directory}: {counted(len(problems), 'problem')}" if problems else f"{directory}: sound")
    # no repair removes a stray file, or writes a card, which alone holds the licence
    cards = [problem for problem in problems if problem.startswith("README.md")]
    if cards and len(cards) == len(problems):
        print(f"the synthfair generate command that wrote {directory}, with the same flags, writes its card again")
    if any(not problem.endswith("remove it.") and not problem.startswith("README.md") for problem in problems):
        from .generate.dataset import repair_needs

        needs = repair_needs(directory)
        if needs is not None:
            flags = [word for name in needs for word in (f"--{name.removesuffix('_dir')}", name.upper())]
            print(_next("verify", directory, "--repair", *flags))
    return 1 if problems else 0


def _validate(settings: verbs.Validate) -> int:
    from .generate.documents import validate

    problems = validate(settings.directory)
    for problem in problems:
        print(problem)
    told = f"{counted(len(problems), 'problem')}" if problems else "card and records agree"
    print(f"{settings.directory}: {told}")
    return 1 if problems else 0


def _card(settings: verbs.Card) -> int:
    from .generate.documents import write_card

    for path in write_card(**dict(settings)):
        print(f"wrote {path}")
    return 0


def _governance(settings: verbs.Governance) -> int:
    from .generate.governance import write_governance

    for stage in write_governance(**dict(settings)).stages:
        told = f"{counted(len(stage.statements), 'statement')}, {len(stage.missing)} missing"
        print(f"{stage.stage}: {told}")
        for one in stage.missing:
            print(f"  missing: {one.missing}")
    print(f"wrote {settings.output_dir}/governance.html, governance.json and governance.schema.json")
    return 0


def _merge(settings: verbs.Merge) -> int:
    from .generate.dataset import merge_datasets

    record = merge_datasets(**dict(settings))
    print(
        f"{settings.output_dir}: {counted(record.counts['rows'], 'row')} in {counted(record.counts['shards'], 'shard')}"
    )
    return 0


def _push(settings: verbs.Push) -> int:
    from .diffusion.generator import push_generator
    from .generate.publish import publish

    if (settings.hub_dataset_id is None) == (settings.hub_model_id is None):
        raise InputError("hub_dataset_id, hub_model_id: give one of them, for a data set or for a generator.")
    arguments = _given(settings)
    if settings.hub_dataset_id is None:
        release = push_generator(**arguments)
    else:
        for name in ("scoreboard", "license", "datasets"):
            if name in arguments:
                raise InputError(f"{name}: is for a generator; give --hub_model_id, or leave it out.")
        release = publish(**arguments)
    print(
        f"{release.url} at {release.tag} ({release.commit[:7]}): {counted(release.uploaded, 'file')} sent, "
        f"{release.already_there} there already"
    )
    return 0


def _counterfactual(settings: verbs.Counterfactual) -> int:
    from .diffusion.counterfactual import counterfactual

    print(json.dumps(counterfactual(**_given(settings))))
    if settings.plant_scanner:
        print(
            f"planted scanner {settings.covariates['scanner']} on the radiograph first: observation.png is not as given"
        )
    print(f"wrote {settings.output_dir}/observation.png, counterfactual.png, difference.png, counterfactual.json")
    return 0


def _audit(settings: verbs.Audit) -> int:
    _check_what_is_audited(settings)
    # a table needs no torch, whose import takes as long as the audit
    if settings.classifier is None:
        from .fairness.audit_page import audit_predictions

        record, outcomes = audit_predictions(**_given(settings))
    else:
        from .fairness.evaluation import audit_classifier

        # a classifier has one finding, whose label is one
        label = {} if settings.label is None else {"label": _only("label", settings.label)}
        record, outcomes = audit_classifier(**{**_given(settings), **label})
    for finding, counts in record.counts.get("findings", {None: record.counts}).items():
        for name, n in counts["left_out"].items():
            print(f"{f'{finding}: ' if finding else ''}left out: {counted(n, 'row')} without {name}")
    for row in record.measured["gaps"]:
        if row["metric"] in ("auc_gap", "equal_opportunity_difference", "demographic_parity_difference"):
            ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
            value = "no value" if row["value"] is None else f"{row['value']:.3f}{ends}"
            p = "" if row["p"] is None else f", p = {row['p']:.3g}"
            unknown_rows = f", {row['unknown']} of unknown group" if row["unknown"] else ""
            finding = f"{row['finding']}, " if "finding" in row else ""
            print(f"{finding}{row['attribute']}: {row['metric']} {value}{p}, n = {row['n']}{unknown_rows}")
    for one in outcomes:
        told = "it has no value" if math.isnan(one.figure) else f"it is {one.figure:.3f}"
        print(f"{'holds' if one.holds else 'does not hold'}: {one.condition} ({told})")
    for rows in record.measured.get("flips", {}).values():
        for row in rows:
            if row["metric"] == "flip_rate" and row["from"] == "any" and row["value"] is not None:
                ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
                group = f" within {row['within']} = {row['group']}" if "within" in row else ""
                print(f"do({row['attribute']}){group}: flips {row['value']:.3f}{ends} of {counted(row['n'], 'pair')}")
    for row in record.measured.get("influence", []):
        if row["value"] is not None:
            print(
                f"owed to {row['covariate']}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of the variance"
            )
    others = "" if settings.classifier is None else ", predictions.csv"
    print(f"wrote {settings.output_dir}/audit.html, audit.json{others}, groups.csv, gaps.csv and reliability.csv")
    return 1 if any(one.holds for one in outcomes) else 0


def _only(argument: str, given: str | tuple[str, ...]) -> str:
    """The one word that a classifier takes."""
    if isinstance(given, str):
        return given
    if len(given) != 1:
        raise InputError(
            f"{argument}: {', '.join(given)}; give one, as a classifier is audited for one finding at a time."
        )
    return given[0]


def _check_what_is_audited(settings: verbs.Audit) -> None:
    """Raise InputError unless it is either a table, with its columns, or a classifier, with its rows."""
    if (settings.predictions is None) == (settings.classifier is None):
        raise InputError("predictions, classifier: give one of them, a table or what predicts.")
    table, rows = ("label", "score"), ("data_dir",)
    of_table = ("score", "subject", "weight", "positive", "negative")
    of_rows = ("data_dir", "view", "split", "finding", "causal_model")
    needed, barred, what = (table, of_rows, "predictions") if settings.predictions else (rows, of_table, "classifier")
    for name in needed:
        if getattr(settings, name) is None:
            raise InputError(f"{name}: not given; {what} needs it.")
    for name in barred:
        if getattr(settings, name) is not None:
            raise InputError(f"{name}: is given, and says nothing of {what}; leave it out.")


def _monitor(settings: verbs.Monitor) -> int:
    from .fairness.monitoring import monitor_predictions

    record, outcomes = monitor_predictions(**_given(settings))
    counts, found = record.counts, record.measured
    for name in ("reference", "stream"):
        for column, n in counts[name]["left_out"].items():
            print(f"{name}: left out: {counted(n, 'row')} without {column}")
    if counts["stream"]["waiting"]:
        print(f"{counted(counts['stream']['waiting'], 'row')} after the last whole window")
    for row in found["windows"]:
        told = f"{counted(row['alarms'], 'alarm')}" if row["alarms"] else "no alarm"
        print(f"{row['window']}: {counted(row['n'], 'row')}, {row['labelled']} labelled, {told}")
    for row in found["drift"]:
        if row["alarm"]:
            ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
            of = row["attribute"] + (f"={row['group']}" if row["group"] not in ("", row["attribute"]) else "")
            figure = f"{row['kind']} of {of}, {row['metric']} {row['value']:.3f}{ends}"
            print(f"alarm: {row['window']}: {figure}, p = {row['p']:.2g}, n = {row['n']}")
    for one in outcomes:
        figure = f"{one.figure:.0f} of them" if one.window is None else f"it is {one.figure:.3f}"
        told = "it has no value" if math.isnan(one.figure) else figure
        window = "" if one.window is None else f"{one.window}: "
        print(f"{window}{'holds' if one.holds else 'does not hold'}: {one.condition} ({told})")
    print(f"wrote {settings.output_dir}/monitoring.html, monitoring.json and its tables in CSV")
    return 1 if any(one.holds for one in outcomes) else 0


def _detect(settings: verbs.Detect) -> int:
    from .fairness.detection import FALSE_ALARMS
    from .fairness.evaluation import detect_classifier

    record, found = detect_classifier(**_given(settings))
    if record.counts["left_out"]:
        print(f"{counted(record.counts['left_out'], 'row')} without a value of an attribute, left out")
    for row in record.measured["table"]:
        if row["statistic"] is None:
            print(f"{row['attribute']}: no value, {row['reason']}")
        else:
            p, n = f"p = {row['p']:.3g}, adjusted {row['p_adjusted']:.3g}", counted(row["subjects"], "subject")
            print(f"{row['attribute']}: {row['statistic']:.3f}, {p}, rank {row['rank']:.0f}, {n}")
    verdict = found.verdict or "none of them"
    print(f"verdict: {verdict}, by {found.detector} at level {settings.alpha:g}")
    named, of = FALSE_ALARMS[found.detector]
    print(
        f"known false alarms: on phantoms this rule named an attribute for {named} of {of} classifiers fitted without "
        "bias (docs/detection), as scores depend a little on every attribute; compare it with those fitted on a twin"
    )
    if settings.output_file is not None:
        print(f"wrote {settings.output_file}")
    return 0


def _benchmark(settings: verbs.Benchmark) -> int:
    from .fairness.benchmark.board import benchmark

    record = benchmark(**dict(settings))
    print(f"wrote {settings.output_dir}/README.md and table.csv of {counted(len(record.counts['cells']), 'cell')}")
    _read(record.counts)
    return 0


def _preset(settings: verbs.PresetFile) -> int:
    from .domains.draft import draft_preset
    from .domains.ingested import METADATA
    from .domains.preset_file import preset_yaml
    from .records import check_new_files, write_atomically
    from .views.preset import load_preset

    table, written = settings.metadata_file, settings.output_file
    if table is not None and table.is_dir():
        table /= METADATA
    if (settings.preset is None) == (table is None):
        raise InputError("preset: give FILE to print a preset, or --from metadata.csv to draft one.")
    for name in ("finding", "columns", "image_column"):
        if table is None and getattr(settings, name):
            raise InputError(f"{name}: is for a draft; give --from metadata.csv, or leave it out.")
    if written is not None:
        check_new_files("output_file", written)
    remarks: list[str] = []
    if table is None:
        text = preset_yaml(load_preset(str(settings.preset)))
    else:
        name = "my_domain" if written is None else written.stem
        preset, remarks = draft_preset(table, name, settings.finding, settings.columns, settings.image_column)
        remarks = [in_flags(remark, "preset") for remark in remarks]
        text = preset_yaml(preset, remarks)
    if written is None:
        print(text, end="")
        return 0
    write_atomically(written, text.encode())
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(f"wrote {written}")
    if table is None:
        return 0
    print(_trial())
    if table.name != METADATA:
        print(f"{table} is to be called {METADATA} first, as which it is read")
    image = () if settings.image_column is None else ("--image_column", settings.image_column)
    mapped = [f"{name}={column}" for name, column in (settings.columns or {}).items()]
    source = ("--source", table.parent, *image, *(("--column", *mapped) if mapped else ()))
    print(_next("train", "--preset", written, *source, "--output_dir", f"runs/{written.stem}"))
    return 0


def _sources(settings: verbs.Sources) -> int:
    from .domains.registry import describe_sources

    print("\n".join(describe_sources(settings.name)))
    return 0


def _ingest(settings: verbs.Ingest) -> int:
    from tqdm import tqdm

    from .domains.ingest import estimate, ingest
    from .domains.readers import DataSetFolder
    from .domains.source import describe_counts
    from .views.preset import load_preset

    given = _given(settings)
    reading = ("dataset_name", "uncertain", "columns", "image_column", "fit")
    folder = DataSetFolder(directory=settings.source_dir, **{name: given[name] for name in reading if name in given})
    names = ("output_dir", "resolution", "access", "num_proc")
    arguments = {**{name: given[name] for name in names if name in given}, "preset": load_preset(settings.preset)}
    if settings.dry_run:
        found = estimate(folder, **arguments)
        print("\n".join(describe_counts(found["counts"])))
        size, free = (tqdm.format_sizeof(found[name], "B") for name in ("bytes", "free"))
        print(
            f"{counted(found['images'], 'image')} would be read in about {tqdm.format_interval(found['seconds'])} and "
            f"take about {size}; {free} are free"
        )
        return 0
    record, place = ingest(folder, **arguments), settings.output_dir
    _read({"source": record.counts})
    print(f"wrote {place}, access {record.access}; the key of its names and what was left out are in {place}.private")
    preset = () if settings.preset == "chest_xray" else ("--preset", settings.preset)
    small = () if settings.resolution is None else ("--resolution", settings.resolution)
    domain = arguments["preset"].covariates
    with (place / "metadata.csv").open(encoding="utf-8") as file:
        told = file.readline().strip().split(",")
    # a scanner that no table tells is planted in training
    lacks = [one.name for one in domain.walk() if not one.optional and one.name not in (*told, "scanner")]
    if lacks:
        default = ", the default" if settings.preset == "chest_xray" else ""
        print(
            f"preset {settings.preset}{default}: needs {', '.join(lacks)} as well, which is told of no image; "
            "ingest it with the preset of its own domain, or draft one"
        )
        if settings.dataset_name == "imagefolder":
            mapped = [f"{name}={column}" for name, column in (settings.columns or {}).items()]
            columns = ("--column", *mapped) if mapped else ()
            print(_next("preset", "--from", settings.source_dir, *columns, "--output_file", f"{place.name}.yaml"))
        return 0
    print(_trial())
    print(_next("train", *preset, *small, "--source", place, "--output_dir", f"runs/{place.name}"))
    return 0


def _views(settings: verbs.Views) -> int:
    from .views.builder import read_record
    from .views.preset import load_preset
    from .views.shares import Train, listed_views, promised_shares, realised_shares, unmet_views
    from .views.view import get_view, uncurated_views

    if settings.output_dir is not None and settings.data_dir is None:
        raise InputError("data_dir: not given; output_dir is for a page of counts, so give a data set to count.")
    if settings.data_dir is None:
        domain, train = load_preset(settings.preset), None
    else:
        record, domain = read_record(str(settings.data_dir))
        train = Train.of(domain, record.settings)
    if settings.data_dir is not None and settings.output_dir is not None:
        from .publish.view_page import write_statistics

        name = settings.view
        told = {name: realised_shares(get_view(name, domain), train)} if name else unmet_views(domain, train)
        for one_name, shares in told.items():
            if shares:
                print(f"{one_name}: {shares}")
        print(f"wrote {write_statistics(settings.data_dir, name or 'full', settings.output_dir)}")
        return 0
    listed = listed_views(domain, train)
    if settings.view is None:
        for one in listed:
            print(f"{one.name:36} {promised_shares(one)}")
        if train is not None and (unmet := unmet_views(domain, train)):
            subjects = counted(sum(train.sizes), "subject")
            print(f"not listed, for {subjects} of train cannot give the shares of {len(unmet)}: {', '.join(unmet)}")
        reasons: dict[str, list[str]] = {}
        for name, why in uncurated_views(domain).items():
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            print(f"not listed, for {why}: {', '.join(names)}")
        which = ("--preset", settings.preset) if settings.data_dir is None else ("--data_dir", settings.data_dir)
        print(_next("views", *which, "--view", "NAME"))
        return 0
    one = get_view(settings.view, domain)
    print(f"{one.name}\n{one.sentence}\nfilters: {json.dumps(one.filters_for_parquet())}")
    if shares := realised_shares(one, train):
        print(f"here: {shares}")
    if one.label is not None:
        print(f"{one.label.column}: {one.label.variable}, but {json.dumps(one.label.changes)}")
    print(f"twin: {one.twin}\nrecipe: {one.fingerprint}")
    # a bare name is answered from any cache
    place = "./synthfair" if settings.data_dir is None else str(settings.data_dir.absolute())
    if one.label is None and one.name in {other.name for other in listed}:
        print(f"load: load_dataset({place!r}, {one.name!r})")
    else:
        how = f"import synthfair_hf; load_dataset('synthfair', {one.name!r}, data_dir={place!r})"
        print(f"load: {how}  # not in the card")
    return 0


def _report(settings: verbs.Report) -> int:
    from .publish.report import write_report

    print(f"wrote {write_report(settings.directory)}")
    return 0


def _demo(settings: verbs.Demo) -> int:
    from .generate.demo import demo

    found = demo(settings.output_dir, settings.seed)
    print(f"{settings.output_dir}: sound")
    for name, view in found["views"].items():
        print(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in view.items()))
    print(f"  report: {found['report']}")
    print(
        "try:  from datasets import load_dataset; "
        f"load_dataset({str(settings.output_dir.absolute())!r}, 'sex_imbalanced_90_10')"
    )
    return 0


def _app(settings: verbs.App) -> int:
    from .diffusion.saved import DEFAULT_GENERATOR, find_generator
    from .publish.explorer.figures import Audit, Leaderboard
    from .publish.explorer.page import Explored, explore
    from .publish.serving import check_host, import_gradio
    from .publish.stored import StoredDataSet

    import_gradio("app")
    check_host(settings.host)
    saved = find_generator(settings.pretrained_model_name_or_path or DEFAULT_GENERATOR)
    leaderboard = None if settings.leaderboard is None else Leaderboard(settings.leaderboard)
    audit = None if settings.audit is None else Audit(settings.audit)
    data_set = None if settings.data_dir is None else StoredDataSet.read(settings.data_dir)
    if settings.output_dir is not None:
        return _write_space(settings, settings.output_dir, saved, data_set)
    predictor = settings.predictor
    if predictor is None and settings.pretrained_model_name_or_path is None:
        predictor = DEFAULT_GENERATOR.with_name("chest_xray_findings_judge_128")

    from .diffusion.loaded import LoadedGenerator
    from .measure.predictors import predict_images

    predict = None if predictor is None else predict_images(predictor, saved.preset.covariates, saved.resolution)
    explored = Explored(LoadedGenerator(saved), predict, data_set, leaderboard, audit)
    explore(explored, lambda address: print(f"{address} (Ctrl-C ends)", flush=True), settings.port, settings.host)
    return 0


def _write_space(
    settings: verbs.App, output_dir: Path, saved: "SavedGenerator", data_set: "StoredDataSet | None"
) -> int:
    from .measure.predictors import SavedPredictor
    from .publish.explorer.space import write_space
    from .publish.serving import import_gradio
    from .records import strictest
    from .views.builder import access_of

    generator, accesses = settings.pretrained_model_name_or_path, [saved.access]
    options: list[str] = []
    copied: dict[str, dict[str, Path]] = {}

    def copy(flag: str, part: str, directory: Path, patterns: Iterable[str]) -> None:
        found = sorted(path for pattern in patterns for path in directory.glob(pattern))
        copied[part] = {path.relative_to(directory).as_posix(): path for path in found}
        options.extend((flag, part))

    if generator is not None and Path(generator).is_dir():
        copy("--pretrained_model_name_or_path", "generator", saved.directory, (*saved.files, "record.json"))
    elif generator is not None:
        options += ["--pretrained_model_name_or_path", generator]
    if settings.predictor is not None:
        accesses.append(SavedPredictor(settings.predictor).access)
        copy("--predictor", "predictor", settings.predictor, ("*.json", "*.safetensors"))
    if settings.data_dir is not None and data_set is not None:
        accesses.append(access_of(data_set.record))
        copy("--data_dir", "data_set", settings.data_dir, ("README.md", "data/**/*.parquet", "records/*.json"))
    if settings.leaderboard is not None:
        copy("--leaderboard", "leaderboard", settings.leaderboard, ("benchmark.json", "figures.csv"))
    if settings.audit is not None:
        copy("--audit", "audit", settings.audit, ("audit.json",))
    # where a Space is asked
    options += ["--host", "0.0.0.0", "--port", "7860"]
    version = import_gradio("app").__version__
    write_space(output_dir, saved.preset.title, options, copied, strictest(*accesses), version)
    print(f"wrote {output_dir}: app.py, requirements.txt, README.md{''.join(f', {part}/' for part in copied)}")
    return 0


RUNS: dict[str, Callable[[Any], int]] = {
    "train": _train,
    "finetune": _finetune,
    "rectify": _rectify,
    "super_resolve": _super_resolve,
    "predictor": _predictor,
    "autoencoder": _autoencoder,
    "calibrate": _calibrate,
    "measure soundness": _soundness,
    "measure realism": _realism,
    "measure shortcuts": _shortcuts,
    "candidates": _candidates,
    "judge": _judge,
    "label": _label,
    "align": _align,
    "fuse": _fuse,
    "recipes": _recipes,
    "generate": _generate,
    "verify": _verify,
    "validate": _validate,
    "card": _card,
    "governance": _governance,
    "merge": _merge,
    "push": _push,
    "counterfactual": _counterfactual,
    "audit": _audit,
    "monitor": _monitor,
    "detect": _detect,
    "benchmark": _benchmark,
    "preset": _preset,
    "sources": _sources,
    "ingest": _ingest,
    "views": _views,
    "report": _report,
    "demo": _demo,
    "app": _app,
}
"""The function that runs each verb."""

if __name__ == "__main__":
    sys.exit(main())
