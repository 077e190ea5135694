"""A rule with state in a whole run: resumed bit for bit, without traces of what was rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture

from fedjury import rules
from fedjury.aggregator import rule_memory
from fedjury.aggregator.store import StoreError
from fedjury.registry import rule
from fedjury.round.memory import RuleMemory
from fedjury.round.state import JudgingAndTraining

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
ONE = np.ones(1, np.int64)

MOMENTUM = {"aggregation__rule": "fedavgm", "aggregation__options": {"momentum": 0.5}}
COUNTING = {"aggregation__rule": f"{__name__}:counting"}
JURY = {"validation__validators": 5, "validation__look_back": 3, "validation__minimum_history": 3}
PIGGY = {
    "validation__piggy_back": True,
    "validation__quorum": 3,
    "validation__look_back": 3,
    "validation__minimum_history": 3,
}


@rule(needs=["state"])
def counting():
    """Count the accepted rounds, beside the mean."""

    def rule(updates, samples, context):
        count = context.state.get("count", np.zeros(1, np.int64))
        return updates.mean(axis=0), {"count": count + 1, "last": updates.mean(axis=0)}

    return rule


def test_momentum_is_that_of_the_accepted_steps(tmp_path):
    """v_t = .5 v_{t-1} + Δ_t, where the model goes by v: what the folder holds is the last v."""
    run = Federation(tmp_path, run__rounds=4, **MOMENTUM).whole()
    [file] = tmp_path.glob("rule-000004.safetensors")
    memory = rule_memory.unpacked(file)
    models = [np.frombuffer(run.models[v], np.float32) for v in (3, 4)]
    assert (memory.rule, memory.pending) == ("fedavgm", None)
    np.testing.assert_allclose(memory.accepted["velocity"], models[1] - models[0], atol=1e-6)


@pytest.mark.parametrize("votes", [{}, JURY, PIGGY], ids=["none", "jury", "piggy-back"])
@pytest.mark.parametrize("after", [1, 4])
def test_a_resumed_run_comes_to_the_same_models(tmp_path, votes, after):
    """Killed after any round, with a pending candidate or without: bit for bit."""
    settings = {"run__rounds": 8, **MOMENTUM, **votes}
    whole = Federation(tmp_path / "whole", **settings).whole()
    cut = Federation(tmp_path / "cut", **settings)
    cut.begin()
    cut.run(lambda state: state.round == after + 1 and len(state.updates) > 3)
    cut.crash()
    cut.whole()
    assert cut.models == whole.models


def test_without_its_state_it_comes_to_others(tmp_path):
    """The state matters: where its file is taken away, that is told, and momentum begins again."""
    whole = Federation(tmp_path / "whole", run__rounds=6, **MOMENTUM).whole()
    cut = Federation(tmp_path / "cut", run__rounds=6, **MOMENTUM)
    cut.begin()
    cut.run(lambda state: state.round == 4)
    cut.crash()
    [file] = (tmp_path / "cut").glob("rule-000003.safetensors")
    file.unlink()
    cut.whole()
    assert cut.models[3] == whole.models[3]
    assert cut.models[4] != whole.models[4]


@pytest.mark.parametrize("votes", [JURY, PIGGY], ids=["jury", "piggy-back"])
def test_a_rejected_candidate_leaves_no_trace(tmp_path, votes):
    """What counts rounds counts those that were accepted, not those that were voted down."""
    settings = {"agents__malicious": 0.2, "agents__attack": "mpaf", "agents__start": 6}
    run = Federation(tmp_path, run__rounds=9, **COUNTING, **settings, **votes).whole()
    records = run.records
    assert [r.accepted for r in records].count(False) > 1
    memory = run.state.memory
    assert memory.accepted["count"].tolist() == [run.state.version]


def test_a_pending_candidate_has_a_state_of_its_own(tmp_path):
    """With piggy-back the next rule goes on from it only where the candidate is accepted."""
    run = Federation(tmp_path, run__rounds=6, **COUNTING, **PIGGY)
    run.begin()
    run.run(lambda state: state.round == 4 and isinstance(state.phase, JudgingAndTraining))
    memory = run.state.memory
    counts = [int(state["count"][0]) for state in (memory.accepted, memory.pending)]
    assert counts == [run.state.version, run.state.version + 1]


def test_another_rule_does_not_get_it(tmp_path, capsys):
    """A run that is resumed with another rule says that its state is of no use."""
    run = Federation(tmp_path, run__rounds=4, **MOMENTUM)
    run.begin()
    run.run(lambda state: state.round == 3)
    run.crash()
    run.settings = settings_of(run__rounds=4, **COUNTING)
    run.whole()
    assert "what rule 'fedavgm' kept is of no use to rule" in capsys.readouterr().out
    assert run.state.memory.accepted["count"].tolist() == [2]


def test_a_damaged_file_is_told(tmp_path):
    """In one sentence with its name."""
    file = tmp_path / "rule-000001.safetensors"
    file.write_bytes(rule_memory.packed(RuleMemory("x", {"a": np.ones(3)}))[:-5])
    with pytest.raises(StoreError, match=r"rule-000001\.safetensors"):
        rule_memory.unpacked(file)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64"])
def test_arrays_come_back_as_they_were(tmp_path, dtype):
    """Of every kind and shape, empty ones and single numbers too."""
    file = tmp_path / "rule-000001.safetensors"
    arrays = {"a": np.ones((2, 3), dtype), "b": np.zeros((0, 4), dtype), "c": np.array(1, dtype)}
    file.write_bytes(rule_memory.packed(RuleMemory("x", arrays, {})))
    back = rule_memory.unpacked(file)
    assert back.pending == {}
    for key, array in arrays.items():
        assert (back.accepted[key].dtype, back.accepted[key].shape) == (array.dtype, array.shape)
        assert back.accepted[key].tobytes() == array.tobytes()


def test_the_recipe_of_the_docs_runs(tmp_path, monkeypatch):
    """The rule in docs/plugins.md, in a file of its own: half of 2 is 1, then 1 + (4 - 1) / 2."""
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    code = text.partition("<!-- recipe: a rule with state -->")[2].split("```")[1]
    (tmp_path / "acme_slow.py").write_text(code.removeprefix("python\n"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    slow, state, steps = rules.build("acme_slow:slow"), {}, []
    for update in (2, 4):
        row = np.array([[update]], np.float32)
        context = rules.Context(state=state)
        step, state = rules.applied(slow, "acme_slow:slow", row, ONE, context, keeps=True)
        steps.append(step.tolist())
    assert steps == [[1], [2.5]]
    run = Federation(tmp_path / "run", run__rounds=3, aggregation__rule="acme_slow:slow").whole()
    assert len(run.models) == 4
