"""What a broker's probes come to: findings from numbers, a table and an exit code."""

from __future__ import annotations

import pytest

from fedjury.broker import check_verdicts as verdicts
from fedjury.broker.check_probes import PROBES, WANTED
from fedjury.broker.check_verdicts import Delivery, Finding, Verdict

PASSED, WARNING, FAILED = Verdict.PASSED, Verdict.WARNING, Verdict.FAILED


def test_every_probe_has_a_reason_and_no_reason_lacks_a_probe():
    """The table says of each probe why fedjury needs it."""
    assert list(verdicts.WHY) == list(PROBES)
    assert set(PROBES) > WANTED


@pytest.mark.parametrize(
    ("came", "verdict", "more"),
    [
        ([0, 1, 2], PASSED, "3 of 3 arrived, 3 acknowledged, in order, none twice"),
        ([0, 2, 1], WARNING, "3 of 3 arrived, 3 acknowledged, not in order"),
        ([0, 1, 1, 2], WARNING, "3 of 3 arrived, 3 acknowledged, 1 of them twice"),
        ([0, 2], FAILED, "2 of 3 arrived, 3 acknowledged"),
    ],
)
def test_messages_must_arrive_and_should_in_order_and_once(came, verdict, more):
    """One that is missing fails; another order, or one twice, is a warning."""
    found = verdicts.of_delivery(Delivery(3, 3, came))
    assert (found.verdict, found.measured) == (verdict, more)


@pytest.mark.parametrize(
    ("arrived", "verdict"), [(3_000, PASSED), (1_020, WARNING), (1_000, WARNING), (999, FAILED)]
)
def test_a_round_of_messages_must_wait_and_three_should(arrived, verdict):
    """A slow subscriber loses nothing; a round of 1,000 is the least that waits for it."""
    found = verdicts.of_slow(Delivery(3_000, 3_000, range(arrived)), 1_000)
    assert found.verdict is verdict
    lost = f"{3_000 - arrived:,} were acknowledged and dropped"
    assert (lost in found.measured) == (arrived < 3_000)


def test_what_was_not_acknowledged_is_not_called_dropped():
    """A broker that refuses what it cannot keep loses nothing in silence."""
    found = verdicts.of_slow(Delivery(3_000, 500, range(500), "refused with reason 0x97"), 1_000)
    assert found.verdict is FAILED
    assert "dropped" not in found.measured
    assert "refused with reason 0x97" in found.measured


def test_what_a_broker_did_not_take_is_said():
    """One that takes nothing while a subscriber is slow has lost nothing."""
    found = verdicts.of_slow(Delivery(3_000, 2_986, range(2_986)), 1_000)
    assert found.verdict is WARNING
    assert "it did not take the others in time" in found.measured


@pytest.mark.parametrize(("arrived", "verdict"), [(30, PASSED), (29, WARNING), (9, FAILED)])
def test_a_wildcard_gets_all_and_must_get_one_of_each_agent(arrived, verdict):
    """Thirty are retained, ten agents are planned."""
    assert verdicts.of_wildcard(arrived, 30, 10).verdict is verdict


def test_what_could_not_be_retained_in_time_is_no_failure():
    """Over a slow link nine are retained, and all of them arrive: too few to know more."""
    found = verdicts.of_wildcard(9, 9, 10)
    assert found.verdict is WARNING
    assert found.measured == "9 of 9 arrived, and it did not take 10 in time"


@pytest.mark.parametrize(
    ("largest", "stopped", "verdict"),
    [(100, "", PASSED), (100, "more did not", WARNING), (49, "50 did not", FAILED)],
)
def test_the_model_must_fit(largest, stopped, verdict):
    """A model of fifty bytes must come through; what else does not is a warning."""
    assert verdicts.of_payload(largest, 50, stopped).verdict is verdict


@pytest.mark.parametrize(("count", "verdict"), [(200, PASSED), (100, PASSED), (20, WARNING)])
def test_a_hundred_messages_should_be_in_flight(count, verdict):
    """As many as with our own configuration."""
    assert verdicts.of_flight(count, 200).verdict is verdict


@pytest.mark.parametrize(
    ("seconds", "kept", "polite", "verdict"),
    [
        (0.1, True, False, PASSED),
        (0.1, False, False, FAILED),
        (0.1, True, True, FAILED),
        (None, False, False, FAILED),
    ],
)
def test_a_will_comes_is_kept_and_only_after_a_cut(seconds, kept, polite, verdict):
    """Each of the three can be missing."""
    assert verdicts.of_will(seconds, kept=kept, after_goodbye=polite).verdict is verdict


def test_the_exit_code_is_one_only_if_something_failed():
    """A warning is none."""
    good, fair, bad = (Finding("QoS 1", each, "x") for each in (PASSED, WARNING, FAILED))
    assert verdicts.exit_code([good, fair]) == 0
    assert verdicts.exit_code([good, bad]) == 1


def test_of_several_nodes_the_worst_counts():
    """And the table says between which it was."""
    good = Finding("QoS 1", PASSED, "all", "a to b")
    bad = Finding("QoS 1", FAILED, "none", "b to a")
    assert verdicts.worst([good, bad]) is bad
    line, last = verdicts.table([bad])
    assert line == f"FAILED   QoS 1  none (b to a)  -- {verdicts.WHY['QoS 1']}"
    assert last == "this broker will not do: QoS 1"


def test_the_last_line_of_the_table_says_what_to_see_to():
    """Or that there is nothing."""
    good, fair = Finding("QoS 1", PASSED, "all"), Finding("$SYS", WARNING, "silent")
    assert verdicts.summary([good]) == "this broker will do"
    assert verdicts.summary([good, fair]) == "this broker will do; see to: $SYS"
