"""Verbs that write a data set, and that check its bytes."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..errors import InputError, counted
from ..generate.plan import GenerationPlan
from ..records import Record
from ..views.preset import load_preset
from .folders import ObservedSource, RepairSource
from .output import next_command, print_counts
from .settings import Generator, KnownAccess, License, OutputDirectory, Preset, Seed, VerbSettings, like
from .words import LISTS, NAMES, NUMBERS, SHARES, VALUES, Positional

__all__ = ["Demo", "Generate", "Merge", "Recipes", "Verify"]

TextToImage = Annotated[
    str | None,
    Field(
        description="text-to-image pipeline of diffusers that makes the images from prompts: a directory, or its name "
        "on the Hub; families are then same-noise samples, not counterfactuals"
    ),
]
LoraWeights = Annotated[
    Path | None, Field(description="adapter weights in safetensors for --text_to_image: a file, or its folder")
]


class Recipes(VerbSettings):
    """Write recipes: contexts of images, by a grammar or a language model, that balance protected attributes."""

    verb = "recipes"
    example = "--preset chest_xray --num_recipes 100 --output_file recipes.jsonl"
    preset: Preset = "chest_xray"
    num_recipes: int = Field(description="different contexts to write")
    seed: Seed = 0
    language_model: Path | None = Field(
        None, description="directory of a causal language model that writes the phrases; a grammar by default"
    )
    variables: Annotated[tuple[str, ...] | None, NAMES] = Field(
        None,
        description="what a context tells of, such as posture, or view, a covariate; those of the contexts by default",
    )
    contexts: Path | None = Field(
        None, description="YAML file with lists of phrases by variable; the preset's own by default"
    )
    output_file: Path = Field(description="JSON lines that are written, with a record beside them that ends in .json")

    def run(self) -> None:
        from ..domains.registry import DRAWN
        from ..generate.recipes import describe_recipes, make_recipes, subjects_for

        preset, file = load_preset(self.preset), self.output_file
        record = make_recipes(**{**self.given(), "preset": preset})
        print("\n".join(describe_recipes(record)))
        who: tuple[str, ...] = ()
        if not set(record.settings["contexts"]) <= set(preset.covariates.names):
            # no covariate, and so for whoever reads prompts
            who = ("--text_to_image", "PIPELINE", "--preset", self.preset, "--source", "DIR")
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
        print(f"wrote {file}; {next_command('generate', *who, *words)}")


class Generate(VerbSettings):
    """Write a data set of balanced counterfactual families."""

    verb = "generate"
    continues = True
    example = "--world phantom --num_subjects 56 --output_dir synthfair"
    output_dir: OutputDirectory = Path("synthfair")
    num_subjects: int = like(GenerationPlan, "num_subjects")
    pretrained_model_name_or_path: Generator = None
    world: str | None = Field(
        None,
        description="phantom, dermatology_phantom, brain_mri_phantom: itself, exact, instead of a saved pipeline",
    )
    text_to_image: TextToImage = None
    preset: Annotated[
        str | None,
        Field(description="domain of --text_to_image, by name or YAML file, with the template of its prompts"),
    ] = None
    lora_weights: LoraWeights = None
    negative_prompt: str | None = Field(None, description="what images of --text_to_image shall not show")
    resolution: int | None = Field(
        None, description="of images of a world or --text_to_image in pixels; its preset's by default"
    )
    source_dir: ObservedSource = None
    recipes: Path | None = Field(
        None, description="contexts that `synthfair recipes` wrote, over which subjects spread"
    )
    seed: Annotated[int, Field(lt=2**63)] = like(GenerationPlan, "seed")
    factors: Annotated[tuple[str, ...] | None, Field(description=like(GenerationPlan, "factors").description)] = None
    levels: Annotated[dict[str, tuple[str, ...]], LISTS] = like(GenerationPlan, "levels")
    target: Annotated[dict[str, dict[str, float]], SHARES] = like(GenerationPlan, "target")
    subjects_per_shard: int = like(GenerationPlan, "subjects_per_shard")
    batch_size: int = like(GenerationPlan, "batch_size")
    num_inference_steps: int | None = like(GenerationPlan, "num_inference_steps")
    guidance_scale: float | None = like(GenerationPlan, "guidance_scale")
    mixed_precision: Literal["no", "bf16"] = like(GenerationPlan, "mixed_precision")
    channels_last: bool = like(GenerationPlan, "channels_last")
    compile: bool = like(GenerationPlan, "compile")
    predictor: Path | None = Field(
        None,
        description="attribute predictor of the quality gate; families that fail are drawn again",
    )
    gate_attempts: int = like(GenerationPlan, "gate_attempts")
    gate_tolerance: Annotated[dict[str, float], NUMBERS] = like(GenerationPlan, "gate_tolerance")
    license: Annotated[
        str | None,
        Field(description="licence identifier for the card; cc-by-4.0 for drawn subjects, unknown for a source"),
    ] = None
    access: KnownAccess = None
    dry_run: bool = Field(False, description="print the plan, its time, and what an engine would run; write nothing")
    engine: str | None = Field(
        None, description="local, slurm or ray; jobs for a dry run; without one torchrun's ranks, or this process"
    )
    tasks: int | None = Field(None, description="ranks that the engine runs")
    workers: int | None = Field(None, description="ranks that the engine runs at a time; all by default")
    options: Annotated[dict[str, str] | None, VALUES] = Field(
        None, alias="engine_options", description="the engine's own, such as time=02:00:00 partition=gpu"
    )
    logging_dir: str | None = Field(None, description="where the engine writes its logs; OUTPUT_DIR-logs by default")

    def run(self) -> None:
        from ..generate.dataset import generate_dataset, spread_dataset
        from ..generate.engines import place_from_environment
        from ..generate.store import RUN
        from ..generate.summary import describe_summary

        arguments = self.given()
        if self.preset is not None:
            arguments["preset"] = load_preset(self.preset)
        if self.predictor is not None:
            from ..measure.predictors import SavedPredictor

            arguments["predictor"] = SavedPredictor(self.predictor)
        if self.engine is not None:
            summary, launched = spread_dataset(**{"tasks": None, **arguments})
            # nothing is written that could be looked up
            print(json.dumps(summary, indent=2) if self.dry_run else "\n".join(describe_summary(summary)))
            print(launched)
            return
        for name in ("tasks", "workers", "options", "logging_dir"):
            if name in arguments:
                raise InputError(f"{name}: is for an engine; give --engine too, or leave it out.")
        place = place_from_environment()
        summary = generate_dataset(rank=place.rank, world_size=place.world_size, **arguments)
        if place.rank == 0 and self.dry_run:
            print(json.dumps(summary, indent=2))
        if summary["finished"]:
            print("\n".join(describe_summary(summary)))
            print_counts(summary)
            print(f"wrote {self.output_dir}; record in {self.output_dir / RUN}")
            print(next_command("verify", self.output_dir))
        elif not self.dry_run:
            print(
                f"rank {place.rank} of {place.world_size} has written its shards; the last one to end writes the card"
            )


class Verify(VerbSettings):
    """Check every shard of a data set against its plan and records."""

    verb = "verify"
    example = "synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set that `synthfair generate` wrote")
    repair: bool = Field(False, description="first generate damaged and missing shards again, to the same bytes")
    pretrained_model_name_or_path: Annotated[
        str | None, Field(description="saved pipeline that made it, for repair; the shipped one by default")
    ] = None
    source_dir: RepairSource = None
    predictor: Path | None = Field(None, description="attribute predictor of its quality gate, for repair")
    text_to_image: TextToImage = None
    lora_weights: LoraWeights = None

    def run(self) -> int:
        from ..generate.verification import verify

        directory = self.directory
        if self.repair:
            from ..generate.dataset import repair_dataset
            from ..measure.predictors import SavedPredictor

            predictor = None if self.predictor is None else SavedPredictor(self.predictor)
            made = repair_dataset(
                directory,
                self.pretrained_model_name_or_path,
                self.source_dir,
                predictor,
                self.text_to_image,
                self.lora_weights,
            )
            print(f"{directory}: made {counted(len(made), 'shard')} again" + "".join(f"\n  {name}" for name in made))
            if self.source_dir is not None:
                print_counts(Record.read(directory / "records" / "generate.json").counts)
        else:
            for name in ("source_dir", "pretrained_model_name_or_path", "predictor", "text_to_image", "lora_weights"):
                if getattr(self, name) is not None:
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
            from ..generate.dataset import repair_needs

            needs = repair_needs(directory)
            if needs is not None:
                flags = [word for name in needs for word in (f"--{name.removesuffix('_dir')}", name.upper())]
                print(next_command("verify", directory, "--repair", *flags))
        return 1 if problems else 0


class Merge(VerbSettings):
    """Merge the parts of one plan that several machines generated."""

    verb = "merge"
    continues = True
    example = "part-0 part-1 --output_dir whole"
    parts: Annotated[tuple[Path, ...], Positional("PART")] = Field(description="directories, one of each machine")
    output_dir: OutputDirectory
    license: License = None

    def run(self) -> None:
        from ..generate.dataset import merge_datasets

        record = merge_datasets(**dict(self))
        print(
            f"{self.output_dir}: {counted(record.counts['rows'], 'row')} in {counted(record.counts['shards'], 'shard')}"
        )


class Demo(VerbSettings):
    """Generate a small data set, verify it, load three views, write the report."""

    verb = "demo"
    example = "--output_dir demo"
    output_dir: OutputDirectory = Path("synthfair")
    seed: Seed = 0

    def run(self) -> None:
        from ..generate.demo import demo

        found = demo(self.output_dir, self.seed)
        print(f"{self.output_dir}: sound")
        for name, view in found["views"].items():
            print(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in view.items()))
        print(f"  report: {found['report']}")
        print(
            "try:  from datasets import load_dataset; "
            f"load_dataset({str(self.output_dir.absolute())!r}, 'sex_imbalanced_90_10')"
        )
