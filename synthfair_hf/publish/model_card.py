"""The card of a saved generator: YAML as the Hub reads it, and prose; both print records.

A field that a record should hold is an error where it is absent, not a blank; what there is no record of is said to be
not recorded, not calibrated or not measured.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import UndefinedError

from ..domains.preset import Preset
from ..domains.presets import PRESETS
from ..errors import InputError
from ..records import Record, write_atomically
from .pages import render

__all__ = ["write_model_card"]

SOUNDNESS = ("composition_l1", "true_l1", "true_ssim", "reversibility_l1", "delta_auc", "delta_mae")
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
    """Write a generator's card from the records of its training, calibration and measuring; `config` is the pipeline's.

    What there is no record of is said to be not recorded, or not measured. `soundness` and `realism` are what
    `synthfair measure` recorded, one record a world. `datasets` are Hub names of what it was trained on,
    `hub_model_id` is where it lies; without one it is the generator inside the package. `picture` is the address of
    the counterfactual grid, relative to the card; `credits` names the sources of the training images, `limitations`
    what is known of them. Raises InputError for a field that a record should hold and does not.
    """
    for name, records in (("soundness", soundness), ("realism", realism)):
        for one in records:
            if one.settings.get("split") != "test":
                raise InputError(f"{name}: measured on {one.settings.get('split')!r}; measure on test patients first.")
    if len({one.inputs.get("generator") for one in (*soundness, *realism)}) > 1:
        raise InputError("soundness, realism: are of different generators; measure all of one first.")
    for name in ("default_guidance_scale", "default_intervention_level"):
        if not isinstance(config[name], Mapping):
            config = {**config, name: dict.fromkeys(preset.covariates.names, config[name])}
    boards = [(one, _figures(one)) for one in soundness]
    readers = _predictors(soundness)
    taught = {record.inputs[name] for name in ("predictor", "judge") if name in record.inputs}
    judges = _predictors([calibration] if calibration else []) | taught
    title = f"SynthFair generator: {preset.title}, {config['resolution']} x {config['resolution']}"
    metadata = ModelCardData(
        license=license,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["counterfactual", "causal", "fairness", "flow-matching", "medical", "synthetic", _dashed(preset.name)],
        datasets=list(datasets) or None,
        model_name=hub_model_id or title,
        eval_results=[_result(board, row) for board, rows in boards for row, _ in rows if row["mean"] is not None]
        or None,
    )
    try:
        text = render(
            "model_card.md.jinja",
            metadata=metadata.to_yaml(),
            title=title,
            preset=preset,
            record=record,
            config=config,
            planted="scanner" in preset.covariates and config.get("planted_scanner", True),
            unknown=[name for name in PRESETS[preset.name].covariates.names if name not in preset.covariates],
            boards=boards,
            realism=realism,
            calibration=calibration,
            flattered=bool(readers & judges) if readers and judges else None,
            hub_model_id=hub_model_id,
            datasets=datasets,
            picture=picture,
            credits=credits,
            limitations=limitations,
        )
    except UndefinedError as error:
        raise InputError(f"record: {error}; the model card prints it, so measure and record it first.") from None
    write_atomically(path, text.encode())


def _predictors(records: Sequence[Record]) -> set[str]:
    """Fingerprints of the predictors that read something for these records."""
    return {value for one in records for name, value in one.inputs.items() if name.startswith("predictor ")}


def _figures(soundness: Record) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """What the card prints of a board: each figure of the generator, and what doing nothing scores."""
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
