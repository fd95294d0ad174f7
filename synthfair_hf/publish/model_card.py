"""The card of a saved generator: YAML as the Hub reads it, and prose; both print records.

A field that a record should hold is an error where it is absent, not a blank; the card says of what has no record
that it is not recorded, not calibrated or not measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..domains.preset import Preset
from ..domains.presets import PRESETS
from ..errors import InputError
from ..records import FileRecord, Record, write_atomically
from .measured import Measured
from .pages import render

__all__ = ["model_card", "write_model_card"]


def write_model_card(
    path: Path,
    preset: Preset,
    record: Record,
    config: Mapping[str, Any],
    soundness: Sequence[Record] = (),
    realism: Sequence[Record] = (),
    calibration: Record | None = None,
    **told: Any,
) -> None:
    """Write a generator's card as `model_card` prints it; nothing is written where that is an error.

    Args:
        path: of the card.
        preset: the generator's domain.
        record: of its training.
        config: the pipeline's configuration.
        soundness: records of `synthfair measure soundness` on test patients, one for each world.
        realism: records of `synthfair measure realism` on test patients, one for each world.
        calibration: record of `synthfair calibrate`.
        **told: what else `model_card` takes.
    """
    write_atomically(path, model_card(preset, record, config, soundness, realism, calibration, **told))


def model_card(
    preset: Preset,
    record: Record,
    config: Mapping[str, Any],
    soundness: Sequence[Record] = (),
    realism: Sequence[Record] = (),
    calibration: Record | None = None,
    *,
    revision: str,
    license: str = "unknown",
    datasets: Sequence[str] = (),
    hub_model_id: str | None = None,
    creator: str = "unknown",
    url: str | None = None,
    files: Mapping[str, FileRecord] | None = None,
    shipped: bool = False,
    picture: str | None = None,
    credits: str = "",
    limitations: Sequence[str] = (),
) -> bytes:
    """README.md of a generator, from the records of its training, calibration and measuring.

    Args:
        preset: the generator's domain.
        record: of its training.
        config: the pipeline's configuration.
        soundness: records of `synthfair measure soundness` on test patients, one for each world.
        realism: records of `synthfair measure realism` on test patients, one for each world.
        calibration: record of `synthfair calibrate`.
        revision: fingerprint of the generator's weights and configuration.
        license: identifier of a licence.
        datasets: names on the Hub of the data sets it was trained on.
        hub_model_id: its repository on the Hub.
        creator: a person or an organisation that publishes it.
        url: address of its page.
        files: its weights, configuration and records, by name.
        shipped: whether it is the generator inside the package.
        picture: address of the counterfactual grid, relative to the card.
        credits: names the sources of the training images.
        limitations: known limitations of the training images, a sentence each.

    Raises:
        InputError: records of different generators or of another split, or a field that a record should hold and
            does not.
    """
    _check_measured(soundness, realism, revision)
    for name in ("default_guidance_scale", "default_intervention_level"):
        if not isinstance(config[name], Mapping):
            config = {**config, name: dict.fromkeys(preset.covariates.names, config[name])}
    measured = Measured({str(place): one for place, one in enumerate(soundness)})
    boards = measured.boards()
    title = f"SynthFair generator: {preset.title}, {config['resolution']} x {config['resolution']}"
    results = [_result(one, row) for one, rows in boards for row, _ in rows if row["mean"] is not None]
    results += [result for one in realism for result in _realism(one)]
    metadata = ModelCardData(
        license=license,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=["counterfactual", "causal", "fairness", "flow-matching", "medical", "synthetic", _dashed(preset.name)],
        datasets=list(datasets) or None,
        model_name=hub_model_id or title,
        eval_results=results or None,
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
        boards=boards,
        worlds=[*soundness, *realism],
        tested=list(dict.fromkeys(row["do"] for _, rows in boards for row, _ in rows if row["do"] != "none")),
        failures=measured.failures(),
        realism=realism,
        calibration=calibration,
        flattered=_shares_predictor(record, calibration, soundness),
        hub_model_id=hub_model_id,
        license=license,
        datasets=datasets,
        creator=creator,
        url=url,
        revision=revision,
        files=files or {},
        shipped=shipped,
        picture=picture,
        credits=credits,
        limitations=limitations,
    )
    return text.encode()


def _check_measured(soundness: Sequence[Record], realism: Sequence[Record], revision: str) -> None:
    """InputError unless all figures are of this generator and of test patients."""
    for name, records in (("soundness", soundness), ("realism", realism)):
        for one in records:
            if one.settings.get("split") != "test":
                raise InputError(f"{name}: measured on {one.settings.get('split')!r}; measure on test patients first.")
    for found in {one.inputs.get("generator") for one in (*soundness, *realism)} - {revision}:
        raise InputError(f"soundness, realism: are of generator {found}, not of {revision}; measure this one first.")


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


def _result(soundness: Record, row: Mapping[str, Any]) -> EvalResult:
    """A figure as the Hub lists it, with its interval."""
    what = f"{row['metric'].replace('_', ' ')}, do({row['do']})".replace("do(none)", "do()")
    name = f"{what}, {row['attribute']} by {row['by']}, {row['intervention']}"
    return _listed(soundness, row["metric"], name, row["mean"], {"n": row["n"], "low": row["low"], "high": row["high"]})


def _realism(record: Record) -> Iterator[EvalResult]:
    """Fidelity of samples, and their nearness to training images, as the Hub lists them."""
    features, found = record.measured["features"]["overall"], record.measured["memorisation"]["pixels"]
    n = {"n": found["generated"]["n"]}
    for metric in ("precision", "recall"):
        if features[metric] is not None:
            yield _listed(record, metric, f"{metric} of samples", features[metric], n)
    for metric, name, one in (
        ("kernel_distance", "kernel distance of samples", features["kernel_distance"]),
        ("memorisation", "share of samples nearer to a training image than 99 % of held-out images", found["near"]),
    ):
        if one:
            yield _listed(record, metric, name, one["value"], {**n, "low": one["low"], "high": one["high"]})


def _listed(record: Record, metric: str, name: str, value: float, told: Mapping[str, Any]) -> EvalResult:
    rounded = {key: float(f"{one:.3g}") if isinstance(one, float) else one for key, one in told.items()}
    return EvalResult(
        task_type="image-to-image",
        dataset_type=_dashed(record.settings["world"]),
        dataset_name=record.settings["world"],
        dataset_split=record.settings["split"],
        metric_type=metric,
        metric_name=name,
        metric_value=float(f"{value:.3g}"),
        metric_args=rounded,
    )


def _dashed(name: str) -> str:
    return name.replace("_", "-")
