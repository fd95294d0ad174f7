"""A checkpoint made to harm: it is refused in one sentence, before memory is taken for it or code in it is run."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.errors import InputError


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "checkpoint")


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Weights whose header is changed, and whose tensors are not."""

    def rewrite(whole: bytes) -> bytes:
        (size,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + whole[8 + size :]

    return rewrite


def first(header: dict[str, Any]) -> dict[str, Any]:
    return header[min(set(header) - {"__metadata__"})]


def overlap(header: dict[str, Any]) -> None:
    names = sorted(set(header) - {"__metadata__"})
    header[names[1]] = header[names[0]]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda whole: struct.pack("<Q", 2**63) + b"{}", id="header of 2^63 bytes"),
        pytest.param(lambda whole: struct.pack("<Q", 10**8) + b"{}", id="header beyond the file"),
        pytest.param(lambda whole: struct.pack("<Q", 4) + b"\xff\xfe{}", id="header that is no text"),
        pytest.param(lambda whole: struct.pack("<Q", 10**5) + b"[" * 10**5, id="header without bottom"),
        pytest.param(rewritten(lambda header: first(header).update(shape=[2**40, 2**40])), id="tensor of 2^80 numbers"),
        pytest.param(
            rewritten(lambda header: first(header).update(data_offsets=[0, 2**62])), id="tensor of 2^62 bytes"
        ),
        pytest.param(rewritten(lambda header: first(header).update(data_offsets=[8, 4])), id="tensor that ends early"),
        pytest.param(rewritten(lambda header: first(header).update(dtype="OBJECT")), id="tensor of objects"),
        pytest.param(rewritten(overlap), id="two tensors in one place"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="half a file"),
        pytest.param(lambda whole: b"", id="empty"),
    ],
)
def test_weights_that_claim_what_they_do_not_hold_are_refused(checkpoint, spoil):
    path = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match="can't be loaded") as raised:
        CausalDiffusionPipeline.load(checkpoint)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"unet": ["evil", "Evil"]},
        {"_class_name": ["evil", "Evil"]},
        {"scm": ["subprocess", "Popen"]},
        {"scheduler": ["os.path", "join"]},
    ],
)
def test_code_beside_the_weights_is_never_run(checkpoint, tmp_path, changed):
    for folder in (checkpoint, checkpoint / "unet"):
        (folder / "evil.py").write_text(
            f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Evil: ...\n"
        )
    index = checkpoint / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changed}))
    with pytest.raises(InputError, match="can't be loaded"):
        CausalDiffusionPipeline.load(checkpoint)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "evil.pt", "scm/deep/weights.ckpt", "x.pkl"])
def test_pickle_anywhere_is_refused_unread(checkpoint, name, monkeypatch):
    def never(*arguments, **keywords):
        raise AssertionError("a pickle was read")

    for reader in ("pickle.load", "pickle.loads", "torch.load"):
        monkeypatch.setattr(reader, never)
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(b"cos\ngetpid\n(tR.")
    with pytest.raises(InputError, match=f"holds pickle weights .{Path(name).name}., which can run code"):
        CausalDiffusionPipeline.load(checkpoint)
