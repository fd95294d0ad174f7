"""The Hub as a server on a free port of 127.0.0.1, for the time of a `with` block.

    with Hub() as hub:
        ...                     clients talk to hub.url
        hub.requests            every request so far, in order
        hub.faults              what is to go wrong with the next ones

An error of the Hub's own, not declared as a fault, is raised when the block is left.
"""

import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

from .endpoints import Answer, Request, State, answer
from .faults import Fault
from .repositories import Repository

__all__ = ["Entry", "Hub"]

HOLD = 20.0
"""Seconds a request that is to time out is held; no client of the tests waits as long."""


@dataclass(frozen=True)
class Entry:
    """One request as the Hub saw it: bytes of the body received and sent; status 0 where no answer was given."""

    method: str
    path: str
    status: int
    received: int
    sent: int


class Hub:
    """Starts on entering the block; on leaving it every connection is closed and every thread has ended.

    Lists come in pages of `page` items. `waits` is for who points clients at the Hub: see `clients`.
    """

    def __init__(self, page: int = 1000) -> None:
        self.faults: list[Fault] = []
        self.requests: list[Entry] = []
        self.waits: list[float] = []
        self._lock, self._closing = Lock(), Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.state = State(self.url, page)

    def __enter__(self) -> "Hub":
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.disconnect()
        self._server.server_close()
        self._thread.join()
        if self._server.errors:
            raise self._server.errors[0]

    def repository(self, name: str, kind: str = "datasets") -> Repository:
        """A repository that is there, as the server sees it."""
        return self.state.repositories[kind, name]

    def seen(self, method: str, part: str, status: int = 200) -> list[str]:
        """Paths of the requests so far with this method and status and `part` in the path."""
        with self._lock:
            entries = list(self.requests)
        return [one.path for one in entries if one.method == method and one.status == status and part in one.path]

    def fault(self, method: str, path: str) -> Fault | None:
        """The first declared fault that strikes this request."""
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(method, path)), None)

    def answer(self, request: Request) -> Answer:
        """One request at a time, as if the state were a database."""
        with self._lock:
            return answer(self.state, request)

    def log(self, entry: Entry) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(entry)

    def hold(self) -> None:
        """Wait until the Hub closes, or HOLD seconds."""
        self._closing.wait(HOLD)


class _Server(ThreadingHTTPServer):
    # server_close waits for the threads, so that no test leaves one behind
    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: set[socket.socket] = set()
        self.errors: list[BaseException] = []

    def disconnect(self) -> None:
        """Wake threads that wait for a client's next request."""
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error of the Hub's; anything else is kept for the end."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """The Hub has a log of its own."""

    def _handle(self) -> None:
        fault = self.hub.fault(self.command, self.path)
        if fault and isinstance(fault.kind, str):
            received = self._body(half=True) if fault.kind == "cut" else b""
            self.hub.log(Entry(self.command, self._path, 0, len(received), 0))
            if fault.kind == "timeout":
                self.hub.hold()
            self._reset()
            return
        body = self._body()
        if fault:
            assert isinstance(fault.kind, int)
            given = Answer(b"", fault.kind, fault.headers)
        else:
            given = self.hub.answer(Request(self.command, self.path, self.headers, body))
        sent = b"" if self.command == "HEAD" else given.body
        # before the answer, so that a client that has it finds its request in the log
        self.hub.log(Entry(self.command, self._path, given.status, len(body), len(sent)))
        self.send_response(given.status)
        for name, value in {
            **given.headers,
            "Content-Type": given.type,
            "Content-Length": str(len(given.body)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    def _body(self, half: bool = False) -> bytes:
        """The request's body; or half of it, of one that comes in chunks half of the first."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length // 2 if half else length)
        body = b""
        while length := int(self.rfile.readline(), 16):
            if half:
                return self.rfile.read(length // 2)
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reset(self) -> None:
        """Close with a reset instead of an orderly end, as a broken network does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
