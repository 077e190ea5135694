"""Agents: what they do with what they hear, what a cohort learns, and what fakes send."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.federation import one_thread, settings_of, simulated_agents_of  # noqa: F401 - a fixture
from support.worlds import TASK, D, start_weights, world

from fedjury import attacks, rules
from fedjury.agents import agent_batch as cohort_module
from fedjury.agents.agent import (
    Agent,
    Contribute,
    Fetch,
    Judge,
    JudgeGroups,
    Train,
    concerned,
    groups_given,
    on_message,
)
from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.batch_assembly import MismatchError, assemble
from fedjury.aggregator.assembly import build
from fedjury.attacks import ATTACKS, Collusion, RoundContext, idle_until
from fedjury.attacks.colluding import carried_out
from fedjury.attacks.honest import honest
from fedjury.judges.judgements import Judgements
from fedjury.learning import models
from fedjury.learning.error_profiles import error_profile
from fedjury.learning.evaluation import predict
from fedjury.learning.partition import partition
from fedjury.learning.shards import sample_order
from fedjury.learning.training import Training, train_alone
from fedjury.protocol.call import Selection
from fedjury.protocol.compression import as_received
from fedjury.protocol.messages import (
    Candidate,
    GroupCandidate,
    GroupHistory,
    History,
    Model,
    Phase,
    Presence,
    Round,
    Update,
    Vote,
)
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

W = np.zeros(2, dtype=np.float32)


def training(number=1, attempt=1, version=0, contributors="all", validators_=()):
    return Round(number, attempt, Phase.TRAIN, version, contributors, validators_, 9.0)


def voting(number=1, attempt=1, version=0, validators_=("me",), contributors="all"):
    return Round(number, attempt, Phase.VALIDATE, version, contributors, validators_, 9.0)


def both(number=2, attempt=1, version=0, contributors="all"):
    return Round(number, attempt, Phase.JUDGE_AND_TRAIN, version, contributors, (), 9.0)


def tell(agent, *messages):
    """Let an agent hear messages; returns it and the tasks that came of each."""
    tasks = []
    for message in messages:
        agent, task = on_message(agent, message)
        tasks.append(task)
    return agent, tasks


def manifest(**changes):
    return build(settings_of(**changes)).manifest


# One agent


DONE = Round(1, 1, Phase.DONE, 0, "all", ("me",), 0.0)

TRAINS = {
    "model before round": ([Model(0, W), training()], [None, Train(1, 1, 0)]),
    "round before model": ([training(), Model(0, W)], [None, Train(1, 1, 0)]),
    "called by name": ([Model(0, W), training(contributors=("me",))], [None, Train(1, 1, 0)]),
    "not called": ([Model(0, W), training(contributors=("you", "mee"))], [None, None]),
    "nobody called": ([Model(0, W), training(contributors=())], [None, None]),
    "an old model": ([Model(3, W), training(4, version=4)], [None, None]),
    "then the right one": (
        [Model(3, W), training(4, version=4), Model(4, W)],
        [None, None, Train(4, 1, 4)],
    ),
    "a history is no model": ([History(0, W), training()], [None, None]),
    "the round twice": ([Model(0, W), training(), training()], [None, Train(1, 1, 0), None]),
    "the model twice": ([training(), Model(0, W), Model(0, W)], [None, Train(1, 1, 0), None]),
    "a new attempt": (
        [Model(0, W), training(), training(attempt=2), training(attempt=2)],
        [None, Train(1, 1, 0), Train(1, 2, 0), None],
    ),
    "a rejected round": (
        [Model(0, W), training(), voting(validators_=()), training(2)],
        [None, Train(1, 1, 0), None, Train(2, 1, 0)],
    ),
    "a candidate is no model": ([Candidate(1, 1, 0, W), training()], [None, None]),
    "an accepted round": (
        [Model(0, W), training(), Model(1, W), training(2, version=1)],
        [None, Train(1, 1, 0), None, Train(2, 1, 1)],
    ),
    "next round before its model": (
        [Model(0, W), training(), training(2, version=1), Model(1, W)],
        [None, Train(1, 1, 0), None, Train(2, 1, 1)],
    ),
    "no training while others vote": ([Model(0, W), voting(validators_=("you",))], [None, None]),
    "the run is done": ([Model(0, W), DONE], [None, None]),
    "what is not for agents": (
        [Presence("you", True, 0.0), Update("me", 1, 0, 4, W), Vote("me", 1, 1, True, 1, 0, 4)],
        [None, None, None],
    ),
}


@pytest.mark.parametrize("case", TRAINS)
def test_when_an_agent_trains(case):
    """It trains when it is called and holds the version it is called for, once an attempt."""
    messages, expected = TRAINS[case]
    assert tell(Agent("me"), *messages)[1] == expected


ACCEPTED = [Model(0, W), Model(1, W), Model(2, W)]
LOOK = (0, 1, 2)

JUDGES = {
    "candidate before round": (
        [*ACCEPTED, Candidate(3, 1, 2, W), voting(3, version=2)],
        Judge(3, 1, LOOK),
    ),
    "round before candidate": (
        [*ACCEPTED, voting(3, version=2), Candidate(3, 1, 2, W)],
        Judge(3, 1, LOOK),
    ),
    "no candidate yet": ([*ACCEPTED, voting(3, version=2)], Fetch((), candidate=True)),
    "another round's candidate": (
        [*ACCEPTED, Candidate(2, 1, 2, W), voting(3, version=2)],
        Fetch((), candidate=True),
    ),
    "another attempt's candidate": (
        [*ACCEPTED, Candidate(3, 1, 2, W), voting(3, 2, 2)],
        Fetch((), candidate=True),
    ),
    "neither candidate nor history": (
        [Model(2, W), voting(3, version=2)],
        Fetch((0, 1), candidate=True),
    ),
    "a second attempt": ([*ACCEPTED, Candidate(3, 2, 2, W), voting(3, 2, 2)], Judge(3, 2, LOOK)),
    "no validator": ([*ACCEPTED, Candidate(3, 1, 2, W), voting(3, 1, 2, ("you",))], None),
    "not yet voting": ([*ACCEPTED, Candidate(3, 1, 2, W), training(3, 1, 2, ())], None),
    "a late comer": ([Model(2, W), Candidate(3, 1, 2, W), voting(3, version=2)], Fetch((0, 1))),
    "a gap": (
        [Model(0, W), Model(2, W), Candidate(3, 1, 2, W), voting(3, version=2)],
        Fetch((1,)),
    ),
    "a candidate alone": ([Candidate(3, 1, 2, W), voting(3, version=2)], Fetch(LOOK)),
    "nothing at all": ([voting(3, version=2)], Fetch(LOOK, candidate=True)),
    "done with it": ([*ACCEPTED, Candidate(3, 1, 2, W), DONE], None),
    "no more than the look-back": (
        [Model(9, W), Candidate(10, 1, 9, W), voting(10, version=9)],
        Fetch((7, 8)),
    ),
    "a young run": ([Model(0, W), Candidate(1, 1, 0, W), voting(1, version=0)], Judge(1, 1, (0,))),
}


@pytest.mark.parametrize("case", JUDGES)
def test_when_a_validator_judges(case):
    """It needs its turn, the candidate and the last l + 1 models; it asks for missing ones."""
    messages, expected = JUDGES[case]
    assert tell(Agent("me", look_back=2), *messages)[1][-1] == expected


def test_a_validator_waits_for_what_it_lacks():
    """It asks once, judges when the last missing thing is there, and votes once."""
    messages = [
        Model(2, W),
        voting(3, version=2),
        voting(3, version=2),
        History(1, W),
        Candidate(3, 1, 2, W),
        History(0, W),
        History(0, W),
        voting(3, version=2),
        Candidate(3, 1, 2, W),
    ]
    _, tasks = tell(Agent("me", look_back=2), *messages)
    judge, fetch = Judge(3, 1, LOOK), Fetch((0, 1), candidate=True)
    assert tasks == [None, fetch, None, None, None, judge, None, None, None]


def test_a_later_attempt_is_asked_for_anew():
    """What came for the first attempt is no candidate of the second; history is not lost."""
    _, tasks = tell(
        Agent("me", look_back=2),
        *ACCEPTED,
        voting(3, 1, 2),
        Candidate(3, 1, 2, W),
        voting(3, 2, 2),
        Candidate(3, 2, 2, W),
    )
    fetch = Fetch((), candidate=True)
    assert tasks[3:] == [fetch, Judge(3, 1, LOOK), fetch, Judge(3, 2, LOOK)]


def on_groups(number=3, attempt=1, version=2, names=("you", "me"), groups=3, each=0):
    return Round(
        number,
        attempt,
        Phase.VALIDATE_GROUPS,
        version,
        "all",
        names,
        9.0,
        groups=groups,
        each=each,
    )


def candidates(*groups, number=3, attempt=1):
    """Return the candidates of these groups."""
    return [GroupCandidate(group, number, attempt, 2, W) for group in groups]


PAST_GROUPS = [GroupHistory(version, W) for version in LOOK]

JUDGES_GROUPS = {
    "all is here": ([*PAST_GROUPS, *candidates(0, 1, 2), on_groups()], JudgeGroups(3, 1, LOOK)),
    "nothing is": ([on_groups()], Fetch((), groups=(0, 1, 2), group_versions=LOOK)),
    "accepted models are of no use": (
        [*ACCEPTED, on_groups()],
        Fetch((), groups=(0, 1, 2), group_versions=LOOK),
    ),
    "a gap": (
        [*PAST_GROUPS[::2], *candidates(0, 2), on_groups()],
        Fetch((), groups=(1,), group_versions=(1,)),
    ),
    "another attempt's groups": (
        [*PAST_GROUPS, *candidates(0, 1, 2), on_groups(attempt=2)],
        Fetch((), groups=(0, 1, 2)),
    ),
    "the second of two judges two of three": (
        [*PAST_GROUPS, *candidates(0), on_groups(each=2)],
        Fetch((), groups=(2,)),
    ),
    "those are all it needs": (
        [*PAST_GROUPS, *candidates(0, 2), on_groups(each=2)],
        JudgeGroups(3, 1, LOOK),
    ),
    "no validator": ([*PAST_GROUPS, *candidates(0, 1, 2), on_groups(names=("you",))], None),
    "there are no groups": ([*PAST_GROUPS, on_groups(groups=0)], None),
    "there are none for each either": ([*PAST_GROUPS, on_groups(groups=0, each=2)], None),
}


@pytest.mark.parametrize("case", JUDGES_GROUPS)
def test_when_a_validator_judges_groups(case):
    """It needs its turn, the candidates of its groups and one group of each accepted model."""
    messages, expected = JUDGES_GROUPS[case]
    assert tell(Agent("me", look_back=2), *messages)[1][-1] == expected


def test_groups_are_judged_once_in_an_attempt_and_the_candidate_after_them():
    """Said twice, a round of groups has one answer; then the run may vote on both."""
    messages = [*PAST_GROUPS, *candidates(0, 1, 2), *ACCEPTED, on_groups(), on_groups()]
    agent, tasks = tell(Agent("me", look_back=2), *messages)
    assert tasks[-2:] == [JudgeGroups(3, 1, LOOK), None]
    _, tasks = tell(agent, voting(3, version=2), Candidate(3, 1, 2, W), *candidates(1))
    assert tasks == [Fetch((), candidate=True), Judge(3, 1, LOOK), None]


def test_who_listens_for_many_needs_the_groups_of_all_of_them():
    """Of four groups, two each, the first and the third validator judge 0 and 1, and 0 and 1."""
    ear = Agent(":ear", shares=frozenset({"a", "c", "d"}))
    asked = on_groups(names=("a", "b", "c"), groups=4, each=2)
    assert groups_given(ear, asked) == {"a": (0, 1), "c": (0, 1)}
    assert tell(ear, asked)[1] == [Fetch((), groups=(0, 1), group_versions=(2,))]


CONTRIBUTES = {
    "called": (both(3, 1, 2), Contribute(3, 1, LOOK)),
    "called by name": (both(3, 1, 2, ("me", "you")), Contribute(3, 1, LOOK)),
    "not called": (both(3, 1, 2, ("you",)), None),
    "nobody called": (both(3, 1, 2, ()), None),
    "another attempt": (both(3, 2, 2), Fetch((), candidate=True)),
}


@pytest.mark.parametrize("case", CONTRIBUTES)
def test_when_a_contributor_judges_and_trains(case):
    """Where it is to do both, it takes candidate and history, and not being a validator."""
    message, expected = CONTRIBUTES[case]
    told = [*ACCEPTED, Candidate(3, 1, 2, W), message]
    assert tell(Agent("me", look_back=2), *told)[1][-1] == expected


def test_a_contributor_answers_once():
    """After judging and training it does neither again for that attempt."""
    agent, tasks = tell(Agent("me"), Model(0, W), both(), Candidate(2, 1, 0, W), both())
    assert tasks == [None, Fetch((), candidate=True), Contribute(2, 1, (0,)), None]
    again = [manifest(), Candidate(2, 1, 0, W), both()]  # of an aggregator that began again
    assert tell(agent, *again)[1][-1] == Contribute(2, 1, (0,))
    after = [training(3), Model(1, W)]  # voted down; a plain round
    assert tell(agent, *after)[1] == [Train(3, 1, 0), None]


def test_who_does_not_remember_fetches_all_each_time():
    """It takes models to train from, but for each vote the whole look-back comes again."""
    forgetful = Agent("me", look_back=2, remember=False)
    agent, tasks = tell(forgetful, *ACCEPTED, training(3, 1, 2), voting(3, version=2))
    assert tasks[3:] == [Train(3, 1, 2), Fetch(LOOK, candidate=True)]
    came = [Candidate(3, 1, 2, W), *(History(version, W) for version in LOOK)]
    agent, tasks = tell(agent, *came)
    assert tasks == [None, None, None, Judge(3, 1, LOOK)]
    _, tasks = tell(agent, Model(3, W), voting(4, version=3))
    assert tasks == [None, Fetch((1, 2, 3), candidate=True)]


def test_an_agent_does_not_remember_every_version():
    """Old versions are forgotten with each new model: three stay with l = 2."""
    agent, _ = tell(Agent("me", look_back=2), *(Model(v, W) for v in range(100)))
    assert agent.seen == {97, 98, 99}


def test_an_aggregator_that_begins_anew_is_answered_again():
    """It repeats manifest, model and round after a crash: those who had answered do so again.

    Not before the round is opened again, however: until then nobody would take the answer.
    """
    agent, tasks = tell(
        Agent("me", look_back=2),
        Model(0, W),
        training(),
        manifest(),
        Model(0, W),
        training(),
    )
    assert tasks == [None, Train(1, 1, 0), None, None, Train(1, 1, 0)]
    again = [Candidate(1, 1, 0, W), voting(), manifest(), Model(0, W), training()]
    _, tasks = tell(agent, *again, *again[:2])
    judge, train = Judge(1, 1, (0,)), Train(1, 1, 0)
    assert tasks == [None, judge, None, None, train, None, judge]


def test_a_candidate_is_fetched_again_after_the_aggregator_began_anew():
    """With other updates in time it may have made another one, which it calls by the same turn."""
    agent, _ = tell(Agent("me"), Model(0, W), training(), voting(), Candidate(1, 1, 0, W))
    _, tasks = tell(agent, manifest(), Model(0, W), training(), voting(), Candidate(1, 1, 0, W + 1))
    assert tasks[-3:] == [Train(1, 1, 0), Fetch((), candidate=True), Judge(1, 1, (0,))]


def test_a_manifest_does_not_hide_a_round_that_waits_for_its_model():
    """A newcomer's retained messages may come in any order."""
    for messages in (
        [training(), manifest(), Model(0, W)],
        [manifest(), training(), Model(0, W)],
        [Model(0, W), manifest(), training()],
    ):
        assert tell(Agent("me"), *messages)[1][-1] == Train(1, 1, 0)


def test_agents_that_share_a_downlink_are_one_in_what_they_hear():
    """One of a shared downlink's agents is called: it trains; nobody is: nobody does."""
    shared = Agent(":agents-0", shares=frozenset({"me", "you"}))
    assert tell(shared, Model(0, W), training(contributors=("you", "else")))[1][-1] == Train(
        1, 1, 0
    )
    assert tell(shared, Model(0, W), training(contributors=("else",)))[1][-1] is None


def test_who_is_concerned():
    """An agent stands for itself; a shared downlink for those who share it."""
    alone, shared = Agent("me"), Agent(":agents-0", shares=frozenset({"me", "you"}))
    assert list(concerned(alone, Selection("all"))) == ["me"]
    assert list(concerned(alone, Selection(("me",)))) == ["me"]
    assert list(concerned(alone, Selection(("you",)))) == []
    assert set(concerned(shared, Selection("all"))) == {"me", "you"}
    assert list(concerned(shared, Selection(("else", "you")))) == ["you"]


# The population


@pytest.mark.parametrize("cuts", [[0, 20], [0, 7, 20], [0, 1, 2, 19, 20], [0, 10, 10, 20]])
@pytest.mark.parametrize("split", ["iid", "dirichlet"])
@pytest.mark.parametrize("attack", ["mpaf", "backdoor", "alie"])
def test_a_fleet_is_the_same_however_it_is_cut(cuts, split, attack):
    """Every part holds its own members with the data and the behaviour that the whole has."""
    population = simulated_agents_of(
        settings_of(
            agents__malicious=0.3,
            agents__split=split,
            agents__attack=attack,
            agents__malicious_validators=0.2,
        )
    )
    described = manifest()
    whole = assemble(population, population.check(), range(20), described)
    holders, evil, liars, held = [], [], set(), []
    for start, stop in itertools.pairwise(cuts):
        part = assemble(population, population.check(), range(start, stop), described)
        holders += part.members.holders
        evil += part.members.malicious
        liars |= part.members.malicious_validators
        held.append(part.profiles.data.indices)
    assert tuple(holders) == whole.members.holders
    assert tuple(evil) == whole.members.malicious
    assert [member.number for member in holders] == population.spec.holders
    assert {member.number for member in evil} == population.without_data
    assert (
        liars
        == whole.members.malicious_validators
        == set(map(population.name, population.spec.malicious_validators))
    )
    assert set(population.colluders.colluding) == (
        set() if attack != "alie" else {m.name for m in evil}
    )
    assert torch.equal(torch.cat(held), whole.profiles.data.indices)


def test_a_fleet_of_fakes_alone():
    """With evil = 1 nobody has data, and everybody attacks and lies."""
    population = simulated_agents_of(
        settings_of(agents__n=5, agents__malicious=1.0, agents__scale=2.0)
    )
    fakes = assemble(population, population.check(), range(5), manifest())
    assert fakes.members.holders == ()
    fakes.keep(0, np.zeros(2410, dtype=np.float32))
    fakes.begin(training())
    while fakes.train_chunk():
        pass
    sent = [fakes.update(f"agent-{i}", Train(1, 1, 0)) for i in range(5)]
    assert all(np.array_equal(u.delta, sent[0].delta) for u in sent)
    assert np.abs(sent[0].delta).max() > 0.1
    assert len(fakes.votes(["agent-0"], Judge(1, 1, (0,)), np.zeros(2410, np.float32))) == 1


def test_all_data_are_dealt_where_no_number_is_given():
    """With samples = 0 the training set is shared out evenly: 1,297 / 20 = 64 each."""
    population = simulated_agents_of(settings_of(agents__samples=0))
    dealt = partition(population.spec, population.check()).agents
    assert dealt.shape == (20, 64)
    assert len(np.unique(dealt)) == 20 * 64


@pytest.mark.parametrize(
    "told",
    [{"model": "os:system"}, {"judge": "os:system", "judge_options": {"command": "exit 1"}}],
)
def test_a_manifest_makes_agents_import_nothing(told):
    """Whoever may publish a manifest, forged or not, cannot name what runs here."""
    ours = simulated_agents_of(settings_of())
    with pytest.raises(MismatchError, match="'os:system' is not imported because a message"):
        assemble(ours, ours.check(), range(20), replace(manifest(), **told))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__name": "mnist5k"}, r"inputs \(1, 28, 28\) of 10 classes, data set 'digits' has"),
        ({"tensors": ()}, "this program's model 'mlp' is not the one of the run's manifest"),
    ],
)
def test_a_fleet_that_does_not_fit_the_run_is_explained(changes, message):
    """Other data or another network than the aggregator's is one sentence."""
    ours = simulated_agents_of(settings_of())
    theirs = replace(manifest(), **changes) if "tensors" in changes else manifest(**changes)
    with pytest.raises(MismatchError, match=message):
        assemble(ours, ours.check(), range(20), theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "honest"}, "'honest' is not an attack"),
        ({"attack": "mpav"}, "unknown attack: 'mpav'; did you mean 'mpaf'"),
        (
            {"attack": "sign_flip", "options": {"facto": 2.0}},
            "hyper-parameter of attack 'sign_flip': 'facto'; did you mean 'factor'. valid: factor",
        ),
        ({"attack": "label_flip", "options": {"world": 1}}, "'world'; valid: none"),
        ({"attack": "alie", "options": {"z": "1"}}, "z of attack 'alie' must be float, not '1'"),
        (
            {"attack": "min_max", "options": {"deviation": "stt"}},
            "unknown deviation: 'stt'; did you mean 'std'. valid: std, sign, unit",
        ),
        ({"attack": "mpaf", "options": {"scale": 2.0}}, "'scale'; valid: none"),
        ({"vote_attack": "always_accep"}, "did you mean 'always_accept'"),
        ({"split": "idd"}, "did you mean 'iid'"),
        ({"split_options": {"alpha": 1}}, "split 'iid': 'alpha'; valid: none"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"attack": "backdoor", "task": "label_flop"}, "did you mean 'label_flip'"),
        ({"attack": "backdoor", "task": "semantic"}, "'semantic' needs a target, and samples"),
    ],
)
def test_mistakes_are_explained_before_anybody_connects(changes, message):
    """Names are checked when the fleet is described."""
    population = simulated_agents_of(settings_of())
    plan = {key: value for key, value in changes.items() if key in population.spec._fields}
    plan.pop("options", None)  # of the attack; the plan's are the backdoor's
    kept = {key: value for key, value in changes.items() if key in ("options", "vote_attack")}
    settings = population.settings
    rest = {"agents": settings.agents.replaced(**kept)}
    if "data" in changes:
        rest["data"] = settings.data.replaced(name=changes["data"])
    spec = population.spec._replace(**plan)
    with pytest.raises(ValueError, match=message):
        population._replace(spec=spec, settings=settings.replaced(**rest)).check()


# The cohort


MIXED = {"agents__malicious": 0.2, "agents__scale": 3.0, "agents__vote_attack": "always_reject"}


def small_cohort(look_back=2, **changes):
    """Assemble twenty agents and give them version 0; returns the cohort and its weights."""
    given_settings = settings_of(validation__look_back=look_back, **MIXED | changes)
    parts = build(given_settings)
    population = simulated_agents_of(given_settings)
    made = assemble(population, population.check(), range(20), parts.manifest)
    made.keep(0, parts.model.read())
    return made, parts.model.read()


def learnt(made, message):
    """Train all that a round asks for; returns the updates by name."""
    made.begin(message)
    while made.train_chunk():
        pass
    task = Train(message.round, message.attempt, message.version)
    names = [m.name for m in (*made.members.holders, *made.members.malicious)]
    return {u.agent: u for name in names if (u := made.update(name, task))}


def test_a_candidate_of_nan_is_judged_and_trained_from_once():
    """Each member hears of it for itself; that NaN is not equal to itself makes it no other."""
    made, weights = small_cohort(agents__vote_attack="always_accept")
    heard = (
        Round(2, 1, Phase.JUDGE_AND_TRAIN, 0, "all", (), 60.0),
        Contribute(2, 1, (0,)),
        np.full_like(weights, np.nan),
    )
    made.contribute(*heard)
    while made.train_chunk():
        pass
    made.contribute(*heard)
    assert made.train_chunk() == []
    assert len(made.deltas) == 20


def test_an_update_is_what_its_member_learns_alone():
    """Each genuine member's delta is that of torch's own SGD on its data, with its own order."""
    made, weights = small_cohort(training__epochs=2, training__momentum=0.5)
    model = models.build("mlp", (1, 8, 8), 10, seed=5)
    plan = Training(2, 10, 0.2, 0.5)
    sent = learnt(made, training(4))
    assert len(sent) == 20
    for row, member in enumerate(made.members.holders):
        own = made.profiles.data._replace(indices=made.profiles.data.indices[row : row + 1])
        alone = train_alone(
            model, weights, own, plan, sample_order(0, 4, (member.number,), 2, 40), TASK
        )[0]
        update = sent[member.name]
        assert (update.round, update.version, update.samples) == (4, 0, 40)
        np.testing.assert_allclose(update.delta, alone, rtol=1e-3, atol=1e-5)


def test_a_member_learns_the_same_whoever_else_is_called():
    """Alone or among all, in chunks of three or of a hundred: the same up to rounding."""
    everybody = learnt(small_cohort()[0], training())
    name = small_cohort()[0].members.holders[4].name
    alone = learnt(small_cohort()[0], training(contributors=(name,)))
    assert list(alone) == [name]
    np.testing.assert_allclose(alone[name].delta, everybody[name].delta, rtol=1e-3, atol=1e-6)


def test_who_is_called_with_a_member_changes_no_bit_of_what_it_learns():
    """One of twenty, four, or all of them: the same bits, on this machine's products at least."""
    everybody = learnt(small_cohort()[0], training())
    names = [member.name for member in small_cohort()[0].members.holders]
    for called in (names[4:5], names[::4], names[1:]):
        some = learnt(small_cohort()[0], training(contributors=tuple(called)))
        assert {n: u.delta.tobytes() for n, u in some.items()} == {
            n: everybody[n].delta.tobytes() for n in called
        }


def test_small_chunks_are_put_together(monkeypatch):
    """With few called, members of several chunks train in one batch, but no more than a chunk."""
    monkeypatch.setattr(cohort_module, "CHUNK", 4)
    members = [cohort_module.Member(f"m{n}", n) for n in (0, 5, 6, 9, 12, 13, 14, 15, 16, 18)]
    assert [[m.number for m in chunk] for chunk in cohort_module.chunks(members)] == [
        [0, 5, 6, 9],
        [12, 13, 14, 15],
        [16, 18],
    ]


def test_the_same_call_gives_the_same_bits():
    """Two cohorts of one seed agree in every bit; another round or seed is another order."""
    first, second = (learnt(small_cohort()[0], training()) for _ in range(2))
    for name, update in first.items():
        assert update.delta.tobytes() == second[name].delta.tobytes()
    name = small_cohort()[0].members.holders[0].name
    assert not np.array_equal(first[name].delta, learnt(small_cohort()[0], training(2))[name].delta)


def test_small_chunks_give_the_same_updates(monkeypatch):
    """Members train with those whose numbers are near, fakes apart: chunks of three do as well."""
    whole = learnt(small_cohort()[0], training())
    monkeypatch.setattr(cohort_module, "CHUNK", 3)
    made, _ = small_cohort()
    made.begin(training())
    chunks = 0
    while made.train_chunk():
        chunks += 1
    members = made.members.holders, made.members.malicious
    assert chunks == sum(len(list(cohort_module.chunks(some))) for some in members) > 2
    for name, update in whole.items():
        again = made.update(name, Train(1, 1, 0))
        np.testing.assert_allclose(again.delta, update.delta, rtol=1e-3, atol=1e-6)


def counting(made):
    """Count what the cohort's honest learner trains: a list of the members of each call."""
    calls = []
    learn = made.members.train

    def counted(weights, called):
        calls.append(called.members)
        return learn(weights, called)

    made.members = made.members._replace(train=counted)
    return calls


def test_a_second_attempt_sends_the_same_again():
    """What was learnt for a round is sent again, bit for bit, without training."""
    made, _ = small_cohort()
    calls = counting(made)
    first = learnt(made, training())
    again = learnt(made, training(attempt=2))
    assert len(calls) == 1
    for name, update in first.items():
        assert again[name].delta.tobytes() == update.delta.tobytes()


def test_who_is_called_at_a_second_attempt_only_trains_then():
    """When agents vanish, a repeated round may call others: they train, nobody trains twice."""
    made, _ = small_cohort()
    calls = counting(made)
    first, second = [m.name for m in made.members.holders[:2]]
    assert list(learnt(made, training(contributors=(first,)))) == [first]
    assert set(learnt(made, training(attempt=2, contributors=(first, second)))) == {first, second}
    assert [len(members) for members in calls] == [1, 1]


def test_old_news_does_not_disturb_a_round():
    """A member with a slower connection hears of a round that is over: nothing is planned again."""
    made, _ = small_cohort()
    calls = counting(made)
    learnt(made, training(1))
    sent = learnt(made, training(2))
    for late in (training(1), voting(1, validators_=())):
        made.begin(late)
        made.begin(training(2))
    assert not made.train_chunk()
    assert len(calls) == 2
    name = made.members.holders[0].name
    assert made.update(name, Train(2, 1, 0)).delta is not None
    assert len(sent) == 20


def test_nothing_is_trained_without_the_model():
    """A round for a version that has not come yet waits; the update is for that version only."""
    made, weights = small_cohort()
    made.begin(training(5, version=4))
    assert not made.train_chunk()
    made.keep(4, weights + 1)
    assert made.train_chunk()
    name = made.members.malicious[0].name
    assert made.update(name, Train(5, 1, 4)) is not None
    assert made.update(name, Train(5, 1, 3)) is None
    assert made.update(name, Train(4, 1, 4)) is None
    assert made.update("nobody", Train(5, 1, 4)) is None


def test_validators_judge_by_their_own_data():
    """The judge gets the member's profiles, oldest first, and its candidate's."""
    made, weights = small_cohort(wire__history="float32")
    asked = []

    def judge(accepted, candidates):
        asked.append((accepted, candidates))
        if len(candidates) == 1:  # the one without data asks what its lie would score
            return Judgements(*map(np.array, ([True], [9.0], [8.0], [[6.0, 7.0]])))
        said = np.array([False, True]), np.array([2.0, 3.0]), np.array([2.5, 1.0])
        return Judgements(*said, np.array([[0.5, -1.0], [1.5, 2.0]]))

    made.members = made.members._replace(judge=judge)
    rng = np.random.default_rng(0)
    versions = [weights, *(rng.normal(0, 1, (3, 2410)).astype(np.float32))]
    for version, vector in enumerate(versions[:3]):
        made.keep(version, vector)
    genuine = made.members.holders
    names = [genuine[7].name, made.members.malicious[0].name, genuine[2].name]
    votes = made.votes(names, Judge(3, 2, (0, 1, 2)), versions[3])
    told = [dataclasses.replace(vote, changed=None, changed_errors=None) for vote in votes]
    assert told == [
        Vote(names[0], 3, 2, False, 2.0, 2.5, 40, np.array([0.5, -1.0], "<f4").tobytes()),
        Vote(names[1], 3, 2, True, 9.0, 8.0, 40, np.array([6.0, 7.0], "<f4").tobytes()),
        Vote(names[2], 3, 2, True, 3.0, 1.0, 40, np.array([1.5, 2.0], "<f4").tobytes()),
    ]
    model = models.build("mlp", (1, 8, 8), 10, seed=9)
    (accepted, candidates), _ = asked
    assert (accepted.shape, candidates.shape) == ((2, 3, 20), (2, 20))
    for place, row in enumerate((7, 2)):
        held = made.profiles.data.indices[row]
        expected = []
        for vector in versions:
            torch.nn.utils.vector_to_parameters(torch.from_numpy(vector), model.parameters())
            answers = model(made.profiles.data.x[held]).argmax(dim=1).numpy()
            expected.append(error_profile(answers, made.profiles.data.y[held].numpy(), 10))
        np.testing.assert_array_equal(accepted[place], expected[:3])
        np.testing.assert_array_equal(candidates[place], expected[3])


def predictions(monkeypatch):
    """Note how many samples each forward pass of a cohort takes."""
    passes = []

    def noted(model, weights, x, task):
        passes.append(len(x))
        return predict(model, weights, x, task)

    monkeypatch.setattr("fedjury.agents.error_profile_cache.predict", noted)
    return passes


@pytest.mark.parametrize("look_back", [2, 5, 10])
def test_a_steady_validator_looks_at_one_model_a_round(look_back, monkeypatch):
    """However long the look-back: the candidate; the model accepted since was one before."""
    made, weights = small_cohort(look_back=look_back)
    codec = "int7+zstd"
    names = [m.name for m in made.members.holders[:3]]
    passes = predictions(monkeypatch)
    per_round = []
    for number in range(1, 2 * look_back + 6):
        newest = number - 1
        made.keep(newest, weights + np.float32(newest))
        wanted = tuple(range(max(0, newest - look_back), newest + 1))
        candidate = as_received(weights + np.float32(number), codec)
        votes = made.votes(names, Judge(number, 1, wanted), candidate)
        assert len(votes) == 3
        per_round.append(len(passes))
        passes.clear()
    assert per_round == [2] + [1] * (len(per_round) - 1)  # nobody had seen the first model
    assert len(made.models) == look_back + 1
    assert len(made.profiles.versions) == look_back + 1


def test_a_new_validator_looks_at_all_models_once(monkeypatch):
    """In its first vote l + 2 forward passes, 4 x 40 samples each; none for who has seen them."""
    made, weights = small_cohort(look_back=3)
    for version in range(4):
        made.keep(version, weights + np.float32(version))
    passes = predictions(monkeypatch)
    names = [m.name for m in made.members.holders]
    made.votes(names[:4], Judge(4, 1, (0, 1, 2, 3)), weights)
    assert passes == [160] * 5
    passes.clear()
    made.votes(names[2:5], Judge(5, 1, (0, 1, 2, 3)), weights.copy())
    assert passes == [40] * 4 + [120]


def test_history_and_model_are_judged_alike():
    """Who fetched a model as history votes as those who received it whole."""
    voted = []
    for fetched in (False, True):
        made, weights = small_cohort(look_back=2, validation__minimum_history=3)
        rng = np.random.default_rng(1)
        versions = [weights + rng.normal(0, 0.1, 2410).astype(np.float32) for _ in range(4)]
        for version, vector in enumerate(versions[:3]):
            if fetched and version < 2:
                made.look_back_at(version, as_received(vector, "int7+zstd"))
            else:
                made.keep(version, vector)
        names = [member.name for member in made.members.holders]
        candidate = as_received(versions[3], "int7+zstd")
        voted.append(made.votes(names, Judge(3, 1, (0, 1, 2)), candidate))
    assert voted[0] == voted[1]
    assert any(vote.score for vote in voted[0])


def test_nobody_votes_on_a_candidate_whose_predecessors_are_gone():
    """A process that was held up hears of newer models first: no vote, and no error."""
    made, weights = small_cohort(look_back=2)
    for version in range(5):
        made.keep(version, weights)
    names = [made.members.holders[0].name, made.members.malicious[0].name]
    assert made.votes(names, Judge(4, 1, (1, 2, 3)), weights) == []
    assert len(made.votes(names, Judge(5, 1, (2, 3, 4)), weights)) == 2


# The fleet


def small_fleet(assembled=None, **changes):
    """Put two agents onto a memory broker; returns broker, fleet and what it said."""
    given_settings = settings_of(agents__n=2, **changes)
    broker, said = MemoryBroker(), []
    population = simulated_agents_of(given_settings)
    fleet = AgentRunner(
        transport=MemoryTransport(broker, "lab"),
        names=["agent-0", "agent-1"],
        say=said.append,
        stopping=lambda: False,
        assemble=assembled
        or (lambda described: assemble(population, population.check(), range(2), described)),
    )
    return broker, fleet, said


def test_a_stalled_process_survives_the_end_of_its_vote():
    """Candidate, vote and three newer models in one burst: the vote is dropped, nothing breaks."""
    changes = {"validation__look_back": 2, "validation__validators": 2, "validation__quorum": 1}
    described = manifest(agents__n=2, **changes)
    broker, fleet, said = small_fleet(**changes)
    server = MemoryTransport(broker, "lab")
    for name in ("agent-0", "agent-1"):
        fleet.transport.join(
            name, *(type(m) for m in (described, training(), Model(0, W))), Candidate
        )
    votes = []
    broker.listeners.append(lambda topic, _: votes.append(topic) if "/vote/" in topic else None)
    weights = np.zeros(2410, dtype=np.float32)
    both = ("agent-0", "agent-1")
    for message in (described, Model(0, weights), training(), Candidate(1, 1, 0, weights)):
        server.send("server", message)
    server.send("server", voting(validators_=both))
    for version in (1, 2, 3):
        server.send("server", Model(version, weights))
    fleet.turn()
    assert (votes, said) == ([], [])
    server.send("server", Candidate(5, 1, 3, weights))
    server.send("server", voting(5, 1, 3, both))
    fleet.turn()
    assert votes == ["fl/v2/lab/vote/agent-0", "fl/v2/lab/vote/agent-1"]
    assert fleet.voting == {}


def test_an_old_candidate_does_not_replace_a_new_one():
    """A slower connection's candidate of the round before is too late for anybody."""
    _, fleet, _ = small_fleet()
    fleet.on_message("agent-0", Candidate(4, 1, 3, W + 1))
    fleet.on_message("agent-1", Candidate(3, 2, 3, W))
    assert fleet.candidate[0] == (4, 1)
    fleet.on_message("agent-0", Candidate(4, 1, 3, W + 2))  # of an aggregator that began again
    assert fleet.candidate[1][0] == 2


# Learners


def sent_by(name, scale=1.0):
    """Build a learner; where its agents collude, one that knows all their reports."""
    there = world(scale)
    built = honest(there) if name == "honest" else attacks.build(name, there)
    if not isinstance(built, Collusion):
        return built

    def learn(weights, called):
        updates = built.train(weights, called)
        updates.setflags(write=False)
        return np.stack(carried_out(built.plot(updates, called), called))

    return learn


@pytest.mark.parametrize("name", ["honest", *ATTACKS])
@pytest.mark.parametrize("members", [(4,), (1, 4, 6)])
def test_learners_keep_their_contract(name, members):
    """(m, d) float32 for m members, the same for the same call, and the input is not written."""
    weights, before = start_weights(), start_weights() - 1
    for given_weights in (weights, before):
        given_weights.setflags(write=False)
    called = RoundContext(7, members, 5, (before, weights))
    learner = sent_by(name)
    deltas = learner(weights, called)
    assert deltas.shape == (len(members), D)
    assert deltas.dtype == np.float32
    assert np.isfinite(deltas).all()
    assert (deltas != 0).any(axis=1).all()
    np.testing.assert_array_equal(deltas, sent_by(name)(weights, called))
    np.testing.assert_array_equal(weights, start_weights())
    assert learner(weights, called._replace(history=())).shape == deltas.shape


@pytest.mark.parametrize("name", ["honest", *ATTACKS])
def test_learners_cope_with_what_is_no_number(name):
    """From a model of inf and NaN they send something, without an error or a warning."""
    weights = np.full(D, np.nan, dtype=np.float32)
    weights[::2] = np.inf
    deltas = sent_by(name, 1e6)(weights, RoundContext(2, (1, 6), 0, (-weights, weights)))
    assert deltas.shape == (2, D)


def test_who_colludes_is_listed():
    """The builders make collusions of exactly the attacks whose mark says that they collude."""
    made = {name: isinstance(attacks.build(name, world()), Collusion) for name in ATTACKS}
    assert made == {name: ATTACKS.facts(name).colludes for name in ATTACKS}


@pytest.mark.parametrize("name", [a for a in ATTACKS if ATTACKS.facts(a).colludes])
def test_plots_keep_their_contract(name):
    """A centre (d,) and a spread (d,) or (0,), float32; what was reported is not written."""
    updates = np.random.default_rng(0).normal(0, 1, (4, D)).astype(np.float32)
    before = updates.copy()
    called = RoundContext(3, (0, 2, 5, 9), 0, contributors=10, attackers=4)
    centre, spread = attacks.build(name, world()).plot(updates, called)
    assert (centre.shape, centre.dtype, spread.dtype) == ((D,), np.float32, np.float32)
    assert spread.shape in {(D,), (0,)}
    np.testing.assert_array_equal(updates, before)


def test_sleepers_send_zeros_until_they_strike():
    """Before round 3 nothing, from round 3 on the attack itself."""
    attack = attacks.build("mpaf", world(2.0))
    sleeper = idle_until(attack, 3)
    weights = start_weights()
    for number in (1, 2):
        quiet = sleeper(weights, RoundContext(number, (0, 2), 0))
        np.testing.assert_array_equal(quiet, np.zeros((2, D), dtype=np.float32))
        assert quiet.dtype == np.float32
    for number in (3, 4):
        called = RoundContext(number, (0, 2), 0)
        np.testing.assert_array_equal(sleeper(weights, called), attack(weights, called))


@pytest.mark.parametrize("attack", ["sign_flip", "label_flip", "alie"])
def test_who_holds_data_is_honest_until_it_strikes(attack):
    """With start = 3 it sends in round 2 what it would if nobody were evil, bit for bit."""
    changes = {"agents__attack": attack, "agents__start": 3}
    for number, differs in ((2, False), (3, True)):
        honest, evil = small_cohort(agents__malicious=0.0)[0], small_cohort(**changes)[0]
        name = evil.members.malicious[0].name
        update = learnt(evil, training(number)).get(name)
        plain = learnt(honest, training(number))[name]
        colludes = ATTACKS.facts(attack).colludes and differs  # it waits for a plot
        assert (update is None) == colludes
        assert colludes or differs != np.array_equal(update.delta, plain.delta)


def test_mpaf_by_hand():
    """With w' = 1 and λ = 4, from w = 1/2 every fake sends 4 (1 - 1/2) = 2, whatever the round."""
    attack = attacks.build("mpaf", world(4.0))
    deltas = attack(np.full(D, 0.5, dtype=np.float32), RoundContext(9, (0, 2, 3), 1))
    np.testing.assert_array_equal(deltas, np.full((3, D), 2.0))


def test_history_by_hand():
    """-λ (w_t - w_{t-1}): -10 (3 - 1) = -20; in the first round, with nothing before, zeros."""
    attack = attacks.build("history", world(10.0))
    now, before = np.full(D, 3, dtype=np.float32), np.full(D, 1, dtype=np.float32)
    np.testing.assert_array_equal(
        attack(now, RoundContext(2, (0,), 0, (before, now))), np.full((1, D), -20.0)
    )
    np.testing.assert_array_equal(attack(now, RoundContext(1, (0, 2), 0)), np.zeros((2, D)))


def test_random_is_gaussian_of_its_scale():
    """λ ε with ε ~ N(0, I): mean 0, deviation λ, each fake and each round its own."""
    attack = attacks.build("random", world(5.0))
    noise = attack(start_weights(), RoundContext(3, tuple(range(50)), 0))
    drawn = noise.size
    assert abs(noise.mean()) < 4 * 5 / np.sqrt(drawn)
    assert abs(noise.std() - 5) < 4 * 5 / np.sqrt(2 * drawn)
    share = np.mean(np.abs(noise) < 5)  # 68.27 % within one deviation
    assert abs(share - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / drawn)
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 5 / np.sqrt(D)
    np.testing.assert_array_equal(noise[7], attack(start_weights(), RoundContext(3, (7,), 0))[0])
    assert not np.array_equal(noise, attack(start_weights(), RoundContext(4, tuple(range(50)), 0)))


# The dynamics of MPAF under the plain mean: w' - w is multiplied by 1 - c, c = λ m / (n + m)


def under_mpaf(scale, rounds, honest=9, fakes=1):
    """Run the plain mean of honest zeros and MPAF; returns the distances from w', round by round.

    The arithmetic is that of the aggregator: float32, and what overflows, overflows.
    """
    attack, mean = attacks.build("mpaf", world(scale)), rules.build("mean")
    weights = np.linspace(-1, 0.5, D, dtype=np.float32)
    quiet = np.zeros((honest, D), dtype=np.float32)
    distances = []
    for number in range(1, rounds + 1):
        sent = attack(weights, RoundContext(number, tuple(range(fakes)), 0))
        samples = np.ones(honest + fakes, dtype=np.int64)
        delta = mean(np.concatenate([quiet, sent]), samples, rules.Context())
        with np.errstate(over="ignore", invalid="ignore"):
            weights = weights + delta
            distances.append(weights - np.float32(1))
    return np.array(distances)


def test_mpaf_lands_on_its_base_model():
    """With c = 10 * 1 / 10 = 1: after one round the global model is w', and stays there."""
    np.testing.assert_allclose(under_mpaf(10.0, 3), 0, atol=1e-6)


@pytest.mark.parametrize(("scale", "fakes", "c"), [(5, 1, 0.5), (15, 1, 1.5), (1, 3, 0.25)])
def test_mpaf_converges_below_2(scale, fakes, c):
    """0 < c < 2: each round leaves 1 - c of the distance."""
    distances = under_mpaf(float(scale), 8, honest=10 - fakes if fakes == 1 else 9, fakes=fakes)
    start = np.linspace(-1, 0.5, D) - 1
    for number in range(1, 9):
        expected = (1 - c) ** number * start
        np.testing.assert_allclose(distances[number - 1], expected, atol=2e-5)


def test_mpaf_diverges_above_2():
    """With c = 3: the distance doubles every round and changes its side."""
    distances = under_mpaf(30.0, 10)
    start = np.linspace(-1, 0.5, D) - 1
    np.testing.assert_allclose(distances[-1], (-2) ** 10 * start, rtol=1e-3)
    np.testing.assert_allclose(distances[-2], (-2) ** 9 * start, rtol=1e-3)


def test_mpaf_of_a_million_overflows():
    """λ = 1e6 and a tenth of fakes grow 1e5-fold a round: over 3.4e38 by round 8, then NaN."""
    distances = under_mpaf(1e6, 10)
    assert np.isfinite(distances[5]).all()
    assert not np.isfinite(distances[7]).any()
    assert np.isnan(distances[9]).all()
