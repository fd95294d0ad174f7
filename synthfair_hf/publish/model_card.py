"""The card of a saved generator: YAML as the Hub reads it, and prose; both print records.

A field that a record should hold is an error where it is absent, not a blank; the card says of what has no record
that it is not recorded, not calibrated or not measured.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..domains.preset import Preset
from ..domains.presets import PRESETS
from ..errors import InputError
from ..records import Record, write_atomically
from .pages import render

__all__ = ["write_model_card"]

SOUNDNESS = ("composition_l1", "true_l1", "true_ssim", "reversibility_l1", "delta_auc", "delta_mae", "share_of_gap")
"""Beginnings of the metrics that the model card prints; the scoreboard prints all."""


def write_model_card(
    path: Path,
    preset: Preset,
    record: Record,
    config: Mapping[str, Any],
    soundness: Sequence[Record] = (),
    realism: Sequence[Record] = (),
    calibration: Record | None = None,
    *,
    license: str = "unknown",
    datasets: Sequence[str] = (),
    hub_model_id: str | None = None,
    picture: str | None = None,
    credits: str = "",
    limitations: Sequence[str] = (),
) -> None:
    """Write a generator's card from the records of its training, calibration and measuring.

    Args:
        path: of the card.
        preset: the generator's domain.
        record: of its training.
        config: the pipeline's configuration.
        soundness: records of `synthfair measure soundness` on test patients, one for each world.
        realism: records of `synthfair measure realism` on test patients, one for each world.
        calibration: record of `synthfair calibrate`.
        license: identifier of a licence.
        datasets: names on the Hub of the data sets it was trained on.
        hub_model_id: its repository on the Hub; without one it is a generator inside the package.
        picture: address of the counterfactual grid, relative to the card.
        credits: names the sources of the training images.
        limitations: known limitations of the training images, a sentence each.

    Raises:
        InputError: records of different generators or of another split, or a field that a record should hold and
            does not.
    """
    _check_measured(soundness, realism)
    for name in ("default_guidance_scale", "default_intervention_level"):
        if not isinstance(config[name], Mapping):
            config = {**config, name: dict.fromkeys(preset.covariates.names, config[name])}
    figures = [(one, _figures(one)) for one in soundness]
    title = f"SynthFair generator: {preset.title}, {config['resolution']} x {config['resolution']}"
    metadata = ModelCardData(
        license=license,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["counterfactual", "causal", "fairness", "flow-matching", "medical", "synthetic", _dashed(preset.name)],
        datasets=list(datasets) or None,
        model_name=hub_model_id or title,
        eval_results=[_result(one, row) for one, rows in figures for row, _ in rows if row["mean"] is not None] or None,
    )
    text = render(
        "model_card.md.jinja",
        remedy="the model card prints it, so measure and record it first",
        metadata=metadata.to_yaml(),
        title=title,
        preset=preset,
        record=record,
        config=config,
        planted="scanner" in preset.covariates and config.get("planted_scanner", True),
        unknown=[name for name in PRESETS.get(preset.name, preset).covariates.names if name not in preset.covariates],
        boards=figures,
        realism=realism,
        calibration=calibration,
        flattered=_shares_predictor(record, calibration, soundness),
        hub_model_id=hub_model_id,
        datasets=datasets,
        picture=picture,
        credits=credits,
        limitations=limitations,
    )
    write_atomically(path, text.encode())


def _check_measured(soundness: Sequence[Record], realism: Sequence[Record]) -> None:
    """InputError unless all figures are of one generator and of test patients."""
    for name, records in (("soundness", soundness), ("realism", realism)):
        for one in records:
            if one.settings.get("split") != "test":
                raise InputError(f"{name}: measured on {one.settings.get('split')!r}; measure on test patients first.")
    if len({one.inputs.get("generator") for one in (*soundness, *realism)}) > 1:
        raise InputError("soundness, realism: are of different generators; measure all of one first.")


def _shares_predictor(record: Record, calibration: Record | None, soundness: Sequence[Record]) -> bool | None:
    """Whether training or calibration used an attribute predictor that also measures; None where nothing is recorded.

    Such figures are optimistic.
    """
    used = {record.inputs[name] for name in ("predictor", "judge") if name in record.inputs}
    used |= _predictors([calibration] if calibration else [])
    measuring = _predictors(soundness)
    return bool(measuring & used) if measuring and used else None


def _predictors(records: Sequence[Record]) -> set[str]:
    """Fingerprints of the attribute predictors of these records."""
    return {value for one in records for name, value in one.inputs.items() if name.startswith("predictor ")}


def _figures(soundness: Record) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Figures that the card prints: each one of the generator, and that of the identity (the unchanged image)."""
    rows = [row for row in soundness.measured.get("rows", ()) if row["metric"].startswith(SOUNDNESS)]
    rows = [row for row in rows if row["do"] != "none" or row["metric"].startswith("composition_l1")]
    measured = [row for row in rows if row["system"] not in ("identity", "oracle")]
    if not measured:
        raise InputError("soundness: holds no figure of a generator; run `synthfair measure soundness` first.")
    key = itemgetter("metric", "do", "attribute", "by", "intervention")
    identity = {key(row): row for row in rows if row["system"] == "identity"}
    return [(row, identity.get(key(row))) for row in measured]


def _result(soundness: Record, row: Mapping[str, Any]) -> EvalResult:
    """A figure as the Hub lists it."""
    what = f"{row['metric'].replace('_', ' ')}, do({row['do']})".replace("do(none)", "do()")
    return EvalResult(
        task_type="image-to-image",
        dataset_type=_dashed(soundness.settings["world"]),
        dataset_name=soundness.settings["world"],
        dataset_split=soundness.settings["split"],
        metric_type=row["metric"],
        metric_name=f"{what}, {row['attribute']} by {row['by']}, {row['intervention']}",
        metric_value=float(f"{row['mean']:.3g}"),
    )


def _dashed(name: str) -> str:
    return name.replace("_", "-")
