"""A causal language model, built on the spot so that each word follows from the one before, writes recipes."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError
from synthfair_hf.generate import recipes
from synthfair_hf.generate.language_model import LanguageModel
from synthfair_hf.generate.recipes import make_recipes

CHEST = PRESETS["chest_xray"]

POSTURES = ("propped on pillows", "turned aside", "an old woman", "lying supine")
DEVICES = ("a chest drain", "a bent catheter", "no devices")
FOLLOWING = {
    "<unk>": ("\n",),
    "\n": ('{"posture": "',),
    '{"posture": "': POSTURES,
    **dict.fromkeys(POSTURES, ('", "devices": "',)),
    '", "devices": "': DEVICES,
    **dict.fromkeys(DEVICES, ('"}',)),
    '"}': ("<end>",),
    "<end>": ("<end>",),
}
"""What may follow each word, with equal probability."""


def save_model(directory: Path, following: dict[str, tuple[str, ...]], chat_template: str | None = None) -> Path:
    """A GPT-2 of one layer that adds nothing, whose head maps each word to those that follow."""
    words = list(FOLLOWING)
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    known = "|".join(map(_escaped, sorted(words, key=len, reverse=True)))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(known), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")
    fast.chat_template = chat_template
    size = len(words)
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size,
            n_embd=size,
            n_layer=1,
            n_head=1,
            n_positions=256,
            tie_word_embeddings=False,
            eos_token_id=vocabulary["<end>"],
            bos_token_id=vocabulary["<end>"],
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.transformer.ln_f.weight.fill_(1)
        network.transformer.wte.weight.copy_(torch.eye(size))
        for word, others in following.items():
            for other in others:
                network.lm_head.weight[vocabulary[other], vocabulary[word]] = 20
    network.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def _escaped(word: str) -> str:
    return "".join(f"\\{one}" if one in '{}"' else one for one in word)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), FOLLOWING)


def written(directory: Path, name: str, model: Path, number: int = 6, seed: int = 0):
    path = directory / f"{name}.jsonl"
    record = make_recipes(path, CHEST, number, seed, model, variables=["posture", "devices"])
    return path.read_bytes(), record


def test_its_phrases_become_recipes_and_every_other_line_is_counted(tmp_path, model):
    text, record = written(tmp_path, "a", model)
    found = [tuple(json.loads(line).values()) for line in text.decode().splitlines()]
    possible = {(posture, device) for posture in POSTURES for device in DEVICES if posture != "an old woman"}
    assert len(set(found)) == len(found) == 6
    assert set(found) <= possible
    counts = record.counts
    assert counts["lines"] == 6 + sum(counts["rejected"].values())
    assert set(counts["rejected"]) >= {"speaks of age", "is a recipe again"}
    assert set(counts["such_as"]) == set(counts["rejected"])
    assert "an old woman" in counts["such_as"]["speaks of age"]
    assert counts["phrases"]["devices"]["other phrases"] == sum(device != "no devices" for _, device in found)
    assert record.inputs == {"language_model": LanguageModel(model).revision}


def test_the_seed_decides_what_is_written(tmp_path, model):
    torch.manual_seed(1)
    first, _ = written(tmp_path, "a", model)
    state = torch.random.get_rng_state()
    again, _ = written(tmp_path, "b", model)
    other, _ = written(tmp_path, "c", model, seed=1)
    assert first == again != other
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_chat_model_is_asked_by_its_template(tmp_path):
    told = "{% for one in messages %}{{ one.role }}: {{ one.content }}{% endfor %}\n"
    text, _ = written(tmp_path, "a", save_model(tmp_path / "model", FOLLOWING, told), number=3)
    assert len(text.splitlines()) == 3


def test_a_model_that_writes_no_recipe_is_given_up_with_nothing_written(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "PATIENCE", 16)
    babbling = save_model(tmp_path / "model", {word: tuple(FOLLOWING) for word in FOLLOWING})
    with pytest.raises(
        InputError, match=r"language_model: of its 16 lines 0 became recipes, and 6 are wanted \(.* JSON"
    ):
        written(tmp_path, "a", babbling)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_it_cannot_read_or_write_is_told(tmp_path):
    broken = save_model(tmp_path / "model", FOLLOWING)
    small = LanguageModel(broken)
    with pytest.raises(InputError, match=r"reads 256 tokens, and the instruction with a line needs [0-9]+; give one"):
        small.write("x\n" * 300, ["y"], 0)
    with torch.no_grad():
        small._loaded[1].lm_head.weight.fill_(torch.nan)
    with pytest.raises(InputError, match=r"can't write \(.*nan.*\); give another model"):
        small.write("x", ["y"], 0)


def test_no_code_is_run_and_no_pickle_read(tmp_path, model):
    with pytest.raises(
        InputError, match=r"language_model: .*nowhere is no saved language model; give a directory with"
    ):
        LanguageModel(tmp_path / "nowhere")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((model / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="weights as safetensors"):
        LanguageModel(pickled)
    remote = save_model(tmp_path / "remote", FOLLOWING)
    config = json.loads((remote / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (remote / "config.json").write_text(json.dumps(config | own))
    (remote / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"can't be loaded .*without code of its own"):
        LanguageModel(remote).write("x", ["y"], 0)
    assert not (tmp_path / "ran").exists()
