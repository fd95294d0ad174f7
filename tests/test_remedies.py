"""What messages recommend exists, and does what they say: remedies are taken from the message and carried out."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import synthfair_hf
from synthfair_hf import cli
from synthfair_hf.cli.parser import flags_of
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.errors import InputError
from synthfair_hf.training.config import TrainingConfig
from synthfair_hf.training.loop import train

ROOT = Path(synthfair_hf.__file__).parent
EXTRAS = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def sentences() -> Iterator[tuple[str, str]]:
    """Place and text of every string in the package that is no docstring, the holes of an f-string as {}."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield f"{path.name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
                yield f"{path.name}:{node.lineno}", node.value


def wrong_commands(text: str) -> list[str]:
    """Commands in a text that are no verb of ours, or have a flag that it lacks."""
    wrong = []
    for command in re.findall(r"(?:`|next: |or |run )synthfair ((?:[a-z_]+ ?)+(?:--\w+(?: \S+)? ?)*)", text):
        words = command.split()
        verb = next((name for name in VERBS if words[: len(name.split())] == name.split()), None)
        flags = re.findall(r"--(\w+)", command)
        if verb is None and words[0] not in {name.split()[0] for name in VERBS}:
            wrong.append(command)
        elif verb is not None:
            wrong += [f"{verb} --{flag}" for flag in flags if flag not in {*flags_of(VERBS[verb]), "help"}]
    return wrong


def test_a_planted_command_that_does_not_exist_is_seen():
    assert wrong_commands("; run `synthfair mend` first") == ["mend"]
    assert wrong_commands("; next: synthfair align --candidates x") == ["align --candidates"]
    assert wrong_commands("; next: synthfair align --train_data_dir x or synthfair verify") == []


def test_every_command_in_a_message_is_one_of_ours():
    assert {place: wrong for place, text in sentences() if (wrong := wrong_commands(text))} == {}


def test_every_extra_in_a_message_exists():
    named = {name for _, text in sentences() for name in re.findall(r"synthfair-hf\[(\w+)\]", text)}
    assert named
    assert named <= set(EXTRAS)


def arguments() -> set[str]:
    """Names of the arguments of every function of the package, of the fields of its classes, and of `datasets`' own."""
    names = {"load_dataset"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names |= {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


def test_every_argument_that_a_remedy_names_is_one():
    known = arguments()
    remedy = re.compile(
        r"\b(?:give|lower|raise|and|another) (?:a |an |the )?(?:lower |other |another )?([a-z]+_[a-z_]+)\b"
    )
    named = {
        (place, name) for place, text in sentences() for part in text.split("; ")[1:] for name in remedy.findall(part)
    }
    assert named
    assert {one for one in named if one[1] not in known} == set()


class Line(nn.Module):
    """y = a x of one point."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> tuple[torch.Tensor, dict]:
        return (batch["x"] * self.slope - 1).square().mean(), {}


class Point(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        return {"x": torch.ones(1)}


def run(directory: Path, **settings: Any) -> int:
    """Steps of a run, most of them without warm-up."""
    given = {"train_batch_size": 1, "max_train_steps": 6, "lr_warmup_steps": 0, "checkpointing_steps": 2, **settings}
    config = TrainingConfig(**{"output_dir": directory, "mixed_precision": "no", "ema_decay": 0.5, **given})
    return int(train(Line(), Point(), config, lambda path: None, {}, {}).counts["steps"])


@pytest.fixture
def refused() -> Callable[..., str]:
    def refused(directory: Path, **settings: Any) -> str:
        with pytest.raises(InputError) as error:
            run(directory, **settings)
        return str(error.value)

    return refused


def test_a_loss_that_is_not_finite_is_cured_as_its_message_says(tmp_path: Path, refused):
    told = refused(tmp_path / "first", learning_rate=1e30, checkpointing_steps=1)
    assert re.search(r"the loss is (inf|nan); give a lower learning_rate and another output_dir", told), told
    assert run(tmp_path / "second", learning_rate=1e-3) == 6
    # what it says of resuming is so
    assert "learning_rate: 0.001 != 1e+30" in refused(
        tmp_path / "first", learning_rate=1e-3, checkpointing_steps=1, resume_from_checkpoint="latest"
    )


def test_an_earlier_run_goes_on_as_its_message_says(tmp_path: Path, refused):
    assert run(tmp_path / "run") == 6
    told = refused(tmp_path / "run")
    name, value = re.search(r"give (\w+)='(\w+)' to go on with it, or another output_dir", told).groups()
    assert run(tmp_path / "run", **{name: value}) == 6
    assert run(tmp_path / "other") == 6


def test_every_checkpoint_that_is_offered_can_be_resumed_from(tmp_path: Path, refused):
    assert run(tmp_path / "run") == 6
    told = refused(tmp_path / "run", resume_from_checkpoint="checkpoint-99")
    offered = re.search(r"allowed: (.*)\.$", told)[1].split(", ")
    assert offered == ["latest", "checkpoint-2", "checkpoint-4"]
    for name in offered:
        (tmp_path / "run" / "record.json").unlink()
        assert run(tmp_path / "run", resume_from_checkpoint=name) == 6


def test_other_settings_are_repeated_or_get_a_directory_of_their_own_as_the_message_says(tmp_path: Path, refused):
    assert run(tmp_path / "run", seed=1) == 6
    told = refused(tmp_path / "run", seed=2, resume_from_checkpoint="latest")
    ours, theirs = re.search(r"\(seed: (\d) != (\d)\); repeat them or give another output_dir", told).groups()
    assert (ours, theirs) == ("2", "1")
    assert run(tmp_path / "run", seed=int(theirs), resume_from_checkpoint="latest") == 6
    assert run(tmp_path / "other", seed=2) == 6


COMMANDS: dict[str, tuple[list[str], str, Callable[[list[str], re.Match[str]], list[str]]]] = {
    "a misspelled verb": (["veiws"], r"did you mean '(\w+)'", lambda words, found: [found[1]]),
    "a misspelled flag": (
        ["views", "--veiw", "full"],
        r"did you mean '(--\w+)'",
        lambda words, found: ["views", found[1], "full"],
    ),
    "a misspelled view": (
        ["views", "--view", "sex_inbalanced_90_10"],
        r"did you mean '(\w+)'",
        lambda words, found: ["views", "--view", found[1]],
    ),
    "a misspelled preset": (
        ["views", "--preset", "fantom"],
        r"did you mean '(\w+)'",
        lambda words, found: ["views", "--preset", found[1]],
    ),
    "help": (["generate"], r"see `synthfair (.*)`", lambda words, found: found[1].split()),
    "no verb": ([], r"see `synthfair (.*)`", lambda words, found: found[1].split()),
    "a word of no flag": (["views", "full"], r"see `synthfair (.*)`", lambda words, found: found[1].split()),
    "a group": (["measure"], r"give one of: (\w+ \w+)", lambda words, found: [*found[1].split(), "--help"]),
    "a file of settings that is none": (
        ["views", "--config_file", "nowhere"],
        r"config_file",
        lambda words, found: words[:1],
    ),
    "a NUL": (
        ["views", "--view", "fu\0ll"],
        "holds a NUL character; leave it out",
        lambda words, found: [word.replace("\0", "") for word in words],
    ),
}
"""By name, words that are refused, what the sentence says, and the words that follow its remedy."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_remedy_on_the_command_line_works(name: str, capsys: pytest.CaptureFixture[str]):
    words, sentence, follow = COMMANDS[name]
    assert cli.main(words) == 2
    found = re.search(sentence, told := capsys.readouterr().err)
    assert found, told
    assert cli.main(follow(words, found)) == 0


@pytest.mark.parametrize("verb", ["generate --num_subjects 28", "counterfactual --image x.png --covariates age=61"])
def test_a_generator_that_is_nowhere_is_told_to_be_no_directory(verb: str, tmp_path: Path, capsys):
    place = tmp_path / "run"
    words = [*verb.split(), "--pretrained_model_name_or_path", str(place), "--output_dir", str(tmp_path / "out")]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"synthfair: --pretrained_model_name_or_path: there is no directory '{place}', and no Hub")
    assert told.endswith("; give the output directory of a finished `synthfair train`, or OWNER/NAME.\n")
