"""Making real clients talk to the Hub on localhost: those of this process, and those of a subprocess.

huggingface_hub and datasets read HF_ENDPOINT when they are imported, so in this process their constants are replaced.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfFileSystem, close_session

from .server import Hub

__all__ = ["TOKEN", "environment", "point_clients_at"]

TOKEN = "hf_" + "NoSuchTokenAnywhere" * 2
"""What the clients are logged in with: so distinctive that a leak is found."""


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """Variables under which a subprocess talks to the Hub, with caches below `home`."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }


def point_clients_at(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for this process; where huggingface_hub would wait between attempts, `hub.waits` gets the seconds."""
    for name in ("HF_ENDPOINT", "HF_TOKEN_PATH", "HF_OIDC_RESOURCE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    constants = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=hub.waits.append))
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "DOWNLOADED_DATASETS_PATH": home / "downloads",
        "HF_UPDATE_DOWNLOAD_COUNTS": False,
        "HF_HUB_OFFLINE": False,
        # a server beside the Hub that converts data sets; it has no place on localhost
        "USE_PARQUET_EXPORT": False,
    }.items():
        monkeypatch.setattr(f"datasets.config.{name}", value)
    # what an earlier Hub on the same port said is forgotten
    HfFileSystem.clear_instance_cache()
    close_session()
