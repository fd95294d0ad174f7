"""The labelling page: two images side by side, the covariates they are to show, and five keys, blinded to models.

    1 left is better    2 right is better    T tie    R reject both    U undo    C comment, Esc leaves it

The page keeps no state in the browser but the token of the pair it shows (`session`): a stopped server, a reload or a
key pressed twice loses no answer and gives none to a pair that was not seen. Images are embedded as pixels, without
their names, and a content security policy restricts the browser to this server.
"""

import math
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...errors import reason
from ...publish.serving import import_gradio, serve_page
from ...schema import Variable
from ..pixels import to_png
from .session import LONGEST_COMMENT, Choice, Labelling, Progress, ShownPair

__all__ = ["render", "serve"]

LARGEST_BODY = 2**16
"""Bytes of a request: an answer with its comment is smaller."""

QUESTION = "Which image is the better radiograph of this patient?"
RESEARCH_ONLY = "For research on image generators. Not for any decision about a patient."
BUTTONS: dict[Choice, str] = {
    "left": "1 · Left",
    "right": "2 · Right",
    "tie": "T · Tie",
    "reject": "R · Reject both",
}


def serve(labelling: Labelling, port: int | None, ready: Callable[[dict[str, str]], None]) -> None:
    """Serve the page on this machine until interrupted.

    Args:
        labelling: the session.
        port: of the page; None for a free one.
        ready: called once, with the address of each annotator's page.

    Raises:
        InputError: where gradio is not installed, the port is in use, or another page uses the answers.
    """
    gradio, here = import_gradio("label"), Path(__file__).parent

    def opened(address: str) -> None:
        ready({name: f"{address}?annotator={quote(name)}" for name in labelling.annotators})

    with labelling.answers.claim():
        style, script = ((here / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        serve_page(_page(gradio, labelling), style, script, LARGEST_BODY, opened, port)


class _Posted(BaseModel):
    """An answer as the browser sends it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    annotator: str
    token: str
    seconds: float = Field(ge=0)
    comment: str = Field(max_length=LONGEST_COMMENT)


def _page(gradio: Any, labelling: Labelling) -> Any:
    def arrive(request: gradio.Request) -> str:
        return render(labelling, _arrived(labelling, request.query_params.get("annotator")))

    def answer(choice: Choice | None, shown_pair: Any, comment: Any) -> tuple[str, str]:
        # what was sent may be anything
        shown_pair = shown_pair if isinstance(shown_pair, dict) else {}
        try:
            posted = _Posted.model_validate({**shown_pair, "comment": comment})
            if choice is None:
                kept = labelling.undo(posted.annotator, posted.token)
            else:
                kept = labelling.answer(posted.annotator, posted.token, choice, posted.seconds, posted.comment)
        except (OSError, LookupError, ValueError) as error:
            raise gradio.Error(f"Not saved: {reason(error, 'answer', _Posted.model_fields)}", duration=None) from None
        return render(labelling, posted.annotator), "" if kept else posted.comment

    with gradio.Blocks(title="Which is better?", analytics_enabled=False, fill_width=True) as page:
        shown = gradio.HTML(elem_id="shown")
        # filled by the browser: annotator, pair and seconds
        shown_pair = gradio.JSON(visible=False)
        with gradio.Row(elem_id="keys"):
            buttons = {name: gradio.Button(text, elem_id=f"key-{name}") for name, text in BUTTONS.items()}
            undo = gradio.Button("U · Undo", elem_id="key-undo")
        comment = gradio.Textbox(
            placeholder="C · Comment on this pair (optional; Esc leaves it)",
            show_label=False,
            label="Comment on this pair",
            elem_id="comment",
            max_length=LONGEST_COMMENT,
        )
        gradio.HTML(f"<p>{escape(RESEARCH_ONLY)}</p>", elem_id="research-only")
        for choice, button in (*buttons.items(), (None, undo)):
            button.click(
                partial(answer, choice),
                [shown_pair, comment],
                [shown, comment],
                js="(_, comment) => [synthfair.shownPair(), comment]",
                show_progress="hidden",
                api_visibility="private",
            )
        page.load(arrive, None, shown, show_progress="hidden", api_visibility="private")
    return page


def _arrived(labelling: Labelling, name: str | None) -> str | None:
    if name is None and len(labelling.annotators) == 1:
        return labelling.annotators[0]
    return name if name in labelling.annotators else None


def render(labelling: Labelling, annotator: str | None) -> str:
    """The annotator's current pair as HTML; for None, a choice of annotators."""
    if annotator is None:
        links = "".join(
            f'<li><a href="?annotator={quote(name)}">{escape(name)}</a></li>' for name in labelling.annotators
        )
        return f'<section id="pair" class="who"><h1>Choose your name</h1><ul>{links}</ul></section>'
    current, progress = labelling.next_pair(annotator), labelling.progress(annotator)
    body = _done(progress) if current is None else _pair(labelling, current)
    return (
        f'<section id="pair" class="{"done" if current is None else "open"}" data-annotator="{escape(annotator)}" '
        f'data-token="{labelling.token(annotator)}">'
        f'<header><span class="annotator">{escape(annotator)}</span>'
        f'<span class="progress" role="status">{_progress(progress)}</span></header>'
        f'<progress max="{progress.total}" value="{progress.answered}" aria-label="Pairs answered"></progress>'
        f"{body}</section>"
    )


def _done(progress: Progress) -> str:
    return (
        f"<h1>All {progress.total} pairs are answered. Thank you.</h1>"
        "<p>Every answer is saved; you may close this page. U revokes the last one.</p>"
    )


def _pair(labelling: Labelling, shown: ShownPair) -> str:
    pairs, preset = labelling.candidates.pairs, labelling.candidates.preset
    images = [pairs.preferred[shown.row], pairs.rejected[shown.row]]
    values = labelling.candidates.values(shown.row)
    covariates = "".join(
        f"<div><dt>{escape(_plain(name))}</dt><dd>{escape(_words(preset.covariates[name], value))}</dd></div>"
        for name, value in values.items()
        if value is not None
    )
    sides = zip(("left", "right"), "12", reversed(images) if shown.side_swapped else images, strict=True)
    figures = "".join(_figure(*side) for side in sides)
    return f'<h1>{escape(QUESTION)}</h1><dl>{covariates}</dl><div class="radiographs">{figures}</div>'


def _figure(side: str, key: str, image: Tensor) -> str:
    data = b64encode(to_png(image)).decode()
    return (
        f'<figure><img id="radiograph-{side}" src="data:image/png;base64,{data}" alt="Radiograph on the {side}">'
        f"<figcaption>{key}</figcaption></figure>"
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _words(variable: Variable, value: Any) -> str:
    """A value with its unit or as words: `61 years`, `no finding`."""
    return _plain(value) if variable.categorical else f"{round(value, 1):g} {variable.unit}"


def _progress(progress: Progress) -> str:
    """`12 of 200 answered, about 9 minutes left`."""
    text = f"{progress.answered} of {progress.total} answered"
    if progress.seconds_left is None or progress.answered == progress.total:
        return text
    minutes = math.ceil(progress.seconds_left / 60)
    return f"{text}, about {minutes} minute{'' if minutes == 1 else 's'} left"
