"""The faults of the sweep, in its short form; and the harness, which must see what is bad."""

from __future__ import annotations

import socket
from random import Random

import pytest
from support.listening import until

from fedjury.broker.mosquitto import find_mosquitto
from tools.chaos import __main__ as sweep
from tools.chaos.broker import CONNACK, DROPPED, Counter
from tools.chaos.faults import FAULTS, Outcome
from tools.chaos.harness import PLAIN, Harness

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not find_mosquitto(), reason="no Mosquitto (apt install mosquitto)"),
]

QUICK = [name for name, row in FAULTS.items() if row.quick]


@pytest.fixture(scope="module")
def lab():
    """Start the parent of all programs, and a broker, once for all faults."""
    with Harness() as made:
        yield made


@pytest.mark.parametrize("name", QUICK)
def test_fault_is_survived(lab, name):
    """The run comes to its end by itself, and to the same models where it has to."""
    row = FAULTS[name]
    if why := row.lack():
        pytest.skip(why)
    outcome = row.inject(lab, Random(name), row.quick)
    assert outcome.injected >= 1
    assert outcome.survived == outcome.injected, outcome.note
    assert outcome.identical is not False, outcome.note
    if outcome.identical:
        assert outcome.lost == 0


def test_nothing_was_dropped(lab):
    """In all of this the broker has thrown no message away."""
    assert lab.dropped() == 0


# ---------------------------------------------------------------- the harness


def test_a_run_that_ends_badly_is_seen(lab):
    """An aggregator that is killed and not started again has not survived."""
    with lab.federation() as made:
        made.start()
        made.reach(2)
        made.aggregator.kill()
        result = made.finish()
    assert not result.survived
    assert "rounds are recorded, not 10" in result.against(lab.quiet())


def test_another_model_is_seen(lab):
    """With another seed a run survives as well, and is another one."""
    with lab.federation(PLAIN | {"run.seed": 1}) as made:
        other = made.start().finish()
    assert other.survived
    assert other.against(lab.quiet())
    quiet = lab.quiet()
    assert not quiet.against(quiet)
    one = min(quiet.stored)
    assert quiet._replace(stored={**quiet.stored, one: "?"}).against(quiet)
    assert quiet._replace(published={**quiet.published, one: {"?"}}).against(quiet)


def test_silent_agents_are_seen(lab):
    """Who does not answer counts as lost."""
    setup = PLAIN | {"run.rounds": 1, "collect.seconds": 1.0, "validation.seconds": 0.5}
    with lab.federation(setup) as made:
        made.serve()
        made.agents = [made.join(1), made.join(2, ("mute", 0))]
        assert made.finish().lost >= 16


def test_dropped_messages_are_seen():
    """What the broker says of the messages that it has dropped is heard, whenever it says it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        counter = Counter(server.getsockname()[1])
        with server.accept()[0] as broker:
            for count in (b"0", b"1980"):
                broker.sendall(CONNACK + b"\x31\x27\x00\x24" + DROPPED + count)
                until(lambda count=count: counter.count == int(count), 5)


BAD = Outcome(3, 2, 7, False, "it ended with 2")


def test_the_table_tells(monkeypatch, capsys, tmp_path):
    """What was not survived makes the sweep fail, and stands in the table on screen and in file."""
    fine = Outcome(5, 5, 0, True)
    rows = {"good": sweep.Row("a good one", lambda *_: fine), "bad": sweep.Row("x", lambda *_: BAD)}
    monkeypatch.setattr(sweep, "FAULTS", rows)
    monkeypatch.setattr(sweep, "Harness", NoLab)
    file = tmp_path / "table.md"
    assert sweep.main(["--only", "good"]) == 0
    assert "all as it must be" in capsys.readouterr().out
    assert sweep.main(["--markdown", str(file)]) == 1
    assert "not as it must be: bad" in capsys.readouterr().out
    assert file.read_text().splitlines()[2:] == [
        "| a good one | 5 | 5 | 0 | yes |  |",
        "| x | 3 | 2 | 7 | NO | it ended with 2 |",
    ]
    assert sweep.main(["--only", "gud"]) == 2


def test_what_cannot_be_injected_here_is_left_out(monkeypatch, capsys):
    """The sweep says why, and fails for it only if nothing else was done."""
    lacking = sweep.Row("x", lambda *_: BAD, lack=lambda: "needs Ray")
    rows = {"good": sweep.Row("a good one", lambda *_: Outcome(5, 5, 0, True)), "no": lacking}
    monkeypatch.setattr(sweep, "FAULTS", rows)
    monkeypatch.setattr(sweep, "Harness", NoLab)
    assert sweep.main([]) == 0
    assert "no left out: needs Ray" in capsys.readouterr().out
    assert sweep.main(["--only", "no"]) == 1


class NoLab(Harness):
    """A place where nothing is started."""

    def __init__(self, say):
        self.say = say

    def dropped(self):
        """Say that nothing was thrown away."""
        return 0

    def close(self):
        """Leave nothing behind."""
