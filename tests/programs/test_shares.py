"""Replicas share a fleet out among themselves, whenever one comes, goes or is killed."""

from __future__ import annotations

import multiprocessing as mp
import os
import time

import pytest
from support.listening import until

from fedjury.agents import shares
from fedjury.agents.shares import Claims, claimed, quota
from fedjury.agents.worker_pool import WorkerPool
from fedjury.protocol.transport.connection import TransportError


@pytest.mark.parametrize(
    ("replicas", "count", "each"),
    [(1, 10, [10]), (4, 10, [3, 3, 2, 2]), (3, 12, [4, 4, 4]), (4, 2, [1, 1, 0, 0])],
)
def test_shares_are_dealt_as_evenly_as_they_can_be(replicas, count, each):
    """The first few replicas have one more; where there are fewer shares, some have none."""
    assert [quota(rank, replicas, count) for rank in range(replicas)] == each


def balanced(*replicas):
    """Let replicas look after their shares until nothing changes; returns how many each has."""
    for _ in range(3):
        for claims in replicas:
            for share in claims.spare():
                claims.give(share)
            claims.take()
    return sorted(len(claims.held) for claims in replicas)


def everything(*replicas):
    """Return all shares that are held, in order."""
    return sorted(share for claims in replicas for share in claims.held)


def test_no_share_is_held_twice_or_left_out_whoever_comes_and_goes(tmp_path):
    """One has all ten; a late one gets five of them, two more later; and who goes leaves his."""
    first = Claims(tmp_path, 10)
    assert first.take() == list(range(10))
    late = Claims(tmp_path, 10)
    assert late.take() == []  # nothing is free yet: it waits
    assert balanced(first, late) == [5, 5]
    others = Claims(tmp_path, 10), Claims(tmp_path, 10)
    assert balanced(first, late, *others) == [2, 2, 3, 3]
    assert everything(first, late, *others) == list(range(10))
    first.close()
    assert balanced(late, *others) == [3, 3, 4]
    assert everything(late, *others) == list(range(10))
    for claims in (late, *others):
        claims.close()
    assert not [*tmp_path.glob("replica-*")]


def test_more_replicas_than_shares_stand_by(tmp_path):
    """The third of two shares' replicas has nothing to do until another is gone."""
    three = [Claims(tmp_path, 2) for _ in range(3)]
    assert balanced(*three) == [0, 1, 1]
    busy = next(claims for claims in three if claims.held)
    busy.close()
    three.remove(busy)
    assert balanced(*three) == [1, 1]
    for claims in three:
        claims.close()


def test_a_killed_replica_leaves_its_shares_to_the_others(tmp_path):
    """Kill -9 frees its locks, whatever of it lies about."""

    def hold():
        Claims(tmp_path, 3).take()
        (tmp_path / "ready").touch()
        time.sleep(60)

    doomed = mp.get_context("fork").Process(target=hold, daemon=True)
    doomed.start()
    until((tmp_path / "ready").exists)
    heir = Claims(tmp_path, 3)
    assert heir.take() == []
    doomed.kill()
    doomed.join()
    assert heir.take() == [0, 1, 2]
    assert len([*tmp_path.glob("replica-*")]) == 1
    heir.close()


def test_a_share_can_be_given_though_a_process_was_forked_that_holds_its_file(tmp_path):
    """Processes inherit the open files of who starts them: the lock goes all the same."""
    first = Claims(tmp_path, 2)
    first.take()
    child = mp.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    try:
        second = Claims(tmp_path, 2)
        assert balanced(first, second) == [1, 1]
        first.close()
        second.close()
    finally:
        child.kill()
        child.join()


def test_a_run_that_is_over_is_over_for_all_and_forgotten_by_the_next(tmp_path):
    """Who stands by learns of the end; when all have gone, the note goes too."""
    first, second = Claims(tmp_path, 1), Claims(tmp_path, 1)
    first.end("lab")
    assert second.ended("lab")
    assert not second.ended("lab-2")
    first.close()
    second.close()
    again = Claims(tmp_path, 1)
    assert not again.ended("lab")
    again.close()


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    """A file in its place is told, not a traceback."""
    (tmp_path / "taken").touch()
    with pytest.raises(TransportError, match="cannot hold the replicas' shares: "):  # noqa: SIM117
        with claimed(tmp_path / "taken" / "x", 2):
            pytest.fail("it was used")


def test_who_starts_waits_for_others_first(tmp_path, monkeypatch):
    """Replicas that start together have all come before the first share is taken."""
    slept = []
    monkeypatch.setattr(shares.time, "sleep", slept.append)
    with claimed(tmp_path, 2) as claims:
        assert slept == [shares.SETTLE]
        assert claims.take() == [0, 1]
    assert not [*tmp_path.glob("replica-*")]


def test_a_crew_grows_and_shrinks_while_it_works(tmp_path):
    """A process that is dropped ends and is not started again; one that is added works."""

    def work(post):
        (tmp_path / f"{post.numbers.start}").write_text(str(os.getpid()))
        post.send("connected", len(post.numbers))
        while not post.stopping():
            time.sleep(0.01)
        (tmp_path / f"{post.numbers.start}.bye").touch()

    said, connected = [], []
    crew = WorkerPool(work, {0: range(5), 1: range(10, 20)}, said.append)
    try:
        crew.start()
        until(lambda: len([*tmp_path.iterdir()]) == 2)
        crew.drop(0)
        assert (tmp_path / "0.bye").exists()
        crew.add(2, range(20, 25))
        assert crew.watch(connected.append, lambda: sum(crew.connected) < 15) == []
    finally:
        crew.stop()
        crew.close()
    assert connected[-1] == 15
    assert said == []
