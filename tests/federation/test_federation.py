"""Whole federations in one process: learning, attacks, votes, crashes and hostile messages."""

from __future__ import annotations

import json
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from support.federation import STEP, Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury.agents import agent_batch, assembly
from fedjury.aggregator.store import StoreError
from fedjury.protocol import checks, codec
from fedjury.protocol.messages import Manifest, Model, Phase, Presence, Reason, Update, Vote
from fedjury.protocol.topics import USUAL

pytestmark = pytest.mark.usefixtures("one_thread")

MPAF = {"agents__malicious": 0.2, "agents__attack": "mpaf", "agents__scale": 1e6}
VOTING = {"validation__validators": 10, "validation__quorum": 5, "validation__look_back": 6}
JURY = MPAF | VOTING | {"agents__start": 9, "run__rounds": 13}
"""Fakes who strike in round 9 and a jury who can judge from round 7 on."""

CHANCE = 0.14
"""On ten classes; the share of the most frequent one in the held-out digits is less."""


def never(word):
    raise AssertionError(f"{word} is not JSON")


def strictly(text):
    """Read JSON as other languages do: NaN and Infinity are none."""
    return json.loads(text, parse_constant=never)


def weights(federation, version):
    return np.frombuffer(federation.models[version], dtype=np.float32)


# Learning and attacks


def test_a_federation_learns(tmp_path):
    """Twenty honest agents take a network from chance to 85 % in fifteen rounds."""
    done = Federation(tmp_path, run__rounds=15, training__learning_rate=0.5).whole()
    assert [r.round for r in done.records] == list(range(1, 16))
    assert all(r.accepted and r.updates == r.selected == 20 for r in done.records)
    assert sorted(done.models) == list(range(16))
    assert done.accuracies[0] < 0.5
    assert done.accuracies[-1] > 0.85
    assert done.state.failure == ""
    assert all(fleet.done for fleet in done.fleets)
    assert done.said == []


def test_the_users_classifier_learns_on_mnist(tmp_path):
    """The 13,106 parameters on 28x28 digits, in two fleets and with momentum."""
    done = Federation(
        tmp_path,
        fleets=2,
        data__name="mnist5k",
        model__name="classifier",
        agents__n=10,
        collect__agents=10,
        agents__samples=100,
        run__rounds=12,
        training__momentum=0.5,
        training__learning_rate=0.1,
    ).whole()
    assert weights(done, 12).shape == (13_106,)
    assert done.accuracies[0] < 0.3
    assert done.accuracies[-1] > 0.6


def test_an_undefended_mean_falls(tmp_path):
    """Four MPAF fakes of twenty, λ = 1e6: chance from the first round on."""
    fallen = Federation(tmp_path / "fallen", run__rounds=4, **MPAF, limits__finite=False).whole()
    calm = Federation(tmp_path / "calm", run__rounds=4).whole()
    assert calm.accuracies[-1] > 0.4
    assert max(fallen.accuracies) < CHANCE


def test_an_undefended_run_overflows_and_goes_on(tmp_path):
    """λ = 1e6 ends in a model of NaN, which is never right; every record stays JSON, to the end."""
    done = Federation(tmp_path, run__rounds=12, **MPAF, limits__finite=False).whole()
    assert [r.accepted for r in done.records] == [True] * 12
    assert np.isfinite(weights(done, 1)).all()
    assert np.isnan(weights(done, 12)).all()
    assert done.accuracies[-3:] == [0.0, 0.0, 0.0]
    for line in (tmp_path / "rounds.jsonl").read_text().splitlines():
        strictly(line)
    assert strictly(done.broker.retained["fl/v2/lab/log/round"])["round"] == 12


def test_finite_limits_keep_an_overflow_out(tmp_path):
    """With finite on, no model is accepted that answers NaN, though all its weights are numbers.

    Models of up to 1e22 still answer; the fourth candidate, at 1e28, multiplies beyond float32.
    """
    done = Federation(
        tmp_path, run__rounds=12, **MPAF, collect__seconds=1.0, collect__attempts=2
    ).whole()
    assert all(np.isfinite(weights(done, version)).all() for version in done.models)
    assert [record.accepted for record in done.records] == [True] * 3 + [False] * 9
    why = "the candidate is unusable: its outputs on 500 of 500 held-out samples are not finite"
    assert {record.why for record in done.records[3:]} == {why}
    assert {record.candidate.accuracy for record in done.records[3:]} == {0.0}
    assert done.state.failure == ""


def test_the_median_does_not_care_for_the_scale(tmp_path):
    """λ from 1e4 to 1e6 gives the same bits; 1e3, hardly beyond the honest ones, the same curve."""
    curves, last = {}, {}
    for scale in (1e3, 1e4, 1e5, 1e6):
        changes = MPAF | {"agents__scale": scale, "aggregation__rule": "median"}
        done = Federation(tmp_path / f"{scale:g}", run__rounds=15, **changes).whole()
        curves[scale], last[scale] = done.accuracies, done.models[15]
    assert last[1e4] == last[1e5] == last[1e6]
    np.testing.assert_allclose(curves[1e3], curves[1e6], atol=0.01)
    assert curves[1e6][-1] > 0.75


@pytest.mark.parametrize("attack", ["random", "history"])
def test_the_baselines_are_no_match_for_trimming(tmp_path, attack):
    """Random noise and walking backwards move the trimmed mean little."""
    changes = MPAF | {
        "agents__attack": attack,
        "aggregation__rule": "trimmed_mean",
        "aggregation__options": {"count": 4},
        "training__learning_rate": 0.5,
    }
    done = Federation(tmp_path, run__rounds=12, **changes).whole()
    assert done.accuracies[-1] > 0.75


# Votes


@pytest.fixture(scope="module")
def jury(tmp_path_factory):
    """Hold a run whose fakes are idle for eight rounds and then strike against a jury."""
    return Federation(tmp_path_factory.mktemp("jury"), **JURY).whole()


def test_a_jury_keeps_the_last_good_model(jury):
    """Every poisoned round is voted down, and the model is that of before the strike."""
    before, after = jury.records[:8], jury.records[8:]
    assert all(r.why == "voted down" and r.votes.poisoned >= 5 for r in after)
    assert max(r.candidate.accuracy for r in after) < CHANCE
    assert before[-1].model.accuracy > 0.5
    good = before[-1].version
    assert {r.version for r in after} == {good}
    assert {r.model.accuracy for r in after} == {before[-1].model.accuracy}
    assert max(jury.models) == good


def test_all_validators_vote(jury):
    """Nobody is silent and nobody is refused; before l + 1 models are there all say clean."""
    for r in jury.records:
        assert r.votes.asked == 10
        assert r.votes.silent == 0
        assert r.traffic.invalid_messages == {}
        if r.round <= 6:
            assert r.votes.poisoned == 0


def test_what_is_retained_after_a_vote(jury):
    """The last l + 1 models stay on the broker, and no candidate."""
    topics = set(jury.broker.retained)
    newest = max(jury.models)
    history = {f"fl/v2/lab/history/{version}" for version in range(newest - 6, newest + 1)}
    assert {topic for topic in topics if "/history/" in topic} == history
    assert "fl/v2/lab/candidate" not in topics
    assert strictly(jury.broker.retained["fl/v2/lab/round"])["phase"] == "done"


# The same seed, the same bits


@pytest.mark.parametrize("order", [1, 2])
def test_arrival_order_does_not_change_a_model(tmp_path, jury, order):
    """With the inbox shuffled before every turn each accepted model has the same bits."""
    again = Federation(tmp_path, **JURY)
    again.inbox_order = np.random.default_rng(order)
    assert again.whole().models == jury.models
    verdicts = [(r.accepted, r.votes.counts) for r in again.records]
    assert verdicts == [(r.accepted, r.votes.counts) for r in jury.records]


def test_another_seed_is_another_run(tmp_path, jury):
    """Equal bits above are no accident."""
    other = Federation(tmp_path, **JURY | {"run__seed": 1, "run__rounds": 1}).whole()
    assert other.models[0] != jury.models[0]
    assert other.models[1] != jury.models[1]


def test_shares_are_drawn_from_the_seed(tmp_path):
    """With half of the agents called, two runs call the same and come to the same models."""
    runs = []
    for name in ("first", "second"):
        run = Federation(tmp_path / name, sampling__client_fraction=0.5, run__rounds=5)
        run.inbox_order = np.random.default_rng(len(name))
        runs.append(run.whole())
    assert [r.selected for r in runs[0].records] == [10] * 5
    assert runs[0].models == runs[1].models


# Crashes


def at_training(state):
    return state.round == 5 and len(state.updates) == 7


def at_voting(state):
    return state.phase.name is Phase.VALIDATE and state.round == 5 and len(state.votes) == 3


def after_a_rejection(state):
    return state.round == 11 and len(state.updates) == 2


@pytest.mark.parametrize("moment", [at_training, at_voting, after_a_rejection])
def test_a_resumed_run_is_the_same_run(tmp_path, jury, moment):
    """Killed in the middle and started again from its folder, a run makes the same models.

    Agents who had answered answer again at once: no round waits for its deadline.
    """
    run = Federation(tmp_path, **JURY)
    run.begin()
    assert moment(run.run(moment))
    run.crash()
    run.whole()
    assert run.models == jury.models
    assert [r.round for r in run.records] == list(range(1, 14))
    assert [r.accepted for r in run.records] == [r.accepted for r in jury.records]
    assert [r.harm for r in run.records] == [r.harm for r in jury.records]
    assert [r.updates for r in run.records] == [20] * 13
    assert {r.attempt for r in run.records} == {1}
    assert all(r.votes.silent == 0 for r in run.records)


def test_a_crash_when_half_have_answered(tmp_path):
    """Half of the agents answer the dead aggregator, half the new one: all twenty count."""
    whole = Federation(tmp_path / "whole", fleets=2, run__rounds=6).whole()
    run = Federation(tmp_path / "torn", fleets=2, run__rounds=6)
    run.begin()
    run.run(lambda state: state.round == 3 and len(state.updates) == 19)
    while run.state.round == 3:
        run.state = run.aggregator.turn(run.state)
    run.fleets[0].turn()
    run.crash()
    run.whole()
    assert run.models == whole.models
    assert [r.updates for r in run.records] == [20] * 6


def test_a_crash_between_disk_and_network(tmp_path, jury, monkeypatch):
    """A model that was persisted but never published is published on resuming."""
    run = Federation(tmp_path, **JURY)
    aggregator = run.begin()
    publish = aggregator.connection.publish

    def fail(message):
        if isinstance(message, Model) and message.version == 4:
            raise InterruptedError
        publish(message)

    monkeypatch.setattr(aggregator.connection, "publish", fail)
    with pytest.raises(InterruptedError):
        run.run()
    assert max(run.models) == 3
    run.crash()
    run.whole()
    assert run.models == jury.models
    assert [r.round for r in run.records] == list(range(1, 14))


def test_agents_who_start_anew_catch_up(tmp_path, jury):
    """Agents killed in mid-round know nothing; they fetch the history and vote as before."""
    run = Federation(tmp_path, **JURY)
    run.begin()
    run.run(lambda state: state.phase.name is Phase.VALIDATE and state.round == 10)
    run.join()
    run.run()
    assert run.models == jury.models
    assert [r.accepted for r in run.records] == [r.accepted for r in jury.records]
    assert [r.votes.poisoned for r in run.records] == [r.votes.poisoned for r in jury.records]


def test_who_has_left_is_not_called(tmp_path):
    """An agent whose last will was read is missing from the next round, which does not wait."""
    run = Federation(tmp_path, run__rounds=3)
    run.begin()
    run.run(lambda state: state.round == 1 and len(state.updates) == 19)
    gone = Presence("agent-03", online=False, since=0.0)
    run.hub.send("agent-03", gone)
    run.run()
    assert [r.selected for r in run.records] == [20, 20, 19]
    assert all(r.timing.seconds < 10 for r in run.records)


# Hostile messages


def update(agent, number, version, size, **more):
    """Write an update as bytes, with some of its keys replaced; None takes a key away."""
    message = Update(agent, number, version, 4, np.full(size, 1e6, dtype=np.float32))
    fields = msgpack.unpackb(codec.encode(message)) | more
    return msgpack.packb({key: value for key, value in fields.items() if value is not None})


def vector(values, **more):
    return codec.compress(np.asarray(values, dtype=np.float32))._asdict() | more


def hostile(state, size, *, piggy_back):
    """Make messages for the aggregator, none of which fits: (topic below the run, payload)."""
    judging = state.phase.name is Phase.JUDGE_AND_TRAIN
    r, v, called = state.round, state.version + judging, min(state.selected)
    good = np.zeros(size)
    for agent in (called, "outsider"):
        topic = f"update/{agent}"
        yield topic, b""
        yield topic, b"\xff\x00\x01 garbage"
        yield topic, b"x" * 20_000
        yield topic, msgpack.packb([1, 2])
        yield topic, update(agent, r, v, size, delta=None)
        yield topic, update(agent, r, v, size, samples="many")
        yield topic, update(agent, r, v, size, samples=-1)
        yield topic, update(agent, r, v, size, delta=vector(good, codec="float999"))
        yield topic, update(agent, r, v, size, delta=vector(good[1:]))
        yield topic, update(agent, r, v, size, delta=vector(good, n=size - 1))
        for bad in (np.nan, np.inf, -np.inf):
            yield topic, update(agent, r, v, size, delta=vector([*good[1:], bad]))
        yield topic, update(agent, r + 1, v, size)
        yield topic, update(agent, r - 1, v, size)
        yield topic, update(agent, r, v + 1, size)
    yield "update/outsider", update("outsider", r, v, size)
    yield from ((f"update/{name}", update(name, r, v, size)) for name in list(state.updates)[:2])
    # Where contributors vote too, only the broker can refuse a vote in a contributor's name.
    for agent in ("outsider", *sorted(state.selected - set(state.validators))[: not piggy_back]):
        ballot = Vote(agent, r, state.attempt, True, 2.0, 1.0, 4)
        yield f"vote/{agent}", codec.encode(ballot)
        yield f"vote/{agent}", codec.encode(replace(ballot, round=r + 1))
        yield f"vote/{agent}", codec.encode(ballot).replace(b"\xc3", b"\xc0")
        yield f"vote/{agent}", codec.encode(replace(ballot, score=float("nan")))
    for name in list(state.votes)[:1]:
        yield f"vote/{name}", codec.encode(Vote(name, r, state.attempt, True, 2.0, 1.0, 4))
    for payload in (b"[]", b"{", b'{"online":1,"since":0}', b'{"online":false,"since":NaN}'):
        yield f"agent/{called}", payload
    for topic in ("update/a/b", "update/", "vote/\u00e4", "agent/" + "a" * 65, "update/#"):
        yield topic, b"x"


NOISE = [b"\xff garbage", b"{}", b"[1]", b"{" * 5000, msgpack.packb({"version": "x"})]


def attack(run, size):
    """Throw everything at the broker once; returns how much of it the aggregator has to refuse."""
    piggy_back = run.settings.validation.piggy_back
    messages = list(hostile(run.state, size, piggy_back=piggy_back))
    for topic, payload in messages:
        run.broker.publish(f"fl/v3/lab/{topic}", payload)
        run.broker.publish(f"fl/v2/lab2/{topic}", payload)
        run.broker.publish(f"fl/v2/lab/{topic}", payload)
    for topic in ("manifest", "round", "model", "candidate"):
        for payload in NOISE:
            run.broker.publish(f"fl/v2/lab/{topic}", payload)
    run.broker.publish("fl/v2/lab2/round", run.broker.retained["fl/v2/lab/round"])
    return len(messages)


@pytest.mark.parametrize("piggy_back", [False, True])
def test_hostile_messages_change_nothing(tmp_path, jury, piggy_back):
    """Garbage, NaN, wrong lengths, rounds and senders are refused, counted, told, and no more.

    They come in every phase, when a round is fresh and when it is half full.
    """
    setup = JURY | {"limits__size": 16_000, "validation__piggy_back": piggy_back}
    if piggy_back:
        jury = Federation(tmp_path / "calm", **setup).whole()
    run = Federation(tmp_path / "attacked", **setup)
    run.begin()
    size = len(weights(run, 0))
    thrown, seen = 0, set()
    while run.state.phase.name is not Phase.DONE:
        run.turn()
        moment = (
            run.state.round,
            run.state.phase.name,
            len(run.state.updates) >= 10,
            len(run.state.votes) > 4,
        )
        if moment not in seen and run.state.phase.name is not Phase.DONE:
            seen.add(moment)
            thrown += attack(run, size)
    run.aggregator.end()
    assert run.models == jury.models
    told, right = (
        [
            (r.accepted, r.why, r.selected, r.updates, r.missing, r.votes.counts, r.model)
            for r in done
        ]
        for done in (run.records, jury.records)
    )
    assert told == right
    refused = [record.traffic.invalid_messages for record in run.records]
    found = {reason for counts in refused for reason in counts}
    # Contributors who vote all answer at once: what is thrown after them comes too late to repeat.
    never = {Reason.TOO_MANY, Reason.WRONG_GROUPS, Reason.BAD_KEY, Reason.WRONG_SHARE}
    assert set(Reason) - found == never | ({Reason.DUPLICATE} if piggy_back else set())
    assert sum(sum(counts.values()) for counts in refused) == thrown - len(run.hub.inbox)
    told = strictly(run.broker.retained["fl/v2/lab/log/invalid"])
    assert told["round"] == 13
    assert told["latest"].keys() == {"agent", "reason"}
    assert any("malformed" in words for words in run.said)


def test_empty_payloads_are_refused_where_nothing_is_retained(tmp_path):
    """An empty update is malformed; an empty presence clears a retained one and says nothing."""
    run = Federation(tmp_path, run__rounds=1)
    run.begin()
    run.broker.publish("fl/v2/lab/update/agent-00", b"")
    run.broker.publish("fl/v2/lab/agent/agent-00", b"")
    run.run()
    assert run.records[0].traffic.invalid_messages == {"malformed": 1}


def test_a_flood_does_not_stop_the_clock(tmp_path):
    """With more garbage in the inbox than can be read, a round still ends at its deadline."""
    run = Federation(tmp_path, collect__seconds=0.5, collect__attempts=2)
    run.begin()
    for _ in range(5000):
        run.broker.publish("fl/v2/lab/update/agent-00", b"garbage")
    while run.state.phase.name is not Phase.DONE:
        run.state = run.aggregator.turn(run.state)
    assert run.state.failure.startswith(
        "round 1 was given up after 2 attempts: 0 of 20 selected agents sent a valid update, "
        "1 needed; invalid: "
    )
    assert len(run.hub.inbox) > 3000
    turns = sum(run.state.invalid.values())
    assert turns >= 2 * 0.5 / (4 * STEP)  # a turn looks at the clock four times at most


@pytest.mark.parametrize("voting", [{}, VOTING])
def test_the_time_that_a_rule_takes_is_not_the_agents(tmp_path, voting):
    """It takes longer than agents have for updates or votes; none of theirs is missed for that."""
    slow = Federation(tmp_path, **voting, run__rounds=4, collect__seconds=3, validation__seconds=3)
    aggregator = slow.begin()
    rule = aggregator.config.rule

    def slowly(*arguments):
        slow.let_pass(7.0)
        return rule(*arguments)

    aggregator.config = replace(aggregator.config, rule=slowly)
    slow.run()
    assert [(r.updates, r.attempt, r.votes.replaced) for r in slow.records] == [(20, 1, ())] * 4


def test_refusals_are_told_once_a_second(tmp_path):
    """A flood of garbage does not become a flood of ours."""
    run = Federation(tmp_path, run__rounds=1)
    run.begin()
    told = []
    run.broker.listeners.append(
        lambda topic, payload: told.append(strictly(payload)) if "log/invalid" in topic else None
    )
    for _ in range(3000):
        run.broker.publish("fl/v2/lab/update/agent-00", b"garbage")
    begun = run.seconds()
    while run.hub.inbox:
        run.state = run.aggregator.turn(run.state)
    seconds = run.seconds() - begun
    assert 2 <= len(told) <= seconds + 1
    assert told[-1]["latest"] == {"agent": "agent-00", "reason": "malformed"}
    assert (
        told[0]["invalid_messages"]["malformed"] < told[-1]["invalid_messages"]["malformed"] <= 3000
    )


# The beginning


def test_the_first_round_waits_for_its_agents(tmp_path):
    """With patience at an end it starts with who is there: agents 0 to 9 of twenty."""
    run = Federation(tmp_path, fleets=2, run__rounds=2)
    late = run.fleets.pop()
    late.transport.vanish()
    for number in range(10, 20):
        run.broker.retained.pop(f"fl/v2/lab/agent/agent-{number}")
    run.begin()
    assert run.aggregator.online == {f"agent-{number:02d}" for number in range(10)}
    run.run()
    assert [r.selected for r in run.records] == [10, 10]


def test_newcomers_find_what_they_need(tmp_path):
    """Manifest, model and history stand on the broker before the first round is opened."""
    run = Federation(tmp_path, **VOTING)
    run.begin()
    assert {"manifest", "model", "history/0"} <= {t[10:] for t in run.broker.retained}
    assert USUAL.of("lab", Model(0, np.zeros(1))) == "fl/v2/lab/model"
    manifest = codec.decode(
        "fl/v2/lab/manifest", run.broker.retained["fl/v2/lab/manifest"], checks.Limits()
    )
    assert isinstance(manifest, Manifest)
    assert (manifest.parameters, manifest.look_back) == (2410, 6)


def test_newcomers_to_a_finished_run_wait_for_it_to_go_on(tmp_path):
    """The "done" of an earlier run sends nobody home; a run with more rounds takes them in."""
    run = Federation(tmp_path, run__rounds=2).whole()
    run.settings = run.settings.replaced(run=run.settings.run.replaced(rounds=4))
    run.join()
    for fleet in run.fleets:
        fleet.turn()
        assert not fleet.done
    run.whole()
    assert [record.updates for record in run.records] == [20] * 4
    assert all(fleet.done for fleet in run.fleets)


def test_processes_change_no_bit(tmp_path, monkeypatch):
    """Cut between chunks, a fleet learns the same models in one process and in four."""
    monkeypatch.setattr(agent_batch, "CHUNK", 5)
    runs = [
        Federation(tmp_path / str(fleets), fleets=fleets, run__rounds=3, **MPAF).whole()
        for fleets in (1, 4)
    ]
    assert runs[0].models == runs[1].models


def test_a_shared_downlink_changes_no_bit(tmp_path, jury):
    """Agents that share one downlink a process learn and vote as those who have their own."""
    shared = Federation(tmp_path / "shared", fleets=2, shared=True, **JURY).whole()
    assert shared.models == jury.models
    assert [r.votes.counts for r in shared.records] == [r.votes.counts for r in jury.records]


def test_a_shared_downlink_trains_only_who_is_called(tmp_path):
    """With half of the agents called, a shared downlink comes to the same models."""
    runs = [
        Federation(
            tmp_path / str(shared), shared=shared, sampling__client_fraction=0.5, run__rounds=5
        )
        for shared in (False, True)
    ]
    assert runs[0].whole().models == runs[1].whole().models
    assert [r.updates for r in runs[1].records] == [10] * 5


@pytest.mark.parametrize(("n", "count"), [(1000, 2), (1000, 3), (1000, 4), (10_000, 7), (250, 2)])
def test_a_fleet_is_cut_between_chunks(n, count):
    """Parts cover the fleet in order, each of whole chunks but for the fleet's own end."""
    parts = assembly.parts(range(n), count)
    assert [number for part in parts for number in part] == list(range(n))
    assert all(part.start % agent_batch.CHUNK == 0 for part in parts)
    assert assembly.CHUNK == agent_batch.CHUNK


@pytest.mark.parametrize(
    "changes",
    [
        {"validation__validators": 6},
        {"validation__piggy_back": True},
    ],
    ids=["validators", "contributors"],
)
def test_a_run_cannot_look_back_further_than_what_was_kept(tmp_path, changes):
    """With l = 2 the last four models are kept: going on with l = 3 is fine, with 4 it is not."""
    setup = {"agents__n": 6, "collect__agents": 6, "validation__quorum": 6, **changes}
    run = Federation(tmp_path, run__rounds=8, validation__look_back=2, **setup).whole()
    longer = Federation(tmp_path, run__rounds=9, validation__look_back=4, **setup)
    with pytest.raises(
        StoreError, match=r"too few to look back at 4; resume with --look-back 3 at"
    ):
        longer.begin()
    run.settings = settings_of(run__rounds=9, validation__look_back=3, **setup)
    run.join()
    run.whole()
    assert [r.round for r in run.records] == list(range(1, 10))


@pytest.mark.parametrize(("fleets", "shared"), [(1, False), (2, True)])
def test_agents_follow_an_aggregator_that_lost_the_end_of_its_run(tmp_path, jury, fleets, shared):
    """Without its newest model it opens a round again that agents have done; all go along."""
    run = Federation(tmp_path, fleets=fleets, shared=shared, **JURY)
    run.begin()
    run.run(lambda state: state.round == 8 and len(state.updates) > 3)
    run.crash()
    max((tmp_path / "models").glob("*.safetensors")).unlink()
    run.begin()
    assert run.state.round < 7
    run.run()
    assert run.models == jury.models
    assert all(not record.missing and not record.votes.silent for record in run.records)


def test_a_scenario_of_one_side_alone_is_told(tmp_path):
    """Agents of another seed are told so once, in words; when and how they attack is theirs."""
    whole = Federation(tmp_path, run__rounds=1)
    whole.begin()
    assert not any("expects other agents" in text for text in whole.said)
    whole.settings = settings_of(run__rounds=1, run__seed=5, agents__malicious=0.2, agents__start=9)
    whole.join()
    whole.fleets[0].turn()
    (told,) = [text for text in whole.said if "expects other agents" in text]
    assert "it has seed 0, data digits" in told
    assert "these have seed 5, data digits" in told
