"""The gateway over HTTP, with a real aggregator behind it: what it takes, refuses and shows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch
from starlette.requests import Request
from support.federation import one_thread  # noqa: F401 - a fixture
from support.gateway import Gateway, filled, refused
from support.listening import until

from fedjury.gateway import broker_session
from fedjury.gateway.app import STATUS
from fedjury.gateway.client import GatewayClient
from fedjury.gateway.metrics import Tally
from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.gateway.request_body import HELD, RequestBodyReader, announced
from fedjury.gateway.state import GatewayState, ReceivedUpdate, names_of
from fedjury.learning import models
from fedjury.learning.weights import flatten
from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Model, Reason
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

FULL = "/model/?full=true"


@pytest.fixture
def gateway(tmp_path):
    """Start a run with three slots and nobody else."""
    made = Gateway(tmp_path).begin()
    yield made
    made.close()


@pytest.fixture
def opened():
    """Begin federations with a gateway; all are closed at the end."""
    made = []

    def open_one(folder, **changes):
        made.append(Gateway(folder, **changes).begin())
        return made[-1]

    yield open_one
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Start a run that no test of those who share it changes."""
    made = Gateway(tmp_path_factory.mktemp("quiet")).begin()
    yield made
    made.close()


# ---------------------------------------------------------------- the model's endpoints


def test_the_model_is_json_with_every_tensor(quiet):
    """In full it says version and round, and holds all tensors, nested as they are, exactly."""
    said = quiet.get(FULL)
    assert (said["run"], said["round"], said["version"], said["phase"]) == ("lab", 1, 0, "train")
    assert said["model"] == "mlp"
    flat = np.concatenate([np.array(t, np.float32).ravel() for t in said["state"].values()])
    assert np.array_equal(flat, quiet.desk.state.model.weights)
    assert np.array(said["state"]["1.weight"]).shape == (32, 64)


def test_the_model_is_a_bare_state_dict(quiet):
    """GET /model/ holds the tensors and nothing else: what ``load_state_dict`` takes."""
    said = quiet.get("/model/")
    assert said == quiet.get(FULL)["state"]
    model = models.build("mlp", (1, 8, 8), 10, seed=5)
    model.load_state_dict({name: torch.tensor(value) for name, value in said.items()})
    assert np.array_equal(flatten(model), quiet.desk.state.model.weights)


def model_of(**training):
    """Return what a client of ours reads from a gateway that says this of training."""
    usual = {"epochs": 1, "batch_size": 4, "learning_rate": 0.5, "momentum": 0.0}
    network = models.build("mlp", (1, 8, 8), training.get("classes", 10) or 1, seed=0)
    content = {
        "model": "mlp",
        "round": 1,
        "phase": "train",
        "version": 0,
        "classes": training.pop("classes", 10),
        "input_shape": [1, 8, 8],
        "training": usual | training,
        "state": {name: tensor.tolist() for name, tensor in network.state_dict().items()},
    }
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json=content))
    http = httpx.Client(transport=answers, base_url="http://gateway")
    return GatewayClient("http://gateway", http).model()


def test_clients_are_told_towards_what_and_how_to_train(quiet):
    """Loss and optimizer are part of what the full form says."""
    said = quiet.get(FULL)["training"]
    assert (said["loss"], said["loss_options"]) == ("", {})
    assert (said["optimizer"], said["optimizer_options"]) == ("sgd", {})


@pytest.mark.parametrize(
    ("training", "why"),
    [
        ({}, ""),
        ({"loss": "cross_entropy", "optimizer": "sgd"}, ""),
        ({"loss": "focal"}, "the run trains with the loss 'focal', this client"),
        ({"loss": "cross_entropy", "loss_options": {"label_smoothing": 0.1}}, "'cross_entropy'"),
        ({"optimizer": "adam"}, "the run trains with the optimizer 'adam', this client"),
        ({"optimizer_options": {"nesterov": True}}, "the optimizer 'sgd'"),
        ({"classes": 0}, "the run predicts numbers"),
    ],
)
def test_a_client_says_why_it_cannot_train(training, why):
    """One that knows cross-entropy and plain SGD alone does not train towards something else."""
    found = model_of(**training).hindrance
    assert (why in found) if why else found == ""


def test_bare_state_dicts_close_a_round(gateway):
    """Three of them, of 0, .25 and .5 everywhere, move every weight by .25, to either address."""
    before = gateway.get("/model/")
    for step, path in ((0.0, "/model/"), (0.25, "/model"), (0.5, "/model/?full=false")):
        moved = {name: filled(tensor, step) for name, tensor in before.items()}
        assert gateway.ask("POST", path, json=moved).status_code == 202
    after = gateway.get(FULL)
    assert (after["round"], after["version"]) == (2, 1)
    assert after["state"]["3.bias"] == pytest.approx([value + 0.25 for value in before["3.bias"]])


def test_a_wrapped_update_is_told_where_it_goes(quiet):
    """The richer form without its parameter, and the bare one with it, say what was expected."""
    answer = quiet.ask("POST", "/model/", json=quiet.update())
    refused(answer, 422, "missing_key")
    assert "full=true" in answer.json()["detail"]
    refused(quiet.post(quiet.get("/model/")), 422, "missing_key")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_parameter_that_is_none_is_refused(quiet, method):
    """``full`` is true or false, and the refusal has the shape of all others."""
    refused(quiet.ask(method, "/model/?full=<script>", json={}), 422, "out_of_range")


def test_posts_close_a_round_and_move_the_model(gateway):
    """Three updates make a round; the mean of them is what the model moves by."""
    before = gateway.get(FULL)
    for step in (0.0, 0.25, 0.5):
        answer = gateway.post(step=step)
        assert answer.status_code == 202
    assert answer.json() == {"agent": "http-002", "round": 1, "version": 0}
    after = gateway.get(FULL)
    assert (after["round"], after["version"]) == (2, 1)
    moved = np.array(after["state"]["1.weight"]) - np.array(before["state"]["1.weight"])
    assert np.allclose(moved, 0.25, atol=1e-6)


def test_history_has_an_entry_before_any_round(gateway):
    """GET /model/accuracy begins with version 0, and the index is the round."""
    first = gateway.get("/model/accuracy")
    assert first == [pytest.approx(gateway.run.state.model.quality.accuracy)]
    for _ in range(3):
        gateway.post(step=0.1)
    history = gateway.get("/model/accuracy")
    assert history == first + [record.model.accuracy for record in gateway.run.records]
    assert len(history) == 2


def test_a_threshold_closes_a_round_with_slots_to_spare(tmp_path, opened):
    """With a threshold of two of three slots, the second post ends the round."""
    gateway = opened(tmp_path, collect__threshold=2)
    gateway.post()
    assert gateway.post().json()["round"] == 1
    assert gateway.get(FULL)["round"] == 2


def test_http_clients_and_mqtt_agents_make_one_model(tmp_path, opened):
    """Five agents on the broker and two over HTTP: the round has seven updates and learns."""
    gateway = opened(tmp_path, slots=2, agents=5, run__rounds=3)
    for _ in range(3):
        for name in ("ann", "bob"):
            assert gateway.post(client=name).status_code == 202
    assert [record.updates for record in gateway.run.records] == [7, 7, 7]
    history = gateway.get("/model/accuracy")
    assert history[-1] > history[0]
    assert gateway.get("/healthz")["phase"] == "done"
    refused(gateway.post(), 409, "wrong_phase")


def test_the_aggregators_own_checks_decide(gateway):
    """An update that is not finite is passed on, refused by the aggregator, and counted there."""
    wrong = gateway.update()
    wrong["update"]["3.bias"][0] = "NaN"
    assert gateway.post(wrong).status_code == 202
    gateway.post()
    gateway.post()
    gateway.desk.work(3000)  # two seconds on the federation's clock: it waits for another try
    assert gateway.run.records[0].traffic.invalid_messages == {"not_finite": 1}
    assert gateway.run.records[0].updates == 2
    assert 'fedjury_refused_total{reason="not_finite"} 1.0' in gateway.ask("GET", "/metrics").text


def test_a_model_that_overflowed_is_shown(tmp_path, opened):
    """Let in, infinities travel both ways as strings, and the history holds numbers all along."""
    gateway = opened(tmp_path, slots=2, limits__finite=False)
    for _ in range(3):
        for sign in (1, -1):
            state = gateway.get(FULL)["state"]
            update = {name: filled(tensor, sign * 3e38) for name, tensor in state.items()}
            update["3.bias"] = ["Infinity", "-Infinity", "NaN", *[3.4e38] * 7]
            version = gateway.desk.state.round.version
            assert gateway.post({"version": version, "update": update}).status_code == 202
    bias = gateway.get(FULL)["state"]["3.bias"]
    assert bias[:3] == ["Infinity", "-Infinity", "NaN"]
    history = gateway.get("/model/accuracy")
    assert len(history) == 4
    assert all(0 <= accuracy <= 1 for accuracy in history)


# ---------------------------------------------------------------- refusals


def test_one_name_is_one_agent(gateway):
    """A name posts once a round and keeps its slot in the next; slots run out."""
    for name in ("ann", "bob"):
        gateway.post(client=name)
    refused(gateway.post(client="ann"), 409, "duplicate")
    assert gateway.post(client="cid").json()["agent"] == "http-002"
    answer = gateway.post(client="dan")
    refused(answer, 429, "no_slot")
    assert int(answer.headers["Retry-After"]) > 0
    assert gateway.post(client="bob").json() == {"agent": "http-001", "round": 2, "version": 1}


def test_another_version_is_a_conflict(quiet):
    """An update made from another version than the round's is refused."""
    refused(quiet.post({**quiet.update(), "version": 7}), 409, "wrong_version")


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda c: c.pop("version"), 422, "missing_key"),
        (lambda c: c.update(colour="red"), 422, "missing_key"),
        (lambda c: c["update"].pop("3.bias"), 422, "missing_key"),
        (lambda c: c["update"].update({"<script>": [1]}), 422, "missing_key"),
        (lambda c: c["update"]["3.bias"].pop(), 422, "wrong_length"),
        (lambda c: c["update"].update({"3.bias": 1}), 422, "wrong_type"),
        (lambda c: c["update"]["3.bias"].append(None), 422, "wrong_length"),
        (lambda c: c.update(version="0"), 422, "wrong_type"),
        (lambda c: c.update(samples=2**31), 422, "out_of_range"),
        (lambda c: c.update(client="a b"), 422, "out_of_range"),
    ],
)
def test_what_is_no_update_of_this_model_is_refused(quiet, change, status, reason):
    """Keys, types, names and shapes are checked, and the answer says which was wrong."""
    content = quiet.update()
    change(content)
    refused(quiet.post(content), status, reason)


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b"", "application/json", 400, "malformed"),
        (b"[" * 100_000, "application/json", 400, "malformed"),
        (b"\xff\xfe\x00", "application/json", 400, "malformed"),
        (b'{"a": 1, "a": 2}', "application/json; charset=utf-8", 400, "malformed"),
        (b'{"version": ' + b"9" * 10_000 + b"}", "application/json", 400, "malformed"),
        (b"{}", "text/plain", 415, "unsupported_type"),
        (b"{}", "", 415, "unsupported_type"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_type"),
    ],
)
def test_what_is_no_json_is_refused(quiet, body, kind, status, reason):
    """Broken, deep, doubled or huge, or not even called JSON: one sentence each."""
    answer = quiet.ask("POST", "/model/", content=body, headers={"Content-Type": kind})
    refused(answer, status, reason)


def test_compressed_bodies_are_refused(quiet):
    """A few kilobytes that unpack to gigabytes are never unpacked."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(quiet.ask("POST", "/model/", content=b"x", headers=headers), 415, "unsupported_type")


def test_input_is_not_reflected(quiet):
    """Of what was sent, an answer holds at most a short quotation in ASCII."""
    name = "<script>alert('\u2603')</script>" * 100
    answer = quiet.post({**quiet.update(), name: 1})
    refused(answer, 422, "missing_key")
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.text) < 200


def test_unknown_paths_and_methods_have_the_same_shape(quiet):
    """404 and 405 are JSON too, and a 405 says what is allowed."""
    refused(quiet.ask("GET", "/etc/passwd"), 404, "not_found")
    answer = quiet.ask("DELETE", "/model/")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


def test_a_slash_more_or_less_is_the_same(quiet):
    """/model is /model/, without a redirect that would lose the body."""
    assert quiet.get("/model") == quiet.get("/model/")
    assert quiet.get("/model/accuracy/") == quiet.get("/model/accuracy")
    refused(quiet.ask("POST", "/model", content=b""), 415, "unsupported_type")


# ---------------------------------------------------------------- large and slow bodies


def flood(read, chunk=b" " * 65_536):
    """Send 100 MB in chunks, and count in ``read`` what was asked for."""

    async def chunks():
        for _ in range(1600):
            read.append(len(chunk))
            yield chunk

    return chunks()


HEADERS = {"Content-Type": "application/json"}


def test_a_body_that_says_it_is_large_is_not_read(quiet):
    """100 MB by Content-Length: refused before the first byte is asked for."""
    read = []
    headers = {**HEADERS, "Content-Length": str(100_000_000)}
    answer = quiet.ask("POST", "/model/", content=flood(read), headers=headers)
    refused(answer, 413, "too_large")
    assert answer.headers["Connection"] == "close"
    assert sum(read) == 0


def test_a_body_that_turns_out_large_is_cut_off(quiet):
    """100 MB in chunks, of which nothing says how many there are: read up to the limit only."""
    read = []
    refused(quiet.ask("POST", "/model/", content=flood(read), headers=HEADERS), 413, "too_large")
    assert sum(read) < 64 * 2410 + 3 * 65_536


def test_a_length_beside_chunks_says_nothing():
    """Room is set aside for what a body in chunks may have, whatever Content-Length says."""
    headers = [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")]
    request = Request({"type": "http", "headers": headers})
    assert announced(request) == -1
    intake = RequestBodyReader()
    with intake.room(request, 1000):
        assert intake.held == 1000


def test_room_is_kept_until_the_answer(gateway):
    """A body whose update waits for the broker still takes up memory."""
    held, send = [], gateway.desk.post

    async def post(posted):
        held.append(intake_of(gateway).held)
        return await send(posted)

    gateway.desk.post = post
    assert gateway.post().status_code == 202
    assert held[0] > 2410
    assert intake_of(gateway).held == 0


@pytest.mark.parametrize("length", ["-1", "1e9", "many", "", "9" * 5000])
def test_a_length_that_is_none_is_refused(quiet, length):
    """Over ASGI a header may hold anything; that is no reason to fall over."""
    headers = {**HEADERS, "Content-Length": length}
    answer = quiet.ask("POST", "/model/", content=flood([]), headers=headers)
    refused(answer, 400, "bad_request")


def test_a_slow_body_is_given_up(quiet):
    """A body that does not come in time ends in a 408, and the room for it is free again."""

    async def trickle():
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    refused(quiet.ask("POST", "/model/", content=trickle(), headers=HEADERS), 408, "too_slow")


def intake_of(gateway):
    """Return what reads the bodies."""
    return next(
        cell.cell_contents.body_reader
        for route in gateway.app.routes
        if getattr(route, "name", "") == "post_model"
        for cell in route.endpoint.__closure__
    )


def test_bodies_together_are_bounded(quiet):
    """While bodies of 64 MB are being read, the next is told to come again."""
    intake = intake_of(quiet)
    assert intake.held == 0, "an earlier request left something behind"
    intake.held = HELD
    answer = quiet.post()
    intake.held = 0
    refused(answer, 503, "too_busy")
    assert answer.headers["Retry-After"]


# ---------------------------------------------------------------- without a broker, or a run


def test_health_says_what_is_missing(tmp_path, request):
    """503 with a reason before there is a run and while there is no broker; then 200 again."""
    gateway = Gateway(tmp_path)
    request.addfinalizer(gateway.close)
    refused(gateway.ask("GET", "/healthz"), 503, "no_run")
    refused(gateway.ask("GET", "/model/"), 503, "no_run")
    assert gateway.get("/model/accuracy") == []
    gateway.begin()
    assert gateway.get("/healthz")["slots"] == 3
    content = gateway.update()
    gateway.desk.connected(up=False)
    gateway.desk.work(1)
    refused(gateway.ask("GET", "/healthz"), 503, "no_broker")
    refused(gateway.post(content), 503, "no_broker")
    assert gateway.get(FULL)["version"] == 0
    gateway.desk.connected(up=True)
    gateway.desk.work(1)
    assert gateway.post(content).status_code == 202


def test_a_crashed_aggregator_gets_the_updates_again(gateway):
    """Two posts are in when it dies; its heir asks for the round again, and has them."""
    gateway.post(client="ann", step=0.1)
    gateway.post(client="bob", step=0.1)
    gateway.run.crash()
    gateway.begin()
    assert gateway.get(FULL)["round"] == 1
    gateway.post(client="cid", step=0.1)
    assert gateway.run.records[0].updates == 3
    assert gateway.get(FULL)["round"] == 2
    assert len(gateway.get("/model/accuracy")) == 2


def test_nothing_leaks_from_one_run_into_the_next(tmp_path, opened):
    """A run of the same name that begins again has its own history, names and counts."""
    gateway = opened(tmp_path / "one")
    for name in ("ann", "bob", "cid"):
        gateway.post(client=name, step=0.1)
    refused(gateway.post(client="dan"), 429, "no_slot")
    assert "fedjury_gateway_updates_total{" in gateway.ask("GET", "/metrics").text
    gateway.run.crash()
    gateway.run.folder = tmp_path / "two"
    gateway.begin()
    assert gateway.get(FULL)["version"] == 0
    assert len(gateway.get("/model/accuracy")) == 1
    text = gateway.ask("GET", "/metrics").text
    assert "fedjury_gateway_updates_total{" not in text
    assert "fedjury_rounds_total 0.0" in text
    assert gateway.post(client="dan").json()["agent"] == "http-000"


def test_a_hostile_broker_breaks_nothing(gateway):
    """Garbage on the run's topics, a model of another size, a record that is none: no change."""
    before = gateway.ask("GET", "/model/").content
    publish = gateway.run.broker.publish
    for topic in ("manifest", "round", "model", "log/round"):
        for payload in (b"", b"{", b"[]", b'{"round": 3}', b"\xc1", b'{"accuracy": "x"}'):
            publish(f"fl/v2/lab/{topic}", payload)
    publish("fl/v2/lab/model", encode(Model(5, np.zeros(7, np.float32))))
    publish("fl/v2/lab/log/round", b'{"round": 2000000000, "accuracy": 0.5}')
    gateway.desk.desk.turn()
    assert gateway.ask("GET", "/model/").content == before
    assert len(gateway.get("/model/accuracy")) == 1


def test_who_is_away_when_a_round_opens_may_still_post(gateway):
    """Connections that drop for a moment shut nobody out of the round that opens meanwhile."""
    gateway.post()
    gateway.post()
    gateway.desk.desk.take(ReceivedUpdate("", 0, 1, np.zeros(2410, np.float32)))
    gateway.desk.connected(up=False)
    gateway.desk.work()
    gateway.desk.connected(up=True)
    gateway.desk.work(1)
    assert gateway.post().json() == {"agent": "http-000", "round": 2, "version": 1}


def test_a_clerk_finds_a_new_hub_when_one_breaks(monkeypatch):
    """While there is no hub, posts are refused; when one breaks, the next takes its place."""
    monkeypatch.setattr(broker_session, "AGAIN", 0.02)
    broker, hubs = MemoryBroker(), []

    def connect():
        if len(hubs) % 2 == 0:
            hubs.append(None)
            raise TransportError("nobody answers")
        hubs.append(MemoryTransport(broker, "lab"))
        hubs[-1].connections = 3
        return hubs[-1]

    clerk = broker_session.BrokerWorker(connect, names_of("http", 2), "http")
    clerk.start()
    posted = ReceivedUpdate("", 0, 1, np.zeros(3, np.float32))
    until(lambda: clerk.state.connections, 5)
    with pytest.raises(InvalidRequest, match="no_run"):
        asyncio.run(clerk.post(posted))
    hubs[-1].receive = lambda _: (_ for _ in ()).throw(TransportError("it broke"))
    until(lambda: len(hubs) == 4 and clerk.state.connections, 5)
    clerk.stop()
    with pytest.raises(InvalidRequest, match="no_broker"):
        asyncio.run(asyncio.wait_for(clerk.post(posted), 5))


# ---------------------------------------------------------------- pages


def test_metrics_are_what_prometheus_reads(gateway):
    """Updates by result and reason, rounds, accuracy, version, clients and bytes."""
    gateway.post(client="ann")
    gateway.post({})
    text = gateway.ask("GET", "/metrics").text
    for line in (
        'fedjury_gateway_updates_total{reason="",result="taken"} 1.0',
        'fedjury_gateway_updates_total{reason="missing_key",result="refused"} 1.0',
        "fedjury_rounds_total 0.0",
        "fedjury_version 0.0",
        "fedjury_gateway_clients 1.0",
    ):
        assert line in text.splitlines()
    assert re.search(r'^fedjury_gateway_bytes_total\{direction="in"\} [1-9]', text, re.MULTILINE)
    assert f"fedjury_accuracy {gateway.run.state.model.quality.accuracy}" in text


def test_a_request_from_before_a_new_run_does_not_clear_its_counts():
    """A run that begins again begins at zero, once: a request may still know the last."""
    tally, view = Tally(), GatewayState(())
    tally.of(replace(view, generation=1)).posts["taken"] += 1
    tally.of(view).posts["malformed"] += 1
    assert tally.of(replace(view, generation=1)).posts == {"taken": 1, "malformed": 1}
    assert tally.of(replace(view, generation=2)).posts == {}


def test_the_pages_load_nothing_from_elsewhere(quiet):
    """/docs is served whole from here: no address of another host is in what it loads."""
    page = quiet.ask("GET", "/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    assert all(address.startswith("/") for address in loaded)
    assert all(quiet.ask("GET", address).status_code == 200 for address in loaded)
    assert "http:" not in page
    assert "https:" not in page


def test_every_reason_has_a_status_that_is_documented(quiet):
    """Whatever a post can be refused for is in the OpenAPI document, with numbers as strings."""
    described = quiet.get("/openapi.json")
    documented = {int(s) for s in described["paths"]["/model/"]["post"]["responses"]}
    undocumented = {
        InvalidReason.NOT_FOUND,
        InvalidReason.METHOD_NOT_ALLOWED,
        InvalidReason.INTERNAL,
    }
    assert {status for why, status in STATUS.items() if why not in undocumented} <= documented
    tensor = described["components"]["schemas"]["Tensor"]
    assert {"type": "string", "enum": ["Infinity", "-Infinity", "NaN"]} in tensor["anyOf"]


def test_every_refusal_of_the_desk_has_a_status(quiet):
    """Whatever the pure part refuses with can be answered."""
    assert {
        Reason.WRONG_PHASE,
        Reason.NOT_SELECTED,
        Reason.DUPLICATE,
        *InvalidReason,
    } <= STATUS.keys()
