"""Every verb's settings: their flags have help and the functions' own defaults, and a file of them is plain data.

Nothing in such a file is run, looked up or unfolded, and what is refused is told in one line.
"""

from pathlib import Path

import pytest
import yaml

import synthfair_hf
from synthfair_hf import cli_parser
from synthfair_hf.cli_parser import parse
from synthfair_hf.errors import InputError

ROOT = Path(synthfair_hf.__file__).parent

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)
MERGED = "\n".join(
    ["a0: &a0 {view: full}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
)


@pytest.fixture
def read(tmp_path):
    """Settings of a verb whose file has this text."""

    def read(text: str | bytes, verb: str = "views", *words: str) -> dict:
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return dict(parse(verb, ["--config_file", str(path), *words]))

    return read


def test_values_lists_and_switches_are_flags_and_the_command_line_wins(read):
    text = "num_subjects: 28\nfactors: [sex, finding]\ndry-run: true\nlicense: null\nguidance_scale: 1e0\nseed: 4\n"
    settings = read(text, "generate", "--seed", "5")
    assert (settings["num_subjects"], settings["factors"], settings["seed"]) == (28, ("sex", "finding"), 5)
    assert settings["dry_run"] is True
    assert settings["license"] is None


@pytest.mark.parametrize("value", ["${HOME}", "$HOME", "~", "{{ 7 * 7 }}", "%(home)s", "`id`"])
def test_no_value_is_interpolated(read, value):
    assert read(yaml.safe_dump({"view": value}))["view"] == value


def test_text_is_utf_8_whatever_the_locale(read):
    assert read("view: \u0645\u0631\u0623\u0629\n")["view"] == "\u0645\u0631\u0623\u0629"


@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir [{}]", "object/new:os.mkdir [[{}]]", "name:os.mkdir", "tuple []"]
)
def test_a_tag_runs_nothing(read, tmp_path, tag):
    with pytest.raises(InputError, match="is not readable YAML"):
        read("view: !!python/" + tag.format(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAUGHS, "repeats a value by an alias; write the value out", id="billion laughs"),
        pytest.param(MERGED, "repeats a value by an alias", id="merged laughs"),
        pytest.param("a: &a [*a]", "repeats a value by an alias", id="a list of itself"),
        pytest.param("[" * 5000, "is not readable YAML", id="deep"),
        pytest.param("view: " + "9" * 5000, "is not readable YAML", id="endless number"),
        pytest.param("view: 2020-13-45", "is not readable YAML", id="no date"),
        pytest.param(b"view: \xff\xff", "is not readable YAML", id="no text"),
        pytest.param("? [a]\n: 1", "is not readable YAML", id="a list as a name"),
        pytest.param("view: {name: full}", "view of .* holds more than a list of values", id="mapping"),
        pytest.param("view: [[full]]", "view of .* holds more than a list of values", id="nested"),
        pytest.param("view: [full, empty]", "view of .* holds 2 values; give one", id="several"),
        pytest.param("view: no", "view of .* is False in YAML; quote what it is to be", id="no"),
        pytest.param("- full", "must map flag names to values", id="list"),
        pytest.param("", "must map flag names to values", id="empty"),
        pytest.param("veiw: full", "'veiw' is unknown; allowed: preset, view, .*; did you mean 'view'", id="unknown"),
        pytest.param("7: full", "'7' is unknown", id="a number as a name"),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(read, text, message):
    with pytest.raises(InputError, match=message) as raised:
        read(text)
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)


def test_a_file_beyond_the_limit_is_not_parsed(read, monkeypatch):
    monkeypatch.setattr(cli_parser, "MAX_BYTES", 50)
    assert read("view: full" + " " * 40)["view"] == "full"
    with pytest.raises(InputError, match="has more than 50 bytes"):
        read("view: full" + " " * 41)
