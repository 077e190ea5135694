"""Secure aggregation in Node.js refuses what ours refuses, in the same words, and says the same.

What it computes is compared with a frozen vector in examples/secure.test.mjs. How it takes part is
tried on a real broker, with the rest of the group in the hands of the test.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.listening import RawClient, until
from support.network import KIND, RUN
from support.node_agent import (
    NAME,
    SAMPLES,
    Agents,
    found_node,
    javascript,
    manifest_of,
    small_digits,
    written_csv,
)

from fedjury.broker.local import local_broker
from fedjury.learning import models
from fedjury.learning.weights import flatten
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import Decline, Model, Phase, Round
from fedjury.protocol.secure import BOX, KEY, SecureInbox, SecurePeers, UnmaskRequest
from fedjury.secure import agent
from fedjury.secure.agent import Least, Opened, Refusal
from fedjury.secure.group import Group, Terms, advance, take, told
from fedjury.secure.keys import LOW_ORDER
from fedjury.secure.opening import opened

FILE = Path(__file__).parents[1] / "unit" / "recorded" / "secure_vector.json"
VECTOR = json.loads(FILE.read_text(encoding="utf-8"))
TURN = VECTOR["round"], VECTOR["attempt"]
LENGTH = 8
TOPIC = f"fl/v2/{RUN}"
LEAST = Least()

STEPS = """
const bytes = (digits) => Buffer.from(digits, 'hex');
const hex = (data) => Buffer.from(data).toString('hex');
const said = (step) => {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof secure.Refusal)) throw error;
    return error.message;
  }
};
const { vector, least } = given;
const own = vector.agents[given.name];
const turn = { round: vector.round, attempt: vector.attempt };
const source = () => {
  let at = 0;
  return (size) => {
    at += size;
    return bytes(own.random_bytes.repeat(8)).subarray(at - size, at);
  };
};
const heard = (step) => bytes(
  own.messages.find(({ topic }) => topic === `secure/${step}/${given.name}`).payload);
const shareIt = (payload, before, least = given.least) => {
  const random = source();
  const joined = secure.join(given.name, vector.run, turn, own.samples, random);
  return secure.shareSecrets(joined, wire.readPeers(payload), before, least, random);
};
const maskIt = (payload) => (
  secure.addMasks(shareIt(heard('peers')), wire.readInbox(payload), 8));
"""


@pytest.fixture(scope="module")
def node():
    """Find Node.js, with the packages of the agent."""
    return found_node()


def stream(name):
    """Return the source of an agent's random bytes."""
    drawn, at = bytes.fromhex(VECTOR["agents"][name]["random_bytes"] * 8), [0]

    def take(size):
        at[0] += size
        return drawn[at[0] - size : at[0]]

    return take


def heard(name, step):
    """Return what an agent was told, and what it is told on."""
    topic = f"secure/{step}/{name}"
    said = {one["topic"]: one["payload"] for one in VECTOR["agents"][name]["messages"]}
    return decode(f"fl/v2/lab/{topic}", bytes.fromhex(said[topic]), Limits())


def asked(node, code, cases):
    """Ask the agent in Node.js what it says in each case."""
    given = {"vector": VECTOR, "name": "ada", "least": LEAST._asdict(), "cases": cases}
    return javascript(node, STEPS + code, given)


def own_shared(name, peers, before=None, least=LEAST):
    """Take an agent of ours to its shares."""
    random = stream(name)
    samples = VECTOR["agents"][name]["samples"]
    joined, _ = agent.join(name, VECTOR["run"], TURN, samples, random)
    return agent.share(joined, peers, before, least, random)


def said_by(step):
    """Return what comes of a step: its answer in hexadecimal digits, or why it is refused."""
    try:
        return step().hex()
    except Refusal as why:
        return str(why)


def bad_peers(peers):
    """Go through peers that cannot be, of one who has four neighbours in a group of six."""
    names, places = peers.names, np.frombuffer(peers.places, "<u4")

    def placed(*numbers):
        return np.array(numbers, "<u4").tobytes()

    yield from (
        {"members": 2},
        {"members": 4},
        {"members": 5},
        {"names": "bob"},
        {"names": "bob cem dan"},
        {"names": "bob bob dan eve"},
        {"names": f"{peers.agent} cem dan eve"},
        {"names": names, "threshold": 1},
        {"threshold": 4},
        {"threshold": 5},
        {"places": peers.places[:-4]},
        {"places": placed(*places[::-1])},
        {"places": placed(1, 1, 3, 4)},
        {"places": placed(1, 2, 3, 6)},
        {"place": int(places[0])},
        {"place": 6},
        {"mask_keys": peers.mask_keys[:-KEY]},
        {"box_keys": peers.box_keys + bytes(KEY)},
        {"weight": peers.largest + 1},
        {"weight": 61, "largest": 61},
        {"weight": 59},
        {"weight": 59, "largest": 59},
        {"clip": 0.0},
        {"clip": 2.0**-150},
        {"clip": 2.0**-149},
        {"clip": 2.0**128},
        {"clip": -1.0},
        {"bits": 7},
        {"bits": 18},
        {"bits": 4},
        {"bits": 36},
        {"bits": 8, "members": 128},
        {"bits": 8, "members": 129},
        {"bits": 32, "members": 2**31 - 1},
        {"group": 2**31 - 1},
        {},
    )
    for point in sorted(LOW_ORDER):
        yield {"mask_keys": peers.mask_keys[: 2 * KEY] + point + peers.mask_keys[3 * KEY :]}
        yield {"box_keys": point + peers.box_keys[KEY:]}


def test_it_refuses_the_same_peers_in_the_same_words(node):
    """Each kind of peers that cannot be; where they can, its shares are ours, byte for byte."""
    peers = heard("ada", "peers")
    cases = [replace(peers, **changes) for changes in bad_peers(peers)]
    ours = [said_by(lambda one=one: own_shared("ada", one).sent.boxes) for one in cases]
    code = """
    console.log(JSON.stringify(given.cases.map((payload) => said(() => (
      hex(shareIt(bytes(payload)).sent.boxes))))));
    """
    assert asked(node, code, [encode(one).hex() for one in cases]) == ours
    assert len({*ours}) > 16
    assert sum(len(one) > 200 for one in ours) >= 4


def test_it_asks_for_no_less_than_we_do(node):
    """What it asks for at the least, and the sum that was opened before, count as in ours."""
    peers = heard("ada", "peers")
    cases, ours = [], []
    own = bytes.fromhex(VECTOR["agents"]["ada"]["summed"])
    for least in (Least(7), Least(6, 5), Least(6, 4, 3), Least(6, 4, 2)):
        for roster in (None, own, bytes(32)):
            before = None if roster is None else Opened(roster, b"\x3f")
            ours.append(said_by(lambda: own_shared("ada", peers, before, least).sent.boxes))  # noqa: B023
            known = roster and {"summed": roster.hex(), "survivors": "3f"}
            cases.append([known, least._asdict()])
    code = """
    console.log(JSON.stringify(given.cases.map(([before, atLeast]) => said(() => (
      hex(shareIt(heard('peers'), before, atLeast).sent.boxes))))));
    """
    assert asked(node, code, cases) == ours
    assert len({*ours}) == 5


def test_it_opens_the_same_boxes(node):
    """Boxes that are changed, missing, exchanged or too few: its masks and shares are ours."""
    inbox, draw = heard("ada", "inbox"), np.random.default_rng(1)
    boxes = agent.pieces(inbox.boxes, BOX)
    changed = [bytes([*one[:50], one[50] ^ 1, *one[51:]]) for one in boxes]
    kinds = [boxes, changed, [bytes(BOX)] * 4, boxes[::-1]]
    chosen = [draw.choice(4, 4, p=(0.4, 0.2, 0.2, 0.2)) for _ in range(40)]
    cases = [b"".join(kinds[kind][i] for i, kind in enumerate(row)) for row in chosen]
    cases += [inbox.boxes, inbox.boxes[:-BOX], inbox.boxes + bytes(BOX)]
    shared = own_shared("ada", heard("ada", "peers"))

    def masks(one):
        masked = agent.add_masks(shared, replace(inbox, boxes=one), LENGTH)
        return masked.words.astype("<u4").tobytes() + b"".join(masked.shares)

    ours = [said_by(lambda one=one: masks(one)) for one in cases]
    code = """
    console.log(JSON.stringify(given.cases.map((payload) => said(() => {
      const { words, shares } = maskIt(bytes(payload));
      return hex(Buffer.concat([Buffer.from(words.buffer), ...shares.filter(Boolean)]));
    }))));
    """
    payloads = [encode(replace(inbox, boxes=one)).hex() for one in cases]
    assert asked(node, code, payloads) == ours
    assert 10 < sum(len(one) > 100 for one in ours) < len(ours) - 10


def test_it_helps_to_open_the_same_sums(node):
    """Of all sets of survivors, with any sum that was opened before: the answers of ours."""
    shared = own_shared("ada", heard("ada", "peers"))
    masked = agent.add_masks(shared, heard("ada", "inbox"), LENGTH)
    own = agent.unmask(masked, heard("ada", "unmask"), None, LEAST)[1]
    befores = [None, own, own._replace(roster=bytes(32))]
    sets = [bytes([number]) for number in range(64)] + [b"\x2d\x00"]
    cases, ours = [], []
    for before in befores:
        for survivors in sets:
            request = UnmaskRequest("ada", *TURN, survivors)
            ours.append(
                said_by(lambda: agent.unmask(masked, request, before, LEAST)[0].answer.shares)  # noqa: B023
            )
            known = before and {"summed": before.roster.hex(), "survivors": "2d"}
            cases.append([encode(request).hex(), known])
    code = """
    const masked = maskIt(heard('inbox'));
    console.log(JSON.stringify(given.cases.map(([payload, before]) => said(() => {
      const request = wire.readUnmask(bytes(payload));
      return hex(secure.unmask(masked, request, before ?? undefined, least).sent.shares);
    }))));
    """
    assert asked(node, code, cases) == ours
    assert len({*ours}) > 10


# ---------------------------------------------------------------- on a broker, the group by hand


OURS = ("our-0", "our-1", "our-2")
"""Agents whose updates are zero, so that the sum is that of the agent in Node.js."""


class Aggregation:
    """A run with one group, in which all but one are ours."""

    def __init__(self, people, manifest):
        self._people, self._manifest = people, manifest
        self._limits = Limits(manifest.parameters)

    def play(self, part, message, *, retain=False):
        """Say what the aggregator would."""
        self._people.publish(f"{TOPIC}/{part}", encode(message), retain=retain)

    def hear(self, kind, turn):
        """Wait for what the agent says in a step of an attempt, or that it declines."""

        def found():
            for one in list(self._people.heard):
                if one.topic in (f"{TOPIC}/secure/{kind}/{NAME}", f"{TOPIC}/decline/{NAME}"):
                    message = decode(one.topic, one.payload, self._limits)
                    if (message.round, message.attempt) == turn:
                        return message
            return None

        return until(found, 30)

    def attempt(self, turn, ours, version=0):
        """Open an attempt, and go through its steps; returns how it ends, or a Decline."""
        round_ = Round(*turn, Phase.TRAIN, version, "all", (), 60.0)
        self.play("round", round_, retain=True)
        length = self._manifest.parameters + 1
        terms = Terms(RUN, 0.2, 0.2, 3, 14, 10_000, os.urandom)
        group = Group(0, turn, version, length, frozenset({NAME, *ours}))
        states = {}
        for name in ours:
            states[name], keys = agent.join(name, RUN, turn, SAMPLES, os.urandom)
            group = take(group, keys)
        for kind in ("keys", "shares", "masked", "unmasked"):
            answer = self.hear(kind, turn)
            if isinstance(answer, Decline):
                return answer
            group = take(group, answer)
            assert isinstance(group, Group), group
            if kind == "unmasked":
                break
            group = advance(group, terms, 0.5)
            part = {"keys": "peers", "shares": "inbox", "masked": "unmask"}[kind]
            self.play(f"secure/{part}/{NAME}", told(group, NAME))
            for name in ours:
                states[name], message = self._step(states[name], told(group, name), version)
                group = take(group, message)
        return opened(group, RUN)

    def _step(self, state, message, version):
        """Take one of ours to its next step; returns its state, and what it says."""
        match message:
            case SecurePeers():
                shared = agent.share(state, message, None, LEAST, os.urandom)
                return shared, shared.sent
            case SecureInbox():
                masked = agent.add_masks(state, message, self._manifest.parameters + 1)
                nothing = np.zeros(self._manifest.parameters, np.float32)
                return masked, agent.masked_update(masked, version, nothing)
            case UnmaskRequest():
                answered, _ = agent.unmask(state, message, None, LEAST)
                return answered, answered.answer


def loss(network, weights, x, y):
    """Measure the cross-entropy of a model."""
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), network.parameters())
    with torch.inference_mode():
        return float(torch.nn.functional.cross_entropy(network(x), y))


def test_its_update_is_only_in_the_sum_and_in_no_two_that_differ(node, tmp_path):
    """It learns, as the sum shows; killed and started again, it knows whose sum it has opened."""
    digits = small_digits()
    network = models.build("mlp", (1, 8, 8), 10, seed=2)
    start = flatten(network)
    manifest = replace(manifest_of(network), secure=LEAST._asdict())
    agents = Agents(node, tmp_path, written_csv(tmp_path, digits))
    state = ["--state", str(tmp_path / "sums")]
    with (
        local_broker(KIND, say=lambda _: None) as address,
        RawClient(address, f"{TOPIC}/#") as people,
    ):
        run = Aggregation(people, manifest)
        run.play("manifest", manifest, retain=True)
        run.play("model", Model(0, start), retain=True)
        try:
            child = agents.start(address, *state)
            until(lambda: people.payloads(f"agent/{NAME}"))
            first = run.attempt((1, 1), OURS)
            assert first.members == (NAME, *OURS)
            step = 4 * first.mean  # the others, of the same weight, have learnt nothing
            assert (
                loss(network, start + step, *digits[1:]) < loss(network, start, *digits[1:]) - 0.01
            )
            run.play(f"secure/unmask/{NAME}", UnmaskRequest(NAME, 1, 1, b"\x07"))
            [refusal] = until(lambda: people.payloads(f"decline/{NAME}"))
            assert json.loads(refusal)["why"] == "a second request that differs from the first"
            child.kill()
            child.wait()
            agents.start(address, *state)
            other = run.attempt((2, 1), OURS[:2])
            assert isinstance(other, Decline)
            assert (
                other.why
                == "another sum over the same model was opened, with other members or weights"
            )
            assert run.attempt((2, 2), OURS).members == (NAME, *OURS)
            run.play("model", Model(1, start + step), retain=True)
            assert run.attempt((3, 1), OURS[:2], version=1).members == (NAME, *OURS[:2])
        finally:
            agents.kill()
        assert not people.payloads("/update/")
