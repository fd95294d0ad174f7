"""synthfair <verb>: every verb is one public function; here is how it is called, in `flags` what it is asked by.

Bad input is one sentence and exit status 2; `verify` exits with 1 when it finds problems.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from .errors import InputError
from .flags import parse
from .words import assignments, number, numbers, pair, shares

if TYPE_CHECKING:
    from .records import Access, Record
    from .training.loop import TrainingConfig

__all__ = ["main"]


Config = TypeVar("Config", bound="TrainingConfig")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    try:
        run, settings = parse(sys.argv[1:] if arguments is None else arguments, RUNS)
        return run(**settings)
    except InputError as error:
        print(f"synthfair: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"synthfair: {error.filename or 'the system'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "synthfair: interrupted; `generate`, `merge`, `push`, `benchmark`, `label` continue by the same command, "
            "`train` and what else trains by --resume_from_checkpoint.",
            file=sys.stderr,
        )
        return 130


def _train(
    preset: str,
    source: str | None,
    covariate_table: str | None,
    pretrained_model_name_or_path: str | None,
    resolution: int | None,
    default_steps: int | None,
    default_guidance_scale: float,
    access: "Access",
    **settings: Any,
) -> int:
    from .diffusion.fitting import train_generator
    from .domains.presets import get_preset
    from .training.loop import TrainingConfig

    domain, config = get_preset(preset), _training_config(TrainingConfig, settings)
    record = train_generator(
        domain,
        source,
        config,
        resolution,
        covariate_table,
        default_steps,
        default_guidance_scale,
        pretrained_model_name_or_path,
        access,
    )
    return _saved(config.output_dir, record)


def _saved(output_dir: Path, record: "Record") -> int:
    print(f"saved {output_dir} after {record.counts['steps']} steps; record in {output_dir}/record.json")
    return 0


def _training_config(kind: type[Config], settings: dict[str, Any]) -> Config:
    """Checked settings, or one sentence about the first that is refused."""
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"--{name}: {first['input']!r} is refused ({first['msg']}); mend it.") from None


def _predictor(preset: str, source: str | None, **settings: Any) -> int:
    from .diffusion.fitting import open_source
    from .domains.presets import get_preset
    from .measure.predictors import PredictorTrainingConfig, train_predictor

    domain, config = get_preset(preset), _training_config(PredictorTrainingConfig, settings)
    record = train_predictor(open_source(source, domain, domain.resolution), config, domain.resolution)
    return _saved(config.output_dir, record)


def _finetune(pretrained_model_name_or_path: str, predictor: str, source: str | None, **settings: Any) -> int:
    from .diffusion.fitting import finetune_generator
    from .training.loop import FinetuningConfig

    chosen = {name: settings.pop(name) for name in ("weight", "leak", "access")}
    config = _training_config(FinetuningConfig, settings)
    return _saved(
        config.output_dir, finetune_generator(pretrained_model_name_or_path, predictor, source, config, **chosen)
    )


def _straighten(pretrained_model_name_or_path: str, source: str | None, **settings: Any) -> int:
    from .diffusion.fitting import straighten_generator
    from .training.loop import FinetuningConfig

    chosen = {name: settings.pop(name) for name in ("images", "num_inference_steps", "access")}
    config = _training_config(FinetuningConfig, settings)
    return _saved(config.output_dir, straighten_generator(pretrained_model_name_or_path, source, config, **chosen))


def _enlarge(pretrained_model_name_or_path: str, source: str | None, **settings: Any) -> int:
    from .diffusion.fitting import enlarge_generator
    from .measure.autoencoder import AutoencoderTrainingConfig

    chosen = {name: settings.pop(name) for name in ("resolution", "access")}
    config = _training_config(AutoencoderTrainingConfig, settings)
    return _saved(config.output_dir, enlarge_generator(pretrained_model_name_or_path, source, config, **chosen))


def _candidates(output_dir: str, source: str | None, balance: str | None, **settings: Any) -> int:
    from .align.candidates import make_candidates

    names = balance.split(",") if balance else ()
    record = make_candidates(output_dir, source_dir=source, balance=names, **settings)
    print(f"wrote {output_dir}: {record.counts['pairs']} pairs; next: synthfair label or synthfair judge")
    return 0


def _judge(candidates: str, output_dir: str, judges: list[str], source: str | None, **settings: Any) -> int:
    from .align.judgement import judge_candidates

    weights = {name: number("--judges", word) for name, word in assignments("--judges", judges).items()}
    record = judge_candidates(candidates, output_dir, weights=weights, source_dir=source, **settings)
    print(f"wrote {output_dir}: {record.counts['pairs']} pairs; next: synthfair align --train_data_dir {output_dir}")
    return 0


def _align(train_data_dir: list[str], pretrained_model_name_or_path: str, **settings: Any) -> int:
    from .align.config import AlignmentConfig
    from .align.finetuning import align_generator

    config = _training_config(AlignmentConfig, settings)
    return _saved(config.output_dir, align_generator(train_data_dir, pretrained_model_name_or_path, config))


def _fuse(pretrained_model_name_or_path: str, lora_weights: str, output_dir: str, lora_scale: float) -> int:
    from .align.finetuning import fuse_generator

    fuse_generator(pretrained_model_name_or_path, lora_weights, output_dir, lora_scale)
    print(f"wrote {output_dir}; next: synthfair measure soundness --pretrained_model_name_or_path {output_dir}")
    return 0


def _label(
    candidates: str,
    output_file: str,
    annotators: Sequence[str],
    preset: str | None,
    seed: int,
    port: int | None,
    export: str | None,
) -> int:
    from .align.judgement import export_answers, open_candidates
    from .align.labelling.answers import Answers
    from .align.labelling.page import serve
    from .align.labelling.session import Labelling

    if export is None:
        pairs, _ = open_candidates(candidates, preset)
        serve(Labelling(pairs, Answers(output_file), annotators, seed), port)
        return 0
    said = export_answers(candidates, output_file, export, preset)
    print(json.dumps({name: said[name] for name in ("annotators", "agreement")}, indent=2))
    print(f"wrote {export} of {said['pairs']} preferences")
    return 0


def _autoencoder(preset: str, source: str | None, **settings: Any) -> int:
    from .diffusion.fitting import open_source
    from .domains.presets import get_preset
    from .measure.autoencoder import AutoencoderTrainingConfig, train_autoencoder

    domain, config = get_preset(preset), _training_config(AutoencoderTrainingConfig, settings)
    record = train_autoencoder(open_source(source, domain, domain.resolution), config, domain.resolution)
    return _saved(config.output_dir, record)


def _calibrate(**settings: Any) -> int:
    from .measure.calibration import calibrate

    record = calibrate(**settings)
    for name, one in record.measured["chosen"].items():
        print(f"{name}: scale {one['scale']:g}, level {one['level']:g}, error {one['error']:g}")
    print(f"saved as defaults of {settings['pretrained_model_name_or_path']}")
    return 0


def _soundness(
    pretrained_model_name_or_path: str | None,
    output_dir: str,
    world: str,
    pairs: list[str] | None,
    contrasts: list[str],
    **settings: Any,
) -> int:
    from .diffusion.saved import DEFAULT_GENERATOR
    from .measure.scoreboard import measure_soundness

    generator = pretrained_model_name_or_path or DEFAULT_GENERATOR
    asked = None if pairs is None else [pair(word) for word in pairs]
    settings["contrasts"] = {name: text.split(",") for name, text in assignments("--contrasts", contrasts).items()}
    measure_soundness(output_dir, world, pretrained_model_name_or_path=generator, pairs=asked, **settings)
    return _measured("soundness", output_dir, world)


def _realism(pretrained_model_name_or_path: str | None, output_dir: str, world: str, **settings: Any) -> int:
    from .diffusion.saved import DEFAULT_GENERATOR
    from .measure.scoreboard import measure_realism

    generator = pretrained_model_name_or_path or DEFAULT_GENERATOR
    measure_realism(output_dir, world, pretrained_model_name_or_path=generator, **settings)
    return _measured("realism", output_dir, world)


def _measured(what: str, output_dir: str, world: str) -> int:
    print(f"wrote {output_dir}/{what}-{world}.json and {output_dir}/README.md")
    return 0


def _generate(
    source: str | None,
    factors: list[str] | None,
    levels: list[str] | None,
    target: list[str] | None,
    gate_tolerance: list[str] | None,
    pretrained_model_name_or_path: str | None,
    engine: str | None,
    tasks: int | None,
    workers: int | None,
    engine_options: list[str] | None,
    logging_dir: str | None,
    **settings: Any,
) -> int:
    from .generate.dataset import generate_dataset, spread_dataset
    from .generate.engines import place_from_environment

    if factors:
        settings["factors"] = tuple(factors)
    if levels:
        settings["levels"] = {name: text.split(",") for name, text in assignments("--levels", levels).items()}
    if target:
        settings["target"] = {name: shares(text) for name, text in assignments("--target", target).items()}
    if gate_tolerance:
        named = assignments("--gate_tolerance", gate_tolerance)
        settings["gate_tolerance"] = {name: number("--gate_tolerance", text) for name, text in named.items()}
    settings |= {"source_dir": source, "pretrained_model_name_or_path": pretrained_model_name_or_path}
    directory = settings["output_dir"]
    if engine is not None:
        options = None if engine_options is None else assignments("--engine_options", engine_options)
        summary, said = spread_dataset(engine, tasks, workers, options, logging_dir, **settings)
        print(json.dumps(summary, indent=2))
        print(said)
        return 0
    of_engines = {"tasks": tasks, "workers": workers, "engine_options": engine_options, "logging_dir": logging_dir}
    for name, value in of_engines.items():
        if value is not None:
            raise InputError(f"--{name}: is for an engine; give --engine too, or leave it out.")
    place = place_from_environment()
    summary = generate_dataset(rank=place.rank, world_size=place.world_size, **settings)
    if place.rank == 0:
        print(json.dumps(summary, indent=2))
    if summary["finished"]:
        print(f"wrote {directory}; next: synthfair verify {directory}")
    return 0


def _verify(
    directory: str, repair: bool, pretrained_model_name_or_path: str | None, source: str | None, predictor: str | None
) -> int:
    from .generate.verification import verify

    if repair:
        from .generate.dataset import repair_dataset

        made = repair_dataset(directory, pretrained_model_name_or_path, source, predictor)
        print(f"{directory}: made {len(made)} shards again" + "".join(f"\n  {name}" for name in made))
    problems = verify(Path(directory))
    for problem in problems:
        print(problem)
    print(f"{directory}: {len(problems)} problems" if problems else f"{directory}: sound")
    return 1 if problems else 0


def _merge(parts: list[str], output_dir: str, license: str | None) -> int:
    from .generate.dataset import merge_datasets

    record = merge_datasets(parts, output_dir, license)
    print(f"{output_dir}: {record.counts['rows']} rows in {record.counts['shards']} shards")
    return 0


def _push(
    directory: str,
    hub_dataset_id: str | None,
    hub_model_id: str | None,
    scoreboard: str | None,
    license: str | None,
    datasets: list[str] | None,
    **settings: Any,
) -> int:
    from .diffusion.generator import push_generator
    from .generate.publish import publish

    if (hub_dataset_id is None) == (hub_model_id is None):
        raise InputError("--hub_dataset_id, --hub_model_id: give one of them, for a data set or for a generator.")
    of_generators: dict[str, Any] = {"scoreboard": scoreboard, "license": license, "datasets": datasets}
    given = {name: value for name, value in of_generators.items() if value is not None}
    if hub_dataset_id is not None:
        for name in given:
            raise InputError(f"--{name}: is for a generator; give --hub_model_id, or leave it out.")
        release = publish(directory, hub_dataset_id, **settings)
    else:
        release = push_generator(directory, str(hub_model_id), **given, **settings)
    print(
        f"{release.url} at {release.tag} ({release.commit[:7]}): {release.uploaded} files sent, "
        f"{release.already_there} there already"
    )
    return 0


def _benchmark(output_dir: str, method_file: list[str], **asked: Any) -> int:
    from .fairness.benchmark.board import benchmark

    record = benchmark(output_dir=output_dir, method_files=method_file, **asked)
    print(f"wrote {output_dir}/README.md and table.csv of {len(record.counts['cells'])} cells")
    return 0


def _views(preset: str, view: str | None, data_dir: str | None, output_dir: str) -> int:
    from .domains.presets import get_preset
    from .views.view import curated_views, get_view

    if data_dir is not None:
        from .publish.view_page import write_statistics

        print(f"wrote {write_statistics(data_dir, view or 'full', output_dir)}")
        return 0
    domain = get_preset(preset)
    if view is None:
        for one in curated_views(domain):
            print(f"{one.name:36} {one.sentence}")
    else:
        one = get_view(view, domain)
        print(f"{one.name}\n{one.sentence}\nfilters: {json.dumps(one.filters_for_parquet())}")
        if one.label is not None:
            print(f"{one.label.column}: {one.label.variable}, but {json.dumps(one.label.changes)}")
        print(f"twin: {one.twin}\nrecipe: {one.fingerprint}")
    return 0


def _report(directory: str) -> int:
    from .publish.report import write_report

    print(f"wrote {write_report(Path(directory))}")
    return 0


def _demo(output_dir: str, seed: int) -> int:
    from .generate.dataset import demo

    found = demo(output_dir, seed)
    print(f"{output_dir}: sound")
    for name, view in found["views"].items():
        print(f"  load_dataset('synthfair', {name!r}): " + ", ".join(f"{key} {value}" for key, value in view.items()))
    print(f"  report: {found['report']}")
    print(
        "try, in this directory:  from datasets import load_dataset; load_dataset('synthfair', 'sex_imbalanced_90_10')"
    )
    return 0


def _counterfactual(
    covariates: list[str],
    do: list[str],
    pretrained_model_name_or_path: str | None,
    guidance_scale: list[str] | None,
    intervention_level: list[str] | None,
    **settings: Any,
) -> int:
    from .diffusion.saved import DEFAULT_GENERATOR
    from .generate.dataset import counterfactual

    answer = counterfactual(
        covariates=assignments("--covariates", covariates),
        do=assignments("--do", do),
        pretrained_model_name_or_path=pretrained_model_name_or_path or DEFAULT_GENERATOR,
        guidance_scale=numbers("--guidance_scale", guidance_scale),
        intervention_level=numbers("--intervention_level", intervention_level),
        **settings,
    )
    print(json.dumps(answer))
    print(f"wrote {settings['output_dir']}/observation.png, counterfactual.png, difference.png, counterfactual.json")
    return 0


RUNS: dict[str, Callable[..., int]] = {
    "train": _train,
    "finetune": _finetune,
    "straighten": _straighten,
    "enlarge": _enlarge,
    "candidates": _candidates,
    "judge": _judge,
    "align": _align,
    "fuse": _fuse,
    "label": _label,
    "predictor": _predictor,
    "autoencoder": _autoencoder,
    "calibrate": _calibrate,
    "measure soundness": _soundness,
    "measure realism": _realism,
    "generate": _generate,
    "verify": _verify,
    "merge": _merge,
    "push": _push,
    "benchmark": _benchmark,
    "views": _views,
    "report": _report,
    "demo": _demo,
    "counterfactual": _counterfactual,
}
"""What runs each verb."""

if __name__ == "__main__":
    sys.exit(main())
