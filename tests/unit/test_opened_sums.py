"""What agents remember of the sums they have helped to open, also across restarts."""

from __future__ import annotations

import pytest

from fedjury.agents.opened_sums import KEPT, OpenedSums, opened_sums_in
from fedjury.secure.agent import Opened

ONE, OTHER = Opened(b"roster", b"\7"), Opened(b"roster", b"\3")


def test_sums_are_remembered_by_agent_and_model():
    """Of ann over the first model; of nobody else, and over no other."""
    sums = OpenedSums()
    sums.add("ann", b"first", ONE)
    assert sums.over("ann", b"first") == ONE
    assert sums.over("ann", b"second") is None
    assert sums.over("bob", b"first") is None


def test_a_file_keeps_them_across_restarts(tmp_path):
    """Written before a share is sent: whoever reads the file knows it, whatever happened since."""
    opened_sums_in(tmp_path / "new", "run", "ann").add("ann", b"first", ONE)
    again = opened_sums_in(tmp_path / "new", "run", "ann")
    assert again.over("ann", b"first") == ONE
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["run.ann.sums.jsonl"]
    assert opened_sums_in("", "run", "ann").over("ann", b"first") is None


def test_a_last_line_cut_short_is_no_sum(tmp_path):
    """The process was killed while it wrote, and nobody was told of that sum."""
    file = tmp_path / "sums"
    OpenedSums(file).add("ann", b"first", ONE)
    file.write_text(file.read_text() + '["ann", "6f')
    again = OpenedSums(file)
    assert again.over("ann", b"first") == ONE
    again.add("ann", b"second", OTHER)
    assert OpenedSums(file).over("ann", b"second") == OTHER


def test_any_other_damage_is_told(tmp_path):
    """Without its lines nobody knows in which sums an agent may not be."""
    file = tmp_path / "sums"
    file.write_text("junk\n[]\n")
    with pytest.raises(ValueError, match="sums, line 1: no sum that was opened"):
        OpenedSums(file)


def test_a_folder_that_cannot_be_had_is_told(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot keep which sums were opened: "):
        opened_sums_in(tmp_path / "file" / "state", "run", "ann")


def test_only_the_last_models_are_kept(tmp_path):
    """No model is in force for longer than a hundred others; the file is written again without."""
    file = tmp_path / "sums"
    sums = OpenedSums(file)
    for number in range(3 * KEPT):
        sums.add("ann", b"%d" % number, OTHER)
    for known in (sums, OpenedSums(file)):
        assert known.over("ann", b"%d" % (2 * KEPT - 1)) is None
        assert known.over("ann", b"%d" % (2 * KEPT)) == OTHER
    assert len(file.read_text().splitlines()) == KEPT
