"""What people see of the privacy that a run has spent: record, console, terminal, report, rows."""

from __future__ import annotations

import pytest

from fedjury import reports
from fedjury.aggregator.console import round_line
from fedjury.config.settings import load
from fedjury.federation.outcome import row_of
from fedjury.monitor.terminal import formatting
from fedjury.protocol.record import Quality, RoundRecord, Timing, read, to_json
from fedjury.protocol.spent import Spent

SPENT = Spent(2.512, 1e-5, 3, 4.0)
SETTINGS = load(
    overrides={
        "privacy.noise": 4.0,
        "privacy.clip": 0.5,
        "aggregation.rule": "mean",
        "detection.detectors": [],
    }
)


def record(number=3, spent=SPENT):
    return RoundRecord(
        number,
        accepted=True,
        judged=number,
        model=Quality(0.5),
        privacy=spent,
        timing=Timing(2.0, 1.0),
    )


def test_it_travels_with_the_record():
    """As a map of its own, which is missing where there is no noise."""
    said = to_json(record())
    assert said["privacy"] == {"epsilon": 2.512, "delta": 1e-5, "releases": 3, "noise": 4.0}
    assert read(said) == record()
    assert "privacy" not in to_json(record(spent=None))
    assert read(to_json(record(spent=None))).privacy is None


@pytest.mark.parametrize("odd", [{}, [], "x", {"epsilon": -1}, {"epsilon": True}, {"x": 1}])
def test_what_strangers_say_of_it_is_not_believed(odd):
    """A record without it, or with what is left of it."""
    found = read(to_json(record(spent=None)) | {"privacy": odd}).privacy
    assert found is None or found == Spent()


def test_without_a_bound_that_is_said():
    """Not 0, and no number."""
    assert f"{Spent(None, 1e-5, 3, 0.0)}" == "epsilon no bound (delta 1e-05)"
    assert f"{SPENT}" == "epsilon 2.51 (delta 1e-05)"


def test_console_and_terminal_say_it_in_a_round_s_line():
    """And nothing where there is no noise."""
    for line in (lambda one: round_line(one, 9).plain, formatting.line):
        assert "  epsilon 2.51 (delta 1e-05)" in line(record())
        assert "epsilon" not in line(record(spent=None))


def test_the_last_lines_say_what_the_run_has_spent():
    """With the number of candidates that it was spent by."""
    said = "noise hid each agent's updates: epsilon 2.51 (delta 1e-05) spent by 3 candidates"
    assert said in reports.conclusion([record()], SETTINGS, 10)
    assert not [x for x in reports.conclusion([record(spent=None)], load(), 10) if "noise" in x]


def test_the_report_says_it(tmp_path):
    """In its table, with what stands under it, round by round, and how noise is added."""
    reports.write(tmp_path, reports.of_run("lab", SETTINGS, [record()]))
    page, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "2.51" in text.split("| lab |")[1]
    for written in (page, text):
        assert "spent by all noisy candidates, rejected ones too" in written
    assert "epsilon 2.51 (delta 1e-05)" in page
    assert "a length of 0.5 at the most, and noise of standard deviation 2 is added" in page
    reports.write(tmp_path, reports.of_run("lab", load(), [record(spent=None)]))
    assert "epsilon" not in (tmp_path / "report.html").read_text()


def test_python_s_history_has_a_column_of_it():
    """With differential privacy alone."""
    assert row_of(record())["epsilon"] == 2.512
    assert "epsilon" not in row_of(record(spent=None))
