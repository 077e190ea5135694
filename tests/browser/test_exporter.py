"""What Prometheus and Grafana get: metrics over HTTP beside the records, and the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import warm
from support.listening import RawClient, until
from support.network import ENVIRONMENT, KIND, ROOT, ROUNDS, RUN, ended, federation
from support.watching import GROUPED, MANIFEST, opened, record, say, sight_of

from fedjury.broker.local import local_broker
from fedjury.config.settings import SettingsError
from fedjury.monitor import rows, run_view
from fedjury.monitor.prometheus import __main__ as exporter
from fedjury.monitor.prometheus import metrics, serving
from fedjury.monitor.runs import Snapshot, State
from fedjury.processes import free_port
from fedjury.protocol.messages import Reason
from fedjury.protocol.transport.connection import TransportError

DASHBOARD = json.loads(
    (
        ROOT / "fedjury" / "monitor" / "prometheus" / "grafana" / "dashboards" / "fedjury.json"
    ).read_text(encoding="utf-8")
)
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
FUNCTIONS = {"sum", "by", "rate", "increase", "topk", "label_values"}


def samples(text):
    """Read the exposition format: (name, labels without order) -> value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def collected(state, **sight):
    """Return all samples there are of a state."""
    collector = metrics.RunsCollector(lambda: sight_of(state, **sight))
    return [sample for family in collector.collect() for sample in family.samples]


def rich_state():
    """Return a state in which all is known that ever is."""
    said = record(
        1,
        backdoor=0.1,
        candidate_backdoor=0.2,
        largest_backdoor=0.3,
        accuracy_lost=0.05,
        invalid_messages={"duplicate": 1},
        suspicion={"a": 0.9},
        flagged={"a": "burst"},
        quarantined=["a"],
        permanent=[],
        filtered=1,
        metrics={"rmse": 0.125},
        **GROUPED,
        privacy={"epsilon": 2.5, "delta": 1e-5, "releases": 3, "noise": 4.0},
    )
    messages = [say("manifest", MANIFEST), say("round", opened(2)), say("log/round", said)]
    return run_view.on_messages(State(), messages, 1.0)


# ---------------------------------------------------------------- the dashboard


def labels_by_name():
    """Return what the exporter has: name of a sample -> its labels."""
    return {sample.name: set(sample.labels) for sample in collected(rich_state())}


def test_all_that_can_be_exported_is_there():
    """The state that these tests go by leaves no metric out."""
    names = set(labels_by_name())
    wanted = {f"{m.name}_total" if m.counter else m.name for m in metrics.METRICS}
    assert wanted <= names
    assert {name for name in names if not re.fullmatch(r"fedjury_[a-z_]+", name)} == set()


@pytest.mark.parametrize("expression", sorted(set(EXPRESSIONS)))
def test_the_dashboard_asks_for_what_there_is(expression):
    """Every metric in the dashboard is one that the exporter has, and so is every label."""
    known = labels_by_name()
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    words = set(re.findall(r"[a-zA-Z_]\w*", bare))
    named = {word for word in words if word.startswith("fedjury_")}
    assert named
    assert named <= known.keys()
    labels = set().union(*(known[name] for name in named))
    assert words - named - FUNCTIONS <= labels
    by = set(re.findall(r"by \((\w+)\)", expression))
    [target] = [t for p in DASHBOARD["panels"] for t in p["targets"] if t["expr"] == expression][:1]
    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert shown <= (by or labels)
    if "run" in labels:
        assert '{run=~"$run"}' in expression


def test_the_dashboard_lets_people_choose_a_run():
    """Its variable lists the runs that the exporter knows; every panel has a place of its own."""
    [variable] = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "run"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found[2] in labels_by_name()[found[1]]
    places = Counter()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        places.update(
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        )
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${datasource}"}
    assert set(places.values()) == {1}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_shows_everything_that_was_asked_for():
    """Accuracy, backdoor, verdicts, votes, refusals, agents, speed, bytes, drops, suspects."""
    asked = " ".join(EXPRESSIONS)
    for name in (
        "accuracy",
        "candidate_accuracy",
        "backdoor",
        "largest_backdoor",
        "rounds_total",
        "vote",
        "refused_total",
        "agents_online",
        "updates_per_second",
        "bytes_total",
        "dropped_total",
        "flagged",
        "quarantined",
        "suspicion",
        "metric",
        "declined",
        "groups_total",
        "group_validator_bytes",
        "group_validator_seconds",
    ):
        assert f"fedjury_{name}{{" in asked, name


# ---------------------------------------------------------------- what is exported


def test_a_run_on_numbers_exports_what_was_measured():
    """A gauge by name; there is no accuracy, which is not 0, and so many names at the most."""
    values = {f"metric-{n}": 1.0 for n in range(3)} | {"rmse": 0.125}
    rounds = [record(1, accuracy=None, metrics=values)]
    rounds += [record(n, accuracy=None, metrics={f"new-{n}": 1.0}) for n in range(2, 40)]
    state, named = State(), set()
    collector = metrics.RunsCollector(lambda: sight_of(state))
    for one in rounds:
        state = run_view.on_messages(state, [say("log/round", one)], 1.0)
        found = [s for family in collector.collect() for s in family.samples]
        assert not any(sample.name == "fedjury_accuracy" for sample in found)
        shown = {s.labels["name"]: s.value for s in found if s.name == "fedjury_metric"}
        named |= shown.keys()
        if one["round"] == 1:
            assert shown == values
    assert len(named) == metrics.NAMED


def test_metrics_are_the_state():
    """Gauges are the last round's, counters the whole run's, and reasons are there with a zero."""
    state = rich_state()
    said = record(
        2,
        accepted=False,
        invalid_messages={"duplicate": 2, "not_finite": 1},
        accuracy=0.4,
        largest_backdoor=0.3,
        accuracy_lost=0.1,
        privacy={"epsilon": 2.5, "delta": 1e-5, "releases": 3, "noise": 4.0},
    )
    state = run_view.on_message(state, *say("log/round", said), 1.0)
    found = {(s.name, frozenset(s.labels.items())): s.value for s in collected(state, outages=3)}

    def value(name, **labels):
        return found["fedjury_" + name, frozenset({"run": "lab", **labels}.items())]

    assert (value("accuracy"), value("accuracy_lost")) == (0.4, 0.1)
    assert (value("largest_backdoor"), value("epsilon")) == (0.3, 2.5)
    assert value("rounds_total", verdict="accepted") == 1
    assert value("rounds_total", verdict="rejected") == 1
    assert value("vote", verdict="silent") == 1
    assert value("votes_total", verdict="clean") == 6
    assert value("refused_total", reason="duplicate") == 3
    assert value("refused_total", reason="not_finite") == 1
    assert value("refused_total", reason="too_many") == 0
    assert value("bytes_total", direction="in") == 2000
    assert value("updates_total") == 20
    assert value("phase", phase="train") == 1
    assert value("phase", phase="done") == 0
    assert value("groups_total", verdict="kept") == 2
    assert value("groups_total", verdict="left_out") == 1
    assert "fedjury_group_validator_bytes" not in {name for name, _ in found}  # no votes on groups
    assert found["fedjury_broker_connected", frozenset()] == 1
    assert found["fedjury_broker_outages_total", frozenset()] == 3


def test_what_groups_cost_a_validator_is_that_of_the_last_round():
    """Bytes and seconds of the median validator; of agents in no groups there is no series."""
    found = {sample.name: sample.value for sample in collected(rich_state())}
    assert found["fedjury_group_validator_bytes"] == 3000
    assert found["fedjury_group_validator_seconds"] == 0.004
    plain = collected(run_view.on_message(State(), *say("log/round", record(1)), 1.0))
    assert not [sample.name for sample in plain if "group" in sample.name]


def test_names_cannot_blow_up_the_series():
    """However many agents, reasons, detectors and runs are made up, the series stay few."""
    state, series = State(), set()
    collector = metrics.RunsCollector(lambda: sight_of(state))
    for number in range(1, 60):
        names = [f"agent-{number}-{n}" for n in range(500)]
        said = record(
            number,
            suspicion=dict.fromkeys(names, 1.0),
            flagged={n: f"d-{n}" for n in names},
            quarantined=names,
            invalid_messages=dict.fromkeys(names, 1),
            why=names[0],
        )
        messages = [say("log/round", said), say("log/round", said, f"run{number}")]
        messages += [say(f"agent/{name}", {"online": True, "since": 1.0}) for name in names]
        state = run_view.on_messages(state, messages, float(number))
        series |= {
            (sample.name, *sample.labels.items())
            for family in collector.collect()
            for sample in family.samples
            if sample.labels.get("run", "lab") == "lab"
        }
    reasons = {s for s in series if s[0] == "fedjury_refused_total"}
    assert len(reasons) == len(Reason) + 1
    agents = {s for s in series if s[0] == "fedjury_suspicion"}
    assert len(agents) == metrics.NAMED
    assert len({s for s in series if s[0] == "fedjury_flagged"}) <= rows.DETECTORS
    assert len(series) < 120
    runs = {s.labels["run"] for s in collected(state) if "run" in s.labels}
    assert len(runs) == run_view.RUNS


# ---------------------------------------------------------------- the command


class Scraped:
    """An exporter as a child process."""

    def __init__(self, address, log, *more):
        self.log = log
        with log.open("wb") as output:
            self.child = warm.Popen(
                [
                    sys.executable,
                    "-m",
                    "fedjury.monitor.prometheus",
                    "--port",
                    "0",
                    *more,
                    "--broker",
                    f"{address.host}:{address.port}",
                ],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdout=output,
                stderr=output,
            )
        until(lambda: "/metrics" in log.read_text(), 60)
        self.address = re.search(r"http://[0-9.:]+", log.read_text())[0]

    def scrape(self):
        """Return what it says now."""
        answer = httpx.get(f"{self.address}/metrics", verify=False)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return samples(answer.text)

    def of(self, name, **labels):
        """Return a value, or None."""
        return self.scrape().get((f"fedjury_{name}", frozenset(labels.items())))

    def end(self):
        """End it as Ctrl-C does."""
        self.child.send_signal(2)
        code = self.child.wait(20)
        return code, self.log.read_text()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Run a small federation under an exporter; gives what it said during the run and after it."""
    folder = tmp_path_factory.mktemp("scraped")
    with federation(KIND, folder) as programs:
        scraped = Scraped(programs.address, folder / "exporter.log")
        children = [programs.aggregator("--detect", "fixed_point"), programs.agents()]
        with RawClient(programs.address) as stranger:
            until(lambda: (scraped.of("round", run=RUN) or 0) >= 1, 60)
            stranger.publish(f"fl/v2/{RUN}/update/agent-07", b"junk")
            during = []
            while children[0].poll() is None:
                during.append(scraped.scrape())
                time.sleep(0.1)
        ended(*children)
        until(lambda: scraped.of("run_over", run=RUN) == 1)
        until(lambda: scraped.of("agents_online", run=RUN) == 0)
        programs.during, programs.scraped = during, scraped
        yield programs
        scraped.child.kill()
        scraped.child.wait()


def test_what_is_scraped_is_what_was_recorded(scraped):
    """After a run every number is that of rounds.jsonl, added up where it is a counter."""
    records = scraped.records()
    last, now = records[-1], scraped.scraped.scrape()

    def value(name, **labels):
        return now[f"fedjury_{name}", frozenset({"run": RUN, **labels}.items())]

    assert len(records) == ROUNDS
    assert value("round") == ROUNDS
    assert value("version") == last.version
    assert value("accuracy") == last.model.accuracy
    assert value("candidate_accuracy") == last.candidate.accuracy
    assert value("updates_per_second") == last.timing.updates_per_second
    assert value("round_seconds") == last.timing.seconds
    assert value("rounds_total", verdict="accepted") == sum(r.accepted for r in records)
    assert value("rounds_total", verdict="rejected") == sum(not r.accepted for r in records)
    assert value("updates_total") == sum(r.updates for r in records)
    assert value("bytes_total", direction="in") == sum(r.traffic.bytes_in for r in records)
    assert value("bytes_total", direction="out") == sum(r.traffic.bytes_out for r in records)
    assert value("dropped_total") == sum(r.traffic.dropped for r in records)
    for verdict, times in zip(("poisoned", "clean", "silent"), last.votes.counts, strict=True):
        assert value("vote", verdict=verdict) == times
        assert value("votes_total", verdict=verdict) == sum(
            getattr(r.votes, verdict) for r in records
        )
    refused = sum((Counter(r.traffic.invalid_messages) for r in records), Counter())
    assert refused["malformed"] == 1
    assert {reason: value("refused_total", reason=reason) for reason in refused} == refused
    for detector, times in Counter(last.detection.flagged.values()).items():
        assert value("flagged", detector=detector) == times


def test_what_is_scraped_in_mid_run_belongs_together(scraped):
    """Each scrape shows an accuracy of the record of as many rounds as it counts."""
    accuracies = {r.round: r.model.accuracy for r in scraped.records()}
    of_run = frozenset({"run": RUN}.items())
    seen = set()
    for scrape in scraped.during:
        done = sum(
            scrape.get(
                ("fedjury_rounds_total", frozenset({"run": RUN, "verdict": verdict}.items())), 0
            )
            for verdict in ("accepted", "rejected")
        )
        if done:
            assert scrape["fedjury_accuracy", of_run] == accuracies[done]
            seen.add(done)
        assert scrape["fedjury_agents_online", of_run] <= 60
    assert seen


def test_ctrl_c_ends_it_with_130(scraped):
    """Without a traceback; and before that other paths say where the metrics are."""
    assert "see /metrics" in httpx.get(scraped.scraped.address).text
    assert httpx.get(f"{scraped.scraped.address}/secrets").status_code == 404
    code, said = scraped.scraped.end()
    assert code == 130
    where = f"{scraped.address.host}:{scraped.address.port}"
    assert said.splitlines() == [f"runs at {where}: {scraped.scraped.address}/metrics"]


def test_the_broker_may_go_and_come(tmp_path):
    """The exporter answers all the while, says that the broker is gone, and hears it again."""
    port = free_port()
    with local_broker(KIND, say=lambda _: None, port=port) as address:
        scraped = Scraped(address, tmp_path / "exporter.log", "--run", "lab")
        with RawClient(address) as client:
            client.publish(*say("log/round", record(1)), retain=True)
            client.publish(*say("log/round", record(1), "other"), retain=True)
            until(lambda: scraped.of("accuracy", run="lab"))
    try:
        until(lambda: scraped.of("broker_connected") == 0)
        assert scraped.of("accuracy", run="lab") == record(1)["accuracy"]
        with (
            local_broker(KIND, say=lambda _: None, port=port) as address,
            RawClient(address) as client,
        ):
            client.publish(*say("log/round", record(2)), retain=True)
            until(lambda: scraped.of("accuracy", run="lab") == record(2)["accuracy"], 60)
            assert scraped.of("broker_connected") == 1
            assert scraped.of("broker_outages_total") == 1
            assert scraped.of("runs") == 1  # the other run was not asked for
    finally:
        scraped.child.kill()
        scraped.child.wait()


def test_what_cannot_be_is_one_sentence(capsys):
    """A port that is taken, one that cannot be, and a broker that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {number}"):
            exporter.main(["--port", number])
    with pytest.raises(SettingsError, match="--port 70000 cannot be"):
        exporter.main(["--port", "70000"])
    with pytest.raises(TransportError, match=r"no MQTT broker answers at 127\.0\.0\.1:1 "):
        exporter.main(["--port", "0", "--broker", "127.0.0.1:1"])
    with pytest.raises(SystemExit):
        exporter.main(["--help"])
    said = capsys.readouterr().out
    assert "fedjury exporter --broker 127.0.0.1:1883 --port 9100" in said


def test_an_exporter_that_hears_nothing_more_says_so():
    """Prometheus is told that there is nothing, not old numbers for ever."""

    def look():
        raise TransportError("the connection to the broker broke: no more sockets")

    good = [True]
    app = serving.app_of(metrics.RunsCollector(lambda: Snapshot() if good[0] else look()))
    transport = httpx.ASGITransport(app)

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/metrics")

    import asyncio  # noqa: PLC0415

    assert asyncio.run(ask()).status_code == 200
    good[0] = False
    answer = asyncio.run(ask())
    assert answer.status_code == 503
    assert "no more sockets" in answer.text


# ---------------------------------------------------------------- Prometheus itself


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_prometheus_has_data_for_every_expression(tmp_path):
    """A real Prometheus with our configuration scrapes, and no panel of the dashboard is empty."""
    said = (ROOT / "fedjury" / "monitor" / "prometheus" / "grafana" / "prometheus.yml").read_text(
        encoding="utf-8"
    )
    with local_broker(KIND, say=lambda _: None) as address:
        scraped = Scraped(address, tmp_path / "exporter.log")
        said = said.replace("exporter:9100", scraped.address.removeprefix("http://"))
        said = re.sub(r": [45]s", ": 1s", said)
        (tmp_path / "prometheus.yml").write_text(said, encoding="utf-8")
        port = free_port()
        with (tmp_path / "prometheus.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={tmp_path / 'prometheus.yml'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            with (
                RawClient(address) as client,
                httpx.Client(
                    base_url=f"http://127.0.0.1:{port}/api/v1",
                    transport=httpx.HTTPTransport(retries=9),
                ) as asking,
            ):
                empty = dict.fromkeys(EXPRESSIONS)
                for number in range(1, 40):
                    client.publish(
                        *say(
                            "log/round",
                            record(
                                number,
                                backdoor=0.1,
                                largest_backdoor=0.1,
                                accuracy_lost=0.0,
                                metrics={"rmse": 0.125},
                                invalid_messages={"duplicate": 1},
                                suspicion={"a": 0.9},
                                flagged={"a": "burst"},
                                quarantined=["a"],
                                permanent=[],
                                filtered=1,
                                **GROUPED,
                            ),
                        )
                    )
                    client.publish(*say("round", opened(number + 1)), retain=True)
                    empty = [expression for expression in empty if not found(asking, expression)]
                    if not empty:
                        break
                    time.sleep(0.5)
                assert empty == []
        finally:
            for child in (server, scraped.child):
                child.kill()
                child.wait()


def found(asking, expression):
    """Ask Prometheus as Grafana would; returns what there is."""
    query = expression.replace("$run", "lab|other").replace("$__rate_interval", "10s")
    try:
        answer = asking.get("/query", params={"query": query})
    except httpx.TransportError:
        return []  # it is not there yet
    return answer.json()["data"]["result"] if answer.status_code == 200 else []
