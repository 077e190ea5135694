"""Who is in a fleet and who holds what: drawn once, the same for agents and aggregator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.federation import settings_of

from fedjury.config.sections import Dirichlet, LogNormal, Uniform
from fedjury.learning import datasets
from fedjury.learning.backdoors import Options
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.partition import PartitionSpec, partition, partition_spec_of
from fedjury.registry import ATTACKS

PLAN = PartitionSpec(
    n=20,
    malicious=0.2,
    attack="mpaf",
    malicious_validator_fraction=0.0,
    samples=10,
    split="iid",
    split_options={},
    server=0.0,
    task="label_flip",
    options=Options(),
    seed=0,
)
"""Four fakes of twenty; each of the others is dealt ten samples."""

SEMANTIC = {
    "attack": "backdoor",
    "task": "semantic",
    "options": Options(target=9, train=(0, 2, 4), test=(6, 8)),
}


def labelled(labels):
    """Make a data set with these training labels, and images that tell their place."""
    y = np.array(labels, dtype=np.int64)
    x = np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1, 1) / len(y)
    return Dataset("numbered", 10, x, y, x[:10], np.arange(10) % 10)


NUMBERED = labelled(np.arange(1000) % 10)
"""A thousand samples, a hundred of each class."""

plans = st.builds(
    PLAN._replace,
    n=st.integers(1, 40),
    malicious=st.floats(0, 1),
    attack=st.sampled_from(["mpaf", "backdoor"]),
    malicious_validator_fraction=st.floats(0, 1),
    samples=st.integers(0, 12),
    split=st.sampled_from(["iid", "dirichlet"]),
    server=st.just(0) | st.floats(0.001, 0.5),
    task=st.just("label_flip"),
    seed=st.integers(0, 9),
)


# Who is evil, and who lies


@settings(deadline=None)
@given(plans)
def test_the_numbers_of_evil_and_lying_agents_are_exact(plan):
    """Of n agents round(n * evil) are evil; of the others round(n * lying) lie, as far as any."""
    evils, liars = plan.malicious_agents, plan.malicious_validators
    assert len(evils) == round(plan.n * plan.malicious)
    assert liars <= set(range(plan.n))
    assert evils <= liars
    others = plan.n - len(evils)
    assert len(liars - evils) == min(others, round(plan.n * plan.malicious_validator_fraction))


@pytest.mark.parametrize(
    ("n", "evil", "count"), [(100, 0.2, 20), (1000, 0.01, 10), (7, 0, 0), (7, 1, 7), (10, 0.29, 3)]
)
def test_evil_ones_by_hand(n, evil, count):
    """Fractions that binary numbers only approach still give what is meant."""
    assert len(PLAN._replace(n=n, malicious=evil).malicious_agents) == count


@pytest.mark.parametrize("attack", ATTACKS)
def test_attackers_hold_data_and_fakes_do_not(attack):
    """All twenty hold data where the attack takes some; else the sixteen who are not fake."""
    plan = PLAN._replace(attack=attack)
    holding = ATTACKS.facts(attack).holds_data
    assert plan.holding is holding
    assert len(plan.holders) == (20 if holding else 16)
    assert set(plan.holders) == set(range(20)) - (set() if holding else plan.malicious_agents)
    assert plan.holders == sorted(plan.holders)
    rows = partition(plan, NUMBERED).agents
    assert rows.shape == (len(plan.holders), 10)


@pytest.mark.parametrize("attack", ATTACKS)
def test_only_who_is_armed_hides_a_backdoor(attack):
    """Others who hold data only train on it."""
    plan = PLAN._replace(attack=attack)
    assert plan.armed is ATTACKS.facts(attack).hides_backdoor
    assert (plan.arms() is not None) is plan.armed
    assert (partition(plan, NUMBERED).backdoor is not None) is plan.armed


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_ringleader_is_the_first_of_those_who_collude(attack):
    """The evil ones by name, in order of number, where the attack takes collusion; else nobody."""
    plan = PLAN._replace(attack=attack)
    numbers = sorted(plan.malicious_agents) if ATTACKS.facts(attack).colludes else []
    assert list(plan.colluding.items()) == [(plan.name(number), number) for number in numbers]
    assert plan._replace(malicious=0.0).colluding == {}


def test_draws_depend_on_the_seed_and_not_on_each_other():
    """Another seed is another fleet; liars beside them leave the evil ones who they are."""
    assert (
        PLAN.malicious_agents
        == PLAN._replace(malicious_validator_fraction=0.5, attack="backdoor").malicious_agents
    )
    assert PLAN.malicious_agents != PLAN._replace(seed=1).malicious_agents
    more, less = (
        PLAN._replace(malicious_validator_fraction=0.5),
        PLAN._replace(malicious_validator_fraction=0.2),
    )
    assert len(more.malicious_validators - PLAN.malicious_agents) == 10
    assert len(less.malicious_validators - PLAN.malicious_agents) == 4
    assert more.malicious_validators != more._replace(seed=1).malicious_validators


# Who holds what


@settings(deadline=None, max_examples=50)
@given(plans.filter(lambda plan: plan.n * plan.samples <= 400))
def test_nobody_holds_what_another_does(plan):
    """The server's samples and all agents' are disjoint while there are enough for all."""
    holdings = partition(plan._replace(split="iid"), NUMBERED)
    together = np.concatenate([holdings.server, holdings.agents.ravel()])
    assert len(holdings.server) == round(1000 * plan.server)
    assert len(np.unique(together)) == len(together)
    assert set(together.tolist()) <= set(range(1000))


@pytest.mark.parametrize("samples", [0, 20])
def test_server_agents_and_backdoor_share_nothing(samples):
    """What a semantic backdoor reserves is dealt to nobody; no sample is held twice."""
    plan = PLAN._replace(server=0.1, samples=samples, **SEMANTIC)
    holdings = partition(plan, NUMBERED)
    assert len(holdings.server) == 100
    each = samples or (1000 - 5 - 100) // 20
    assert holdings.agents.shape == (20, each)
    held = np.concatenate([holdings.server, holdings.agents.ravel(), [0, 2, 4, 6, 8]])
    assert len(np.unique(held)) == len(held) == 100 + 20 * each + 5


def test_all_is_shared_out_but_what_the_server_keeps():
    """With samples = 0: of 1,000 the server keeps 300, and twenty agents hold 35 each."""
    plan = PLAN._replace(malicious=0.0, samples=0, server=0.3)
    holdings = partition(plan, NUMBERED)
    assert (len(holdings.server), holdings.agents.shape) == (300, (20, 35))
    everything = np.concatenate([holdings.server, holdings.agents.ravel()])
    assert sorted(everything.tolist()) == list(range(1000))


def test_fakes_take_no_share():
    """With samples = 0 the sixteen genuine ones hold what the twenty would: 62 each."""
    assert partition(PLAN._replace(samples=0), NUMBERED).agents.shape == (16, 62)
    armed = PLAN._replace(samples=0, attack="backdoor")
    assert partition(armed, NUMBERED).agents.shape == (20, 50)


def test_the_server_s_share_does_not_depend_on_the_fleet():
    """It is drawn from the seed for itself: more agents or liars change none of its samples."""
    first = partition(PLAN._replace(server=0.1), NUMBERED).server
    for other in (
        PLAN._replace(n=40),
        PLAN._replace(malicious_validator_fraction=0.3),
        PLAN._replace(attack="backdoor"),
    ):
        np.testing.assert_array_equal(partition(other._replace(server=0.1), NUMBERED).server, first)
    again = partition(PLAN._replace(server=0.1, seed=1), NUMBERED).server
    assert not np.array_equal(again, first)


@pytest.mark.parametrize("share", [1e-9, 0.0004, 0.0005])
def test_a_server_that_would_keep_nothing_is_told(share):
    """Of 1,000 samples .0004 is none: it is refused, as it could not judge; .0006 is one."""
    with pytest.raises(ValueError, match=f"data.server = {share:g} of 1,000 samples is less than"):
        partition(PLAN._replace(server=share), NUMBERED)
    assert len(partition(PLAN._replace(server=0.0006), NUMBERED).server) == 1


def test_without_a_server_nothing_is_kept_back():
    """A share of 0 leaves the fleet as it was before there were servers that judge."""
    holdings = partition(PLAN, NUMBERED)
    assert len(holdings.server) == 0
    assert (holdings.backdoor, len(holdings.pool)) == (None, 0)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if ATTACKS.facts(a).hides_backdoor])
def test_the_attackers_pool_is_what_they_hold_together(attack):
    """The rows of the evil ones, in order of their numbers; the source is what they have most."""
    plan = PLAN._replace(attack=attack)
    holdings = partition(plan, NUMBERED)
    rows = [plan.holders.index(number) for number in sorted(plan.malicious_agents)]
    np.testing.assert_array_equal(holdings.pool, holdings.agents[rows].ravel())
    counts = np.bincount(NUMBERED.y_train[holdings.pool], minlength=10)
    assert holdings.backdoor.source == counts.argmax()


def test_attackers_who_are_none_have_no_backdoor():
    """With evil = 0 an attack that takes data is nobody's: all are dealt theirs."""
    holdings = partition(PLAN._replace(attack="backdoor", malicious=0.0), NUMBERED)
    assert (holdings.backdoor, len(holdings.pool), len(holdings.agents)) == (None, 0, 20)


def test_the_same_plan_is_dealt_the_same():
    """Agents and aggregator, who each deal for themselves, come to the same."""
    plan = PLAN._replace(server=0.1, split="dirichlet", **SEMANTIC)
    one, other = partition(plan, NUMBERED), partition(plan, NUMBERED)
    np.testing.assert_array_equal(one.server, other.server)
    np.testing.assert_array_equal(one.agents, other.agents)


def test_a_server_that_would_keep_all_leaves_one():
    """Of ten samples a share of .9, five of them reserved: four, and one for the agents."""
    few = labelled(np.arange(10))
    holdings = partition(PLAN._replace(server=0.9, samples=1, n=1, malicious=1.0, **SEMANTIC), few)
    assert (len(holdings.server), holdings.agents.shape) == (4, (1, 1))


def test_a_plan_is_read_from_the_settings():
    """What the fleet is comes from the sections agents, data and backdoor, and the seed."""
    given_settings = settings_of(
        agents__n=30,
        agents__malicious=0.1,
        agents__attack="adaptive",
        agents__malicious_validators=0.2,
        agents__samples="uniform(7, 9)",
        agents__split="dirichlet",
        agents__alpha=0.5,
        data__server=0.25,
        backdoor__task="semantic",
        backdoor__target=3,
        backdoor__train=[1],
        backdoor__test=[2, 3],
        run__seed=9,
    )
    assert partition_spec_of(given_settings) == PartitionSpec(
        n=30,
        malicious=0.1,
        attack="adaptive",
        malicious_validator_fraction=0.2,
        samples=Uniform(7, 9),
        split="dirichlet",
        split_options={"alpha": 0.5},
        server=0.25,
        task="semantic",
        options=Options(-1, 3, (1,), (2, 3)),
        seed=9,
    )


SIZES = [Uniform(3, 17), LogNormal(10), Dirichlet(10, alpha=0.5), LogNormal(10, least=2)]


@pytest.mark.parametrize("split", ["iid", "dirichlet"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_agents_may_hold_unequal_numbers(sizes, split):
    """An agent's row holds its samples first, then repeats; nobody holds what another holds."""
    options = {"alpha": 0.5} if split == "dirichlet" else {}
    plan = PLAN._replace(n=60, malicious=0.1, samples=sizes, split=split, split_options=options)
    whole = partition(plan._replace(attack="label_flip"), NUMBERED)
    assert whole.agents.shape == (60, whole.held.max())
    for row, held in zip(whole.agents, whole.held, strict=True):
        assert len(np.unique(row[:held])) == held
        assert set(row[held:]) <= set(row[:1] if held else row)
    assert len(whole.pool) == sum(whole.held[list(plan.malicious_agents)])
    assert len(whole.dealt) == sum(whole.held)
    if split == "iid":
        assert len(np.unique(whole.dealt)) == len(whole.dealt) <= 1000
    assert len(partition(plan, NUMBERED).held) == 54  # fakes hold none


@pytest.mark.parametrize("sizes", [LogNormal(), Dirichlet(), LogNormal(sigma=3)], ids=str)
def test_unequal_shares_of_all_that_there_is(sizes):
    """Without a mean the whole training set is shared out: each sample is held by one agent."""
    whole = partition(PLAN._replace(malicious=0.0, samples=sizes), NUMBERED)
    assert sorted(whole.dealt) == list(range(1000))


def test_an_agent_without_samples_is_named():
    """Who holds none, by number in the fleet: it is no fake, and the usual size is of the others.

    Of twenty agents four are fakes; the sixteen others are dealt 20 samples by Dir(0.05).
    """
    plan = PLAN._replace(samples=Dirichlet(1.25, alpha=0.05))
    whole = partition(plan, NUMBERED)
    assert whole.held.sum() == 20
    empty = whole.empty(plan)
    assert 0 < len(empty) < 16
    assert {plan.holders[row] for row in np.flatnonzero(whole.held == 0)} == empty
    assert empty.isdisjoint(plan.malicious_agents)
    some = sorted(whole.held[whole.held > 0])
    assert whole.usual == int(np.median(some)) > 0
    assert whole.fewest() == some[0]
    assert whole.fewest(np.flatnonzero(whole.held == 0)) == 0


def test_sizes_do_not_depend_on_how_data_are_split():
    """They are drawn for themselves, from the seed alone."""
    plan = PLAN._replace(samples=LogNormal(10))
    other = plan._replace(split="groups", server=0.1)
    np.testing.assert_array_equal(partition(plan, NUMBERED).held, partition(other, NUMBERED).held)
    again = partition(plan._replace(seed=1), NUMBERED).held
    assert not np.array_equal(partition(plan, NUMBERED).held, again)


def test_names_sort_like_numbers():
    """Names have as many digits as the last one needs."""
    for n, number, name in ((11, 3, "agent-03"), (10, 9, "agent-9"), (1, 0, "agent-0")):
        assert PLAN._replace(n=n).name(number) == name


def test_real_data_are_dealt_whole():
    """Of the 1,297 digits, the server keeps 130 and each of twenty agents holds 58."""
    data = datasets.load("digits", None, 500)
    holdings = partition(PLAN._replace(malicious=0.0, samples=0, server=0.1), data)
    assert (len(holdings.server), holdings.agents.shape) == (130, (20, 58))
    held = np.concatenate([holdings.server, holdings.agents.ravel()])
    assert len(np.unique(held)) == len(held)
