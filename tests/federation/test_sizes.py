"""Agents that hold unequal numbers of samples: how they train, who sits out, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from support.federation import Federation, one_thread, settings_of, simulated_agents_of  # noqa: F401 - a fixture
from support.worlds import TASK

from fedjury.agents.agent import Contribute, Judge, Train
from fedjury.agents.batch_assembly import assemble
from fedjury.aggregator.advice import advice
from fedjury.aggregator.assembly import build
from fedjury.learning.partition import partition
from fedjury.learning.shards import sample_order
from fedjury.learning.training import Training, train_alone
from fedjury.learning.weights import flatten
from fedjury.protocol.messages import Decline, Phase, Round, Update, Vote

pytestmark = pytest.mark.usefixtures("one_thread")

SKEWED = "dirichlet(mean=20, alpha=0.2)"
"""Of twenty agents some hold none of the 400 samples, and one more than a hundred."""


def batch_of(**changes):
    """Assemble twenty agents and give them version 0; returns batch, population and weights."""
    settings = settings_of(validation__look_back=2, **{"agents__samples": SKEWED} | changes)
    parts, population = build(settings), simulated_agents_of(settings)
    made = assemble(population, population.check(), range(20), parts.manifest)
    made.keep(0, parts.model.read())
    return made, population, parts.model.model


def sizes_of(population):
    """Return name -> how many samples it is dealt, of all that are to hold some."""
    spec = population.spec
    held = partition(spec, population.check()).held.tolist()
    return {spec.name(number): size for number, size in zip(spec.holders, held, strict=True)}


def answers(made, names, contributors="all"):
    """Train a round's contributors; returns what each of these names answers."""
    made.begin(Round(3, 1, Phase.TRAIN, 0, contributors, (), 60.0))
    while made.train_chunk():
        pass
    return {name: made.update(name, Train(3, 1, 0)) for name in names}


def test_the_fleet_of_these_tests_has_all_sizes():
    """Somebody holds nothing, somebody one or two, somebody a hundred."""
    held = sorted(sizes_of(batch_of()[1]).values())
    assert (sum(held), held[0]) == (400, 0)
    assert held[-1] > 100
    assert min(size for size in held if size) < 3


def test_each_learns_what_it_learns_alone_and_who_holds_nothing_declines():
    """Torch's own SGD on its own samples, in its own order; updates say how many those are."""
    made, population, model = batch_of(training__epochs=2, training__momentum=0.5)
    weights, held = flatten(model), sizes_of(population)
    plan = Training(2, 10, 0.2, 0.5)
    sent = answers(made, held)
    for row, member in enumerate(made.members.holders):
        size, answer = held[member.name], sent[member.name]
        if not size:
            assert answer == Decline(member.name, 3, 1)
            continue
        own = made.profiles.data
        own = own._replace(indices=own.indices[row : row + 1, :size], held=None)
        order = sample_order(0, 3, (member.number,), 2, size)
        alone = train_alone(model, weights, own, plan, order, TASK)[0]
        assert answer.samples == size
        np.testing.assert_allclose(answer.delta, alone, rtol=1e-3, atol=1e-5)


def test_who_is_called_with_an_agent_changes_no_bit_of_what_it_learns():
    """One of twenty, seven of them or all: the same bits, on this machine's products at least."""
    made, population, _ = batch_of()
    some = [name for name, size in sizes_of(population).items() if size]
    everybody = answers(made, some)
    for called in (some[4:5], some[::2], some[1:]):
        part = answers(batch_of()[0], called, tuple(called))
        for name in called:
            assert part[name].delta.tobytes() == everybody[name].delta.tobytes()


@pytest.mark.parametrize("attack", ["sign_flip", "alie", "backdoor"])
def test_the_same_models_whatever_the_processes(attack, tmp_path):
    """In one process or three, with attackers who hold data, some of them none: the same bits."""
    changes = {
        "agents__samples": SKEWED,
        "agents__malicious": 0.4,
        "agents__attack": attack,
        "agents__start": 2,
        "run__rounds": 3,
        "backdoor__inject": [2],
    }
    one = Federation(tmp_path / "one", **changes).whole()
    three = Federation(tmp_path / "three", fleets=3, **changes).whole()
    assert len(one.models) == 4
    assert one.models == three.models
    some = sum(size > 0 for size in sizes_of(simulated_agents_of(one.settings)).values())
    assert [record.updates for record in one.records] == [some] * 3
    assert {record.verdict for record in one.records} == {"accepted"}


def test_nobody_waits_for_who_holds_nothing(tmp_path):
    """A round ends at once, long before its deadline of a minute."""
    federation = Federation(tmp_path, agents__samples=SKEWED, run__rounds=2).whole()
    assert max(record.timing.seconds for record in federation.records) < 5


def test_who_holds_nothing_gives_no_vote():
    """An honest one declines; a liar and a fake make up their errors, as liars do."""
    made, population, model = batch_of(
        agents__samples="dirichlet(mean=20, alpha=0.1)",
        agents__malicious=0.2,
        agents__malicious_validators=0.3,
        agents__vote_attack="always_reject",
    )
    held, spec = sizes_of(population), population.spec
    names = [spec.name(number) for number in range(20)]
    liars = {spec.name(number) for number in spec.malicious_validators}
    candidate = flatten(model)
    said = {a.agent: a for a in made.votes(names, Judge(1, 2, (0,)), candidate)}
    assert said.keys() == set(names)
    unable = {name for name, size in held.items() if not size} - liars
    assert unable
    assert {name for name, size in held.items() if not size} & liars
    assert {name for name, answer in said.items() if isinstance(answer, Decline)} == unable
    assert said[min(unable)] == Decline(min(unable), 1, 2)
    for name in set(names) - unable:
        usual = int(np.median([size for size in held.values() if size]))
        assert said[name].samples == (held.get(name) or usual)
    only = made.votes([min(unable)], Judge(1, 2, (0,)), candidate)
    assert only == [Decline(min(unable), 1, 2)]


def test_who_holds_nothing_is_not_asked_to_vote(tmp_path):
    """Agents say whether they can: all who are asked do, though some of the twenty cannot."""
    federation = Federation(
        tmp_path, agents__samples=SKEWED, validation__validators=20, run__rounds=3
    ).whole()
    able = sum(size > 0 for size in sizes_of(simulated_agents_of(federation.settings)).values())
    assert able < 20
    for record in federation.records:
        assert (record.verdict, record.votes.clean, record.votes.silent) == ("accepted", able, 0)


def test_who_is_asked_for_both_and_holds_nothing_declines():
    """With piggy-back it neither judges nor trains; the others do both."""
    made, population, model = batch_of()
    held = sizes_of(population)
    task = Contribute(2, 1, (0,))
    made.contribute(Round(2, 1, Phase.JUDGE_AND_TRAIN, 0, "all", (), 60.0), task, flatten(model))
    while made.train_chunk():
        pass
    for name, size in held.items():
        answer = made.update(name, task)
        assert isinstance(answer, Update | Vote) if size else answer == Decline(name, 2, 1)


def test_a_network_that_trains_alone_takes_unequal_sizes(tmp_path):
    """ResNet has batch norm: agents train one after the other, those without samples not at all."""
    federation = Federation(
        tmp_path,
        agents__n=4,
        agents__samples="dirichlet(mean=5, alpha=0.3)",
        model__name="resnet18",
        training__batch_size=4,
        run__rounds=1,
    ).whole()
    held = sizes_of(simulated_agents_of(federation.settings)).values()
    assert 0 in held
    assert [record.updates for record in federation.records] == [sum(size > 0 for size in held)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"agents__samples": 5},
            "20 agents hold 5 of the 1,297 samples of digits each",
        ),
        (
            {"agents__n": 1, "agents__samples": 5},
            "1 agent holds 5 of the 1,297 samples of digits",
        ),
        ({"agents__malicious": 1.0}, ""),
    ],
)
def test_what_agents_hold_is_said(changes, said):
    """How many samples, and of how many there are; fakes hold none."""
    population = simulated_agents_of(settings_of(**changes))
    assert population.holdings(population.check(), range(population.spec.n)) == said


def test_unequal_sizes_are_said_with_their_median():
    """Least, most and median, and how many sit out, of the agents that run here."""
    population = simulated_agents_of(settings_of(agents__samples=SKEWED))
    held = list(sizes_of(population).values())
    for here in (range(20), range(5, 12)):
        ours = np.array(held[here.start : here.stop])
        said = population.holdings(population.check(), here)
        empty = int((ours == 0).sum())
        s = "" if empty == 1 else "s"
        assert said == (
            f"{len(ours)} agents hold {ours.min()} to {ours.max()} of the 1,297 samples of digits "
            f"each ({int(np.median(ours))} in the median); {empty} agent{s} without any "
            f"sit{'' if s else 's'} the rounds out"
        )


def test_a_device_that_trains_on_a_part_of_its_own_file_is_told(tmp_path):
    """Where one of five agents runs here with a file; not with all, many, or a data set of ours."""
    file = tmp_path / "my.npz"
    x, y = np.full((37, 8, 8), 255, np.uint8), np.arange(37) % 3
    np.savez(file, x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    five = {"agents__n": 5, "agents__samples": 0, "data__name": str(file)}
    population = simulated_agents_of(settings_of(agents__shard="1/5", **five))
    assert (
        population.holdings(population.check(), [0])
        == "1 agent holds 7 of the 37 samples of my.npz"
    )
    assert "trains on its share of " in population.hint([0])
    assert "fedjury.Device" in population.hint([0])
    for changes, here in (
        (five, range(5)),
        (five | {"data__name": "digits", "agents__shard": "1/5"}, [0]),
        (five | {"agents__n": 100, "agents__shard": "1/5"}, range(20)),
    ):
        assert simulated_agents_of(settings_of(**changes)).hint(here) == ""


def test_padding_is_no_repeated_sample():
    """Sizes far apart that share out the whole training set deal no sample twice."""
    population = simulated_agents_of(settings_of(agents__samples="lognormal(sigma=2)"))
    assert population.repeats(population.check()) == ""


def test_where_samples_weigh_their_cap_is_said():
    """One line where the rule is weighted by samples; none where all updates weigh the same."""
    said = "updates are weighted by the samples that agents report; more than 250 count as 250"
    weighted = {"aggregation__options": {"weighted": True}, "limits__samples": 250}
    assert any(line.startswith(said) for line in advice(settings_of(**weighted)))
    assert not any("weighted" in line for line in advice(settings_of()))
