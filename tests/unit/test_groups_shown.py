"""What people see of groups: in a report, in a terminal, and of rounds in short."""

from __future__ import annotations

import re

import pytest
from rich.console import Console
from support.records import read_all
from support.watching import GROUPED, MANIFEST, WHERE, after, group, opened, record, say, sight_of

from fedjury.aggregator.console import round_line
from fedjury.aggregator.history import History
from fedjury.config.settings import load
from fedjury.experiments.engine.setup import PLAIN
from fedjury.formatting import processor_time
from fedjury.monitor.runs import State
from fedjury.monitor.terminal import dashboard, formatting
from fedjury.monitor.terminal.dashboard import Frame
from fedjury.protocol.groups import GroupCounts
from fedjury.protocol.logs import log_to_json
from fedjury.protocol.record import read, to_json
from fedjury.reports import groups_section
from fedjury.reports.detection_section import Truth
from fedjury.reports.groups_section import Judged, Member, Reason, figures, sentence
from fedjury.reports.page import page
from fedjury.reports.statistics import AttackRounds
from fedjury.reports.summary import ReportData, RunInput, defence
from fedjury.reports.table import notes

DOWN = "voted down"


def round_of(number, *groups, **more):
    """Return the record of a round with these groups, numbered from 0."""
    said = record(number, votes={}, groups={f"{n}": one for n, one in enumerate(groups)}, **more)
    return said | {"group_voters": GROUPED["group_voters"]}


ROUNDS = [
    round_of(1, group(["a", "b"]), group(["c", "eve"], 3, 2, DOWN)),
    round_of(2, group(["a", "c"], 5, 0, DOWN), group(["b", "eve"])),
    round_of(3, group(["a", "eve"], 5, 0, DOWN), group(["b", "c"])),
    round_of(4, group(["a", "eve"], 0, 0, "the candidate is not finite"), group(["b", "c"])),
]
"""Four rounds of two groups of two; the malicious agent eve attacks from the second on."""

TRUTH = Truth(frozenset({"eve"}), frozenset("abc"))


def figures_of(*records, truth=TRUTH, hits=(2, 3, 4)):
    """Return the figures of these records."""
    return figures(read_all(list(records)), hits, truth)


# ---------------------------------------------------------------- in short


def test_groups_in_short_by_hand():
    """Their number, the numbers of those left out, and the upper medians of bytes and time."""
    full = read(record(1, **GROUPED))
    assert full.groups.counts == GroupCounts(3, 1, (1,), 3000, 4000)
    assert str(full.groups) == "1 of 3 groups left out (1)"
    short = full.short()
    assert (short.groups.groups, short.groups.voters) == ({}, {})
    assert (short.groups.counts, str(short.groups)) == (full.groups.counts, str(full.groups))
    assert read(to_json(short)).groups == short.groups


def test_of_hundreds_of_groups_left_out_a_line_names_the_first():
    """A line stays short, however many were left out."""
    many = read(round_of(1, *(group([f"a{n}"], 5, 0, DOWN) for n in range(300))))
    assert str(many.groups) == "300 of 300 groups left out (0, 1, 2, 3, 4, 5, 6, 7, ...)"
    assert str(read(round_of(1, group(["a"]))).groups) == "1 group, none left out"


def test_who_comes_late_knows_how_many_groups_there_were():
    """The rounds in short count them; without any they do not speak of groups."""
    past = History(read_all([record(1), record(2, **GROUPED)])).message().record
    said = log_to_json(past)
    at = said["columns"].index("group_counts")
    assert [row[at] for row in said["rows"]] == [
        None,
        {"count": 3, "left_out": 1, "numbers": [1], "size": 3000, "cpu": 4000},
    ]
    run = after(say("log/history", said))
    assert [row.groups for row in run.rows] == [None, past.rounds[1].groups]
    assert (run.tally.groups, run.tally.groups_left_out) == (3, 1)
    assert (
        "group_counts"
        not in log_to_json(History(read_all([record(1)])).message().record)["columns"]
    )


# ---------------------------------------------------------------- in a terminal


def test_a_line_says_which_groups_were_left_out():
    """In a watcher's line, and in that of the aggregator."""
    run = after(say("log/round", record(1, **GROUPED)))
    assert "  1 of 3 groups left out (1)  " in formatting.line(run.last)
    assert "  1 of 3 groups left out (1)  " in round_line(read(record(1, **GROUPED)), 9).plain
    assert "1 of 3 groups left out" in formatting.closing(run)
    assert "group" not in formatting.line(after(say("log/round", record(1))).last)


def drawn(*messages, width=100, plain=True):
    """Return what the dashboard shows after these messages."""
    run, frame = after(*messages), Frame(width, 30, plain=plain)
    console = Console(width=width, height=30, no_color=True)
    with console.capture() as captured:
        console.print(dashboard.dashboard(sight_of(State({run.name: run})), run, WHERE, frame))
    return captured.get()


def test_the_dashboard_draws_groups():
    """A character a group where the candidate is not voted on; what judging costs stands below."""
    begun = say("manifest", MANIFEST), say("round", opened(2, "validate_groups"))
    text = drawn(*begun, say("log/round", record(1, **GROUPED, votes={})))
    assert "voting on groups" in text
    assert re.search(r"1  accepted +50\.0% +50\.0%  Pcc 1/3 groups out", text)
    assert "groups: P left out c kept" in text
    assert "groups 3  left out 1 (last round: 1 of 3)  a validator: 3.0 kB, 4 ms" in text
    assert "no vote" not in text
    both = drawn(*begun, say("log/round", record(1, **GROUPED)))
    assert re.search(r"1/4 Pccc\. 1/3 groups out", both)
    assert "group" not in drawn(*begun[:1], say("log/round", record(1)))


@pytest.mark.parametrize(("count", "out"), [(300, 1), (300, 299), (300, 300), (5, 0)])
def test_of_many_groups_none_left_out_vanishes(count, out):
    """Where groups share a character, one left out still has one of its own."""
    text = dashboard.grouped(GroupCounts(count, out), 20, dashboard.PLAIN).plain
    assert len(text) == min(20, count)
    assert (text.count("P") > 0, text.count("c") > 0) == (out > 0, out < count)


def test_hostile_groups_are_harmless():
    """Impossible counts, names that are none and moving cursors change and show nothing."""
    bad = {"members": ["\x1b[2J", "../x", 7, "a"], "poisoned": -1, "why": "\x1b[2J" * 999}
    said = record(1, groups={"0": bad, "x": bad, "-1": bad}, group_voters={"\x1b": {"size": 1}})
    text = drawn(say("log/round", said))
    assert "\x1b" not in text
    assert "1/1 groups out" in text
    lied = {"count": 1, "left_out": 2**31 - 1, "numbers": [*range(5000)], "size": -3}
    said = {"columns": ["round", "group_counts"], "rows": [[1, lied]], "invalid_messages": {}}
    run = after(say("log/history", said))
    assert len(run.rows[0].groups.counts.numbers) == 8
    assert len(drawn(say("log/history", said)).split("\n")) <= 31


@pytest.mark.parametrize(
    ("took", "said"), [(0, "\u2013"), (400, "0.4 ms"), (35_000, "35 ms"), (1_250_000, "1.2 s")]
)
def test_processor_time_is_written_for_people(took, said):
    """Milliseconds, and seconds from one on; nobody who said nothing took none."""
    assert processor_time(took) == said


# ---------------------------------------------------------------- in the report


def test_groups_in_figures_by_hand():
    """Groups voted on and left out, why, and what the median validator of the median round paid."""
    found = figures_of(*ROUNDS)
    assert (found.rounds, found.groups, found.voted, found.left_out) == (4, 8, 7, 4)
    assert (found.size, found.cpu) == (3000, 4000)
    assert found.reasons == [Reason(DOWN, 3, 3), Reason("the candidate is not finite", 1, 1)]
    assert figures_of(record(1)) is None


def test_verdicts_on_groups_are_held_against_the_truth():
    """Groups that the vote got wrong, and the honest updates that attacked rounds kept.

    Of those voted on, eve is in an attacked one in rounds 2 and 3: that of round 2 was missed. Of
    the five others that of round 1 and the one with a and c were wrongly left out. Of nine honest
    updates in rounds 2 to 4, b's, then b's and c's twice were kept.
    """
    assert figures_of(*ROUNDS).judged == Judged(2, 1, 5, 2, 5 / 9)
    down = [*ROUNDS[:2], ROUNDS[2] | {"accepted": False}]
    assert figures_of(*down).judged.kept == 1 / 6  # what is kept of a rejected round is nothing
    assert figures_of(*ROUNDS, hits=()).judged == Judged(0, 0, 7, 3, None)
    assert figures_of(*ROUNDS, truth=None).judged is None


def test_who_was_most_often_in_groups_left_out():
    """By how often; among equals whoever was in fewer groups stands first, then by name."""
    found = figures_of(*ROUNDS)
    assert found.members == [
        Member("a", 4, 3, 4, malicious=False),
        Member("eve", 4, 3, 4, malicious=True),
        Member("c", 4, 2, 2, malicious=False),
    ]
    crowd = figures_of(round_of(1, group([f"a{n:03}" for n in range(500)], 5, 0, DOWN)))
    assert (len(crowd.members), crowd.more) == (20, 480)
    assert crowd.members[0].name == "a000"


def test_of_very_many_reasons_the_most_frequent_are_told_apart():
    """A file may say anything; the rest is counted together."""
    made = figures_of(*(round_of(n, group(["a"], why=f"why {n:02}")) for n in range(1, 13)))
    assert len(made.reasons) == groups_section.REASONS + 1
    assert made.reasons[-1] == Reason("other reasons", 2, 2)


def told(*records, truth=TRUTH):
    """Return the report's page on these records."""
    case = RunInput("lab", read_all(list(records)), "Updates are averaged.")
    return page(ReportData("Run lab", "Four agents.", [case], AttackRounds(2), truth))


def test_the_report_has_a_section_on_groups():
    """What was left out, what the vote got wrong, what it costs, and who was left out most."""
    text = " ".join(re.sub(r"<[^>]*>", " ", told(*ROUNDS)).split())
    assert "8 groups in 4 rounds: 7 were voted on, 4 left out." in text
    assert "median validator received 3.0 kB , and took 4 ms of processor time" in text.replace(
        "3.0 kB,", "3.0 kB ,"
    )
    assert "Of 2 groups with a malicious agent that attacked, 1 was aggregated" in text
    assert "of 5 others, 2 were left out" in text
    assert "55.6% were kept" in text
    assert "eve 3 4 75.0% 4 malicious" in text
    assert "1 of 2 groups left out (1)" in text
    assert "Votes were on groups, not on candidates." in text
    assert "the votes were on groups" in text


def test_a_report_without_groups_does_not_speak_of_them():
    """Neither the page nor the sentences of a run's end."""
    assert "roups" not in told(record(1), record(2)).split("<body>")[1].split('id="settings"')[0]
    assert sentence(read_all([record(1)])) == ""


def test_hostile_names_and_reasons_of_groups_stay_text():
    """Names that are none are not there, and reasons are text."""
    bad = "<script>alert(1)</script>"
    made = told(round_of(1, group([bad, "a"], 5, 0, bad)))
    assert "<script>" not in made
    assert "&lt;script&gt;" in made
    assert figures_of(round_of(1, group([bad, "a"], 5, 0, bad))).members[0].name == "a"


def test_rounds_and_runs_are_summed_up_in_a_sentence():
    """A round's note, and what stands at a run's end."""
    assert notes(read(ROUNDS[0]))[0] == "1 of 2 groups left out (1)"
    assert sentence(read_all(ROUNDS)) == "4 of 8 groups were left out, in 4 rounds"
    assert sentence(read_all([round_of(1, group(["a"]))])) == "none of 1 groups was left out"


GROUPS = {"groups.size": 5, "validation.validators": 10, "validation.judge": "robust"}


VOTES = {
    "groups": (
        {"validation.on": "groups"},
        """10 validators vote on each group (judge robust), and 5 “poisoned” votes leave a group
        out.""",
    ),
    "both": (
        {"validation.on": "both", "validation.groups_each": 3},
        """10 validators vote on 3 groups each and then on the candidate (judge robust), and 5
        “poisoned” votes leave a group out or reject the candidate.""",
    ),
}


@pytest.mark.parametrize("case", VOTES)
def test_votes_on_groups_in_words(case):
    """What is voted on, and what comes of it."""
    changes, said = VOTES[case]
    text = defence(load(overrides=PLAIN | GROUPS | changes))
    drawn_into = "Agents are drawn into groups of at least 5 in each round"
    assert text.startswith(drawn_into)
    assert text.endswith(" ".join(said.split()))
