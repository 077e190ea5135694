"""The user's own commands with nothing set: they learn, a jury sits, an attack is met and told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import warm
from support.listening import RawClient

from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.settings import load
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.record import read

ROOT = Path(__file__).resolve().parents[2]
KIND = "mosquitto" if find_mosquitto() else "embedded"
N, ROUNDS = 100, 4


def ended(command, cwd, **changes):
    """Run one of our programs to its end and return what it printed."""
    done = warm.run(
        [sys.executable, *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **changes,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """Run an aggregator and a fleet beside it, a fifth of it fake; return what all of them say."""
    folder = tmp_path_factory.mktemp("front")
    with (
        local_broker(KIND, say=lambda _: None, log=folder / "broker.log") as address,
        RawClient(address, "fl/v2/+/vote/+", "fl/v2/+/log/round") as people,
    ):
        where = ["--broker", f"{address.host}:{address.port}"]
        # Only the number of rounds and where the run lies are not what the user would have typed.
        aggregator = warm.Popen(
            [
                sys.executable,
                "-m",
                "aggregator",
                *where,
                "--rounds",
                str(ROUNDS),
                "--runs",
                str(folder),
            ],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
        )
        try:
            agents = ended(["agents/spawn.py", "--n", str(N), "--evil", "0.2", *where], cwd=ROOT)
            said, _ = aggregator.communicate(timeout=60)
        finally:
            aggregator.kill()
        assert aggregator.returncode == 0, said
        votes = people.payloads("/vote/")
    lines = (folder / "fedjury" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    return [read(json.loads(line)) for line in lines], said, agents, votes


def test_the_defaults_learn_under_attack(attacked):
    """Four rounds of a hundred agents, twenty of them MPAF fakes from the first round on."""
    records, said, agents, _ = attacked
    assert [record.accepted for record in records] == [True] * ROUNDS
    assert records[-1].model.accuracy > 0.8
    assert "starting with 100 agents: no new one came for" in said
    assert "the run is done" in agents


def test_the_fakes_are_named_and_nobody_else(attacked):
    """All twenty are in quarantine at the end, and none of the eighty others."""
    records, said, _, _ = attacked
    plan = partition_spec_of(load(overrides={"agents.n": N, "agents.malicious": 0.2}))
    assert set(records[-1].detection.quarantined) == {
        plan.name(number) for number in plan.malicious_agents
    }
    (line,) = [line for line in said.splitlines() if line.startswith("attacked from round 1 on")]
    assert "20 agents pulled the model towards one fixed point" in line
    assert "no longer selected" in line


def test_a_jury_votes_in_every_round(attacked):
    """Forty validators are asked each time, vote on the vote topic, and stand in the record."""
    records, said, _, votes = attacked
    assert len(votes) == 40 * ROUNDS
    assert all(record.votes.asked == 40 for record in records)
    assert all(record.votes.silent == 0 for record in records)
    assert re.search(r"\d+ poisoned, \d+ clean, 0 silent \(quorum 20\)", said)


def test_without_its_defence_the_run_falls_and_says_so(tmp_path):
    """The same attack with the scenario undefended.toml: no "given up", but a sentence why."""
    said = ended(
        [
            "run.py",
            "--config",
            "config/undefended.toml",
            "--data",
            "digits",
            "--n",
            "40",
            "--rounds",
            "3",
            "--runs",
            str(tmp_path),
            "--broker-kind",
            KIND,
        ],
        cwd=ROOT,
    )
    assert "given up" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("accuracy")][:1]
    assert "no better than chance with 10 classes: this run has no defence" in line
