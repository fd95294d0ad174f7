"""The page of the explorer: controls that gradio draws, answers that the tabs' modules render.

A file that is uploaded is sent with the question itself and held in memory for as long as its answer takes; pictures
are in the HTML of the answer. So gradio neither stores nor serves a file, and the page keeps nothing of anybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from ...domains.findings import findings_of
from ...errors import InputError
from ...schema import Variable
from ..serving import LOOPBACK, import_gradio, serve_page
from ..stored import StoredDataSet
from .counterfactual import LARGEST_UPLOAD, Generator, Predict, answer, shown, uploaded
from .families import families_page, number_of_pages, views_of
from .figures import Audit, Leaderboard

__all__ = ["Explored", "explore"]

LARGEST_BODY = LARGEST_UPLOAD * 4 // 3 + 2**16
"""Bytes of a request: a file in base64, and the values of the controls."""

UNKNOWN, UNCHANGED = "unknown", "unchanged"
RESEARCH_ONLY = "For research. Not for any decision about a patient. Nothing that is uploaded is kept."
UPLOAD = (
    '<label for="upload">Radiograph <span class="quiet">(PNG, JPEG, TIFF or DICOM, up to {most} MiB; '
    'without one, an image is drawn)</span></label><input type="file" id="upload" accept="image/*,.dcm,.dicom">'
    '<button type="button" id="remove" hidden>Remove</button>'
)


@dataclass(frozen=True)
class Explored:
    """What the page shows, a tab for each that is given.

    Attributes:
        generator: for counterfactuals.
        predict: what predicts attributes of its images.
        data_set: for its views and families.
        leaderboard: of a benchmark.
        audit: of a classifier.
    """

    generator: Generator
    predict: Predict | None = None
    data_set: StoredDataSet | None = None
    leaderboard: Leaderboard | None = None
    audit: Audit | None = None


def explore(explored: Explored, ready: Callable[[str], None], port: int | None = None, host: str = LOOPBACK) -> None:
    """Serve the page until interrupted.

    Args:
        explored: what it shows.
        ready: called once, with its address.
        port: of the page; None for a free one.
        host: the address at which it listens, as `serving.serve_page`.

    Raises:
        InputError: where gradio is not installed, or the port is in use.
    """
    gradio, here = import_gradio("app"), Path(__file__).parent
    style, script = ((here / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    script = script.replace("LARGEST_UPLOAD", str(LARGEST_UPLOAD))
    serve_page(_page(gradio, explored), style, script, LARGEST_BODY, ready, port, host)


def _page(gradio: Any, explored: Explored) -> Any:
    title = explored.generator.preset.title
    with gradio.Blocks(title=f"SynthFair: {title}", analytics_enabled=False, fill_width=True) as page:
        gradio.HTML(f"<h1>SynthFair explorer</h1><p>{escape(title)}. {escape(RESEARCH_ONLY)}</p>", elem_id="head")
        with gradio.Tabs(overflow_behavior="wrap"):
            with gradio.Tab("Counterfactual"):
                _counterfactual(gradio, page, explored.generator, explored.predict)
            if explored.data_set is not None:
                with gradio.Tab("Data set"):
                    _data_set(gradio, explored.data_set)
            if explored.leaderboard is not None:
                with gradio.Tab("Leaderboard"):
                    _leaderboard(gradio, explored.leaderboard)
            if explored.audit is not None:
                with gradio.Tab("Audit"):
                    _audit(gradio, explored.audit)
    return page


def _answered(ask: Callable[..., str], *values: Any) -> str:
    """The HTML of an answer, or of the sentence that says what is wrong."""
    try:
        return f'<div class="answer">{ask(*values)}</div>'
    except InputError as error:
        return f'<p class="wrong" role="alert">{escape(str(error))}</p>'


def _counterfactual(gradio: Any, page: Any, generator: Generator, predict: Predict | None) -> None:
    variables = list(generator.preset.covariates.walk())
    # what the first answer is about
    changed = next(iter((*findings_of(generator.preset), *(one.name for one in variables if one.categorical))), None)

    def ask(sent: Any, seed: Any, *values: Any) -> str:
        before, after = values[: len(variables)], values[len(variables) :]
        covariates = {
            one.name: None if value == UNKNOWN else value for one, value in zip(variables, before, strict=True)
        }
        do = {
            one.name: value for one, value in zip(variables, after, strict=True) if value not in (None, "", UNCHANGED)
        }
        return answer(generator, predict, uploaded(sent), covariates, do, seed)

    with gradio.Row(elem_id="counterfactual"):
        with gradio.Column(scale=2, min_width=300):
            # filled by the browser
            sent = gradio.JSON(visible=False)
            gradio.HTML(UPLOAD.format(most=LARGEST_UPLOAD // 2**20), elem_id="file")
            seed = gradio.Number(0, label="Seed of what is drawn", precision=0)
            controls = [
                _controls(gradio, one, one.name in generator.may_lack, one.name == changed) for one in variables
            ]
            button = gradio.Button("Show the counterfactual", variant="primary", elem_id="ask")
        with gradio.Column(scale=5, min_width=300):
            shown_answer = gradio.HTML(elem_id="answer")
    asked = [sent, seed, *(one for one, _ in controls), *(two for _, two in controls)]
    upload = "async (_, ...values) => [await synthfair.upload(), ...values]"
    button.click(partial(_answered, ask), asked, shown_answer, js=upload, api_visibility="private")
    # a first answer, to see what the page does
    page.load(partial(_answered, ask), asked, shown_answer, api_visibility="private")


def _controls(gradio: Any, variable: Variable, may_lack: bool, is_changed: bool) -> tuple[Any, Any]:
    """What a covariate of the image is, and what do() sets it to."""
    name = variable.name.replace("_", " ").capitalize()
    with gradio.Row(elem_classes=["covariate", variable.kind]):
        if not variable.categorical:
            low, high = variable.bounds
            own = gradio.Slider(low, high, (low + high) / 2, label=f"{name}, {variable.unit}")
            return own, gradio.Textbox(label=f"do({variable.name})", placeholder=UNCHANGED, max_length=40)
        levels = [(shown(variable, level), level) for level in variable.levels]
        choices = [(UNKNOWN, UNKNOWN), *levels] if may_lack else levels
        own = gradio.Dropdown(choices, value=choices[0][1], label=name, filterable=False)
        set_to = variable.levels[1] if is_changed else UNCHANGED
        choices = [(UNCHANGED, UNCHANGED), *levels]
        return own, gradio.Dropdown(choices, value=set_to, label=f"do({variable.name})", filterable=False)


def _data_set(gradio: Any, store: StoredDataSet) -> None:
    views, splits = views_of(store), store.splits

    def browse(name: str, split: str, page: Any) -> str:
        view = views[name]
        last = number_of_pages(store, view, split)
        if isinstance(page, bool) or not isinstance(page, int) or not 1 <= page <= max(1, last):
            raise InputError(f"page: {page!r} is not allowed; give a whole number from 1 to {max(1, last)}.")
        return f'{families_page(store, view, split, page)}<p class="quiet">Page {page} of {max(1, last)}.</p>'

    with gradio.Row(elem_classes="choices"):
        view = gradio.Dropdown([*views], value=next(iter(views)), label="View", scale=3, min_width=300)
        split = gradio.Dropdown(splits, value=splits[0], label="Split", filterable=False)
        page = gradio.Number(1, label="Page of families", precision=0)
    first = _answered(browse, next(iter(views)), splits[0], 1)
    shown_families = gradio.HTML(first, elem_id="families")
    controls = [view, split, page]
    for one in controls:
        one.change(partial(_answered, browse), controls, shown_families, api_visibility="private")


def _leaderboard(gradio: Any, leaderboard: Leaderboard) -> None:
    names = {"view": ("View", 300), "set": ("Measured on", 120), "metric": ("Metric", 200)}
    first = {name: choices[0][1] for name, choices in leaderboard.choices.items()}
    with gradio.Row(elem_classes="choices"):
        controls = [
            gradio.Dropdown(
                leaderboard.choices[name], value=first[name], label=label, filterable=False, min_width=width
            )
            for name, (label, width) in names.items()
        ]
    shown_figures = gradio.HTML(_answered(leaderboard.page, *first.values()), elem_id="leaderboard")
    for one in controls:
        one.change(partial(_answered, leaderboard.page), controls, shown_figures, api_visibility="private")


def _audit(gradio: Any, audit: Audit) -> None:
    first = next(iter(audit.findings), None)
    with gradio.Row(elem_classes="choices"):
        controls = [
            gradio.Dropdown(audit.attributes, value=audit.attributes[0], label="Attribute", filterable=False),
            gradio.Dropdown(audit.findings, value=first, label="Finding", visible=bool(audit.findings)),
        ]
    shown_figures = gradio.HTML(_answered(audit.page, audit.attributes[0], first), elem_id="audit")
    for one in controls:
        one.change(partial(_answered, audit.page), controls, shown_figures, api_visibility="private")
