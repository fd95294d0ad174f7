"""The labelling page: two images side by side, the covariates they are to show, and five keys, blinded to models.

    1 left is better    2 right is better    T tie    R reject both    U undo    C comment, Esc leaves it

The page keeps no state in the browser but the token of the pair it shows (`session`): a stopped server, a reload or a
key pressed twice loses no answer and gives none to a pair that was not seen. Images are embedded as pixels, without
their names, and a content security policy restricts the browser to this server.
"""

import json
import math
import os
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...errors import InputError, reason
from ...schema import Variable
from ..pixels import to_png
from .session import LONGEST_COMMENT, Choice, Labelling, Progress, ShownPair

__all__ = ["render", "serve"]

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost", "[::1]"]
"""Names under which a browser on this machine finds the page; a name that another's server resolves to it is none."""

LARGEST_BODY = 2**16
"""Bytes of a request: an answer with its comment is smaller."""

POSTED = ("/gradio_api/queue/join",)
ROUTES = {
    *POSTED,
    *("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/info"),
    *("/gradio_api/heartbeat", "/gradio_api/startup-events"),
}
FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
"""What the page asks for, beside itself; nothing takes uploads or serves files of this machine."""

QUESTION = "Which image is the better radiograph of this patient?"
RESEARCH_ONLY = "For research on image generators. Not for any decision about a patient."
BUTTONS: dict[Choice, str] = {
    "left": "1 · Left",
    "right": "2 · Right",
    "tie": "T · Tie",
    "reject": "R · Reject both",
}
OWN_SERVER_ONLY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
"""Content security policy: nothing is loaded from other servers, also where gradio's own files name them."""


def serve(labelling: Labelling, port: int | None, ready: Callable[[dict[str, str]], None]) -> None:
    """Serve the page on this machine until interrupted.

    Args:
        labelling: the session.
        port: of the page; None for a free one.
        ready: called once, with the address of each annotator's page.

    Raises:
        InputError: where gradio is not installed, the port is in use, or another page uses the answers.
    """
    # read when gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise InputError("label: needs gradio; install it by `pip install 'synthfair-hf[app]'`.") from None
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

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
                app_kwargs={
                    "middleware": [
                        Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS),
                        Middleware(_Door, functions=frozenset(page.fns)),
                    ],
                    "docs_url": None,
                    "redoc_url": None,
                },
            )
        except OSError as error:
            raise InputError(f"port: {port or 'any'} is not available ({error}); give another, or none.") from None
        ready({name: f"{address}?annotator={quote(name)}" for name in labelling.annotators})
        page.block_thread()


class _Door:
    """ASGI middleware: answers this page's own requests alone, and adds `OWN_SERVER_ONLY` to every response."""

    def __init__(self, app: Any, functions: frozenset[int]) -> None:
        self.app, self.functions = app, functions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = (403, "not of this page") if scope["type"] != "http" else _refusal(scope)
        if refusal is None and scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                refusal = 413, f"more than {LARGEST_BODY} bytes"
            elif not _is_call(body, self.functions):
                refusal = 422, "not a request of this page"
            receive = _again(body or b"", receive)

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", OWN_SERVER_ONLY.encode()),
                    (b"cross-origin-resource-policy", b"same-origin"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        if refusal is None:
            await self.app(scope, receive, with_policy)
        elif scope["type"] == "http":
            status, reason = refusal
            headers = [(b"content-type", b"text/plain")]
            await with_policy({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": reason.encode()})
        else:
            await send({"type": "websocket.close", "code": 1008})


def _refusal(scope: Any) -> tuple[int, str] | None:
    """Why a request is not answered, with its status."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    path, method = scope["path"], scope["method"]
    if not (path in ROUTES or path.startswith(FOLDERS)) or ".." in path:
        return 404, "no such page"
    if method not in ("GET", "HEAD", "POST") or (method == "POST") != (path in POSTED):
        return 405, "not allowed"
    own = f"http://{headers.get('host', '')}"
    is_own = headers.get("origin", own) == own and headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    # the address itself may be opened by a link from elsewhere
    if not is_own and (path != "/" or headers.get("sec-fetch-mode") != "navigate"):
        return 403, "of another origin"
    if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "not application/json"
    return None


async def _body(receive: Any) -> bytes | None:
    """The whole body; None where it is larger than allowed."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


class _Call(BaseModel):
    """What the page posts: which of its functions is called, with what."""

    model_config = ConfigDict(strict=True)

    fn_index: int
    data: list[Any]
    session_hash: str


def _is_call(body: bytes, functions: frozenset[int]) -> bool:
    """Whether a body calls a function of the page; it must be text, without halves of characters."""
    try:
        call = _Call.model_validate(json.loads(body))
        json.dumps(call.data, ensure_ascii=False).encode()
    # RecursionError: brackets in brackets
    except (ValueError, RecursionError):
        return False
    return call.fn_index in functions


class _Posted(BaseModel):
    """An answer as the browser sends it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    annotator: str
    token: str
    seconds: float = Field(ge=0)
    comment: str = Field(max_length=LONGEST_COMMENT)


def _again(body: bytes, receive: Any) -> Any:
    """`receive` of a body that was read before."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Any:
        return next(messages, None) or await receive()

    return receive_again


def _page(labelling: Labelling) -> Any:
    import gradio

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
