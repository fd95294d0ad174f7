"""Every verb's settings: their flags have help and the functions' own defaults, and a file of them is plain data.

Nothing in such a file is run, looked up or unfolded, and what is refused is told in one line.
"""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml

import synthfair_hf
from synthfair_hf.align.candidates import make_candidates
from synthfair_hf.align.finetuning import align_generator, fuse_generator
from synthfair_hf.align.judgement import judge_candidates
from synthfair_hf.cli import main
from synthfair_hf.cli.parser import flags_of, in_flags, parse
from synthfair_hf.cli.settings import VerbSettings
from synthfair_hf.cli.verbs import RENAMED_VERBS, VERBS
from synthfair_hf.diffusion.counterfactual import counterfactual
from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.further_training import finetune_generator, rectify_generator, super_resolve_generator
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.board import benchmark
from synthfair_hf.generate.dataset import generate_dataset, merge_datasets, repair_dataset, spread_dataset
from synthfair_hf.generate.demo import demo
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.recipes import make_recipes
from synthfair_hf.measure.calibration import calibrate
from synthfair_hf.measure.scoreboard import measure_realism, measure_soundness

ROOT = Path(synthfair_hf.__file__).parent

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)
MERGED = "\n".join(
    ["a0: &a0 {view: full}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
)


FUNCTIONS = {
    "train": train_generator,
    "finetune": finetune_generator,
    "rectify": rectify_generator,
    "super_resolve": super_resolve_generator,
    "calibrate": calibrate,
    "measure soundness": measure_soundness,
    "measure realism": measure_realism,
    "candidates": make_candidates,
    "judge": judge_candidates,
    "align": align_generator,
    "fuse": fuse_generator,
    "recipes": make_recipes,
    "generate": generate_dataset,
    "verify": repair_dataset,
    "merge": merge_datasets,
    "counterfactual": counterfactual,
    "benchmark": benchmark,
    "demo": demo,
}
"""What each verb asks, where its settings are one function's arguments."""

FLAGS_IN_THE_LIBRARY = {
    # the command of another program, which a dry run prints
    "generate/engines.py": {"--with ", "uv run --python "},
}
"""By file, strings that may hold the flag of a command line."""


def strings(source: str) -> list[str]:
    """Every piece of text in a module that is no docstring."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def test_what_may_be_several_takes_several_words():
    """A flag that is a list takes one word and more, as a tuple does."""
    for verb, settings in VERBS.items():
        for flag in flags_of(settings).values():
            assert flag.several or "list[" not in str(flag.field.annotation), (verb, flag.name)


def test_the_library_speaks_of_arguments_and_not_of_flags():
    found = {
        path.relative_to(ROOT).as_posix(): {text for text in strings(path.read_text()) if re.search(r"--[a-z]", text)}
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] != "cli"
    }
    assert {name: texts for name, texts in found.items() if texts} == FLAGS_IN_THE_LIBRARY


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('f"--seed: {1} is"', ["--seed: ", " is"]),
        ('"""--seed"""', []),
        ('def f():\n    "--seed"\n    x = "--tie"', ["--tie"]),
    ],
)
def test_a_planted_flag_is_seen_and_a_docstring_is_not(source, found):
    assert strings(source) == found


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_has_help_and_the_help_ends_with_an_example(verb, capsys):
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    for name, flag in flags_of(VERBS[verb]).items():
        assert flag.field.description, name
        assert flag.field.description.count("\n") == 0
        assert flag.positional or f"--{name}" in text
    assert text.rstrip().splitlines()[-2:] == ["example:", f"  synthfair {verb} {VERBS[verb].example}"]
    assert VERBS[verb].__doc__ in text.replace("\n", " ")
    parse(VERBS[verb], VERBS[verb].example.split())


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_what_is_not_given_is_as_in_the_function(verb):
    parameters = inspect.signature(FUNCTIONS[verb]).parameters
    own = GenerationPlan.model_fields if verb == "generate" else {}
    for name, field in VERBS[verb].model_fields.items():
        if name in parameters and not field.is_required() and parameters[name].default is not inspect.Parameter.empty:
            own_default = str(field.default) if isinstance(field.default, Path) else field.default
            assert own_default in (None, {}, parameters[name].default), name
        known = name in parameters or name in own or name in ("repair", *ENGINE)
        assert known, f"{name} is no argument of {FUNCTIONS[verb].__name__}"


ENGINE = tuple(name for name in inspect.signature(spread_dataset).parameters if name != "settings")


def test_every_verb_is_in_the_table_under_its_own_name_and_runs():
    modules = [import_module(f"synthfair_hf.cli.{one.name}") for one in iter_modules([str(ROOT / "cli")])]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, type)}
    assert {one for one in found if issubclass(one, VerbSettings) and "verb" in vars(one)} == set(VERBS.values())
    assert all(name == one.verb and "run" in vars(one) for name, one in VERBS.items())


@pytest.mark.parametrize(
    ("verb", "words", "name", "value"),
    [
        ("generate", "--levels age=30,50 sex=male", "levels", {"age": ("30", "50"), "sex": ("male",)}),
        ("generate", "--target sex=male:0.7,female:0.3", "target", {"sex": {"male": 0.7, "female": 0.3}}),
        ("generate", "--factors sex finding", "factors", ("sex", "finding")),
        ("generate", "--engine-options time=1:00 partition=gpu", "options", {"time": "1:00", "partition": "gpu"}),
        ("generate", "--guidance-scale=2", "guidance_scale", 2.0),
        ("counterfactual", "--do sex=female age=61", "do", {"sex": "female", "age": "61"}),
        ("counterfactual", "--do", "do", {}),
        ("counterfactual", "--guidance_scale 1.5", "guidance_scale", 1.5),
        ("counterfactual", "--guidance_scale sex=1.5 finding=2", "guidance_scale", {"sex": 1.5, "finding": 2.0}),
        ("measure soundness", "--pairs sex,finding age,sex", "pairs", (("sex", "finding"), ("age", "sex"))),
        ("measure soundness", "--pairs", "pairs", ()),
        ("measure soundness", "--seeds 3 4", "seeds", (3, 4)),
        ("candidates", "--balance sex,finding", "balance", ("sex", "finding")),
        ("judge", "--judges realism=0.5", "weights", {"realism": 0.5}),
        (
            "benchmark",
            "--methods erm jtt:steps=100,batch_size=8",
            "methods",
            (("erm", {}), ("jtt", {"steps": "100", "batch_size": "8"})),
        ),
    ],
)
def test_words_are_values(verb, words, name, value):
    needed = {
        **{"num_subjects": "28", "image": "i", "covariates": "age=61", "world": "phantom", "output_dir": "d"},
        **{"num_pairs": "2", "candidates": "c", "judges": "realism=1", "data_dir": "d", "views": "full"},
    }
    flags = flags_of(VERBS[verb])
    given = words.split()[0].removeprefix("--").replace("-", "_").partition("=")[0]
    rest = [word for one in needed if one in flags and one != given for word in (f"--{one}", needed[one])]
    assert getattr(parse(VERBS[verb], [*rest, *words.split()]), name) == value


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "verb: 'trian' is unknown; allowed: train, .*; did you mean 'train'?"),
        (["measure", "realsim"], "verb: 'measure realsim' is unknown; .*; did you mean 'measure realism'?"),
        (["measure"], "verb: 'measure' is a group of verbs; give one of: measure soundness, measure realism"),
        (["measure", "--limit", "3"], "verb: 'measure' is a group of verbs"),
        (["straightn"], "verb: 'straightn' is unknown; .*; did you mean 'rectify'"),
        ([], "verb: not given; see `synthfair --help`"),
        (["views", "--veiw", "full"], "synthfair views: '--veiw' is unknown; allowed: --preset, .* '--view'"),
        (["views", "full"], "'full': belongs to no flag; see `synthfair views --help`"),
        (["verify"], "DIR: not given on the command line; see `synthfair verify --help`"),
        (["merge", "--output_dir", "d"], "PART: not given on the command line"),
        (["merge", "p", "--out", "d"], ".*'--out' is unknown; allowed: --output_dir, .*; did you mean '--output_dir'"),
        (["verify", "d", "--directry", "d"], ".*'--directry' is unknown; allowed: --repair, "),
        (["rectify", "--pair", "9"], ".*'--pair' is unknown; .*; did you mean '--images'"),
        (["generate", "--dry_run=true"], "--dry_run: takes no value; give --dry_run alone"),
        (["generate", "--num_subjects", "3.0"], "--num_subjects: '3.0' is invalid"),
        (["generate", "--num_subjects", "3", "--seed", str(2**63)], "--seed: '9.*' is invalid"),
        (["train", "--output_dir", "d", "--seed", str(2**64)], "--seed: '1.*' is invalid"),
        (["demo", "--seed", str(2**64)], "--seed: '1.*' is invalid"),
        (["demo", "--output_dir", "a\0b"], r"--output_dir: 'a\\x00b' holds a NUL character"),
        (["demo", "--config_file", "a\0b"], r"--config_file: 'a\\x00b' holds a NUL character"),
        (["demo", "--config_file", "nowhere"], "--config_file: nowhere is not readable"),
        (["label", "--candidates", "c", "--output_file", "f", "--port", "65536"], "--port: '65536' is invalid"),
        (["views", "--view", "nonsense"], "--view: 'nonsense' is no view"),
        (["train", "--output_dir", "d", "--preset", "phantom", "--default_guidance_scale", "-1"], "--default_guid"),
        (["measure", "soundness", "--world", "acquisition", "--output_dir", "d"], "--source: the acquisition world"),
        (["views", "--view"], "argument --view: expected one argument; see `synthfair views --help`"),
        (["rectify", "--pairs", "9"], "--pairs: is called --images now"),
        (["generate"], "--num_subjects: not given; see `synthfair generate --help`"),
        (["train"], "--output_dir: not given; see `synthfair train --help`"),
        (
            ["generate", "--num_subjects", "x"],
            "--num_subjects: 'x' is invalid; give a whole number from 1 to 268435456",
        ),
        (["demo", "--seed", "1.5"], "--seed: '1.5' is invalid; give a whole number from 0 to 9223372036854775807"),
        (
            ["train", "--output_dir", "d", "--access", "all"],
            "--access: 'all' is unknown; allowed: open, unknown, credentialed",
        ),
        (["counterfactual", "--image", "i", "--covariates", "age"], "--covariates: 'age' is not NAME=VALUE"),
        (["benchmark", "--methods", "jtt:steps"], r"--methods\['jtt'\]: 'steps' is not NAME=VALUE"),
        (["push", "d"], "--hub_dataset_id, --hub_model_id: give one of them"),
        (["report", "nowhere"], "directory: 'nowhere' holds no data set"),
    ],
)
def test_what_is_refused_is_told_in_one_line_by_the_names_of_the_flags(words, sentence, capsys):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert re.match(f"synthfair: {sentence}", told), told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "sentence", "told"),
    [
        ("generate", "num_subjects: 0 is", "--num_subjects: 0 is"),
        ("generate", "source_dir: not given", "--source: not given"),
        ("generate", "gate_attempts, gate_tolerance: are", "--gate_attempts, --gate_tolerance: are"),
        ("generate", "levels['age']: 300 is", "--levels['age']: 300 is"),
        ("generate", "gate_attempts, beauty: are", "gate_attempts, beauty: are"),
        ("generate", "levels['a:b']: 300 is", "--levels['a:b']: 300 is"),
        ("benchmark", "methods['jtt']: steps: 0 is", "--methods['jtt']: steps: 0 is"),
        ("generate", "step 3: seed: lower", "step 3: seed: lower"),
        ("train", "learning_rate: 0 is", "--learning_rate: 0 is"),
        ("judge", "weights: none", "--judges: none"),
        ("verify", "directory: none", "directory: none"),
        ("verify", "no colon", "no colon"),
        ("", "seed: 1", "seed: 1"),
    ],
)
def test_arguments_at_the_head_of_a_sentence_become_flags(verb, sentence, told):
    assert in_flags(sentence, VERBS.get(verb)) == told


@pytest.mark.parametrize("words", [["--output_dir", "predictor"], ["--output-dir=./predictor"]])
def test_a_value_at_the_head_of_a_sentence_becomes_no_flag(words, tmp_path):
    assert in_flags("predictor: is not empty", VERBS["generate"], words) == "predictor: is not empty"
    settings = tmp_path / "settings.yaml"
    settings.write_text("output_dir: predictor\n")
    assert in_flags("predictor: is", VERBS["generate"], ["--config_file", str(settings)]) == "predictor: is"


def test_a_renamed_verb_is_refused_with_its_new_name(monkeypatch, capsys):
    monkeypatch.setitem(RENAMED_VERBS, "fit", "train")
    assert main(["fit", "--seed", "1"]) == 2
    assert capsys.readouterr().err == "synthfair: verb: 'fit' is called 'train' now.\n"


def test_a_renamed_flag_in_a_file_is_refused_with_its_new_name(read):
    with pytest.raises(InputError, match=r"config_file: .*: pairs: is called images now"):
        read("pairs: 3", "rectify")


def test_help_and_a_misspelled_verb_need_no_torch():
    commands = [["--help"], ["-h"], ["measure", "--help"], ["train", "--help"], ["trian"], ["--version"]]
    # in one process: what all of them together do not import, none imports alone
    code = (
        "import contextlib, sys\nfrom synthfair_hf.cli import main\n"
        f"for words in {commands}:\n    with contextlib.suppress(SystemExit):\n        main(words)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def seconds(*words: str) -> float:
    """Processor time of one run of this Python."""
    code = (
        "import os, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True); "
        "used = os.times(); print(used.children_user + used.children_system)"
    )
    return float(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True).stdout)


def test_help_takes_at_most_twice_as_long_as_importing_datasets():
    commands = [("-c", "import datasets"), ("-m", "synthfair_hf.cli", "trian")]
    commands.append(("-m", "synthfair_hf.cli", "train", "--help"))
    # in turns, and the least of each: a busy machine, whose processor time is longer, is as busy for all
    runs: list[list[float]] = []
    for _ in range(3):
        runs.append([seconds(*words) for words in commands])
        imported, misspelled, helped = (min(one) for one in zip(*runs, strict=True))
        # once is enough for what is far from the limit
        if max(misspelled, helped) <= 1.6 * imported:
            break
    assert max(misspelled, helped) <= 2 * imported


def test_the_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"synthfair {synthfair_hf.__version__}\n"


@pytest.fixture
def read(tmp_path):
    """Settings of a verb whose file has this text."""

    def read(text: str | bytes, verb: str = "views", *words: str) -> dict:
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return dict(parse(VERBS[verb], ["--config_file", str(path), *words]))

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
        pytest.param("view: a\nview: b", "gives view twice", id="twice"),
        pytest.param("data-dir: a\ndata_dir: b", "gives data_dir twice", id="twice in two spellings"),
        pytest.param('view: "a\\0b"', "view: .* holds a NUL character", id="NUL"),
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


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("generate", "factors"),
        ("align", "train_data_dir"),
        *(("measure soundness", n) for n in ("interventions", "seeds")),
    ],
)
def test_an_empty_list_is_refused_where_a_flag_takes_words(read, verb, name):
    with pytest.raises(InputError, match=f"config_file: {name} of .* is empty; give one value or more"):
        read(f"{name}: []", verb)


def test_what_may_be_empty_may_be_an_empty_list(read):
    words = ("--world", "phantom", "--output_dir", "d")
    assert read("pairs: []", "measure soundness", *words)["pairs"] == ()


def test_a_positional_is_given_on_the_command_line(read):
    with pytest.raises(InputError, match=r"directory of .* is given on the command line, as DIR"):
        read("directory: d", "verify", "d")


def test_a_file_beyond_the_limit_is_not_parsed(read, monkeypatch):
    monkeypatch.setattr("synthfair_hf.yaml_files.MAX_BYTES", 50)
    assert read("view: full" + " " * 40)["view"] == "full"
    with pytest.raises(InputError, match="has more than 50 bytes"):
        read("view: full" + " " * 41)
