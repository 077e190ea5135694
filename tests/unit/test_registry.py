"""Plug-ins by name: where they are found, what is known of them, and what is said of mistakes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedjury import registry
from fedjury.registry import (
    ATTACKS,
    DETECTORS,
    JUDGES,
    KINDS,
    RULES,
    Facts,
    Mark,
    Need,
    Registry,
    rule,
)
from fedjury.registry import table as table_of

ROOT = Path(__file__).resolve().parents[2]

THEIRS = '''
"""Rules of a company called Acme."""

from fedjury.registry import rule

BOUND = 3


def middle(share: float = 0.25, names: list[str] | None = None):
    """Return the middle of each coordinate."""
    return lambda updates, samples, context: updates[0] * share


@rule(needs=["update_sums"])
def remembering():
    """Remember."""
    return None


def needs_more(bound, /, *, exponent: "int"):
    return None


def anything(**options):
    return lambda: options


def broken():
    raise RuntimeError("no licence")


def refusing():
    raise ValueError("not on a Friday")
'''


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """Stand in a folder with somebody's package; returns the folder."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "rules.py").write_text(THEIRS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part != ""])
    for name in [name for name in sys.modules if name.split(".")[0] == "acme"]:
        monkeypatch.delitem(sys.modules, name)  # of another test's company
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "acme"]:
        del sys.modules[name]


def error(name, options=None, kind=RULES):
    """Return what is said of a name or an option that cannot be."""
    with pytest.raises(ValueError) as caught:
        kind.build(name, options=options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Ours: for every kind that there is


def every():
    """Return each plug-in of ours, whatever its kind."""
    return [
        pytest.param(kind, name, id=f"{kind.kind}-{name}") for kind in KINDS for name in kind.own
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_plugins_in_its_folder(kind):
    """There are some, all are importable under their names, and a name says one thing."""
    assert kind.own
    assert list(kind)[: len(kind.own)] == sorted(kind.own)
    assert len({(plugin.module, plugin.function) for plugin in kind.own.values()}) == len(kind.own)


@pytest.mark.parametrize(("kind", "name"), every())
def test_what_is_read_of_a_plugin_is_what_is_imported(kind, name):
    """The facts that are read from the source are those that the decorator keeps."""
    assert getattr(kind[name], "__fedjury_facts__") == kind.facts(name)  # noqa: B009 - a mangled name


@pytest.mark.parametrize(("kind", "name"), every())
def test_every_plugin_says_what_it_is_and_takes_what_its_kind_is_given(kind, name):
    """A line for people, room for what builders are given, and options that have a type."""
    facts = kind.facts(name)
    assert 10 < len(facts.summary) <= 100
    options = kind.options(name)
    assert all(p.annotation is not p.empty for p in options.values())
    assert all(p.default is not p.empty for p in options.values()), "no option must be given"


def test_a_listing_imports_no_plugin():
    """Names and facts come from the sources, so that --help and the aggregator load no torch."""
    code = (
        "import sys\nfrom fedjury import registry\n"
        "print([len(kind.own) for kind in registry.KINDS]); "
        "assert registry.ATTACKS.facts('alie').colludes; "
        "assert not {'torch', 'numpy', 'pydantic', 'fedjury.attacks'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_new_file_is_a_new_plugin(tmp_path, monkeypatch):
    """One file with a mark, in the folder of its kind: nothing else is touched."""
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").touch()
    (tmp_path / "house" / "helper.py").write_text("def helper():\n    return 1\n")
    (tmp_path / "house" / "fixed.py").write_text(
        '"""Always the same."""\nfrom fedjury import registry\n\n\n'
        '@registry.rule(needs=["server_update"])\n'
        "def fixed(step: float = 1.0):\n    return step\n"
    )
    (tmp_path / "house" / "several.py").write_text(
        "from fedjury.registry import rule\n\n\n"
        "@rule\ndef one():\n    '''One.'''\n    return 1\n\n\n"
        "@rule(name='an-other')\ndef two():\n    '''Two.'''\n    return 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kind = Registry(rule, "house", "house.rules")
    assert list(kind) == ["an-other", "fixed", "one"]
    assert kind.facts("fixed") == Facts("Always the same.", needs=frozenset({Need.SERVER_UPDATE}))
    assert (kind.build("fixed", options={"step": 2}), kind.build("an-other")) == (2, 2)
    assert kind.facts("one").summary == "One."


def test_a_file_that_is_no_python_is_named(tmp_path, monkeypatch):
    """What cannot be read is one sentence with the file and the line."""
    (tmp_path / "ruin").mkdir()
    (tmp_path / "ruin" / "__init__.py").touch()
    (tmp_path / "ruin" / "half.py").write_text("@rule\ndef half(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"rules cannot be listed: SyntaxError: .*half.py, line 2"):
        list(Registry(rule, "ruin", "ruin.rules"))


# Facts


def test_attacks_who_collude_or_hide_a_backdoor_hold_data():
    """Who has nothing to train with has nothing to tell and nothing to poison: it follows."""
    assert ATTACKS.facts("alie").holds_data
    assert ATTACKS.facts("backdoor").holds_data
    assert ATTACKS.facts("label_flip").holds_data
    assert not ATTACKS.facts("mpaf").holds_data


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"colludes": True},
            "unknown fact of a rule: 'colludes'; valid: compares_all, ",
        ),
        (
            {"needs": ["server_updates"]},
            "unknown need of a rule or a detector: 'server_updates'",
        ),
    ],
)
def test_a_mark_refuses_what_its_kind_has_not(facts, message):
    """A slip of the pen in a mark is an error where the file is imported, or listed."""
    with pytest.raises(ValueError, match=message):
        rule(**facts)(lambda: None)


# Theirs


def test_a_function_of_somebody_elses_is_a_plugin(acme):
    """It is imported from where one stands; options are keywords, facts those of its mark."""
    built = RULES.build("acme.rules:middle", options={"share": 0.5, "names": ["a"]})
    assert built([8.0], None, None) == 4.0
    assert RULES.facts("acme.rules:middle") == Facts("Return the middle of each coordinate.")
    assert RULES.facts("acme.rules:remembering").needs == {Need.UPDATE_SUMS}
    assert RULES.build("acme.rules:anything", options={"whatever": 1})() == {"whatever": 1}
    assert sys.path[-1] == str(acme)


def test_what_is_installed_goes_before_the_folder_where_one_stands(acme):
    """A file there that is called like a module of Python's hides nothing."""
    (acme / "wave.py").write_text("raise SystemExit('mine')", encoding="utf-8")
    assert RULES.resolve("wave:open").__module__ == "wave"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "acme.ruls:middle",
            {},
            "rule 'acme.ruls:middle': there is no module 'acme.ruls', neither in {here} nor",
        ),
        ("nobody.rules:middle", {}, "there is no module 'nobody', neither in {here} nor installed"),
        (
            "acme.rules:midle",
            {},
            "unknown name in module 'acme.rules' for a rule: 'midle'; did you",
        ),
        ("acme.rules:BOUND", {}, "rule 'acme.rules:BOUND' is a int, not a function"),
        ("acme/rules.py:middle", {}, "must be written package.module:name"),
        (":", {}, "must be written package.module:name"),
        ("acme.rules:middle", {"shar": 1}, "'shar'; did you mean 'share'? valid: share, names"),
        (
            "acme.rules:middle",
            {"share": "x"},
            "share of rule 'acme.rules:middle' must be float, not",
        ),
        ("acme.rules:middle", {"share": True}, "must be float, not True"),
        ("acme.rules:middle", {"names": [1]}, "must be list[str], not [1]"),
        ("acme.rules:needs_more", {"exponent": 1.5}, "exponent of rule"),
        ("acme.rules:needs_more", {"exponent": 1}, "rule 'acme.rules:needs_more' needs bound"),
        (
            "acme.rules:broken",
            {},
            "cannot be built: RuntimeError: no licence ({here}/acme/rules.py, line 29)",
        ),
        ("acme.rules:refusing", {}, "rule 'acme.rules:refusing': not on a Friday"),
    ],
)
def test_mistakes_are_one_sentence(acme, name, options, message):
    """What is missing, misspelt, of a wrong type or broken is said before anything starts."""
    assert message.format(here=acme) in error(name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero ({file}, line 2)"),
        ("def f(:\n", "SyntaxError: invalid syntax ({file}, line 1)"),
        ("import nosuchmodule\n", "No module named 'nosuchmodule' ({file}, line 1)"),
        ("import sys\n\nsys.exit('bye')\n", "SystemExit: bye ({file}, line 3)"),
        ("def f():\n    raise KeyError('a\\nb')\n\n\nf()\n", "({file}, line 2)"),
    ],
)
def test_a_module_that_fails_is_told_with_its_line(acme, text, message):
    """Whatever goes wrong while it is imported: the exception, the file and the line."""
    file = acme / "acme" / "ruin.py"
    file.write_text(text, encoding="utf-8")
    said = error("acme.ruin:f")
    assert said.startswith("rule 'acme.ruin:f' cannot be imported: ")
    assert message.format(file=file) in said


def test_an_installed_package_offers_short_names(acme, monkeypatch):
    """By entry points of the kind's group; names that are ours stay ours."""
    group = "fedjury.rules"
    entries = [
        EntryPoint("middle", "acme.rules:middle", group),
        EntryPoint("krum", "acme.rules:middle", group),
        EntryPoint("gone", "acme.rules:gone", group),
    ]
    asked = []
    monkeypatch.setattr(table_of, "entry_points", lambda group: asked.append(group) or entries)
    kind = Registry(rule, RULES.package, group)
    assert [name for name in kind if name not in kind.own] == ["gone", "middle"]
    assert asked == [group]
    assert kind.build("middle", options={"share": 2.0})([1.0], None, None) == 2.0
    assert kind["krum"].__module__ == "fedjury.rules.krum"
    assert "'gone'" in error("gone", kind=kind)
    assert "did you mean 'middle'?" in error("midle", kind=kind)


# From the network


def test_nothing_is_imported_on_the_word_of_a_stranger(tmp_path):
    """A name that arrives is listed, or our own settings say the same; else it is refused."""
    assert JUDGES.agreed("lof") == "lof"
    assert JUDGES.agreed("nobodys") == "nobodys"  # and resolving it fails, with a list of names
    assert JUDGES.agreed("acme.judges:ours", "acme.judges:ours") == "acme.judges:ours"
    for ours in ("", "lof", "acme.judges:ours"):
        with pytest.raises(ValueError, match="'os:system' is not imported because a message"):
            JUDGES.agreed("os:system", ours)


def test_what_is_read_in_records_is_looked_up_without_an_import():
    """A record may name anything; what is not ours has no facts."""
    assert DETECTORS.known("burst").report == "joined in one crowd"
    assert DETECTORS.known("os:system") == DETECTORS.known("gone") == Facts()


def test_a_mark_is_of_its_kind():
    """Every mark has the name that it is imported by, for the sources are read by that."""
    for kind in KINDS:
        assert isinstance(kind.mark, Mark)
        assert getattr(registry, kind.mark.kind) is kind.mark
