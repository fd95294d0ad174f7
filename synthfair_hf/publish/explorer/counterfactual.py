"""One image, what it would have been under do(), where they differ, and what an attribute predictor says of both."""

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ...domains.images import luminance
from ...domains.preset import Preset
from ...errors import InputError
from ...schema import Variable
from ..pages import render
from ..pictures import DIFFERENCE_COLOURS, DIFFERENCE_LIMIT, data_uri, difference_png, image_png

__all__ = ["LARGEST_UPLOAD", "Generator", "Predict", "answer", "shown", "uploaded"]

LARGEST_UPLOAD = 20 * 2**20
"""Bytes of an image file: radiographs have fewer."""

Predict = Callable[[Sequence[np.ndarray]], Mapping[str, np.ndarray]]
"""Of images, probabilities `[n, levels]` of each categorical covariate, and each continuous one `[n]` in its unit."""


class Generator(Protocol):
    """A generator in memory, `diffusion.loaded.LoadedGenerator`; `may_lack` are covariates that may be unknown."""

    preset: Preset
    may_lack: tuple[str, ...]

    def read(self, file: bytes) -> np.ndarray:
        """An image file's pixels."""

    def drawn(
        self, covariates: Mapping[str, Any], do: Mapping[str, Any], seed: int
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """An image of these covariates, what it would have been, and its covariates."""

    def counterfactual(
        self, image: np.ndarray, covariates: Mapping[str, Any], do: Mapping[str, Any], seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """What an image would have been, and its covariates."""


class _Upload(BaseModel):
    """A file as the browser sends it: its size in bytes, and in base64 what it holds unless it is too large."""

    model_config = ConfigDict(strict=True, extra="forbid")

    size: int
    data: str


def uploaded(sent: Any) -> bytes | None:
    """The file that the browser sent; None where none was chosen.

    Args:
        sent: what it sent, which may be anything.

    Raises:
        InputError: no file, or one of more than LARGEST_UPLOAD bytes.
    """
    if sent is None:
        return None
    try:
        upload = _Upload.model_validate(sent)
        file = b64decode(upload.data, validate=True)
    except (ValidationError, NoBase64, ValueError):
        raise InputError("radiograph: was not sent as a file; choose it again.") from None
    if max(upload.size, len(file)) > LARGEST_UPLOAD:
        size, most = upload.size / 2**20, LARGEST_UPLOAD // 2**20
        raise InputError(f"radiograph: its {size:.0f} MiB are more than {most}; give a smaller file.")
    return file


def answer(
    generator: Generator,
    predict: Predict | None,
    file: bytes | None,
    covariates: Mapping[str, Any],
    do: Mapping[str, Any],
    seed: Any,
) -> str:
    """The answer as HTML, with its pictures inside.

    Args:
        generator: what answers.
        predict: an attribute predictor, where there is one.
        file: an uploaded image; None to draw one.
        covariates: of the image, by name; None for those that are unknown.
        do: interventions by name.
        seed: of what is drawn, a whole number from 0 on.

    Raises:
        InputError: a file, value or seed that is not allowed.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed: {seed!r} is not allowed; give a whole number from 0 on.")
    if file is None:
        image, changed, found = generator.drawn(covariates, do, seed)
    else:
        image = generator.read(file)
        changed, found = generator.counterfactual(image, covariates, do, seed)
    difference = luminance(changed) - luminance(image)
    schema = generator.preset.covariates
    predictions = None if predict is None else predict([image, changed])
    return render(
        "explorer_counterfactual.html.jinja",
        drawn=file is None,
        seed=seed,
        pictures={"image": data_uri(image_png(image)), "counterfactual": data_uri(image_png(changed))},
        difference=data_uri(difference_png(difference, DIFFERENCE_LIMIT)),
        mean_difference=float(np.abs(difference).mean()),
        limit=DIFFERENCE_LIMIT,
        colours=DIFFERENCE_COLOURS,
        covariates=[_covariate(one, covariates.get(one.name), found[one.name], do) for one in schema.walk()],
        predicted=None if predictions is None else [line for one in schema.walk() for line in _lines(one, predictions)],
    )


def shown(variable: Variable, value: Any) -> str:
    """A value with its unit or as words: `61 years`, `no finding`, `unknown` of None.

    Args:
        variable: the covariate.
        value: decoded.
    """
    if value is None:
        return "unknown"
    return str(value).replace("_", " ") if variable.categorical else f"{float(value):.3g} {variable.unit}"


def _covariate(variable: Variable, before: Any, after: Any, do: Mapping[str, Any]) -> dict[str, Any]:
    texts = [shown(variable, value) for value in (before, after)]
    why = "set by do()" if variable.name in do else "follows from do()" if texts[0] != texts[1] else ""
    return {"name": variable.name.replace("_", " "), "before": texts[0], "after": texts[1], "why": why}


def _lines(variable: Variable, predictions: Mapping[str, np.ndarray]) -> list[dict[str, str]]:
    """What is predicted of both images: a value, or the probability of each level, of the second of two alone."""
    name, found = variable.name.replace("_", " "), predictions[variable.name]
    if not variable.categorical:
        return [{"name": f"{name}, {variable.unit}", **_change(found, 1)}]
    levels = list(enumerate(variable.levels))
    return [
        {"name": f"{name}: {shown(variable, level)}", **_change(found[:, code], 2)}
        for code, level in (levels[1:] if len(levels) == 2 else levels)
    ]


def _change(found: np.ndarray, digits: int) -> dict[str, str]:
    """Two numbers and their difference, as texts; of what is rounded, so that the three agree."""
    before, after = (round(float(value), digits) for value in found)
    change = round(after - before, digits)
    texts = {"before": f"{before:.{digits}f}", "after": f"{after:.{digits}f}"}
    return {**texts, "change": f"{change:+.{digits}f}".replace("-", "−") if change else f"{0:.{digits}f}"}
