"""Plug-ins of somebody else's that cannot be had, of every kind: one sentence before the start.

How those are borne that fail later is in tests/federation/test_failing_plugins.py.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from fedjury.judges.server_validator import ServerView
from fedjury.learning import backdoors, datasets
from fedjury.learning.datasets import split
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.evaluation import check_loss
from fedjury.learning.task import task_of
from fedjury.protocol import compression
from fedjury.protocol.codecs import applied as codecs
from fedjury.protocol.codecs.encoding import Encoding
from fedjury.protocol.compression import Packed
from fedjury.protocol.encoder import Encoder
from fedjury.protocol.messages import BadMessage, Reason, Update
from fedjury.randomness import Purpose, stream
from fedjury.registry import CODECS, KINDS, LOSSES, MODELS
from fedjury.registry.faults import PluginError, blamed, theirs, working

THEIRS = """
WORD = "no function"


def raising(*given, **options):
    raise RuntimeError("no licence")


def refusing(*given, **options):
    raise ValueError("not on a Friday")


def nothing(*given, **options):
    return 7


def exits(*given, **options):
    return {}["missing"]
"""


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """Stand in a folder with somebody's module; returns its file."""
    file = tmp_path / "acme.py"
    file.write_text(THEIRS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part != ""])
    yield file
    sys.modules.pop("acme", None)


def optioned(given):
    """Return a builder that is given as much as those of a kind, and has one option."""
    names = ", ".join([*given, "share: float"])
    space: dict[str, object] = {}
    exec(f"def optioned({names}):\n    return None", space)
    return space["optioned"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acmee:f", "{kind} 'acmee:f': there is no module 'acmee', neither in "),
        ("acme:raisin", "unknown name in module 'acme' for a {kind}: 'raisin'; did you mean"),
        ("acme:WORD", "{kind} 'acme:WORD' is a str, not a function"),
        ("acme", "unknown {kind}: 'acme'"),
        ("acme:raising", "{kind} 'acme:raising' cannot be built: RuntimeError: no licence ({file}"),
        ("acme:exits", "{kind} 'acme:exits' cannot be built: KeyError: 'missing' ({file}, line "),
        ("acme:refusing", "{kind} 'acme:refusing': not on a Friday"),
    ],
)
def test_one_that_cannot_be_had_is_a_sentence(acme, kind, name, message):
    """No module, no such name, no function, or a builder that fails: of every kind."""
    with pytest.raises(ValueError) as caught:
        kind.build(name, *[None] * len(kind.given))
    text = str(caught.value)
    assert text.startswith(message.format(kind=kind.kind, file=acme))
    assert "\n" not in text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_what_is_no_such_thing_is_refused(acme, kind):
    """A builder that makes something else than its kind is said to, before anything starts."""
    if not kind.made:
        pytest.skip("a function or a Collusion: its own test is below")
    with pytest.raises(
        ValueError, match=rf"^{kind.kind} 'acme:nothing' made int, which (is|has) no"
    ):
        kind.build("acme:nothing", *[None] * len(kind.given))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "{kind} {name!r} needs share"),
        (
            {"shar": 1.0},
            "unknown hyper-parameter of {kind} {name!r}: 'shar'; did you mean 'share'?",
        ),
        ({"share": "half"}, "share of {kind} {name!r} must be float, not 'half'"),
    ],
)
def test_options_that_do_not_fit_are_a_sentence(monkeypatch, kind, options, message):
    """One that lacks an option, has another, or one of another type: of every kind."""
    name = f"{__name__}:given_option"
    monkeypatch.setattr(sys.modules[__name__], "given_option", optioned(kind.given), raising=False)
    with pytest.raises(ValueError) as caught:
        kind.build(name, *[None] * len(kind.given), options=options)
    assert str(caught.value).startswith(message.format(kind=kind.kind, name=name))


# ---------------------------------------------------------------- what only the start calls


def no_attack(attack):
    """Build nothing."""
    return 7


def short_split():
    """Build a split that forgets an agent."""
    return lambda agents, classes, rng: np.full((agents - 1, classes), 1 / classes)


def split_of_nan():
    """Build a split without shares."""
    return lambda agents, classes, rng: np.full((agents, classes), np.nan)


def split_that_raises():
    """Build a split that fails."""
    return lambda agents, classes, rng: {}["a"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short_split", r"made mixtures of float64 of shape \(3, 2\); .* of shape \(4, 2\)"),
        ("split_of_nan", "made mixtures whose shares are below 0, or do not add up to 1"),
        ("split_that_raises", r"fails: KeyError: 'a' \(.*test_bad_plugins.py, line \d+\)"),
    ],
)
def test_a_split_that_fails_is_a_sentence(name, message):
    """Its mixtures are looked at before anything is dealt by them."""
    mixtures = split.build(f"{__name__}:{name}")
    with pytest.raises(PluginError, match=f"^split '{__name__}:{name}' {message}"):
        mixtures(4, 2, stream(0, Purpose.PARTITION))


def data_of(x, y, classes=2):
    """Return a builder of data sets with these to train and to test with."""
    return lambda root, test, seed: Dataset("theirs", classes, x, y, x, y)


X = np.zeros((3, 4), np.float32)
unequal = data_of(X, np.zeros(2, np.int64))
of_floats = data_of(X, np.zeros(3))
beyond = data_of(X, np.array([0, 1, 2]))
not_finite = data_of(np.full_like(X, np.nan), np.zeros(3, np.int64))
empty = data_of(X[:0], np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unequal", r"has inputs \(3, 4\) and targets \(2,\) to train with"),
        ("of_floats", "has targets of float64 to train with; they must be int64"),
        ("beyond", "has targets from 0 to 2, and 2 classes from 0 on"),
        ("not_finite", "has values to train with that are not finite"),
        ("empty", r"has inputs \(0, 4\)"),
    ],
)
def test_a_data_set_that_nobody_can_learn_from_is_a_sentence(tmp_path, name, message):
    """Lengths, types and values are looked at when it is loaded."""
    with pytest.raises(ValueError, match=f"^data set '{__name__}:{name}' {message}"):
        datasets.load(f"{__name__}:{name}", tmp_path)


def unarmed(options):
    """Build a backdoor that is armed with nothing."""
    return backdoors.Task((), lambda data, labels, seed: None)


def misfiring(options):
    """Build a backdoor that fails when it is armed."""
    return backdoors.Task((), lambda data, labels, seed: {}["a"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("unarmed", "made no Backdoor but NoneType"), ("misfiring", "fails: KeyError: 'a' ")],
)
def test_a_backdoor_that_cannot_be_armed_is_a_sentence(name, message):
    """It is armed before the first round."""
    data = data_of(X, np.zeros(3, np.int64))(None, 0, 0)
    with pytest.raises(PluginError, match=f"^backdoor '{__name__}:{name}' {message}"):
        backdoors.build(f"{__name__}:{name}").arm(data, data.y_train, 0)


def mean_loss():
    """Build a loss that takes the mean itself."""
    return torch.nn.functional.cross_entropy


def failing_loss():
    """Build a loss that fails."""
    return lambda outputs, labels: {}["a"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mean_loss", r"gives \(\) for 3 samples; it must give the loss of each, \(3,\)"),
        ("failing_loss", r"fails: KeyError: 'a' \(.*test_bad_plugins.py, line \d+\)"),
    ],
)
def test_a_loss_is_tried_at_the_start(name, message):
    """On a few samples: the loss of each is asked for, and no mean."""
    data = data_of(X, np.zeros(3, np.int64))(None, 0, 0)
    theirs_ = f"{__name__}:{name}"
    task = task_of(data, loss=theirs_)
    model = torch.nn.Linear(4, 2)
    with pytest.raises(ValueError, match=f"^loss '{theirs_}' {message}"):
        check_loss(theirs_, model, torch.from_numpy(X), torch.zeros(3, dtype=torch.int64), task)


def test_an_attack_that_is_none_is_a_sentence():
    """Neither a function nor a Collusion."""
    from support.worlds import world  # noqa: PLC0415

    from fedjury import attacks  # noqa: PLC0415

    with pytest.raises(ValueError, match=rf"^attack '{__name__}:no_attack' made int, which is no"):
        attacks.build(f"{__name__}:no_attack", world())


# ---------------------------------------------------------------- codecs

GOOD = Encoding(lambda n: 4 * n, np.ndarray.tobytes, lambda data, _: np.frombuffer(data, "<f4"))


@pytest.fixture
def offered(monkeypatch):
    """Return a function that lets an installed package offer a codec called theirs."""

    def offer(encoding):
        checked = codecs.checked(encoding, "theirs")
        monkeypatch.setitem(compression.ENCODINGS, "theirs", checked)
        monkeypatch.setattr(compression, "CODECS", (*compression.CODECS, "theirs"))
        where = EntryPoint("theirs", f"{__name__}:GOOD", "fedjury.codecs")
        monkeypatch.setitem(CODECS.__dict__, "offered", {"theirs": where})
        monkeypatch.setattr(sys.modules[__name__], "GOOD", lambda: encoding)

    return offer


@pytest.mark.parametrize(
    "decode",
    [
        lambda data, n: np.zeros(n + 1, np.float32),
        lambda data, n: np.zeros(n),
        lambda data, n: [0.0] * n,
        lambda data, n: {}["a"],
    ],
    ids=["longer", "float64", "list", "raises"],
)
def test_what_a_codec_fails_to_read_is_malformed(offered, decode):
    """The message is refused, as anything else that is no encoding."""
    offered(GOOD._replace(decode=decode))
    with pytest.raises(BadMessage) as caught:
        compression.decompress(Packed("theirs", 2, bytes(8)))
    assert caught.value.reason is Reason.MALFORMED


def writes(vector):
    """Change the vector that is to be sent."""
    vector[:] = 0
    return vector.tobytes()


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda vector: {}["a"], "codec 'theirs' fails: KeyError: 'a'"),
        (
            lambda vector: "text",
            "codec 'theirs' wrote str for 2 values; it must be at most 8 bytes",
        ),
        (lambda vector: bytes(9), "codec 'theirs' wrote 9 bytes for 2 values"),
        (writes, "codec 'theirs' fails: ValueError: assignment destination is read-only"),
    ],
    ids=["raises", "text", "longer", "writes"],
)
def test_where_a_codec_fails_to_write_float32_is_sent(offered, encode, message):
    """Nothing is lost, and people are told."""
    offered(GOOD._replace(encode=encode))
    told = []
    delta = np.array([1, 2], np.float32)
    update = Update("a", 1, 0, 4, delta)
    payload = Encoder(lambda text, kind: told.append(text)).encode(update, "theirs")
    assert payload == Encoder().encode(update, "float32")
    assert told[0].startswith(message)
    assert told[0].endswith("; float32 is sent where it fails")
    assert compression.as_received(delta, "theirs").tolist() == delta.tolist() == [1, 2]


def test_a_codec_that_cannot_be_built_keeps_nobody_from_starting(monkeypatch):
    """An installed package offers it; the sentence comes where somebody asks for it."""
    where = EntryPoint("broken", "nosuchmodule:codec", "fedjury.codecs")
    monkeypatch.setitem(CODECS.__dict__, "offered", {"broken": where})
    found, broken = codecs.buildable()
    assert list(found) == list(CODECS.own)
    assert broken["broken"].startswith("codec 'broken': there is no module 'nosuchmodule'")
    monkeypatch.setattr(compression, "BROKEN", broken)
    with pytest.raises(ValueError, match="there is no module 'nosuchmodule'"):
        compression.encoding_of("broken+zstd")


# ---------------------------------------------------------------- whose fault it is


class Net(torch.nn.Module):
    """A network that fails."""

    def forward(self, x):
        """Fail."""
        raise RuntimeError("no such layer")


def failure_of(function, *given):
    """Return what a function raises."""
    with pytest.raises(Exception) as caught:
        function(*given)
    return caught.value


def test_the_plugin_whose_line_failed_is_blamed():
    """Of several in one file, the one whose function or class the line is in."""
    here = theirs((LOSSES, f"{__name__}:failing_loss"), (MODELS, f"{__name__}:Net"), (LOSSES, ""))
    assert len(here) == 2
    of_net = blamed(failure_of(Net(), X), here)
    assert of_net.startswith(f"model '{__name__}:Net' fails: RuntimeError: no such layer (")
    of_loss = blamed(failure_of(failing_loss(), X, X), here)
    assert of_loss.startswith(f"loss '{__name__}:failing_loss' fails: KeyError: 'a' (")
    elsewhere = blamed(failure_of(torch.zeros, "x"), theirs((MODELS, "torch.nn:Identity")))
    assert elsewhere.startswith("model 'torch.nn:Identity' fails: TypeError: ")


def test_our_own_mistakes_are_not_blamed_on_others():
    """Where nothing is somebody else's, and where memory is short."""
    assert theirs((LOSSES, "cross_entropy"), (MODELS, "mlp")) == ()
    assert blamed(KeyError("a"), ()) == ""
    assert blamed(MemoryError(), theirs((MODELS, "torch.nn:Identity"))) == ""
    with pytest.raises(MemoryError), working(MODELS, "torch.nn:Identity"):
        raise MemoryError


def test_a_server_that_was_to_vote_and_cannot_is_counted_as_silent():
    """Beside clients whose votes are enough the candidate is accepted, with a silent voter."""
    from support.by_hand import policy, start, vote  # noqa: PLC0415

    from fedjury.round.state import Aggregated, Voting  # noqa: PLC0415
    from fedjury.round.verdict import by_validators  # noqa: PLC0415

    said = policy(validators=2)
    state, _ = start(said)
    state = state.but(validators=("a", "b"))
    phase = Voting(
        Aggregated(),
        votes={name: vote(name) for name in "ab"},
        server=ServerView(np.zeros(2, np.int64), None, "its judge fails"),
    )
    decision = by_validators(state, phase, said)
    assert (decision.why, decision.votes.clean, decision.votes.silent) == ("", 2, 1)
