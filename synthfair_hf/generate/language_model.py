"""A causal language model on this machine, that goes on with lines of text after an instruction and examples."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..records import file_sha256, fingerprint
from ..training.devices import local_device

__all__ = ["LanguageModel"]

LINES = 16
"""Written at a time."""

TEMPERATURE, TOP_P = 1.0, 0.95
"""Of sampling: diverse, without the tail."""


class LanguageModel:
    """A model saved in the format of `transformers`: config.json, a tokenizer, weights as safetensors.

    No code of the directory is run, and nothing is downloaded.

    Args:
        directory: of the model.

    Raises:
        InputError: it holds no such model.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._files = sorted(
            path
            for pattern in ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
            for path in self._directory.glob(pattern)
            if path.is_file()
        )
        weights = any(path.suffix == ".safetensors" for path in self._files)
        if not weights or not (self._directory / "config.json").is_file():
            raise InputError(
                f"language_model: {directory} is no saved language model; give a directory with config.json, a "
                "tokenizer and weights as safetensors."
            )

    @cached_property
    def revision(self) -> str:
        """Identity of weights, configuration and tokenizer."""
        return fingerprint({path.name: file_sha256(path) for path in self._files})

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        safely = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._directory, **safely)
            model = AutoModelForCausalLM.from_pretrained(self._directory, use_safetensors=True, dtype="auto", **safely)
        except Exception as error:  # whatever a library finds wrong with somebody's files
            raise InputError(
                f"language_model: {self._directory} can't be loaded ({_first_line(error)}); give a "
                "causal language model that transformers opens without code of its own."
            ) from None
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        return tokenizer, model.to(local_device()).eval()

    @torch.inference_mode()
    def write(self, instruction: str, examples: Sequence[str], seed: int) -> list[str]:
        """LINES lines, each sampled after the same text: the instruction, and examples a line each.

        Args:
            instruction: what is asked for.
            examples: lines as they are to be; none is written that is half as long again as the longest.
            seed: of sampling; the same on the same type of device.
        """
        from transformers import StoppingCriteriaList

        tokenizer, model = self._loaded

        def closed(tokens: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return torch.tensor(["}" in tokenizer.decode(row[-1:]) for row in tokens], device=tokens.device)

        text = "\n".join([instruction, *examples, ""])
        if tokenizer.chat_template is not None:
            said = [{"role": "user", "content": f"{text}Answer with one such line."}]
            text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        tokens = tokenizer(text, return_tensors="pt", add_special_tokens=tokenizer.chat_template is None)
        given = {name: tokens[name].to(model.device) for name in ("input_ids", "attention_mask")}
        new = max(len(tokenizer(one)["input_ids"]) for one in examples) * 3 // 2 + 8
        needed, room = given["input_ids"].shape[1] + new, getattr(model.config, "max_position_embeddings", None)
        if room is not None and needed > room:
            raise InputError(
                f"language_model: {self._directory} reads {room} tokens, and the instruction with a line needs "
                f"{needed}; give one that reads more, or fewer variables."
            )
        settings = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "num_return_sequences": LINES}
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            try:
                found = model.generate(
                    **given,
                    **settings,
                    max_new_tokens=new,
                    stopping_criteria=StoppingCriteriaList([closed]),
                    pad_token_id=tokenizer.pad_token_id,
                )
            except (RuntimeError, ValueError, IndexError) as error:
                raise InputError(
                    f"language_model: {self._directory} can't write ({_first_line(error)}); give another model."
                ) from None
        written = tokenizer.batch_decode(found[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return [_line(one) for one in written]


def _line(text: str) -> str:
    """The first line that begins an object, without the fences that chat models put around it; else the first."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return next((one for one in lines if one.startswith("{")), lines[0] if lines else "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
