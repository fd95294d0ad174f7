"""A page of gradio, served to browsers on this machine: no telemetry, no share, no other server, no file.

Whatever is asked of it but its own pages, scripts and calls is not answered: nothing is uploaded to it, and no file of
this machine is served, for what a page shows is in its HTML. A content security policy restricts the browser to this
server, also where gradio's own files name others.
"""

import json
import os
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import InputError, shown

__all__ = ["LOOPBACK", "check_host", "import_gradio", "serve_page"]

LOOPBACK = "127.0.0.1"
"""The address at which nobody but this machine asks."""

HOSTS = [LOOPBACK, "localhost", "[::1]"]
"""Names under which a browser on this machine finds the page; a name that another's server resolves to it is none."""

POSTED = ("/gradio_api/queue/join",)
ROUTES = {
    *POSTED,
    *("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/info"),
    *("/gradio_api/heartbeat", "/gradio_api/startup-events"),
}
FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
"""What the page asks for, beside itself; nothing takes uploads or serves files of this machine."""

OWN_SERVER_ONLY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; frame-ancestors "
"""Content security policy: nothing is loaded from other servers, also where gradio's own files name them."""

FRAMES = "https://huggingface.co"
"""Where the page of a Space is shown in a frame."""

WAITING = 16
"""Calls that wait for one another, each of which is held in memory."""


def import_gradio(verb: str) -> Any:
    """The module, with its telemetry turned off; InputError where it is not installed.

    Args:
        verb: that needs it.
    """
    # read when gradio is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise InputError(f"{verb}: needs gradio; install it by `pip install 'synthfair-hf[app]'`.") from None
    return gradio


def check_host(host: str) -> IPv4Address:
    """The address of that text; InputError where it is none.

    Args:
        host: such as LOOPBACK, or 0.0.0.0 for every address of this machine.
    """
    try:
        return IPv4Address(host)
    except ValueError:
        raise InputError(f"host: {shown(host)} is no IPv4 address; give {LOOPBACK}, or 0.0.0.0.") from None


def serve_page(
    page: Any,
    style: str,
    script: str,
    largest_body: int,
    ready: Callable[[str], None],
    port: int | None = None,
    host: str = LOOPBACK,
) -> None:
    """Serve a page until interrupted.

    Args:
        page: gradio's Blocks.
        style: of the page, CSS.
        script: of the page, JavaScript.
        largest_body: bytes of the largest request that it makes.
        ready: called once, with the address.
        port: of the page; None for a free one.
        host: the address at which it listens: to this machine alone by default. Any other is open to whoever reaches
            it, under every name, and may be shown in a frame of FRAMES.

    Raises:
        InputError: the port is in use, or the address is none (`check_host`) or not of this machine.
    """
    from gradio.themes import Base
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    is_open = not check_host(host).is_loopback
    page.queue(max_size=WAITING)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            footer_links=[],
            theme=Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=style,
            head=f"<script>{script}</script>",
            app_kwargs={
                "middleware": [
                    Middleware(TrustedHostMiddleware, allowed_hosts=["*"] if is_open else HOSTS),
                    Middleware(_Door, frozenset(page.fns), largest_body, is_open),
                ],
                "docs_url": None,
                "redoc_url": None,
            },
        )
    except OSError:
        raise InputError(f"port: {port or 'any'} is not available at {host}; give another, or none.") from None
    ready(address)
    page.block_thread()


class _Door:
    """ASGI middleware: answers this page's own requests alone, and adds `OWN_SERVER_ONLY` to every response."""

    def __init__(self, app: Any, functions: frozenset[int], largest_body: int, is_open: bool) -> None:
        self.app, self.functions, self.largest_body = app, functions, largest_body
        self.policy = f"{OWN_SERVER_ONLY}'self'{f' {FRAMES}' if is_open else ''}".encode()
        # a Space is behind a proxy, which is what speaks https
        self.schemes = ("http", "https") if is_open else ("http",)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = (403, "not of this page") if scope["type"] != "http" else _refusal(scope, self.schemes)
        if refusal is None and scope["method"] == "POST":
            body = await _body(receive, self.largest_body)
            if body is None:
                refusal = 413, f"more than {self.largest_body} bytes"
            elif not _is_call(body, self.functions):
                refusal = 422, "not a request of this page"
            receive = _again(body or b"", receive)

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", self.policy),
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


def _refusal(scope: Any, schemes: tuple[str, ...]) -> tuple[int, str] | None:
    """Why a request is not answered, with its status; `schemes` are those of the page's own addresses."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    path, method = scope["path"], scope["method"]
    if not (path in ROUTES or path.startswith(FOLDERS)) or ".." in path:
        return 404, "no such page"
    if method not in ("GET", "HEAD", "POST") or (method == "POST") != (path in POSTED):
        return 405, "not allowed"
    own = [f"{scheme}://{headers.get('host', '')}" for scheme in schemes]
    is_own = headers.get("origin", own[0]) in own and headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    # the address itself may be opened by a link from elsewhere
    if not is_own and (path != "/" or headers.get("sec-fetch-mode") != "navigate"):
        return 403, "of another origin"
    if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "not application/json"
    return None


async def _body(receive: Any, largest: int) -> bytes | None:
    """The whole body; None where it is larger than allowed."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
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


def _again(body: bytes, receive: Any) -> Any:
    """`receive` of a body that was read before."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Any:
        return next(messages, None) or await receive()

    return receive_again
