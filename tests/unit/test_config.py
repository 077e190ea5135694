"""Settings and flags: files, defaults, ranges and the sentences people read when they err."""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fedjury import registry
from fedjury.config import flags, renamed
from fedjury.config.__main__ import main as upgrade
from fedjury.config.section import bounds, example_of, type_of
from fedjury.config.sections import (
    RENAMED,
    Dirichlet,
    LogNormal,
    Settings,
    SettingsError,
    Uniform,
)
from fedjury.config.settings import field_of, fields, load
from fedjury.config.sizes import ALLOWED
from fedjury.config.toml import default_toml, to_toml
from fedjury.protocol.compression import CODECS, ENCODINGS, ZSTD
from fedjury.protocol.credentials import address_of
from fedjury.registry import (
    ATTACKS,
    BACKDOORS,
    DATASETS,
    JUDGES,
    MODELS,
    RULES,
    SPLITS,
    VOTE_ATTACKS,
    Registry,
)

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "config" / "default.toml"
SCENARIOS = sorted(file.stem for file in (ROOT / "config").glob("*.toml"))

FIELDS = fields()
"""``section.key`` -> its field."""

WHO, DECIDE = ("clients", "server", "both"), ("count", "pooled")
LOW = [key for key, field in FIELDS.items() if bounds(field)[0] > -math.inf]
HIGH = [key for key, field in FIELDS.items() if bounds(field)[1] < math.inf]

ALL_FLAGS = {**flags.RUN_FLAGS, **flags.BROKER_FLAGS, **flags.AGGREGATOR_FLAGS, **flags.AGENT_FLAGS}

NASTY = "a\"b'c\\d\n\t\r\x00\x1b\x7f # = [x] {y} \u2028 é 😀"


@pytest.fixture(autouse=True)
def _no_password(monkeypatch):
    monkeypatch.delenv("FEDJURY_PASSWORD", raising=False)


def kind_of(key):
    """Return the type of a setting's default."""
    return type(FIELDS[key].default)


def value_of(settings, dotted):
    section, key = dotted.split(".")
    return getattr(getattr(settings, section), key)


def with_values(changes):
    """Return the default settings with some values changed, without a look at each."""
    sections = {}
    for dotted, value in changes.items():
        section, key = dotted.split(".")
        before = sections.get(section, getattr(Settings(), section))
        sections[section] = before.model_copy(update={key: value})
    return Settings().model_copy(update=sections)


def error(*args, **kwargs):
    """Return what ``load`` says of settings that cannot be."""
    with pytest.raises(SettingsError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def parsed(*arguments):
    """Read a command line that may hold every flag there is."""
    made = flags.parser("A test.", "  none", *([ALL_FLAGS]))
    flags.add_broker(made, "a broker")
    return flags.settings_from(made.parse_args(arguments))


def flag_error(*arguments):
    """Return what is said of a command line that cannot be."""
    with pytest.raises(SettingsError) as caught:
        parsed(*arguments)
    return str(caught.value)


@pytest.fixture
def toml(tmp_path):
    """Give a function that writes a settings file."""

    def write(text):
        file = tmp_path / "some.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


# The defaults


def test_default_toml_is_generated():
    """The file that explains the settings is what ``fedjury config`` prints."""
    assert DEFAULT.read_text(encoding="utf-8") == default_toml()


def test_default_toml_is_the_defaults():
    """The file that explains the settings says exactly what they are."""
    written = tomllib.loads(DEFAULT.read_text(encoding="utf-8"))
    assert written == Settings().model_dump()
    assert [type(value_of(Settings(), key)) for key in FIELDS] == [
        type(written[key.split(".")[0]][key.split(".")[1]]) for key in FIELDS
    ]


def comments():
    """Return the comment of every setting in default.toml."""
    found, section = {}, ""
    for line in DEFAULT.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\](?: +#.*)?", line):
            section = header[1]
        elif setting := re.match(r"(\w+) = [^#]*(?:# (.+))?$", line):
            found[f"{section}.{setting[1]}"] = setting[2]
    return found


def test_every_setting_is_explained():
    """Each key of default.toml has a comment on its line."""
    assert set(comments()) == set(FIELDS)
    assert [key for key, comment in comments().items() if not comment] == []


TABLES = [
    ("aggregation.rule", RULES),
    ("agents.attack", ATTACKS),
    ("agents.vote_attack", VOTE_ATTACKS),
    ("agents.split", SPLITS),
    ("model.name", MODELS),
    ("data.name", DATASETS),
    ("wire.codec", registry.CODECS),
    ("wire.history", registry.CODECS),
    ("validation.judge", JUDGES),
    ("validation.judged_by", get_args(FIELDS["validation.judged_by"].annotation)),
    ("run.device", get_args(FIELDS["run.device"].annotation)),
    ("validation.decide", get_args(FIELDS["validation.decide"].annotation)),
    ("validation.on", get_args(FIELDS["validation.on"].annotation)),
    ("backdoor.replaces", get_args(FIELDS["backdoor.replaces"].annotation)),
    ("backdoor.task", BACKDOORS),
]


def unnamed(names, text):
    """Return the names that a text does not hold as words of their own."""
    return [n for n in names if not re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", text)]


@pytest.mark.parametrize(("setting", "table"), TABLES, ids=[key for key, _ in TABLES])
def test_comments_say_what_can_be_chosen(setting, table):
    """All names where they are few and fixed; of plug-ins, where they are listed."""
    comment = comments()[setting]
    if isinstance(table, Registry):
        assert "docs/plugins.md" in comment
        assert ("package.module:name" in comment) != (table is registry.CODECS)
    else:
        assert unnamed(table, comment) == []
    assert FIELDS[setting].default in (CODECS if setting.startswith("wire.") else table)


@pytest.mark.parametrize(("setting", "table"), TABLES, ids=[key for key, _ in TABLES])
def test_help_names_what_can_be_chosen(setting, table):
    """The flag of such a setting, where it has one, names all of them in ``--help``."""
    for key in ALL_FLAGS.values():
        if key == setting:
            assert unnamed(table, flags.named(FIELDS[setting].description)) == []


def test_every_codec_is_an_encoding_with_or_without_zstd():
    """The comment that names encodings and +zstd has thereby named all codecs."""
    assert set(CODECS) == {*ENCODINGS, *(encoding + ZSTD for encoding in ENCODINGS)}


# Files


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_load(name):
    """Every file beside default.toml is valid by itself and names what exists."""
    settings = load([ROOT / "config" / f"{name}.toml"])
    for setting, table in TABLES:
        allowed = CODECS if setting.startswith("wire.") else table
        assert value_of(settings, setting) in allowed


@pytest.mark.parametrize("name", ["undefended", "robust", "jury"])
def test_scenarios_load_on_top_of_the_demo(name):
    """The demo's cases share the attack, and each changes the defence."""
    demo = load([ROOT / "config" / "demo.toml"])
    case = load([ROOT / "config" / file for file in ("demo.toml", f"{name}.toml")])
    assert (case.agents, case.training, case.run) == (demo.agents, demo.training, demo.run)
    assert case != demo


def test_later_files_win_and_overrides_win_over_all(toml, tmp_path):
    """A file changes only what it says; what is set by hand comes last."""
    first = toml("[run]\nrounds = 5\nseed = 6\n[agents]\nn = 7")
    second = tmp_path / "second.toml"
    second.write_text("[run]\nseed = 8\n[agents]\nn = 9", encoding="utf-8")
    settings = load([first, second], {"agents.n": 10})
    assert (settings.run.rounds, settings.run.seed, settings.agents.n) == (5, 8, 10)
    assert settings == with_values(
        {"run.rounds": 5, "run.seed": 8, "agents.n": 10, "validation.validators": 10}
    )


def test_no_file_is_the_defaults():
    """Without files and flags the settings are the defaults."""
    assert load() == parsed() == Settings()


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is one sentence with its name."""
    file = tmp_path / "none.toml"
    assert error([file]) == f"cannot read {file}: No such file or directory"
    assert error([tmp_path]) == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("text", ["[run", "a = = 1", "x = " + "[" * 5000, "x = " + "9" * 5000])
def test_what_is_no_toml_is_named(toml, text):
    """A malformed file is one sentence with its name."""
    file = toml(text)
    assert error([file]).startswith(f"{file} is not TOML: ")


def test_what_is_no_text_is_named(tmp_path):
    """Bytes that are no UTF-8 are no settings file, and the sentence says where they are."""
    file = tmp_path / "some.toml"
    file.write_bytes(b"[run]\nname = '\xe9'\n")
    assert error([file]) == (
        f"{file} is not TOML: it is not text in UTF-8 (invalid continuation byte at byte 14); "
        "save it as UTF-8"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_says_how_a_file_is_written(tmp_path, encoding):
    """What editors and shells on Windows write is read; without the mark UTF-16 is no TOML."""
    file = tmp_path / "some.toml"
    marked = "\ufeff" if encoding.startswith("utf-16-") else ""
    file.write_bytes(f'{marked}[data]\r\nname = "zahl-ä"\r\n'.encode(encoding))
    assert load([file]).data.name == "zahl-ä"
    if marked:
        file.write_bytes("[run]".encode(encoding))
        assert error([file]).startswith(f"{file} is not TOML: ")


def test_settings_come_from_the_standard_input(monkeypatch):
    """A file called - is what another program says, so that nothing has to lie in between."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[run]\nrounds = 7\n")))
    assert parsed("--config", "-", "--seed", "3").run == Settings().run.replaced(rounds=7, seed=3)


def test_a_scenario_goes_on_top_of_settings(toml):
    """What a file does not say stays as it was in the settings below, the password included."""
    below = load([], {"run.rounds": 7, "broker.password": "x", "agents.n": 9})
    above = load([toml("[agents]\nn = 4")], {"run.seed": 3}, base=below)
    assert above == load(
        [], {"run.rounds": 7, "broker.password": "x", "agents.n": 4, "run.seed": 3}
    )


BYTES = os.fsdecode(b"bad-\xff")
"""What a command line of any bytes comes to."""


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("run.directory", BYTES),
        ("broker.username", BYTES),
        ("detection.detectors", [BYTES]),
        ("aggregation.options", {"a": {BYTES: 1}}),
    ],
)
def test_bytes_that_are_no_text_are_named(setting, value):
    """Paths and names on the command line may be any bytes: what is no UTF-8 is one sentence."""
    text = error([], {setting: value})
    assert text.startswith(f"{setting} = ")
    assert "holds bytes that are not UTF-8" in text
    text.encode()


@pytest.mark.parametrize("value", [BYTES, 12345])
def test_a_password_that_cannot_be_is_not_shown(monkeypatch, value):
    """Bytes that are no UTF-8, from wherever they come, are told without the password."""
    said = [error([], {"broker.password": value})]
    if value == BYTES:
        monkeypatch.setenv("FEDJURY_PASSWORD", BYTES)
        said.append(error())
    for text in said:
        assert text.startswith("broker.password = ... ")
        assert "bad" not in text
        assert "12345" not in text


@pytest.mark.parametrize("text", ["rounds = 5", "run = 5", "[[run]]\nrounds = 5"])
def test_a_setting_outside_a_section_is_refused(toml, text):
    """All settings are in sections, and a section comes once."""
    assert "must be in a section, like [run]" in error([toml(text)])


# Writing


def test_to_toml_survives_what_is_nasty(toml):
    """Quotes, control characters, emoji, strange keys and deep tables are read as written."""
    options = {
        "share": 0.2,
        "count": 3,
        "weighted": True,
        "name": NASTY,
        NASTY: [1, 2.5, {"x": [False]}],
        "big": 1e22,
        "small": 1e-300,
        "no": {},
        "": "",
    }
    overrides = {"data.root": NASTY, "model.init": "C:\\dir\\", "aggregation.options": options}
    settings = load([], overrides)
    assert value_of(settings, "data.root") == NASTY
    assert load([toml(to_toml(settings))]) == settings


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "some.toml"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
option_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "run.seed": st.integers(0, 2**63 - 1),
            "data.root": texts,
            "agents.scale": st.floats(allow_nan=False, allow_infinity=False),
            "collect.seconds": st.floats(0.01, allow_infinity=False),
            "limits.finite": st.booleans(),
            "aggregation.options": st.dictionaries(texts, option_values, max_size=4),
            "backdoor.inject": st.lists(st.integers(0, 2**63 - 1)),
        },
    )
)
def test_to_toml_survives_anything(scratch, overrides):
    """Whatever the settings are, written and read again they are the same."""
    settings = load([], overrides)
    scratch.write_text(to_toml(settings), encoding="utf-8")
    assert load([scratch]) == settings


# The password


def test_the_password_is_written_nowhere():
    """Neither a settings file nor a printed record gives the password away."""
    settings = load([], {"broker.password": "hunter2", "broker.username": "ann"})
    assert settings.broker.password == "hunter2"
    for text in (repr(settings), str(settings.broker), to_toml(settings)):
        assert "hunter2" not in text
        assert "ann" in text


def test_the_environment_gives_the_password(monkeypatch, toml):
    """FEDJURY_PASSWORD counts where no other password is given; an empty one is none."""
    monkeypatch.setenv("FEDJURY_PASSWORD", "secret")
    assert load().broker.password == "secret"
    assert load([toml("[broker]\nport = 1884")]).broker.password == "secret"
    assert load([DEFAULT]).broker.password == "secret"
    assert load([toml('[broker]\npassword = "other"')]).broker.password == "other"
    assert parsed("--password", "mine").broker.password == "mine"


# What cannot be


def test_unknown_sections_are_named():
    """A misspelt section is shown with the nearest and with all that there are."""
    text = error([], {"valdation.quorum": 3})
    assert text.startswith("unknown section [valdation]; did you mean 'validation'? valid: run, ")
    assert text.endswith(", agents, backdoor")


def test_unknown_keys_are_named(toml):
    """A misspelt key is shown with the nearest and with the keys of its section."""
    text = error([toml("[sampling]\nclient_fractions = 0.5")])
    assert text == (
        "unknown setting 'sampling.client_fractions'; did you mean 'sampling.client_fraction'? "
        "valid: "
        "sampling.client_fraction, sampling.most, sampling.newcomers, sampling.names, "
        "sampling.by_seed"
    )


def test_what_resembles_nothing_gets_the_list():
    """Where no name is near, the valid ones are enough."""
    assert error([], {"xyz.q": 1}).startswith("unknown section [xyz]; valid: run, broker, ")
    assert (
        error([], {"wire.zzzzzz": 1})
        == "unknown setting 'wire.zzzzzz'; valid: wire.codec, wire.history"
    )


def neighbour(key, which):
    """Return a bound of a numeric setting, and the nearest number beyond it."""
    bound = bounds(FIELDS[key])[which == "high"]
    step = -1 if which == "low" else 1
    if type(FIELDS[key].default) is int:
        return int(bound), int(bound) + step
    return float(bound), math.nextafter(bound, step * math.inf)


@pytest.mark.parametrize(
    ("key", "which"), [*((key, "low") for key in LOW), *((key, "high") for key in HIGH)]
)
def test_ranges_end_where_they_say(key, which):
    """Both ends of a range are allowed, the next number is not, and the message says the range."""
    bound, beyond = neighbour(key, which)
    assert value_of(load([], {key: bound}), key) == bound
    text = error([], {key: beyond})
    low, high = bounds(FIELDS[key])
    expected = f"{low:,.15g} or more" if high == math.inf else f"{low:,.15g} to {high:,.15g}"
    assert text == f"{key} = {beyond!r} must be {expected}"


def test_nearly_every_number_has_a_range():
    """Only the attack's scaling may be any number; agents' sizes see to themselves."""
    numeric = {key for key, item in FIELDS.items() if type(item.default) in (int, float)} - SIZES
    assert numeric - {*LOW, *HIGH} == {"agents.scale"}


NAMES = {"detection.detectors", "training.metrics", "model.trainable", "data.inputs"}
"""Lists of names; other lists are of whole numbers."""

SIZES = {"agents.samples"}
"""A number, or text."""


@pytest.mark.parametrize("key", [key for key in FIELDS if key not in SIZES])
def test_types_are_exact(key, toml):
    """A value of another type is refused in plain words: no bool for a number, no text either."""
    called = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        list: "a list of whole numbers from 0 on, like [30, 35, 40]",
        dict: f"a table, like {example_of(FIELDS[key])}",
    }[kind_of(key)]
    if key in NAMES:
        called = f"a list of names, like {example_of(FIELDS[key])}"
    called = {
        "validation.judged_by": "clients or server or both",
        "validation.decide": "count or pooled",
        "cells.engine": "none or ray",
        "validation.on": "candidate or groups or both",
        "backdoor.replaces": "round or group",
        "data.learn": "auto or classes or numbers",
        "run.device": "auto or cpu or cuda",
        "evaluation.best_is": "highest or lowest",
    }.get(key, called)
    section, name = key.split(".")
    wrong = {
        int: ["true", "1.0", '"1"', "[1]"],
        float: ["true", '"1.0"', "[]", "1" + "0" * 400],
        bool: ["1", '"true"', "0.0"],
        str: ["1", "true", "[]", "{}", "2020-01-01"],
        list: ["1", '"30"', "{}", "[30, -1]", "[30.0]", "[true]", '["30"]', "[[30]]"],
        dict: ["1", '"share"', "[]"],
    }[kind_of(key)]
    wrong = ["1", '"burst"', "{}", "[1]", '["burst", true]'] if key in NAMES else wrong
    for text in wrong:
        said = error([toml(f"[{section}]\n{name} = {text}")])
        assert said.startswith(f"{key} = ")
        assert said.endswith(f"must be {called}")


@pytest.mark.parametrize(
    "key", [key for key, item in FIELDS.items() if type(item.default) is float]
)
def test_numbers_are_finite(key, toml):
    """A file may say inf and nan, but no setting means anything by them."""
    section, name = key.split(".")
    for odd in ("inf", "-inf", "nan"):
        text = error([toml(f"[{section}]\n{name} = {odd}")])
        assert text == f"{key} = {odd} must be finite"


def test_whole_numbers_are_numbers(toml):
    """Where a number may have a fraction it need not have one."""
    share = load([toml("[sampling]\nclient_fraction = 1")]).sampling.client_fraction
    assert (share, type(share)) == (1.0, float)


@pytest.mark.parametrize("name", ["", "a/b", "+", "a b", "x" * 65, "run\n"])
def test_a_run_has_a_name_that_fits_a_topic(name):
    """A name that no topic could hold is refused before anything starts."""
    text = error([], {"run.name": name})
    assert text == f"run.name = {name!r} must be 1 to 64 of A-Z a-z 0-9 _ -"


def test_the_quorum_fits_the_validators():
    """Five validators cannot cast six votes; where nobody votes the quorum means nothing."""
    assert load([], {"validation.validators": 5, "validation.quorum": 5}).validation.quorum == 5
    nobody = {"validation.validators": 0, "validation.quorum": 999}
    assert load([], nobody).validation.quorum == 999
    for key in ("quorum", "min_votes"):
        text = error([], {"validation.validators": 5, f"validation.{key}": 6})
        assert text == f"validation.{key} = 6 must be 0 to the number of voters (5)"


def jury(*arguments):
    """Return who votes, their quorum and the least votes, and what is said of it."""
    settings = parsed(*arguments)
    votes = settings.validation
    return votes.validators, votes.rejects(votes.asked), settings.jury_note()


def test_a_jury_nobody_asked_for_is_no_larger_than_the_fleet():
    """Of ten agents all ten vote, and half of them reject; it is said."""
    said = "40 validators are more than the 10 agents: all 10 vote"
    assert jury("--n", "10") == (10, 5, said)
    assert jury("--n", "10", "--quorum", "7") == (10, 7, said)
    assert jury("--n", "40") == jury() == (40, 20, "")
    assert parsed("--n", "10").given == {"agents.n"}  # nobody gave a number of validators


def test_a_jury_somebody_asked_for_fits_the_fleet_they_asked_for(toml):
    """Twenty validators of ten agents cannot be, wherever the two numbers come from."""
    said = "validation.validators = 20 must be 0 to the number of agents (10)"
    assert flag_error("--n", "10", "--validators", "20") == said
    file = str(toml("[agents]\nn = 10"))
    assert flag_error("--config", file, "--set", "validation.validators=20") == said
    assert jury("--n", "10", "--validators", "9") == (9, 5, "")
    assert jury("--validators", "2000")[0] == 2000  # nobody said how many agents
    assert flag_error("--n", "10", "--quorum", "11") == (
        "validation.quorum = 11 must be 0 to the number of voters (10)"
    )
    server = ("--judged-by", "server", "--set", "data.server=0.1")
    assert jury("--n", "10", "--validators", "20", *server)[0] == 20  # the server judges alone


def test_a_copy_of_the_defaults_gives_nothing(toml):
    """Whoever copies default.toml and writes n = 10 into it has asked for no 40 validators."""
    copy = DEFAULT.read_text(encoding="utf-8").replace("n = 1000 ", "n = 10 ")
    assert load([toml(copy)]).given == {"agents.n"}
    assert load([toml(copy)]).validation.validators == 10
    many = parsed("--validators", "2000")
    assert load([toml(to_toml(many))]) == many


def test_what_a_program_brings_along_counts_as_nobodys(toml):
    """A scenario is a default: files and flags win over it, and its jury shrinks with the fleet."""
    scenario = toml("[validation]\nvalidators = 20\nquorum = 12\n[run]\nrounds = 7")
    assert load(scenarios=[scenario]).given == set()
    few = load([], {"agents.n": 10}, scenarios=[scenario])
    assert (few.validation.validators, few.validation.quorum, few.run.rounds) == (10, 10, 7)
    below = load([], {"run.rounds": 3, "agents.n": 9})
    assert load(base=below, scenarios=[scenario]).given == {"run.rounds", "agents.n"}


VOTERS = {
    "clients": ({"judged_by": "clients", "validators": 5}, (5, False, 3)),
    "clients, with a quorum": (
        {"judged_by": "clients", "validators": 5, "quorum": 4},
        (5, False, 4),
    ),
    "nobody": ({"judged_by": "clients", "validators": 0}, (0, False, 0)),
    "the server": ({"judged_by": "server", "validators": 0}, (0, True, 1)),
    "the server, whatever else is set": ({"judged_by": "server", "validators": 9}, (0, True, 1)),
    "both": ({"judged_by": "both", "validators": 4}, (4, True, 3)),
    "contributors": ({"piggy_back": True, "validators": 0}, (0, False, 0)),
}
"""Who votes -> settings; agents asked, whether the server votes, votes that reject: half of them,
where nothing is set; of contributors nobody knows how many there will be."""


@pytest.mark.parametrize("case", VOTERS)
def test_who_votes(case):
    """The server alone needs no quorum; beside n clients it is voter n + 1."""
    changes, expected = VOTERS[case]
    overrides = {f"validation.{key}": value for key, value in changes.items()}
    votes = load([], overrides | {"data.server": 0.1}).validation
    assert (votes.asked, votes.server, votes.needed) == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"validation.judged_by": "us"},
            "validation.judged_by = 'us' must be clients or server or both",
        ),
        ({"validation.decide": "dice"}, "validation.decide = 'dice' must be count or pooled"),
        (
            {"validation.judged_by": "server"},
            (
                "data.server = 0.0 must be above 0 where validation.judged_by is 'server', to "
                "judge "
                "with"
            ),
        ),
        (
            {"validation.judged_by": "both", "validation.validators": 9},
            "data.server = 0.0 must be above 0 where validation.judged_by is 'both', to judge with",
        ),
        (
            {"validation.judged_by": "both", "data.server": 0.1, "validation.validators": 0},
            "validation.validators = 0 must be 1 or more where both the server and clients judge",
        ),
        (
            {
                "validation.judged_by": "both",
                "data.server": 0.1,
                "validation.validators": 3,
                "validation.quorum": 5,
            },
            "validation.quorum = 5 must be 0 to the number of voters (4)",
        ),
        (
            {
                "validation.judged_by": "both",
                "data.server": 0.1,
                "validation.validators": 9,
                "validation.piggy_back": True,
            },
            (
                "validation.judged_by = 'both' must be clients, for with piggy_back the "
                "contributors"
                " are the validators"
            ),
        ),
        (
            {
                "validation.decide": "pooled",
                "validation.validators": 8,
                "validation.tolerated_malicious": 4,
            },
            (
                "validation.tolerated_malicious = 4 must be less than half of the voters (8) with "
                "decide pooled"
            ),
        ),
        (
            {
                "validation.decide": "pooled",
                "validation.validators": 9,
                "validation.tolerated_malicious": 5,
                "validation.judged_by": "both",
                "data.server": 0.1,
            },
            (
                "validation.tolerated_malicious = 5 must be less than half of the voters (10) "
                "with decide pooled"
            ),
        ),
        (
            {
                "validation.piggy_back": True,
                "agents.n": 40,
                "sampling.client_fraction": 0.1,
                "validation.quorum": 5,
            },
            "validation.quorum = 5 must be 0 to the contributors (4) with piggy_back",
        ),
        (
            {
                "validation.piggy_back": True,
                "agents.n": 40,
                "collect.agents": 3,
                "validation.quorum": 4,
            },
            "validation.quorum = 4 must be 0 to the contributors (3) with piggy_back",
        ),
    ],
    ids=lambda value: value.split(" must")[0] if isinstance(value, str) else "",
)
def test_voters_that_cannot_be(changes, said):
    """Who votes must have data to judge with, and be as many as the quorum."""
    assert error([], changes) == said


@pytest.mark.parametrize(
    "changes",
    [
        {"validators": 9, "tolerated_malicious": 4},
        {"validators": 8, "tolerated_malicious": 4, "judged_by": "both"},
        {"validators": 8, "tolerated_malicious": 8, "decide": "count"},
        {"piggy_back": True, "tolerated_malicious": 20},  # how many vote is not known here
        {"judged_by": "server"},
        {},
    ],
    ids=str,
)
def test_liars_who_can_be_withstood(changes):
    """Pooling takes more than twice as many voters as liars; of a quorum the advice is enough."""
    votes = {f"validation.{key}": value for key, value in ({"decide": "pooled"} | changes).items()}
    assert load([], votes | {"data.server": 0.1}).validation.tolerated_malicious == changes.get(
        "tolerated_malicious", 0
    )


@pytest.mark.parametrize(("minimum", "judged_from"), [(0, 5), (3, 3), (5, 5)])
def test_the_history_a_judge_needs(minimum, judged_from):
    """With l = 4 there are at most 5 accepted models to see; 0 asks for all of them."""
    overrides = {"validation.look_back": 4, "validation.minimum_history": minimum}
    assert load([], overrides).validation.history == judged_from


@pytest.mark.parametrize("minimum", [1, 2, 6])
def test_a_history_that_cannot_be(minimum):
    """Fewer than three models have no variations to compare; more than l + 1 are never kept."""
    overrides = {"validation.look_back": 4, "validation.minimum_history": minimum}
    assert error([], overrides).endswith("must be 0, or 3 to validation.look_back + 1 (5)")


@pytest.mark.parametrize(("shard", "part"), [("1/1", (1, 1)), ("2/4", (2, 4)), ("10/10", (10, 10))])
def test_shards(shard, part):
    """2/4 is the second of four parts."""
    assert load([], {"agents.shard": shard}).agents.part == part


def test_a_shard_may_be_found_by_the_services_name():
    """The replicas of a service find their part by themselves."""
    assert load([], {"agents.shard": "auto:a/b"}).agents.common == "a/b"


@pytest.mark.parametrize("shard", ["", "2", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "auto:"])
def test_shards_that_cannot_be(shard):
    """A part is one of at least one, counted from 1."""
    text = error([], {"agents.shard": shard})
    assert text.startswith(f"agents.shard = {shard!r} must be i/k with 1 <= i <= k")


# Flags


def another(key):
    """Return a value of a setting that is not its default, and how a flag spells it."""
    default = FIELDS[key].default
    if key in NAMES:
        return ["burst", "dissent"], "burst, dissent"
    if kind_of(key) is list:
        return [30, 35], "[30,35]"
    if kind_of(key) is dict:
        return {"nnm": 3, "clip": 1.5}, "{ nnm = 3, clip = 1.5 }"
    if key == "validation.judged_by":
        return "server", "server"
    if key == "run.device":
        return "auto", "auto"
    if key == "validation.on":
        return "groups", "groups"
    if type(default) is int:
        return default + 9, str(default + 9)  # validators enough for the quorum
    if type(default) is float:
        return (default / 2 or 0.25), str(default / 2 or 0.25)
    if type(default) is bool:
        return not default, str(not default).lower()
    return ("2/3", "2/3") if key == "agents.shard" else ("other", "other")


@pytest.mark.parametrize("flag", ALL_FLAGS)
def test_each_flag_sets_its_setting(flag):
    """A flag changes the setting it stands for, as ``--set`` does, and no other."""
    key = ALL_FLAGS[flag]
    value, text = another(key)
    assert value != value_of(Settings(), key)
    # A flag for a switch stands alone.
    given = [flag, text]
    if isinstance(value, bool):
        given = [flag] if value else [f"--no-{flag[2:]}"]
    also = {
        "validation.judged_by": {"data.server": 0.1},  # to judge with
    }.get(key, {})
    more = [word for other in also for word in ("--set", f"{other}={also[other]}")]
    # Devices of somebody else's are not malicious.
    besides = {"agents.malicious": 0.0} if key == "agents.devices" else {}
    expected = with_values({key: value} | also | besides)
    assert parsed(*more, *given) == parsed(*more, "--set", f"{key}={text}") == expected


def test_no_setting_has_two_flags():
    """Two flags for one setting would leave open which wins."""
    known = list(ALL_FLAGS.values())
    assert len(known) == len(set(known))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_set_reads_truth(text, value):
    """``--set`` reads true and false, however they are written."""
    assert parsed("--set", f"limits.finite={text}").limits.finite is value


def test_set_reads_tables():
    """``--set`` reads a rule's options as a TOML file would."""
    options = parsed("--set", "aggregation.options={ share = 0.1, weighted = true }")
    assert options.aggregation.options == {"share": 0.1, "weighted": True}


def test_set_keeps_what_follows_the_first_equals_sign():
    """A value may hold an equals sign itself."""
    assert parsed("--set", "data.root=a=b").data.root == "a=b"


def test_flags_win_over_set_and_files(toml):
    """The short name is the last word."""
    file = str(toml("[agents]\nn = 5\nmalicious = 0.1\nstart = 9"))
    settings = parsed(
        "--config", file, "--n", "7", "--set", "agents.n=6", "--set", "agents.start=8"
    )
    assert (settings.agents.n, settings.agents.start, settings.agents.malicious) == (7, 8, 0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--evil", "1.5"], "agents.malicious = 1.5 must be 0 to 1"),
        (["--evil", "nan"], "agents.malicious = nan must be finite"),
        (["--evil", "half"], "agents.malicious = 'half' must be a number"),
        (["--n", "0"], "agents.n = 0 must be 1 to 1,000,000"),
        (["--n", "10.5"], "agents.n = '10.5' must be a whole number"),
        (["--n", "9" * 5000], f"agents.n = '{'9' * 5000}' must be a whole number"),
        (["--rounds", ""], "run.rounds = '' must be a whole number"),
        (["--set", "limits.finite=yes"], "limits.finite = 'yes' must be true or false"),
        (["--set", "agents.n"], "--set agents.n must be SECTION.KEY=VALUE"),
        (
            ["--set", "aggregation.options=5"],
            "aggregation.options = 5 must be a table, like { share = 0.2 }",
        ),
        (
            ["--set", "aggregation.options={"],
            "aggregation.options = { must be TOML, like { share = 0.2 }",
        ),
        (["--inject", "[30,"], "backdoor.inject = [30, must be TOML, like [30, 35, 40]"),
        (
            ["--inject", "30"],
            "backdoor.inject = 30 must be a list of whole numbers from 0 on, like [30, 35, 40]",
        ),
        (
            ["--shard", "3/2"],
            "agents.shard = '3/2' must be i/k with 1 <= i <= k, like 2/4, or auto:FOLDER",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_flags_that_cannot_be(arguments, said):
    """What is wrong on a command line is one sentence with the setting and what it may be."""
    assert flag_error(*arguments) == said


@pytest.mark.parametrize("pair", ["agents.m=1", "agents=1", "=1", ".n=1", "agents.=1"])
def test_set_of_what_does_not_exist(pair):
    """``--set`` of an unknown setting says what there is."""
    text = flag_error("--set", pair)
    assert text.startswith(f"unknown setting {pair.removesuffix('=1')!r}")
    assert "agents.n" in text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("broker.local:1884", "broker.local", 1884),
        ("broker.local", "broker.local", 1883),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:1884", "::1", 1884),
        ("[fe80::1%eth0]", "fe80::1%eth0", 1883),
        ("mqtt://broker.local:1884", "broker.local", 1884),
        ("mqtt://[::1]", "::1", 1883),
        ("mqtts://broker.local", "broker.local", 8883),
        ("MQTTS://broker.local:1/", "broker.local", 1),
    ],
)
def test_broker_addresses(text, host, port):
    """``--broker`` takes a name, an address or a URL; the port may be left out."""
    broker = parsed("--broker", text).broker
    assert (broker.host, broker.port) == (host, port)
    assert broker.tls is text.lower().startswith("mqtts")


def test_a_password_in_a_broker_s_url_is_not_repeated():
    """Logins go elsewhere, and what is said of that does not show the password."""
    said = flag_error("--broker", "mqtts://ann:hunter2@broker.local:8883")
    assert "--broker mqtts://...@broker.local:8883 must be HOST:PORT" in said
    assert "FEDJURY_PASSWORD" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "text",
    [
        "host:0",
        "host:65536",
        "host:-1",
        "host:mqtt",
        "host:",
        ":1883",
        "::1",
        "fe80::1:1883",
        "[::1]:",
        "[]:1883",
        "[::1",
        "host:18 83",
        "ws://host:1883",
        "mqtt://",
        "mqtts://ann@host:1",
        "host:١٨٨٣",
        "a:b:1",
    ],
)
def test_broker_addresses_that_cannot_be(text):
    """A bad port, a bare IPv6 address or a URL is refused, not guessed at."""
    said = flag_error("--broker", text)
    shown = text.replace("ann@", "...@")
    assert said.startswith(f"--broker {shown} must be HOST:PORT, mqtt://HOST:PORT or mqtts://")


def test_flags_are_not_abbreviated(capsys):
    """``--evi`` is an error, so that a new flag never changes what a script means."""
    with pytest.raises(SystemExit) as caught:
        parsed("--evi", "0.1")
    assert caught.value.code == 2
    assert "--evi" in capsys.readouterr().err


def test_help_shows_each_flag_and_its_default():
    """``--help`` can be printed, and names every flag with the default of its setting."""
    text = " ".join(flags.parser("A test.", "  one example", ALL_FLAGS).format_help().split())
    for name, setting in ALL_FLAGS.items():
        assert f"{name} " in text
        assert flags.named(FIELDS[setting].description) in text
    share = "share of them that is malicious: exactly round(n * share) agents"
    assert f"{share} (0 to 1; default: 0.2)" in text
    assert "first round in which malicious agents attack" in text
    assert "(1 or more; default: 1)" in text
    assert "similarity (default: fixed_point, length)" in text
    assert "not selected (default) --no-quarantine the opposite of --quarantine" in text
    assert "one example" in text


def test_flags_stand_in_groups():
    """``--help`` says which part of the system a flag is about."""
    groups = flags.RUN_FLAGS, flags.AGGREGATOR_FLAGS, flags.AGENT_FLAGS, flags.LISTENER_FLAGS
    text = flags.parser("A test.", "  one example", *groups).format_help()
    headings = re.findall(r"^([a-z]+):$", text, re.MULTILINE)
    assert headings == ["options", "run", "aggregator", "agents", "broker", "examples"]


def test_field_of_knows_types():
    """The type of every setting is that of its default."""
    for key, item in FIELDS.items():
        assert field_of(key) is item
        kind = str | int if key in SIZES else type_of(item)
        assert isinstance(item.default, getattr(kind, "__origin__", kind))


# How many samples agents hold


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("4", 4),
        ("0", 0),
        ("uniform(2, 6)", Uniform(2, 6)),
        ("uniform(high=6,low=2)", Uniform(2, 6)),
        ("uniform(2)", Uniform(2)),
        ("lognormal()", LogNormal(0, 1, 0)),
        ("lognormal(mean=4, sigma=1)", LogNormal(4, 1, 0)),
        (" lognormal ( 4.5 , 1e-1, least = 2 ) ", LogNormal(4.5, 0.1, 2)),
        ("dirichlet(mean=4, alpha=.5)", Dirichlet(4, 0.5, 0)),
    ],
)
def test_sizes_are_written_alike_everywhere(text, sizes, toml):
    """In a file, as --samples and as --set; what is written out again reads the same."""
    written = text if isinstance(sizes, int) else f'"{text}"'
    from_file = load([toml(f"[agents]\nsamples = {written}")])
    assert from_file.agents.sizes == sizes
    assert parsed("--samples", text).agents.sizes == sizes
    assert parsed("--set", f"agents.samples={text}").agents.sizes == sizes
    assert load([toml(to_toml(from_file))]).agents.sizes == sizes


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("lognorm(4)", f"must be {ALLOWED}"),
        ("few", f"must be {ALLOWED}"),
        ("-1", f"must be {ALLOWED}"),
        ("2.5", f"must be {ALLOWED}"),
        ("lognormal(4", f"must be {ALLOWED}"),
        ("lognormal(sigma=11)", "must be lognormal(mean, sigma, least) with sigma from 0 to 10"),
        ("lognormal(mean=nan)", "with mean a number, 0 or more"),
        ("lognormal(4, -1)", "with sigma a number, 0 or more"),
        ("lognormal(2, least=3)", "with least at most the mean"),
        ("lognormal(4, mean=4)", "must be lognormal(mean, sigma, least), each number once"),
        ("lognormal(4, 1, 0, 7)", "must be lognormal(mean, sigma, least), each number once"),
        ("dirichlet(4, sigma=1)", "must be dirichlet(mean, alpha, least), each number once"),
        ("dirichlet(alpha=0)", "with alpha from 0.001 to 1,000,000"),
        ("uniform(6, 2)", "must be uniform(low, high) with high at least low, and at least 1"),
        ("uniform(1.5, 2)", "with low a whole number, 0 or more"),
        ("uniform()", "must be uniform(low, high), at least with low"),
    ],
)
def test_sizes_that_cannot_be_are_answered_with_what_can(text, allowed):
    """One sentence, with the distributions there are or with what one of them takes."""
    with pytest.raises(SettingsError) as caught:
        parsed("--samples", text)
    assert str(caught.value).startswith(f"agents.samples = {text!r} must be ")
    assert str(caught.value).endswith(allowed)


@pytest.mark.parametrize("written", ["true", "1.0", "[1]", "{}"])
def test_sizes_are_a_whole_number_or_text(written, toml):
    """Nothing else is taken for them."""
    assert error([toml(f"[agents]\nsamples = {written}")]).endswith(f"must be {ALLOWED}")


# Programs


@pytest.fixture
def run_main(monkeypatch):
    """Give a function that runs a program as an entry point would, and returns its exit code."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["program", "--some", "thing"])

    def run(main):
        with pytest.raises(SystemExit) as caught:
            flags.run_main(main, (SettingsError, ZeroDivisionError))
        return caught.value.code

    yield run
    signal.signal(signal.SIGTERM, before)


def raising(error):
    """Make a program that fails."""

    def main(_arguments):
        raise error

    return main


@pytest.mark.parametrize(
    "error", [SettingsError("no such thing"), ZeroDivisionError("no such thing")]
)
def test_expected_errors_are_one_sentence(run_main, capsys, error):
    """What people did wrong is one line on stderr and exit code 2."""
    assert run_main(raising(error)) == 2
    assert capsys.readouterr() == ("", "error: no such thing\n")


@pytest.mark.parametrize(
    "why",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("float32")),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4398046511104 bytes. Error code 12\nframe #0: ..."
        ),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["Python", "NumPy", "PyTorch", "fork"],
)
def test_out_of_memory_is_one_sentence(run_main, capsys, why):
    """Whoever asked for the memory: what happened and what to do, and exit code 2."""
    assert run_main(raising(why)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory")
    assert "take fewer agents" in said
    assert said.count("\n") == 1
    assert "frame" not in said


def test_unexpected_errors_are_not_hidden(run_main):
    """What we did wrong keeps its traceback."""
    with pytest.raises(RuntimeError, match="ours"):
        run_main(raising(RuntimeError("ours")))


def test_ctrl_c_is_130(run_main, capsys):
    """An interrupted program says nothing more and ends with 130."""
    assert run_main(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_sigterm_is_ctrl_c(run_main):
    """Being asked to end is the same as being interrupted."""
    assert run_main(lambda _: signal.raise_signal(signal.SIGTERM)) == 130


@pytest.mark.parametrize("code", [0, 1])
def test_a_program_says_how_it_ended(run_main, code):
    """A program gets the command line without its own name, and its result is the exit code."""
    assert run_main(lambda arguments: code if arguments == ["--some", "thing"] else 99) == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--evil", "1.5"], "error: agents.malicious = 1.5 must be 0 to 1\n"),
        (
            ["--config", "nowhere.toml"],
            "error: cannot read nowhere.toml: No such file or directory\n",
        ),
    ],
    ids=["flag", "file"],
)
def test_a_real_program_fails_in_one_line(arguments, said, tmp_path):
    """A mistake on a real command line, from any folder, is one line, code 2 and no traceback."""
    done = subprocess.run(
        [sys.executable, ROOT / "agents" / "spawn.py", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_flags_say_who_we_are_to_the_broker(toml):
    """--secrets, --ca and --forget are settings of the broker, and survive a settings file."""
    said = parsed("--secrets", "keys", "--ca", "system", "--forget", "--set", "broker.keepalive=9")
    broker = said.broker
    assert (broker.secrets, broker.ca, broker.forget, broker.keepalive) == (
        "keys",
        "system",
        True,
        9,
    )
    assert load([toml(to_toml(said))]) == said
    assert not parsed().broker.forget


def test_settings_become_the_broker_s_address():
    """What is empty is none, and each part of the system looks into its own folder."""
    plain = address_of(parsed("--broker", "h:7").broker, "agents")
    assert plain == ("h", 7, None, None, "", "", 60, False, "fl/v2")
    flags_ = ("--username", "ann", "--password", "x", "--secrets", "keys", "--ca", "ca.pem")
    said = address_of(parsed("--broker", "h:7", *flags_).broker, "aggregator")
    assert said == ("h", 7, "ann", "x", "keys/aggregator", "ca.pem", 60, False, "fl/v2")


def test_settings_from_needs_no_broker_flag():
    """A program without ``--broker`` reads its settings all the same."""
    made = flags.parser("A test.", "  none", flags.RUN_FLAGS)
    chosen = made.parse_args(["--seed", "3"])
    assert isinstance(chosen, argparse.Namespace)
    assert flags.settings_from(chosen).run.seed == 3


# ---------------------------------------------------------------- old names

OLD = """\
# A run of ours.
[agents]         # the fleet
n = 20
evil = 0.25      # a quarter
[sampling]
share = 0.5
"""


def test_old_names_are_answered_with_the_new_ones(tmp_path):
    """In a file, by --set and as a flag: one sentence that says how it is called now."""
    file = tmp_path / "old.toml"
    file.write_text(OLD)
    said = "the setting agents.evil is now called agents.malicious; 'fedjury config upgrade FILE'"
    with pytest.raises(SettingsError, match=re.escape(said)):
        load([file])
    with pytest.raises(SettingsError, match=re.escape(said)):
        load(overrides={"agents.evil": 0.2})


@pytest.mark.parametrize(("old", "new"), renamed.FLAGS.items())
def test_old_flags_are_answered_with_the_new_ones(old, new, capsys):
    """Exit code 2, and the new name; with a value and without."""
    for value in ([], ["0.5"]):
        with pytest.raises(SystemExit) as ended:
            flags.parser("A test.", "  none", ALL_FLAGS).parse_args([old, *value])
        assert ended.value.code == 2
        assert f"{old} is now called {new}" in capsys.readouterr().err
    assert new in ALL_FLAGS


def test_every_new_name_is_a_setting_and_no_old_one_is():
    """The table leads somewhere."""
    assert set(RENAMED.values()) <= set(FIELDS)
    assert not set(RENAMED) & set(FIELDS)


def test_the_least_number_of_samples_is_now_a_part_of_sizes():
    """Who sets it is told how it is said now."""
    with pytest.raises(SettingsError, match=r'now said by agents\.samples, like "uniform\(2, 6\)"'):
        load(overrides={"agents.min_samples": 2})


@pytest.mark.parametrize(
    ("old", "sizes"),
    [
        ("samples = 4\nmin_samples = 1", Uniform(1, 7)),
        ("min_samples = 3", Uniform(3)),
        ("samples = 0\nmin_samples = 3", Uniform(3)),
        ("samples = 4\nmin_samples = 0", 4),
    ],
)
def test_upgrading_a_file_keeps_the_sizes_it_meant(old, sizes, tmp_path, capsys):
    """From the least number to as many above the mean, or above an equal share."""
    file = tmp_path / "old.toml"
    file.write_text(f"[agents]\n{old}  # few\nn = 9\n")
    upgrade(["upgrade", str(file)])
    assert "agents.min_samples -> " in capsys.readouterr().out
    assert load([file]).agents.sizes == sizes
    assert load([file]).agents.n == 9


def test_upgrading_a_file_changes_names_alone(tmp_path, capsys):
    """Values, order and comments stay; a second time there is nothing to change."""
    file = tmp_path / "old.toml"
    file.write_text(OLD)
    upgrade(["upgrade", str(file)])
    assert file.read_text() == OLD.replace("evil =", "malicious =").replace(
        "share =", "client_fraction ="
    )
    said = "sampling.share -> sampling.client_fraction, agents.evil -> agents.malicious"
    assert capsys.readouterr().out == f"{file}: {said}\n"
    upgrade(["upgrade", str(file)])
    assert capsys.readouterr().out == f"{file}: nothing to change\n"
    file.write_text(OLD + "client_fraction = 0.4\n")
    with pytest.raises(SettingsError, match=r"sets both sampling\.share and sampling\.client"):
        upgrade(["upgrade", str(file)])
