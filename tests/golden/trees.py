"""Run the golden scenarios in a checkout of this repository, today's or the reference's.

All that depends on how a checkout names and keeps things stands in one place each: ``scenario_for``
(files of settings), ``command_for`` (how a run is started), ``models_in`` (what a run leaves). A
checkout is only talked to through programs and files, so its inside may be rebuilt at will.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent
ROOT = GOLDEN.parent.parent
REFERENCES = GOLDEN / "references.json"

LONGEST = 280.0
"""Seconds that a program may take: far more than it needs on a busy machine."""

TRIES = 5
"""Runs that are started until one of them could be killed before it was over."""

Models = dict[str, str]
"""Of accepted models: version -> SHA-256 of the weights' bytes."""


class GoldenError(RuntimeError):
    """Golden models that cannot be had, in one sentence."""


class Tree(NamedTuple):
    """A checkout: today's, or the reference's."""

    root: Path
    reference: bool = False
    popen: type[subprocess.Popen[bytes]] = subprocess.Popen
    """What starts its programs."""


TODAY = Tree(ROOT)


# ---------------------------------------------------------------- what a checkout looks like


def scenarios() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(file.stem for file in (GOLDEN / "scenarios").glob("*.toml"))


def scenario_for(_tree: Tree, name: str) -> list[Path]:
    """Return the files of settings of a scenario, the first under the second.

    They are in the names that the reference commit knows, and today's tree knows the same. Once
    names of settings change, today's tree is given what ``fedjury config upgrade`` makes of them.
    """
    return [GOLDEN / "common.toml", GOLDEN / "scenarios" / f"{name}.toml"]


def command_for(tree: Tree, name: str, runs: Path) -> list[str]:
    """Return what starts a scenario's run, or resumes it, in the folder ``runs / name``."""
    files = [word for file in scenario_for(tree, name) for word in ("--config", str(file))]
    return [sys.executable, "run.py", *files, "--run", name, "--runs", str(runs)]


def models_in(folder: Path) -> Models:
    """Return the accepted models that a run left in its folder, or has left so far.

    What stands beside the weights in a file (names, times) does not count.
    """
    found = {}
    for file in sorted((folder / "models").glob("*.safetensors")):
        weights = load_file(file)
        bytes_ = b"".join(weights[key].tobytes() for key in sorted(weights))
        found[str(int(file.stem))] = hashlib.sha256(bytes_).hexdigest()
    return found


# ---------------------------------------------------------------- running


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of programs: one thread each, and their temporary files in scratch."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTHONPATH"))}
    return {**kept, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for all that is made here, and remove it at the end.

    A broker that runs as another user must get through it, so it cannot be pytest's.
    """
    with tempfile.TemporaryDirectory(prefix="fedjury-golden-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def started(tree: Tree, command: list[str], scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a session of its own; what is left of it at the end is killed."""
    with tempfile.TemporaryFile(dir=scratch) as output:
        child = tree.popen(
            command,
            cwd=tree.root,
            env=environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child
            if child.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace")
                raise GoldenError(f"{' '.join(command)} ended with {child.returncode}:\n{said}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def federation(tree: Tree, name: str, scratch: Path) -> Models:
    """Run a scenario to its end and return the accepted models.

    Raises
    ------
    GoldenError
        If it fails or takes too long.
    """
    runs = Path(tempfile.mkdtemp(dir=scratch))
    finish(tree, name, runs)
    return models_in(runs / name)


def finish(tree: Tree, name: str, runs: Path) -> None:
    """Start a scenario's run, or resume it, and wait for its end."""
    command = command_for(tree, name, runs)
    with started(tree, command, runs.parent) as child:
        try:
            child.wait(LONGEST)
        except subprocess.TimeoutExpired as why:
            raise GoldenError(f"{' '.join(command)} took more than {LONGEST:g} s") from why


def killed_and_resumed(tree: Tree, name: str, version: int, scratch: Path) -> Models:
    """Kill all processes of a run once it has this version (``kill -9``), and let it go on.

    Raises
    ------
    GoldenError
        If it fails, takes too long, or was over each time before it could be killed.
    """
    for _ in range(TRIES):
        runs = Path(tempfile.mkdtemp(dir=scratch))
        models = runs / name / "models"
        with started(tree, command_for(tree, name, runs), scratch) as child:
            deadline = time.monotonic() + LONGEST
            while child.poll() is None and not (models / f"{version:06d}.safetensors").exists():
                if time.monotonic() > deadline:
                    raise GoldenError(f"run {name!r} took more than {LONGEST:g} s")
                time.sleep(0.002)
        # It was killed as the with-block ended.
        reached = models_in(runs / name)
        finish(tree, name, runs)
        whole = models_in(runs / name)
        if len(reached) < len(whole):
            return whole
    raise GoldenError(f"run {name!r} was over before it could be killed, {TRIES} times")


def fingerprint(scratch: Path) -> str:
    """Return the fingerprint of the machine, in the environment of the programs."""
    made = subprocess.run(
        [sys.executable, str(GOLDEN / "fingerprint.py")],
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=True,
    )
    return made.stdout.strip()


# ---------------------------------------------------------------- the reference


def reference_commit() -> str:
    """Return the commit whose models are the golden ones."""
    return str(json.loads(REFERENCES.read_text(encoding="utf-8"))["commit"])


def stored(mark: str) -> dict[str, Models] | None:
    """Return the golden models of machines with this fingerprint; None if there are none."""
    machines = json.loads(REFERENCES.read_text(encoding="utf-8"))["machines"]
    return machines[mark]["models"] if mark in machines else None


@contextmanager
def reference_tree(scratch: Path, commit: str) -> Iterator[Tree]:
    """Check out the reference commit into a worktree that is there for the with-block alone.

    Raises
    ------
    GoldenError
        If the history of this checkout does not have it.
    """
    folder = scratch / "reference"
    git = ["git", "-c", f"safe.directory={ROOT}", "-c", "core.hooksPath=/dev/null", "-C", str(ROOT)]
    with ExitStack() as stack:
        if not shutil.which("git") or quiet(
            [*git, "cat-file", "-e", f"{commit}^{{commit}}"], scratch
        ):
            raise GoldenError(
                f"the golden models of this machine are made by commit {commit[:12]}, which is not "
                f"in the history of {ROOT}, or there is no git: run this test in a full "
                "clone (in a shallow one, after 'git fetch --unshallow')"
            )
        stack.callback(quiet, [*git, "worktree", "prune"], scratch)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        add = [*git, "worktree", "add", "--quiet", "--detach", str(folder), commit]
        if error := quiet(add, scratch):
            raise GoldenError(f"commit {commit[:12]} cannot be checked out: {error}")
        yield Tree(folder, reference=True)


def quiet(command: list[str], scratch: Path) -> str:
    """Run a command to its end; returns what it said if it failed, else nothing."""
    done = subprocess.run(
        command, env=environment(scratch), capture_output=True, text=True, check=False
    )
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
