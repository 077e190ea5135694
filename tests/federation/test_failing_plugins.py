"""Plug-ins of somebody else's that fail in mid-run: a sentence names them, and the run goes on.

Each is tried in a whole federation of twenty agents, and what is left of its rounds is counted.
"""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from torch import nn

from fedjury.attacks import Collusion
from fedjury.attacks.colluding import Strategy
from fedjury.attacks.honest import honest
from fedjury.judges.judgements import Judgements
from fedjury.protocol.messages import Phase
from fedjury.registry import attack
from fedjury.round.collect import Synchronous

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS = 3

HERE = r"\(.*test_failing_plugins.py, line \d+\)"


def run(folder, *, fleets=1, **changes):
    """Run a federation to its end; it has all of its rounds, whatever came of them."""
    done = Federation(folder, fleets=fleets, run__rounds=ROUNDS, **changes).whole()
    assert done.state.phase.name is Phase.DONE
    assert [record.round for record in done.records] == [1, 2, 3]
    return done


def only(said, about):
    """Return the one sentence that is about a plug-in."""
    found = [text for text in said if about in text]
    assert len(found) == 1, said
    assert "\n" not in found[0]
    return found[0]


def raising(*_, **__):
    """Fail, as any of them may."""
    return {}["a"]


# ---------------------------------------------------------------- detectors


def detector_of(scores, memory=None):
    """Return a builder of detectors that always say the same."""
    return lambda: lambda seen, _: (scores(seen), {} if memory is None else memory)


def detector_that_raises():
    """Build a detector that fails."""
    return raising


def detector_that_writes():
    """Build a detector that changes the updates."""

    def detect(seen, memory):
        seen.updates[0] = 0
        return {}, memory

    return detect


def detector_of_an_array():
    """Build a detector that scores by row."""
    return lambda seen, memory: (np.ones(len(seen.names) - 1), memory)


detector_of_nan = detector_of(lambda seen: dict.fromkeys(seen.names, float("nan")))
detector_of_strangers = detector_of(lambda seen: {"nobody": 1.0})
detector_of_percents = detector_of(lambda seen: dict.fromkeys(seen.names, 100))
detector_of_objects = detector_of(lambda seen: {}, {"models": np.array([{}], object)})


def detector_of_scores():
    """Build a detector that forgets to return what it remembers."""
    return lambda seen, memory: dict.fromkeys(seen.names, 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("detector_that_raises", f"fails: KeyError: 'a' {HERE}"),
        ("detector_that_writes", f"fails: ValueError: assignment destination is read-only {HERE}"),
        ("detector_of_an_array", "made no scores by name but ndarray; it must be a dict"),
        ("detector_of_nan", "scored 'agent-00' nan; it must be from 0 to 1"),
        ("detector_of_percents", "scored 'agent-00' 100; it must be from 0 to 1"),
        ("detector_of_strangers", "scored 'nobody', which is no agent of the round"),
        ("detector_of_objects", "remembers 'models' of object; it must be an array of numbers"),
        ("detector_of_scores", "must return scores and a dict of what it remembers"),
    ],
)
def test_a_detector_that_fails_has_no_say(tmp_path, name, message):
    """The others look on, the rule has all updates, and people are told once."""
    theirs = f"{__name__}:{name}"
    done = run(
        tmp_path,
        detection__detectors=[theirs, "similarity"],
        detection__quarantine=True,
    )
    text = only(done.screen.said, theirs)
    assert text.startswith(f"detector {theirs!r} ")
    assert text.endswith("; it has no say where it fails")
    assert re.search(message, text)
    assert [record.accepted for record in done.records] == [True] * ROUNDS
    assert [record.detection.filtered for record in done.records] == [0] * ROUNDS
    assert done.records[-1].detection.suspicion.keys() <= {f"agent-{i:02}" for i in range(20)}


def detector_with_memory():
    """Build a detector that counts rounds and fails in the second, after which it flags all."""

    def detect(seen, memory):
        count = memory.get("rounds", np.zeros(1)) + 1
        if seen.round == 2:
            raise RuntimeError("no licence on a Tuesday")
        return dict.fromkeys(seen.names, float(count[0]) / 10), {"rounds": count}

    return detect


def test_what_a_failing_detector_remembers_stays(tmp_path):
    """A resumed run has the memory of a detector from elsewhere, whose name has a dot in it."""
    theirs = f"{__name__}:detector_with_memory"
    done = run(tmp_path, detection__detectors=[theirs])
    first, second, third = (record.detection.suspicion for record in done.records)
    assert (set(first.values()), second, set(third.values())) == ({0.1}, {}, {0.2})
    again = Federation(tmp_path, run__rounds=ROUNDS + 1, detection__detectors=[theirs]).whole()
    assert set(again.records[-1].detection.suspicion.values()) == {0.3}


# ---------------------------------------------------------------- judges


def judge_that_raises(minimum_history=1):
    """Build a judge that fails."""
    return raising


def judge_that_writes(minimum_history=1):
    """Build a judge that changes the counts."""

    def judge(profiles, candidates):
        candidates += 1

    return judge


def judge_of(poisoned, score):
    """Return a builder of judges that always say the same."""

    def build(minimum_history=1):
        def judge(profiles, candidates):
            m = len(candidates)
            return Judgements(poisoned(m), score(m), np.ones(m), np.zeros((m, 0)))

        return judge

    return build


judge_of_one = judge_of(lambda m: np.zeros(m, bool), lambda m: np.zeros(m + 1))
judge_of_nan = judge_of(lambda m: np.zeros(m, bool), lambda m: np.full(m, np.nan))
judge_of_numbers = judge_of(np.ones, np.zeros)


def judge_of_a_bool(minimum_history=1):
    """Build a judge that says yes or no."""
    return lambda profiles, candidates: True


JUDGES = [
    ("judge_that_raises", "fails: KeyError: 'a' ("),
    ("judge_that_writes", "read-only"),
    ("judge_of_one", "made a score of shape ("),
    ("judge_of_nan", "made a score that is not finite (NaN, infinity)"),
    ("judge_of_numbers", "made a poisoned of float64, not of bool"),
    ("judge_of_a_bool", "made no Judgements (poisoned, score, threshold, evidence) but bool"),
]


@pytest.mark.parametrize(("name", "message"), JUDGES)
def test_agents_whose_judge_fails_give_no_vote(tmp_path, name, message):
    """They decline, so nobody waits for them; a candidate without votes is not accepted."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, validation__judge=theirs, validation__validators=5)
    text = only(done.said, theirs)
    assert text.startswith(f"judge {theirs!r} ")
    assert message in text
    for record in done.records:
        assert (record.accepted, record.votes.silent) == (False, 5)
        assert record.why == "too few votes: 0 of 5 came, 3 are needed"
        assert record.timing.seconds < 10  # and not a deadline


@pytest.mark.parametrize(("name", "message"), JUDGES[:1])
def test_a_server_whose_judge_fails_gives_no_vote(tmp_path, name, message):
    """Where it is the only one asked, silence is no consent: the candidate is rejected."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, validation__judge=theirs, validation__judged_by="server", data__server=0.1)
    text = only(done.screen.said, theirs)
    assert message in text
    assert text.endswith("; the server gives no vote where it fails")
    assert [record.why for record in done.records] == [
        "too few votes: 0 of 1 came, 1 are needed"
    ] * ROUNDS


def test_piggy_back_with_a_judge_that_fails(tmp_path):
    """Whoever cannot judge the candidate sits the round out, and nobody waits for an answer."""
    theirs = f"{__name__}:judge_that_raises"
    done = Federation(
        tmp_path,
        run__rounds=2,
        validation__judge=theirs,
        validation__piggy_back=True,
        validation__judged_by="clients",
        collect__seconds=1.0,
        collect__attempts=2,
    ).whole()
    only(done.said, theirs)
    assert "judge" not in done.state.failure
    assert done.state.phase.name is Phase.DONE


# ---------------------------------------------------------------- attacks


def attack_that_raises(world):
    """Build an attack that fails."""
    return raising


def attack_that_writes(world):
    """Build an attack that changes the global model."""

    def learn(weights, context):
        weights += 1

    return learn


def attack_of_one_row(world):
    """Build an attack that sends one vector for all."""
    return lambda weights, context: weights


def attack_of_a_word(world):
    """Build an attack that sends no numbers."""
    return lambda weights, context: np.array([["evil"] * len(weights)] * len(context.members))


def attack_of_ragged_rows(world):
    """Build an attack that sends rows of unequal length."""
    return lambda weights, context: [[1.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attack_that_raises", "fails: KeyError: 'a' ("),
        ("attack_that_writes", "read-only"),
        ("attack_of_one_row", "made updates of shape (2410,), which must be (4, 2410)"),
        ("attack_of_a_word", "made no updates but ndarray"),
        ("attack_of_ragged_rows", "fails: ValueError: setting an array element with a sequence"),
    ],
)
def test_attackers_whose_attack_fails_sit_out(tmp_path, name, message):
    """The other sixteen send their updates, and nobody waits for the four."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, agents__attack=theirs, agents__malicious=0.2)
    text = only(done.said, theirs)
    assert message in text
    assert text.endswith("; agents sit out the rounds in which it fails")
    assert [(record.accepted, record.updates) for record in done.records] == [(True, 16)] * ROUNDS
    assert done.records[-1].timing.seconds < 10


@attack(colludes=True)
def plot_that_raises(world):
    """Build a collusion whose plot fails."""
    return Collusion(honest(world), raising)


@attack(colludes=True)
def plot_of_another_length(world):
    """Build a collusion whose plot is too short."""
    return Collusion(honest(world), lambda updates, _: Strategy(updates[0][1:]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plot_that_raises", "fails: KeyError: 'a' ("),
        ("plot_of_another_length", "made a centre of shape (2409,), which must be (2410,)"),
    ],
)
def test_colluders_whose_plot_fails_send_what_they_learnt(tmp_path, name, message):
    """As where they hear of no plot for another reason."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, agents__attack=theirs, agents__malicious=0.2, collect__seconds=2.0)
    assert message in only(done.said, theirs)
    assert [(record.accepted, record.updates) for record in done.records] == [(True, 20)] * ROUNDS


def vote_attack_that_raises():
    """Build a vote attack that fails."""
    return raising


def vote_attack_of_one():
    """Build a vote attack that forgets a validator."""
    return lambda verdicts, turn: verdicts[1:]


def vote_attack_of_nan():
    """Build a vote attack that says nothing."""
    return lambda verdicts, turn: np.full(len(verdicts), np.nan)


def vote_attack_that_writes():
    """Build a vote attack that changes what its judge said."""

    def vote(verdicts, turn):
        verdicts[:] = True
        return verdicts

    return vote


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vote_attack_that_raises", "fails: KeyError: 'a' ("),
        ("vote_attack_of_one", "made verdicts of shape (3,) of those of (4,)"),
        ("vote_attack_of_nan", "made no verdicts of bool but float64 (ndarray)"),
        ("vote_attack_that_writes", "read-only"),
    ],
)
def test_liars_whose_vote_attack_fails_give_no_vote(tmp_path, name, message):
    """The other sixteen validators vote."""
    theirs = f"{__name__}:{name}"
    done = run(
        tmp_path,
        agents__vote_attack=theirs,
        agents__malicious=0.2,
        agents__start=99,
        validation__validators=20,
    )
    text = only(done.said, theirs)
    assert text.startswith(f"vote attack {theirs!r} ")
    assert message in text
    for record in done.records:
        assert (record.accepted, record.votes.clean, record.votes.silent) == (True, 16, 4)
        assert record.timing.seconds < 10


def test_liars_whose_vote_attack_fails_give_no_vote_on_groups(tmp_path):
    """As on a candidate: the other sixteen judge all four groups."""
    theirs = f"{__name__}:vote_attack_that_raises"
    done = run(
        tmp_path,
        agents__vote_attack=theirs,
        agents__malicious=0.2,
        agents__start=99,
        validation__validators=20,
        validation__on="groups",
        groups__size=5,
    )
    assert only(done.said, theirs).startswith(f"vote attack {theirs!r} fails: KeyError: 'a' (")
    for record in done.records:
        assert record.accepted
        assert [(g.clean, g.poisoned) for g in record.groups.groups.values()] == [(16, 0)] * 4


# ---------------------------------------------------------------- training


def first(calls):
    """Fail in the first call, which is that of one of the two fleets."""
    if next(calls) == 0:
        raise ZeroDivisionError("nothing to divide by")


class FailingLoss:
    """A loss that fails in its first training step."""

    calls = itertools.count()

    def __call__(self, outputs, labels):
        """Fail once."""
        if torch.is_grad_enabled():
            first(FailingLoss.calls)
        return nn.functional.cross_entropy(outputs, labels, reduction="none")


class FailingOptimizer(torch.optim.SGD):
    """An optimizer that fails in its first step."""

    calls = itertools.count()

    def __init__(self, parameters, learning_rate):
        super().__init__(parameters, lr=learning_rate)

    def step(self, closure=None):
        """Fail once."""
        first(FailingOptimizer.calls)
        return super().step(closure)


class FailingNetwork(nn.Module):
    """A network that fails in its first training step."""

    calls = itertools.count()

    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(shape)), classes)

    def forward(self, x):
        """Fail once."""
        if self.training:
            first(FailingNetwork.calls)
        return self.layer(x.flatten(1))


@pytest.mark.parametrize(
    ("setting", "name", "kind"),
    [
        ("training__loss", "FailingLoss", "loss"),
        ("training__optimizer", "FailingOptimizer", "optimizer"),
        ("model__name", "FailingNetwork", "model"),
    ],
)
def test_agents_whose_training_fails_sit_out(tmp_path, setting, name, kind):
    """Ten of twenty, in another process, go on; in the next round all are there again."""
    globals()[name].calls = itertools.count()
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, fleets=2, **{setting: theirs})
    text = only(done.said, theirs)
    assert text.startswith(f"{kind} {theirs!r} fails: ZeroDivisionError: nothing to divide by (")
    assert "test_failing_plugins.py, line " in text
    assert [record.updates for record in done.records] == [10, 20, 20]
    assert all(record.accepted for record in done.records)


# ---------------------------------------------------------------- metrics


def metric_that_raises():
    """Build a metric that fails."""
    return raising


def metric_of_nan():
    """Build a metric that cannot be said."""
    return lambda predictions, targets: float("nan")


def metric_of_none():
    """Build a metric that returns nothing."""
    return lambda predictions, targets: None


def metric_that_writes():
    """Build a metric that sorts the targets in place."""
    return lambda predictions, targets: targets.sort()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("metric_that_raises", "fails: KeyError: 'a' ("),
        ("metric_of_nan", "gave nan; it is left out where it is not finite"),
        ("metric_of_none", "gave no number but NoneType"),
        ("metric_that_writes", "read-only"),
    ],
)
def test_a_metric_that_fails_is_left_out(tmp_path, name, message):
    """Accuracy and the other metrics are there all the same."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, training__metrics=[theirs, "f1"])
    text = only(done.screen.said, name)
    assert text.startswith("metric '")
    assert message in text
    for record in done.records:
        assert record.accepted
        assert 0 < record.model.accuracy < 1
        assert list(record.model.metrics) == ["server_f1"]


# ---------------------------------------------------------------- collect strategies


def strategy_with(question, answer):
    """Return a strategy that has another answer to one question, in the second round."""

    class Odd:
        def __init__(self, threshold, largest_weight, allocate):
            self.usual = Synchronous(threshold, largest_weight, allocate)
            self.asked = itertools.count()

        def __getattr__(self, name):
            return getattr(self.usual, name)

        def begin(self, selected):
            self.round = getattr(self, "round", 0) + 1
            return self.usual.begin(selected)

    def asked(self, *given, **more):
        if self.round == 2:
            return answer(*given, **more)
        return getattr(self.usual, question)(*given, **more)

    if question != "begin":
        setattr(Odd, question, asked)
    return Odd


refusal_raises = strategy_with("refusal", raising)
refusal_of_a_word = strategy_with("refusal", lambda *_: "no")
enough_raises = strategy_with("enough", raising)
enough_of_true = strategy_with("enough", lambda *_, **__: True)
contributions_raise = strategy_with("contributions", raising)
contributions_of_a_matrix = strategy_with("contributions", lambda *_: np.ones((20, 2410)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refusal_raises", "fails: KeyError: 'a' ("),
        ("refusal_of_a_word", "returned 'no' from refusal"),
        ("enough_raises", "fails: KeyError: 'a' ("),
        ("enough_of_true", "returned True from enough"),
        ("contributions_raise", "fails: KeyError: 'a' ("),
        ("contributions_of_a_matrix", "from contributions"),
    ],
)
def test_a_round_whose_collect_strategy_fails_is_rejected(tmp_path, name, message):
    """With the reason in its record; the next one is opened as usual."""
    theirs = f"{__name__}:{name}"
    done = run(tmp_path, collect__strategy=theirs)
    assert [record.accepted for record in done.records] == [True, False, True]
    why = done.records[1].why
    assert why.startswith(f"collect strategy {theirs!r} ")
    assert message in why
    assert done.records[1].timing.seconds < 10


def begin_raises(threshold, largest_weight, allocate):
    """Build a strategy that can begin no round but the first."""
    usual = Synchronous(threshold, largest_weight, allocate)
    rounds = itertools.count()

    class Odd:
        def __getattr__(self, name):
            return getattr(usual, name)

        def begin(self, selected):
            return usual.begin(selected) if next(rounds) == 0 else raising()

    return Odd()


def test_a_run_whose_collect_strategy_opens_no_round_is_given_up(tmp_path):
    """What was accepted before is kept, and the run can be resumed with another strategy."""
    theirs = f"{__name__}:begin_raises"
    done = Federation(tmp_path, run__rounds=ROUNDS, collect__strategy=theirs).whole()
    assert done.state.failure.startswith(
        f"round 2 cannot be opened: collect strategy {theirs!r} fails: KeyError: 'a' ("
    )
    assert [record.accepted for record in done.records] == [True]
    again = Federation(tmp_path, run__rounds=ROUNDS).whole()
    assert [record.accepted for record in again.records] == [True] * ROUNDS
