"""The command fedjury: what all of its subcommands have in common, and the report made again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser

import pytest
from support import warm

from fedjury import cli
from fedjury.aggregator.durable_files import StoreError
from fedjury.completion import SHELLS, script
from fedjury.config.program import Program, run_main
from fedjury.federation import report

SMALL = ["--data", "digits", "--model", "mlp", "--n", "12", "--evil", "0.25", "--rounds", "2"]
SMALL += ["--processes", "1", "--broker-kind", "embedded", "--seed", "3"]


def typed(*words):
    """Type a command; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        run_main(cli.main, cli.EXPECTED, words)
    return ended.value.code


def test_every_command_is_listed_and_can_be_loaded():
    """``fedjury --help`` names each with a summary; each has a program and its errors."""
    listed = cli.usage()
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in listed
        assert command.summary in listed
        program, expected = command.program()
        assert isinstance(program, Program)
        assert all(issubclass(error, Exception) for error in expected)


def test_a_command_that_is_not_there_is_answered_with_the_nearest(capsys):
    """A slip of the finger is one sentence and exit code 2."""
    assert typed("sevre") == 2
    assert capsys.readouterr().err == ("error: there is no command 'sevre'; did you mean serve?\n")


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_version_is_said(words, capsys):
    """Both ways; and as JSON."""
    assert typed(*words) == 0
    assert capsys.readouterr().out == f"fedjury {cli.current()}\n"
    assert typed("version", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": cli.current()}


def test_quiet_leaves_results_and_errors(capsys):
    """What is said beside them is not heard, also not by a later program of the same process."""

    def work(chosen, output):
        print("beside")
        output.result(lambda: print("result"), {"n": 1})
        print("beside too")
        return 0

    program = Program("test", lambda prog: ArgumentParser(prog=prog), work)
    said = {}
    for flags in ([], ["--quiet"], ["--json"], ["--quiet", "--json"]):
        assert program(flags) == 0
        said[" ".join(flags)] = capsys.readouterr().out.splitlines()
    assert said == {
        "": ["beside", "result", "beside too"],
        "--quiet": ["result"],
        "--json": ['{"n": 1}'],
        "--quiet --json": ['{"n": 1}'],
    }


def test_a_program_without_results_takes_no_json(capsys):
    """Where there is nothing to print as JSON the flag is unknown, and not ignored."""
    assert typed("spawn", "--json") == 2
    assert "fedjury spawn: error: unrecognized arguments: --json" in capsys.readouterr().err


def test_settings_and_experiments_come_as_json(capsys):
    """One line each, that a program reads; a password is in none."""
    assert typed("config", "--json") == 0
    settings = json.loads(capsys.readouterr().out)
    assert settings["run"]["rounds"] == 30
    assert "password" not in settings["broker"]
    assert typed("experiment", "--json") == 0
    assert "matrix" in json.loads(capsys.readouterr().out)


def test_a_broker_s_address_comes_as_json():
    """The first line of a broker is where it listens; it ends as one does that was stopped."""
    command = [sys.executable, "-m", "fedjury", "broker", "--kind", "embedded", "--port", "0"]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as broker:
        where = json.loads(broker.stdout.readline())
        broker.terminate()
        assert broker.wait(20) == 0
    assert (where["host"], where["kind"]) == ("127.0.0.1", "embedded")
    assert 0 < where["port"] < 65536


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_and_flags(shell):
    """The script knows every command, and flags of their own; it starts no Python."""
    text = script(shell, cli.parsers())
    assert all(name in text for name in cli.COMMANDS if " " not in name)
    assert "evil" in text
    assert "python" not in text


def test_bash_completes_what_is_begun():
    """After ``fedjury se`` and Tab comes serve, and after ``--ru`` the flags that begin so."""
    asked = """
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    _shtab_fedjury fedjury "${COMP_WORDS[COMP_CWORD]}" ""; echo "${COMPREPLY[@]}"
    """
    text = script("bash", cli.parsers())
    for words, found in (("fedjury se", "serve"), ("fedjury serve --ru", "--run --runs --rule")):
        done = subprocess.run(
            ["bash", "--norc", "-c", f"{text}\nCOMP_WORDS=({words}){asked}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == found.split()


def test_completion_needs_no_torch():
    """It is made in a second, and by nothing that takes longer."""
    code = (
        "import sys; from fedjury import cli; from fedjury.completion import script\n"
        "script('bash', cli.parsers()); print({'torch', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---------------------------------------------------------------- reports


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run a small federation once; returns its folder, and what it printed as JSON."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "fedjury", "run", *SMALL, "--run", "lab", "--runs", str(runs)]
    done = warm.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return runs / "lab", json.loads(done.stdout)


def test_a_report_is_made_again_as_it_was(finished, capsys):
    """Byte for byte, from what is in the folder alone; its figures are those of the run."""
    folder, figures = finished
    assert figures["folder"] == str(folder)
    assert [(row["name"], row["accepted"] + row["rejected"]) for row in figures["runs"]] == [
        ("lab", 2)
    ]
    files = [folder / name for name in ("report.html", "report.md")]
    before = [file.read_bytes() for file in files]
    for file in (*files, folder / "accuracy.png"):
        file.unlink()
    assert report.main([str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == figures
    assert [file.read_bytes() for file in files] == before
    assert (folder / "accuracy.png").exists()


DAMAGED = {
    "a folder that is not there": (shutil.rmtree, "is not a folder"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"settings": {'),
        "manifest.json is damaged",
    ),
    "a manifest of something else": (
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        "manifest.json is damaged (it is not a table)",
    ),
    "impossible settings": (
        lambda folder: (folder / "manifest.json").write_text(
            '{"settings": {"run": {"rounds": -1}}}'
        ),
        "manifest.json is damaged (run.rounds",
    ),
    "of a later version": (
        lambda folder: (folder / "manifest.json").write_text('{"format": 99}'),
        "was written by a later fedjury (format 99; this one reads 1)",
    ),
    "no rounds": (lambda folder: (folder / "rounds.jsonl").unlink(), "contains no round of a run"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_folder_without_a_run_is_one_sentence(how, finished, tmp_path):
    """Missing, damaged, or somebody else's: what is wrong is named, and nothing is written."""
    folder = tmp_path / "lab"
    shutil.copytree(finished[0], folder)
    damage, said = DAMAGED[how]
    (folder / "report.html").unlink()
    damage(folder)
    with pytest.raises(StoreError) as error:
        report.main([str(folder)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "report.html").exists()
