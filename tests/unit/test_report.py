"""What a report says of a run: figures worked by hand, hostile text that stays text, one file."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from support.records import read_all

from fedjury import reports
from fedjury.config.settings import load
from fedjury.experiments.engine.setup import PLAIN
from fedjury.federation import description as run
from fedjury.formatting import UNKNOWN, size
from fedjury.protocol.messages import Reason
from fedjury.registry import ATTACKS, DETECTORS
from fedjury.reports import rounds as rounds_of
from fedjury.reports import table
from fedjury.reports.detection_section import (
    Truth,
    attacked,
    detection_summary,
    groups,
    outcomes,
    tallies,
    verdicts,
)
from fedjury.reports.lines import POINTS, apart, in_words, limits, line
from fedjury.reports.page import MEANINGS, page
from fedjury.reports.statistics import AttackRounds, refusals, row, traffic
from fedjury.reports.statistics import cells as cells_of
from fedjury.reports.summary import (
    ReportData,
    RunInput,
    common,
    defence,
    differing,
    ending,
    figures_of,
)

VOID = {"meta", "link", "br", "path", "use", "rect"}
"""Elements without an end, in HTML or because our pictures write them so."""


def record(number, accuracy=0.5, **changes):
    """Return the record of a round as the aggregator writes it."""
    return {
        "round": number,
        "attempt": 1,
        "version": number,
        "accepted": True,
        "why": "",
        "selected": 4,
        "updates": 4,
        "missing": 0,
        "absent": [],
        "votes": {},
        "invalid_messages": {},
        "accuracy": accuracy,
        "seconds": 0.5,
        "updates_per_second": 8.0,
        "bytes_in": 1000,
        "bytes_out": 10,
        "dropped": 0,
        "voters": {},
        "candidate_accuracy": accuracy,
        "candidate_backdoor": None,
        "judged": number,
        "backdoor": None,
        **changes,
    }


def vote(poisoned, score=3.0, threshold=2.0):
    """Return what a record says of a vote."""
    return {"poisoned": poisoned, "score": score, "threshold": threshold, "size": 100}


REJECTED = record(
    3,
    0.4,
    accepted=False,
    why="voted down",
    votes={"poisoned": 2, "clean": 1, "silent": 1},
    voters={"agent-3": vote(True), "agent-1": vote(False, 1.5), "agent-2": vote(True, 5.25)},
    candidate_accuracy=0.1,
    missing=1,
    absent=["agent-0"],
    invalid_messages={"duplicate": 2},
)
"""The third round, in which two of four validators say poisoned."""

FEW = [
    record(1, 0.2),
    record(2, 0.4),
    REJECTED,
    record(4, 0.3, invalid_messages={"duplicate": 1, "malformed": 1}, attempt=2),
]
"""Four rounds; the malicious agents strike from the third on."""

STRIKES = AttackRounds(3)
TRUTH = Truth(frozenset({"agent-1", "agent-9"}), frozenset({"agent-0", "agent-2", "agent-3"}))


def story(records, **changes):
    """Return the story of one run of whose agents everything is known."""
    case = RunInput("lab", read_all(records), "Updates are averaged.", 2, {"agents.n": "5"})
    told = ReportData("Run lab", "Five agents.", [case], STRIKES, TRUTH)
    return told._replace(**changes)


class Page(HTMLParser):
    """A page taken apart: its texts, its elements and their attributes."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attrs):
        """Take an element that ends itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_starttag(self, tag, attrs):
        """Open an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the innermost element, which has to be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Take what is read; a style is not."""
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        """All that is read, with single spaces."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


# Figures


def test_a_run_in_figures():
    """Sums, and the accuracy before the strike, of four rounds by hand."""
    found = row("lab", read_all(FEW), STRIKES)
    assert (found.before, found.final, found.best) == (0.4, 0.3, 0.4)
    assert (found.accepted, found.rejected, found.updates, found.refused) == (3, 1, 16, 4)
    assert found.kept == pytest.approx(0.75)
    assert found.rate == 8.0
    assert cells_of(found, reports.headings([found])) == (
        "lab",
        "40.0%",
        "30.0%",
        "75%",
        "10.0",
        "40.0%",
        "3",
        "1",
        "16",
        "4",
        "2.0",
        "8",
    )


def test_the_backdoor_let_in_and_the_attacks_caught_stand_in_a_row():
    """The attacks of rounds 3 and 4: one rejected, one let in with 30 %; a benign one had 5 %."""
    shares = [0.05, 0.04, 0.04, 0.3]
    rounds = [one | {"backdoor": share} for one, share in zip(FEW, shares, strict=True)]
    told = story(rounds)
    found = figures_of(told, told.cases[0])
    assert (found.backdoor, found.let_in, found.rejected_attacks) == (0.3, 0.3, (1, 2))
    assert found.lost == pytest.approx(0.1)
    heads = reports.headings([found])
    assert heads[3:8] == ("kept", "lost", "backdoor", "let in", "caught")
    assert cells_of(found, heads)[3:8] == ("75%", "10.0", "30.0%", "30.0%", "1 of 2")
    nobody = story(rounds, truth=None)
    assert figures_of(nobody, nobody.cases[0]).rejected_attacks is None
    unknown = story(rounds, attack_rounds=None)
    assert figures_of(unknown, unknown.cases[0]).rejected_attacks is None


def test_before_is_found_by_the_number_of_the_round():
    """Where records are lost, the last one before the strike counts, not the last but so many."""
    lost = read_all([record(2, 0.4), record(5, 0.6), record(6, 0.1)])
    assert row("lab", lost, AttackRounds(6)).before == 0.6
    assert row("lab", lost, AttackRounds(2)).before is None


@pytest.mark.parametrize("strikes", [None, AttackRounds(99)])
def test_where_nobody_struck_there_is_no_before(strikes):
    """An attack that would have begun after the end has changed nothing."""
    assert row("lab", read_all(FEW), strikes).before is None


def test_the_network_in_figures():
    """What crossed it, added up; who was missing, and rounds that were tried again."""
    found = traffic(read_all(FEW))
    assert found[:7] == (4, 2.0, 16, 4000, 40, 0, 1)
    assert found.absent == [("agent-0", 1)]
    assert (found.repeated, found.refused) == (1, 4)


def test_refusals_by_reason():
    """The most frequent first, with the rounds in which they were."""
    assert refusals(read_all(FEW)) == [
        ("duplicate", 3, 2, 3, 4),
        ("malformed", 1, 1, 4, 4),
    ]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (52_530_000, "52.5 MB"),
        (999_960, "1.0 MB"),
        (7 * 10**15, "7,000.0 TB"),
        (None, "\N{EN DASH}"),
    ],
)
def test_bytes_are_written_for_people(count, said):
    """In thousands, with one digit."""
    assert size(count) == said


# Who was caught


def looked(number, flagged, quarantined=(), permanent=(), **changes):
    """Return the record of a round in which detectors looked."""
    return record(
        number,
        flagged=dict.fromkeys(flagged, "fixed_point"),
        suspicion={},
        filtered=len(flagged),
        quarantined=[*quarantined],
        permanent=[*permanent],
        **changes,
    )


WATCHED = [
    looked(1, []),
    looked(2, ["agent-2"]),
    looked(3, ["agent-1", "agent-2"], ["agent-2"]),
    looked(4, ["agent-1"], ["agent-1", "agent-2"]),
    looked(5, [], ["agent-1"], ["agent-1"]),
]
"""agent-1 is evil and found, agent-9 is evil and never seen, agent-2 is honest and accused."""


def test_everybody_who_was_suspected_is_followed():
    """Rounds, the first of them, detectors, quarantine and how it ended."""
    found = outcomes(read_all(WATCHED))
    assert found == {
        "agent-1": (2, 3, ("fixed_point",), 4, True, True),
        "agent-2": (2, 2, ("fixed_point",), 3, False, False),
    }


def test_fates_are_held_against_the_truth():
    """Falsely flagged, missed and caught, in this order."""
    found = groups(outcomes(read_all(WATCHED)), TRUTH)
    assert [(group.outcome, group.names) for group in found] == [
        ("accused", ("agent-2",)),
        ("missed", ("agent-9",)),
        ("caught", ("agent-1",)),
    ]


def test_without_the_truth_there_is_suspicion_alone():
    """What an aggregator knows; nobody can be missed."""
    found = groups(outcomes(read_all(WATCHED)), None)
    assert {group.outcome for group in found} == {"flagged"}


def test_agents_with_one_fate_are_one_group():
    """Two hundred who were found together are one line; too many lines are put together."""
    names = [f"agent-{number:03}" for number in range(200)]
    truth = Truth(frozenset(names), frozenset())
    [group] = groups(outcomes(read_all([looked(1, names)])), truth)
    assert group.names == tuple(names)
    one_by_one = [looked(number + 1, [name]) for number, name in enumerate(names)]
    several = groups(outcomes(read_all(one_by_one)), truth)
    assert len(several) == 15
    assert several[-1].mixed
    assert sorted(name for group in several for name in group.names) == names


def test_agents_are_counted_by_kind():
    """Evil, honest, and names that are no agents of the experiment's."""
    found = outcomes(read_all([*WATCHED, looked(6, ["mallory"], [], ["agent-1"])]))
    assert tallies(found, TRUTH) == [
        ("malicious", 2, 1, 1, 0, 1),
        ("honest", 3, 1, 1, 0, 0),
        ("strangers", None, 1, 0, 0, 0),
    ]


def test_the_sentence_on_detection():
    """It is on the terminal, too."""
    [said] = detection_summary(read_all(WATCHED), TRUTH)
    assert said == (
        "Detection: of 2 malicious agents 1 were flagged in some round and 1 are in quarantine "
        "at the "
        "end, 1 permanently; of 3 honest ones 1 were flagged, 1 were ever in quarantine, 0 "
        "permanently."
    )
    assert detection_summary(read_all(FEW), TRUTH) == []


def test_who_is_in_quarantine_does_not_strike():
    """From the round after it, until it is called on appeal and flagged again."""
    out = {"quarantined": TRUTH.malicious, "flagged": []}
    records = [
        looked(1, []),
        looked(2, TRUTH.malicious),
        looked(3, TRUTH.malicious, TRUTH.malicious),
        looked(4, **out),
        looked(5, TRUTH.malicious, TRUTH.malicious),
        looked(6, **out),
        looked(7, []),
    ]
    rounds = read_all(records)
    assert attacked(rounds, AttackRounds(2), TRUTH) == {2, 3, 5, 7}
    assert attacked(rounds, AttackRounds(3, (3, 4)), TRUTH) == {3}
    assert attacked(rounds, None, TRUTH) == attacked(rounds, AttackRounds(2), None) == set()


def test_verdicts_are_held_against_the_strikes():
    """With piggy-back a verdict is about the candidate of the round before."""
    assert verdicts(read_all(FEW), {3, 4}) == (2, 1, 2, 0, 3)
    late = [record(1, accepted=None, judged=None), {**REJECTED, "round": 2, "judged": 1}]
    assert verdicts(read_all(late), {1}) == (1, 1, 0, 0, 0)
    assert verdicts(read_all(FEW[:2]), {3}) is None


# Lines of the pictures


def test_a_line_in_percent_with_its_crosses():
    """A round without a value is a gap; a rejected one is a cross on the line."""
    drawn = line("lab", read_all([*FEW[:3], record(4, None)]))
    np.testing.assert_allclose(drawn.values, [20, 40, 40, np.nan])
    assert drawn.crosses == [(3.0, 40.0)]
    assert in_words(drawn) == (
        "lab: 20.0% at round 1, 40.0% at round 3; lowest 20.0%, highest 40.0%."
    )


def test_the_backdoor_s_crosses_are_those_of_the_candidates():
    """What a rejected candidate would have done is drawn where it would have been."""
    hidden = [
        record(1, backdoor=0.0),
        record(2, backdoor=0.0, accepted=False, candidate_backdoor=0.9),
    ]
    drawn = line("lab", read_all(hidden), backdoor=True)
    assert drawn.values.tolist() == [0, 0]
    assert drawn.crosses == [(2.0, 90.0)]


def numbers(*values, **changes):
    """Return rounds of a run of which an error was measured, and no accuracy."""
    return [record(n, None, metrics={"rmse": v}, **changes) for n, v in enumerate(values, 1)]


def test_a_metric_has_a_line_of_its_own():
    """Its values are as they were measured, and may be negative; a cross is a rejected round."""
    rounds = [*numbers(0.5, -0.25), record(3, None, metrics={"rmse": -0.25}, accepted=False)]
    drawn = line("lab", read_all(rounds), metric="rmse")
    assert drawn.values.tolist() == [0.5, -0.25, -0.25]
    assert drawn.crosses == [(3.0, -0.25)]
    assert in_words(drawn) == ("lab: 0.5 at round 1, -0.25 at round 3; lowest -0.25, highest 0.5.")


def test_the_axis_of_a_metric_goes_by_its_values():
    """Shares go from 0 to 100 %; 10 to 30 with a twentieth of room is 9 to 31."""
    rounds = read_all(numbers(10.0, 30.0))
    assert limits([line("lab", rounds, metric="rmse")]) == (9.0, 31.0)
    assert limits([line("lab", rounds)]) == (-2, 103)
    assert limits([line("lab", read_all(FEW), metric="rmse")])[0] < 0.5  # nothing was measured


def test_a_run_on_numbers_has_its_columns():
    """The error at the end and at its best stand where accuracy would."""
    found = row("lab", read_all(numbers(0.5, 0.125, 0.25)), None)
    heads = reports.headings([found])
    assert heads[:5] == ("run", "rmse", "best rmse", "accepted", "rejected")
    assert cells_of(found, heads)[:3] == ("lab", "0.25", "0.125")


def test_runs_that_measured_different_things_share_a_table():
    """Where a run did not measure something its cell is empty."""
    found = [row("a", read_all(FEW), None), row("b", read_all(numbers(0.5)), None)]
    heads = reports.headings(found)
    assert {"final", "best", "rmse", "best rmse"} <= set(heads)
    cells = [dict(zip(heads, cells_of(one, heads), strict=True)) for one in found]
    assert (cells[0]["rmse"], cells[0]["final"]) == ("", "30.0%")
    assert (cells[1]["rmse"], cells[1]["final"]) == ("0.5", "")


def test_the_report_of_a_run_on_numbers(tmp_path):
    """Page, table and picture show the error, and no accuracy that nobody measured."""
    rounds = numbers(0.5, 0.125, 0.25, declined=2)
    told = story(rounds, attack_rounds=None)
    reports.write(tmp_path, told)
    table_ = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| run | rmse | best rmse |" in table_
    assert "accuracy" not in table_.replace("accuracy.png", "")
    shown = Page(page(told))
    assert "At the end rmse is 0.25 (best: 0.125)." in shown.text
    assert "rmse by round." in shown.text
    assert "Accuracy" not in shown.text
    assert "0.0%" not in shown.text
    assert "2 sat out" in shown.text
    pictures = [svg["aria-label"] for svg in shown.all("svg") if svg.get("role") == "img"]
    assert len(pictures) == 2  # wide and narrow
    assert "lab: 0.5 at round 1, 0.25 at round 3" in pictures[0]
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


def test_very_many_rounds_are_put_together():
    """A point is the mean of its rounds, and the band says how far they go."""
    many = [record(number, 0.2 + 0.2 * (number % 2)) for number in range(1, 2 * POINTS + 1)]
    drawn = line("lab", read_all(many))
    assert (len(drawn.values), drawn.each) == (POINTS, 2)
    assert drawn.rounds[0] == 1.5
    np.testing.assert_allclose(drawn.values, 30)
    np.testing.assert_allclose(drawn.lowest, 20)
    np.testing.assert_allclose(drawn.highest, 40)


def test_names_at_the_ends_of_lines_do_not_overlap():
    """They move as little as need be, and keep their order."""
    assert apart([10, 50, 50], 6) == [10, 47, 53]
    assert apart([50, 49, 10], 6) == [52.5, 46.5, 10]
    assert apart([], 6) == []


# The table of rounds


def test_votes_are_cells_with_their_scores():
    """Who says poisoned first, who was silent last; an experiment knows who is evil."""
    [shown] = table.lines(read_all([REJECTED]), {3}, {"agent-1"})
    assert shown.cells == [
        ("p", "agent-2: poisoned, score 5.25 against threshold 2", False),
        ("p", "agent-3: poisoned, score 3 against threshold 2", False),
        ("c", "agent-1 (malicious): clean, score 1.5 against threshold 2", True),
        ("s", "a validator: silent", False),
    ]
    assert (shown.verdict, shown.struck, shown.accuracy) == ("rejected", True, "40.0%")
    assert shown.said == "2 poisoned, 1 clean, 1 silent"
    assert shown.notes == [
        "voted down",
        "the candidate: accuracy 10.0%",
        "refused: duplicate 2",
        "1 missing (agent-0)",
    ]
    assert shown.skipped == "There is no record of 2 rounds here."


def test_missing_agents_are_told_by_cell():
    """Where agents are in cells, a round says of which they were missing."""
    [shown] = table.lines(read_all([REJECTED | {"cells": {"2": 1}}]), set(), set())
    assert shown.notes[-2:] == ["1 missing (agent-0)", "missing: 1 of cell 2"]


def test_what_detectors_say_of_a_round():
    """How many are flagged by whom, left out, and in quarantine."""
    [*_, shown] = table.lines(read_all(WATCHED[:3]), set(), set())
    assert shown.notes == ["2 flagged (fixed_point 2); 2 filtered", "1 in quarantine after it"]


def test_of_very_many_rounds_some_are_shown():
    """The ends, and rejected ones between; the table says what is left out."""
    many = [record(number, accepted=number % 1000 != 500) for number in range(1, 10_001)]
    shown = table.lines(read_all(many), set(), set())
    assert [one.number for one in shown[98:103]] == [99, 100, 500, 1500, 2500]
    assert len(shown) == 210
    assert shown[100].skipped == "Rounds 101 to 499 are left out here: 0 rejected, 399 not."
    assert shown[101].skipped == "Rounds 501 to 1,499 are left out here: 0 rejected, 999 not."
    assert shown[-100].skipped == "Rounds 9,501 to 9,900 are left out here: 0 rejected, 400 not."


def test_of_very_many_votes_some_are_shown():
    """A hundred in a round, and no more in all than a budget; the rest is counted."""
    voters = {f"agent-{number:03}": vote(number == 0) for number in range(120)}
    crowd = {"votes": {"poisoned": 1, "clean": 119, "silent": 0}, "voters": voters}
    records = read_all([record(1, **crowd), record(2, **crowd)])
    shown = table.lines(records, set(), set(), budget=150)
    assert [(len(one.cells), one.more) for one in shown] == [(100, 20), (50, 70)]
    assert shown[1].cells[0].kind == "p"


# Words


DEFENCES = {
    "nothing": ({}, "Updates are averaged."),
    "a rule behind fronts": (
        {
            "aggregation.rule": "krum",
            "aggregation.clip": 1.5,
            "aggregation.pre_aggregation": {"nnm": 20},
        },
        """Updates longer than 1.5 are scaled down, they go through nnm, then they are combined by
        the rule krum.""",
    ),
    "a vote": (
        {"validation.validators": 10, "validation.warm_up": 20},
        """Updates are averaged. 10 validators vote on each candidate from round 21 on (judge lof),
        and 5 “poisoned” votes reject it.""",
    ),
    "the server's vote": (
        {"validation.judged_by": "server", "data.server": 0.1},
        """Updates are averaged. The server votes on each candidate (judge lof), and 1 “poisoned”
        vote rejects it.""",
    ),
    "pooled": (
        {"validation.validators": 9, "validation.decide": "pooled"},
        """Updates are averaged. 9 validators vote on each candidate (judge lof), and the judge
        decides by the error counts of all of them together.""",
    ),
    "piggy-back": (
        {"validation.piggy_back": True},
        """Updates are averaged. The next round's contributors vote on each candidate, and half of
        these votes, if they say “poisoned”, reject it.""",
    ),
    "quarantine": (
        {"detection.detectors": ["burst"], "detection.quarantine": True},
        """Updates are averaged.
        The detector burst looks for malicious agents; updates of flagged agents are
        filtered, and after 2 rounds of that the agents are no longer selected.""",
    ),
    "detectors alone": (
        {"detection.detectors": ["burst", "dissent"]},
        """Updates are averaged. The detectors burst,
        dissent look for malicious agents; flagged agents are only recorded.""",
    ),
}


@pytest.mark.parametrize("case", DEFENCES)
def test_the_defence_in_words(case):
    """How updates become a model, and who looks at them and at it."""
    changes, said = DEFENCES[case]
    assert defence(load(overrides=PLAIN | changes)) == " ".join(said.split())


def test_settings_that_differ_are_told_but_not_where_things_are():
    """No password, no host, no folder stands in a report."""
    changes = {
        "run.directory": "/home/ann",
        "data.root": "/home/ann",
        "broker.host": "ann.example",
        "broker.password": "sesame",
        "agents.n": 500,
        "agents.options": {"z": 1.5},
        "validation.piggy_back": False,
    }
    assert differing(load(overrides=changes)) == {"agents.n": "500", "agents.options": '{"z": 1.5}'}


def test_settings_of_several_runs_are_told_once():
    """What all have alike, and what each has besides."""
    first = RunInput("a", [], settings={"agents.n": "5", "run.seed": "1"})
    second = RunInput("b", [], settings={"agents.n": "5", "run.seed": "2", "data.test": "9"})
    assert common([first, second]) == {"agents.n": "5"}


def test_how_it_ended_in_words():
    """Accuracy from before the strike to the end, verdicts, and who was flagged."""
    rounds = read_all(FEW)
    assert ending(row("lab", rounds, STRIKES), 4, tallies({}, TRUTH)) == (
        "Accuracy fell from 40.0% before the attack to 30.0% at the end. Of 4 rounds 3 were "
        "accepted and 1 rejected. Flagged: 0 of 2 malicious agents, 0 of 3 honest agents."
    )
    assert ending(row("lab", rounds[:1], None), 1, []) == (
        "Accuracy is 20.0% at the end. One round was finished."
    )
    assert ending(row("lab", [], None), 0, []) == "No round was finished."


def test_one_evil_agent_is_described_as_one():
    """A sentence about one agent is about one."""
    alone = {"agents.n": 10, "agents.malicious": 0.1}
    assert "1 is fake (mpaf, scaling 1e+06) and attacks from" in run.describe(load(overrides=alone))
    hidden = alone | {"agents.attack": "backdoor", "backdoor.inject": [3]}
    assert "1 hides a backdoor" in run.describe(load(overrides=hidden))


def test_reasons_and_attacks_that_are_explained_exist():
    """Every reason for refusing has a meaning, and each attack and detector of ours its words."""
    assert set(MEANINGS) == {reason.value for reason in Reason}
    for kind in (ATTACKS, DETECTORS):
        assert [name for name in kind.own if not kind.known(name).report] == []


# The page


def test_the_page_tells_the_run():
    """Who took part, what defended, how it ended, votes, refusals and settings are all there."""
    made = Page(page(story(FEW)))
    for said in (
        "Five agents. Updates are averaged. Accuracy fell from 40.0%",
        "Of 4 rounds 3 were accepted",
        "✗ rejected",
        "2 poisoned, 1 clean, 1 silent",
        "voted down",
        "▲ attack",
        "of 2 candidates of attacked rounds 1 was rejected; of 2 others, 0",
        "the agent's second of this kind in the round",
        "Missing most often: agent-0 (1 round)",
        "4.0 kB",
    ):
        assert said in made.text, said
    titles = [cell["title"] for cell in made.all("i") if "title" in cell]
    assert "agent-2: poisoned, score 5.25 against threshold 2" in titles
    assert made.text.index("agents.n") > made.text.index("The network")


def test_the_page_says_who_was_caught():
    """RejectedAttacks, missed and falsely flagged, with the detector and since when."""
    made = Page(page(story(WATCHED)))
    assert "✗ falsely flagged 1: agent-2 fixed_point round 2" in made.text
    assert "○ missed 1: agent-9" in made.text
    assert "✓ caught 1: agent-1 fixed_point round 3 2 first after round 4, permanently" in made.text


def test_the_page_has_a_picture_for_each_quantity():
    """Accuracy, and the backdoor's success where there is one; in words for who cannot see it."""
    hidden = [record(1, backdoor=0.1), record(2, backdoor=0.9)]
    pictures = [svg for svg in Page(page(story(hidden))).all("svg") if svg.get("role") == "img"]
    assert [svg["aria-label"].split(" by ")[0] for svg in pictures] == [
        *["Accuracy on held-out data"] * 2,
        *["Success of the backdoor"] * 2,
    ]
    assert "lab: 10.0% at round 1, 90.0% at round 2" in pictures[2]["aria-label"]


def test_pictures_take_their_colours_from_the_page():
    """So that they are right in the dark; and their letters are those of the page."""
    svgs = re.findall(r"<svg.*?</svg>", page(story(FEW)))
    assert len(svgs) == 2
    for svg in svgs:
        assert 'stroke="var(--line-0)"' in svg
        assert 'fill="currentColor"' in svg
        assert not re.search(r"#[0-9a-f]{6}|font-family", svg)


def test_an_attack_that_never_came_is_told_and_not_drawn():
    """The run was over before it."""
    markup = page(story(FEW, attack_rounds=AttackRounds(9)))
    assert (
        "The run ended before round 9, in which the attack would have begun." in Page(markup).text
    )
    assert "Dashed" not in markup
    assert "▲" not in markup
    assert "Dashed: the beginning of the attack." in page(story(FEW))


JURY = {"agents.n": "5", "validation.validators": "4"}


def test_several_runs_stand_beside_each_other():
    """Each with its line, its rounds and what was set besides; what all have is told once."""
    cases = [
        RunInput("calm", read_all(FEW[:2]), "Updates are averaged.", 0, {"agents.n": "5"}),
        RunInput(
            "jury", read_all(FEW), "They vote.", 2, {"agents.n": "5", "validation.validators": "4"}
        ),
        RunInput("never begun", [], "Nothing.", 0, {"agents.n": "5"}),
    ]
    made = Page(page(story([], cases=cases)))
    assert "jury. They vote. Accuracy fell from 40.0%" in made.text
    assert made.text.count("agents.n") == 1
    assert "Of jury besides validation.validators 4" in made.text
    assert "never begun. Nothing. No round was finished." in made.text


def test_the_page_is_the_same_each_time():
    """The same records make the same file, to the byte."""
    assert page(story(FEW)) == page(story(FEW))


HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202e\ud800"


def test_hostile_text_stays_text():
    """Names, reasons and settings of a spoilt file make no element, and no attribute."""
    records = [
        looked(
            1,
            [HOSTILE, "agent-1"],
            [HOSTILE],
            [HOSTILE],
            why=HOSTILE,
            accepted=False,
            absent=[HOSTILE],
            missing=1,
            invalid_messages={HOSTILE: 3, '"onclick="x': 1},
            voters={HOSTILE: vote(True), '" onmouseover="alert(3)': vote(False)},
            votes={"poisoned": 1, "clean": 1, "silent": 0, HOSTILE: 4},
        ),
    ]
    case = RunInput(
        HOSTILE.rstrip("\ud800\u202e"), read_all(records), HOSTILE, 2, {HOSTILE: HOSTILE}
    )
    markup = page(story([], cases=[case], title=HOSTILE, about=HOSTILE)).encode(errors="replace")
    made = Page(markup.decode())
    plain = Page(page(story(WATCHED)))
    allowed = {tag for tag, _ in plain.elements} | {"i", "br"}
    assert {tag for tag, _ in made.elements} <= allowed
    assert not [
        key for _, attributes in made.elements for key in attributes if key.startswith("on")
    ]
    assert "<script>alert(1)</script>" in made.text


@pytest.mark.parametrize("records", [FEW, WATCHED, []], ids=["votes", "detection", "empty"])
def test_the_page_asks_for_nothing(records):
    """Nothing is loaded from anywhere, no script runs, and the page's policy sees to that."""
    markup = page(story(records))
    made = Page(markup)
    for tag, attributes in made.elements:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base"}
        assert "style" not in attributes  # the policy would not let it in
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", markup)
    [policy] = [meta["content"] for meta in made.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_every_reference_and_id_is_once():
    """Pictures do not share ids, and what they refer to is there."""
    made = Page(page(story([record(1, backdoor=0.1), record(2, backdoor=0.2)])))
    ids = [attributes["id"] for _, attributes in made.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = [attributes["href"][1:] for attributes in made.all("use")]
    referred += [a["aria-labelledby"] for _, a in made.elements if "aria-labelledby" in a]
    referred += re.findall(r"url\(#([^)]+)\)", page(story([record(1), record(2)])))
    assert set(referred) <= set(ids)


# Strange runs


OLD = {"round", "version", "accepted", "updates", "invalid_messages", "accuracy", "seconds"}
"""What the oldest records have."""


def test_old_records_make_a_report(tmp_path):
    """They say neither who voted nor how many bytes there were; nothing is made up."""
    old = [{key: value for key, value in one.items() if key in OLD} for one in FEW]
    old[2] |= {"votes": {"poisoned": 2, "clean": 1, "silent": 0}}
    reports.write(tmp_path, story(old))
    made = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "2 poisoned, 1 clean, 0 silent" in made.text
    titles = [cell["title"] for cell in made.all("i") if "title" in cell]
    assert titles == ["a validator: poisoned"] * 2 + ["a validator: clean"]
    assert "lab 4 0 2.0 16 8 - - - 4 0" in made.text.replace(UNKNOWN, "-")


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_rounds_make_a_report(tmp_path, count):
    """A run that ended before its first round, or after it, has all three files."""
    [found] = reports.write(tmp_path, story(FEW[:count], attack_rounds=None, truth=None))
    assert found.accepted == count
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert ("No round was finished." if count == 0 else "One round was finished.") in text
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| lab |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_an_aggregator_alone_knows_nobody_s_mind(tmp_path):
    """Its report says so; suspicion is no proof."""
    settings = load(overrides={"detection.detectors": ["burst"]})
    reports.write(tmp_path, reports.of_run("lab", settings, read_all(WATCHED)))
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "The aggregator does not know which agents are malicious." in text
    assert "▲ flagged" in text
    assert "caught 1" not in text
    assert "malicious agent, which" not in text


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", True, None, float("nan")])
def test_what_is_no_share_is_not_known(value):
    """An accuracy is a number from 0 to 1."""
    [found] = read_all([record(1, value)])
    assert found.model.accuracy is None


def test_texts_are_short_and_show_what_they_are():
    """Nothing moves a cursor, turns letters round, or fills a page."""
    assert rounds_of.text("a\x1b[2J\u202eb\ud800") == "a\ufffd[2J\ufffdb\ufffd"
    assert rounds_of.text("x" * 999) == "x" * 200 + "…"


SPOILT = [
    None,
    "x",
    -1,
    1.5,
    10**400,
    float("nan"),
    float("inf"),
    True,
    [],
    [None, 7, {}],
    {"x": None},
    {"x": "y"},
    {"agent-1": {"poisoned": "x", "score": [], "threshold": {}}},
    {"poisoned": -4},
]


@pytest.mark.parametrize("key", [*sorted(record(1)), "flagged", "quarantined", "permanent"])
def test_spoilt_records_make_a_report_all_the_same(key):
    """Whatever is in the place of a value, the page is whole."""
    spoilt = [looked(n, ["agent-1"]) | {key: value} for n, value in enumerate(SPOILT, start=2)]
    made = Page(page(story([record(1, 0.123), *spoilt, None, 7])))
    assert "✓ accepted 12.3%" in made.text
    left = 1 if key == "round" else 1 + len(SPOILT)
    assert len([row for row in made.all("tr") if "class" in row]) == left


@pytest.mark.chaos
def test_ten_thousand_rounds_make_a_small_file(tmp_path):
    """With forty validators, and agents flagged in each: below two megabytes and a half."""
    names = [f"agent-{number:03}" for number in range(1000)]
    voters = {name: vote(n < 30, 1.23456) for n, name in enumerate(names[:40])}
    crowd = {"votes": {"poisoned": 30, "clean": 10, "silent": 0}, "voters": voters}
    records = [
        looked(n, names[n % 900 : n % 900 + 9], accuracy=n % 97 / 100, accepted=n % 2 == 0, **crowd)
        for n in range(1, 10_001)
    ]
    truth = Truth(frozenset(names[:200]), frozenset(names[200:]))
    reports.write(tmp_path, story(records, truth=truth))
    file = tmp_path / "report.html"
    assert file.stat().st_size < 2_500_000
    text = Page(file.read_text(encoding="utf-8")).text
    assert "shown are the first and the last hundred, and the first 200 rejected ones" in text
    assert "are left out here" in text
    assert "Each point stands for up to 25 rounds" in text
