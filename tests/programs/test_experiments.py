"""Experiments: counting, tables, what is kept and resumed, and each of them from end to end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import warm
from support.federation import one_thread  # noqa: F401 - a fixture

from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.sections import Broker
from fedjury.config.settings import SettingsError, load
from fedjury.experiments import EXPERIMENTS, __main__
from fedjury.experiments.engine import metrics, runner, tables, workers
from fedjury.experiments.engine.case import Case, CaseError, Job, Result
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate
from fedjury.experiments.engine.tables import Table, target
from fedjury.experiments.papers import baffle_bytes, baffle_liars
from fedjury.experiments.papers.baffle import BAFFLE
from fedjury.learning import datasets
from fedjury.protocol.messages import Update
from fedjury.protocol.record import Ballot, Quality, RoundRecord, Votes, to_json
from fedjury.protocol.topics import USUAL

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


def record(number, *, accepted=True, voted=True, voters=None, **more):
    votes = Votes(0 if accepted else 5, 5 * voted, voters=voters or {}) if voted else Votes()
    return RoundRecord(number, accepted=accepted, votes=votes, **({"judged": number} | more))


# Counting


def test_errors_are_counted_by_hand():
    """Two of three injections missed, one of four benign rounds rejected, two without a vote."""
    records = [
        record(1, voted=False),
        record(2),
        record(3),
        record(4, accepted=False),
        record(5),
        record(6),
        record(7, accepted=False),
        record(8),
        record(9, voted=False),
    ]
    found = metrics.errors(records, poisoned={1, 3, 5, 7})
    assert found == (Count(2, 3), Count(1, 4))


def test_a_verdict_belongs_to_the_round_it_judges():
    """With piggy-back the verdict of round 4 is about the candidate of round 3."""
    records = [record(4, accepted=False, judged=3), record(5, judged=None)]
    found = metrics.errors(records, poisoned={3})
    assert found == (Count(0, 1), Count(0, 1))


def test_repeats_are_put_together():
    """Counts add up; a run with nothing to count has no share of its own."""
    rate = Rate((Count(1, 4), Count(0, 0), Count(3, 4)))
    assert (rate.value, rate.each) == (0.5, (0.25, 0.75))
    assert rate.rest.each == (0.75, 0.25)
    nothing = Rate(())
    assert nothing.value is None
    assert nothing.interval is None


def of_seed(seed, *verdicts, **labels):
    """Return a run without poison in which so many candidates were accepted, or not."""
    records = [record(n, accepted=ok) for n, ok in enumerate(verdicts, start=1)]
    return Result(Case({"seed": seed} | labels, Job("x", load())), records)


def test_runs_of_one_seed_are_one_repeat():
    """What two cells count with the same seed is put together before seeds are compared."""
    runs = [of_seed(0, True, False, q=3), of_seed(0, True, True, q=5), of_seed(1, True, q=3)]
    assert metrics.rate(runs, metrics.alarms).runs == (Count(1, 4), Count(0, 1))


def test_the_design_effect_is_that_of_false_alarms_cell_by_cell():
    """Cells are apart: one with 2 of 2 and 0 of 2 alarms has X² = 4; one without any shows none."""
    runs = [
        of_seed(0, False, False, q=3),
        of_seed(1, True, True, q=3),
        of_seed(0, True, True, q=5),
        of_seed(1, True, True, q=5),
    ]
    assert metrics.alarms_effect(runs) == pytest.approx(4)
    assert metrics.alarms_effect(runs[2:]) is None


def test_the_largest_backdoor_let_in_and_the_accuracy_lost_by_hand():
    """Accepted since round 4, the first attack on the defence: 30 % at most, by any run 60 %.

    What was let in before, and what was rejected, does not count. Of .8 at best .75 is left.
    """
    attack = {"backdoor.inject": [2, 4, 6], "validation.warm_up": 3}

    def result(*rounds, **more):
        records = [
            record(n, accepted=ok, judged=n, model=Quality(accuracy, backdoor))
            for n, ok, accuracy, backdoor in rounds
        ]
        return Result(Case({}, Job("x", load(overrides=attack | more))), records)

    one = result(
        (2, True, 0.7, 0.9), (3, True, 0.8, 0.5), (4, True, 0.8, 0.3), (5, False, 0.8, 0.3),
        (6, True, 0.75, 0.1),
    )  # fmt: skip
    other = result((2, True, 0.5, 0.0), (4, False, 0.5, 0.0), (5, True, 0.6, 0.6))
    nothing = result((2, True, None, 0.9), (4, False, None, 0.9))
    assert [metrics.let_in(run) for run in (one, other, nothing)] == [0.3, 0.6, None]
    assert metrics.let_in(result((4, True, 0.5, 0.4), **{"backdoor.inject": []})) == 0.4
    found = metrics.harm([one, other, nothing])
    assert found["largest let in"].values == (0.6,)
    assert found["accuracy lost (points)"].values == pytest.approx((0.05, 0.0))
    assert tables.shown(metrics.harm([nothing])["largest let in"]) == ""


def test_liars_are_found_among_the_voters():
    """Verdicts are counted by how many of those who voted are liars by the seed's draw."""
    settings = load(
        overrides={"agents.n": 10, "agents.malicious": 0.1, "agents.malicious_validators": 0.2}
    )
    lying = [f"agent-{n}" for n in cell_liars(settings)]
    honest = [f"agent-{n}" for n in range(10) if f"agent-{n}" not in lying]
    assert len(lying) == 3
    voters = {name: Ballot(poisoned=False) for name in [lying[0], *honest[:4]]}
    result = Result(Case({"seed": 0}, Job("x", settings)), [record(1, voters=voters)])
    assert baffle_liars.verdicts(result) == [(1, False, True)]
    wrong = baffle_liars.wrong([result], poisoned=False, fewest=1, most=1)
    assert (wrong.hits, wrong.of) == (0, 1)
    assert baffle_liars.wrong([result], poisoned=True, fewest=0, most=10).value is None
    assert baffle_liars.wrong([result], poisoned=False, fewest=2, most=10).value is None


def cell_liars(settings):
    from fedjury.learning.partition import partition_spec_of  # noqa: PLC0415

    return partition_spec_of(settings).malicious_validators


def test_wrong_verdicts_are_accepted_poison_and_rejected_clean_candidates():
    """Rounds 1 and 2 are poisoned; one is accepted, and one of two clean ones is rejected."""
    settings = load(overrides={"backdoor.inject": [1, 2]})
    records = [record(n, accepted=n % 2 == 1) for n in (1, 2, 3, 4)]
    runs = [Result(Case({"seed": 0}, Job("x", settings)), records)]
    for poisoned in (True, False):
        wrong = baffle_liars.wrong(runs, poisoned=poisoned, fewest=0, most=0)
        assert (wrong.hits, wrong.of) == (1, 2)


# Tables


def test_a_table_as_csv_and_as_markdown(tmp_path):
    """Every number is in the CSV; Markdown shows the rate with its interval beside the paper's."""
    rows = [
        {
            "who": "both",
            "FN": Rate((Count(0, 10), Count(4, 10))),
            "paper": "≤ .1",
            "accuracy": Mean((0.8, 0.9)),
            "lost": Mean((0.01,), "points"),
        }
    ]
    table = Table("", "Errors", rows)
    tables.write_csv(tmp_path / "t.csv", table)
    [row] = csv.DictReader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines())
    assert row["FN"] == "0.2"
    assert (row["FN count"], row["FN of"], row["FN least run"]) == ("4", "20", "0.0")
    assert (row["FN low"], row["FN high"]) == ("0.0", "1.0")
    assert (row["accuracy least run"], row["accuracy most run"]) == ("0.8", "0.9")
    text = tables.markdown(table).splitlines()
    assert text[2] == "| who | FN | paper | accuracy | lost |"
    assert text[3] == "| --- | ---: | --- | ---: | ---: |"
    assert text[4] == "| both | 0.200 [0.000, 1.000] | ≤ .1 | 85.0 % (80.0 to 90.0) | +1.0 |"


def test_targets_are_reached_or_missed():
    """A figure without a limit is only reported; one that was never seen is neither."""
    low = Rate((Count(1, 100),))
    assert target("FN", low, most=0.02)["outcome"] == "reached"
    assert target("FN", low, most=0.005)["outcome"] == "missed"
    assert target("caught", low, least=0.95)["outcome"] == "missed"
    assert target("FP", low)["target"] == "as it is"
    assert target("FN", Rate(()), most=0.1)["outcome"] == ""
    assert target("lost", Mean((0.004, 0.02), "points"), most=0.01)["outcome"] == "missed"


# Cells, and what is kept


@pytest.fixture(scope="module")
def tiny():
    """Plan experiments at the scale of tests."""
    return BAFFLE.plan("tiny", {"digits": datasets.load("digits", Path("data"), 300)}, range(1), "")


def stable(tiny, **labels):
    """Return the cells of the look-back table with these labels."""
    return [
        c for c in EXPERIMENTS["baffle-stable"].cases(tiny) if labels.items() <= c.labels.items()
    ]


def test_keys_follow_the_settings(tiny):
    """Another setting, or another run to start from, is another cell; the broker is not."""
    [one] = stable(tiny, judge="lof", step="eta/N", who="both")
    settings = one.settings
    other = settings.replaced(broker=Broker(port=1999))
    assert one.job._replace(settings=other).key == one.job.key
    other = settings.replaced(wire=settings.wire.replaced(history="float16"))
    changed = [
        one.job._replace(settings=other),
        one.job._replace(start=None),
        one.job._replace(before=one.job.before._replace(start=None)),
    ]
    assert len({one.job.key, *(job.key for job in changed)}) == 4


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["small", "paper", "tiny"])
def test_every_grid_has_each_cell_once(name, scale):
    """No two cells are the same run, and every one has a seed."""
    setup = EXPERIMENTS[name].setup
    made = setup.plan(scale, {"digits": datasets.load("digits", Path("data"))}, range(3, 4), "")
    cells = EXPERIMENTS[name].cases(made)
    assert len({c.job.key for c in cells}) == len({tuple(c.labels.items()) for c in cells})
    assert {c.settings.run.seed for c in cells} == {c.labels["seed"] for c in cells} == {3}


@pytest.fixture
def runs(monkeypatch):
    """Let tasks write made-up records instead of running; returns the keys of those that ran."""
    ran = []

    def perform(task, on_round):
        on_round()
        ran.append(task.kept.stem)
        if task.kept.suffix == ".json":
            task.kept.write_text(json.dumps({"records": [to_json(record(1))]}))
        else:
            task.kept.mkdir()

    monkeypatch.setattr(workers, "perform", perform)
    return ran


def test_done_cells_are_not_run_again(tiny, tmp_path, runs):
    """A second campaign runs nothing; a half-written cell is run again, and --fresh runs all."""
    cells = stable(tiny, judge="lof", who="both")
    where, how = runner.place(tmp_path, "x", "tiny", "digits"), runner.How(jobs=0)
    runner.run(cells, where, how)
    keys = [c.job.key for c in cells]
    assert runs[-len(cells) :] == keys
    assert runs[:-2] == [cells[0].job.start.key, *(c.job.before.key for c in cells)]
    runs.clear()
    assert len(runner.run(cells, where, how)) == len(cells)
    assert runs == []
    (where.cases / f"{keys[0]}.json").write_text('{"records": [{"rou')
    results = runner.run(cells, where, how)
    assert runs == keys[:1]
    assert all(len(result.records) == 1 for result in results)
    runs.clear()
    runner.run(cells, where, how._replace(fresh=True))
    assert runs == keys  # what they start from is still there


def test_what_a_crash_left_is_redone(tiny, tmp_path):
    """The folder of a run that was broken off does not get into the next attempt."""
    [one] = stable(tiny, judge="none", attack="no", step="mean")
    job = one.job._replace(start=None, before=None)
    where = runner.place(tmp_path, "x", "tiny", "digits")
    half = where.running / job.key
    half.mkdir(parents=True)
    (half / "rounds.jsonl").write_text('{"round": 77}\n{"rou')
    [result] = runner.run([one._replace(job=job)], where, runner.How(jobs=0))
    assert [r.round for r in result.records] == list(range(1, 10))
    assert not where.running.exists()
    assert load([where.cases / f"{job.key}.toml"]).agents == one.settings.agents


def seen(records):
    """Return what the same seed has to bring back, however it is run."""
    return [
        (
            *(r.round, r.accepted, r.why, r.judged, r.model, r.candidate, r.votes.counts),
            *((name, vote.poisoned, vote.score) for name, vote in r.votes.voters.items()),
        )
        for r in records
    ]


@pytest.mark.parametrize("who", ["clients", "both"])
def test_going_on_from_shared_rounds_changes_nothing(tiny, tmp_path, who):
    """A cell that goes on from the shared first rounds has the records of one from round 1."""
    [one] = stable(tiny, judge="lof", who=who, step="eta/N")
    whole = one._replace(job=one.job._replace(before=None))
    assert one.job.before is not None
    where = runner.place(tmp_path, "x", "tiny", "digits")
    split, through = runner.run([one, whole], where, runner.How(jobs=0))
    assert seen(split.records) == seen(through.records)
    assert [bool(r.votes.asked) for r in split.records] == [False] * 5 + [True] * 4


@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto (apt install mosquitto)")
def test_memory_and_broker_give_the_same(tiny, tmp_path):
    """The same seed has the same records in one process and over MQTT, shared rounds included."""
    cells = stable(tiny, judge="lof", who="both", step="eta/N")
    here = runner.run(cells, runner.place(tmp_path, "a", "t", "x"), runner.How(jobs=0))
    with local_broker("mosquitto", say=lambda _: None, log=tmp_path / "broker.log") as address:
        how = runner.How("broker", Broker(host=address.host, port=address.port), jobs=1)
        there = runner.run(cells, runner.place(tmp_path, "b", "t", "y"), how)
    assert seen(here[0].records) == seen(there[0].records)
    logs = list((tmp_path / "b-t-y" / "cells").glob("*.log"))
    assert any("round" in log.read_text() for log in logs)


class Counting:
    """Watches a run, and counts its updates by agent."""

    def __init__(self, settings):
        self.seen = {settings.run.seed: 0}

    def __call__(self, topic, payload):
        """Count an update."""
        kind = USUAL.parse(topic).kind
        self.seen[0] += kind is Update and bool(payload)

    def found(self):
        """Return what was counted."""
        return {"updates": self.seen[0]}


def test_what_a_run_is_watched_by_is_kept_with_it(tiny, tmp_path):
    """Single updates, of which records say nothing: they are seen in memory alone."""
    [one] = stable(tiny, judge="none", attack="no", step="mean")
    job = one.job._replace(start=None, before=None, watch=Counting)
    where = runner.place(tmp_path, "x", "tiny", "digits")
    for _ in range(2):  # the second time it is read
        [result] = runner.run([one._replace(job=job)], where, runner.How(jobs=0))
        assert result.found == {"updates": sum(record.updates for record in result.records)}
    other = where._replace(folder=tmp_path / "y")
    with pytest.raises(CaseError, match="seen in memory only: take --link memory"):
        runner.run([one._replace(job=job)], other, runner.How("broker", jobs=0))


# From end to end

COLUMNS = {
    "baffle-stable": [
        "judge",
        "step",
        "l",
        "who",
        "split",
        "attack",
        "FN",
        "FN low",
        "FN high",
        "FP",
        "accuracy at the end",
        "less than without attack (points)",
        "backdoor at the end",
        "largest let in",
        "accuracy lost (points)",
    ],
    "baffle-quorum": [
        "judge",
        "who",
        "q",
        "FN",
        "FP",
        "paper, CIFAR-10 / FEMNIST",
        "largest let in",
        "accuracy lost (points)",
    ],
    "baffle-early": [
        "judge",
        "FN",
        "FP",
        "accuracy at the end",
        "backdoor at the end",
        "largest let in",
        "accuracy lost (points)",
    ],
    "baffle-adaptive": [
        "judge",
        "attacker judges",
        "step",
        "who",
        "split",
        "submitted",
        "caught",
        "took",
        "FN",
        "FP",
        "largest let in",
        "accuracy lost (points)",
    ],
    "baffle-liars": [
        "judge",
        "how",
        "share",
        "FN",
        "FP",
        "largest let in",
        "accuracy lost (points)",
    ],
    "baffle-bytes": [
        "judge",
        "way",
        "kB a vote",
        "paper",
        "votes unlike plain",
        "decisions unlike plain",
    ],
    "baffle-votes": [
        "samples",
        "decide",
        "validators",
        "FN",
        "FP",
        "largest let in",
        "accuracy lost (points)",
    ],
    "mpaf": ["data", "rule", "attack", "0 %", "5 %", "10 %", "25 %", "25 % least run"],
    "detection": ["detector", "percent", "scale", "precision", "recall", "accuracy before"],
    "judge-adaptive": [
        "data",
        "step",
        "judge",
        "attacker",
        "submitted",
        "caught",
        "took",
        "let in of those",
        "largest let in",
        "by seed",
        "FP",
        "FP of one",
        "less than without attack (points)",
    ],
    "judge-settled": [
        "base",
        "step",
        "samples",
        "right on agents' data",
        "zero change vectors",
        "answers changed by a candidate",
        "one voter's FP",
        "quorum's FP",
        "FN",
    ],
    "judge-always": ["judge", "submitted", "took", "let in of those", "largest let in", "FP"],
    "group-leak": [
        "split",
        "size",
        "groups",
        "rounds",
        "cosine",
        "cosine with the last",
        "told apart",
        "label read",
    ],
    "judge-alarms": ["judge", "data", "samples", "step", "FP", "FP high", "FP of one"],
    "judge-liars": ["judge", "lie", "liars", "let in of those", "if independent", "FP"],
    "group-votes": [
        "votes on",
        "judge",
        "replaces",
        "strikes",
        "honest updates kept",
        "strikes let in",
        "FN of groups",
        "FP of groups",
    ],
    "group-crowd": [
        "attack",
        "defence",
        "size",
        "share",
        "accuracy",
        "backdoor",
        "groups left out",
    ],
    "group-testing": [
        "attack",
        "size",
        "first named after",
        "all named after",
        "named",
        "honest named",
        "spoiled groups voted down",
        "other groups voted down",
    ],
    "secure-votes": [
        "updates",
        "votes on",
        "accuracy at the end",
        "its sd (points)",
        "largest let in",
        "backdoor before",
        "strikes let in",
        "FP of groups",
        "rejected rounds",
        "up an agent (kB)",
        "sent by the aggregator (MB)",
        "down a validator (kB)",
        "seconds a round",
    ],
    "matrix": [
        "attack",
        "rule",
        "guard",
        "accuracy",
        "no attack",
        "recall",
        "rejected",
        "largest let in",
        "accuracy lost (points)",
    ],
    "privacy": ["agents", "epsilon", "votes", "noise", "spent", "accuracy at the end", "FP"],
}


PICKED = {
    "judge-adaptive": "judge=robust",
    "judge-liars": "judge=pooled",
    "group-votes": "judge=robust",
}
"""Part of a grid that stands for the whole, where that takes too long."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Hold the folder of all experiments' results, so that they share what they start from."""
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("baffle-votes", "matrix") else pytest.param(name, marks=pytest.mark.chaos)
        for name in EXPERIMENTS
    ],
)
def test_every_experiment_runs(results, capsys, name):
    """At the scale of tests each one runs to its end and writes table, report and picture."""
    only = ["--only", PICKED[name]] if name in PICKED else []
    __main__.main(
        [name, "--scale", "tiny", "--repeats", "1", "--jobs", "0", "--runs", str(results), *only]
    )
    folder, columns = results / f"{name}-tiny-digits", COLUMNS[name]
    name = "-".join([name, *(pick.replace("=", "-") for pick in only[1:])])
    header = next(csv.reader((folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()))
    assert set(columns) <= set(header)
    report = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert report.startswith(f"# {name}\n")
    assert "; 1 repeat, seed 0." in report
    assert report in capsys.readouterr().out
    runs = list(csv.DictReader((folder / f"{name}-runs.csv").read_text().splitlines()))
    assert len(runs) == len(list((folder / "cells").glob("*.json")))
    assert {"cell", "seed", "data.name", "FN count", "FN of", "FP count", "FP of"} <= set(runs[0])
    assert all(float(run["seconds"]) > 0 for run in runs)
    assert "\nWall time of the cells: " in report
    assert (folder / f"{name}.png").stat().st_size > 10_000
    assert list((folder / "cells").glob("*.toml"))


def test_every_experiment_has_its_columns():
    """A new experiment says here what it promises."""
    assert set(COLUMNS) == set(EXPERIMENTS)


def test_without_a_name_they_are_listed(capsys):
    """One line each."""
    assert __main__.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)


def command(*arguments):
    return [sys.executable, "-m", "fedjury.experiments", *arguments]


def test_a_setting_holds_for_all_cells_and_what_they_start_from(tmp_path):
    """Its files stand beside those of the whole experiment, and the CSV of runs shows it."""
    chosen = ["--scale", "tiny", "--repeats", "1", "--jobs", "0", "--runs", str(tmp_path)]
    __main__.main(["baffle-bytes", *chosen, "--set", "agents.alpha=5"])
    folder = tmp_path / "baffle-bytes-tiny-digits"
    assert (folder / "baffle-bytes-agents.alpha-5.md").exists()
    tomls = [*(folder / "cells").glob("*.toml")]
    assert {load([file]).agents.alpha for file in tomls} == {5}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("run.seed=3", "experiments take that from --seed"),
        ("validation.judge=lof", "this experiment sets it itself, to 'calibrated', 'lof'"),
        ("agents.alhpa=5", "did you mean 'agents.alpha'"),
    ],
)
def test_settings_that_an_experiment_cannot_take(tmp_path, given, said):
    """What a flag says, what it varies itself, and what there is not."""
    with pytest.raises(SettingsError, match=said):
        __main__.main(["baffle-bytes", "--scale", "tiny", "--runs", str(tmp_path), "--set", given])


def test_an_unknown_name_lists_the_valid_ones():
    """One sentence, with the nearest, and exit code 2."""
    done = warm.run(
        command("baffle-stabel"), cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: unknown experiment: 'baffle-stabel'; did you mean")
    assert line.endswith(f"valid: {', '.join(EXPERIMENTS)}")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--repeats", "0"), "--repeats must be 1 or more"),
        (("--jobs", "-1"), "--jobs and --seed 0 or more"),
        (("--data", "no.npz"), "no.npz"),
        (("--data", "no-data"), "valid: cifar10"),
    ],
)
def test_mistakes_are_said_before_anything_runs(tmp_path, option, said):
    """A number that cannot be, or data that are not there."""
    with pytest.raises(SettingsError, match=said):
        __main__.main(["baffle-stable", "--runs", str(tmp_path), *option])
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stops_and_the_same_command_goes_on(tmp_path, capsys):
    """Workers end with the campaign; what was finished is there, and the rest is run later."""
    arguments = ["baffle-bytes", "--scale", "tiny", "--runs", str(tmp_path)]
    cells = tmp_path / "baffle-bytes-tiny-digits" / "cells"
    with warm.Popen(
        command(*arguments, "--repeats", "3"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as first:
        until = time.monotonic() + 60
        while not list(cells.glob("*.json")) and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does
        out, err = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "stopped; the same command resumes" in out
    assert err == ""
    kept = {file: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert 0 < len(kept) < 18
    assert __main__.main([*arguments, "--repeats", "1", "--jobs", "0"]) == 0
    assert "| incremental |" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(list(cells.glob("*.json"))) >= 6


def test_a_cell_that_fails_names_its_log(tiny, tmp_path):
    """The message is the reason; the log has the rest."""
    [one] = stable(tiny, judge="none", attack="no", step="mean")
    settings = one.settings.replaced(model=one.settings.model.replaced(name="none"))
    broken = one._replace(job=Job("broken", settings))
    where = runner.place(tmp_path, "x", "tiny", "digits")
    with pytest.raises(CaseError, match=r"failed: unknown model: 'none'.*\(see .*\.log\)"):
        runner.run([broken], where, runner.How(jobs=1))
    [log] = where.cases.glob("*.log")
    assert "Traceback" in log.read_text()


def test_what_compression_changes_is_counted_while_the_runs_are_alike():
    """Votes count up to the first decision that differs: after it other models are judged."""
    settings = load()

    def run(*rounds):
        records = [
            record(n, accepted=ok, voters={"a": Ballot(said), "b": Ballot(False)})
            for n, (ok, said) in enumerate(rounds, start=1)
        ]
        return Result(Case({}, Job("x", settings)), records)

    plain = run((True, False), (True, False), (True, False), (True, True))
    other = run((True, False), (True, True), (False, True), (False, False))
    assert baffle_bytes.unlike(other, plain) == (Count(2, 6), Count(1, 3))
    assert baffle_bytes.unlike(plain, plain) == (Count(0, 8), Count(0, 4))
