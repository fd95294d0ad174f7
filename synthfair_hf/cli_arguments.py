"""The settings of each verb of the command line: one model per verb, one line of help per field.

A field is a flag, called by its alias where it has one: the field bears the name that the public function gives its
argument. A field that is a model itself, such as a training run's settings, stands for the flags of its own fields.
Defaults are those of the public functions. Nothing here imports torch.

    class      verb            docstring  its description          `example`  a command that runs
    field      flag            description  its line of help       WORDS      how several words make its value
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .align.config import AlignmentConfig
from .domains.images import Fit
from .domains.joined import JoinedFolders
from .domains.preset import UNCHANGED, NetworkChanges
from .domains.presets import PRESETS
from .domains.readers import DataSetFolder
from .domains.source import Patients
from .domains.values import Uncertain
from .errors import InputError, unknown
from .generate.plan import GenerationPlan
from .records import Access
from .training.config import AutoencoderTrainingConfig, FinetuningConfig, PredictorTrainingConfig, TrainingConfig

__all__ = ["LIBRARY_NAMES", "RENAMED_FLAGS", "RENAMED_VERBS", "VERBS", "Positional", "VerbSettings", "Words"]


@dataclass(frozen=True)
class Positional:
    """Marks a field that is given without its name, on the command line alone, and written like `metavar`."""

    metavar: str


@dataclass(frozen=True)
class Words:
    """How the words after a flag make its value: `read(name of the field, words)`, written like `metavar`."""

    metavar: str
    read: Callable[[str, Sequence[str]], Any]
    may_be_empty: bool = False


def _assignments(argument: str, words: Sequence[str]) -> dict[str, str]:
    """The words sex=female age=61 as a dict."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{argument}: {word!r} is not NAME=VALUE; write it as sex=female.")
        if name in values:
            raise InputError(f"{argument}: {name} is given twice; give it once.")
        values[name] = value
    return values


def _lists(argument: str, words: Sequence[str]) -> dict[str, list[str]]:
    """The words age=30,50 sex=male as lists by name."""
    return {name: text.split(",") for name, text in _assignments(argument, words).items()}


def _names(argument: str, words: Sequence[str]) -> list[str]:
    """The words A,B C as a list of names."""
    return [name.strip() for word in words for name in word.split(",")]


def _pairs(argument: str, words: Sequence[str]) -> list[list[str]]:
    """The words A,B C,D as pairs of names."""
    pairs = [word.split(",") for word in words]
    for word, pair in zip(words, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise InputError(f"{argument}: {word!r} is not A,B; write it as sex,finding.")
    return pairs


def _lists_of_names(argument: str, words: Sequence[str]) -> list[list[str]]:
    """The words A,B C,D,E as lists of names."""
    return [word.split(",") for word in words]


def _shares(argument: str, words: Sequence[str]) -> dict[str, dict[str, str]]:
    """The words sex=male:0.7,female:0.3 as shares by level, by name."""
    shares: dict[str, dict[str, str]] = {}
    for name, parts in _lists(argument, words).items():
        split = [part.rpartition(":") for part in parts]
        shares[name] = {level: share for level, _, share in split}
        if len(shares[name]) < len(parts) or not all(shares[name]):
            text = ",".join(parts)
            raise InputError(f"{argument}: {text!r} is not LEVEL:SHARE,...; write it as sex=male:0.7,female:0.3.")
    return shares


def _strength(argument: str, words: Sequence[str]) -> str | dict[str, str]:
    """The word 1.5 as it stands, or sex=1.5 finding=2 as a dict."""
    return words[0] if len(words) == 1 and "=" not in words[0] else _assignments(argument, words)


def _methods(argument: str, words: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The words erm jtt:steps=100,batch_size=8 as names with their settings."""
    methods = []
    for word in words:
        name, colon, text = word.partition(":")
        methods.append((name, _assignments(f"{argument}[{name!r}]", text.split(",") if colon else [])))
    return methods


VALUES = Words("NAME=VALUE", _assignments)
LISTS = Words("NAME=A,B", _lists)
NAMES = Words("A,B", _names)
STRENGTH = Words("X or NAME=X", _strength)


def _like(model: type[BaseModel], name: str) -> Any:
    """A field of a model of the library: its default, range and line of help."""
    return model.model_fields[name]


class _SourceFlags(BaseModel):
    """The flags of a folder of images, or of several as one source, and of how they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_dir: tuple[Path, ...] | None = Field(
        None,
        alias="source",
        description="folder with metadata.csv and images, or of a data set; several are joined, as DIR or NAME=DIR; "
        "the phantom needs none",
    )
    dataset_name: tuple[str, ...] | None = Field(
        None,
        description="layout of the folder, or of each: imagefolder, mimic_cxr, ... (`synthfair sources` lists them)",
    )
    uncertain: Uncertain = Field("missing", description="what labels count as that their authors call uncertain")
    columns: Annotated[dict[str, str], VALUES] = Field(
        {},
        alias="column",
        description="columns of the table by covariate, such as age=PatientAge patient_id=PatientID; of one of several "
        "NAME.age=PatientAge",
    )
    image_column: str | None = Field(None, description="column of the table that names the images")
    shared_patients: tuple[str, ...] = Field(
        (), description="names of sources that give the same people the same patient_id"
    )
    fit: Fit = Field("crop", description="how images become square: crop their ends, or pad them with black")
    patients: Patients = Field(
        "all",
        description="whose images are read: all, or one of two parts that never meet, by which a generator is learned "
        "(generator) and the predictors that judge it (judge); both have the test patients, from which neither "
        "learns, and held_out has them with the judges' validation patients, for measuring",
    )


def _folder(flags: _SourceFlags) -> Path | DataSetFolder | JoinedFolders | None:
    """The folder, or the folders, as the library takes them."""
    # in the order of the flags: a set has none, and the first is named by an error
    names_given = [name for name in type(flags).model_fields if name in flags.model_fields_set]
    given = {name: getattr(flags, name) for name in names_given if name != "source_dir"}
    if flags.source_dir is None:
        for name in given:
            raise InputError(
                f"source_dir: not given, but {name} is for a folder of images; give it, or leave both out."
            )
        return None
    shared, names = given.pop("shared_patients", ()), given.pop("dataset_name", (None,))
    if len(names) not in (1, len(flags.source_dir)):
        raise InputError(
            f"dataset_name: {len(names)} names for {len(flags.source_dir)} folders; give one for each, or one for all."
        )
    sites, folders = zip(*map(_named, flags.source_dir), strict=True)
    if len(folders) == 1 and sites == (None,):
        if shared:
            raise InputError(f"shared_patients: {', '.join(shared)}: is for several sources, and one is given.")
        named = given if names[0] is None else {**given, "dataset_name": names[0]}
        return DataSetFolder(directory=folders[0], **named) if named else folders[0]
    columns = given.pop("columns", {})
    joined = JoinedFolders.of(
        [
            DataSetFolder(directory=folder, dataset_name=name, **given)
            for folder, name in zip(folders, names * len(folders) if len(names) == 1 else names, strict=True)
        ],
        sites,
        shared,
    )
    own = {place: {name: column for name, column in columns.items() if "." not in name} for place in joined.folders}
    for name, column in columns.items():
        place, dot, covariate = name.rpartition(".")
        if dot and place not in own:
            raise unknown("columns", name, [f"{one}.{covariate}" for one in own])
        if dot:
            own[place][covariate] = column
    folders_of = {place: one.model_copy(update={"columns": own[place]}) for place, one in joined.folders.items()}
    return joined.model_copy(update={"folders": folders_of})


def _one_folder(flags: _SourceFlags) -> Path | DataSetFolder | None:
    """The one folder, as the library takes it."""
    folder = _folder(flags)
    if not isinstance(folder, JoinedFolders):
        return folder
    if len(folder.folders) > 1:
        raise InputError(f"source_dir: {len(folder.folders)} folders are given; a test beside is on one; give one.")
    (one,) = folder.folders.values()
    return one


def _named(word: Path) -> tuple[str | None, Path]:
    """A folder and the name of its site, from DIR, which may have an equals sign in its name, or NAME=DIR."""
    name, equals, folder = str(word).partition("=")
    if not equals or not name or not folder or "/" in name or word.exists():
        return None, word
    return name, Path(folder)


class _WorldFlags(_SourceFlags):
    source_dir: tuple[Path, ...] | None = Field(
        None, alias="source", description="the world's data; the phantom needs none"
    )


class _JudgeFlags(_SourceFlags):
    source_dir: tuple[Path, ...] | None = Field(
        None, alias="source", description="real images that realism compares with; the phantom needs none"
    )


class _ObservedFlags(_SourceFlags):
    source_dir: tuple[Path, ...] | None = Field(
        None,
        alias="source",
        description="observe subjects from this folder instead of drawing them; with --text_to_image fit the causal "
        "model that draws them on it",
    )


class _ExternalFlags(_SourceFlags):
    source_dir: tuple[Path, ...] | None = Field(
        None,
        alias="external",
        description="folder of real images with metadata.csv, or a data set, for a test beside",
    )


class _RepairFlags(_SourceFlags):
    source_dir: tuple[Path, ...] | None = Field(
        None, alias="source", description="where its subjects were observed, for repair"
    )


# Flags that several verbs share.
OwnPreset = Annotated[
    str | None,
    Field(
        description=f"domain: {', '.join(PRESETS)}, or a YAML file of your own; by default that of an ingested folder, "
        "else chest_xray"
    ),
]
Preset = Annotated[str, Field(description=f"domain: {', '.join(PRESETS)}, or a YAML file of your own")]
if TYPE_CHECKING:
    # what `_folder` makes of the flags
    Source = Path | DataSetFolder | JoinedFolders | None
    WorldSource = Path | DataSetFolder | JoinedFolders | None
    RealSource = Path | DataSetFolder | JoinedFolders | None
    ObservedSource = Path | DataSetFolder | JoinedFolders | None
    RepairSource = Path | DataSetFolder | JoinedFolders | None
    ExternalSource = Path | DataSetFolder | None
else:
    Source = Annotated[_SourceFlags, AfterValidator(_folder)]
    WorldSource = Annotated[_WorldFlags, AfterValidator(_folder)]
    RealSource = Annotated[_JudgeFlags, AfterValidator(_folder)]
    ObservedSource = Annotated[_ObservedFlags, AfterValidator(_folder)]
    RepairSource = Annotated[_RepairFlags, AfterValidator(_folder)]
    ExternalSource = Annotated[_ExternalFlags, AfterValidator(_one_folder)]
Start = Annotated[str, Field(description="saved pipeline to start from: a directory, or its name on the Hub")]
Generator = Annotated[str | None, Field(description="saved pipeline; the shipped one by default")]
Predictors = Annotated[
    tuple[Path, ...],
    Field(alias="predictor", description="directories that `synthfair predictor` wrote, one or several"),
]
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
OutputDirectory = Annotated[Path, Field(description="directory that is written")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="of everything that is drawn")]
World = Annotated[
    str,
    Field(
        description="world whose counterfactuals are known: phantom, acquisition, morphomnist, dermatology_phantom or "
        "brain_mri_phantom; observed: real images of which none is known"
    ),
]
Limit = Annotated[int | None, Field(description="images at most; all by default")]
Split = Annotated[str, Field(description="split whose images are used")]
License = Annotated[str | None, Field(description="licence identifier for the card")]
KnownAccess = Annotated[
    Access | None,
    Field(
        description="who may see the source; by default as its data set or its record tells, else unknown; only what "
        "is open is published openly"
    ),
]
Steps = Annotated[int | None, Field(description="solver steps; the generator's own by default")]


class VerbSettings(BaseModel):
    """Settings of a verb: checked and frozen; unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    example: ClassVar[str]


class Train(VerbSettings):
    """Train a generator on a folder of images and save it as a pipeline."""

    example = "--preset phantom --output_dir runs/phantom"
    preset: OwnPreset = None
    source_dir: Source = None
    covariate_table: Path | None = Field(None, description="ChestX-ray14 label file to fit the causal model on")
    pretrained_model_name_or_path: str | None = Field(None, description="saved pipeline to start from; none by default")
    resolution: int | None = Field(None, description="height and width in pixels; the preset's by default")
    default_steps: int | None = Field(
        None, description="solver steps saved with the pipeline; 10, or those of the starting one, by default"
    )
    default_guidance_scale: float = Field(1.0, description="strength on changed covariates saved with the pipeline")
    access: KnownAccess = None
    vae: str | None = Field(
        None, description="autoencoder of diffusers, a directory or Hub name, in whose latents the network works"
    )
    cache_latents: int | None = Field(
        None, description="encode so many augmentations of each image once, in output_dir; at every step by default"
    )
    gradient_checkpointing: bool = Field(False, description="less memory and more time")
    logit_mean: float | None = Field(
        None, description="of the noise levels trained on: high for shapes, low for texture; 0, or -1 with a variance"
    )
    logit_std: float | None = Field(None, description="of that logit; 1, or 1.5 with a variance, by default")
    network: NetworkChanges = UNCHANGED
    config: TrainingConfig


class Finetune(VerbSettings):
    """Finetune a saved generator, with an attribute predictor that scores its counterfactuals."""

    example = (
        "--pretrained_model_name_or_path runs/phantom --predictor runs/predictor --output_dir runs/phantom_finetuned"
    )
    pretrained_model_name_or_path: Start
    predictor: Path = Field(description="attribute predictor of the loss; measure the result with another one")
    source_dir: Source = None
    weight: float = Field(0.1, description="of the predictor's disagreement, against flow matching")
    off_target_weight: float = Field(1.0, description="of disagreement on covariates that were not changed")
    access: KnownAccess = None
    config: FinetuningConfig


class Rectify(VerbSettings):
    """Rectify a saved generator's flow on its own pairs (reflow), so that fewer solver steps lose less."""

    example = "--pretrained_model_name_or_path runs/phantom --output_dir runs/phantom_rectified"
    pretrained_model_name_or_path: Start
    source_dir: Source = None
    images: int = Field(2048, description="training images, each of three pairs")
    num_inference_steps: int = Field(10, description="midpoint steps that make a pair")
    access: KnownAccess = None
    config: FinetuningConfig


class SuperResolve(VerbSettings):
    """Super-resolve a saved generator by an autoencoder whose latents are its images."""

    example = "--pretrained_model_name_or_path runs/phantom --resolution 128 --output_dir runs/phantom_128"
    pretrained_model_name_or_path: Start
    source_dir: Source = None
    resolution: int = Field(description="twice or four times the pipeline's own")
    access: KnownAccess = None
    config: AutoencoderTrainingConfig


class Predictor(VerbSettings):
    """Train an attribute predictor: a network that predicts the covariates of images, for `measure`."""

    example = "--preset phantom --output_dir runs/predictor"
    preset: OwnPreset = None
    source_dir: Source = None
    access: KnownAccess = None
    config: PredictorTrainingConfig


class Autoencoder(VerbSettings):
    """Train an autoencoder, in whose latent space `measure` computes how minimal a change is."""

    example = "--preset phantom --output_dir runs/autoencoder"
    preset: OwnPreset = None
    source_dir: Source = None
    access: KnownAccess = None
    config: AutoencoderTrainingConfig


class Candidates(VerbSettings):
    """Write pairs of images by a saved generator, for people or judges to prefer one of."""

    example = "--pretrained_model_name_or_path runs/phantom --num_pairs 500 --output_dir candidates"
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


class Judge(VerbSettings):
    """Prefer one of each pair of candidates by weighted judges, and write the preferences."""

    example = (
        "--candidates candidates --predictor runs/predictor --judges attribute_fidelity=1 --output_dir preferences"
    )
    candidates_dir: Path = Field(alias="candidates", description="directory that `synthfair candidates` wrote")
    predictor: Path | None = Field(None, description="attribute predictor of the judges; none for true_pixels")
    weights: Annotated[dict[str, float], Words("NAME=WEIGHT", _assignments)] = Field(
        alias="judges",
        description="attribute_fidelity, realism, counterfactual_soundness, true_pixels (of the phantom), by weight",
    )
    source_dir: RealSource = None
    access: KnownAccess = None
    tie: float = Field(0.0, description="difference of scores up to which neither is preferred")
    output_dir: OutputDirectory


class _Alignment(AlignmentConfig):
    """The library's own settings; covariates may be separated by commas."""

    balance: Annotated[tuple[str, ...] | None, NAMES] = _like(AlignmentConfig, "balance")


class Align(VerbSettings):
    """Align a saved generator to preferences: train low-rank adapters on pairs of images."""

    example = "--pretrained_model_name_or_path runs/phantom --train_data_dir preferences --output_dir runs/lora"
    pretrained_model_name_or_path: Start
    train_data_dir: tuple[Path, ...] = Field(description="preferences, of one judge or of several")
    config: _Alignment


class Fuse(VerbSettings):
    """Merge what `align` trained into a copy of the generator, an ordinary saved pipeline again."""

    example = "--pretrained_model_name_or_path runs/phantom --lora_weights runs/lora --output_dir runs/phantom_aligned"
    pretrained_model_name_or_path: Annotated[str, Field(description="saved pipeline that was adapted")]
    lora_weights: Path = Field(description="directory that `synthfair align` wrote")
    lora_scale: float = Field(1.0, description="how strongly the adapters act; 1: as trained")
    output_dir: OutputDirectory


class Label(VerbSettings):
    """Show annotators two images at a time, and record which one each of them prefers."""

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


class Calibrate(VerbSettings):
    """Choose the strength of each covariate's change and save it in a generator."""

    example = "--pretrained_model_name_or_path runs/phantom --world phantom --predictor runs/predictor"
    pretrained_model_name_or_path: Annotated[str, Field(description="saved pipeline to write into, a directory")]
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    predictors: Predictors = ()
    variables: tuple[str, ...] | None = Field(None, description="covariates that are calibrated; all by default")
    scales: tuple[float, ...] = Field((1.0, 2.0), description="guidance scales that are tried")
    levels: tuple[float, ...] = Field((1.0, 0.75, 0.5), description="noise levels that are tried")
    seed: Seed = 0
    access: KnownAccess = None


class MeasureSoundness(VerbSettings):
    """Measure axioms, true pixels, effectiveness and off-target effects of counterfactuals."""

    example = "--world phantom --pretrained_model_name_or_path runs/phantom --output_dir scoreboard"
    pretrained_model_name_or_path: Generator = None
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    split: Split = "test"
    predictors: Predictors = ()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field((0, 1, 2), description="of the values of do()")
    interventions: tuple[str, ...] = Field(
        ("from_marginal",), description="how values of do() are chosen: from_marginal, forced_change"
    )
    effect: str = Field("total", description="total: descendants of do() follow; direct: they are held")
    variables: tuple[str, ...] | None = Field(None, description="covariates that are intervened on; all by default")
    cycles: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 10), description="reconstructions after which composition is measured"
    )
    num_inference_steps: Steps = None
    pairs: Annotated[tuple[tuple[str, str], ...] | None, Words("A,B", _pairs, may_be_empty=True)] = Field(
        None, description="do()s whose order is exchanged; all pairs by default, none if empty"
    )
    guidance_scale: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="strength on changed covariates; the generator's own by default"
    )
    encoder: Path | None = Field(None, description="trained autoencoder by which minimality is measured")
    contrasts: Annotated[dict[str, tuple[str, ...]], LISTS] = Field(
        {}, description="two values whose direct, indirect and total effect is measured"
    )
    boxes: Path | None = Field(
        None,
        description="radiologists' boxes of ChestX-ray14, nih_bounding_boxes.csv.gz, by which the place of a change is "
        "measured",
    )
    output_dir: OutputDirectory


class MeasureShortcuts(VerbSettings):
    """Measure how well a data set's covariates are predicted from histogram and border alone."""

    example = "--preset phantom --output_dir shortcuts"
    preset: OwnPreset = None
    source_dir: Source = None
    resolution: int = Field(64, description="height and width in pixels at which images are read")
    splits: tuple[str, ...] = Field(("train", "validation", "test"), description="whose images are used")
    output_dir: OutputDirectory


class MeasureRealism(VerbSettings):
    """Measure distances of samples to held-out images, and to the training images."""

    example = (
        "--world phantom --pretrained_model_name_or_path runs/phantom --predictor runs/predictor "
        "--output_dir scoreboard"
    )
    pretrained_model_name_or_path: Generator = None
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    split: Split = "test"
    predictor: Path = Field(description="attribute predictor whose features are compared")
    group: str | None = Field(None, description="covariate by whose levels figures are given as well")
    output_dir: OutputDirectory


class Recipes(VerbSettings):
    """Write recipes: contexts of images, by a grammar or a language model, that balance protected attributes."""

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


class Generate(VerbSettings):
    """Write a data set of balanced counterfactual families."""

    example = "--world phantom --num_subjects 56 --output_dir synthfair"
    output_dir: OutputDirectory = Path("synthfair")
    num_subjects: int = _like(GenerationPlan, "num_subjects")
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
    seed: Annotated[int, Field(lt=2**63)] = _like(GenerationPlan, "seed")
    factors: Annotated[tuple[str, ...] | None, Field(description=_like(GenerationPlan, "factors").description)] = None
    levels: Annotated[dict[str, tuple[str, ...]], LISTS] = _like(GenerationPlan, "levels")
    target: Annotated[dict[str, dict[str, float]], Words("NAME=A:SHARE,B:SHARE", _shares)] = _like(
        GenerationPlan, "target"
    )
    subjects_per_shard: int = _like(GenerationPlan, "subjects_per_shard")
    batch_size: int = _like(GenerationPlan, "batch_size")
    num_inference_steps: int | None = _like(GenerationPlan, "num_inference_steps")
    guidance_scale: float | None = _like(GenerationPlan, "guidance_scale")
    mixed_precision: Literal["no", "bf16"] = _like(GenerationPlan, "mixed_precision")
    channels_last: bool = _like(GenerationPlan, "channels_last")
    compile: bool = _like(GenerationPlan, "compile")
    predictor: Path | None = Field(
        None,
        description="attribute predictor of the quality gate; families that fail are drawn again",
    )
    gate_attempts: int = _like(GenerationPlan, "gate_attempts")
    gate_tolerance: Annotated[dict[str, float], Words("NAME=X", _assignments)] = _like(GenerationPlan, "gate_tolerance")
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


class Card(VerbSettings):
    """Write the card of a data set or generator anew from its records; of a data set Croissant and figures too."""

    example = "synthfair --creator my-lab --url https://huggingface.co/datasets/my-lab/synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")
    license: License = None
    creator: str | None = Field(None, description="person or organisation that publishes it; by default as before")
    url: str | None = Field(None, description="address of its page; by default as before")
    date_published: str | None = Field(None, description="day of publication, as 2026-01-31; by default as before")
    scoreboard: Path | None = Field(
        None, description="directory that `measure` wrote for its generator, whose figures are printed from then on"
    )
    leaderboard: Path | None = Field(
        None, description="directory that `benchmark` wrote for the data set, whose figures are printed from then on"
    )
    hub_model_id: str | None = Field(None, description="OWNER/NAME of a generator on the Hub; by default as before")
    datasets: tuple[str, ...] | None = Field(
        None, description="OWNER/NAME of data sets on the Hub that a generator was trained on; by default as before"
    )


class Validate(VerbSettings):
    """Compare card, records and settings of a data set or generator with each other; images are not read."""

    example = "synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")


class Verify(VerbSettings):
    """Check every shard of a data set against its plan and records."""

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


class Governance(VerbSettings):
    """Write what was checked of a data set, from sources to monitoring, and what is missing: a page, and JSON."""

    example = "synthfair --audit audit --monitoring monitoring --output_dir governance"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set that `synthfair generate` wrote")
    pretrained_model_name_or_path: Annotated[
        str | None, Field(description="generator that made it; without one its records are named as missing")
    ] = None
    scoreboard: Path | None = Field(None, description="directory that `synthfair measure` wrote, of that generator")
    audit: tuple[Path, ...] = Field((), description="directories that `synthfair audit` wrote")
    monitoring: tuple[Path, ...] = Field((), description="directories that `synthfair monitor` wrote")
    output_dir: OutputDirectory


class Merge(VerbSettings):
    """Merge the parts of one plan that several machines generated."""

    example = "part-0 part-1 --output_dir whole"
    parts: Annotated[tuple[Path, ...], Positional("PART")] = Field(description="directories, one of each machine")
    output_dir: OutputDirectory
    license: License = None


class Push(VerbSettings):
    """Push a data set or a generator to the Hub as a tagged release; the same command goes on after a break."""

    example = "synthfair --hub_dataset_id my-lab/synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set or saved pipeline")
    hub_dataset_id: str | None = Field(None, description="OWNER/NAME of the data set repository on the Hub")
    hub_model_id: str | None = Field(None, description="OWNER/NAME of the model repository, for a saved pipeline")
    private: bool = Field(False, description="private repository; access is approved by hand for restricted images")
    tag: str | None = Field(None, description="of this release; the identity of its bytes by default")
    permission: str | None = Field(
        None, description="who permits what is restricted to be public, and where; it is published"
    )
    scoreboard: Path | None = Field(
        None, description="directory that `measure` wrote, for the card; without it figures are not measured"
    )
    license: License = None
    datasets: tuple[str, ...] | None = Field(
        None, description="OWNER/NAME of data sets on the Hub that the generator was trained on"
    )


class Benchmark(VerbSettings):
    """Fit mitigation methods on biased views and their twins, and print a leaderboard; finished cells are kept."""

    example = (
        "--data_dir synthfair --views finding_sex_correlated_90_10 --methods reweighting jtt:steps=100 "
        "--output_dir leaderboard"
    )
    data_dir: Path = Field(description="data set that `synthfair generate` wrote")
    views: tuple[str, ...] = Field(description="biased views; their twins are added")
    methods: Annotated[tuple[tuple[str, dict[str, str]], ...], Words("NAME[:SETTING=VALUE,...]", _methods)] = Field(
        (), description="of synthfair_hf.fairness.mitigation, alone or with settings of their own; erm is added"
    )
    finding: str | None = Field(
        None, description="what is classified; the only finding, or the only one that families cross, by default"
    )
    method_files: tuple[Path, ...] = Field(
        (),
        alias="method_file",
        description="Python files that are run, one subclass of Method each; the method has its file's name",
    )
    seeds: int = Field(5, description="how many fits of each method")
    train_subjects: int | None = Field(None, description="subjects of train that are used; half of them by default")
    steps: int | None = Field(None, description="of every fit; each method's own by default")
    classifier: Path | None = Field(
        None,
        description="what fits start from: directory or OWNER/NAME of an image classifier of transformers, or its "
        "config.json for random weights; a small network by default",
    )
    learning_rate: float | None = Field(None, description="of every fit; each method's own by default")
    external: ExternalSource = None
    num_proc: int = Field(1, description="processes that fit at a time")
    output_dir: OutputDirectory


class _ClassifierFlags(VerbSettings):
    """The flags of a saved classifier, and of the rows that it scores."""

    view: str | None = Field(None, description="view whose rows a classifier scores; full by default")
    split: str | None = Field(None, description="split whose rows a classifier scores; test by default")
    finding: str | None = Field(
        None,
        description="what a classifier predicts; the only finding, or the only one that families cross, by default",
    )


class Audit(_ClassifierFlags):
    """Audit predictions or a classifier by group: a page, tables, a record; exit status 1 where a condition holds."""

    example = (
        "--predictions predictions.csv --label pneumonia --score probability --groups sex age --bins age=40,60 "
        "--output_dir audit"
    )
    predictions: Path | None = Field(
        None, description="table of anybody's predictions, CSV or Parquet, a line per image"
    )
    classifier: Path | None = Field(
        None,
        description="instead of a table: directory or OWNER/NAME of an image classifier, of transformers or ours",
    )
    data_dir: Path | None = Field(None, description="data set of `synthfair generate` that a classifier scores")
    label: str | tuple[str, ...] | None = Field(
        None,
        description="the table's column of what is true: 0 and 1, or words of which --positive says one; of several "
        "findings one each; of a classifier with several labels, the one that is the finding",
    )
    score: str | tuple[str, ...] | None = Field(
        None,
        description="the table's column of the probability that the finding is present; of several findings one each, "
        "in the order of --label",
    )
    groups: tuple[str, ...] = Field(description="attributes to compare: columns of the table, or covariates")
    subject: str | None = Field(
        None, description="its column of patients, resampled as a whole; each row is one of its own by default"
    )
    weight: str | None = Field(None, description="its column of weights; all rows count the same by default")
    positive: str | None = Field(None, description="the word of the label column that means present")
    negative: str | None = Field(
        None, description="the word that means absent, where there are more than two; rows of the others are left out"
    )
    bins: Annotated[dict[str, tuple[float, ...]], LISTS] = Field(
        {}, description="numbers at which the groups of an attribute begin, such as age=40,60"
    )
    intersections: Annotated[tuple[tuple[str, ...], ...], Words("A,B", _lists_of_names)] = Field(
        (), description="attributes whose intersections are groups too, such as sex,age"
    )
    fail_if: tuple[str, ...] = Field(
        (),
        description="conditions for exit status 1, such as 'gap(tpr, sex) > 0.1', 'ratio(selection_rate, sex) < 0.8', "
        "'worst(auc, age) < 0.75', 'auc(sex=female) < 0.8'; of several findings each is asked, or one by "
        "'edema: gap(tpr, sex) > 0.1'",
    )
    threshold: float = Field(0.5, description="scores at or above it are predicted present")
    max_fpr: float | None = Field(
        None, description="false positive rate to which a partial AUC is audited too, such as 0.1; none by default"
    )
    causal_model: Path | None = Field(
        None,
        description="directory of a generator, by whose causal model the share of a classifier's predictions that is "
        "owed to each covariate is told too",
    )
    seed: Seed = 0
    n_bootstrap: int = Field(1000, description="bootstrap replicates of every interval")
    permutations: int = Field(1000, description="permutations of every test; 0 leaves the tests out")
    output_dir: OutputDirectory


class Monitor(VerbSettings):
    """Monitor a running classifier by group over time: drift, alarms, a page; exit status 1 where a condition holds."""

    example = (
        "--predictions stream.csv --reference predictions.csv --time time --window month --label pneumonia "
        "--score probability --groups sex age --bins age=40,60 --output_dir monitoring"
    )
    predictions: Path = Field(description="table of the running classifier's predictions, CSV or Parquet, with times")
    reference: Path = Field(description="table to compare with, of the same columns, such as that of its validation")
    time: str = Field(description="the column of times, in ISO 8601 such as 2026-01-31T08:30+01:00")
    window: str = Field("month", description="a number of rows, or day, week, month, quarter or year")
    label: str = Field(description="the column of what is true; in the stream it may be empty, or absent")
    score: str = Field(description="the column of the probability that the finding is present")
    groups: tuple[str, ...] = _like(Audit, "groups")
    subject: str | None = _like(Audit, "subject")
    positive: str | None = _like(Audit, "positive")
    negative: str | None = _like(Audit, "negative")
    bins: Annotated[dict[str, tuple[float, ...]], LISTS] = _like(Audit, "bins")
    intersections: Annotated[tuple[tuple[str, ...], ...], Words("A,B", _lists_of_names)] = _like(Audit, "intersections")
    fail_if: tuple[str, ...] = Field(
        (),
        description="what makes the exit status 1: alarm, and conditions of `synthfair audit` on any window that has "
        "labels, such as 'gap(tpr, sex).low > 0.1'",
    )
    threshold: float = _like(Audit, "threshold")
    alpha: float = Field(0.05, description="the chance of any false alarm in all windows, where nothing drifts")
    horizon: int | None = Field(
        None, description="how many windows the stream is to have; those that it has by default"
    )
    seed: Seed = 0
    n_bootstrap: int = _like(Audit, "n_bootstrap")
    permutations: int = Field(1000, description="permutations of the tests of drift")
    output_dir: OutputDirectory


class Detect(_ClassifierFlags):
    """Test which attributes a classifier's scores depend on: a table, a verdict, and how often it is a false alarm."""

    example = (
        "--classifier classifier --data_dir synthfair --attributes sex scanner age --detector counterfactual "
        "--output_file detection.json"
    )
    classifier: Path = Field(description="directory or OWNER/NAME of an image classifier, of transformers or ours")
    data_dir: Path = Field(description="data set of `synthfair generate` whose rows it scores")
    attributes: tuple[str, ...] = Field(description="covariates to test, such as sex scanner age")
    detector: str = Field(
        "counterfactual", description="counterfactual, subgroup_gap, shortcut or slices; the last two look at features"
    )
    label: str | None = Field(None, description="of a classifier with several labels, the one that is the finding")
    seed: Seed = 0
    alpha: float = Field(0.05, description="significance level of the verdict, over all attributes")
    permutations: int = Field(999, description="permutations of every test")
    output_file: Path | None = Field(None, description="where the record is written as JSON")


class PresetFile(VerbSettings):
    """Print a domain as YAML and check it, or draft one from the table of a folder of images."""

    example = "--from images/metadata.csv --output_file my_domain.yaml"
    preset: Annotated[str | None, Positional("FILE")] = Field(
        None, description=f"YAML file of your own to check and print, or one of {', '.join(PRESETS)}"
    )
    metadata_file: Path | None = Field(
        None, alias="from", description="metadata.csv beside its images, or their folder; a preset is drafted from it"
    )
    finding: tuple[str, ...] = Field(
        (), description="columns of the table that each are one finding, present or absent; by default those called so"
    )
    columns: Annotated[dict[str, str] | None, VALUES] = Field(
        None,
        alias="column",
        description="columns of the table by covariate, such as age=PatientAge patient_id=PatientID",
    )
    image_column: str | None = _like(_SourceFlags, "image_column")
    output_file: Path | None = Field(None, description="where the YAML goes; printed by default")


class Sources(VerbSettings):
    """List the data sets that can be read: covariates, licence, access, what to download and where to ask for it."""

    example = "mimic_cxr"
    name: Annotated[str | None, Positional("NAME")] = Field(None, description="one of them; all by default")


class Ingest(VerbSettings):
    """Write one cleaned data set of a source, which every verb reads by --source alone; the same command goes on."""

    example = "chexpert CheXpert-v1.0-small --output_dir chexpert"
    dataset_name: Annotated[str, Positional("NAME")] = Field(
        description="layout of the folder: imagefolder, mimic_cxr, ... (`synthfair sources` lists them)"
    )
    source_dir: Annotated[Path, Positional("DIR")] = Field(description="folder of the data set")
    output_dir: OutputDirectory
    preset: Preset = "chest_xray"
    resolution: int | None = Field(
        None, description="of training in pixels, images are stored at twice that; the preset's by default"
    )
    access: KnownAccess = None
    uncertain: Uncertain = _like(_SourceFlags, "uncertain")
    columns: Annotated[dict[str, str], VALUES] = _like(_SourceFlags, "columns")
    image_column: str | None = _like(_SourceFlags, "image_column")
    fit: Fit = _like(_SourceFlags, "fit")
    num_proc: int | None = Field(None, description="processes that read images; as many as processors by default")
    dry_run: bool = Field(
        False, description="check the table and print the room and time that are needed; write nothing"
    )


class Views(VerbSettings):
    """List biased views, say exactly what one keeps and how it is loaded, or write a page of its statistics."""

    example = "--view sex_imbalanced_85_15"
    preset: Preset = "chest_xray"
    view: str | None = Field(None, description="one view, curated or not, such as sex_imbalanced_85_15")
    data_dir: Path | None = Field(None, description="data set whose views are meant; its own preset counts")
    output_dir: Path | None = Field(None, description="write a page of counts on a view of data_dir here")


class Report(VerbSettings):
    """Write a page with pictures and tables about a data set."""

    example = "synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set that `synthfair generate` wrote")


class Demo(VerbSettings):
    """Generate a small data set, verify it, load three views, write the report."""

    example = "--output_dir demo"
    output_dir: OutputDirectory = Path("synthfair")
    seed: Seed = 0


class Counterfactual(VerbSettings):
    """Show what an image would have been under other covariates."""

    example = "--image radiograph.png --covariates age=61 sex=male effusion=absent view=PA --do sex=female"
    image: Path = Field(description="of the generator's domain, such as a frontal chest radiograph")
    covariates: Annotated[dict[str, str], VALUES] = Field(
        description="its covariates, all of those of the generator; an unknown scanner is left out, and unknown "
        "findings where there are several"
    )
    plant_scanner: bool = Field(
        False, description="first take the radiograph anew on the scanner among its covariates, which changes it"
    )
    do: Annotated[dict[str, str], Words("NAME=VALUE", _assignments, may_be_empty=True)] = Field(
        {}, description="interventions, such as sex=female effusion=present"
    )
    fit: Fit = Field("crop", description="how the image becomes square; as the generator's source was read")
    output_dir: OutputDirectory = Path("counterfactual")
    seed: Seed = 0
    pretrained_model_name_or_path: Generator = None
    num_inference_steps: Steps = None
    guidance_scale: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="strength on changed covariates; the generator's own by default"
    )
    intervention_level: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="noise level up to which a change acts; the generator's own by default"
    )


class App(VerbSettings):
    """Explore counterfactuals, a data set, a leaderboard and an audit in a browser."""

    example = "--data_dir synthfair"
    pretrained_model_name_or_path: Generator = None
    predictor: Path | None = Field(
        None,
        description="directory that `synthfair predictor` wrote, for attributes before and after; the shipped one for "
        "the shipped generator",
    )
    data_dir: Path | None = Field(None, description="data set to browse, a directory that `synthfair generate` wrote")
    leaderboard: Path | None = Field(None, description="directory that `synthfair benchmark` wrote")
    audit: Path | None = Field(None, description="directory that `synthfair audit` wrote")
    host: str = Field("127.0.0.1", description="address at which it listens; 0.0.0.0 opens it to other machines")
    port: int | None = Field(None, ge=0, le=65535, description="of the page; a free one by default")
    output_dir: Path | None = Field(
        None, alias="write_space", description="serve no page, but write the files of a Space of the Hub that does"
    )


VERBS: dict[str, type[VerbSettings]] = {
    "train": Train,
    "finetune": Finetune,
    "rectify": Rectify,
    "super_resolve": SuperResolve,
    "predictor": Predictor,
    "autoencoder": Autoencoder,
    "calibrate": Calibrate,
    "measure soundness": MeasureSoundness,
    "measure realism": MeasureRealism,
    "measure shortcuts": MeasureShortcuts,
    "candidates": Candidates,
    "judge": Judge,
    "label": Label,
    "align": Align,
    "fuse": Fuse,
    "recipes": Recipes,
    "generate": Generate,
    "verify": Verify,
    "validate": Validate,
    "card": Card,
    "governance": Governance,
    "merge": Merge,
    "push": Push,
    "counterfactual": Counterfactual,
    "audit": Audit,
    "monitor": Monitor,
    "detect": Detect,
    "benchmark": Benchmark,
    "preset": PresetFile,
    "sources": Sources,
    "ingest": Ingest,
    "views": Views,
    "report": Report,
    "demo": Demo,
    "app": App,
}

RENAMED_VERBS: dict[str, str] = {"straighten": "rectify", "enlarge": "super_resolve"}
"""Verbs that go by another name now."""

RENAMED_FLAGS: dict[str, dict[str, str]] = {
    "rectify": {"pairs": "images"},
    "finetune": {"leak": "off_target_weight"},
    "candidates": {"questions": "comparison_type"},
}
"""By verb, flags that go by another name now."""

LIBRARY_NAMES: dict[str, dict[str, str]] = {
    "train": {"guidance_scale": "default_guidance_scale"},
    "preset": {"findings": "finding"},
    "views": {"name": "view"},
    "benchmark": {"name": "views"},
    "app": {"directory": "data_dir"},
    "audit": {"scores": "score", "labels": "label", "subjects": "subject", "weights": "weight"},
}
"""By verb, arguments of functions that the verb's own calls, with the flags that give them."""
