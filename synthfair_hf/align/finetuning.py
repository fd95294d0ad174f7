"""Aligning a saved generator to preferences: Diffusion-DPO on low-rank adapters, stopped by pairs held out.

    train pairs        fit the adapters
    validation pairs   select the adapters that are kept, and stop the run
    test pairs         are used for nothing else, so their figures are the ones to quote

The output directory holds `pytorch_lora_weights.safetensors`, `record.json` and the card, no copy of the generator;
`fuse_generator` makes one, with the adapters in its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from huggingface_hub import ModelCardData
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..access import RECORD, recorded_access, sealed
from ..arguments import checked
from ..diffusion.generator import load_generator
from ..diffusion.saved import SavedGenerator, find_generator
from ..domains.preset import Preset
from ..errors import InputError
from ..measure.intervals import bootstrap_mean
from ..publish.pages import render
from ..records import Record, file_sha256, library_versions, strictest, write_atomically
from ..schema import SPLITS
from ..training.checkpoints import check_output_dir
from ..training.loop import train
from .config import AlignmentConfig
from .dpo import DPOObjective, WeightedExamples, implicit_accuracy, subgroup_weights
from .examples import PreferenceExamples, groups_of, has_groups
from .lora import add_lora, save_lora
from .preferences import Preferences, new_directory, read_preferences

__all__ = ["EarlyStopping", "align_generator", "fuse_generator", "write_lora_card"]


class EarlyStopping(nn.Module):
    """An objective, and the adapters that were most accurate on held-out pairs.

    Of equal accuracies the lower loss is better: few pairs have few accuracies, and the first is hardly trained. The
    start counts as an evaluation with accuracy 1/2: adapters that never beat the reference are not kept. All state is
    in buffers and frozen parameters, so that a checkpoint holds it and a resumed run stops where an unbroken one would.

    Args:
        objective: trains the adapters.
        held_out: the validation pairs.
        config: the settings of the alignment.
    """

    held_out: Dataset[dict[str, Tensor]]
    evaluations: Tensor
    """float64 `[times, 4]`: step, accuracy, loss and distance on the held-out pairs; NaN where still to come."""

    def __init__(self, objective: DPOObjective, held_out: Dataset[dict[str, Tensor]], config: AlignmentConfig) -> None:
        super().__init__()
        self.objective, self.config = objective, config
        self.__dict__["held_out"] = held_out
        self.best = nn.ParameterList(one.detach().clone() for one in objective.adapters)
        self.best.requires_grad_(False)
        times = -(-config.max_train_steps // config.validation_steps)
        self.register_buffer("evaluations", torch.full((times, 4), torch.nan, dtype=torch.float64))

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's own loss."""
        return self.objective(batch, generator)

    def validate(self, step: int) -> bool:
        """Evaluate the held-out pairs; True where none of the last `patience` evaluations was an improvement."""
        logits, distances = self.objective.held_out(self.held_out, self.config.seed, self.config.train_batch_size)
        accuracy, loss = implicit_accuracy(logits).mean(), self.objective.loss(logits).mean()
        place = len(self._past)
        found = [float(one) for one in (step, accuracy, loss, distances.mean())]
        self.evaluations[place] = torch.tensor(found, dtype=torch.float64)
        if self.kept_step == step:
            self._copy(self.objective.adapters, self.best)
        since = self._past[:, 0] > self.kept_step
        return int(since.sum()) >= self.config.patience

    @property
    def kept_step(self) -> int:
        """The step of the adapters that are kept; 0 is the start."""
        better = [row for row in self._past.tolist() if row[1] > 0.5]
        # the first of several that are equal in both
        return int(max(better, key=lambda row: (row[1], -row[2]))[0]) if better else 0

    def history(self) -> list[dict[str, float]]:
        """The evaluations of the held-out pairs, in order."""
        names = ("step", "accuracy", "loss", "distance")
        rows = self._past.tolist()
        return [{name: float(f"{value:.5g}") for name, value in zip(names, row, strict=True)} for row in rows]

    def keep_best(self) -> None:
        """Give the denoiser the best adapters."""
        self._copy(self.best, self.objective.adapters)

    @property
    def _past(self) -> Tensor:
        """The rows of `evaluations` so far."""
        return self.evaluations[self.evaluations[:, 0].isfinite()]

    @staticmethod
    @torch.no_grad()
    def _copy(source: nn.ParameterList, target: nn.ParameterList) -> None:
        for one, other in zip(source, target, strict=True):
            other.copy_(one)


@checked
def align_generator(
    train_data_dir: str | Path | Sequence[str | Path],
    pretrained_model_name_or_path: str | Path,
    config: AlignmentConfig,
) -> Record:
    """Train adapters of a saved generator on preferences and save them with their record and card.

    Args:
        train_data_dir: one directory or several that `align.preferences.write_preferences` wrote, for the generator's
            own covariates and resolution, with pairs in train and validation.
        pretrained_model_name_or_path: the saved generator.
        config: the settings.

    Returns:
        The record, as saved beside the adapters.

    Raises:
        InputError: for preferences that do not fit the generator, before anything is written.
    """
    directories = [train_data_dir] if isinstance(train_data_dir, str | Path) else train_data_dir
    check_output_dir(config)
    saved = find_generator(pretrained_model_name_or_path)
    preferences, preference_inputs = _read(directories, saved)
    parts = {split: preferences.select(preferences.splits == split) for split in SPLITS}
    examples = _training_examples(parts["train"], config, saved.preset)
    held_out = {
        name: PreferenceExamples(part, config.seed) for name, part in parts.items() if name != "train" and len(part)
    }
    if "validation" not in held_out:
        raise InputError(
            f"train_data_dir: {', '.join(map(str, directories))} has no pair in split validation, by which the "
            "run is stopped; judge some."
        )
    pipeline = load_generator(saved)
    expected = pipeline.image_shape(len(preferences))
    if tuple(preferences.preferred.shape) != expected:
        raise InputError(
            f"train_data_dir: images of shape {tuple(preferences.preferred.shape[1:])}, but this generator makes "
            f"{expected[1:]}; judge images of its own size."
        )
    alpha = config.rank if config.lora_alpha is None else config.lora_alpha
    add_lora(pipeline.unet, config.rank, alpha, config.seed)
    objective = DPOObjective(
        pipeline.unet,
        pipeline.covariate_encoder,
        pipeline.config.space_to_depth,
        pipeline.vae,
        config.beta_dpo,
        config.loss_type,
        config.anchor,
        config.prediction_type,
    )
    stopping = EarlyStopping(objective, held_out["validation"], config).to(pipeline.device)

    def save(directory: Path) -> dict[str, Any]:
        stopping.keep_best()
        save_lora(pipeline.unet, directory)
        return {
            "kept_step": stopping.kept_step,
            "evaluations": stopping.history(),
            **{name: _figures(objective, one, config, saved.preset) for name, one in held_out.items()},
        }

    record = train(
        stopping,
        examples,
        config,
        save,
        {"preferences": preferences.fingerprint, "initial_weights": saved.revision, **preference_inputs},
        {
            "pairs": {name: len(part) for name, part in parts.items()},
            "subjects": {name: len(set(part.subjects.tolist())) for name, part in parts.items()},
            "judges": sorted(set(preferences.judges.tolist())),
        },
        stopping.validate,
        config.validation_steps,
    )
    # a local directory is not a name that others could load
    base = None if Path(pretrained_model_name_or_path).exists() else str(pretrained_model_name_or_path)
    write_lora_card(config.output_dir / "README.md", record, saved.preset, saved.resolution, base)
    return record


def _read(directories: Sequence[str | Path], saved: SavedGenerator) -> tuple[Preferences, dict[str, str]]:
    """The pairs, and the record's inputs about them.

    These are the access to the images that the pairs and the generator were made from, and the predictors, if any, by
    which the pairs were judged: measured by the same, the result would look better than it is.
    """
    accesses, predictors, parts = [saved.access], set(), []
    for directory in directories:
        path = Path(directory) / RECORD
        record = Record.read(path) if path.exists() else Record(stage="preferences")
        preset = record.settings.get("preset", saved.preset.name)
        if preset != saved.preset.name:
            raise InputError(
                f"train_data_dir: {directory} holds preferences of {preset}, but this generator makes "
                f"{saved.preset.name}; give those of its own domain."
            )
        accesses.append(recorded_access(Path(directory)))
        judges = [one.get("judge", {}) for one in record.counts.get("comparisons", {}).values()]
        predictors |= {part["reader"] for judge in judges for part in judge.get("parts", [judge]) if "reader" in part}
        parts.append(read_preferences(directory, saved.preset))
    inputs: dict[str, str] = {"access": strictest(*accesses)}
    if predictors:
        inputs["judge"] = ", ".join(sorted(predictors))
    return reduce(Preferences.concatenate, parts), inputs


def _training_examples(train: Preferences, config: AlignmentConfig, preset: Preset) -> Dataset[dict[str, Tensor]]:
    if not len(train):
        raise InputError("train_data_dir: has no pair in split train; judge some.")
    balanced = PreferenceExamples(train, config.seed, config.balance or (), preset)
    if config.balance is None or config.balancing == "sampling":
        return balanced
    weights = subgroup_weights(balanced.subgroups, len(train))
    return WeightedExamples(PreferenceExamples(train, config.seed), weights)


def _figures(
    objective: DPOObjective, examples: PreferenceExamples, config: AlignmentConfig, preset: Preset
) -> dict[str, Any]:
    """Accuracy with its 95 % bootstrap interval over subjects, of all pairs and of each group; and the distance."""
    logits, distances = objective.held_out(examples, config.seed, config.train_batch_size)
    correct, pairs = implicit_accuracy(logits).numpy(), examples.preferences
    groups: dict[str, dict[str, Any]] = {}
    for name in preset.covariates.names:
        if has_groups(name, preset):
            codes, names = groups_of(pairs.covariates[name], name, preset)
            inside = {group: (codes == code).numpy() for code, group in enumerate(names)}
            groups[name] = {
                group: asdict(bootstrap_mean([correct[rows]], [pairs.subjects[rows].tolist()], config.seed))
                for group, rows in inside.items()
            }
    return {
        "accuracy": asdict(bootstrap_mean([correct], [pairs.subjects.tolist()], config.seed)),
        "distance": float(f"{distances.mean():.5g}"),
        "groups": groups,
    }


@checked
def fuse_generator(
    pretrained_model_name_or_path: str | Path,
    lora_weights: str | Path,
    output_dir: str | Path,
    lora_scale: float = 1.0,
) -> Record:
    """Save a copy of a generator with the adapters that `align_generator` wrote merged into its weights.

    The copy is an ordinary saved generator.

    Args:
        pretrained_model_name_or_path: the generator that was adapted.
        lora_weights: directory of the adapters.
        output_dir: new or empty directory.
        lora_scale: factor of the adapters, 0 or more: 0 is the generator itself, 1 as trained.

    Returns:
        The generator's record with the adapters in it.

    Raises:
        InputError: for adapters of another generator, before anything is written.
    """
    if not 0 <= lora_scale < float("inf"):
        raise InputError(f"lora_scale: {lora_scale:g} is not allowed; give a number from 0 on, 1 as trained.")
    saved, aligned = find_generator(pretrained_model_name_or_path), Record.read(Path(lora_weights) / RECORD)
    if aligned.inputs.get("initial_weights") != saved.revision:
        raise InputError(
            f"lora_weights: {lora_weights} were trained on generator {aligned.inputs.get('initial_weights')}, but "
            f"{pretrained_model_name_or_path} is {saved.revision}; give the one they were trained on."
        )
    base = saved.directory / RECORD
    record = Record.read(base) if base.exists() else Record(stage="fuse", versions=library_versions())
    fused = {name: value for name, value in aligned.inputs.items() if name in ("preferences", "judge")}
    fused |= {
        "fused_into": saved.revision,
        "adapters": file_sha256(Path(lora_weights) / LORA_WEIGHT_NAME_SAFE)[:16],
        "access": strictest(saved.access, recorded_access(Path(lora_weights))),
    }
    record = record.model_copy(
        update={"inputs": {**record.inputs, **fused}, "settings": {**record.settings, "lora_scale": lora_scale}}
    )
    with new_directory(output_dir) as temporary:
        pipeline = load_generator(saved)
        pipeline.load_lora_weights(lora_weights)
        pipeline.fuse_lora(components=["unet"], lora_scale=lora_scale)
        pipeline.unload_lora_weights()
        pipeline.register_to_config(access=record.access)
        pipeline.save_pretrained(temporary, safe_serialization=True)
        record = sealed(record, temporary)
        record.write(temporary / RECORD)
    return record


def write_lora_card(path: Path, record: Record, preset: Preset, resolution: int, base_model: str | None) -> None:
    """Write the card of adapters.

    Args:
        path: of the card.
        record: of the adapters' training.
        preset: the domain.
        resolution: height and width of the images in pixels.
        base_model: the generator's name on the Hub; None if it has none.

    Raises:
        InputError: for a field that the card prints and the record does not hold.
    """
    title = f"SynthFair preference adapters: {preset.title}, {resolution} x {resolution}"
    metadata = ModelCardData(
        license="unknown",
        library_name="diffusers",
        base_model=base_model,
        tags=["lora", "dpo", "diffusion-dpo", "preference-alignment", "synthetic", preset.name.replace("_", "-")],
    )
    found: Mapping[str, Any] = {name: record.measured[name] for name in SPLITS if name in record.measured}
    text = render(
        "lora_card.md.jinja",
        remedy="the card prints it, so align the generator anew",
        metadata=metadata.to_yaml(),
        title=title,
        preset=preset,
        record=record,
        base_model=base_model,
        found=found,
    )
    write_atomically(path, text.encode())
