"""The run folder: what survives a crash, and what is said of what cannot be read."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from support.cutting import Torn, cut

from fedjury.aggregator.store import RunStore, StoreError, read_records
from fedjury.protocol.messages import Model
from fedjury.protocol.record import Quality, RoundRecord, Timing


def model(version):
    return Model(version, np.array([version, -1.5, 1 / 3], dtype=np.float32))


def record(number, version, **more):
    quality = Quality(number / 10)
    return RoundRecord(number, version=version, model=quality, judged=number, **more)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "lab"


@pytest.fixture
def store(folder):
    """Hold a run with versions 0, 1 and 2 accepted in rounds 0, 1 and 3, and 2 rejected."""
    made = RunStore(folder, keep=3)
    made.save(model(0), record(0, 0))
    made.persist(record(1, 1), model(1))
    made.persist(record(2, 1), None)
    made.persist(record(3, 2), model(2))
    return made


def test_a_new_folder_holds_no_run(folder):
    """A folder is made where there was none, and there is nothing to resume."""
    assert RunStore(folder, keep=3).load() is None
    assert folder.is_dir()


def test_a_run_is_read_as_it_was_written(store, folder):
    """Models come oldest first with the same bytes, and the record is the last one."""
    saved = RunStore(folder, keep=3).load()
    assert [m.version for m in saved.models] == [0, 1, 2]
    for m in saved.models:
        assert m.weights.dtype == np.float32
        np.testing.assert_array_equal(m.weights, model(m.version).weights)
    assert saved.record == record(3, 2)
    assert read_records(folder) == [record(1, 1), record(2, 1), record(3, 2)]


def test_a_run_resumes_after_a_rejected_round(store, folder):
    """The last record counts, not that of the last model."""
    store.persist(record(4, 2), None)
    saved = RunStore(folder, keep=3).load()
    assert (saved.record, saved.models[-1].version) == (record(4, 2), 2)


def test_a_run_resumes_before_its_first_round(folder):
    """Version 0 alone carries the record of round 0."""
    RunStore(folder, keep=3).save(model(0), record(0, 0))
    saved = RunStore(folder, keep=3).load()
    assert (saved.record, [m.version for m in saved.models]) == (record(0, 0), [0])


def test_a_crash_between_model_and_record_loses_neither(store, folder):
    """A model without its line brings the line back, once."""
    store.save(model(3), record(4, 3))
    for _ in range(2):
        saved = RunStore(folder, keep=3).load()
        assert (saved.record, saved.models[-1].version) == (record(4, 3), 3)
        assert read_records(folder)[-2:] == [record(3, 2), record(4, 3)]
    assert (folder / "rounds.jsonl").read_text().count('"round":4') == 1


@pytest.mark.parametrize("half", ["{", '{"round":4,"vers', '{"round":4,"why":"}', '{"a":{}'])
def test_half_a_last_line_is_ignored(store, folder, half):
    """What a crash cut off is as if never written, and the next record gets a line of its own."""
    with (folder / "rounds.jsonl").open("a") as file:
        file.write(half)
    again = RunStore(folder, keep=3)
    assert again.load().record == record(3, 2)
    again.persist(record(4, 2), None)
    again.persist(record(5, 2), None)
    assert again.load().record == record(5, 2)
    assert [r.round for r in read_records(folder)] == [1, 2, 3, 4, 5]


def test_half_a_line_of_an_accepted_round_is_written_again(store, folder):
    """The record of a half-written line comes from the model it belongs to."""
    store.save(model(3), record(4, 3))
    with (folder / "rounds.jsonl").open("a") as file:
        file.write('{"round":4')
    assert RunStore(folder, keep=3).load().record == record(4, 3)
    assert read_records(folder)[-1] == record(4, 3)


def test_what_is_to_be_judged_next_is_read_as_it_was_written(store, folder):
    """With piggy-back the last round's candidate is kept, whether it accepted a model or not."""
    assert RunStore(folder, keep=3).load().pending is None
    for number, accepted in ((4, model(3)), (5, None)):
        candidate = np.array([number, -0.5, 1 / 7], dtype=np.float32)
        store.persist(record(number, 3), accepted, candidate)
        saved = RunStore(folder, keep=3).load()
        assert saved.pending.dtype == np.float32
        np.testing.assert_array_equal(saved.pending, candidate)
        assert (saved.record, saved.models[-1].version) == (record(number, 3), 3)


def candidates(folder):
    return sorted(file.name for file in folder.glob("candidate*.safetensors"))


def test_a_candidate_that_was_decided_on_is_not_judged_again(store, folder):
    """A round that leaves none, as after a rejection, leaves nothing to be judged."""
    store.persist(record(4, 2), None, np.ones(3, dtype=np.float32))
    assert candidates(folder) == ["candidate-000004.safetensors"]
    store.persist(record(5, 2), None)
    assert RunStore(folder, keep=3).load().pending is None
    assert candidates(folder) == []


def test_the_first_record_is_durable_with_its_file(folder):
    """The folder that names the new file is synced too, once."""
    store = RunStore(folder, keep=3)
    for number in (1, 2):
        with cut(folder, 10**6) as disk:
            store.persist(record(number, 0), None)
        assert disk.done[-1] == ("fsync lab" if number == 1 else "fsync rounds.jsonl")


def test_one_candidate_is_kept(store, folder):
    """Older ones, and what a crash left of them, go once a later round is written down."""
    for number in (4, 5, 6):
        store.persist(record(number, 2), None, np.ones(3, dtype=np.float32))
        assert candidates(folder) == [f"candidate-{number:06d}.safetensors"]


def test_a_candidate_of_before_a_crash_is_not_taken_for_that_of_the_round(store, folder):
    """Round 5 is run again after a crash, and leaves no candidate this time: there is none."""
    for at in range(8):
        store.persist(record(4, 2), None, np.ones(3, dtype=np.float32))
        with cut(folder, at), pytest.raises(Torn):  # up to its candidate, before its record
            store.persist(record(5, 3), model(3), np.ones(3, dtype=np.float32))
        store.persist(record(5, 2), None)
        assert RunStore(folder, keep=3).load().pending is None
    assert at == 7


def test_a_crash_while_a_round_is_made_durable_loses_no_candidate(tmp_path):
    """Killed between any two operations on the disk in round 5, the run has round 4's candidate.

    Or it has 5's: what is read belongs together. And it is so however often the process dies.
    """
    made = {n: np.full(3, n, dtype=np.float32) for n in (3, 4, 5)}
    reached = []
    for at in range(100):
        folder = tmp_path / str(at)
        store = RunStore(folder, keep=3)
        store.save(model(2), record(3, 2))
        store.persist(record(4, 3), model(3), made[4])
        for _ in range(2):
            with cut(folder, at) as disk, suppress(Torn):
                store.persist(record(5, 4), model(4), made[5])
            saved = RunStore(folder, keep=3).load()
            number = saved.record.round
            assert saved.models[-1].version == number - 1
            np.testing.assert_array_equal(saved.pending, made[number])
        reached.append(number)
        store.persist(record(6, 4), None, made[5])
        assert candidates(folder)[-1] == "candidate-000006.safetensors"
        assert len(candidates(folder)) <= 2
        if not disk.hit:
            break
    assert not disk.hit
    assert reached == sorted(reached)
    assert set(reached) == {4, 5}


def test_the_candidate_before_the_newest_model_is_kept(store, folder):
    """If that model is lost, the run goes on from there: rejections in between change nothing."""
    made = {n: np.full(3, n, dtype=np.float32) for n in range(4, 9)}
    store.persist(record(4, 2), None, made[4])
    store.persist(record(5, 3), model(3), made[5])
    for number in (6, 7, 8):
        store = RunStore(folder, keep=3)  # started again after each
        store.load()
        store.persist(record(number, 3), None, made[number])
        assert candidates(folder) == [f"candidate-{n:06d}.safetensors" for n in (4, number)]
    (folder / "models" / "000003.safetensors").unlink()
    for _ in range(2):
        saved = RunStore(folder, keep=3).load()
        assert (saved.record, saved.models[-1].version) == (record(4, 2), 2)
        np.testing.assert_array_equal(saved.pending, made[4])
        assert [r.round for r in read_records(folder)] == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 40])
def test_a_damaged_candidate_is_named(store, folder, size):
    """A candidate's file cut short is an error with its name."""
    store.persist(record(4, 2), None, np.ones(3, dtype=np.float32))
    (file,) = folder.glob("candidate*")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"candidate.*\.safetensors is damaged .* remove it"):
        RunStore(folder, keep=3).load()


def test_a_round_written_twice_counts_once(store, folder):
    """The later line of a round is the one that is read."""
    store.persist(record(3, 2, attempt=2), None)
    assert read_records(folder) == [record(1, 1), record(2, 1), record(3, 2, attempt=2)]


def test_a_half_written_model_is_no_model(store, folder):
    """Files are replaced whole: what a crash left of the next one is not looked at."""
    (folder / "models" / "000003.part").write_bytes(b"half")
    assert RunStore(folder, keep=3).load().models[-1].version == 2


@pytest.mark.parametrize("size", [0, 4, 40, -1])
def test_a_damaged_model_is_named(store, folder, size):
    """A model file cut short is an error with its name and what to do."""
    file = folder / "models" / "000002.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StoreError, match=r"000002\.safetensors is damaged .* remove it"):
        RunStore(folder, keep=3).load()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    """A file where the folder should be is one sentence."""
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write to .*lab/models: "):
        RunStore(tmp_path / "runs" / "lab", keep=3)


def test_a_folder_that_cannot_be_written_is_explained(store, folder):
    """What the disk refuses later on is the same sentence, for records, models and manifest."""
    for name in ("rounds.jsonl", "models/000004.part", "manifest.part"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    for write in (
        lambda: store.persist(record(4, 2), None),
        lambda: store.save(model(4), record(4, 4)),
        lambda: store.describe({}),
    ):
        with pytest.raises(
            StoreError, match=r"cannot write to .*lab/\S+: Is a directory; nothing was"
        ):
            write()


@pytest.mark.parametrize(("keep", "left"), [(3, [7, 8, 9]), (1, [8, 9]), (99, list(range(10)))])
def test_old_models_are_forgotten(folder, keep, left):
    """The last ``keep`` models stay on disk, two at least."""
    store = RunStore(folder, keep)
    for version in range(10):
        store.persist(record(version, version), model(version))
    assert [m.version for m in store.load().models] == left
    assert len(list((folder / "models").iterdir())) == len(left)


def test_fewer_models_are_kept_from_now_on(store, folder):
    """A run that goes on with a shorter look-back forgets all that it no longer needs."""
    less = RunStore(folder, keep=2)
    less.persist(record(4, 3), model(3))
    assert [m.version for m in less.load().models] == [2, 3]
    assert len(list((folder / "models").iterdir())) == 2


def test_what_is_not_ours_is_let_be(store, folder):
    """Copies that a person made of models are neither read nor removed."""
    copies = [folder / "models" / f"{name}.safetensors" for name in ("2", "0000009", "best", "²")]
    for file in copies:
        file.write_bytes(b"mine")
    store.persist(record(4, 3), model(3))
    assert [m.version for m in RunStore(folder, keep=3).load().models] == [1, 2, 3]
    assert all(file.read_bytes() == b"mine" for file in copies)


def test_records_of_what_is_not_a_number_are_json(store, folder):
    """NaN and inf become null, in the lines and in the model's own note."""
    bad = replace(record(4, 3), model=Quality(float("nan"), None, {"x": float("-inf")}))
    store.persist(bad, Model(3, np.array([np.nan, np.inf, 0], dtype=np.float32)))

    def refuse(word):
        raise AssertionError(word)

    for line in (folder / "rounds.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    (folder / "rounds.jsonl").unlink()
    saved = RunStore(folder, keep=3).load()
    assert saved.record == replace(record(4, 3), model=Quality(None))
    np.testing.assert_array_equal(saved.models[-1].weights, [np.nan, np.inf, 0])


def test_a_line_says_when_its_round_was_over(store, folder):
    """The time is in rounds.jsonl, and outlives what is done again after a crash.

    A model's file holds none, so that the same run comes to the same bytes.
    """
    over = record(4, 3, timing=Timing(time=1_700_000_000.123))
    store.persist(over, model(3))
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["time"] == 1_700_000_000.123
    before = read_records(folder)
    assert before[-1] == over
    assert b"1700000000" not in (folder / "models" / "000003.safetensors").read_bytes()
    (folder / "models" / "000003.safetensors").unlink()  # the round is to be done again
    assert RunStore(folder, keep=3).load().record == record(3, 2)
    assert read_records(folder) == before[:-1]


def test_the_manifest_is_written_whole(store, folder):
    """A second description replaces the first."""
    store.describe({"settings": {"long": "x" * 1000}})
    store.describe({"settings": {"rate": float("inf")}, "shape": (1, 28)})
    assert json.loads((folder / "manifest.json").read_text()) == {
        "settings": {"rate": None},
        "shape": [1, 28],
    }
