"""synthfair VERB: each verb asks one public function; `cli_arguments` says by which settings.

Here paths are opened, and what came out is printed. Bad input is one sentence and exit status 2; `verify` exits with 1
when it finds problems. The library speaks of its own arguments; what it refuses is told in the names of the flags.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from . import cli_arguments as verbs
from .cli_arguments import RENAMED_VERBS, VERBS
from .cli_parser import help_of, in_flags, parse
from .errors import InputError, unknown

if TYPE_CHECKING:
    from .records import Record

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = ""
    try:
        if words[:1] == ["--version"]:
            print(f"synthfair {__version__}")
            return 0
        if words[:1] in HELP:
            print(_overview(VERBS))
            return 0
        inner = [name for name in VERBS if name.startswith(f"{words[0]} ")] if words else []
        if inner and words[1:2] in HELP:
            print(_overview(inner))
            return 0
        verb = _verb(words, bool(inner))
        rest = words[len(verb.split()) :]
        if any([word] in HELP for word in rest):
            print(help_of(verb), end="")
            return 0
        return RUNS[verb](parse(verb, rest))
    except InputError as error:
        print(f"synthfair: {in_flags(str(error), verb)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"synthfair: {error.filename or 'the system'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "synthfair: interrupted; `generate`, `merge`, `push`, `benchmark`, `label` continue by the same command, "
            "`train` and what else trains by --resume_from_checkpoint latest.",
            file=sys.stderr,
        )
        return 130


HELP = (["--help"], ["-h"])


def _overview(names: Iterable[str]) -> str:
    """What the verbs of these names do, a line each."""
    lines = [f"  {name:18} {VERBS[name].__doc__}" for name in names]
    return "\n".join(
        [
            "usage: synthfair VERB [--flag value ...]",
            "",
            "SynthFair: counterfactual radiographs, biased views, and what to do about them.",
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
    name = " ".join(words[: 1 + has_inner])
    if name in RENAMED_VERBS:
        raise InputError(f"verb: {name!r} is called {RENAMED_VERBS[name]!r} now.")
    if name not in VERBS:
        raise unknown("verb", name, VERBS)
    return name


def _given(asked: verbs.VerbSettings) -> dict[str, Any]:
    """The settings by name, without those that are None: the function's own defaults stand for them."""
    return {name: value for name, value in asked if value is not None}


def _saved(output_dir: Path, record: "Record") -> int:
    print(f"saved {output_dir} after {record.counts['steps']} steps; record in {output_dir}/record.json")
    return 0


def _train(asked: verbs.Train) -> int:
    from .diffusion.fitting import train_generator
    from .domains.presets import get_preset

    record = train_generator(**{**dict(asked), "preset": get_preset(asked.preset)})
    return _saved(asked.config.output_dir, record)


def _finetune(asked: verbs.Finetune) -> int:
    from .diffusion.fitting import finetune_generator
    from .measure.predictors import SavedPredictor

    settings = {**dict(asked), "predictor": SavedPredictor(asked.predictor)}
    return _saved(asked.config.output_dir, finetune_generator(**settings))


def _rectify(asked: verbs.Rectify) -> int:
    from .diffusion.fitting import rectify_generator

    return _saved(asked.config.output_dir, rectify_generator(**dict(asked)))


def _super_resolve(asked: verbs.SuperResolve) -> int:
    from .diffusion.fitting import super_resolve_generator

    return _saved(asked.config.output_dir, super_resolve_generator(**dict(asked)))


def _predictor(asked: verbs.Predictor) -> int:
    from .domains.presets import get_preset
    from .domains.registry import open_source
    from .measure.predictors import train_predictor

    domain = get_preset(asked.preset)
    source = open_source(asked.source_dir, domain, domain.resolution)
    return _saved(asked.config.output_dir, train_predictor(source, asked.config, domain.resolution))


def _autoencoder(asked: verbs.Autoencoder) -> int:
    from .domains.presets import get_preset
    from .domains.registry import open_source
    from .measure.autoencoder import train_autoencoder

    domain = get_preset(asked.preset)
    source = open_source(asked.source_dir, domain, domain.resolution)
    return _saved(asked.config.output_dir, train_autoencoder(source, asked.config, domain.resolution))


def _calibrate(asked: verbs.Calibrate) -> int:
    from .measure.calibration import calibrate

    for name, one in calibrate(**dict(asked)).measured["chosen"].items():
        print(f"{name}: scale {one['scale']:g}, level {one['level']:g}, error {one['error']:g}")
    print(f"saved as defaults of {asked.pretrained_model_name_or_path}")
    return 0


def _soundness(asked: verbs.MeasureSoundness) -> int:
    from .measure.scoreboard import measure_soundness

    measure_soundness(**_given(asked))
    print(f"wrote {asked.output_dir}/soundness-{asked.world}.json and {asked.output_dir}/README.md")
    return 0


def _realism(asked: verbs.MeasureRealism) -> int:
    from .measure.scoreboard import measure_realism

    measure_realism(**_given(asked))
    print(f"wrote {asked.output_dir}/realism-{asked.world}.json and {asked.output_dir}/README.md")
    return 0


def _candidates(asked: verbs.Candidates) -> int:
    from .align.candidates import make_candidates

    record = make_candidates(**dict(asked))
    print(f"wrote {asked.output_dir}: {record.counts['pairs']} pairs; next: synthfair label or synthfair judge")
    return 0


def _judge(asked: verbs.Judge) -> int:
    from .align.judgement import judge_candidates

    record, place = judge_candidates(**dict(asked)), asked.output_dir
    print(f"wrote {place}: {record.counts['pairs']} pairs; next: synthfair align --train_data_dir {place}")
    return 0


def _label(asked: verbs.Label) -> int:
    from .align.judgement import export_answers, open_candidates
    from .align.labelling.answers import Answers
    from .align.labelling.page import serve
    from .align.labelling.session import Labelling

    if asked.output_dir is not None:
        said = export_answers(asked.candidates_dir, asked.answers_file, asked.output_dir, asked.preset)
        print(json.dumps({name: said[name] for name in ("annotators", "agreement")}, indent=2))
        print(f"wrote {asked.output_dir} of {said['pairs']} preferences")
        return 0

    def ready(addresses: dict[str, str]) -> None:
        for name, address in addresses.items():
            print(f"{name}: {address}", flush=True)
        print(f"answers: {asked.answers_file} (Ctrl-C ends; the same command goes on)", flush=True)

    candidates, _ = open_candidates(asked.candidates_dir, asked.preset)
    serve(Labelling(candidates, Answers(asked.answers_file), asked.annotators, asked.seed), asked.port, ready)
    return 0


def _align(asked: verbs.Align) -> int:
    from .align.finetuning import align_generator

    return _saved(asked.config.output_dir, align_generator(**dict(asked)))


def _fuse(asked: verbs.Fuse) -> int:
    from .align.finetuning import fuse_generator

    fuse_generator(**dict(asked))
    place = asked.output_dir
    print(f"wrote {place}; next: synthfair measure soundness --pretrained_model_name_or_path {place}")
    return 0


def _generate(asked: verbs.Generate) -> int:
    from .generate.dataset import generate_dataset, spread_dataset
    from .generate.engines import place_from_environment

    settings = _given(asked)
    if asked.predictor is not None:
        from .measure.predictors import SavedPredictor

        settings["predictor"] = SavedPredictor(asked.predictor)
    if asked.engine is not None:
        summary, said = spread_dataset(**{"tasks": None, **settings})
        print(json.dumps(summary, indent=2))
        print(said)
        return 0
    for name in ("tasks", "workers", "options", "logging_dir"):
        if name in settings:
            raise InputError(f"{name}: is for an engine; give --engine too, or leave it out.")
    place = place_from_environment()
    summary = generate_dataset(rank=place.rank, world_size=place.world_size, **settings)
    if place.rank == 0:
        print(json.dumps(summary, indent=2))
    if summary["finished"]:
        print(f"wrote {asked.output_dir}; next: synthfair verify {asked.output_dir}")
    return 0


def _verify(asked: verbs.Verify) -> int:
    from .generate.verification import verify

    directory = asked.directory
    if asked.repair:
        from .generate.dataset import repair_dataset
        from .measure.predictors import SavedPredictor

        predictor = None if asked.predictor is None else SavedPredictor(asked.predictor)
        made = repair_dataset(directory, asked.pretrained_model_name_or_path, asked.source_dir, predictor)
        print(f"{directory}: made {len(made)} shards again" + "".join(f"\n  {name}" for name in made))
    problems = verify(directory)
    for problem in problems:
        print(problem)
    print(f"{directory}: {len(problems)} problems" if problems else f"{directory}: sound")
    return 1 if problems else 0


def _merge(asked: verbs.Merge) -> int:
    from .generate.dataset import merge_datasets

    record = merge_datasets(**dict(asked))
    print(f"{asked.output_dir}: {record.counts['rows']} rows in {record.counts['shards']} shards")
    return 0


def _push(asked: verbs.Push) -> int:
    from .diffusion.generator import push_generator
    from .generate.publish import publish

    if (asked.hub_dataset_id is None) == (asked.hub_model_id is None):
        raise InputError("hub_dataset_id, hub_model_id: give one of them, for a data set or for a generator.")
    settings = _given(asked)
    if asked.hub_dataset_id is None:
        release = push_generator(**settings)
    else:
        for name in ("scoreboard", "license", "datasets"):
            if name in settings:
                raise InputError(f"{name}: is for a generator; give --hub_model_id, or leave it out.")
        release = publish(**settings)
    print(
        f"{release.url} at {release.tag} ({release.commit[:7]}): {release.uploaded} files sent, "
        f"{release.already_there} there already"
    )
    return 0


def _counterfactual(asked: verbs.Counterfactual) -> int:
    from .diffusion.counterfactual import counterfactual

    print(json.dumps(counterfactual(**_given(asked))))
    print(f"wrote {asked.output_dir}/observation.png, counterfactual.png, difference.png, counterfactual.json")
    return 0


def _benchmark(asked: verbs.Benchmark) -> int:
    from .fairness.benchmark.board import benchmark

    record = benchmark(**dict(asked))
    print(f"wrote {asked.output_dir}/README.md and table.csv of {len(record.counts['cells'])} cells")
    return 0


def _views(asked: verbs.Views) -> int:
    from .domains.presets import get_preset
    from .views.view import curated_views, get_view

    if asked.data_dir is not None:
        from .publish.view_page import write_statistics

        print(f"wrote {write_statistics(asked.data_dir, asked.view or 'full', asked.output_dir)}")
        return 0
    domain = get_preset(asked.preset)
    if asked.view is None:
        for one in curated_views(domain):
            print(f"{one.name:36} {one.sentence}")
        return 0
    one = get_view(asked.view, domain)
    print(f"{one.name}\n{one.sentence}\nfilters: {json.dumps(one.filters_for_parquet())}")
    if one.label is not None:
        print(f"{one.label.column}: {one.label.variable}, but {json.dumps(one.label.changes)}")
    print(f"twin: {one.twin}\nrecipe: {one.fingerprint}")
    return 0


def _report(asked: verbs.Report) -> int:
    from .publish.report import write_report

    print(f"wrote {write_report(asked.directory)}")
    return 0


def _demo(asked: verbs.Demo) -> int:
    from .generate.demo import demo

    found = demo(asked.output_dir, asked.seed)
    print(f"{asked.output_dir}: sound")
    for name, view in found["views"].items():
        print(f"  load_dataset('synthfair', {name!r}): " + ", ".join(f"{key} {value}" for key, value in view.items()))
    print(f"  report: {found['report']}")
    print(
        "try, in this directory:  from datasets import load_dataset; load_dataset('synthfair', 'sex_imbalanced_90_10')"
    )
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
    "candidates": _candidates,
    "judge": _judge,
    "label": _label,
    "align": _align,
    "fuse": _fuse,
    "generate": _generate,
    "verify": _verify,
    "merge": _merge,
    "push": _push,
    "counterfactual": _counterfactual,
    "benchmark": _benchmark,
    "views": _views,
    "report": _report,
    "demo": _demo,
}
"""What runs each verb."""

if __name__ == "__main__":
    sys.exit(main())
