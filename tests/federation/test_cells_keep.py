"""Cells that keep their updates: one model whatever the cells, and whatever happens to a worker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.cells import CellFederation
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury.aggregator.in_cells import sums_of
from fedjury.cells.presence import CellAgents
from fedjury.protocol import codec
from fedjury.protocol.cells import PartialSum, SumRequest, Tally
from fedjury.protocol.messages import Presence, Update
from fedjury.round.state import Summing, Training, Voting

pytestmark = pytest.mark.usefixtures("one_thread")

SOME = {"run__rounds": 3, "validation__validators": 5, "agents__malicious": 0.2}
CLIPPED = SOME | {"aggregation__rule": "clipped_mean"}
RULES = {
    "clipped_mean": CLIPPED,
    "weighted mean behind a clip": SOME
    | {"aggregation__clip": 2.0, "aggregation__options": {"weighted": True}},
    "fltrust": SOME | {"aggregation__rule": "fltrust", "data__server": 0.05},
    "centered_clipping": SOME | {"aggregation__rule": "centered_clipping"},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Run two cells to the end, with nothing happening to them."""
    return CellFederation(tmp_path_factory.mktemp("two"), cells=2, **CLIPPED).whole()


def bits(federation):
    """Return the bits of the last model, and who was counted in each round."""
    return federation.state.weights.tobytes(), [r.updates for r in federation.records]


@pytest.mark.parametrize("rule", RULES)
def test_any_number_of_cells_gives_one_model_and_that_of_no_cells_nearly(rule, tmp_path):
    """Sums of whole numbers do not depend on who adds which; float32 apart they are the rule's."""
    runs = [
        CellFederation(tmp_path / f"{cells}", cells=cells, **RULES[rule]).whole()
        for cells in (1, 2, 4)
    ]
    assert len({bits(run)[0] for run in runs}) == 1
    assert all(bits(run)[1] == [20, 20, 20] for run in runs)
    plain = Federation(tmp_path / "plain", **RULES[rule]).whole()
    np.testing.assert_allclose(runs[0].state.weights, plain.state.weights, atol=2e-6)
    assert [r.accepted for r in runs[0].records] == [r.accepted for r in plain.records]


def test_what_goes_up_is_a_sum_a_round_and_no_update(undisturbed):
    """Twenty updates of 2,410 parameters are 193 kB; up go two sums of some 12 kB, and names."""
    parameters = len(undisturbed.state.weights)
    rounds = undisturbed.settings.run.rounds
    for bridge in undisturbed.bridges:
        assert rounds * 3 * parameters < bridge.bytes_up < rounds * (5 * parameters + 3000) + 3000


def kinds_lost(federation, cell, kinds):
    """Let a cell's messages of these kinds be lost on their way up."""
    federation.bridges[cell - 1].lost = lambda kind: kind in kinds


def waiting_for_a_sum(tmp_path, **changes):
    """Return two cells that were asked for the second round's sums; what cell 2 says is lost."""
    federation = CellFederation(tmp_path, cells=2, **changes, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2)
    kinds_lost(federation, 2, {PartialSum})
    federation.run(lambda state: isinstance(state.phase, Summing))
    return federation


@pytest.mark.parametrize("updates", [0, 1, 5, 9, 10])
def test_a_replaced_worker_asks_its_cell_again(updates, undisturbed, tmp_path):
    """Whatever it had taken, the agents send the very same updates to the one after it."""
    federation = CellFederation(tmp_path, cells=2, **CLIPPED)
    federation.begin()
    federation.run(lambda s: s.round == 2 and isinstance(s.phase, Training))
    kinds_lost(federation, 2, {Tally})
    tallies = federation.workers[1].tallies
    federation.run(lambda _: len(federation.workers[1].tallies.row) >= updates or tallies is None)
    kinds_lost(federation, 2, ())
    federation.replace_worker(2)
    federation.run()
    assert bits(federation) == bits(undisturbed)


def test_a_worker_replaced_before_its_sum_came_is_waited_for(undisturbed, tmp_path):
    """Its updates are gone with it: the round goes back to collecting them."""
    federation = waiting_for_a_sum(tmp_path)
    kinds_lost(federation, 2, ())
    federation.replace_worker(2)
    federation.run()
    assert bits(federation) == bits(undisturbed)


def test_a_cell_that_does_not_answer_is_left_out_in_time(tmp_path):
    """Its ten agents are missing in that round, and back in the next."""
    federation = CellFederation(tmp_path, cells=2, cells__seconds=1.0, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2)
    kinds_lost(federation, 2, {PartialSum})
    federation.run(
        lambda state: state.round == 3 or not isinstance(state.phase, Summing | Training)
    )
    kinds_lost(federation, 2, ())
    federation.run()
    assert [record.updates for record in federation.records] == [20, 10, 20]
    assert [record.missing for record in federation.records] == [0, 10, 0]


@pytest.mark.parametrize("phase", [Training, Summing])
def test_an_aggregator_that_is_killed_goes_on_with_the_same_models(phase, undisturbed, tmp_path):
    """The workers tell it again what they have, and the agents send nothing that is refused."""
    federation = CellFederation(tmp_path, cells=2, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2)
    if phase is Summing:
        kinds_lost(federation, 1, {PartialSum})
    federation.run(lambda state: isinstance(state.phase, phase))
    kinds_lost(federation, 1, ())
    federation.crash()
    federation.begin()
    federation.run()
    assert bits(federation) == bits(undisturbed)
    assert [record.traffic.invalid_messages for record in federation.records] == [{}] * 3


def test_what_a_cell_refuses_is_counted_with_its_reasons(undisturbed, tmp_path):
    """An update that is not finite, one of a stranger, and one of an earlier round."""
    federation = CellFederation(tmp_path, cells=2, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2 and isinstance(state.phase, Training))
    odd = np.full(len(federation.state.weights), np.nan, np.float32)
    for update in (
        Update("stranger", 2, 1, 4, np.zeros_like(odd)),
        Update("agent-0003", 1, 0, 4, np.zeros_like(odd)),
        Update("agent-0004", 2, 1, 4, odd),
    ):
        topic = federation.topics.of("lab", update)
        federation.edges[0].publish(topic, codec.encode(update))
    federation.run()
    refused = federation.records[1].traffic.invalid_messages
    assert refused == {"not_selected": 1, "wrong_round": 1, "not_finite": 1}
    assert federation.state.weights.tobytes() == undisturbed.state.weights.tobytes()


IN_16 = {"aggregation__partitions": 16}
ON_ROWS = {
    "median": {"aggregation__rule": "median"},
    "multi_krum": {"aggregation__rule": "multi_krum", "aggregation__options": {"share": 0.2}},
    "clipped mean of buckets": {
        "aggregation__rule": "clipped_mean",
        "aggregation__pre_aggregation": {"bucketing": 2},
    },
}


@pytest.mark.parametrize("rule", ON_ROWS)
@pytest.mark.parametrize("cells", [2, 4])
def test_any_rule_works_on_rows_that_stay_in_cells(rule, cells, tmp_path):
    """Its models are those of one aggregator to the last bit: rows are in the order of names."""
    changes = SOME | IN_16 | ON_ROWS[rule]
    kept = CellFederation(tmp_path / "kept", cells=cells, cells__engine="ray", **changes).whole()
    plain = Federation(tmp_path / "plain", **changes).whole()
    assert bits(kept) == bits(plain)
    assert all(bridge.bytes_up < 20_000 for bridge in kept.bridges)


@pytest.mark.parametrize("method", ["begin", "place", "total", "columns"])
def test_a_worker_lost_while_the_rule_works_is_collected_again(method, tmp_path):
    """Whatever was under way, its cell sends the same updates, and the model is the same."""
    changes = SOME | IN_16 | {"aggregation__rule": "geometric_median"}
    plain = Federation(tmp_path / "plain", **changes).whole()
    kept = CellFederation(tmp_path / "kept", cells=2, cells__engine="ray", **changes)
    kept.begin()
    kept.run(lambda state: state.round == 2)
    kept.engine.loses(1, method)
    kept.run()
    assert not kept.engine.lost
    assert bits(kept) == bits(plain)
    assert [record.attempt for record in kept.records] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"aggregation__rule": "median"}, "'median' needs the updates themselves"),
        ({"aggregation__rule": "mean", "aggregation__clip": 0.0}, "needs aggregation.clip"),
        ({"aggregation__pre_aggregation": {"nnm": 2}}, "'nnm' needs the updates themselves"),
        ({"detection__detectors": ["similarity"]}, "detector 'similarity' looks at updates"),
        ({"groups__size": 5}, "groups.size"),
        ({"evaluation__by_agent": True}, "evaluation.by_agent"),
        ({"validation__piggy_back": True}, "piggy-back"),
    ],
)
def test_what_needs_updates_is_refused_before_the_run(changes, what):
    """One sentence says what, and which rules are sums."""
    settings = settings_of(**(CLIPPED | {"cells__count": 2} | changes))
    with pytest.raises(ValueError, match=what.replace("(", r"\(")):
        sums_of(settings)


def test_a_sum_that_a_broker_has_lost_is_said_again(undisturbed, tmp_path):
    """Once the broker is back the request is heard once more, and answered as before."""
    federation = waiting_for_a_sum(tmp_path)
    for _ in range(20):
        federation.turn()
    kinds_lost(federation, 2, ())
    topic = federation.topics.where("lab", SumRequest)
    federation.edges[1].publish(topic, federation.broker.retained[topic], retain=True)
    federation.run()
    assert bits(federation) == bits(undisturbed)


@pytest.mark.parametrize("cells", [1, 2])
def test_an_aggregator_killed_while_agents_vote_waits_for_nobody(cells, tmp_path):
    """Cells tell it again, so that the round ends at once and in its first attempt."""
    federation = CellFederation(tmp_path, cells=cells, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2 and isinstance(state.phase, Voting))
    federation.crash()
    federation.begin()
    before = federation.seconds()
    federation.run(lambda state: state.round == 3)
    assert federation.seconds() - before < 5
    federation.run()
    assert [record.attempt for record in federation.records] == [1, 1, 1]
    assert [record.updates for record in federation.records] == [20, 20, 20]


def test_an_aggregator_that_knows_more_after_a_kill_is_given_another_sum(tmp_path):
    """It asks the same cell for more updates, and with another bound, than before."""
    federation = waiting_for_a_sum(tmp_path, collect__threshold=14)
    federation.crash()
    kinds_lost(federation, 2, ())
    settings = federation.settings
    collect = settings.collect.replaced(threshold=0)
    federation.settings = settings.replaced(collect=collect)
    federation.begin()
    federation.run(lambda state: state.round == 3)
    assert federation.records[1].updates == 20


def test_what_cells_tell_while_sums_are_asked_for_is_known_when_the_round_goes_back(tmp_path):
    """A cell tells each thing once: two agents that came late are not waited for in vain."""
    federation = waiting_for_a_sum(tmp_path, collect__threshold=18)
    for _ in range(40):
        federation.turn()
    kinds_lost(federation, 2, ())
    federation.replace_worker(2)
    before = federation.seconds()
    federation.run(lambda state: state.round == 3)
    assert federation.seconds() - before < 5
    assert federation.records[1].updates >= 18


def test_a_cell_that_the_run_does_not_have_changes_nothing(undisturbed, tmp_path):
    """It is told of once, and what it says is refused, whatever names it gives."""
    federation = CellFederation(tmp_path, cells=2, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2 and isinstance(state.phase, Training))
    everybody = " ".join(sorted(federation.state.selected))
    for cell in (0, 3, 77):
        tally = Tally(cell, 5, 2, 1, 0, everybody, bytes(4 * 20), bytes(8 * 20))
        federation.broker.publish(federation.topics.of("lab", tally), codec.encode(tally))
    federation.run()
    assert bits(federation) == bits(undisturbed)
    assert federation.records[1].traffic.invalid_messages == {"not_selected": 3}
    assert [text for text in federation.screen.said if "cells.count" in text] == [
        "cell 0 speaks, and the run has 2 (cells.count)"
    ]


def test_hostile_manifests_and_requests_end_no_worker(tmp_path):
    """What no aggregator would say is ignored, and the last round is as any other."""
    federation = CellFederation(tmp_path, cells=2, **CLIPPED)
    federation.begin()
    federation.run(lambda state: state.round == 2 and isinstance(state.phase, Training))
    edge, topics = federation.edges[0], federation.topics
    manifest = federation.workers[0]._manifest
    for partitions in ("abc", 0, 3, 1e308, True):
        odd = replace(manifest, cells={"partitions": partitions})
        edge.publish(topics.of("lab", odd), codec.encode(odd))
    one = b"\1\0\0\0"
    for kind in ("trusted", "centred", "clipped", "none"):
        request = SumRequest(2, 1, 9, one, one, b"", kind, 1e308, 62, 2**31 - 1)
        edge.publish(topics.of("lab", request), codec.encode(request))
    federation.run()
    assert federation.records[-1].updates == 20


def test_agents_that_died_with_their_broker_are_offline_after_a_while():
    """Its last wills died with it: who has not said again that it is there counts as gone."""
    agents = CellAgents(1, 5)
    for name in "ab":
        agents.note(Presence(name, online=True, since=0.0))
    agents.next()
    agents.doubt(100.0)
    agents.note(Presence("a", online=True, since=0.0))
    agents.settle(119.0)
    assert agents.next() is None
    agents.settle(120.0)
    assert agents.next().left == "b"
    assert list(agents.there) == ["a"]
