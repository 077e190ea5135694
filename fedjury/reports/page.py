"""The report as one page that needs nothing else: no request, no script, nothing but its style.

Whatever comes out of records or settings is escaped by the template engine; the only markup that is
not the template's own is that of the pictures. The page's policy lets in no style but ours, told by
its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedjury import formatting
from fedjury.protocol.measured import named
from fedjury.protocol.record import RoundRecord
from fedjury.reports import groups_section, statistics
from fedjury.reports.detection_section import (
    attacked,
    groups,
    outcomes,
    tallies,
    verdicts,
)
from fedjury.reports.lines import line
from fedjury.reports.picture import DASHES, Panel, svg
from fedjury.reports.rounds import text
from fedjury.reports.summary import ReportData, RunInput, common, ending, figures_of
from fedjury.reports.table import BETWEEN, CELLS, lines

HERE = Path(__file__).resolve().parent

NAMES = 20
"""Agents named at once; the others behind a click."""

REASONS = 40
"""Reasons for refusing that are listed: there are not so many, but a file may say anything."""

EVERY = 1000
"""Agents of a group named in all."""

BACKDOOR = "Success of the backdoor"
"""What the last picture shows, where there is a backdoor."""


def page(report: ReportData) -> str:
    """Write the page."""
    runs = {run.name: run.records for run in report.cases}
    attack_rounds = reached(report.attack_rounds, runs)
    shared = common(report.cases)
    heads = statistics.headings([figures_of(report, run) for run in report.cases])
    style = (HERE / "report.css").read_text(encoding="utf-8")
    result: str = template().render(
        story=report,
        strikes=attack_rounds,
        chapters=[section(report, run, shared, heads) for run in report.cases],
        shared=shared,
        pictures=pictures(runs, attack_rounds),
        headings=heads,
        dashes=DASHES,
        style=style,
        digest=digest(style),
        unreached=report.attack_rounds if attack_rounds is None else None,
    )
    return result


def digest(style: str) -> str:
    """Return what a page's policy says of a style it lets in."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def reached(
    attack_rounds: statistics.AttackRounds | None, runs: dict[str, list[RoundRecord]]
) -> statistics.AttackRounds | None:
    """Return when the malicious agents struck, as far as the runs went; None if they did not."""
    last = max((rounds[-1].round for rounds in runs.values() if rounds), default=0)
    if attack_rounds is None or attack_rounds.first > last:
        return None
    return attack_rounds._replace(rounds=tuple(r for r in attack_rounds.rounds if r <= last))


def section(
    report: ReportData, run: RunInput, shared: Mapping[str, str], heads: tuple[str, ...]
) -> dict[str, Any]:
    """Return what the page says of a run; ``shared``: the settings that all runs have alike."""
    rounds = run.records
    row = figures_of(report, run)
    malicious = report.truth.malicious if report.truth else frozenset()
    hits = attacked(rounds, report.attack_rounds, report.truth)
    metrics = named(rounds)
    table = lines(rounds, hits, malicious, CELLS // len(report.cases), metrics)
    looked = any(one.detection for one in rounds)
    fates = outcomes(rounds)
    counted = tallies(fates, report.truth) if looked else []
    return {
        "name": run.name,
        "defence": run.defence,
        "quorum": run.quorum,
        "ending": ending(row, len(rounds), counted),
        "figures": row,
        "cells": statistics.cells(row, heads),
        "rounds": table,
        "total": len(rounds),
        "voted": any(one.votes.asked for one in rounds),
        "hidden": row.backdoor is not None,
        "accuracy": row.best is not None or not metrics,
        "metrics": [text(name) for name in metrics],
        "cells_left_out": sum(one.more for one in table),
        "looked": looked,
        "tallies": counted,
        "groups": groups(fates, report.truth) if looked else [],
        "grouped": groups_section.figures(rounds, hits, report.truth),
        "verdicts": verdicts(rounds, hits) if report.attack_rounds else None,
        "traffic": statistics.traffic(rounds),
        "refusals": statistics.refusals(rounds)[:REASONS],
        "settings": {key: value for key, value in run.settings.items() if key not in shared},
    }


def panels(runs: dict[str, list[RoundRecord]]) -> list[Panel]:
    """Return what was measured by round: accuracy, named metrics, and a backdoor's success."""
    every = [one for rounds in runs.values() for one in rounds]
    drawn = []
    if any(one.model.accuracy is not None for one in every):
        drawn.append(Panel("Accuracy on held-out data", [line(*run) for run in runs.items()]))
    for metric in named(every):
        lines = [line(*run, metric=metric) for run in runs.items()]
        drawn.append(Panel(text(metric), lines))
    if any(one.model.backdoor is not None for one in every):
        hidden = [line(*run, backdoor=True) for run in runs.items()]
        drawn.append(Panel(BACKDOOR, hidden))
    return drawn


def pictures(
    runs: dict[str, list[RoundRecord]], attack_rounds: statistics.AttackRounds | None
) -> list[dict[str, Any]]:
    """Draw each panel for the page."""
    return [_picture(n, panel, attack_rounds) for n, panel in enumerate(panels(runs))]


def _picture(n: int, panel: Panel, attack_rounds: statistics.AttackRounds | None) -> dict[str, Any]:
    """Draw lines for screens, and narrow ones for telephones; ``each``: rounds of a point."""
    wide, narrow = (svg(f"p{n}{size}-", panel, attack_rounds, narrow=size == "n") for size in "wn")
    return {
        "what": panel.what,
        "wide": wide,
        "narrow": narrow,
        "each": max((drawn.each for drawn in panel.lines), default=1),
        "crosses": any(drawn.crosses for drawn in panel.lines),
        "kept": panel.what != BACKDOOR,
    }


@cache
def template() -> Any:
    """Return what a page is made from; to compile it takes longer than to make a page."""
    result = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    result.filters |= {
        "percent": formatting.percent,
        "size": formatting.size,
        "amount": statistics.amount,
        "processor_time": formatting.processor_time,
    }
    result.globals |= {"NAMES": NAMES, "EVERY": EVERY, "BETWEEN": BETWEEN, "MEANINGS": MEANINGS}
    return result.get_template("report.html.jinja")


MEANINGS = {
    "unknown_topic": "sent to a topic that is not in the protocol",
    "too_large": "longer than such a message may be",
    "malformed": "not decodable",
    "missing_key": "a required key was missing",
    "wrong_type": "a value of another type",
    "out_of_range": "an impossible value",
    "unknown_codec": "a vector in a codec that does not exist",
    "wrong_length": "a vector of another length than the model",
    "not_finite": "a vector with inf or NaN",
    "wrong_phase": "an update while votes were collected, or the reverse",
    "wrong_round": "of another round or attempt",
    "wrong_version": "trained from another version of the model",
    "not_selected": "the agent was not selected",
    "duplicate": "the agent's second of this kind in the round",
    "wrong_groups": "votes on other groups than those that the validator was to judge",
    "bad_key": "keys for secure aggregation with which there is no secret, or somebody else's",
    "wrong_share": "a share of a secret that does not fit what its owner has vouched for",
    "too_many": "more agents than may be online at once",
}
"""Reason -> what it means to people."""
