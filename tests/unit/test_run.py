"""What run.py says of a run: who was in it, who attacked, and from which round on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedjury.agents.assembly import simulated_agents_of
from fedjury.aggregator import durable_files
from fedjury.aggregator.assembly import build
from fedjury.config.settings import SettingsError, load
from fedjury.federation import __main__ as entry
from fedjury.federation import demo, description, run
from fedjury.learning import models
from fedjury.shipped import shipped

LAB = {
    "data.name": "digits",
    "model.name": "mlp",
    "agents.n": 1000,
    "agents.samples": 20,
    "agents.malicious": 0.1,
    "agents.start": 7,
    "run.seed": 3,
}
FLEET = "1,000 agents, each its own MQTT connection, 20 samples of digits each; model mlp, seed 3."
COME, BEFORE = "They connect in round", "and train honestly before."
BACKDOOR = {"agents.attack": "backdoor", "backdoor.task": "semantic", "backdoor.inject": [30, 12]}


def hidden(what, rounds):
    """Return what is said of attackers who hold data."""
    return (
        f"{FLEET} 100 hide a backdoor ({what}) in the model in rounds {rounds} and otherwise train "
        "honestly."
    )


SAID = {
    "there is no attack": ({"agents.malicious": 0.0}, FLEET, None),
    "too few to be one": ({"agents.malicious": 0.0004}, FLEET, None),
    "fakes": (
        {"agents.scale": 2.5},
        f"{FLEET} 100 are fake (mpaf, scaling 2.5) and attack from round 7 on.",
        7,
    ),
    "a backdoor": (
        BACKDOOR,
        hidden("backdoor, semantic", "30, 12"),
        12,
    ),
    "an adaptive one": (
        BACKDOOR | {"agents.attack": "adaptive", "backdoor.task": "pixel"},
        hidden("adaptive, pixel", "30, 12"),
        12,
    ),
    "a backdoor that never comes": (
        BACKDOOR | {"backdoor.inject": []},
        hidden("backdoor, semantic", "none"),
        None,
    ),
    "a backdoor of nobody": (BACKDOOR | {"agents.malicious": 0.0}, FLEET, None),
    "fakes who come late": (
        {"agents.arrive": 9},
        f"{FLEET} 100 are fake (mpaf, scaling 1e+06) and attack from round 10 on. {COME} 9.",
        10,
    ),
    "fakes who come before they strike": (
        {"agents.arrive": 2, "agents.scale": 2.5},
        f"{FLEET} 100 are fake (mpaf, scaling 2.5) and attack from round 7 on. {COME} 2.",
        7,
    ),
    "attackers with data": (
        {"agents.attack": "sign_flip", "agents.options": {"factor": 2.0}},
        f"{FLEET} 100 hold data, attack from round 7 on (sign_flip, factor 2.0) {BEFORE}",
        7,
    ),
    "colluders": (
        {"agents.attack": "alie"},
        f"{FLEET} 100 hold data, attack from round 7 on (alie) {BEFORE}",
        7,
    ),
    "a backdoor that comes late": (
        BACKDOOR | {"agents.arrive": 12},
        f"{hidden('backdoor, semantic', '30, 12')} {COME} 12.",
        30,
    ),
    "all that there is": (
        {"agents.malicious": 0.0, "agents.samples": 0},
        FLEET.replace("20 samples", "an equal share"),
        None,
    ),
}
"""Settings; what is said of them; the round of the first strike."""


@pytest.mark.parametrize("case", SAID)
def test_a_run_is_described(case):
    """The report says who attacks how and when, and the picture is marked there."""
    changes, said, strike = SAID[case]
    settings = load(overrides=LAB | changes)
    assert description.describe(settings) == said
    assert description.first_attack(settings) == strike


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"agents.arrive": 10}, True),
        ({"agents.start": 3}, True),
        ({"agents.start": 2}, False),
        ({"agents.malicious": 0.0, "agents.start": 9}, False),
    ],
)
def test_fakes_who_come_too_late_are_told_of(changes, warned):
    """A run that is over before anybody strikes says so before it begins."""
    settings = load([], {"run.rounds": 2, "agents.malicious": 0.2, **changes})
    assert ("there will be no attack" in description.too_late(settings)) == warned


def test_a_run_in_use_is_left_as_it_is(tmp_path):
    """Who is refused for another is at work in its folder has written nothing there."""
    settings = load([], LAB | {"run.directory": str(tmp_path), "run.name": "lab", "agents.n": 5})
    folder = tmp_path / "lab"
    with durable_files.held(folder, "lab"):
        (folder / "agents.log").write_text("of the other")
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        with pytest.raises(durable_files.StoreError, match=r"run 'lab' in .* is in use by another"):
            run.federation(settings, folder)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rule", "median"], "--rule"),
        (["--set", "validation.quorum=3", "--no-quarantine"], "--quarantine, --quorum"),
        (["--set", "limits.finite=true"], "limits.finite"),
    ],
    ids=" ".join,
)
def test_the_demo_takes_no_defence(arguments, named):
    """Its four cases set their own: what would be overridden is refused before anything starts."""
    with pytest.raises(SettingsError) as caught:
        entry.main(["--demo", *arguments])
    assert str(caught.value).startswith(
        f"--demo sets up 4 runs of its own and accepts no {named}; leave it out, or "
    )


def test_the_jury_of_a_small_demo_are_all_agents(tmp_path):
    """Of 40 validators with a quorum of 20, 30 vote where there are 30 agents, and 10 of 10."""
    for n, votes in ((30, (30, 20)), (10, (10, 10)), (60, (40, 20))):
        small = load([shipped("config/demo.toml")], {"agents.n": n, "run.directory": str(tmp_path)})
        jury = demo.layered(small, "jury")
        assert (jury.validation.validators, jury.validation.quorum) == votes
        assert (jury.run.name, jury.agents.n, jury.run.rounds) == ("jury", n, 22)
        assert bool(jury.jury_note()) is (n < 40)


@pytest.mark.parametrize(
    ("n", "samples", "said"),
    [
        (20, 39, ""),  # of digits 797 samples can be dealt
        (
            20,
            100,
            (
                "the training set is too small for so many samples: 2,000 samples are "
                "dealt, 797 of them "
                "different, so each 2.5 times on average"
            ),
        ),
    ],
)
def test_more_samples_than_there_are_are_told_of(n, samples, said):
    """Who deals 2,000 samples of 797 is told so before the start, and how often each is dealt."""
    few = load(overrides=LAB | {"agents.n": n, "agents.malicious": 0, "agents.samples": samples})
    assert run.check(few) == said


def test_repeats_that_are_switched_off_are_an_error():
    """With agents.repeats = false nothing is started where a sample would be dealt twice."""
    once = LAB | {"agents.n": 20, "agents.malicious": 0, "agents.repeats": False}
    assert run.check(load(overrides=once | {"agents.samples": 39})) == ""
    with pytest.raises(SettingsError, match=r"each 2\.5 times .*; agents.repeats = false forbids"):
        run.check(load(overrides=once | {"agents.samples": 100}))


def from_one(folder):
    """Write twelve images whose labels count from 1; returns the file."""
    x, y = np.full((12, 8, 8), 255, np.uint8), np.arange(12) % 3 + 1
    np.savez(folder / "mine.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    return str(folder / "mine.npz")


def beginnings(settings):
    """Return what each program does with its settings before it starts anything."""
    return {
        "run": lambda: run.check(settings),
        "aggregator": lambda: build(settings),
        "spawn": lambda: simulated_agents_of(settings).check(),
    }


@pytest.mark.parametrize("program", ["run", "aggregator", "spawn"])
def test_what_dealing_finds_is_told_before_anything_starts(program, tmp_path):
    """Labels from 1 leave class 0 without samples, and agents of groups cannot be dealt any."""
    data = {"data.name": from_one(tmp_path), "agents.samples": 2, "agents.split": "groups"}
    start = beginnings(load(overrides=LAB | data))[program]
    with pytest.raises(ValueError, match="wants class 0, of which there are no samples"):
        start()


@pytest.mark.parametrize("program", ["run", "aggregator"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregation.rule": "krumm"}, "did you mean 'krum'"),
        ({"model.init": "nowhere.pth"}, "there is no such file"),
        (
            {"model.name": "resnet18", "training.batch_size": 1},
            "learns nothing from a batch of one",
        ),
        ({"model.name": "resnet18", "agents.samples": 1}, r"samples to train on \(1\) must be 2"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(program, changes, message):
    """Names, files and batches: run.py asks the aggregator before it starts one."""
    start = beginnings(load(overrides=LAB | changes))[program]
    with pytest.raises(ValueError, match=message):
        start()


def test_first_weights_that_cannot_answer_are_refused(tmp_path):
    """Weights of 1e30 are numbers, but what they answer is not."""
    file = tmp_path / "huge.pth"
    model = models.build("mlp", (1, 8, 8), 10, 0)
    torch.save({name: value + 1e30 for name, value in model.state_dict().items()}, file)
    with pytest.raises(
        SettingsError, match=r"huge\.pth cannot be used as the first model: its outputs on 1,000"
    ):
        run.check(load(overrides=LAB | {"model.init": str(file)}))
