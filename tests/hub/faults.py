"""What can go wrong between a client and the Hub, declared as data.

hub.faults.append(Fault("PUT", "/lfs/", "cut", skip=2))      the third upload of a large file breaks off
hub.faults.append(Fault("POST", "/commit/", 503, times=2))   the next two commits are refused
"""

import re
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["CODES", "Fault"]

CODES = {401: "", 402: "", 403: "", 404: "RepoNotFound", 409: "", 412: "", 429: "", 500: "", 503: ""}
"""Statuses a fault may have, and the X-Error-Code the Hub sends with each."""


@dataclass
class Fault:
    """Strikes `times` requests of a method whose path matches `path`, after letting `skip` of them pass.

    `kind` is a status of CODES, or: "timeout", no answer is given; "reset", the connection is reset at once; "cut", it
    is reset once half of the body has arrived. `retry_after` are seconds that a 429 or 503 asks the client to wait.
    `message` is what the Hub says of itself.
    """

    method: str
    path: str
    kind: int | Literal["timeout", "reset", "cut"]
    times: int = 1
    skip: int = 0
    retry_after: int | None = None
    message: str = "a fault on request"
    struck: int = field(default=0, init=False)
    _passed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in (*CODES, "timeout", "reset", "cut"):
            raise ValueError(f"kind: {self.kind!r} is no fault that the Hub knows")

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is struck; each call counts as a request."""
        if self.struck == self.times or method != self.method or not re.search(self.path, path):
            return False
        if self._passed < self.skip:
            self._passed += 1
            return False
        self.struck += 1
        return True

    @property
    def headers(self) -> dict[str, str]:
        """What the Hub sends with the status, as far as clients read it."""
        assert isinstance(self.kind, int)
        headers = {"X-Error-Code": CODES[self.kind], "X-Error-Message": self.message}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
            if self.kind == 429:
                headers["RateLimit"] = f'"api";r=0;t={self.retry_after}'
        return headers
