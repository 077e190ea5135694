"""Nothing that is read can run: the source is searched for what unpickles or evaluates."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OUTSIDE = {"tests", "runs", "data"}

MODULES = {
    "pickle",
    "_pickle",
    "pickletools",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "jsonpickle",
}
"""Whose files are programs."""

CALLS = {
    "eval",
    "exec",
    "compile",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "code.interact",
    "runpy.run_path",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "numpy.lib.format.read_array",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
}

ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
"""Calls that are safe with this, written out; defaults have changed between versions."""


def names_of(tree):
    """Return what each imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def called(function, names):
    """Return the dotted name of what is called, as it is called where it comes from."""
    said = ast.unparse(function)
    first, dot, rest = said.partition(".")
    return names.get(first, first) + dot + rest


def dangers(code):
    """Return the lines of a program that run what they read, or might."""
    tree = ast.parse(code)
    names, found = names_of(tree), []
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if any(module.split(".")[0] in MODULES for module in modules):
            found.append(node.lineno)
        if isinstance(node, ast.Call):
            name = called(node.func, names)
            key, value = ONLY_WITH.get(name, ("", None))
            given = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            if name in CALLS or (key and given.get(key) is not value):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib",
        "import marshal as m",
        "eval(x)",
        "exec(x)",
        "import torch\ntorch.load(file)",
        "import torch\ntorch.load(file, weights_only=False)",
        "import torch\ntorch.load(file, weights_only=safe)",
        "from torch import load\nload(file)",
        "import numpy as np\nnp.load(file)",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "from numpy import load as read\nread(file)",
        "import yaml\nyaml.load(file, yaml.SafeLoader)",
    ],
)
def test_what_runs_what_it_reads_is_found(code):
    """The test's own eyes."""
    assert len(dangers(code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load(file, weights_only=True)",
        "import numpy as np\nnp.load(file, allow_pickle=False)",
        "import re\nre.compile(text)",
        "import yaml\nyaml.safe_load(file)",
        "model.eval()",
        "settings.load(file)",
    ],
)
def test_what_is_safe_is_let_through(code):
    """Other functions of such names, and these with what makes them safe."""
    assert dangers(code) == []


def sources():
    """Return our programs' files; what is ignored by git lies in folders with a dot, or below."""
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).parts
        if parts[0] not in OUTSIDE and not any(part.startswith(".") for part in parts):
            yield file


def test_nothing_that_is_read_is_run():
    """No program of ours unpickles or evaluates; arrays and weights are read as such alone."""
    files = list(sources())
    names = {file.relative_to(ROOT).as_posix() for file in files}
    assert names >= {
        "run.py",
        "fedjury/aggregator/store.py",
        "fedjury/learning/classifier.py",
        "fedjury/protocol/codec.py",
    }
    offenders = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in dangers(file.read_text(encoding="utf-8"))
    ]
    assert not offenders, offenders
