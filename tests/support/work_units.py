"""Which tests a worker runs together: a fast file as a whole, of a long one who share a fixture.

``--dist loadgroup`` of pytest-xdist would do, but version 3.8 puts the group where pytest 9.2 no
longer looks for it.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHOLE = ("tests/federation/", "tests/unit/")


def scheduler(config, log):
    """Make pytest-xdist's scheduler of whole scopes, with these units as its scopes."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - there with xdist alone

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit_of(nodeid)

    return Units(config, log)


def unit_of(nodeid):
    """Return the name of the unit of work that a test is part of."""
    file, _, test = nodeid.partition("::")
    together = file.startswith(WHOLE) or test.partition("[")[0] in sharing(file)
    return file if together else nodeid


@cache
def sharing(file):
    """Return the tests of a file that use something made once for the file, or for all."""
    functions = {
        node.name: node
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    made = {name for name, node in functions.items() if once(node)}

    def uses(name, seen=()):
        arguments = [argument.arg for argument in functions[name].args.args]
        return name in made or any(
            uses(other, (*seen, name))
            for other in arguments
            if other in functions and other not in seen
        )

    return {name for name in functions if name.startswith("test_") and uses(name)}


def once(function):
    """Return whether a function is a fixture of a file or of all tests."""
    scopes = (
        keyword.value.value
        for mark in function.decorator_list
        if isinstance(mark, ast.Call)
        for keyword in mark.keywords
        if keyword.arg == "scope" and isinstance(keyword.value, ast.Constant)
    )
    return any(scope in ("module", "session") for scope in scopes)
