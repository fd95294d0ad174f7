"""Access is bound to what it is about; names stay inside; components refuse what the pipeline refuses."""

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

import diffusers.utils.hub_utils
import pytest
import torch
from diffusers import DiffusionPipeline
from hypothesis import example, given
from hypothesis import strategies as st

from synthfair_hf.access import recorded_access, sealed
from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion import saved as saved_module
from synthfair_hf.diffusion.conditioning import CovariateEncoder
from synthfair_hf.diffusion.generator import load_generator, push_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.errors import InputError
from synthfair_hf.measure.predictors import SavedPredictor, load_predictor, train_predictor
from synthfair_hf.records import Record, file_inside
from synthfair_hf.training.config import PredictorTrainingConfig

NAME = "my-lab/generator"
PARTS = ("unet", "covariate_encoder", "scm", "scheduler")
READ: dict[str, Callable[[Path], Any]] = {
    "load": CausalDiffusionPipeline.load,
    "load_generator": load_generator,
    "from_pretrained": CausalDiffusionPipeline.from_pretrained,
    "diffusers": lambda place: DiffusionPipeline.from_pretrained(place, use_safetensors=True),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, save_phantom_generator: Callable[..., Path]) -> Path:
    """A generator as training leaves it; for reading only."""
    return seal(save_phantom_generator(tmp_path_factory.mktemp("trained") / "run", 16, 0), "credentialed")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def seal(directory: Path, access: str) -> Path:
    index = directory / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "access": access}, indent=2))
    sealed(Record(stage="train", inputs={"access": access}), directory).write(directory / "record.json")
    return directory


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls by which diffusers would reach the Hub."""
    calls: list[str] = []
    for name in ("create_repo", "upload_folder", "load_or_create_model_card"):
        if hasattr(diffusers.utils.hub_utils, name):
            monkeypatch.setattr(diffusers.utils.hub_utils, name, lambda *_, name=name, **__: calls.append(name))
    return calls


# -- names


HOSTILE = [
    "../../private", "/etc", "a/../../b", "..", ".", "", "a//b", "/", "C:\\x", "C:x", "\\\\host\\share", "a\\..\\b",
    "a\0b", "a\nb", "\udc80", "~/../x", "unet/../../x", "file:///etc", "a/.", "nul\0",
]  # fmt: skip


@given(
    st.sampled_from(HOSTILE)
    | st.text()
    | st.lists(st.sampled_from(["..", "a", "", ".", "\\", "\0", "C:"])).map("/".join)
)
@example("../private/secret.json")
def test_a_name_stays_inside_or_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str):
    root = tmp_path_factory.getbasetemp() / "names"
    (root / "inside").mkdir(parents=True, exist_ok=True)
    path = None
    with suppress(InputError):
        path = file_inside(root / "inside", name)
    if path is None:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root / "inside")
    assert not PureWindowsPath(name).drive
    assert not PureWindowsPath(name).is_absolute()
    assert ".." not in PureWindowsPath(name).parts


def test_a_link_out_is_refused_and_the_hubs_own_cache_is_not(tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    cache = tmp_path / "models--a--b"
    for folder in ("blobs", "snapshots/1"):
        (cache / folder).mkdir(parents=True)
    (cache / "blobs" / "3").write_text("x")
    snapshot = cache / "snapshots" / "1"
    (snapshot / "file").symlink_to("../../blobs/3")
    (snapshot / "own").symlink_to("file")
    (snapshot / "out").symlink_to(tmp_path / "secret")
    (snapshot / "loop").symlink_to("loop")
    assert file_inside(snapshot, "file").read_text() == file_inside(snapshot, "own").read_text() == "x"
    for name in ("out", "loop"):
        with pytest.raises(InputError, match=f"'{name}' leads out of it"):
            file_inside(snapshot, name)


@pytest.mark.parametrize("name", [*HOSTILE, "a/b", "unet/", "a b", "unet.x", "\N{FULLWIDTH LATIN SMALL LETTER A}"])
def test_a_components_name_reaches_nothing_outside(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.json").write_text("{}")
    index = run / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), name: ["diffusers", "UNet2DConditionModel"]}))
    hashed: list[Path] = []
    monkeypatch.setattr(saved_module, "file_sha256", lambda path: hashed.append(path) or "0")
    for read in (find_generator, CausalDiffusionPipeline.from_pretrained, CausalDiffusionPipeline.load):
        with pytest.raises(InputError, match="is no name of a component") as error:
            read(run)
        assert str(error.value).count("\n") == 0
    with pytest.raises(InputError, match="is no name of a component"):
        push_generator(run, NAME, private=True, token="t")
    assert not hashed


@pytest.mark.parametrize(
    "linked", ["unet", "scm", "unet/config.json", "scm/diffusion_pytorch_model.safetensors", "model_index.json"]
)
def test_a_link_out_of_a_generator_is_neither_hashed_nor_published(run: Path, tmp_path: Path, linked: str):
    shutil.move(run / linked, tmp_path / "elsewhere")
    (run / linked).symlink_to(tmp_path / "elsewhere")
    for read in (find_generator, CausalDiffusionPipeline.load, CausalDiffusionPipeline.from_pretrained):
        with pytest.raises(InputError, match="leads out of it"):
            read(run)
    with pytest.raises(InputError, match="leads out of it"):
        push_generator(run, NAME, private=True, token="t")


@pytest.mark.parametrize("part", ["../../secret.safetensors", "/etc/secret.safetensors", "..\\x.safetensors"])
def test_an_index_of_weights_names_none_outside(run: Path, part: str):
    listed = {"metadata": {}, "weight_map": {"conv_in.weight": part}}
    (run / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(listed))
    for read in (find_generator, CausalDiffusionPipeline.from_pretrained, CausalDiffusionPipeline.load):
        with pytest.raises(InputError, match="leads out of it"):
            read(run)


@pytest.mark.parametrize("value", [[], ["diffusers"], [1, 2], [None, 2], ["a", "b", "c"], {"a": 1}])
def test_an_entry_that_is_no_component_is_none(run: Path, value: Any):
    index = run / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "../odd": value}))
    assert {name.split("/")[0] for name in find_generator(run).files} == {*PARTS, "model_index.json"}


def test_a_component_that_is_missing_is_one_sentence(run: Path):
    shutil.rmtree(run / "scm")
    with pytest.raises(InputError, match=r"scm: is missing, but model_index\.json names it"):
        find_generator(run)


# -- access is bound


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize("after", ['"open"', '"unknown"', '"public"', "null"])
@pytest.mark.parametrize("files", [("record.json",), ("model_index.json",), ("record.json", "model_index.json")])
def test_one_word_does_not_open_a_generator(run: Path, files: tuple[str, ...], after: str):
    for name in files:
        edit(run / name, '"credentialed"', after if name != "record.json" or after != "null" else '"none"')
    with pytest.raises(InputError, match=r"its access|not open|access '"):
        push_generator(run, NAME, token="t")
    with pytest.raises(InputError, match=r"not open|access"):
        load_generator(run).push_to_hub(NAME, token="t")


def test_a_generator_without_its_record_stays_closed(run: Path):
    revision = find_generator(run).revision
    (run / "record.json").unlink()
    assert find_generator(run).access == "credentialed"
    edit(run / "model_index.json", '"credentialed"', '"open"')
    assert find_generator(run).access == "unknown", "a configuration alone opens nothing"
    assert find_generator(run).revision != revision, "the revision covers the access"


def test_a_record_does_not_vouch_for_other_weights(run: Path, tmp_path: Path, save_phantom_generator):
    other = seal(save_phantom_generator(tmp_path / "other", 16, 0, default_steps=3), "open")
    pipeline = CausalDiffusionPipeline.load(other)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1)
    pipeline.save_pretrained(other)
    with pytest.raises(InputError, match="recorded of other contents than those beside it"):
        find_generator(other)
    # steps and strengths are no contents
    pipeline = CausalDiffusionPipeline.load(run)
    pipeline.register_to_config(default_steps=7)
    pipeline.save_config(run)
    assert find_generator(run).access == "credentialed"


def test_a_generator_from_before_counts_as_it_stands_and_that_is_said(
    tmp_path: Path, save_phantom_generator, caplog: pytest.LogCaptureFixture
):
    before = save_phantom_generator(tmp_path / "before", 16, 0)
    Record(stage="train", inputs={"access": "credentialed"}).write(before / "record.json")
    assert '"seal"' not in (before / "record.json").read_text()
    assert find_generator(before).access == "credentialed"
    edit(before / "record.json", "credentialed", "open")
    assert find_generator(before).access == "open"
    with pytest.raises(InputError, match="token"):
        push_generator(before, NAME, token="\n")
    assert "access" not in json.loads((before / "model_index.json").read_text())


# -- refused before any weights are read


@pytest.mark.parametrize("access", ["credentialed", "unknown"])
def test_push_refuses_by_the_records_before_any_weights(run: Path, access: str, monkeypatch: pytest.MonkeyPatch):
    seal(run, access)
    pipeline = CausalDiffusionPipeline.load(run)

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr("synthfair_hf.access.file_sha256", read)
    monkeypatch.setattr("synthfair_hf.diffusion.saved.file_sha256", read)
    monkeypatch.setattr("safetensors.torch.load_file", read)
    monkeypatch.setattr("synthfair_hf.diffusion.release.same_weights", read)
    monkeypatch.setattr(CausalDiffusionPipeline, "load", read)
    monkeypatch.setattr(CausalDiffusionPipeline, "save_pretrained", read)
    for push in (lambda: push_generator(run, NAME, token="t"), lambda: pipeline.push_to_hub(NAME, token="t")):
        with pytest.raises(InputError, match=f"was made from is {access}, not open"):
            push()


# -- components


def pushes(part: Any, place: Path) -> list[Callable[[], Any]]:
    return [
        lambda: part.push_to_hub(NAME),
        lambda: part.push_to_hub(NAME, private=True),
        lambda: part.save_pretrained(place, push_to_hub=True, repo_id=NAME),
        lambda: part.save_config(place, push_to_hub=True, repo_id=NAME),
    ]


@pytest.mark.parametrize("how", READ)
def test_no_component_is_published_that_is_not_open(trained: Path, tmp_path: Path, how: str, no_hub: list[str]):
    pipeline = READ[how](trained)
    again = CausalDiffusionPipeline(**pipeline.components)
    parts = [getattr(one, name) for one in (pipeline, again) for name in PARTS]
    parts += [copy.deepcopy(pipeline.unet), pickle.loads(pickle.dumps(pipeline.scm)), pipeline.components["unet"]]
    for part in parts:
        for push in pushes(part, tmp_path / "copy"):
            with pytest.raises(
                InputError, match=r"was made from images whose access is (credentialed|unknown), not open"
            ):
                push()
        part.save_pretrained(tmp_path / "copy")
    for push in pushes(pipeline, tmp_path / "copy"):
        with pytest.raises(InputError, match=r"not open|given|not published|token"):
            push()
    assert no_hub == []


def test_access_goes_with_the_components(run: Path, tmp_path: Path, no_hub: list[str], monkeypatch):
    seal(run, "open")
    opened = CausalDiffusionPipeline.load(run)
    seal(run, "credentialed")
    (run / "record.json").unlink()
    closed = CausalDiffusionPipeline.load(run)
    parts = dict(closed.components)
    settings = {"preset": closed.config.preset, "resolution": closed.config.resolution}
    for number, again in enumerate(
        (
            CausalDiffusionPipeline(**parts),
            CausalDiffusionPipeline(**parts, **settings, space_to_depth=closed.config.space_to_depth),
            CausalDiffusionPipeline(**parts, access="open"),
            CausalDiffusionPipeline(**{**opened.components, "unet": copy.deepcopy(closed.unet)}),
            CausalDiffusionPipeline.from_pipe(closed),
        )
    ):
        assert again.config.access == "credentialed"
        again.save_pretrained(tmp_path / str(number))
        assert json.loads((tmp_path / str(number) / "model_index.json").read_text())["access"] == "credentialed"
    opened.unet = closed.unet
    assert opened.config.access == "credentialed"
    for part in (closed.unet, closed.scm, opened.scheduler, copy.deepcopy(opened.covariate_encoder)):
        with pytest.raises(InputError, match="access is credentialed, not open"):
            part.push_to_hub(NAME)
    assert no_hub == []


def test_nor_one_that_is_loaded_alone(trained: Path, tmp_path: Path, no_hub: list[str]):
    for part in (StructuralCausalModel.from_pretrained(trained / "scm"), find_generator(trained).causal_model()):
        with pytest.raises(InputError, match="access is credentialed, not open"):
            part.push_to_hub(NAME)
    for kind, name in ((StructuralCausalModel, "scm"), (CovariateEncoder, "covariate_encoder")):
        for part in (kind.from_pretrained(trained, subfolder=name), kind.from_pretrained(trained / name)):
            for push in pushes(part, tmp_path / "copy"):
                with pytest.raises(InputError, match="not open; push the whole generator"):
                    push()
    assert no_hub == []


def test_an_open_component_is_published_until_it_is_changed(run: Path, no_hub: list[str], monkeypatch):
    seal(run, "open")
    for read in READ.values():
        unet = read(run).unet
        monkeypatch.setattr(type(unet), "push_to_hub", lambda self, name: f"pushed {name}", raising=False)
        assert unet.push_to_hub(NAME) == f"pushed {NAME}"
        with torch.no_grad():
            next(unet.parameters()).add_(1)
        with pytest.raises(InputError, match="access is unknown, not open"):
            unet.push_to_hub(NAME)
    assert no_hub == []


# -- what measures


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("predictor") / "predictor"
    config = PredictorTrainingConfig(output_dir=directory, max_train_steps=1, train_batch_size=2, mixed_precision="no")
    train_predictor(PhantomSource(60, 0), config, 16, channels=(8, 8, 8, 8), width=8)
    record = Record.read(directory / "record.json")
    assert record.inputs["access"] == "open", "the phantom is nobody"
    closed = record.model_copy(update={"inputs": {**record.inputs, "access": "credentialed"}})
    sealed(closed, directory).write(directory / "record.json")
    return directory


def test_a_predictor_passes_on_its_access_and_is_bound_to_it(predictor: Path, tmp_path: Path):
    schema = PhantomSource(1, 0).covariates
    assert SavedPredictor(predictor).access == recorded_access(predictor) == "credentialed"
    with pytest.raises(InputError, match="access is credentialed, not open"):
        load_predictor(predictor, schema).push_to_hub(NAME)
    changed = Path(shutil.copytree(predictor, tmp_path / "changed"))
    edit(changed / "record.json", '"credentialed"', '"open"')
    for read in (lambda: load_predictor(changed, schema), lambda: SavedPredictor(changed).access):
        with pytest.raises(InputError, match="its access 'open' was recorded of other contents"):
            read()
    old = Path(shutil.copytree(predictor, tmp_path / "old"))
    record = Record.read(old / "record.json")
    inputs = {name: value for name, value in record.inputs.items() if name != "access"}
    record.model_copy(update={"inputs": inputs, "seal": None}).write(old / "record.json")
    assert SavedPredictor(old).access == "open", "as it was before predictors named theirs"
    assert load_predictor(old, schema)
