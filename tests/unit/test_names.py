"""Names are the field's words: no retired name is defined, and no invented word is in the prose."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RETIRED = {
    "fedjury.protocol": (
        "Door Hub Link Network Dialing KNOCKS pause Notices says_nothing keeper _keeper "
        "Report Plot hear door.py link.py memory_link.py mqtt_link.py mqtt_network.py "
        "dialing.py notices.py"
    ),
    "fedjury.round": (
        "_Ledger Docket docket Standing standings Watch Seen Findings findings strikes "
        "appeal appeals FOR_GOOD welcome own_vote OwnVote own_update planted spoilt "
        "spoilt_seconds Policy at_least inspected ballots outcome conclude closing.py "
        "past.py collection.py suspicion.py own_vote.py own_update.py"
    ),
    "fedjury.detection": ("Seen"),
    "fedjury.aggregator": (
        "Dockets Series policy_of watch_of planted docket described.py disk.py dockets.py series.py"
    ),
    "fedjury.rules": ("Front FRONTS front fronted own OWN_UPDATE PAST"),
    "fedjury.agents": (
        "Cohort Fleet Crew Post Population Blow Ring Ringleader Accomplices Profiler cohort "
        "fleet population evil evils liars hear overhear tell prompter diary cohort.py "
        "fleet.py population.py processes.py profiler.py"
    ),
    "fedjury.attacks": (
        "Called Strike World dormant Scheme Learner LEARNERS liars tell striking strike "
        "struck learner.py liars.py"
    ),
    "fedjury.learning": (
        "deal Holdings Plan visits trial_x trial_y evil evils liars lying dealing.py tables.py"
    ),
    "fedjury.judges": ("Opinions opinions Reading no_opinion opinions.py readings.py"),
    "fedjury.broker": (
        "Authority Register Party parties party _Desk answering.py authority.py register.py"
    ),
    "fedjury.gateway": (
        "desk Desk Clerk Door visit Visit Intake Why Posted View era ear_of hear desk.py "
        "visit.py body.py values.py private.py"
    ),
    "fedjury.monitor": (
        "ear Ear Sight sight Told odd era hear hear_all ear.py watched.py harmless.py "
        "people.py words.py lines.py picture.py curve.py exported.py"
    ),
    "fedjury.experiments": (
        "Cell CellError cells guard campaign.py work.py cell.py counting.py fakes.py targets.py"
    ),
    "fedjury.reports": (
        "caught fates Fate Story Chapter chapter Case Strikes caught.py words.py figures.py"
    ),
    "fedjury.config": (
        "share at_least who liars lying strikes appeal appeals before bytes evil diary planted"
    ),
    "tools.chaos": ("Nursery Hose set_traps Lab Ear nursery.py hose.py traps.py lab.py ear.py"),
    "tools.fuzz": ("Growth hearers.py posts.py growth.py wire.py"),
}
"""Part -> the names that files, classes, functions, fields and parameters in it no longer have."""

KEPT = {
    ("fedjury.config", "share"): "backdoor.share is what part of the samples is poisoned",
}
"""Retired names that are another thing's own name."""

INVENTED = {
    "anew": "again",
    "docket": "agent registry",
    "nursery": "fork server",
    "ringleader": "coordinator",
    "keeper": "network thread",
    "accomplice": "colluder",
    "clerk": "worker",
    "trainees": "HTTP clients",
    "hearers": "subscribers",
    "prompter": "progress",
    "lie low": "idle",
    "lies low": "is idle",
    "for good": "permanently",
    "bit by bit": "bit for bit",
    "the user's first document": "the paper's name",
    "log-in": "login",
    "of its own accord": "by itself",
    "stampede": "many at once",
    "falsely accused": "falsely flagged",
    "threw away": "dropped, or rejected",
    "throws away": "drops, or rejects",
    "evil agent": "malicious agent",
}
"""Words that no reader knows, or that mean something else -> what is said instead."""

WORD = re.compile(rf"\b({'|'.join(INVENTED)})s?\b", re.IGNORECASE)


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the names that a module defines for others: classes, functions, fields, parameters."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Attribute(value=ast.Name("self"), ctx=ast.Store()):
                yield node.attr, node.lineno
    bodies = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for statement in (statement for body in bodies for statement in body.body):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, target.lineno


def retired_in(source: str, module: str) -> list[str]:
    """Return where a module's source defines, or is called by, a retired name of its part."""
    part = ".".join(module.split(".")[:2])
    retired = set(RETIRED.get(part, "").split()) - {name for of, name in KEPT if of == part}
    names = [*defined(ast.parse(source)), (module.rsplit(".", 1)[-1] + ".py", 1)]
    return [f"{module}:{line} {name}" for name, line in names if name in retired]


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and the docstrings of a module, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and token.string.lstrip("rf").startswith('"""')
        ):
            yield token.start[0], token.string


def test_a_retired_name_is_found_wherever_it_is_defined():
    """As a module, class, function, field or parameter; what is only used or said is no matter."""
    source = "class Door:\n    pause: int\n\ndef hear(Hub):\n    '''A Network.'''\n    return Plot"
    found = retired_in(source, "fedjury.protocol.dialing")
    assert [at.split()[1] for at in found] == ["Door", "hear", "Hub", "pause", "dialing.py"]
    assert retired_in("def deal(): pass", "fedjury.protocol.codec") == []


@pytest.mark.parametrize("part", RETIRED)
def test_no_retired_name_is_defined(part):
    """Each part calls its things by the field's words."""
    found = []
    for file in tracked(f"{part.replace('.', '/')}/*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found += retired_in(file.read_text(encoding="utf-8"), module)
    assert not found, "\n".join(found)


def test_prose_has_no_invented_words():
    """Docstrings, comments, pages and documents say what a newcomer understands."""
    found = []
    for file in tracked("*.py"):
        if file == Path(__file__):
            continue
        for line, text in prose_of(file.read_text(encoding="utf-8")):
            found += [f"{file.relative_to(ROOT)}:{line} {word[0]}" for word in WORD.finditer(text)]
    for file in tracked("*.md", "*.html", "*.jinja", "*.js", "*.toml"):
        if file.name in {"CHANGELOG.md", "decisions.md"} or "vendor" in file.parts:
            continue
        for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{file.relative_to(ROOT)}:{line} {word[0]}" for word in WORD.finditer(text)]
    assert not found, "\n".join(found)


PRINTED = {"middle_half.py", "zero.py"}
"""Files that the README prints for readers to write."""


def test_source_files_that_documents_name_exist():
    """A path in the README, the map of CONTRIBUTING or a page of docs leads to a file."""
    sources = {str(file.relative_to(ROOT)) for file in tracked("*.py", "*.mjs")}
    known = sources | {Path(name).name for name in sources} | PRINTED
    found = []
    for document in tracked("README.md", "CONTRIBUTING.md", "docs/*.md"):
        if document.name != "decisions.md":
            named = re.findall(r"`([\w./]+\.(?:py|mjs))`", document.read_text(encoding="utf-8"))
            if document.name.startswith("tutorial-"):  # whose readers write files of their own
                named = [name for name in named if "/" in name]
            found += [
                f"{document.name}: {name}"
                for name in named
                if not {name, f"fedjury/{name}"} & known
            ]
    assert not found, "\n".join(found)
