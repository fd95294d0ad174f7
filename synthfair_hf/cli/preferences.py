"""Verbs by which a generator is aligned to preferences."""

import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from ..align.config import AlignmentConfig
from ..errors import counted
from ..views.preset import load_preset
from .folders import RealSource, Source
from .output import next_command, print_counts, print_saved
from .settings import Generator, KnownAccess, OutputDirectory, Seed, Start, VerbSettings, like
from .words import NAMES, WEIGHTS

__all__ = ["Align", "Candidates", "Fuse", "Judge", "Label"]


class Candidates(VerbSettings):
    """Write pairs of images by a saved generator, for people or judges to prefer one of."""

    verb = "candidates"
    example = "--pretrained_model_name_or_path runs/phantom --num_pairs 500 --output_dir candidates"
    renamed_flags: ClassVar = {"questions": "comparison_type"}
    pretrained_model_name_or_path: Generator = None
    num_pairs: int = Field(description="pairs of images to write")
    comparison_type: str = Field("samples", description="samples, guided_samples, or counterfactuals of a source")
    source_dir: Source = None
    balance: Annotated[tuple[str, ...], NAMES] = Field(
        (), description="covariates whose combinations of levels are sampled equally often"
    )
    access: KnownAccess = None
    seed: Seed = 0
    batch_size: int = Field(16, description="images that the network makes at a time")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..align.candidates import make_candidates

        record, place = make_candidates(**dict(self)), self.output_dir
        print(f"wrote {place}: {counted(record.counts['pairs'], 'pair')}")
        print_counts(record.counts)
        answers = place.with_name(f"{place.name}-answers.jsonl")
        print(next_command("label", "--candidates", place, "--annotator", "NAME", "--output_file", answers))
        judges = ("--predictor", "PREDICTOR", "--judges", "attribute_fidelity=1")
        print(
            next_command(
                "judge", "--candidates", place, *judges, "--output_dir", place.with_name(f"{place.name}-preferences")
            )
        )


class Judge(VerbSettings):
    """Prefer one of each pair of candidates by weighted judges, and write the preferences."""

    verb = "judge"
    example = (
        "--candidates candidates --predictor runs/predictor --judges attribute_fidelity=1 --output_dir preferences"
    )
    candidates_dir: Path = Field(alias="candidates", description="directory that `synthfair candidates` wrote")
    predictor: Path | None = Field(None, description="attribute predictor of the judges; none for true_pixels")
    weights: Annotated[dict[str, float], WEIGHTS] = Field(
        alias="judges",
        description="attribute_fidelity, realism, counterfactual_soundness, true_pixels (of the phantom), by weight",
    )
    source_dir: RealSource = None
    access: KnownAccess = None
    tie: float = Field(0.0, description="difference of scores up to which neither is preferred")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..align.judgement import judge_candidates

        record, place = judge_candidates(**dict(self)), self.output_dir
        print(f"wrote {place}: {counted(record.counts['pairs'], 'pair')}")
        print_counts(record.counts)
        generator = ("--pretrained_model_name_or_path", "PIPELINE")
        print(next_command("align", *generator, "--train_data_dir", place, "--output_dir", f"runs/{place.name}"))


class Label(VerbSettings):
    """Show annotators two images at a time, and record which one each of them prefers."""

    verb = "label"
    continues = True
    example = "--candidates candidates --annotator ada --output_file answers.jsonl"
    candidates_dir: Path = Field(alias="candidates", description="images, and candidates.jsonl that pairs them")
    answers_file: Path = Field(
        alias="output_file", description="answers, one a line; the same command goes on in this file"
    )
    annotators: tuple[str, ...] = Field(
        (), alias="annotator", description="who will answer, each on a page of their own"
    )
    preset: str | None = Field(
        None,
        description="domain of candidates that no `synthfair candidates` wrote, or a YAML file of your own; "
        "chest_xray by default",
    )
    seed: Seed = 0
    port: int | None = Field(None, ge=0, le=65535, description="of the page on this machine; a free one by default")
    output_dir: Path | None = Field(
        None, alias="export", description="show no page, but write the answers so far as preferences for `align`"
    )

    def run(self) -> None:
        from ..align.judgement import export_answers, open_candidates
        from ..align.labelling.answers import Answers
        from ..align.labelling.page import serve
        from ..align.labelling.session import Labelling

        domain = None if self.preset is None else load_preset(self.preset)
        if self.output_dir is not None:
            exported = export_answers(self.candidates_dir, self.answers_file, self.output_dir, domain)
            print(json.dumps({name: exported[name] for name in ("annotators", "agreement")}, indent=2))
            print(f"wrote {self.output_dir} of {counted(exported['pairs'], 'preference')}")
            return

        def ready(addresses: dict[str, str]) -> None:
            for name, address in addresses.items():
                print(f"{name}: {address}", flush=True)
            print(f"answers: {self.answers_file} (Ctrl-C ends; the same command goes on)", flush=True)

        candidates, _ = open_candidates(self.candidates_dir, domain)
        serve(Labelling(candidates, Answers(self.answers_file), self.annotators, self.seed), self.port, ready)


class _Alignment(AlignmentConfig):
    """The library's own settings; covariates may be separated by commas."""

    balance: Annotated[tuple[str, ...] | None, NAMES] = like(AlignmentConfig, "balance")


class Align(VerbSettings):
    """Align a saved generator to preferences: train low-rank adapters on pairs of images."""

    verb = "align"
    example = "--pretrained_model_name_or_path runs/phantom --train_data_dir preferences --output_dir runs/lora"
    pretrained_model_name_or_path: Start
    train_data_dir: tuple[Path, ...] = Field(description="preferences, of one judge or of several")
    config: _Alignment

    def run(self) -> None:
        from ..align.finetuning import align_generator

        print_saved(self.config.output_dir, align_generator(**dict(self)))


class Fuse(VerbSettings):
    """Merge what `align` trained into a copy of the generator, an ordinary saved pipeline again."""

    verb = "fuse"
    example = "--pretrained_model_name_or_path runs/phantom --lora_weights runs/lora --output_dir runs/phantom_aligned"
    pretrained_model_name_or_path: Annotated[str, Field(description="saved pipeline that was adapted")]
    lora_weights: Path = Field(description="directory that `synthfair align` wrote")
    lora_scale: float = Field(1.0, description="how strongly the adapters act; 1: as trained")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..align.finetuning import fuse_generator

        fuse_generator(**dict(self))
        place = self.output_dir
        measured = ("--pretrained_model_name_or_path", place, "--world", "WORLD", "--output_dir", f"{place}-scoreboard")
        print(f"wrote {place}; {next_command('measure soundness', *measured)}")
