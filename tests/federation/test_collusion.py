"""Collusion: who tells whom what, what comes of it, and that no round waits for it in vain."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.federation import Federation, one_thread, settings_of, simulated_agents_of  # noqa: F401 - a fixture
from support.worlds import world

from fedjury import attacks
from fedjury.agents import spawn
from fedjury.agents.batch_assembly import assemble
from fedjury.agents.collusion import GATHER, LONGEST, PATIENCE, ColluderPool, Coordinator
from fedjury.aggregator.assembly import build
from fedjury.attacks import ATTACKS, RoundContext
from fedjury.attacks.colluding import Strategy, carried_out
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import AttackVector, BadMessage, ColluderUpdate, Phase, Round, Update
from fedjury.protocol.topics import USUAL
from fedjury.randomness import Purpose, stream

pytestmark = pytest.mark.usefixtures("one_thread")

ATTACKERS = {"agent-2": 2, "agent-3": 3, "agent-7": 7}


def training(number=1, attempt=1, version=0, contributors="all", phase=Phase.TRAIN):
    return Round(number, attempt, phase, version, contributors, (), 8.0)


def row(*values):
    return np.array(values, dtype=np.float32)


def report(agent, value=0.0, number=1, version=0):
    return ColluderUpdate(agent, number, version, row(value))


def same(plot, expected):
    """Compare a plot with round, version, centre and spread."""
    if plot is None:
        return False
    return (plot.round, plot.version, plot.centre.tolist(), plot.spread.tolist()) == expected


# The coordinator


def leader(message=None):
    """Make a coordinator whose plot is the sum of the updates, spread by what was called."""
    told = []

    def plotter(updates, called):
        told.append(called)
        return Strategy(updates.sum(axis=0), row(called.contributors, called.attackers))

    made = Coordinator(plotter, ATTACKERS, agents=10, seed=5)
    made.begin(message or training())
    made.told = told
    return made


def test_the_plot_is_made_when_all_called_attackers_have_reported():
    """Of ten agents three are evil: with the third report there is a plot, and it is told once."""
    made = leader()
    for value, name in enumerate(("agent-7", "agent-2"), start=1):
        made.on_message(report(name, value), now=0.0)
        assert made.attack_vector(now=1.0) is None
    made.on_message(report("agent-3", 4), now=1.0)
    assert same(made.attack_vector(now=1.0), (1, 0, [7], [10, 3]))
    assert made.attack_vector(now=99.0) is None
    assert made.told == [RoundContext(1, (2, 3, 7), 5, contributors=10, attackers=3)]


def test_only_those_who_are_called_are_waited_for():
    """Of four named agents two are evil."""
    made = leader(training(contributors=("agent-0", "agent-2", "agent-5", "agent-7")))
    made.on_message(report("agent-3", 9), now=0.0)
    made.on_message(report("agent-7", 1), now=0.0)
    assert made.attack_vector(now=0.0) is None
    made.on_message(report("agent-2", 2), now=0.0)
    assert same(made.attack_vector(now=0.0), (1, 0, [3], [4, 2]))


def test_one_who_is_called_alone_plots_alone():
    """There is nobody to wait for."""
    made = leader(training(contributors=("agent-0", "agent-2")))
    made.on_message(report("agent-2", 2), now=0.0)
    assert same(made.attack_vector(now=0.0), (1, 0, [2], [2, 1]))


STRANGE = {
    "no attacker": report("agent-0", 9),
    "nobody's name": report("eve", 9),
    "a duplicate": report("agent-2", 9),
    "the round before": report("agent-3", 9, number=0),
    "the next round": report("agent-3", 9, number=2),
    "another version": report("agent-3", 9, version=1),
}


@pytest.mark.parametrize("case", STRANGE)
def test_strange_reports_are_ignored(case):
    """They change nothing of the plot, and do not count as reports."""
    made = leader()
    made.on_message(report("agent-2", 1), now=0.0)
    made.on_message(STRANGE[case], now=0.0)
    made.on_message(report("agent-3", 2), now=0.0)
    assert made.attack_vector(now=0.0) is None
    made.on_message(report("agent-7", 4), now=0.0)
    assert same(made.attack_vector(now=0.0), (1, 0, [7], [10, 3]))


def test_after_a_quarter_of_the_round_two_reports_are_enough():
    """Counted from the first report; one alone is none."""
    made = leader()
    assert made.attack_vector(now=50.0) is None
    made.on_message(report("agent-2", 1), now=100.0)
    assert made.attack_vector(now=107.0) is None
    made.on_message(report("agent-3", 2), now=108.0)
    assert same(made.attack_vector(now=108.0), (1, 0, [3], [10, 3]))
    slow = leader()
    for name in ("agent-2", "agent-3"):
        slow.on_message(report(name, 1), now=100.0)
    assert slow.attack_vector(now=100 + GATHER * 8 - 0.01) is None
    assert slow.attack_vector(now=100 + GATHER * 8) is not None


def test_who_missed_the_plot_is_told_again():
    """A report after the plot is of one who does not know it: the same again, once a burst."""
    made = leader()
    for name in ATTACKERS:
        made.on_message(report(name, 1), now=0.0)
    first = made.attack_vector(now=0.0)
    made.begin(training(attempt=2))
    assert made.attack_vector(now=1.0) is None
    for name in ("agent-2", "agent-7"):
        made.on_message(report(name, 5), now=2.0)
    assert made.attack_vector(now=2.0) is first
    assert made.attack_vector(now=2.0) is None


def test_every_round_begins_anew():
    """Reports of a round that is over are forgotten; an old round that is heard late is not one."""
    made = leader()
    made.on_message(report("agent-2", 1), now=0.0)
    made.begin(training(2, phase=Phase.JUDGE_AND_TRAIN))
    for late in (training(1), training(3, phase=Phase.VALIDATE)):
        made.begin(late)
    for name in ATTACKERS:
        made.on_message(report(name, 2, number=2), now=0.0)
    assert same(made.attack_vector(now=0.0), (2, 0, [6], [10, 3]))


def test_a_second_attempt_may_call_more():
    """Whoever is called at any attempt is waited for."""
    made = leader(training(contributors=("agent-2",)))
    made.begin(training(attempt=2, contributors=("agent-2", "agent-3")))
    made.on_message(report("agent-2", 1), now=0.0)
    assert made.attack_vector(now=0.0) is None
    made.on_message(report("agent-3", 2), now=0.0)
    assert same(made.attack_vector(now=0.0), (1, 0, [3], [2, 2]))


# The others


def accomplices(number=4):
    """Make the colluders of a process, in a round of eight seconds."""
    made = ColluderPool(ATTACKERS, seed=5, coordinator=None)
    made.begin((number, 2), seconds=8.0)
    return made


def told(made, now=0.0):
    """Return who reports what."""
    return {said.agent: said.delta.tolist() for said in made.messages(now)}


def ready(made, now=0.0):
    return {name: sent.tolist() for name, sent in made.ready(now).items()}


PLOT = AttackVector(4, 2, row(7), row())


def test_who_has_learnt_reports_it_once_and_sends_what_was_plotted():
    """First its honest update for the coordinator, then the plot's for the aggregator."""
    made = accomplices()
    made.learn({"agent-2": row(1), "agent-7": row(2)})
    assert told(made) == {"agent-2": [1], "agent-7": [2]}
    assert told(made) == ready(made) == {}
    made.on_message(PLOT, now=1.0)
    assert ready(made, 1.0) == {"agent-2": [7], "agent-7": [7]}
    assert ready(made, 9.0) == {}


def test_each_adds_noise_of_its_own():
    """From (seed, round, agent), whoever else is in the process."""
    made = accomplices()
    made.learn({"agent-2": row(1), "agent-7": row(2)})
    made.on_message(replace(PLOT, spread=row(3)), now=0.0)
    sent = made.ready(0.0)
    for name, number in ATTACKERS.items():
        if name in sent:
            noise = stream(5, Purpose.ATTACK, 4, number).standard_normal(1, dtype=np.float32)
            np.testing.assert_array_equal(sent[name], row(7) + row(3) * noise)
    assert sent.keys() == {"agent-2", "agent-7"}


def test_who_knows_the_plot_already_reports_nothing():
    """It trained later than the others: they plotted without it."""
    made = accomplices()
    made.on_message(PLOT, now=0.0)
    made.learn({"agent-3": row(1)})
    assert told(made) == {}
    assert ready(made) == {"agent-3": [7]}


def test_the_first_plot_of_a_round_counts():
    """A later one changes nothing, nor does one of another round or version."""
    made = accomplices()
    for other in (replace(PLOT, round=3), replace(PLOT, version=1)):
        made.on_message(replace(other, centre=row(0)), now=0.0)
    made.learn({"agent-3": row(1)})
    assert told(made) == {"agent-3": [1]}
    assert ready(made) == {}
    made.on_message(PLOT, now=0.0)
    made.on_message(replace(PLOT, centre=row(0)), now=0.0)
    assert ready(made) == {"agent-3": [7]}


def test_a_plot_may_come_before_its_round():
    """It is kept until the round is heard of, and that of the round before is forgotten."""
    made = accomplices()
    made.on_message(PLOT, now=0.0)
    made.on_message(replace(PLOT, round=5, centre=row(8)), now=0.0)
    made.begin((5, 2), seconds=8.0)
    made.learn({"agent-3": row(1)})
    assert ready(made) == {"agent-3": [8]}


def test_without_a_plot_the_honest_update_is_sent():
    """Half of the round's time after the report; a plot that comes after that changes nothing."""
    made = accomplices()
    made.learn({"agent-2": row(1)})
    assert told(made, now=100.0) == {"agent-2": [1]}
    assert ready(made, now=100 + PATIENCE * 8 - 0.01) == {}
    assert ready(made, now=100 + PATIENCE * 8) == {"agent-2": [1]}
    made.on_message(PLOT, now=200.0)
    assert ready(made, now=200.0) == {}


def test_a_new_round_forgets_what_was_learnt():
    """What was not sent is of no use any more."""
    made = accomplices()
    made.learn({"agent-2": row(1)})
    made.begin((5, 2), seconds=8.0)
    assert told(made) == ready(made, now=99.0) == {}


YEAR = 365 * 86_400.0


def test_nobody_waits_for_a_quarter_of_a_year():
    """Where a round lasts however long its updates take, ten minutes of it count for colluders."""
    made = leader(replace(training(), seconds=YEAR))
    for name in ("agent-2", "agent-3"):
        made.on_message(report(name, 1), now=0.0)
    assert made.attack_vector(now=GATHER * LONGEST - 1) is None
    assert made.attack_vector(now=GATHER * LONGEST) is not None
    other = accomplices()
    other.begin((5, 2), seconds=YEAR)
    other.learn({"agent-2": row(1)})
    assert told(other) == {"agent-2": [1]}
    assert ready(other, now=PATIENCE * LONGEST - 1) == {}
    assert ready(other, now=PATIENCE * LONGEST) == {"agent-2": [1]}


# Whole federations


COLLUDING = {"agents__malicious": 0.25, "run__rounds": 3, "agents__samples": 20}
"""Five of twenty collude, in three rounds."""


class Overheard(Federation):
    """A federation of which all updates, reports and plots are written down."""

    def __init__(self, folder, **changes):
        self.sent = []
        super().__init__(folder, **changes)

    def watch(self, topic, payload):
        """Keep what colluders tell each other, too."""
        super().watch(topic, payload)
        if USUAL.parse(topic).kind in (Update, ColluderUpdate, AttackVector):
            with contextlib.suppress(BadMessage):
                self.sent.append(decode(topic, payload, Limits(finite=False)))

    def heard(self, kind, number=None):
        """Return the messages of a kind, of one round if given."""
        return [m for m in self.sent if isinstance(m, kind) and number in (None, m.round)]

    @property
    def evils(self):
        """The names of the malicious agents, in order of number."""
        return sorted(simulated_agents_of(self.settings).spec.colluding)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if ATTACKS.facts(a).colludes])
def test_the_same_models_whatever_the_processes(attack, tmp_path):
    """One process, five, each agent by itself or through a shared ear: the same bits."""
    changes = COLLUDING | {"agents__attack": attack}
    layouts = [(1, False), (5, False), (3, True), (20, False)]
    runs = [
        Federation(tmp_path / f"{fleets}{shared}", fleets=fleets, shared=shared, **changes).whole()
        for fleets, shared in layouts
    ]
    assert all(run.models == runs[0].models for run in runs[1:])
    assert [r.updates for r in runs[0].records] == [20, 20, 20]
    assert not any(r.traffic.invalid_messages for r in runs[0].records)
    honest = Federation(tmp_path / "honest", **changes | {"agents__malicious": 0.0}).whole()
    assert honest.models[1] != runs[0].models[1]


@pytest.mark.parametrize("attack", [a for a in ATTACKS if ATTACKS.facts(a).colludes])
def test_what_is_sent_is_what_was_plotted_from_what_was_reported(attack, tmp_path):
    """The reports on the broker make the plot on the broker, and that makes the updates."""
    run = Overheard(tmp_path, fleets=4, **COLLUDING, agents__attack=attack).whole()
    for number in (1, 2, 3):
        reports = {m.agent: m.delta for m in run.heard(ColluderUpdate, number)}
        assert sorted(reports) == run.evils
        assert len(run.heard(ColluderUpdate, number)) == 5
        (plot,) = run.heard(AttackVector, number)
        numbers = tuple(simulated_agents_of(run.settings).spec.colluding.values())
        called = RoundContext(number, numbers, 0, contributors=20, attackers=5)
        stacked = np.stack([reports[name] for name in run.evils])
        scheme = attacks.build(attack, world()).plot(stacked, called)
        np.testing.assert_array_equal(plot.centre, scheme.centre)
        np.testing.assert_array_equal(plot.spread, scheme.spread)
        updates = {m.agent: m.delta for m in run.heard(Update, number)}
        for name, sent in zip(run.evils, carried_out(scheme, called), strict=True):
            np.testing.assert_array_equal(updates[name], sent)
    honest = Overheard(tmp_path / "honest", **COLLUDING | {"agents__malicious": 0.0}).whole()
    trained = {m.agent: m.delta for m in honest.heard(Update, 1)}
    for name, delta in ((m.agent, m.delta) for m in run.heard(ColluderUpdate, 1)):
        np.testing.assert_array_equal(delta, trained[name])


@pytest.mark.parametrize("attack", ["honest", "mpaf", "sign_flip"])
def test_nobody_else_uses_the_topics_of_collusion(attack, tmp_path):
    """Neither an honest fleet nor attackers who need nobody report or plot."""
    changes = {"agents__malicious": 0.0} if attack == "honest" else {"agents__attack": attack}
    run = Overheard(tmp_path, **COLLUDING | changes, aggregation__clip=1.0).whole()
    assert run.heard(ColluderUpdate) == run.heard(AttackVector) == []
    assert len(run.heard(Update)) == 60


def test_before_they_strike_colluders_say_nothing(tmp_path):
    """With start = 3 there are reports of round 3 alone; before it, the honest run's models."""
    run = Overheard(tmp_path / "a", **COLLUDING, agents__attack="ipm", agents__start=3).whole()
    assert {m.round for m in (*run.heard(ColluderUpdate), *run.heard(AttackVector))} == {3}
    honest = Federation(tmp_path / "b", **COLLUDING | {"agents__malicious": 0.0}).whole()
    assert [run.models[v] == honest.models[v] for v in (1, 2, 3)] == [True, True, False]


def test_a_stranger_s_report_is_ignored(tmp_path):
    """Reports under honest and unknown names, however wild, change no bit of what is accepted."""
    quiet = Federation(tmp_path / "quiet", **COLLUDING, agents__attack="min_max").whole()
    run = Overheard(tmp_path / "loud", **COLLUDING, agents__attack="min_max")
    stranger = next(f"agent-{i:02}" for i in range(20) if f"agent-{i:02}" not in run.evils)
    run.begin()

    def disturb(state):
        for name in (stranger, "eve"):
            wild = ColluderUpdate(name, state.round, state.version, np.full(2410, 1e9, np.float32))
            run.broker.publish(USUAL.of("lab", wild), encode(wild))
        run.broker.publish("fl/v2/lab/collusion/update/eve", b"\x93")
        return False

    run.run(disturb)
    assert run.models == quiet.models


def without(run, name):
    """Take the process of an agent away, without a goodbye."""
    (gone,) = (fleet for fleet in run.fleets if name in fleet.connections.of)
    run.fleets.remove(gone)
    gone.transport.vanish()


def test_a_round_closes_without_the_ringleader(tmp_path):
    """Its process is gone: the others wait for half of the round, then send what they learnt."""
    changes = COLLUDING | {"agents__attack": "ipm", "collect__seconds": 20.0}
    run = Overheard(tmp_path, fleets=20, **changes, collect__min_updates=2)
    run.begin()
    without(run, run.evils[0])
    run.run()
    assert run.heard(AttackVector) == []
    for number, record in enumerate(run.records, start=1):
        assert (record.updates, record.missing) == (19, 1)
        reports = {m.agent: m.delta.tobytes() for m in run.heard(ColluderUpdate, number)}
        assert sorted(reports) == run.evils[1:]
        updates = {m.agent: m.delta.tobytes() for m in run.heard(Update, number)}
        assert {name: updates[name] for name in reports} == reports


def test_a_plot_is_made_without_attackers_who_are_gone(tmp_path):
    """One of five is gone: a quarter of the round later the other four collude."""
    changes = COLLUDING | {"agents__attack": "min_sum", "collect__seconds": 20.0}
    run = Overheard(tmp_path, fleets=20, **changes)
    run.begin()
    without(run, run.evils[2])
    run.run()
    for number in (1, 2, 3):
        reports = np.stack(
            [m.delta for m in sorted(run.heard(ColluderUpdate, number), key=lambda m: m.agent)]
        )
        assert len(reports) == 4
        (plot,) = run.heard(AttackVector, number)
        called = RoundContext(number, (), 0, contributors=20, attackers=5)
        expected = attacks.build("min_sum", world()).plot(reports, called)
        np.testing.assert_array_equal(plot.centre, expected.centre)
        sent = [m.delta for m in run.heard(Update, number) if m.agent in run.evils]
        assert len(sent) == 4
        assert all(np.array_equal(delta, plot.centre) for delta in sent)


def test_only_some_are_called(tmp_path):
    """Of a fifth of the agents some are evil, or one, or none: each round closes by itself."""
    changes = COLLUDING | {
        "sampling__client_fraction": 0.2,
        "run__rounds": 12,
        "agents__attack": "gaussian",
    }
    run = Overheard(tmp_path / "a", fleets=4, **changes).whole()
    counts = set()
    for number, record in enumerate(run.records, start=1):
        called = [m.agent for m in run.heard(Update, number) if m.agent in run.evils]
        counts.add(len(called))
        assert sorted(called) == sorted(m.agent for m in run.heard(ColluderUpdate, number))
        assert len(run.heard(AttackVector, number)) == bool(called)
        assert (record.updates, record.missing) == (4, 0)
    assert counts >= {0, 1, 2}
    assert run.models == Federation(tmp_path / "b", **changes).whole().models


@pytest.mark.parametrize("liars", ["always_accept", "honest", "always_reject"])
def test_with_piggy_back_colluders_judge_and_collude(liars, tmp_path):
    """Those who vote against a candidate report too, but send their vote alone."""
    changes = COLLUDING | {
        "agents__attack": "alie",
        "agents__vote_attack": liars,
        "validation__piggy_back": True,
        "validation__quorum": 15,
        "run__rounds": 4,
        "validation__look_back": 2,
    }
    run = Overheard(tmp_path / "a", fleets=4, **changes).whole()
    for number in (2, 3, 4):
        assert sorted(m.agent for m in run.heard(ColluderUpdate, number)) == run.evils
        assert len(run.heard(AttackVector, number)) == 1
        sent = [m.delta for m in run.heard(Update, number) if m.agent in run.evils]
        assert len(sent) in {"always_accept": {5}, "always_reject": {0}}.get(liars, range(6))
        assert all(
            np.array_equal(delta, run.heard(AttackVector, number)[0].centre) for delta in sent
        )
    assert run.models == Federation(tmp_path / "b", shared=True, **changes).whole().models


def test_after_a_restart_of_the_aggregator_the_same_is_sent_again(tmp_path):
    """What was plotted for the round is sent again, bit for bit, without another plot."""
    changes = COLLUDING | {"agents__attack": "gaussian"}
    undisturbed = Federation(tmp_path / "a", fleets=4, **changes).whole()
    run = Overheard(tmp_path / "b", fleets=4, **changes)
    run.begin()
    run.run(until=lambda state: state.round == 2 and len(run.heard(Update, 2)) == 20)
    before = {m.agent: m.delta.tobytes() for m in run.heard(Update, 2)}
    run.crash()
    run.begin()
    run.run()
    again = {m.agent: m.delta.tobytes() for m in run.heard(Update, 2)[20:]}
    assert again == before
    assert (len(run.heard(AttackVector, 2)), len(run.heard(ColluderUpdate, 2))) == (1, 5)
    assert run.models == undisturbed.models


def test_agents_that_begin_anew_in_a_round_are_told_the_plot_again(tmp_path):
    """A process without the coordinator is replaced after the plot: it comes to send the same."""
    changes = COLLUDING | {"agents__attack": "min_max", "run__rounds": 1}
    undisturbed = Federation(tmp_path / "a", **changes).whole()
    run = Overheard(tmp_path / "b", fleets=4, **changes)
    run.begin()
    last = run.evils[-1]
    (old,) = (fleet for fleet in run.fleets if last in fleet.connections.of)
    run.run(until=lambda _: len(run.heard(ColluderUpdate)) == 5)
    without(run, last)
    run.run(until=lambda _: bool(run.heard(AttackVector)))
    assert last not in {m.agent for m in run.heard(Update)}
    population = simulated_agents_of(run.settings)
    numbers = [int(name.partition("-")[2]) for name in old.connections.of]
    run.fleets.append(run.fleet(population, range(numbers[0], numbers[-1] + 1)))
    run.run()
    assert len(run.heard(AttackVector)) == 2
    assert run.models == undisturbed.models


# Who comes late


LATE = COLLUDING | {"agents__arrive": 3, "run__rounds": 6, "aggregation__clip": 1.0}


@pytest.mark.parametrize(
    ("fleets", "shared"), [(1, False), (4, False), (20, False), (1, True), (20, True)]
)
@pytest.mark.parametrize("attack", ["mpaf", "alie"])
def test_late_attackers_are_called_from_the_round_after_they_came(fleets, shared, attack, tmp_path):
    """Fifteen agents answer rounds 1 to 3, all twenty from round 4 on, and nothing is refused."""
    run = Overheard(tmp_path, fleets=fleets, shared=shared, **LATE, agents__attack=attack)
    run.begin()
    assert len(run.aggregator.online) == 15
    run.run()
    called = [len(run.heard(Update, number)) for number in range(1, 7)]
    assert called == [15, 15, 15, 20, 20, 20]
    assert [r.updates for r in run.records] == called
    assert not any(r.traffic.invalid_messages or r.missing for r in run.records)
    assert {m.round for m in run.heard(ColluderUpdate)} == (
        {4, 5, 6} if attack == "alie" else set()
    )


def test_late_attackers_are_the_same_in_all_layouts(tmp_path):
    """Where all are there in time, the same bits whatever the processes."""
    runs = [
        Federation(
            tmp_path / f"{fleets}{shared}",
            fleets=fleets,
            shared=shared,
            **LATE,
            agents__attack="alie",
        ).whole()
        for fleets, shared in itertools.product((1, 20), (False, True))
    ]
    assert all(run.models == runs[0].models for run in runs[1:])


def test_until_they_come_late_attackers_change_nothing(tmp_path):
    """Whatever their attack, the first three models are those that the others make."""
    flip, ipm = (
        Federation(tmp_path / attack, **LATE, agents__attack=attack).whole()
        for attack in ("sign_flip", "ipm")
    )
    same_bits = [flip.models[version] == ipm.models[version] for version in range(7)]
    assert same_bits == [True] * 4 + [False] * 3
    assert [r.selected for r in flip.records] == [15] * 3 + [20] * 3


def test_somebody_has_to_be_there():
    """A fleet that is evil altogether cannot come late."""
    assert settings_of(agents__malicious=1.0).expected == 20
    with pytest.raises(
        ValueError, match=r"agents.arrive = 2 must be 1 where all agents are malicious"
    ):
        settings_of(agents__malicious=1.0, agents__arrive=2)


def test_late_attackers_strike_when_they_are_there():
    """With start = 2 and arrive = 4 the first strike is in round 5; at once with arrive = 1."""
    for attack in ("mpaf", "alie"):
        population = simulated_agents_of(
            settings_of(
                agents__malicious=0.2, agents__attack=attack, agents__start=2, agents__arrive=4
            )
        )
        assert [population.attacked(number) for number in (1, 2, 4, 5)] == [False] * 3 + [True]
        agents = population.settings.agents.replaced(arrive=1)
        prompt = population._replace(settings=population.settings.replaced(agents=agents))
        assert [prompt.attacked(number) for number in (1, 2)] == [False, True]
        assert (population.late, prompt.late) == (population.spec.malicious_agents, frozenset())


@pytest.mark.parametrize("attack", ["mpaf", "sign_flip", "backdoor"])
def test_late_attackers_do_not_strike_in_the_round_in_which_they_come(attack):
    """Not even if that is tried again, so that they are called: they are idle or train honestly."""
    settings = settings_of(
        agents__malicious=0.2,
        agents__attack=attack,
        agents__start=2,
        agents__arrive=4,
        backdoor__inject=[4, 6],
    )
    population, parts = simulated_agents_of(settings), build(settings)
    members = assemble(population, population.check(), range(20), parts.manifest).members
    weights = parts.model.read()
    for number in (4, 6):
        called = RoundContext(
            number, tuple(sorted(population.spec.malicious_agents)), 0, contributors=20
        )
        quiet = np.zeros((4, 2410)) if attack == "mpaf" else members.train(weights, called)
        sent = members.attack(weights, called)
        assert np.array_equal(sent, quiet) is (number == 4)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (0, ["all 10 agents are connected"]),
        (3, ["7 agents are connected, 3 more will join later", "all 10 agents are connected"]),
        (10, ["all 10 agents are connected"]),
    ],
)
def test_people_are_told_who_is_connected(late, said, capsys):
    """First those who are prompt, then all; each once."""
    shown = spawn.progress(10, late)
    for connected in (0, 4, 7, 7, 8, 10, 10, 7, 10):
        shown(connected)
    assert capsys.readouterr().out.splitlines() == said
