"""The agent in Node.js, written from docs/protocol.md alone: its numbers, and how it takes part.

What it computes is compared with PyTorch and with our own judges; that a run counts what it says
is tried on a real broker, among agents of our own.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.federation import settings_of
from support.listening import RawClient, until
from support.network import KIND, RUN, Programs
from support.node_agent import (
    EXAMPLES,
    LOOK_BACK,
    NAME,
    SAMPLES,
    Agents,
    found_node,
    javascript,
    manifest_of,
    small_digits,
    written_csv,
)
from support.strange_brokers import raw_broker, tls_broker
from support.worlds import TASK

import fedjury
from fedjury import judges
from fedjury.agents.agent import JudgeGroups
from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import assemble
from fedjury.broker import enrolment, principals
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.learning import datasets, models
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.error_profiles import error_profile
from fedjury.learning.evaluation import predict
from fedjury.learning.shards import Shards
from fedjury.learning.training import Training, train_alone
from fedjury.learning.weights import flatten, tensors
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.compression import as_received
from fedjury.protocol.counts import unpacked
from fedjury.protocol.messages import (
    Candidate,
    GroupCandidate,
    GroupHistory,
    History,
    Model,
    Phase,
    Round,
    Update,
)
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

ROOT = Path(__file__).resolve().parents[2]
TOPIC = f"fl/v2/{RUN}"


@pytest.fixture(scope="module")
def node():
    """Find Node.js, with the packages of the agent."""
    return found_node()


@pytest.fixture(scope="module")
def digits():
    """Load the agent's data."""
    return small_digits()


@pytest.fixture(scope="module")
def csv(digits, tmp_path_factory):
    """Write the agent's data."""
    return written_csv(tmp_path_factory.mktemp("own"), digits)


# ---------------------------------------------------------------- numbers


def test_its_own_tests_pass(node):
    """Its own tests, gradients against finite differences among them, pass."""
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[1]) > 15


TRAIN = """
const net = new network.Network(given.model, given.shape, given.classes);
const own = {
  count: given.labels.length,
  pixels: given.pixels.map((row) => Float32Array.from(row)),
  labels: Int32Array.from(given.labels),
};
const delta = end(training.train(net, Float32Array.from(given.weights), own, given.how));
console.log(JSON.stringify({ delta: [...delta], tensors: net.tensors }));
"""


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("mlp", (1, 8, 8)),
        ("classifier", (1, 28, 28)),
        ("lenet", (3, 20, 17)),
        ("cnn", (1, 13, 12)),
    ],
)
@pytest.mark.parametrize("plan", [Training(1, 99, 0.1, 0.0), Training(3, 99, 0.05, 0.9)])
def test_it_trains_like_pytorch(node, model, shape, plan):
    """From the same weights and data, a full batch a step, it learns what PyTorch learns."""
    draw = np.random.default_rng(3)
    network = models.build(model, shape, 10, seed=1)
    weights = flatten(network) + draw.normal(size=len(flatten(network))).astype("f4") * 0.01
    x, y = draw.random((8, *shape), dtype=np.float32), draw.integers(0, 10, 8)
    own = Shards(torch.from_numpy(x), torch.from_numpy(y), torch.arange(8)[None])
    order = np.tile(np.arange(8), (1, plan.epochs, 1))
    [expected] = train_alone(network, weights, own, plan, order, TASK)
    got = javascript(
        node,
        TRAIN,
        {
            "model": model,
            "shape": shape,
            "classes": 10,
            "weights": weights.tolist(),
            "pixels": x.reshape(8, -1).tolist(),
            "labels": y.tolist(),
            "how": plan._asdict() | {"options": dict(plan.options)},
        },
    )
    assert [tuple(shape) for shape in got["tensors"]] == [t.shape for t in tensors(network)]
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(got["delta"], expected, atol=1e-4, rtol=0)


# ---------------------------------------------------------------- votes


VOTE = """
const samples = data.readCsv(given.csv);
const agent = new member.Member('node-1', samples, () => {});
for (const [part, payload] of given.messages) agent.hear(part, Buffer.from(payload, 'base64'));
const { part, payload } = end(agent.work());
console.log(JSON.stringify({ part, payload: Buffer.from(payload).toString('base64') }));
"""


@pytest.fixture(scope="module")
def honest_path():
    """Train a small network for a while; returns it, and its weights after each pass."""
    data = datasets.load("digits", ROOT / "data", test=500)
    network = models.build("mlp", (1, 8, 8), 10, seed=2)
    own = Shards(
        torch.from_numpy(data.x_train), torch.from_numpy(data.y_train), torch.arange(400)[None]
    )
    draw = np.random.default_rng(5)
    path = [flatten(network)]
    for _ in range(LOOK_BACK + 1):
        order = draw.permutation(400)[None, None]
        [delta] = train_alone(network, path[-1], own, Training(1, 20, 0.03, 0.0), order, TASK)
        path.append(path[-1] + delta)
    return network, path


def messages_of(manifest, accepted, candidate, phase=Phase.VALIDATE):
    """Write what a validator hears before it votes, as (part of the topic, payload)."""
    number, version = 12, len(accepted) - 1
    called = Round(number, 1, phase, version, "all", (NAME,), 9.0)
    yield "manifest", encode(manifest)
    yield "round", encode(called)
    codec = manifest.history_codec
    yield "candidate", encode(Candidate(number, 1, version, candidate), codec)
    for past, weights in enumerate(accepted):
        yield f"history/{past}", encode(History(past, weights), codec)


def answers_of(manifest, digits, network, weights):
    """Return what a model says of the digits, after it has travelled."""
    return predict(network, as_received(weights, manifest.history_codec), digits[1], TASK)


def opinion_of(manifest, digits, network, accepted, candidate):
    """Ask our own judge."""
    labels = digits[2].numpy()
    answers = [answers_of(manifest, digits, network, each) for each in (*accepted, candidate)]
    profiles = np.array([error_profile(one, labels, 10) for one in answers])
    judge = judges.build(manifest.judge, minimum_history=manifest.minimum_history)
    return judge(profiles[None, :-1], profiles[-1:])


@pytest.mark.parametrize("poisoned", [False, True])
@pytest.mark.parametrize(
    ("judge", "codec"),
    [
        ("lof", "float32"),
        ("lof", "int7+zstd"),
        ("lof", "int8"),
        ("calibrated", "float16+zstd"),
        ("calibrated", "int8+zstd"),
        ("auto", "float32"),
    ],
)
def test_it_votes_as_our_own_judges(node, digits, csv, honest_path, judge, codec, poisoned):
    """For the same models and data it says what our judge says, of a clean and a ruined model."""
    network, path = honest_path
    *accepted, candidate = path
    if poisoned:
        candidate = -10 * candidate
    manifest = manifest_of(network, judge, codec)
    heard = list(messages_of(manifest, accepted, candidate))
    got = javascript(
        node,
        VOTE,
        {"csv": str(csv), "messages": [[part, b64encode(p).decode()] for part, p in heard]},
    )
    assert got["part"] == f"vote/{NAME}"
    payload = b64decode(got["payload"])
    vote = decode(f"{TOPIC}/vote/{NAME}", payload, Limits(manifest.parameters, counts=180))
    opinion = opinion_of(manifest, digits, network, accepted, candidate)
    assert (vote.round, vote.attempt, vote.samples) == (12, 1, SAMPLES)
    assert vote.poisoned == opinion.poisoned[0] == poisoned
    assert vote.score == opinion.score[0]
    assert vote.threshold == pytest.approx(opinion.threshold[0], rel=1e-12)
    seen = np.frombuffer(vote.evidence, "<f4")
    np.testing.assert_array_equal(seen, opinion.evidence[0].astype("<f4"))
    assert vote.size == sum(len(payload) for _, payload in heard[2:])
    both = [answers_of(manifest, digits, network, each) for each in (accepted[-1], candidate)]
    assert vote.changed == np.count_nonzero(both[0] != both[1])
    before, after = (error_profile(one, digits[2].numpy(), 10) for one in both)
    assert vote.changed_errors == abs(before - after).sum()
    assert vote.counts == b""


@pytest.mark.parametrize("piggyback", [False, True])
def test_it_sends_the_counts_that_it_judged_by_where_they_are_asked_for(
    node, digits, csv, honest_path, piggyback
):
    """Of all models that it looks back at, then of the candidate; also if the vote is an update."""
    network, path = honest_path
    manifest = replace(manifest_of(network, "robust", "float32"), counts=True)
    phase = Phase.JUDGE_AND_TRAIN if piggyback else Phase.VALIDATE
    heard = list(messages_of(manifest, path[:-1], path[-1], phase))
    got = javascript(
        node,
        VOTE,
        {"csv": str(csv), "messages": [[part, b64encode(p).decode()] for part, p in heard]},
    )
    assert got["part"] == f"{'update' if piggyback else 'vote'}/{NAME}"
    payload = b64decode(got["payload"])
    said = decode(f"{TOPIC}/{got['part']}", payload, Limits(manifest.parameters, counts=180))
    labels = digits[2].numpy()
    profiles = [
        error_profile(answers_of(manifest, digits, network, each), labels, 10) for each in path
    ]
    assert unpacked(said.counts).tolist() == np.concatenate(profiles).tolist()


JUDGE = """
const row = (counts) => Float64Array.from(counts);
const said = Object.fromEntries(Object.entries(given.least).map(([name, least]) => {
  const own = judge.judgeOf({ judge: name, judge_options: {}, minimum_history: least });
  return [name, given.histories.map((models) => {
    const { poisoned, score, threshold, evidence } = own(
      models.slice(0, -1).map(row), row(models.at(-1)));
    return [poisoned, score, threshold, evidence.map(Math.fround)];
  })];
}));
console.log(JSON.stringify(said));
"""

LEAST = {"lof": 3, "calibrated": 4, "robust": 3, "auto": 3}


def test_votes_on_counts_are_the_same_bit_for_bit(node):
    """Of 600 histories, most full of ties, all judges say the same, to the last bit of a score.

    The thresholds of all but ``lof`` are quantiles, which are computed in two ways.
    """
    draw = np.random.default_rng(0)
    histories = [
        draw.binomial(samples, rate, (draw.integers(5, 26), 2 * draw.integers(1, 11)))
        for samples in (4, 30, 500)
        for rate in (0.01, 0.1)
        for _ in range(100)
    ]
    for counts in histories[::3]:
        counts[-1, 0] += 6
    given = {"least": LEAST, "histories": [counts.tolist() for counts in histories]}
    got = javascript(node, JUDGE, given)
    for name, least in LEAST.items():
        own = judges.build(name, minimum_history=least)
        votes = []
        for counts, theirs in zip(histories, got[name], strict=True):
            ours = own(counts[None, :-1], counts[-1:])
            assert theirs[:2] == [ours.poisoned[0], ours.score[0]]
            exact, near = ours.threshold[0], pytest.approx(ours.threshold[0], rel=1e-12)
            assert theirs[2] == (exact if name == "lof" else near)
            np.testing.assert_array_equal(theirs[3], ours.evidence[0].astype("<f4"))
            votes.append(theirs[0])
        assert 0 < sum(votes) < len(votes)


# ---------------------------------------------------------------- votes on groups


def groups_messages_of(manifest, called, accepted, candidates):
    """Write what a validator hears before it votes on groups, as (part of the topic, payload)."""
    codec, version = manifest.history_codec, len(accepted) - 1
    yield "manifest", encode(manifest)
    yield "round", encode(called)
    for group in called.groups_of(called.validators.index(NAME)):
        said = GroupCandidate(group, called.round, 1, version, candidates[group])
        yield f"group/{group}", encode(said, codec)
    for past, weights in enumerate(accepted):
        yield f"group-history/{past}", encode(GroupHistory(past, weights), codec)


def simulated_batch(manifest, digits):
    """Make the batch of one simulated agent that holds the digits."""
    settings = settings_of(agents__n=1, agents__samples=SAMPLES, agents__malicious=0.0)
    pixels = digits[1].numpy().reshape(-1, 1, 8, 8)
    own = Dataset("digits", 10, pixels, digits[2].numpy(), pixels[:1], digits[2].numpy()[:1])
    return assemble(simulated_agents_of(settings), own, range(1), manifest)


def device_batch(manifest, digits, network):
    """Make the batch of a real device that holds the digits."""
    device = fedjury.Device("agent-0", "memory:lab", run="lab", model=network, say=[].append)

    @device.evaluate
    def evaluate(model, turn):
        with torch.no_grad():
            answers = model(digits[1]).argmax(1)
        return fedjury.Metrics(SAMPLES, predictions=answers, targets=digits[2])

    return device.runner(MemoryTransport(MemoryBroker(), "lab")).new_batch(manifest)


@pytest.mark.parametrize("each", [0, 3])
@pytest.mark.parametrize(
    ("judge", "codec"), [("lof", "float32"), ("lof", "int8"), ("robust", "int7+zstd")]
)
def test_it_votes_on_groups_as_our_own_validators(
    node, digits, csv, honest_path, judge, codec, each
):
    """Of five groups, one ruined, it says to the bit what our devices and simulated agents say."""
    network, path = honest_path
    *accepted, fair = path
    step = fair - accepted[-1]
    candidates = [accepted[-1] + np.float32(share) * step for share in (0.5, 1, 1.5, 0, 0.7)]
    candidates[3] = -10 * fair
    manifest = manifest_of(network, judge, codec)
    called = Round(
        12,
        1,
        Phase.VALIDATE_GROUPS,
        len(accepted) - 1,
        "all",
        ("another", NAME),
        9.0,
        groups=5,
        each=each,
    )
    heard = list(groups_messages_of(manifest, called, accepted, candidates))
    given = {"csv": str(csv), "messages": [[part, b64encode(p).decode()] for part, p in heard]}
    got = javascript(node, VOTE, given)
    assert got["part"] == f"group-vote/{NAME}"
    said = decode(f"{TOPIC}/group-vote/{NAME}", b64decode(got["payload"]), Limits(len(fair)))
    assert said.numbers == ((0, 3, 4) if each else (0, 1, 2, 3, 4))
    assert {3} <= {group for group, vote in said.votes().items() if vote.poisoned} < {*said.numbers}
    assert said.size == sum(len(payload) for _, payload in heard[2:])
    assert said.cpu > 0
    task = JudgeGroups(12, 1, tuple(range(len(accepted))))
    arrived = {group: as_received(candidates[group], codec) for group in said.numbers}
    for batch in (simulated_batch(manifest, digits), device_batch(manifest, digits, network)):
        for version, weights in enumerate(accepted):
            batch.look_back_at_group(version, as_received(weights, codec))
        [ours] = batch.group_votes({"agent-0": said.numbers}, task, arrived)
        assert replace(said, agent="agent-0", size=0, cpu=0) == ours


# ---------------------------------------------------------------- on a broker, the rounds by hand


@pytest.fixture
def agents(node, tmp_path, csv):
    """Start agents as the test wants."""
    started = Agents(node, tmp_path, csv)
    yield started
    started.kill()


def online(people, name=NAME):
    """Return what was last said of an agent's presence."""
    said = [json.loads(payload)["online"] for payload in people.payloads(f"agent/{name}")]
    return said[-1] if said else None


GARBAGE = [
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"round": []}',
    b"\x1b[31m{}",
    b"<script>",
    b"9" * 4000,
    b"\xc1",
    json.dumps({"protocol": 1, "tensors": {}}).encode(),
    msgpack.packb({"weights": [1] * 9}),
    msgpack.packb({"version": 0, "weights": {"codec": "float32", "n": 2**31, "data": b""}}),
]


def play(people, part, message):
    """Say what the aggregator would."""
    people.publish(f"{TOPIC}/{part}", encode(message), retain=True)


def test_it_takes_part_whatever_strangers_say(broker, agents, honest_path):
    """Garbled messages are ignored; it trains, says the same again, begins again, and leaves."""
    network, path = honest_path
    manifest = manifest_of(network)
    limits = Limits(manifest.parameters)
    with RawClient(broker, f"{TOPIC}/update/#", f"{TOPIC}/agent/#") as people:

        def litter():
            for part in ("manifest", "round", "model", "candidate", "history/0"):
                for payload in GARBAGE:
                    people.publish(f"{TOPIC}/{part}", payload, retain=True)

        def updates(count):
            heard = until(lambda: (p := people.payloads("update/"))[count - 1 :] and p)
            return [decode(f"{TOPIC}/update/{NAME}", payload, limits) for payload in heard]

        litter()
        agent = agents.start(broker)
        until(lambda: online(people))
        called = Round(1, 1, Phase.TRAIN, 0, (NAME, "another"), (), 60.0)
        play(people, "manifest", manifest)
        play(people, "manifest", replace(manifest, model="resnet18"))
        litter()
        until(lambda: "waiting until the run has a manifest that fits" in agent.said())
        play(people, "manifest", manifest)
        play(people, "model", Model(0, path[0]))
        play(people, "round", called)
        [first] = updates(1)
        assert isinstance(first, Update)
        assert (first.round, first.version, first.samples) == (1, 0, SAMPLES)
        play(people, "round", replace(called, attempt=2))
        assert np.array_equal(updates(2)[1].delta, first.delta)
        play(people, "manifest", manifest)
        play(people, "round", replace(called, attempt=2))
        assert updates(3)[2].round == 1
        litter()
        play(people, "round", replace(called, attempt=2))  # it has answered this
        play(people, "round", replace(called, round=2, contributors="all"))
        assert updates(4)[3].round == 2
        play(people, "round", replace(called, round=2, phase=Phase.DONE))
        assert agent.wait(20) == 0
        assert until(lambda: online(people) is False)
        assert len(people.payloads("update/")) == 4
    said = agent.said()
    ignored = [line for line in said.splitlines() if line.startswith("ignored")]
    assert len(ignored) == len(set(ignored)) > 3
    assert said.replace("\n", "").isprintable()


def test_ctrl_c_and_a_kill_are_told(broker, agents):
    """Ctrl-C says goodbye and ends with 130; who is killed is told offline by the broker."""
    with RawClient(broker, f"{TOPIC}/agent/#") as people:
        stopped, killed = agents.start(broker), agents.start(broker, name="node-2")
        until(lambda: online(people) and online(people, "node-2"))
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(10) == 130
        assert "goodbye" in stopped.said()
        until(lambda: online(people) is False)
        killed.kill()
        until(lambda: online(people, "node-2") is False)
    with RawClient(broker, f"{TOPIC}/agent/#") as late:
        until(lambda: online(late) is False)  # retained
        assert late.heard[0].retain


def test_a_broker_that_comes_back_hears_of_it(agents, honest_path):
    """After a restart in which the broker forgot everything, it is online and takes part."""
    network, path = honest_path
    with local_broker(KIND, say=lambda _: None) as address:
        agent = agents.start(address)
        with RawClient(address, f"{TOPIC}/agent/#") as people:
            until(lambda: online(people))
    until(lambda: "lost" in agent.said())
    with (
        local_broker(KIND, say=lambda _: None, port=address.port) as again,
        RawClient(again, f"{TOPIC}/agent/#", f"{TOPIC}/update/#") as people,
    ):
        until(lambda: online(people))
        play(people, "manifest", manifest_of(network))
        play(people, "model", Model(0, path[0]))
        play(people, "round", Round(1, 1, Phase.TRAIN, 0, "all", (), 60.0))
        until(lambda: people.payloads(f"update/{NAME}"))


@pytest.mark.skipif(not find_mosquitto(), reason="mosquitto is not installed")
@pytest.mark.parametrize("tls", ["", "certificates"])
def test_it_logs_in_with_what_enrol_made(agents, tmp_path, tls):
    """With its secret it is let in, over TLS too; with a wrong one it says so and ends with 2."""
    secrets = tmp_path / "secrets"
    enrolment.enrol(
        secrets, principals.principals(None, names=[NAME]), tls=tls, hosts=["127.0.0.1"]
    )
    with local_broker("mosquitto", say=lambda _: None, secrets=secrets) as address:
        agent = agents.start(address, "--secrets", str(secrets))
        until(lambda: "joins run" in agent.said())
        agent.send_signal(signal.SIGINT)
        assert agent.wait(10) == 130
        stranger = agents.start(address, "--password", "guessed")
        assert stranger.wait(20) == 2
        assert stranger.said().startswith("error: ")
        assert len(stranger.said().splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--data", "nowhere.csv"], "cannot read nowhere.csv"),
        (["--broker", "127.0.0.1"], "HOST:PORT"),
        (["--name", "a/b"], "--name"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_errors_are_one_sentence(node, csv, flags, why):
    """What is wrong with the command line, or the broker, is one sentence and exit code 2."""
    done = subprocess.run(
        [node, EXAMPLES / "agent.mjs", "--data", csv, *flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


WRONG_CERTIFICATES = {
    "expired": ({"since": -9, "until_": -2}, "has expired; have a new one made"),
    "not yet valid": ({"since": 2, "until_": 9}, "is not valid yet; this machine's clock says"),
    "another address": ({"name": "192.0.2.7"}, "does not name 127.0.0.1; connect by a name"),
    "another authority": ({"ca": False}, "was not signed by the known authority"),
}


def told_by(node, csv, where, *flags):
    """Return the sentence with which the agent cannot have this broker."""
    done = subprocess.run(
        [node, EXAMPLES / "agent.mjs", "--data", csv, "--broker", str(where), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("case", WRONG_CERTIFICATES)
def test_certificates_that_do_not_hold_are_told(node, csv, tmp_path, case):
    """The reason and what to do, and not that no broker answers."""
    wrong, said = WRONG_CERTIFICATES[case]
    with tls_broker(tmp_path, **wrong) as where:
        text = told_by(node, csv, where, "--ca", where.ca)
    begin = f"the certificate of the broker at {where} cannot be trusted: it {said}"
    assert text.startswith(begin)


@pytest.mark.parametrize(
    ("answer", "flags", "said"),
    [
        (b"\x20\x02\x00\x05", [], "the broker at WHERE refuses us: this login is not let in"),
        (b"\x20\x02\x00\x03", [], "the broker at WHERE refuses us: it has no room at the moment"),
        (b"", [], "what listens at WHERE closes the connection without a reason: it has its"),
        (b"", ["--ca", "system"], "what listens at WHERE does not speak MQTT with TLS (without"),
    ],
    ids=["not authorized", "no room", "silent", "plain"],
)
def test_what_a_broker_says_is_told(node, csv, answer, flags, said):
    """The codes of a CONNACK in words; who hangs up, or does not encrypt, is told as that."""
    with raw_broker(answer) as where:
        assert told_by(node, csv, where, *flags).startswith(said.replace("WHERE", str(where)))


@pytest.mark.parametrize("root", ["fl/v2", "acme/plant-7/fl/v2"])
def test_it_waits_for_a_broker_and_for_a_run(node, tmp_path, csv, root):
    """Without --run, and before there is a broker: it says for what, and joins the newest run."""
    with local_broker(KIND, say=lambda _: None) as gone:
        pass
    log = tmp_path / "newest.log"
    words = [node, EXAMPLES / "agent.mjs", "--data", csv, "--broker", f"{gone.host}:{gone.port}"]
    words += ["--root", root] if root != "fl/v2" else []
    with log.open("w") as output:
        agent = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: "no MQTT broker answers at" in log.read_text())
        with (
            local_broker(KIND, say=lambda _: None, port=gone.port) as address,
            RawClient(address, f"{root}/+/agent/#") as people,
        ):
            until(lambda: "waiting for a run at" in log.read_text())
            for run, payload in (
                ("old", b'{"online": true, "since": 1, "partition": ""}'),
                ("evil", b'{"since": 9}'),
                ("new", b'{"online": true, "since": 2, "partition": ""}'),
            ):
                if run != "new":  # nothing that can be joined comes before it
                    people.publish(f"{root}/{run}/round", DONE, retain=True)
                people.publish(f"{root}/{run}/aggregator", payload, retain=True)
            until(lambda: people.payloads(f"{root}/new/agent/"))
            assert not people.payloads(f"{root}/old/agent/")
            agent.send_signal(signal.SIGINT)
            assert agent.wait(10) == 130
    finally:
        agent.kill()


# ---------------------------------------------------------------- in a federation


DONE = encode(Round(1, 1, Phase.DONE, 1, "all", (), 1.0))

ROUNDS, STRIKE = 7, 6
"""Rounds of the run, and the one from which on two of six agents ruin every candidate."""


@pytest.fixture(scope="module")
def federation(node, csv, tmp_path_factory):
    """Let the agent join five of ours, two of them fake; all vote honestly."""
    folder = tmp_path_factory.mktemp("federation")
    agents = Agents(node, folder, csv)
    with local_broker(KIND, say=lambda _: None, log=folder / "broker.log") as address:
        programs = Programs(folder, address)
        try:
            yield run_it(programs, agents, address)
        finally:
            programs.kill()
            agents.kill()


def run_it(programs, agents, address, *more):
    """Run it to its end; returns the records, the agent, and all that was said on the broker."""
    where = ["--broker", f"{address.host}:{address.port}", "--run", RUN, "--data", "digits"]
    with RawClient(address, f"{TOPIC}/#") as people:
        aggregator = programs.start(
            "-m",
            "aggregator",
            *where,
            "--runs",
            str(programs.folder),
            "--agents",
            "6",
            "--config",
            str(ROOT / "config/undefended.toml"),
            "--rounds",
            str(ROUNDS),
            "--model",
            "mlp",
            "--validators",
            "6",
            "--quorum",
            "4",
            "--look-back",
            str(STRIKE - 1),
            "--codec",
            "int8+zstd",
            "--no-report",
            *more,
        )
        programs.start(
            "agents/spawn.py",
            *where,
            "--n",
            "5",
            "--evil",
            "0.4",
            "--start",
            str(STRIKE),
            "--vote-attack",
            "honest",
            "--samples",
            "40",
            "--processes",
            "1",
        )
        agent = agents.start(address)
        assert aggregator.wait(90) == 0, aggregator.log.read_text()
        agent.ended = agent.wait(20)
        until(lambda: online(people) is False, 5)
        return programs.records(), agent, list(people.heard)


def test_its_updates_count(federation):
    """All rounds are complete, nothing is refused, and it leaves in good order at the end."""
    records, agent, _ = federation
    assert [record.round for record in records] == list(range(1, ROUNDS + 1))
    for record in records:
        assert (record.selected, record.updates, record.missing) == (6, 6, 0)
        assert record.traffic.invalid_messages == {}
    assert agent.ended == 0
    assert agent.said().endswith("the run is done; goodbye\n")


def test_its_updates_reduce_its_loss(federation, digits):
    """Each of its updates comes from its own data: it does better there with it than without."""
    _, _, heard = federation
    _, x, y = digits
    network = models.build("mlp", (1, 8, 8), 10, seed=0)
    said = {Model: {}, Update: {}}
    for message in heard:
        if message.topic in (f"{TOPIC}/model", f"{TOPIC}/update/{NAME}"):
            found = decode(message.topic, message.payload, Limits())
            said[type(found)][getattr(found, "round", found.version)] = found
    assert len(said[Update]) == ROUNDS
    for update in said[Update].values():
        weights = said[Model][update.version].weights
        assert loss(network, weights + update.delta, x, y) < loss(network, weights, x, y) - 0.01


def loss(network, weights, x, y):
    """Measure the cross-entropy of a model."""
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), network.parameters())
    with torch.inference_mode():
        return float(F.cross_entropy(network(x), y))


def test_it_votes_in_every_round(federation):
    """Its votes are among the voters': clean until fakes strike, poisoned at what they make."""
    records, _, _ = federation
    votes = [record.votes.voters[NAME] for record in records]
    assert [vote.poisoned for vote in votes] == [False] * (STRIKE - 1) + [True] * 2
    assert all(vote.size > 0 for vote in votes)
    assert all(vote.score > vote.threshold > 0 for vote in votes[STRIKE - 1 :])
    assert [record.accepted for record in records[STRIKE - 1 :]] == [False, False]


def test_it_votes_on_groups_in_a_federation(node, csv, tmp_path):
    """Among six in three groups of two it judges all groups in every round, and is counted.

    Fakes strike from round 6 on: their groups are left out by six votes of six, and the rest kept.
    """
    agents = Agents(node, tmp_path, csv)
    groups = ["--vote-on", "groups", "--judge", "robust"]
    for setting in ("groups.size=2", "validation.minimum_history=3"):
        groups += ["--set", setting]
    with local_broker(KIND, say=lambda _: None, log=tmp_path / "broker.log") as address:
        programs = Programs(tmp_path, address)
        try:
            records, agent, heard = run_it(programs, agents, address, *groups)
        finally:
            programs.kill()
            agents.kill()
    assert agent.ended == 0
    for record in records:
        assert record.traffic.invalid_messages == {}
        mine = record.groups.voters[NAME]
        assert (mine.judged, mine.size > 0, mine.cpu > 0) == (3, True, True)
        assert record.accepted
        assert bool(mine.poisoned) == (record.round >= STRIKE)
        assert set(map(str, mine.poisoned)) == set(record.groups.left_out)
    mine = f"{TOPIC}/group-vote/{NAME}"
    assert sum(message.topic == mine for message in heard) == ROUNDS


SECRET = {
    "candidate": ["groups.size=0"],
    "counts": ["groups.size=0", "validation.decide=pooled", "groups.hidden_samples=50"],
    "groups": [
        "groups.size=3",
        "validation.on=groups",
        "validation.judge=robust",
        "validation.minimum_history=3",
    ],
}
"""What is voted on, or what is summed of it -> settings: one group of all six, or two of three."""


@pytest.mark.parametrize("voted_on", SECRET)
def test_its_update_is_only_in_a_secret_sum(node, csv, tmp_path, voted_on):
    """Under secure aggregation its keys are new in each round, and it sends no update as it is.

    Its votes on the candidate, or on groups, are counted as in other runs.
    """
    agents = Agents(node, tmp_path, csv)
    settings = ["--set", "groups.secure=true"]
    for setting in SECRET[voted_on]:
        settings += ["--set", setting]
    with local_broker(KIND, say=lambda _: None, log=tmp_path / "broker.log") as address:
        programs = Programs(tmp_path, address)
        try:
            records, agent, heard = run_it(programs, agents, address, *settings)
        finally:
            programs.kill()
            agents.kill()
    assert agent.ended == 0
    for record in records:
        assert (record.selected, record.updates, record.missing) == (6, 6, 0)
        assert record.traffic.invalid_messages == {}
        if voted_on == "groups":
            mine = record.groups.voters[NAME]
            assert (mine.judged, mine.size > 0, mine.cpu > 0) == (2, True, True)
        else:
            if record.round <= STRIKE:
                assert record.votes.voters[NAME].poisoned == (record.round == STRIKE)
            pooled = record.votes.pooled
            assert record.accepted == (not pooled.poisoned if pooled else record.votes.poisoned < 4)
    summed = [record.votes.pooled.validators for record in records if record.votes.pooled]
    assert summed == ([6] * len(summed) if voted_on == "counts" else [])
    assert bool(summed) == (voted_on == "counts")
    assert not [message for message in heard if "/update/" in message.topic]
    for kind in ("keys", "shares", "masked", "unmasked"):
        topic = f"{TOPIC}/secure/{kind}/{NAME}"
        said = [message.payload for message in heard if message.topic == topic]
        assert len({*said}) == len(said) == ROUNDS + len(summed)
