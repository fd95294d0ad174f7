"""Fixtures for test modules that say `pytest_plugins = ["hub.fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from .clients import point_clients_at
from .server import Hub

__all__ = ["hub"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What huggingface_hub itself does against the advice of httpx2 is no error of whoever talks to the Hub."""
    for item in items:
        if "hub" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub that the clients of this process talk to, logged in and without waiting between attempts."""
    with Hub() as running:
        point_clients_at(running, tmp_path / "hub-home", monkeypatch)
        yield running
        close_session()
