"""How every program ends: unread, in any locale, and where others ask for the same name."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedjury.config import naming
from fedjury.config.settings import SettingsError, load

ROOT = Path(__file__).resolve().parents[2]


def program(body, **around):
    """Start a program whose ``main`` does this."""
    text = (
        "import sys\nfrom fedjury.config.program import run_main\n"
        f"def main(_):\n {body}\nrun_main(main, (OSError,))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "", **around},
    )


def test_where_nobody_reads_it_ends_quietly():
    """After ``| head -1`` a program ends with no word more, as those of the system do."""
    with program("while True: print('a line')") as child:
        assert child.stdout.readline() == b"a line\n"
        child.stdout.close()
        assert (child.wait(20), child.stderr.read()) == (141, b"")


@pytest.mark.parametrize("body", ["print('x')", "sys.exit(3)", "print('x'); raise OSError('y')"])
def test_what_is_still_buffered_fails_nobody(body):
    """What nobody read of a program that was over anyway adds no word to its own."""
    with program(f"import time; time.sleep(.3); {body}") as child:
        child.stdout.close()
        code = child.wait(20)
        said = child.stderr.read()
    assert (code, said) == {
        "print('x')": (141, b""),
        "sys.exit(3)": (3, b""),
        "print('x'); raise OSError('y')": (2, b"error: y\n"),
    }[body]


def test_errors_that_nobody_reads_are_no_tracebacks():
    """With ``2>&1 | head`` both are gone."""
    with program("import time; time.sleep(.3); raise OSError('y')") as child:
        child.stdout.close()
        child.stderr.close()
        assert child.wait(20) == 2


@pytest.mark.parametrize(
    "around",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "LC_ALL=C"],
)
def test_any_text_can_be_said_in_any_locale(around):
    """What the terminal's encoding lacks, or what is no text at all, is shown by its code."""
    with program("print('zahl-\\xe4-\\u2713-\\udcff'); raise OSError('\\xe4')", **around) as child:
        said, errors = child.communicate(timeout=20)
    assert said == b"zahl-\\xe4-\\u2713-\\udcff\n"
    assert errors == b"error: \\xe4\n"


# ---------------------------------------------------------------- names


def test_of_those_who_begin_in_one_second_each_gets_a_name(tmp_path, monkeypatch):
    """Eight at once and one later: nine names, each with a folder that is its own."""
    monkeypatch.setattr(naming.time, "strftime", lambda _: "run-20250101-120000")
    settings = load([], {"run.directory": str(tmp_path / "runs")})
    names, go = [], threading.Barrier(8)

    def begin():
        go.wait()
        names.append(naming.named(settings, "run").run.name)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names.append(naming.named(settings, "run").run.name)
    numbers = ["", *(f"-{n}" for n in range(2, 10))]
    assert sorted(names) == sorted(f"run-20250101-120000{number}" for number in numbers)
    assert sorted(names) == sorted(file.name for file in (tmp_path / "runs").iterdir())


def test_a_name_that_was_chosen_stays(tmp_path):
    """Whoever names a run gets no other, and no folder yet; without one it is kind and time."""
    lab = load([], {"run.directory": str(tmp_path), "run.name": "lab"})
    assert naming.named(lab, "run") == lab
    assert list(tmp_path.iterdir()) == []
    name = naming.named(load([], {"run.directory": str(tmp_path)}), "demo").run.name
    assert name.startswith(f"demo-{time.strftime('%Y')}")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    """A file where the folder of runs should be is told, and nobody tries for ever."""
    (tmp_path / "runs").write_text("")
    for folder in ("runs", "runs/deeper"):
        with pytest.raises(SettingsError, match=r"^cannot write to "):
            naming.named(load([], {"run.directory": str(tmp_path / folder)}), "run")
