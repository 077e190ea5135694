"""examples/classifier.ipynb: executed as a newcomer would, from its first cell to its last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fedjury.learning import classifier, datasets, models

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "classifier.ipynb"

PATIENCE = 200
"""Seconds for the whole of it, on a machine that is busy with other things; it needs 20."""

GOOD = 0.85
"""What the classifier reaches, and a federation from it; chance is 0.1."""

PICTURES = ["digits", "curves", "confusion", "mistakes", "rounds", "attacked"]
"""The cells that draw."""

# In a process of its own: so the warnings of ZeroMQ and of asyncio are its own, too. Without
# folders of kernels only ipykernel's own is left: that of this very Python.
EXECUTE = """
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

book = nbformat.read("classifier.ipynb", as_version=4)
book.cells.append(nbformat.v4.new_code_cell("print(sys.executable)"))
kernels = KernelSpecManager(kernel_dirs=[])
client = NotebookClient(book, timeout=120, allow_errors=True)
client.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
client.execute()
nbformat.write(book, "executed.ipynb")
"""

FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
"""Environment variables by which Jupyter finds a user's settings; the test has none."""


def project(folder: Path) -> Path:
    """Make a folder with our programs in it, where the notebook may write; returns its examples."""
    for name in ("fedjury", "config", "broker", "run.py"):
        (folder / name).symlink_to(ROOT / name)
    examples = folder / "examples"
    examples.mkdir()
    (examples / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    return examples


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Execute a copy of the notebook; returns the folder of what it made, and of executed.ipynb."""
    folder = project(tmp_path_factory.mktemp("project"))
    home = str(tmp_path_factory.mktemp("home"))
    around = {**os.environ, **dict.fromkeys(FOLDERS, home)}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        cwd=folder,
        env=around,
        text=True,
        timeout=PATIENCE,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def executed(examples):
    """Read the notebook with all its outputs."""
    return nbformat.read(examples / "executed.ipynb", as_version=4)


def outputs(book, kind):
    """All outputs of a kind, in order."""
    found = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output for output in found if output.output_type == kind]


def pictures(cell):
    """Sizes of the pictures below a cell."""
    data = [output.data for output in cell.outputs if "data" in output]
    return [len(shown["image/png"]) for shown in data if "image/png" in shown]


def said(book, stream):
    """All that was printed."""
    return "".join(o.text for o in outputs(book, "stream") if o.name == stream)


def test_it_is_committed_without_outputs():
    """A diff of the notebook shows what people wrote, and nothing that a run has left in it."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    left = [cell.id for cell in code if cell.outputs or cell.execution_count is not None]
    assert not left, "in JupyterLab: Edit > Clear Outputs of All Cells, then save"
    assert book.metadata.kernelspec.name == "python3"


def test_its_cells_are_short():
    """A newcomer reads a sentence or a few, then a screen of code at the most."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    lines = {cell.id: len(cell.source.splitlines()) for cell in book.cells}
    assert {name: count for name, count in lines.items() if count > 20} == {}


def test_it_trains_as_the_command_does():
    """But for the seed its parameters are the defaults of ``fedjury.learning.classifier``."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    given = {"ROOT": ROOT}
    exec(cells["parameters"], given)
    defaults = classifier.parser().parse_args([])
    assert given["SAVED"].name == defaults.out.name
    assert [given[name] for name in ("EPOCHS", "LEARNING_RATE", "BATCH")] == [
        defaults.epochs,
        defaults.lr,
        defaults.batch,
    ]


def test_every_cell_runs_in_this_python(executed):
    """No cell is in error, none complains, and the kernel is that of our own environment."""
    assert [output.evalue for output in outputs(executed, "error")] == []
    assert said(executed, "stderr") == ""
    assert executed.cells[-1].outputs[0].text.strip() == sys.executable


def test_it_draws(executed):
    """Each of its pictures is there, once, and not blank."""
    drawn = {cell.id: pictures(cell) for cell in executed.cells if cell.cell_type == "code"}
    sizes = {name: found for name, found in drawn.items() if found}
    assert list(sizes) == PICTURES
    assert all(len(found) == 1 and found[0] > 10_000 for found in sizes.values()), sizes


def test_the_saved_classifier_is_as_good_as_it_says(examples, executed, capsys):
    """classifier.pth lies beside the notebook and can be read as the aggregator reads it."""
    data = datasets.load("mnist5k", ROOT / "data")
    model = models.build("classifier", data.shape, data.classes, seed=1)
    classifier.read_weights(examples / "classifier.pth", model)
    accuracy = classifier.test_model(model, data)
    with capsys.disabled():
        print(f" [the notebook's classifier: {accuracy:.1%}, {GOOD:.0%} at least] ", end="")
    assert accuracy >= GOOD
    text = said(executed, "stdout")
    assert f"accuracy {accuracy:.1%} on 1,000 held-out digits" in text
    assert f"read from classifier.pth: accuracy {accuracy:.1%}" in text


def test_federations_go_on_from_it(examples, executed):
    """Without fakes and with the median it stays as good; fakes ruin the mean."""
    from fedjury.aggregator.store import read_records  # noqa: PLC0415

    runs = {f.name.split("-")[1]: read_records(f) for f in (examples.parent / "runs").iterdir()}
    reached = {
        name: [record.model.accuracy for record in records] for name, records in runs.items()
    }
    assert {name: len(found) for name, found in reached.items()} == {
        "calm": 5,
        "mean": 5,
        "median": 5,
    }
    assert min(reached["calm"] + reached["median"]) >= GOOD, reached
    assert min(reached["mean"][:2]) >= GOOD > 0.7 > min(reached["mean"][2:]), reached
    assert f"accuracy  {reached['calm'][0]:.1%}" in said(executed, "stdout")
