"""A repository on the Hub: temporary failures are tried again, permanent ones become one sentence.

wait = 1, 2, 4, ... 30 s, or as long as the Hub requests
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn, TypeVar

from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import parse_ratelimit_headers
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_exponential,
)

from ...errors import InputError

__all__ = ["ARGUMENTS", "WORDS", "Kind", "Repository"]

Kind = Literal["dataset", "model"]
ARGUMENTS: dict[Kind, str] = {"dataset": "hub_dataset_id", "model": "hub_model_id"}
WORDS: dict[Kind, str] = {"dataset": "data set", "model": "generator"}
"""The argument that names a repository of each kind, and what is in it."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
SILENCE = 120.0
"""Seconds between attempts, doubled each time; and without a byte from the Hub, after which an attempt has failed."""

TROUBLE = (HTTPError, ConnectionError, TimeoutError)
PASSING = (408, 429, 500, 502, 503, 504)
REMEDIES = {
    401: "the Hub does not accept the token (401); log in with `hf auth login`, or give a token that may write there.",
    403: "the token may not write there (403); give one that may, or another {argument}.",
    404: "the Hub has no such {word}, or hides it from this token (404); check the name and the token's rights.",
    409: "it is being changed by somebody else (409); wait for them to end and run the same command again.",
    412: "it is being changed by somebody else (412); wait for them to end and run the same command again.",
}

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class Repository:
    """A repository on the Hub; calls are repeated while failures are temporary.

    Args:
        kind: dataset or model.
        name: <owner>/<name>.
        token: of the Hub.
        deadline: seconds after the first failure in a row until which calls are repeated.
    """

    def __init__(self, kind: Kind, name: str, token: str, deadline: float) -> None:
        self.kind, self.name, self.argument = kind, name, ARGUMENTS[kind]
        self.api = HfApi(token=token)
        self._token, self._deadline = token, deadline

    def info(self, **where: Any) -> Any:
        """The Hub's description of the repository, or of one revision of it, as huggingface_hub's own class."""
        return self.call(self.api.repo_info, timeout=SILENCE, **where)

    def files(self, revision: str) -> dict[str, RepoFile]:
        """The files of a revision by path."""
        items = self.call(lambda **where: list(self.api.list_repo_tree(recursive=True, revision=revision, **where)))
        return {item.path: item for item in items if isinstance(item, RepoFile)}

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision names, None without such a revision."""
        try:
            return self.info(revision=revision).sha
        except RevisionNotFoundError:
            return None

    def call(self, function: Callable[..., T], **arguments: Any) -> T:
        """The result of a call about this repository, repeated while failures are temporary.

        Args:
            function: of huggingface_hub; takes `repo_id` and `repo_type`.
            **arguments: further arguments.

        Raises:
            InputError: a permanent failure, or a temporary one until the deadline.
            RevisionNotFoundError: a revision that does not exist.
        """
        failures: list[float] = []

        def attempt() -> T:
            try:
                with _bounded_silence():
                    return function(repo_id=self.name, repo_type=self.kind, **arguments)
            except RevisionNotFoundError:
                raise
            except (*TROUBLE, RuntimeError, ValueError) as error:
                cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
                self._raise_permanent(cause)
                raise cause from None

        def is_late(state: RetryCallState) -> bool:
            # tenacity's own limits count from the first attempt, and an upload may take hours before it fails
            failures.append(time.monotonic())
            return failures[-1] + state.upcoming_sleep - failures[0] > self._deadline

        return Retrying(
            retry=retry_if_exception_type(TROUBLE) & retry_if_not_exception_type(RevisionNotFoundError),
            wait=_pause,
            stop=is_late,
            sleep=time.sleep,
            before_sleep=self._announce,
            retry_error_callback=self._give_up,
        )(attempt)

    def _announce(self, state: RetryCallState) -> None:
        LOGGER.warning("%s: %s; trying again in %.0f s", self.name, _what(_failure(state)), state.upcoming_sleep)

    def _give_up(self, state: RetryCallState) -> NoReturn:
        raise InputError(
            f"{self.name}: the Hub was given {self._deadline:g} s to recover and did not ({_what(_failure(state))}); "
            "what was uploaded stays, so run the same command again later."
        ) from None

    def _raise_permanent(self, cause: BaseException) -> None:
        """Raise InputError for a failure that no other attempt would change."""
        if isinstance(cause, OfflineModeIsEnabled):
            raise InputError(f"{self.name}: HF_HUB_OFFLINE is set, so the Hub is not called; unset it.") from None
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            if status in REMEDIES:
                remedy = REMEDIES[status].format(argument=self.argument, word=WORDS[self.kind])
                raise InputError(f"{self.name}: {remedy}") from None
            if status not in PASSING:
                reason = self._without_token(cause.server_message or "no reason given")
                raise InputError(
                    f"{self.name}: the Hub returned an error ({status}: {reason}); correct that and run the same "
                    "command again."
                ) from None
        elif not isinstance(cause, TROUBLE):
            reason = self._without_token(str(cause))
            raise InputError(f"{self.name}: could not be pushed ({reason}); run the same command again.") from None

    def _without_token(self, text: str) -> str:
        return " ".join(text.split()).replace(self._token, "***").rstrip(".")


@contextmanager
def _bounded_silence() -> Iterator[None]:
    """The Hub's client waits without end for a silent server; here, SILENCE seconds."""
    client = get_session()
    before, client.timeout = client.timeout, SILENCE
    try:
        yield
    finally:
        client.timeout = before


def _failure(state: RetryCallState) -> BaseException:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert failure is not None
    return failure


def _pause(state: RetryCallState) -> float:
    """Seconds to wait after an attempt that failed."""
    return max(wait_exponential(FIRST_WAIT, LONGEST_WAIT)(state), _requested_wait(_failure(state)))


def _requested_wait(cause: BaseException) -> float:
    """Seconds that the Hub requests to wait."""
    if not isinstance(cause, HfHubHTTPError):
        return 0.0
    headers = cause.response.headers
    limit, after = parse_ratelimit_headers(headers), headers.get("Retry-After", "")
    if limit is not None and limit.remaining == 0 and cause.response.status_code == 429:
        return float(limit.reset_in_seconds)
    return float(after) if after.isdigit() else 0.0


def _what(cause: BaseException) -> str:
    """A temporary failure in a word: a status, or the kind of trouble with the connection."""
    if isinstance(cause, HfHubHTTPError):
        return f"status {cause.response.status_code}"
    return f"no connection: {type(cause).__name__}"
