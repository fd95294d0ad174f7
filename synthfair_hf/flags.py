"""The grammar of the command line: verbs, their flags, and settings from a file.

Flags are snake_case (kebab-case is accepted). `--config_file FILE.yaml` holds the same names; a flag given on the
command line wins.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from .errors import InputError
from .records import Access

__all__ = ["parse"]

MAX_BYTES = 2**20
"""No file of settings is larger."""

Runs = Mapping[str, Callable[..., int]]
"""What runs each verb, by its name; two words for a verb inside a verb."""


def parse(arguments: Sequence[str], runs: Runs) -> tuple[Callable[..., int], dict[str, Any]]:
    """The verb asked for, and its settings. Raises InputError for what can't be read."""
    given = _with_config_file([_snake(argument) for argument in arguments])
    settings = vars(_parser().parse_args(given))
    settings.pop("config_file", None)
    return runs[settings.pop("verb")], settings


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
    flags: list[str] = []
    for name, value in _read_settings(path).items():
        flag = _snake(f"--{name}")
        if value is None:
            continue
        if isinstance(value, bool):
            flags += [flag] if value else []
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, list | dict) for one in values):
            raise InputError(f"--config_file: {name} of {path} holds more than a list of values; give one, or a list.")
        flags += [flag, *map(str, values)]
    verb = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:verb], *flags, *words[verb:]]


def _read_settings(path: Path) -> dict[Any, Any]:
    """What a file says, by name; nothing in it is run, interpolated or repeated."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise yaml.YAMLError(f"it has more than {MAX_BYTES} bytes")
        settings = yaml.load(data, _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"--config_file: {path} is not readable YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"--config_file: {path} must map flag names to values.")
    return settings


class _Loader(yaml.SafeLoader):
    """No tag makes anything but plain values, and no alias lets a few lines stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it repeats a value by an alias; write the value out")
        return super().compose_node(parent, index)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, nothing else."""

    def error(self, message: str) -> Any:
        raise InputError(f"{message}; see `{self.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    from .align.config import AlignmentConfig
    from .measure.autoencoder import AutoencoderTrainingConfig
    from .measure.predictors import PredictorTrainingConfig
    from .training.loop import FinetuningConfig, TrainingConfig

    parser = _Parser(
        prog="synthfair",
        description="SynthFair: counterfactual radiographs, biased views, and what to do about them.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="verb", required=True, parser_class=_Parser)

    def verb(name: str, text: str) -> Callable[..., Any]:
        group, word = (inner[name.split()[0]], name.split()[1]) if " " in name else (verbs, name)
        one = group.add_parser(word, help=text, description=text, allow_abbrev=False)
        one.set_defaults(verb=name)
        one.add_argument("--config_file", metavar="YAML", help="settings under the same names as the flags")
        return one.add_argument

    flag = verb("train", "Train a generator on a folder of radiographs and save it as a pipeline.")
    flag("--preset", default="chest_xray", help="domain: chest_xray, morphomnist, phantom (chest_xray)")
    flag("--source", metavar="DIR", help="folder with metadata.csv and images, or of the digits; phantom needs none")
    flag("--covariate_table", metavar="CSV.GZ", help="ChestX-ray14 label file to fit the causal model on")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline to start from; untrained by default")
    flag("--resolution", type=int, metavar="PX", help="height and width; the preset's by default")
    flag("--default_steps", type=int, help="solver steps saved with the checkpoint (10, or those of the start)")
    flag("--default_guidance_scale", type=float, default=1.0, help="guidance saved with the checkpoint (1)")
    _access_flag(flag)
    _training_flags(flag, TrainingConfig)

    text = "Train a saved generator on, with a predictor that judges its counterfactuals."
    flag = verb("finetune", text)
    flag("--pretrained_model_name_or_path", required=True, metavar="P", help="saved pipeline to start from")
    flag("--predictor", required=True, metavar="DIR", help="the judge; measure the result by another one")
    flag("--source", metavar="DIR", help="folder the generator was trained on; phantom needs none")
    flag("--weight", type=float, default=0.1, help="of the predictor's disagreement against flow matching (0.1)")
    flag("--leak", type=float, default=1.0, help="of disagreement on what was not changed (1)")
    _access_flag(flag, None)
    _training_flags(flag, FinetuningConfig)

    flag = verb("straighten", "Train a saved generator on its own pairs, so that fewer solver steps lose less.")
    flag("--pretrained_model_name_or_path", required=True, metavar="P", help="saved pipeline to start from")
    flag("--source", metavar="DIR", help="folder the generator was trained on; phantom needs none")
    flag("--images", type=int, default=2048, metavar="N", help="training images, each of three pairs (2048)")
    flag("--num_inference_steps", type=int, default=10, metavar="N", help="midpoint steps that make a pair (10)")
    _access_flag(flag, None)
    _training_flags(flag, FinetuningConfig)

    flag = verb("enlarge", "Give a saved generator more pixels by an autoencoder whose latents are its images.")
    flag("--pretrained_model_name_or_path", required=True, metavar="P", help="saved pipeline to enlarge")
    flag("--source", metavar="DIR", help="folder the generator was trained on; phantom needs none")
    flag("--resolution", type=int, required=True, metavar="PX", help="twice or four times the pipeline's own")
    _access_flag(flag, None)
    _training_flags(flag, AutoencoderTrainingConfig)

    flag = verb("candidates", "Write pairs of answers of a saved generator, for people or judges to prefer one of.")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    flag("--num_pairs", type=int, required=True, metavar="N")
    flag("--questions", default="samples", help="samples, guided_samples, or counterfactuals of a --source (samples)")
    flag("--source", metavar="DIR", help="folder with metadata.csv and images to observe; phantom needs none")
    flag("--balance", metavar="A,B", help="covariates whose combinations of levels are sampled equally often")
    flag("--access", default="unknown", help="who may see the --source: open, unknown or credentialed (unknown)")
    flag("--seed", type=int, default=0)
    flag("--batch_size", type=int, default=16, metavar="N")
    flag("--output_dir", required=True, metavar="DIR")

    flag = verb("judge", "Prefer one of each pair of candidates by weighted judges, and write the preferences.")
    flag("--candidates", required=True, metavar="DIR", help="what `synthfair candidates` wrote")
    flag("--predictor", metavar="DIR", help="what `synthfair predictor` saved: the judges' eyes; none for true_pixels")
    flag(
        "--judges",
        nargs="+",
        required=True,
        metavar="NAME=WEIGHT",
        help="attribute_fidelity=1, realism=1, counterfactual_soundness=1, true_pixels=1 (of the phantom)",
    )
    flag("--source", metavar="DIR", help="real films that realism compares with; the phantom draws its own")
    flag("--tie", type=float, default=0.0, metavar="X", help="score difference up to which neither is preferred (0)")
    flag("--output_dir", required=True, metavar="DIR")

    flag = verb("align", "Train adapters of a saved generator on pairs of images of which one was preferred.")
    flag("--pretrained_model_name_or_path", required=True, metavar="P", help="saved pipeline to adapt")
    flag("--train_data_dir", nargs="+", required=True, metavar="DIR", help="preferences, of one judge or of several")
    _training_flags(flag, AlignmentConfig)

    flag = verb("fuse", "Merge what `align` trained into a copy of the generator, an ordinary saved pipeline again.")
    flag("--pretrained_model_name_or_path", required=True, metavar="P", help="saved pipeline that was adapted")
    flag("--lora_weights", required=True, metavar="DIR", help="what `synthfair align` wrote")
    flag("--lora_scale", type=float, default=1.0, metavar="X", help="how strongly the adapters act (1)")
    flag("--output_dir", required=True, metavar="DIR")

    flag = verb("label", "Show people two images at a time, and keep which one each of them says is better.")
    flag("--candidates", required=True, metavar="DIR", help="images, and candidates.jsonl that pairs them")
    flag("--output_file", required=True, metavar="FILE", help="answers, one a line; the same command goes on in it")
    flag(
        "--annotator",
        nargs="+",
        default=(),
        dest="annotators",
        metavar="NAME",
        help="who will answer, on one page each",
    )
    flag("--preset", help="domain of candidates that no `synthfair candidates` wrote (chest_xray)")
    flag("--seed", type=int, default=0, help="of the order of pairs and of sides (0)")
    flag("--port", type=int, metavar="N", help="of the page on this machine; a free one by default")
    flag("--export", metavar="DIR", help="show no page: write the answers so far as preferences, for `align`")

    flag = verb("predictor", "Train a predictor of the covariates, by which `measure` reads images.")
    flag("--preset", default="chest_xray", help="domain: chest_xray, morphomnist, phantom (chest_xray)")
    flag("--source", metavar="DIR", help="folder with metadata.csv and images, or of the digits; phantom needs none")
    _training_flags(flag, PredictorTrainingConfig)

    flag = verb("autoencoder", "Train an autoencoder, by whose encoder `measure` tells how minimal a change is.")
    flag("--preset", default="chest_xray", help="domain: chest_xray, morphomnist, phantom (chest_xray)")
    flag("--source", metavar="DIR", help="folder with metadata.csv and images, or of the digits; phantom needs none")
    _training_flags(flag, AutoencoderTrainingConfig)

    flag = verb("calibrate", "Choose the strength of each covariate's change and save it in a generator.")
    flag("--pretrained_model_name_or_path", required=True, metavar="DIR", help="saved pipeline to write into")
    _world_flags(flag)
    flag("--predictor", nargs="+", default=(), dest="predictors", metavar="DIR", help="trained predictors")

    text = "Measure a generator in a world whose truth is known, or on real films."
    measure = verbs.add_parser("measure", help=text, description=text)
    inner = {"measure": measure.add_subparsers(metavar="what", required=True, parser_class=_Parser)}
    flag = verb("measure soundness", "Axioms, true pixels, effectiveness and leak of counterfactuals.")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    _world_flags(flag)
    flag("--split", default="test", help="images to score (test)")
    flag("--predictor", nargs="+", default=(), dest="predictors", metavar="DIR", help="trained predictors")
    flag("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="N", help="of the values of do() (0 1 2)")
    flag("--interventions", nargs="+", default=("from_marginal",), help="from_marginal, forced_change (from_marginal)")
    flag("--effect", default="total", help="total: what do() causes follows; direct: it is held (total)")
    flag("--num_inference_steps", type=int, metavar="N", help="solver steps; the checkpoint's by default")
    flag(
        "--pairs", nargs="*", metavar="A,B", help="do()s whose order is exchanged; all pairs by default, none if empty"
    )
    flag("--encoder", metavar="DIR", help="trained autoencoder by which minimality is measured")
    flag(
        "--contrasts",
        nargs="+",
        default=(),
        metavar="NAME=A,B",
        help="values whose direct, indirect and total effect is measured",
    )
    flag("--output_dir", required=True, metavar="DIR", help="where records and their page go")

    flag = verb("measure realism", "Distances of samples to held-out images, and to the training images.")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    _world_flags(flag)
    flag("--split", default="test", help="images to compare with (test)")
    flag("--predictor", required=True, metavar="DIR", help="trained predictor whose features are compared")
    flag("--group", metavar="NAME", help="covariate by whose levels figures are given as well")
    flag("--output_dir", required=True, metavar="DIR", help="where records and their page go")

    flag = verb("generate", "Write a data set of balanced counterfactual families.")
    flag("--output_dir", default="synthfair", metavar="DIR", help="where the data set goes (synthfair)")
    flag("--num_subjects", type=int, required=True, metavar="N", help="families to generate")
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    flag("--world", metavar="W", help="phantom: that world itself, exact, instead of a saved pipeline")
    flag("--resolution", type=int, metavar="PIXELS", help="of --world's images; its preset's by default")
    flag("--source", metavar="DIR", help="observe subjects from this folder instead of drawing them")
    flag("--seed", type=int, default=0)
    flag("--factors", nargs="+", metavar="NAME", help="variables each family crosses; the preset's by default")
    flag("--levels", nargs="+", metavar="NAME=A,B", help="values of a factor to cross, in its unit: age=30,50,70")
    flag(
        "--target",
        nargs="+",
        metavar="NAME=A:SHARE,B:SHARE",
        help="shares of levels or groups, 0 to 1: sex=male:0.7,female:0.3; what is not named is balanced",
    )
    flag("--subjects_per_shard", type=int, default=100, metavar="N")
    flag("--batch_size", type=int, default=16, metavar="N")
    flag("--num_inference_steps", type=int, metavar="N", help="solver steps; the checkpoint's by default")
    flag("--guidance_scale", type=float, help="strength on changed covariates; the checkpoint's by default")
    flag("--mixed_precision", default="no", help="no, or bf16 for the network alone: quicker, do={} is exact no longer")
    flag("--channels_last", action="store_true", help="keep the channels of a pixel side by side in memory")
    flag("--compile", action="store_true", help="compile the network first, by a C++ compiler of this machine")
    flag("--predictor", metavar="DIR", help="reads every image: its readings are stored, families refused drawn again")
    flag("--gate_attempts", type=int, default=1, metavar="N", help="draws of a family that the predictor refuses (1)")
    flag(
        "--gate_tolerance", nargs="+", metavar="NAME=X", help="how far a number may be read from what was asked: age=5"
    )
    flag("--license", help="licence identifier for the card; cc-by-4.0 for drawn subjects, unknown for a --source")
    _access_flag(flag)
    flag("--dry_run", action="store_true", help="print the plan, its time, and what an engine would run; write nothing")
    flag("--engine", help="local, slurm or ray; jobs with --dry_run; without one: torchrun's ranks, or one process")
    flag("--tasks", type=int, metavar="N", help="ranks the engine runs")
    flag("--workers", type=int, metavar="N", help="of them at a time; all by default")
    flag("--engine_options", nargs="+", metavar="NAME=VALUE", help="the executor's own: time=02:00:00 partition=gpu")
    flag("--logging_dir", metavar="DIR", help="where the engine writes its logs; <output_dir>-logs by default")

    flag = verb("verify", "Check every shard of a data set against its plan and records.")
    flag("directory", metavar="DIR")
    flag("--repair", action="store_true", help="first generate damaged and missing shards again, to the same bytes")
    flag("--pretrained_model_name_or_path", metavar="P", help="what it was made by, for --repair; the shipped one")
    flag("--source", metavar="DIR", help="where its subjects were observed, for --repair")
    flag("--predictor", metavar="DIR", help="what read its images, for --repair")

    flag = verb("merge", "Put together what several machines made of one plan.")
    flag("parts", nargs="+", metavar="DIR")
    flag("--output_dir", required=True, metavar="DIR", help="where the whole data set goes")
    flag("--license", help="licence identifier for the card, as for generate")

    text = "Push a data set or a generator to the Hub as a tagged release; the same command continues after a break."
    flag = verb("push", text)
    flag("directory", metavar="DIR")
    flag("--hub_dataset_id", metavar="OWNER/NAME", help="data set repository on the Hub")
    flag("--hub_model_id", metavar="OWNER/NAME", help="model repository on the Hub, for a saved generator")
    flag("--private", action="store_true", help="only for approved readers, if it was made from restricted images")
    flag("--tag", metavar="NAME", help="of this release; the identity of its bytes by default")
    flag("--permission", metavar="TEXT", help="who permits what is restricted to be public, and where; it is published")
    flag(
        "--scoreboard", metavar="DIR", help="what `measure` wrote of the generator, for its card; not measured without"
    )
    flag("--license", help="licence identifier for the generator's card (unknown)")
    flag("--datasets", nargs="+", metavar="OWNER/NAME", help="data sets on the Hub that the generator was trained on")

    text = "Fit mitigation methods on biased views and their twins, and print a leaderboard; finished cells are kept."
    flag = verb("benchmark", text)
    flag("--data_dir", required=True, metavar="DIR", help="data set that `synthfair generate` wrote")
    flag("--views", nargs="+", required=True, metavar="NAME", help="biased views; their twins are added")
    flag(
        "--methods",
        nargs="+",
        default=(),
        metavar="NAME",
        help="of synthfair_hf.fairness.mitigation, with settings as balanced_synthetic:ratio=0.5; erm is added",
    )
    flag("--method_file", nargs="+", default=(), metavar="FILE.py", help="one Method each; files are run as code")
    flag("--seeds", type=int, default=5, metavar="N", help="how many (5)")
    flag("--train_subjects", type=int, metavar="N", help="subjects of train that are used; half of them by default")
    flag("--steps", type=int, metavar="N", help="of every fit; the methods' by default")
    flag("--external", metavar="DIR", help="folder of real images with metadata.csv, on which every cell is judged too")
    flag("--num_proc", type=int, default=1, metavar="N", help="processes that fit at a time (1)")
    flag("--output_dir", required=True, metavar="DIR", help="where cells, table and page go")

    flag = verb("views", "List biased views, say exactly what one keeps, or write a page of its statistics.")
    flag("--preset", default="chest_xray", help="domain (chest_xray)")
    flag("--view", metavar="NAME", help="one view, curated or not, such as sex_imbalanced_85_15")
    flag("--data_dir", metavar="DIR", help="data set with its own preset: write a page, NAME.html, on the view in it")
    flag("--output_dir", default=".", metavar="DIR", help="where that page goes (.)")

    flag = verb("report", "Write a page with pictures and tables about a data set.")
    flag("directory", metavar="DIR")

    flag = verb("demo", "Generate a small data set, verify it, load three views, write the report.")
    flag("--output_dir", default="synthfair", metavar="DIR")
    flag("--seed", type=int, default=0)

    flag = verb("counterfactual", "What would this radiograph have been, had ...?")
    flag("--image", required=True, metavar="FILE", help="a frontal chest radiograph")
    flag("--covariates", nargs="+", required=True, metavar="NAME=VALUE", help="what is known: age=61 sex=male ...")
    flag("--already_acquired", action="store_true", help="the film shows the named scanner: do not plant it")
    flag("--do", nargs="*", default=[], metavar="NAME=VALUE", help="interventions: sex=female finding=pneumonia")
    flag("--output_dir", default="counterfactual", metavar="DIR")
    flag("--seed", type=int, default=0)
    flag("--pretrained_model_name_or_path", metavar="P", help="saved pipeline; the shipped one by default")
    flag("--num_inference_steps", type=int, metavar="N")
    strength = "one number, or NAME=NUMBER ...; the checkpoint's by default"
    flag("--guidance_scale", nargs="+", metavar="S", help=f"strength on changed covariates: {strength}")
    flag("--intervention_level", nargs="+", metavar="S", help=f"noise level up to which a change acts: {strength}")
    return parser


def _access_flag(flag: Callable[..., Any], default: Access | None = "unknown") -> None:
    """None: as the start's record says of these films."""
    otherwise = default or "as recorded of these films, else unknown"
    text = f"who may see the --source: open, unknown or credentialed; only open is published openly ({otherwise})"
    flag("--access", choices=get_args(Access), default=default, help=text)


def _world_flags(flag: Callable[..., Any]) -> None:
    flag("--world", required=True, help="phantom, acquisition or morphomnist")
    flag("--source", dest="source_dir", metavar="DIR", help="the world's data; phantom needs none")
    flag("--limit", type=int, metavar="N", help="at most so many images")


def _training_flags(flag: Callable[..., Any], settings: type[BaseModel]) -> None:
    """One flag for each field, checked by the settings and not by argparse."""
    for name, field in settings.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"({field.default})"
        flag(f"--{name}", required=field.is_required(), default=argparse.SUPPRESS, metavar="VALUE", help=default)
