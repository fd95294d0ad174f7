"""The page: two images side by side, what they were asked to show, and five keys; nothing on it tells a model.

    1 left is better    2 right is better    T tie    R reject both    U undo    C comment, Esc leaves it

The page in a browser remembers nothing but the token of the pair it shows (`labelling`): a stopped server, a reload or
a key pressed twice loses no answer and gives none to a pair that was not seen. Images travel inside the page as pixels,
without their names, and the browser is told to ask this server alone for anything.
"""

import math
import os
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from ...errors import InputError
from ...schema import Variable
from ..pixels import to_png
from .session import Choice, Labelling, Progress, Question

__all__ = ["render", "serve"]

HOST = "127.0.0.1"
QUESTION = "Which film is the better radiograph of this patient?"
RESEARCH_ONLY = "For research on image generators. No basis for any decision about a patient."
BUTTONS: dict[Choice, str] = {
    "left": "1 · Left",
    "right": "2 · Right",
    "tie": "T · Tie",
    "reject": "R · Reject both",
}
OWN_SERVER_ONLY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
"""Content security policy: whatever gradio's own files name beyond this server is not loaded."""


def serve(labelling: Labelling, port: int | None, ready: Callable[[dict[str, str]], None]) -> None:
    """Show the page on this machine, at a free port if None is given, until interrupted.

    `ready` is called once, with the address of each annotator's page.
    """
    # read when gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise InputError("label: needs gradio; install it by `pip install 'synthfair-hf[app]'`.") from None
    from starlette.middleware import Middleware

    here = Path(__file__).parent
    with labelling.answers.claim():
        page = _page(labelling)
        try:
            _, address, _ = page.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                ssr_mode=False,
                quiet=True,
                inbrowser=False,
                prevent_thread_lock=True,
                footer_links=[],
                theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=(here / "page.css").read_text(encoding="utf-8"),
                head=f"<script>{(here / 'page.js').read_text(encoding='utf-8')}</script>",
                app_kwargs={"middleware": [Middleware(_Policy)], "docs_url": None, "redoc_url": None},
            )
        except OSError as error:
            raise InputError(f"port: {port or 'any'} can't be had ({error}); give another, or none.") from None
        ready({name: f"{address}?annotator={quote(name)}" for name in labelling.annotators})
        page.block_thread()


class _Policy:
    """ASGI: every response names `OWN_SERVER_ONLY`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", OWN_SERVER_ONLY.encode()),
                ]
            await send(message)

        await self.app(scope, receive, stamped)


def _page(labelling: Labelling) -> Any:
    import gradio

    def arrive(request: gradio.Request) -> str:
        return render(labelling, _arrived(labelling, request.query_params.get("annotator")))

    def say(choice: Choice | None, asked: dict[str, Any], comment: str) -> tuple[str, str]:
        annotator, token = str(asked["annotator"]), str(asked["token"])
        try:
            if choice is None:
                kept = labelling.undo(annotator, token)
            else:
                kept = labelling.answer(annotator, token, choice, float(asked["seconds"]), comment)
        except (OSError, InputError) as error:
            raise gradio.Error(f"Not saved: {error}", duration=None) from None
        return render(labelling, annotator), "" if kept else comment

    with gradio.Blocks(title="Which is better?", analytics_enabled=False, fill_width=True) as page:
        shown = gradio.HTML(elem_id="shown")
        # filled by the browser: whom it asks, what it shows, and since when
        asked = gradio.JSON(visible=False)
        with gradio.Row(elem_id="keys"):
            buttons = {name: gradio.Button(text, elem_id=f"key-{name}") for name, text in BUTTONS.items()}
            undo = gradio.Button("U · Undo", elem_id="key-undo")
        comment = gradio.Textbox(
            placeholder="C · Comment on this pair (optional; Esc leaves it)",
            show_label=False,
            label="Comment on this pair",
            elem_id="comment",
            max_length=2000,
        )
        gradio.HTML(f"<p>{escape(RESEARCH_ONLY)}</p>", elem_id="research-only")
        for choice, button in (*buttons.items(), (None, undo)):
            button.click(
                partial(say, choice),
                [asked, comment],
                [shown, comment],
                js="(_, comment) => [synthfair.asked(), comment]",
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
    """What an annotator is shown now, as HTML; for None, a choice of annotators."""
    if annotator is None:
        links = "".join(
            f'<li><a href="?annotator={quote(name)}">{escape(name)}</a></li>' for name in labelling.annotators
        )
        return f'<section id="pair" class="who"><h1>Who are you?</h1><ul>{links}</ul></section>'
    asked, progress = labelling.question(annotator), labelling.progress(annotator)
    body = _done(progress) if asked is None else _pair(labelling, asked)
    return (
        f'<section id="pair" class="{"done" if asked is None else "asked"}" data-annotator="{escape(annotator)}" '
        f'data-token="{labelling.token(annotator)}">'
        f'<header><span class="annotator">{escape(annotator)}</span>'
        f'<span class="progress" role="status">{_progress(progress)}</span></header>'
        f'<progress max="{progress.total}" value="{progress.answered}" aria-label="Pairs answered"></progress>'
        f"{body}</section>"
    )


def _done(progress: Progress) -> str:
    return (
        f"<h1>All {progress.total} pairs are answered. Thank you.</h1>"
        "<p>Every answer is saved; you may close this page. U takes the last one back.</p>"
    )


def _pair(labelling: Labelling, asked: Question) -> str:
    pairs, preset = labelling.candidates.pairs, labelling.candidates.preset
    images = [pairs.preferred[asked.row], pairs.rejected[asked.row]]
    told = labelling.candidates.values(asked.row)
    covariates = "".join(
        f"<div><dt>{escape(_plain(name))}</dt><dd>{escape(_words(preset.covariates[name], value))}</dd></div>"
        for name, value in told.items()
        if value is not None
    )
    sides = zip(("left", "right"), "12", reversed(images) if asked.side_swapped else images, strict=True)
    figures = "".join(_figure(*side) for side in sides)
    return f'<h1>{escape(QUESTION)}</h1><dl>{covariates}</dl><div class="films">{figures}</div>'


def _figure(side: str, key: str, image: Tensor) -> str:
    data = b64encode(to_png(image)).decode()
    return (
        f'<figure><img id="film-{side}" src="data:image/png;base64,{data}" alt="The film on the {side}">'
        f"<figcaption>{key}</figcaption></figure>"
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _words(variable: Variable, value: Any) -> str:
    """A value as a person says it: `61 years`, `no finding`."""
    return _plain(value) if variable.categorical else f"{round(value, 1):g} {variable.unit}"


def _progress(progress: Progress) -> str:
    """`12 of 200 answered, about 9 minutes left`."""
    text = f"{progress.answered} of {progress.total} answered"
    if progress.seconds_left is None or progress.answered == progress.total:
        return text
    minutes = math.ceil(progress.seconds_left / 60)
    return f"{text}, about {minutes} minute{'' if minutes == 1 else 's'} left"
