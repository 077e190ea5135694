"""Cells with logins on real brokers: what crosses their bridges, and who may say what where.

Three cells are enrolled, of which the third has no broker: with its login a stranger who has stolen
the secrets of a cell calls at the core.
"""

from __future__ import annotations

import re

import paho.mqtt.client as paho
import pytest
from support.bridged import Bridged
from support.listening import until
from support.strangers import RUN, House

from fedjury.broker import enrol
from fedjury.broker.cell_topics import directions, said_by_agents
from fedjury.broker.mosquitto import COLLUSION, find_mosquitto
from fedjury.protocol.messages import Presence
from fedjury.protocol.topics import CHANNELS

pytestmark = [pytest.mark.skipif(find_mosquitto() is None, reason="bridges are Mosquitto's")]

AGENT = re.compile(r"{agent}")
ASIDE = "collusion/", "cell/", ".cells/", "heartbeat"
FROM_AGENTS = said_by_agents()
BELOW = {
    kind: re.sub(r"{(version|group)}", "3", channel.topic)
    for kind, channel in CHANNELS.items()
    if not channel.root and not channel.topic.startswith(ASIDE)
}
"""Kinds of messages below a run -> the topic, with {agent} in it where it has one."""


class Lab:
    """Brokers of cells with an enrolment, and who calls where."""

    def __init__(self, folder, *words):
        self.secrets = folder / "secrets"
        enrol.main(["--n", "4", "--collusion", *words, "--folder", str(self.secrets)])
        self.brokers = Bridged(
            folder / "cells",
            3,
            "--secrets",
            str(self.secrets),
            tls="--tls" in words,
            running=(1, 2),
        )

    def at(self, cell):
        """Return who calls at the broker of a cell; 0: at the core's."""
        place = self.brokers.cells[cell] if cell else self.brokers.core
        return House(place, self.secrets)


@pytest.fixture(scope="module", params=["passwords", "certificates"])
def lab(request, tmp_path_factory):
    words = ["--tls"] if request.param == "certificates" else []
    made = Lab(tmp_path_factory.mktemp(f"bridged-{request.param}"), *words)
    yield made
    made.brokers.close()


@pytest.fixture
def core(lab):
    """Connect as the aggregator, once both cells are; it hears all that is delivered."""
    with lab.at(0).call("aggregator", "fl/v2/#", "fl/v1/#", protocol=paho.MQTTv5) as made:
        links = [("fl/v2/.cells/1/link", b"1"), ("fl/v2/.cells/2/link", b"1")]
        until(lambda: all(link in made.heard for link in links))
        made.heard.clear()
        yield made


def topic_of(kind, agent):
    """Return the topic of a kind of message, of an agent or for it."""
    return f"{RUN}/{AGENT.sub(agent, BELOW[kind])}"


# ---------------------------------------------------------------- what crosses


def test_everything_that_agents_say_goes_up(lab, core):
    """From either cell, each kind once; presence once more, to the place of the cell."""
    for cell, name in ((1, "agent-0"), (2, "agent-1")):
        with lab.at(cell).call(name) as agent:
            for kind in FROM_AGENTS:
                agent.say(topic_of(kind, name), kind.__name__.encode())
            expected = {(topic_of(kind, name), kind.__name__.encode()) for kind in FROM_AGENTS}
            expected.add((f"fl/v2/.cells/{cell}/lab/agent/{name}", b"Presence"))
            until(lambda expected=expected: expected <= set(core.heard))
            assert sorted(core.heard) == sorted(expected)
            core.heard.clear()


def test_everything_else_comes_down_to_all_cells(lab, core):
    """What the aggregator says reaches agents in both, and what it says to one agent that one."""
    with (
        lab.at(1).call("agent-0", f"{RUN}/#") as one,
        lab.at(2).call("agent-1", f"{RUN}/#") as two,
        lab.at(1).call("watch", f"{RUN}/log/#") as watcher,
    ):
        told = [kind for kind in BELOW if kind not in FROM_AGENTS]
        for kind in told:
            for name in ("agent-0", "agent-1"):
                core.say(topic_of(kind, name), b"said")
        for caller, name in ((one, "agent-0"), (two, "agent-1")):
            wanted = {topic_of(k, name) for k in told if not BELOW[k].startswith("log/")}
            until(lambda caller=caller, wanted=wanted: wanted <= caller.topics)
            assert caller.topics == wanted
        logs = {topic_of(kind, "") for kind in told if BELOW[kind].startswith("log/")}
        until(lambda: watcher.topics == logs)


def test_what_is_retained_is_there_for_agents_that_come_later(lab, core):
    """And what is removed at the core is removed in the cells."""
    core.say(f"{RUN}/model", b"m", retain=True)
    with lab.at(2).call("agent-1", f"{RUN}/model") as live:
        live.until_heard(f"{RUN}/model", b"m")
        with lab.at(2).call("agent-2", f"{RUN}/model") as late:
            late.until_heard(f"{RUN}/model", b"m")
        core.say(f"{RUN}/model", b"", retain=True)
        live.until_heard(f"{RUN}/model", b"")
        with lab.at(2).call("agent-3", f"{RUN}/model", f"{RUN}/round") as late:
            core.say(f"{RUN}/round", b"end")
            assert late.until_heard(f"{RUN}/round", b"end") == []


def test_attackers_hear_each_other_once_in_whichever_cell_they_are(lab, core):
    """Their topics go both ways, and nothing comes back or goes in circles."""
    topics = [f"{RUN}/collusion/update/agent-0", f"{RUN}/collusion/attack"]
    with (
        lab.at(1).call("agent-0", *topics) as here,
        lab.at(2).call("agent-1", f"{RUN}/collusion/update/+", f"{RUN}/collusion/attack") as there,
    ):
        for topic in topics:
            here.say(topic, b"plan")
        here.say(f"{RUN}/vote/agent-0", b"end")
        core.until_heard(f"{RUN}/vote/agent-0", b"end")
        core.say(f"{RUN}/round", b"end")
        for caller in (here, there):
            until(lambda caller=caller: len(caller.heard) >= 2)
            assert sorted(caller.heard) == sorted((topic, b"plan") for topic in topics)


def test_no_topic_goes_both_ways_but_those_of_attackers():
    """A message that came down never goes up again, nor the other way round."""
    for keep in (False, True):
        ways = directions(1, keep=keep)
        assert set(ways.up).isdisjoint(ways.down)
        colluding = {CHANNELS[kind].topic for kind in said_by_agents(COLLUSION)}
        assert {topic.removeprefix("fl/v2/+/").partition("/")[0] for topic in ways.both} == {
            topic.partition("/")[0] for topic in colluding
        }
        assert not any("collusion" in topic for topic in (*ways.up, *ways.down))
    assert directions(1, collusion=False).both == ()


# ---------------------------------------------------------------- who may not


def test_in_a_cell_nobody_speaks_for_others(lab, core):
    """Not for another agent, be it of another cell, nor for the aggregator, a bridge or a cell."""
    with lab.at(1).call("agent-0", protocol=paho.MQTTv5) as agent:
        forged = [topic_of(kind, "agent-1") for kind in BELOW]
        forged += ["fl/v2/.cells/1/link", "fl/v2/.cells/2/lab/agent/agent-0", f"{RUN}/cell/tally/1"]
        for topic in forged:
            assert agent.say(topic, b"forged", retain=True) == "Not authorized", topic
        assert agent.say(f"{RUN}/vote/agent-0", b"end") == "Success"
    assert core.until_heard(f"{RUN}/vote/agent-0", b"end") == []


def test_the_aggregator_and_bridges_are_strangers_in_a_cell(lab):
    """Their secrets let nobody in there, or let nobody say anything of theirs."""
    for login in ("aggregator", "cell.2", "members.2"):
        with lab.at(1).call(login, protocol=paho.MQTTv5) as caller:
            assert not caller.let_in or caller.say(f"{RUN}/round", b"forged") == "Not authorized"


def test_a_cell_says_nothing_that_only_the_core_says(lab, core):
    """With a bridge's secret nobody says a model, or what another cell's bridge says of it."""
    with lab.at(0).call("cell.3", protocol=paho.MQTTv5) as thief:
        others = ["fl/v2/.cells/1/link", "fl/v2/.cells/1/lab/agent/agent-0", f"{RUN}/cell/tally/1"]
        told = [topic_of(kind, "agent-0") for kind in BELOW if kind not in FROM_AGENTS]
        for topic in (*told, *others, "fl/v2/.cells/3/lab/agent/agent-0", "$SYS/broker/uptime"):
            assert thief.say(topic, b"forged", retain=True) == "Not authorized", topic
        assert thief.say("fl/v2/.cells/3/link", b"0") == "Success"
    with lab.at(0).call("members.3", protocol=paho.MQTTv5) as thief:
        for topic in (*told, *others, f"{RUN}/agent/agent-0", f"{RUN}/update/agent-0"):
            assert thief.say(topic, b"forged", retain=True) == "Not authorized", topic
        place = f"fl/v2/.cells/3/lab/{CHANNELS[Presence].topic.format(agent='agent-2')}"
        assert thief.say(place, b"end") == "Success"
    assert core.until_heard(place, b"end") == [("fl/v2/.cells/3/link", b"0")]


def test_a_bridge_hears_no_more_than_agents_do(lab, core):
    """With its secret nobody reads other cells' updates, votes or presence at the core."""
    with lab.at(0).call("cell.3", "fl/v2/#") as thief, lab.at(1).call("agent-0") as agent:
        for kind in FROM_AGENTS:
            agent.say(topic_of(kind, "agent-0"), b"own")
        core.until_heard(topic_of(FROM_AGENTS[-1], "agent-0"), b"own")
        core.say(f"{RUN}/round", b"end")
        assert thief.until_heard(f"{RUN}/round", b"end") == []


# ---------------------------------------------------------------- what goes and comes back


def test_a_broker_that_dies_is_known_to_and_nothing_that_was_said_meanwhile_is_lost(lab, core):
    """Its bridge says so, retained; what was said at the core meanwhile is there after it."""
    with lab.at(2).call("agent-1") as agent:
        agent.say(f"{RUN}/agent/agent-1", b"on", retain=True)
        core.until_heard(f"{RUN}/agent/agent-1", b"on")
    lab.brokers.kill("cell-1")
    core.until_heard("fl/v2/.cells/1/link", b"0")
    core.say(f"{RUN}/round", b"new", retain=True)
    with lab.at(0).call("aggregator", "fl/v2/.cells/#") as late:  # it takes the place of the other
        known = {("fl/v2/.cells/1/link", b"0"), ("fl/v2/.cells/2/link", b"1")}
        known.add(("fl/v2/.cells/2/lab/agent/agent-1", b"on"))
        until(lambda: known <= set(late.heard))
        lab.brokers.start("cell-1")
        with lab.at(1).call("agent-0", f"{RUN}/round") as agent:
            agent.until_heard(f"{RUN}/round", b"new")
        late.until_heard("fl/v2/.cells/1/link", b"1")
