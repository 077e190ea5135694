"""What is damaged, lost, or of another run: named in one sentence, and never made worse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.cutting import CASES, ROUNDS, SMALL, contents, every_case, federation, same_run
from support.federation import one_thread, settings_of  # noqa: F401 - a fixture
from torch import nn

from fedjury.aggregator import durable_files
from fedjury.aggregator import manifest as described
from fedjury.aggregator import serve as entry
from fedjury.aggregator.assembly import build
from fedjury.aggregator.store import RunStore, StoreError
from fedjury.config.settings import SettingsError
from fedjury.learning import datasets
from fedjury.protocol.transport.connection import TransportError

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Hold each case as it goes if nothing happens."""
    return every_case(tmp_path_factory.mktemp("undisturbed"))


# Damaged, and removed as we are told to


def go_on(run, rounds=ROUNDS):
    """Let a run that has ended go on to more rounds."""
    run.settings = run.settings.replaced(run=run.settings.run.replaced(rounds=rounds))
    run.join()
    return run.whole()


def newest(folder):
    """Return the files of a run's models, the newest first."""
    return sorted((folder / "models").iterdir(), reverse=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("last", range(2, ROUNDS + 1))
def test_without_its_newest_model_a_run_goes_on_from_the_one_before(
    tmp_path, undisturbed, case, last, capsys
):
    """What stands on the lost model is done again, which is said, and comes to the same."""
    run = federation(tmp_path, case, run__rounds=last).whole()
    newest(tmp_path)[0].unlink()
    go_on(run)
    same_run(run, undisturbed[case])
    first = 2 if "rejected" in case else last
    assert f"rounds {first} to {last} are repeated, because their models" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["accepted", "rejected", "docket", "all of it"])
def test_without_its_two_newest_models_a_run_goes_on_or_says_why_not(
    tmp_path, undisturbed, case, capsys
):
    """Going further back takes what no later round needs, and was removed: that is an error.

    Nothing is touched by it: with the models put back, the run goes on as if nothing had been.
    """
    run = federation(tmp_path, case, run__rounds=4).whole()
    before = contents(tmp_path)
    for file in newest(tmp_path)[:2]:
        file.unlink()
    if case == "docket":
        assert gone_back(run, before) == (
            f"{tmp_path} cannot resume after round 2, for agents-000002.npz is gone, which "
            "the next "
            "round needs; choose another --run"
        )
    if case == "all of it":
        assert "round 2, for candidate-000002.safetensors is gone" in gone_back(run, before)
    go_on(run)
    same_run(run, undisturbed[case])


def gone_back(run, before):
    """Return what is said of a run that cannot go on, and put its files back."""
    there = contents(run.folder)
    with pytest.raises(StoreError) as error:
        run.begin()
    assert contents(run.folder) == there
    for name, data in before.items():
        (run.folder / name).write_bytes(data)
    return str(error.value)


def test_a_model_missing_between_two_others_is_no_history(tmp_path, undisturbed):
    """The step between two models is not to be had if one of them is gone: an error says so."""
    run = federation(tmp_path, "accepted", run__rounds=4).whole()
    newest(tmp_path)[1].unlink()
    with pytest.raises(StoreError, match=r"lacks version 3, which .* remove the models after it"):
        run.begin()
    newest(tmp_path)[0].unlink()
    go_on(run)
    same_run(run, undisturbed["accepted"])


def test_a_server_that_judges_needs_all_it_looks_back_at(tmp_path):
    """With fewer models than before it would vote otherwise: going so far back is an error."""
    server = {"validation__judged_by": "server", "data__server": 0.2}
    federation(tmp_path, "accepted", run__rounds=4, **server).whole()
    for file in newest(tmp_path)[:2]:
        file.unlink()
    with pytest.raises(StoreError, match=r"lacks version 0, which the next round needs"):
        federation(tmp_path, "accepted", **server).begin()


def test_an_old_model_that_nobody_needs_may_be_missing(tmp_path, undisturbed):
    """Without validators only the last two count."""
    run = federation(tmp_path, "accepted", run__rounds=4).whole()
    newest(tmp_path)[2].unlink()
    go_on(run)
    assert run.models == undisturbed["accepted"].models


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Hold the folder of a run of four rounds, with all that a run may leave."""
    folder = tmp_path_factory.mktemp("finished") / "lab"
    return federation(folder, "all of it", run__rounds=4).whole()


@pytest.fixture
def folder(finished, tmp_path):
    """Return a copy of that folder."""
    return shutil.copytree(finished.folder, tmp_path / "lab")


def other_model(**said):
    """Return a function that writes a model, or what is noted in it, in another way."""

    def write(file):
        weights = said.get("weights", load_file(file)["weights"])
        with safe_open(file, "numpy") as opened:
            note = {**(opened.metadata() or {}), **said.get("note", {})}
        save_file({said.get("name", "weights"): weights}, file, metadata=note)

    return write


def cut_to(share):
    def cutting(file):
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * share)])

    return cutting


def flipped(file):
    """Turn a byte in the middle into another."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


def folder_instead(file):
    file.unlink()
    file.mkdir()


def pipe_instead(file):
    file.unlink()
    os.mkfifo(file)


MODEL, CANDIDATE, AGENTS, MANIFEST = (
    "models/000003.safetensors",
    "candidate-000004.safetensors",
    "agents-000004.npz",
    "manifest.json",
)
DAMAGE = {
    "a model cut in half": (MODEL, cut_to(0.5)),
    "a model that lacks its last byte": (MODEL, cut_to(0.9999)),
    "an empty model": (MODEL, cut_to(0)),
    "a folder in a model's place": (MODEL, folder_instead),
    "a pipe in a model's place": (MODEL, pipe_instead),
    "a model of doubles": (MODEL, other_model(weights=np.ones(2410))),
    "a square model": (MODEL, other_model(weights=np.ones((2410, 1), np.float32))),
    "a longer model": (MODEL, other_model(weights=np.ones(2411, np.float32))),
    "a model of another name": (MODEL, other_model(name="bias")),
    "a model of another version": (MODEL, other_model(note={"version": "7"})),
    "a model of no version": (MODEL, other_model(note={"version": "NaN"})),
    "a model with half a record": (MODEL, other_model(note={"record": '{"round": 4, "ver'})),
    "a model with no record": (MODEL, other_model(note={"record": "NaN"})),
    "a model with a deep record": (MODEL, other_model(note={"record": "[" * 10**5})),
    "an older model cut in half": ("models/000001.safetensors", cut_to(0.5)),
    "a candidate cut in half": (CANDIDATE, cut_to(0.5)),
    "an empty candidate": (CANDIDATE, cut_to(0)),
    "a folder in a candidate's place": (CANDIDATE, folder_instead),
    "a pipe in a candidate's place": (CANDIDATE, pipe_instead),
    "a shorter candidate": (CANDIDATE, other_model(weights=np.ones(9, np.float32))),
    "agents cut in half": (AGENTS, cut_to(0.5)),
    "empty agents": (AGENTS, cut_to(0)),
    "agents with another byte": (AGENTS, flipped),
    "a folder in the agents' place": (AGENTS, folder_instead),
    "a pipe in the agents' place": (AGENTS, pipe_instead),
    "pickled agents": (AGENTS, lambda file: np.savez(file, verdict=np.array([{}], dtype=object))),
    "half a manifest": (MANIFEST, cut_to(0.5)),
    "an empty manifest": (MANIFEST, cut_to(0)),
    "a manifest of nothing": (MANIFEST, lambda file: file.write_text("{}")),
    "a manifest of a list": (MANIFEST, lambda file: file.write_text("[1]")),
    "a deep manifest": (MANIFEST, lambda file: file.write_text("[" * 10**5)),
    "a folder in the manifest's place": (MANIFEST, folder_instead),
    "a pipe in the manifest's place": (MANIFEST, pipe_instead),
}


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_what_we_say_to_do_helps(folder, undisturbed, damage):
    """A damaged file is one sentence, no other file is touched, and removed it is no obstacle."""
    name, spoil = DAMAGE[damage]
    spoil(folder / name)
    (folder / "models" / "000009.part").write_bytes(b"half")
    there = contents(folder)
    run = federation(folder, "all of it")
    with pytest.raises(
        StoreError, match=r"is damaged \(.*\); remove it to continue without it$"
    ) as said:
        run.begin()
    assert f"{folder / name} is damaged" in str(said.value)
    assert "\n" not in str(said.value)
    assert ("(it is no file)" in str(said.value)) == ("place" in damage)
    assert contents(folder) == there
    remove(folder / name)
    if name == "models/000001.safetensors":
        with pytest.raises(StoreError, match=r"lacks version 1, which the next round needs"):
            run.begin()
        return
    run.whole()
    assert [r.round for r in run.records] == [1, 2, 3, 4, 5]
    if name in (MODEL, MANIFEST):
        same_run(run, undisturbed["all of it"])


@pytest.mark.parametrize("name", [CANDIDATE, AGENTS])
def test_what_is_lost_is_told(folder, capsys, name):
    """Who removes what the next round needs is told that the run goes on without it."""
    (folder / name).unlink()
    federation(folder, "all of it").begin()
    assert f"{folder / name} is missing: the run continues without it" in capsys.readouterr().out


@pytest.mark.parametrize("name", [MODEL, CANDIDATE, AGENTS])
def test_a_file_cut_anywhere_is_named(folder, name):
    """However much of a file is left, it is no traceback."""
    whole = (folder / name).read_bytes()
    store = RunStore(folder, keep=4)
    for length in [*range(0, len(whole), len(whole) // 50), len(whole) - 1]:
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(StoreError, match="is damaged"):
            store.load()
    (folder / name).write_bytes(whole)
    assert store.load().record.round == 4


HALF = b'{"round":9,"version":3,"accu'
SPOILT = {
    "half a line at the end": lambda lines: [*lines, HALF],
    "half a line in the middle": lambda lines: [*lines[:2], HALF + b"\n", *lines[2:]],
    "garbage in the middle": lambda lines: [*lines[:2], b"\xff\x00\x80{}\n", *lines[2:]],
    "garbage at the end": lambda lines: [*lines, bytes(range(128, 256))],
    "empty lines": lambda lines: [b"\n", *lines, b"\n\n"],
    "no records": lambda lines: [*lines, b'5\n"x"\nnull\n[]\n{}\n{"round":true,"version":0}\n'],
    "a deep line": lambda lines: [*lines, b"[" * 10**5 + b"\n"],
    "a line twice": lambda lines: [*lines, lines[-1]],
    "a lost line": lambda lines: [*lines[:2], *lines[3:]],
    "half of the last line": lambda lines: [*lines[:3], lines[3][:50]],
    "half of the last but one": lambda lines: [*lines[:2], lines[2][:50] + b"\n", lines[3]],
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_lines_that_are_no_records_are_mended(folder, undisturbed, spoilt):
    """What a crash or a bad disk leaves between the records is passed over.

    The records of the last models are in the models too, and come back from there.
    """
    file = folder / "rounds.jsonl"
    file.write_bytes(b"".join(SPOILT[spoilt](file.read_bytes().splitlines(keepends=True))))
    same_run(federation(folder, "all of it").whole(), undisturbed["all of it"])


def test_lost_records_are_told(folder, capsys):
    """Without its records a run goes on; that the report will lack them is said."""
    (folder / "rounds.jsonl").unlink()
    run = federation(folder, "all of it").whole()
    assert "has no record of round 1" in capsys.readouterr().out
    assert [r.round for r in run.records] == [2, 3, 4, 5]


@pytest.mark.parametrize("key", ["accuracy", "accepted", "updates", "invalid_messages", "seconds"])
@pytest.mark.parametrize("value", [None, "x"])
def test_a_record_that_lacks_something_is_named(folder, key, value):
    """The report of a long run must not fail at its end for a record that was spoilt before."""
    file = folder / "rounds.jsonl"
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    del lines[1][key]
    if value is not None:
        lines[1][key] = value
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    there = contents(folder)
    with pytest.raises(
        StoreError, match=rf"rounds.jsonl is damaged \(.*round 2: '{key}'\); remove"
    ):
        federation(folder, "all of it").begin()
    assert contents(folder) == there


def test_a_folder_in_the_records_place_is_named(folder):
    """That too is one sentence."""
    (folder / "rounds.jsonl").unlink()
    (folder / "rounds.jsonl").mkdir()
    with pytest.raises(StoreError, match=r"rounds.jsonl is damaged \(it is no file\); remove it"):
        federation(folder, "all of it").begin()


def test_records_without_models_are_nobodys_beginning(folder):
    """A run that begins does not write its rounds behind those of another."""
    shutil.rmtree(folder / "models")
    with pytest.raises(StoreError, match=r"holds 4 rounds and .*models no model of them; choose"):
        federation(folder, "all of it").begin()
    (folder / "rounds.jsonl").unlink()
    run = federation(folder, "all of it").whole()
    assert [r.round for r in run.records] == [1, 2, 3, 4, 5]


def test_halves_that_a_crash_left_are_removed(folder):
    """All that we write comes as a .part first; those of others are none of our business."""
    halves = ["manifest", "rounds", "candidate-000005", "agents-000005", "models/000004"]
    for name in halves:
        (folder / f"{name}.part").write_bytes(b"half")
    (folder / "thesis.part").write_bytes(b"mine")
    federation(folder, "all of it").begin()
    assert [file.name for file in folder.rglob("*.part")] == ["thesis.part"]


# Of another run, or another version


BOTH = "a run of seed 0, not 7, and of data.test 500, not 90"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"run__seed": 1}, "a run of seed 0, not 1"),
        ({"data__test": 400}, "a run of data.test 500, not 400"),
        ({"data__server": 0.1}, "a run of data.server 0.0, not 0.1"),
        (
            {"model__name": f"{__name__}:linear"},
            "a run of model mlp, not test_damage:linear, and of other tensors",
        ),
        ({"run__seed": 7, "data__test": 90}, BOTH),
    ],
)
def test_another_run_is_told_from_this_one(folder, monkeypatch, other, said):
    """What cannot change during a run is compared, and what differs is said."""
    there = contents(folder)
    with pytest.raises(StoreError) as error:
        federation(folder, "all of it", **other).begin()
    assert str(error.value) == f"{folder} holds {said}; choose another --run"
    assert contents(folder) == there


def linear(shape, classes):
    """Make a network of one layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def manifest(**changed):
    """Make what a manifest says, with other tensors, classes or shape of data."""
    said = {"model": "mlp", "tensors": (("w", (2, 3)),), "classes": 10, "input_shape": (1, 8, 8)}
    settings = {"run": {"seed": 0, "rounds": 3}, "data": {"name": "digits", "test": 5}}
    return {"format": 1, "manifest": said | changed, "settings": settings}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tensors": (("w", (3, 2)),)}, "other tensors"),
        ({"classes": 3}, "classes 10, not 3"),
        ({"input_shape": (3, 8, 8)}, "input_shape [1, 8, 8], not [3, 8, 8]"),
    ],
)
def test_other_data_are_told_from_these(changed, said):
    """A file of another shape under the same name is other data."""
    was = json.loads(json.dumps(manifest()))
    assert described.changes(Path("runs/lab"), was, manifest()) == []
    with pytest.raises(StoreError, match=re.escape(f"runs/lab holds a run of {said}; choose")):
        described.changes(Path("runs/lab"), was, manifest(**changed))


def test_other_samples_under_the_same_name_are_another_run(tmp_path, capsys):
    """Permuted labels, or more images, in a file of the same name: refused, and what differs told.

    The same samples in a file of another name are no other data.
    """
    data = datasets.load("digits", tmp_path, 500)
    parts = {"x_train": data.x_train, "y_train": data.y_train}
    parts |= {"x_test": data.x_test, "y_test": data.y_test}
    mine = tmp_path / "mine.npz"
    np.savez(mine, **parts)
    run = federation(tmp_path / "lab", "accepted", data__name=str(mine)).whole()
    there = contents(run.folder)
    np.savez(mine, **parts | {"y_train": data.y_train[::-1]})
    with pytest.raises(StoreError, match="with other data: the training labels differ; choose ano"):
        run.begin()
    twice = {key: np.concatenate([parts[key]] * 2) for key in ("x_train", "y_train")}
    np.savez(mine, **parts | twice)
    with pytest.raises(
        StoreError, match=r"the training images \(1,297 then, 2,594 now\), training l"
    ):
        run.begin()
    assert contents(run.folder) == there
    np.savez(tmp_path / "moved.npz", **parts)
    moved = str(tmp_path / "moved.npz")
    capsys.readouterr()
    federation(tmp_path / "lab", "accepted", data__name=moved, run__rounds=ROUNDS + 1).begin()
    assert f"settings changed since: data.name {mine} -> {moved}" in capsys.readouterr().out


def test_a_run_from_before_there_were_fingerprints_goes_by_the_name(folder):
    """Its manifest.json says nothing of the samples: another name is other data."""
    rewrite(folder / "manifest.json", data=...)
    federation(folder, "all of it").begin()
    rewrite(folder / "manifest.json", data=...)
    with pytest.raises(StoreError, match="holds a run of data digits, not"):
        federation(folder, "all of it", data__name=str(own_copy(folder.parent))).begin()


def own_copy(folder):
    """Write the digits into a file of one's own."""
    data = datasets.load("digits", folder, 500)
    np.savez(
        folder / "own.npz",
        x_train=data.x_train,
        y_train=data.y_train,
        x_test=data.x_test,
        y_test=data.y_test,
    )
    return folder / "own.npz"


def test_settings_that_changed_are_told_in_a_line(folder, capsys):
    """Rule, clipping and quorum may change during a run; rounds and broker are not worth a word."""
    run = federation(
        folder,
        "all of it",
        aggregation__rule="median",
        aggregation__clip=1.0,
        run__rounds=9,
        validation__quorum=5,
        run__directory="elsewhere",
        broker__host="elsewhere",
    )
    run.begin()
    assert capsys.readouterr().out.splitlines() == [
        "run 'lab' resumes after round 4, at version 3",
        (
            "settings changed since: aggregation.rule foolsgold -> median, "
            "aggregation.clip 0.0 -> 1.0, validation.quorum 6 -> 5"
        ),
    ]


def test_the_same_settings_are_not_worth_a_word(folder, capsys):
    """A run that goes on as it was says so in one line."""
    federation(folder, "all of it").begin()
    assert capsys.readouterr().out == "run 'lab' resumes after round 4, at version 3\n"


def rewrite(file, **changed):
    """Change keys of a JSON file; ... removes one."""
    said = json.loads(file.read_text()) | changed
    file.write_text(json.dumps({key: value for key, value in said.items() if value is not ...}))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (2, "a later fedjury (format 2; this one reads 1)"),
        (0, "no fedjury (format 0; this one reads 1)"),
        ("new", 'no fedjury (format "new"; this one reads 1)'),
        (True, "no fedjury (format true; this one reads 1)"),
        (None, "no fedjury (format null; this one reads 1)"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_a_folder_of_another_version_is_left_alone(folder, number, said, begun):
    """What a later fedjury wrote is not ours to read, or to write over."""
    rewrite(folder / MANIFEST, format=number)
    if not begun:
        shutil.rmtree(folder / "models")
        (folder / "models").mkdir()
    there = contents(folder)
    with pytest.raises(StoreError) as error:
        federation(folder, "all of it").begin()
    assert str(error.value) == f"{folder} was written by {said}; choose another --run"
    assert contents(folder) == there


def test_a_folder_of_before_there_were_formats_is_read(folder, undisturbed):
    """Its manifest says no format, and its records not what their rounds left."""
    assert json.loads((folder / MANIFEST).read_text())["format"] == described.FORMAT == 1
    rewrite(folder / MANIFEST, format=...)
    file = folder / "rounds.jsonl"
    file.write_text(file.read_text().replace(',"left":["candidate","agents"]', ""))
    (folder / "candidate-000003.safetensors").unlink()  # it kept the last one alone
    (folder / "agents-000003.npz").unlink()
    same_run(federation(folder, "all of it").whole(), undisturbed["all of it"])


def test_without_a_manifest_a_run_goes_on_and_says_so(folder, undisturbed, capsys, monkeypatch):
    """Models and records are all that it needs; only a comparison is not to be had."""
    (folder / MANIFEST).unlink()
    same_run(federation(folder, "all of it").whole(), undisturbed["all of it"])
    assert f"{folder} has no manifest.json: whether" in capsys.readouterr().out
    with pytest.raises(StoreError, match=r"run of another model \(2,410 parameters, not 650\)"):
        federation(folder, "all of it", model__name=f"{__name__}:linear").begin()


def test_a_run_that_goes_on_to_more_rounds_has_not_ended(tmp_path, monkeypatch):
    """The mark of its end goes with the first of them, and else stays where it is."""

    def serve(*_):
        raise TransportError("no broker")

    monkeypatch.setattr(entry, "serve", serve)
    run = federation(tmp_path, "accepted", run__rounds=2).whole()
    (tmp_path / "ended").touch()
    with pytest.raises(SettingsError, match="has its 2 rounds already"):
        entry.conduct(run.settings, build(run.settings), tmp_path, reporting=False)
    assert (tmp_path / "ended").exists()
    more = settings_of(**SMALL)
    with pytest.raises(TransportError):
        entry.conduct(more, build(more), tmp_path, reporting=False)
    assert not (tmp_path / "ended").exists()


# In use


def test_a_folder_is_used_by_one_process_at_a_time(tmp_path):
    """Who comes second is told who was first; once that one is gone, or killed, it may."""
    folder = tmp_path / "runs" / "lab"
    hold = (
        "import sys, time; from pathlib import Path; from fedjury.aggregator.durable_files import "
        "held\n"
        "with held(Path(sys.argv[1]), 'lab'): print('held', flush=True); time.sleep(60)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(StoreError) as error, durable_files.held(folder, "lab"):
            pass
        assert str(error.value) == (
            f"run 'lab' in {folder} is in use by another aggregator (process {first.pid})"
        )
    finally:
        first.kill()
        first.communicate()
    for _ in range(2):
        with durable_files.held(folder, "lab"):
            assert (folder / "lock").read_text() == f"{os.getpid()}\n"
            with pytest.raises(StoreError, match="is in use"), durable_files.held(folder, "lab"):
                pass


def test_a_lock_without_a_number_is_a_lock(tmp_path):
    """On a full disk the number cannot be written; the folder is in use all the same."""
    with durable_files.held(tmp_path, "lab"):
        (tmp_path / "lock").write_text("")
        with (
            pytest.raises(StoreError, match=r"by another aggregator$"),
            durable_files.held(tmp_path, "lab"),
        ):
            pass
