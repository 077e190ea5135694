"""How many lines of a Python file one has to write: without blanks, comments, docstrings, imports.

python tests/support/lines.py FILE...
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def written(text):
    """Return those lines of a program, in order."""
    tree = ast.parse(text)
    needless = set()
    for node in ast.walk(tree):
        told = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom) or told:
            needless |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return [
        line for number, line in lines
        if number not in needless and line.strip() and not line.strip().startswith("#")
    ]  # fmt: skip


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(len(written(Path(name).read_text(encoding="utf-8"))), name)
