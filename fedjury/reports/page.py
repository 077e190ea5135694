"""The report as one page that needs nothing else: no request, no script, nothing but its style.

Whatever comes out of records or settings is escaped by the template engine; the only markup that is
not the template's own is that of the pictures. The page's policy lets in no style but ours, told by
its hash.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedjury.protocol.record import RoundRecord
from fedjury.reports import figures
from fedjury.reports.caught import Group, Tally, Vote, fates, groups, struck, tallies, verdicts
from fedjury.reports.lines import Line, line
from fedjury.reports.picture import DASHES, svg
from fedjury.reports.table import BETWEEN, CELLS, lines
from fedjury.reports.words import Case, Story, common, ending

HERE = Path(__file__).resolve().parent

NAMES = 20
"""Agents named at once; the others behind a click."""

REASONS = 40
"""Reasons for refusing that are listed: there are not so many, but a file may say anything."""

EVERY = 1000
"""Agents of a group named in all."""


class Found(NamedTuple):
    """Who was caught in a run."""

    looked: bool
    tallies: list[Tally]
    groups: list[Group]
    verdicts: Vote | None


class Chapter(NamedTuple):
    """A run, as the page shows it."""

    name: str
    defence: str
    quorum: int
    ending: str
    figures: figures.Row
    cells: tuple[str, ...]
    rounds: list[Any]
    """Lines of the table."""
    total: int
    voted: bool
    hidden: bool
    """Whether a backdoor was measured."""
    cells_left_out: int
    found: Found
    traffic: figures.Traffic
    refusals: list[figures.Refusal]
    settings: dict[str, str]
    """Those that not all runs have."""


class Picture(NamedTuple):
    """What is drawn, for screens and for telephones."""

    what: str
    wide: str
    narrow: str
    each: int
    """Rounds that a point stands for, at the most."""
    crosses: bool


def page(story: Story) -> str:
    """Write the page."""
    runs = {case.name: case.records for case in story.cases}
    strikes = reached(story.strikes, runs)
    shared = common(story.cases)
    heads = figures.headings(
        [figures.row(name, rounds, story.strikes) for name, rounds in runs.items()]
    )
    chapters = [chapter(story, case, runs[case.name], set(shared), heads) for case in story.cases]
    style = (HERE / "report.css").read_text(encoding="utf-8")
    made: str = _template().render(
        story=story,
        strikes=strikes,
        chapters=chapters,
        shared=shared,
        pictures=pictures(runs, strikes),
        headings=heads,
        dashes=DASHES,
        style=style,
        digest=digest(style),
        unreached=story.strikes if strikes is None else None,
    )
    return made


def digest(style: str) -> str:
    """Return what a page's policy says of a style it lets in."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def reached(
    strikes: figures.Strikes | None, runs: dict[str, list[RoundRecord]]
) -> figures.Strikes | None:
    """Return when the evil agents struck, as far as the runs went; None if they did not."""
    last = max((rounds[-1].round for rounds in runs.values() if rounds), default=0)
    if strikes is None or strikes.first > last:
        return None
    return strikes._replace(rounds=tuple(r for r in strikes.rounds if r <= last))


def chapter(
    story: Story, case: Case, rounds: list[RoundRecord], shared: set[str], heads: tuple[str, ...]
) -> Chapter:
    """Put together what is said of a run; ``shared``: the settings that all runs have alike."""
    row = figures.row(case.name, rounds, story.strikes)
    evil = story.truth.evil if story.truth else frozenset()
    hits = struck(rounds, story.strikes, story.truth)
    table = lines(rounds, hits, evil, CELLS // len(story.cases))
    who = found(story, rounds, hits)
    return Chapter(
        case.name,
        case.defence,
        case.quorum,
        ending(row, len(rounds), who.tallies),
        row,
        figures.cells(row, heads),
        table,
        len(rounds),
        any(one.votes.asked for one in rounds),
        row.peak is not None,
        sum(one.more for one in table),
        who,
        figures.traffic(rounds),
        figures.refusals(rounds)[:REASONS],
        {key: value for key, value in case.settings.items() if key not in shared},
    )


def found(story: Story, rounds: list[RoundRecord], hits: set[int]) -> Found:
    """Say who was caught in a run."""
    looked = any(one.detection for one in rounds)
    theirs = fates(rounds)
    return Found(
        looked,
        tallies(theirs, story.truth) if looked else [],
        groups(theirs, story.truth) if looked else [],
        verdicts(rounds, hits) if story.strikes else None,
    )


def pictures(runs: dict[str, list[RoundRecord]], strikes: figures.Strikes | None) -> list[Picture]:
    """Draw accuracy, and the backdoor's success if there is one, by round."""
    drawn = [("Accuracy on held-out data", [line(*run) for run in runs.items()])]
    if any(one.model.backdoor is not None for rounds in runs.values() for one in rounds):
        hidden = [line(*run, backdoor=True) for run in runs.items()]
        drawn.append(("Success of the backdoor", hidden))
    some = any(runs.values())
    return [_picture(n, what, every, strikes) for n, (what, every) in enumerate(drawn) if some]


def _picture(n: int, what: str, every: list[Line], strikes: figures.Strikes | None) -> Picture:
    wide, narrow = (svg(f"p{n}{size}-", what, every, strikes, narrow=size == "n") for size in "wn")
    each = max((drawn.each for drawn in every), default=1)
    return Picture(what, wide, narrow, each, any(drawn.crosses for drawn in every))


def _template() -> Any:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"percent": figures.percent, "size": figures.size, "amount": figures.amount}
    made.globals |= {"NAMES": NAMES, "EVERY": EVERY, "BETWEEN": BETWEEN, "MEANINGS": MEANINGS}
    return made.get_template("report.html.jinja")


MEANINGS = {
    "unknown_topic": "sent to no topic of the protocol",
    "too_large": "longer than such a message can be",
    "malformed": "not readable at all",
    "wrong_keys": "a key was missing or unknown",
    "wrong_type": "a value of another type",
    "out_of_range": "a value that cannot be",
    "unknown_codec": "a vector in a codec that does not exist",
    "wrong_length": "a vector of another length than the model",
    "not_finite": "a vector with inf or NaN",
    "wrong_phase": "an update while votes were taken, or the other way round",
    "wrong_round": "of another round or attempt",
    "wrong_version": "trained from another version of the model",
    "not_called": "the agent was not called",
    "duplicate": "its second in a round",
    "too_many": "more agents than may be online at once",
}
"""Reason -> what it means to people."""
