"""Presets as files: what is written is read again, and whatever is wrong is one sentence with its line."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from synthfair_hf.align.preferences import _features
from synthfair_hf.domains.cells import bare_name
from synthfair_hf.domains.ingested import COLUMNS as INGESTED
from synthfair_hf.domains.preset import Contrast, Network, Preset
from synthfair_hf.domains.preset_file import LARGEST, NAME, preset_yaml, read_preset, why_no_name
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError
from synthfair_hf.generate.store import row_features
from synthfair_hf.records import fingerprint
from synthfair_hf.schema import Schema, Variable
from synthfair_hf.views.layout import word
from synthfair_hf.views.preset import load_preset

OWN = """\
name: glaze
title: Tiles after firing
covariates:
  heat: {kind: continuous, role: acquisition, nature: external/protocol, unit: kilns, range: [1, 9]}
  clay: {kind: categorical, role: protected, nature: patient/anatomy, levels: [red, white, no], aliases: {r: red}}
  crack: {kind: categorical, role: finding, nature: patient/pathology, levels: [none, hair, deep]}
edges: [clay -> crack, heat -> crack]
resolution: 64
factors: [clay, crack]
strata: [heat]
contrasts:
  heat: {first: under 5 kilns, second: 5 kilns and more, threshold: 5}
  clay: {first: red, second: white}
  crack: {first: deep, second: none}
views:
  - clay_imbalanced_90_10
  - crack_clay_correlated_90_10
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "glaze.yaml"


def test_a_file_is_read_as_the_words_that_stand_in_it(own: Path):
    own.write_text(OWN)
    preset = load_preset(own)
    assert preset.covariates["clay"].levels == ("red", "white", "no")
    assert preset.covariates["heat"].bounds == (1, 9)
    assert preset.edges == (("clay", "crack"), ("heat", "crack"))
    assert preset.network == Network()
    assert load_preset(str(own)) == preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_of_the_package_is_read_as_it_is_printed(own: Path, preset: Preset):
    own.write_text(preset_yaml(preset, ["a remark"]))
    found = load_preset(own)
    assert found == preset
    assert fingerprint(found) == fingerprint(preset)


@pytest.mark.parametrize("name", ["dermatology", "brain_mri"])
def test_a_domain_that_needs_no_code_has_at_most_sixty_lines(name: str):
    path = Path(read_preset.__code__.co_filename).parent / name / "preset.yaml"
    assert len(path.read_text().splitlines()) <= 60
    found = read_preset(path)
    assert found.preset is not PRESETS[name]
    assert found.preset == PRESETS[name]


PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
NUMBERS = st.floats(-1e9, 1e9, width=32)
PROTECTED = {"role": "protected", "nature": "patient/demographic"}


@st.composite
def presets(draw: st.DrawFn) -> Preset:
    """Any preset that a file may hold; its views apart."""
    names = draw(st.lists(st.from_regex(NAME, fullmatch=True), min_size=1, max_size=5, unique_by=bare_name))
    names = [name for name in names if why_no_name(name, names) is None] or ["one"]
    variables, contrasts = [], {}
    for name in names:
        if draw(st.booleans()):
            three = st.lists(NUMBERS, min_size=3, max_size=3, unique=True)
            low, threshold, high = sorted(draw(three.filter(lambda found: max(found) - min(found) > 1 / LARGEST)))
            variables.append(
                Variable(name=name, kind="continuous", unit=draw(PRINTABLE), range=(low, high), **PROTECTED)
            )
            first, second = draw(st.lists(PRINTABLE, min_size=2, max_size=2, unique_by=word))
            contrasts[name] = Contrast(first=first, second=second, threshold=threshold)
        else:
            levels = draw(st.lists(PRINTABLE, min_size=2, max_size=4, unique_by=word))
            spelt = draw(st.dictionaries(PRINTABLE, st.sampled_from(levels), max_size=2))
            aliases = {alias: level for alias, level in spelt.items() if alias not in levels}
            optional = draw(st.booleans())
            variables.append(
                Variable(
                    name=name, kind="categorical", levels=tuple(levels), aliases=aliases, optional=optional, **PROTECTED
                )
            )
            contrasts[name] = Contrast(first=levels[0], second=levels[1])
    kept = draw(st.sets(st.sampled_from(names)))
    factors = [one.name for one in variables if one.categorical and draw(st.booleans())]
    pairs = [(cause, effect) for place, cause in enumerate(names) for effect in names[place + 1 :]]
    network = Network(channels=(32, 64), space_to_depth=draw(st.sampled_from([1, 2])))
    return Preset(
        name=draw(st.from_regex(NAME, fullmatch=True).filter(lambda name: name not in PRESETS)),
        title=draw(PRINTABLE),
        covariates=Schema(variables=tuple(variables)),
        edges=tuple(draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else ()),
        resolution=draw(st.sampled_from([4, 32, 96])),
        factors=tuple(factors),
        strata=tuple(name for name in names if name in kept and name not in factors),
        contrasts={name: one for name, one in contrasts.items() if name in kept},
        views=(),
        network=draw(st.sampled_from([network, Network(channels=(32,))])),
    )


QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(preset=presets())
@QUICK
def test_any_preset_is_read_as_it_is_printed(own: Path, preset: Preset):
    own.write_text(preset_yaml(preset), encoding="utf-8")
    found = load_preset(own)
    assert found == preset
    assert fingerprint(found) == fingerprint(preset)
    assert preset_yaml(found) == preset_yaml(preset)


WRONG = [
    ("title: Tiles", "titel: Tiles", "preset: 'titel' is unknown; allowed: .*; did you mean 'title'"),
    ("kind: continuous", "kind: continous", "heat.kind: 'continous' is unknown; .*; did you mean 'continuous'"),
    ("unit: kilns", "units: kilns", "covariates.heat: 'units' is unknown; .*; did you mean 'unit'"),
    ("unit: kilns, ", "", r"covariates.heat: unit is not given"),
    ("[1, 9]", "[9, 1]", "covariates.heat: range 9, 1 is invalid"),
    ("[1, 9]", "[1, 9, 11]", "covariates.heat.range: .* is invalid"),
    ("[1, 9]", "[1, 1e39]", r"covariates.heat: range 1.0, 1e\+39 is invalid"),
    ("[1, 9]", "[-1e308, 1e308]", r"covariates.heat: range -1e\+308, 1e\+308 is invalid"),
    ("[1, 9]", "[0, 1e-300]", "covariates.heat: range 0.0, 1e-300 is invalid"),
    ("[1, 9]", "[16777216, 16777217]", "covariates.heat: range .* told apart to seven digits: give them in another"),
    ("[1, 9]", "[1, .inf]", "covariates.heat.range.1: '.inf' is invalid"),
    ("[1, 9]", "[1, 9], levels: [a, b]", "covariates.heat: levels are for a categorical variable"),
    ("[red, white, no]", "[red, white, red]", "covariates.clay: level 'red' is given again"),
    ("[red, white, no]", "[red]", "covariates.clay: a categorical variable needs two or more levels"),
    ("[red, white, no]", "red", "covariates.clay.levels: 'red' is invalid; give a list"),
    ("[red, white, no]", "[red, white, ' no']", "covariates.clay: ' no' is not a level"),
    ("{r: red}", "{r: rde}", "covariates.clay: alias 'r': 'rde' is unknown; .*; did you mean 'red'"),
    ("{r: red}", "{white: red}", "alias 'white' of 'red' is a level itself"),
    ("{r: red}", "{r: red}, range: [0, 1]", "covariates.clay: range is for a continuous variable"),
    ("  clay: {k", "  image: {k", "covariates: 'image' is a column of its own"),
    ("  clay: {k", "  prompt: {k", "covariates: 'prompt' is a column of its own"),
    ("  clay: {k", "  FileName: {k", "covariates: 'FileName' is a column of its own"),
    ("  clay: {k", "  He_at: {k", "covariates: 'He_at' is another spelling of 'heat'; use another name"),
    ("  clay: {k", "  noise_heat: {k", "covariates: 'noise_heat' is a column of its own"),
    ("  clay: {k", "  type: {k", "covariates: 'type' is reserved"),
    ("  clay: {k", "  the clay: {k", "covariates: 'the clay' is not a name"),
    ("  clay: {k", "  heat: {k", r"'heat' is given again \(first in line 4\)"),
    ("clay -> crack", "caly -> crack", "edges: caly -> crack: 'caly' is unknown; .*; did you mean 'clay'"),
    ("clay -> crack", "clay, crack", "edges: 'clay' is not CAUSE -> EFFECT"),
    ("clay -> crack", "heat -> crack", None),
    ("heat -> crack]", "crack -> clay]", "edges: .* is a cycle"),
    ("heat -> crack]", "heat -> heat]", "edges: heat is a cycle|edges: heat -> heat is a cycle"),
    ("resolution: 64", "resolution: 50", "resolution: 50 is not a multiple of 16"),
    ("resolution: 64", "resolution: 1e9", "resolution: '1e9' is invalid"),
    ("resolution: 64", "resolution: 6400000", "resolution: 6400000 is not allowed"),
    ("resolution: 64", "resolution: 0", "resolution: 0 is not allowed"),
    ("resolution: 64", "network: {channels: [33]}\nresolution: 64", "network.channels: 33 is not a multiple of 32"),
    ("resolution: 64", "network: {width: -1}\nresolution: 64", "network.width: '-1' is invalid"),
    ("factors: [clay, crack]", "factors: [clay, cracks]", "factors: 'cracks' is unknown; .*; did you mean 'crack'"),
    ("factors: [clay, crack]", "factors: [clay, clay]", "factors: clay is given again"),
    ("factors: [clay, crack]", "factors: [clay, heat]", "factors: heat is continuous"),
    ("strata: [heat]", "strata: [clay]", "strata: clay is one of the factors"),
    ("strata: [heat]", "strata: [kiln]", "strata: 'kiln' is unknown"),
    ("threshold: 5", "threshold: 10", "contrasts.heat: threshold 10 is out of range; give one between 1 and 9"),
    (", threshold: 5", "", "contrasts.heat: threshold is not given"),
    ("threshold: 5", "threshold: five", "contrasts.heat.threshold: 'five' is invalid"),
    ("second: white", "second: wite", "contrasts.clay.second: 'wite' is unknown; .*; did you mean 'white'"),
    ("second: white", "second: red", "contrasts.clay: first and second are both 'red'"),
    ("second: white", "second: white, threshold: 1", "contrasts.clay: threshold is for a continuous variable"),
    ("5 kilns and more", "under-5_kilns'", None),
    ("second: 5 kilns and more", "second: under_5_kilns", "have one name in paths"),
    ("  clay: {first", "  clya: {first", "contrasts: 'clya' is unknown; .*; did you mean 'clay'"),
    ("- clay_imbalanced_90_10", "- caly_imbalanced_90_10", "views: .*'caly' is unknown; .*; did you mean 'clay'"),
    ("- clay_imbalanced_90_10", "- clay_imbalanced_90_20", "views: .* sum to 100"),
    ("- clay_imbalanced_90_10", "- crack_clay_correlated_90_10", None),
    ("name: glaze", "name: chest_xray", "name: 'chest_xray' is a preset of this package, and differs"),
    ("name: glaze", "name: a glaze", "name: 'a glaze' is not a name"),
    ("name: glaze", "name: glaze\nname: other", r"'name' is given again \(first in line 1\)"),
    ("name: glaze", "name: !!python/object/apply:os.system [id]", "the tag .* is not supported"),
    ("name: glaze", "name: !!binary aGk=", "the tag .* is not supported"),
    ("name: glaze", "name: &a glaze\ntitle: *a", "repeats a value by an alias"),
    ("name: glaze", "name: 'glaze", "not a readable preset"),
    ("name: glaze", "name: [glaze]", "name: .* is invalid"),
    ("name: glaze", "name: ~", "name: None is invalid"),
    ("name: glaze", "name: " + "g" * 300, "is longer than 200 characters"),
    ("title: Tiles after firing", 'title: "\\u202eTiles"', "not printed"),
    ("title: Tiles", "? [a, b]\n: Tiles", "is not a name"),
]


@pytest.mark.parametrize(
    ("old", "new", "sentence"), WRONG, ids=[f"{n}-{new[:30]}" for n, (_, new, _) in enumerate(WRONG)]
)
def test_whatever_is_wrong_is_one_sentence_with_its_line(own: Path, old: str, new: str, sentence: str | None):
    assert OWN.count(old) == 1 or old == "clay -> crack"
    text = OWN.replace(old, new, 1)
    own.write_text(text)
    if sentence is None:
        # twice the same edge or view, or a quote inside of a word: refused on the second, or allowed
        assert "again" in str(refused(own)) if text.count(new) > 1 else load_preset(own)
        return
    found = str(refused(own))
    named = re.match(rf"{re.escape(str(own))}:(\d+): ", found)
    assert named is not None, found
    assert re.search(sentence, found), found
    first = text.count("\n", 0, OWN.index(old)) + 1
    assert first <= int(named[1]) <= first + max(new.count("\n"), 0) + ("'glaze" in new) * 99, found
    assert "\n" not in found


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as raised:
        load_preset(path)
    return raised.value


def test_a_key_that_is_missing_is_named(own: Path):
    for key in ("name", "title", "edges", "resolution", "factors", "strata"):
        own.write_text("".join(line for line in OWN.splitlines(keepends=True) if not line.startswith(f"{key}:")))
        assert re.search(rf":\d+: preset: {key} is not given; give it.$", str(refused(own)))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "preset: name is not given"),
        (b"- a\n- b\n", "give a mapping with name, title"),
        (b"\xff\xfe\x00", "not a readable preset"),
        (b"a: 1\n---\nb: 2\n", "single document"),
        (b"[" * 100_000, "nested too deeply|not a readable preset"),
        (b"#" * (2**20 + 1), "more than 1048576 bytes"),
        (b"covariates: {" + b"".join(b"v%d: {}, " % n for n in range(101)) + b"}", "is not given"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(own: Path, data: bytes, sentence: str):
    own.write_bytes(data)
    found = str(refused(own))
    assert re.search(sentence, found)
    assert found.startswith(str(own))
    assert "\n" not in found
    assert len(found) < 1000


def test_too_many_covariates_are_refused(own: Path):
    lines = OWN.splitlines(keepends=True)
    more = [lines[4].replace("clay", f"clay{n}") for n in range(100)]
    own.write_text("".join([*lines[:4], *more, *lines[4:]]))
    assert ":3: covariates: 103 are not allowed; give 1 to 100." in str(refused(own))


def test_what_is_no_file_is_refused(tmp_path: Path):
    assert "No such file" in str(refused(tmp_path / "absent.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    assert "not a file" in str(refused(tmp_path / "folder.yaml"))
    with pytest.raises(InputError, match=r"preset: 'chest_xry' is unknown; .*a YAML file; did you mean 'chest_xray'\?"):
        load_preset("chest_xry")
    for name in ("", "a" * 5000, "a\0b", "\udcff"):
        with pytest.raises(InputError, match=r"preset: .* is unknown"):
            load_preset(name)
    with pytest.raises(InputError, match="not a readable preset"):
        load_preset("a\0.yaml")


LINES = OWN.splitlines(keepends=True)


@given(
    line=st.integers(0, len(LINES) - 1),
    junk=st.one_of(
        st.text(max_size=20), st.sampled_from(["*a", "&a b", "!!x y", "- ", "{", "]", "? ", "null", "[[]]"])
    ),
    at=st.integers(0, 30),
)
@settings(QUICK, max_examples=120)
def test_junk_anywhere_is_read_or_refused_in_one_sentence(own: Path, line: int, junk: str, at: int):
    changed = [*LINES]
    changed[line] = changed[line][:at] + junk + changed[line][at:]
    own.write_bytes("".join(changed).encode("utf-8", "surrogatepass"))
    try:
        preset = load_preset(own)
    except InputError as error:
        preset, sentence = None, str(error)
    if preset is None:
        assert sentence.startswith(f"{own}:")
        assert "\n" not in sentence
    else:
        own.write_text(preset_yaml(preset), encoding="utf-8")
        assert load_preset(own) == preset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_is_printed_as_one_that_can_be_loaded_under_a_name_of_its_own(tmp_path: Path, preset: Preset):
    renamed = preset.model_copy(update={"name": "mine"})
    (tmp_path / "mine.yaml").write_text(preset_yaml(renamed), encoding="utf-8")
    assert load_preset(tmp_path / "mine.yaml") == renamed


def test_no_covariate_is_called_as_a_torch_module_calls_its_own():
    for name in dir(nn.ModuleDict()):
        assert why_no_name(name, []) is not None
    for name in ("age", "sex", "set_number", "state_income", "toes", "trains", "values_seen"):
        assert why_no_name(name, []) is None


def test_no_covariate_is_called_as_a_column_of_a_data_set():
    """Of two columns of one name one would be lost without a word."""
    schema = PRESETS["phantom"].covariates
    columns = row_features(schema, measured=True, support=True, prompt=True, context=())
    for name in {*columns, *_features(PRESETS["phantom"]), *INGESTED} - {*schema.names}:
        assert why_no_name(name, schema.names) is not None, name
