"""synthfair <verb>: every verb is one public function; here are only its flags.

Flags are snake_case (kebab-case is accepted). `--config_file FILE.yaml` holds the same names; a flag given on the
command line wins. Bad input is one sentence and exit status 2; `verify` exits with 1 when it finds problems.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .errors import InputError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    given = [_snake(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    parser = _parser()
    try:
        settings = vars(parser.parse_args(_with_config_file(given)))
        verb = settings.pop("run")
        settings.pop("config_file", None)
        return int(verb(**settings))
    except InputError as error:
        print(f"synthfair: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"synthfair: {error.filename or 'the system'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("synthfair: interrupted; the same command continues where this one stopped.", file=sys.stderr)
        return 130


def _snake(argument: str) -> str:
    """--num-subjects=3 is --num_subjects=3."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _with_config_file(given: list[str]) -> list[str]:
    """The command line with the settings of --config_file put before it, so that flags on it win."""
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--config_file=") else [word])]
    if "--config_file" not in words[:-1]:
        return words
    path = Path(words[words.index("--config_file") + 1])
    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--config_file: {path} is not readable YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"--config_file: {path} must map flag names to values.")
    flags: list[str] = []
    for name, value in settings.items():
        flag = _snake(f"--{name}")
        if isinstance(value, bool):
            flags += [flag] if value else []
        else:
            flags += [flag, *map(str, value if isinstance(value, list) else [value])]
    return [words[0], *flags, *words[1:]]


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, nothing else."""

    def error(self, message: str) -> Any:
        raise InputError(f"{message}; see `{self.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="synthfair", description=__doc__.splitlines()[0], allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="verb", required=True, parser_class=_Parser)

    def verb(name: str, run: Callable[..., int], text: str) -> Callable[..., Any]:
        one = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(run=run)
        one.add_argument("--config_file", metavar="YAML", help="settings under the same names as the flags")
        return one.add_argument

    flag = verb("train", _train, "Train a generator on a folder of radiographs and save it as a pipeline.")
    flag("--preset", default="chest_xray", help="domain (chest_xray)")
    flag("--source", required=True, metavar="DIR", help="folder with metadata.csv and images")
    flag("--covariate_table", metavar="CSV.GZ", help="ChestX-ray14 label file to fit the causal model on")
    flag("--resolution", type=int, metavar="PX", help="height and width; the preset's by default")
    flag("--default_steps", type=int, default=10, help="solver steps saved with the checkpoint (10)")
    flag("--default_guidance_scale", type=float, default=1.0, help="guidance saved with the checkpoint (1)")
    _training_flags(flag)

    flag = verb("generate", _generate, "Write a data set of balanced counterfactual families.")
    flag("--output_dir", default="synthfair", metavar="DIR", help="where the data set goes (synthfair)")
    flag("--num_subjects", type=int, required=True, metavar="N", help="families to generate")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    flag("--source", metavar="DIR", help="observe subjects from this folder instead of drawing them")
    flag("--seed", type=int, default=0)
    flag("--factors", nargs="+", metavar="NAME", help="variables each family crosses; the preset's by default")
    flag("--subjects_per_shard", type=int, default=100, metavar="N")
    flag("--batch_size", type=int, default=16, metavar="N")
    flag("--num_inference_steps", type=int, metavar="N", help="solver steps; the checkpoint's by default")
    flag("--guidance_scale", type=float, help="strength on changed covariates; the checkpoint's by default")
    flag("--license", help="licence identifier for the card; cc-by-4.0 for drawn subjects, unknown for a --source")
    flag("--dry_run", action="store_true", help="print the plan and write nothing")

    flag = verb("verify", _verify, "Check every shard of a data set against its plan and records.")
    flag("directory", metavar="DIR")

    flag = verb("views", _views, "List biased views, or say exactly what one keeps.")
    flag("--preset", default="chest_xray", help="domain (chest_xray)")
    flag("--view", metavar="NAME", help="one view, curated or not, such as sex_imbalanced_85_15")

    flag = verb("report", _report, "Write a page with pictures and tables about a data set.")
    flag("directory", metavar="DIR")

    flag = verb("demo", _demo, "Generate a small data set, verify it, load three views, write the report.")
    flag("--output_dir", default="synthfair", metavar="DIR")
    flag("--seed", type=int, default=0)

    flag = verb("counterfactual", _counterfactual, "What would this radiograph have been, had ...?")
    flag("--image", required=True, metavar="FILE", help="a frontal chest radiograph")
    flag("--covariates", nargs="+", required=True, metavar="NAME=VALUE", help="what is known: age=61 sex=male ...")
    flag("--already_acquired", action="store_true", help="the film shows the named scanner: do not plant it")
    flag("--do", nargs="*", default=[], metavar="NAME=VALUE", help="interventions: sex=female finding=pneumonia")
    flag("--output_dir", default="counterfactual", metavar="DIR")
    flag("--seed", type=int, default=0)
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    flag("--num_inference_steps", type=int, metavar="N")
    flag("--guidance_scale", type=float)
    return parser


def _training_flags(flag: Callable[..., Any]) -> None:
    """One flag for each field of TrainingConfig, checked by it and not by argparse."""
    from .training import TrainingConfig

    for name, field in TrainingConfig.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"({field.default})"
        flag(f"--{name}", required=field.is_required(), default=argparse.SUPPRESS, metavar="VALUE", help=default)


def _train(
    preset: str,
    source: str,
    covariate_table: str | None,
    resolution: int | None,
    default_steps: int,
    default_guidance_scale: float,
    **settings: Any,
) -> int:
    from .presets import get_preset
    from .training import TrainingConfig
    from .verbs import train_generator

    domain = get_preset(preset)
    try:
        config = TrainingConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"--{name}: {first['input']!r} is refused ({first['msg']}); mend it.") from None
    record = train_generator(domain, source, config, resolution, covariate_table, default_steps, default_guidance_scale)
    print(f"saved {config.output_dir} after {record.counts['steps']} steps; record in {config.output_dir}/record.json")
    return 0


def _generate(
    source: str | None, factors: list[str] | None, pretrained_model_name_or_path: str | None, **settings: Any
) -> int:
    from .verbs import DEFAULT_GENERATOR, generate_dataset

    if factors:
        settings["factors"] = tuple(factors)
    summary = generate_dataset(
        source_dir=source,
        pretrained_model_name_or_path=pretrained_model_name_or_path or DEFAULT_GENERATOR,
        **settings,
    )
    print(json.dumps(summary, indent=2))
    if not settings["dry_run"]:
        print(f"wrote {settings['output_dir']}; next: synthfair verify {settings['output_dir']}")
    return 0


def _verify(directory: str) -> int:
    from .generate.store import verify

    problems = verify(Path(directory))
    for problem in problems:
        print(problem)
    print(f"{directory}: {len(problems)} problems" if problems else f"{directory}: sound")
    return 1 if problems else 0


def _views(preset: str, view: str | None) -> int:
    from .presets import get_preset
    from .views import curated_views, get_view

    domain = get_preset(preset)
    if view is None:
        for one in curated_views(domain):
            print(f"{one.name:36} {one.sentence}")
    else:
        one = get_view(view, domain)
        print(f"{one.name}\n{one.sentence}\nfilters: {json.dumps(one.filters_for_parquet())}")
    return 0


def _report(directory: str) -> int:
    from .report import write_report

    print(f"wrote {write_report(Path(directory))}")
    return 0


def _demo(output_dir: str, seed: int) -> int:
    from .verbs import demo

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
    covariates: list[str], do: list[str], pretrained_model_name_or_path: str | None, **settings: Any
) -> int:
    from .verbs import DEFAULT_GENERATOR, counterfactual

    answer = counterfactual(
        covariates=_assignments("--covariates", covariates),
        do=_assignments("--do", do),
        pretrained_model_name_or_path=pretrained_model_name_or_path or DEFAULT_GENERATOR,
        **settings,
    )
    print(json.dumps(answer))
    print(f"wrote {settings['output_dir']}/observation.png, counterfactual.png, difference.png, counterfactual.json")
    return 0


def _assignments(argument: str, pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE words as a dict; numbers are numbers."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{argument}: {pair!r} is not NAME=VALUE; write it as sex=female.")
        if name in values:
            raise InputError(f"{argument}: {name} is given twice; give it once.")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = value
    return values
