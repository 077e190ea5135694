"""A gateway as its clients see it: over HTTP alone."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.request import getproxies, proxy_bypass

import httpx
import orjson

from fedjury.gateway.json_tensors import Layout, tensors_json, vector_of
from fedjury.gateway.refusal import InvalidRequest
from fedjury.learning import models
from fedjury.learning.training import Training
from fedjury.learning.weights import Vector, tensors

POLL = 0.05
"""Seconds between two looks at a round that is open."""

HINT = 10.0
"""Seconds after which people are told what a round waits for."""

PATIENCE = 3600.0
"""Seconds to wait for a round that takes an update."""

CLOSING, MAYBE_CLOSING = 60.0, 3.0
"""Seconds to wait for the end of a round in which all slots have answered, or some of them."""

MOVED_ON = {"wrong_version", "wrong_phase", "not_selected"}
"""Refusals that say: look at the model again and answer the round that is open now."""

FULL_UP = {"no_slot", "too_busy", "no_run", "no_broker"}
"""Refusals that say: the same again in a moment."""

HEALTH = {"round", "phase", "answered", "slots"}
"""What we need to know of a round."""


class GatewayError(Exception):
    """A gateway that cannot be used, or does not want us: one sentence."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class Global(NamedTuple):
    """The global model as the gateway gave it."""

    round: int
    phase: str
    version: int
    weights: Vector
    layout: Layout
    network: str
    input_shape: tuple[int, ...]
    classes: int
    training: Training
    loss: str = ""
    """What is trained towards, where that is neither plain cross-entropy nor, of numbers, MSE."""

    @property
    def hindrance(self) -> str:
        """Why a client that knows cross-entropy and SGD alone cannot train it; empty if it can."""
        if self.loss:
            return f"the run trains with the loss {self.loss!r}, this client with cross-entropy"
        if not self.classes:
            return "the run predicts numbers, this client tells classes apart"
        if not self.training.plain:
            optimizer = self.training.optimizer
            return f"the run trains with the optimizer {optimizer!r}, this client with plain SGD"
        return ""


Learn = Callable[[Global], Vector]
"""Makes an update (d,) of the global model."""


class GatewayClient:
    """A session with a gateway; many threads may use it."""

    def __init__(self, address: str, http: httpx.Client | None = None) -> None:
        """``http``: a client to use instead of one of our own, for tests."""
        self.address = address if "//" in address else f"http://{address}"
        self._http = http or _client(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._http.close()

    # ------------------------------------------------------------ what there is to ask

    def model(self, patience: float = 0.0) -> Global:
        """Fetch the global model, waiting for one up to ``patience`` seconds.

        ``GatewayError`` if it cannot be had or is none of ours.
        """
        if patience:
            self._wait(patience, lambda _: True, "the gateway had no run")
        message = self._ask("GET", "/model/?full=true")
        try:
            built = models.build(
                models.MODELS.agreed(message["model"]),
                message["input_shape"],
                message["classes"] or 1,  # a number is one output
                seed=0,
            )
            layout = tuple((t.name, t.shape) for t in tensors(built))
            weights = vector_of(message["state"], layout)
            said = message["training"]
            training = _training(said)
            loss = _loss(said)
        except (InvalidRequest, KeyError, TypeError, ValueError) as why:
            raise GatewayError(f"{self.address} has an unknown model: {why}") from why
        return Global(
            message["round"],
            message["phase"],
            message["version"],
            weights,
            layout,
            message["model"],
            tuple(message["input_shape"]),
            message["classes"],
            training,
            loss,
        )

    def post(self, start: Global, delta: Vector, samples: int, client: str = "") -> dict[str, Any]:
        """Post an update trained from a model; ``GatewayError`` says why it was refused."""
        update = orjson.Fragment(tensors_json(delta, start.layout))
        content = {"version": start.version, "samples": samples, "update": update}
        if client:
            content["client"] = client
        receipt: dict[str, Any] = self._ask("POST", "/model/?full=true", orjson.dumps(content))
        return receipt

    def accuracy(self) -> list[float | None]:
        """Return the accuracy after each round."""
        history: list[float | None] = self._ask("GET", "/model/accuracy")
        return history

    # ------------------------------------------------------------ taking part

    def contribute(
        self, learn: Learn, samples: int, client: str = "", patience: float = PATIENCE
    ) -> dict[str, Any]:
        """Post one update, learnt from the model of the round that is open; returns the receipt.

        Where no round is open, or no slot is free in it, the next one is waited for, up to
        ``patience`` seconds. ``GatewayError`` if it does not come, or the update is refused.
        """
        until, after, pause, told = time.monotonic() + patience, 0, POLL, False
        while True:
            start = self.next_round(after, max(0.0, until - time.monotonic()))
            if start is None:
                raise GatewayError("the run is done and takes no more updates", "done")
            try:
                return self.post(start, learn(start), samples, client)
            except GatewayError as why:
                full_up = why.reason in FULL_UP and time.monotonic() < until
                if not full_up and why.reason not in MOVED_ON:
                    raise
                if full_up and not told and time.monotonic() > until - patience + HINT:
                    told = True
                    print(f"waiting: {why}", flush=True)
                after = start.round if why.reason == "not_selected" else after
            time.sleep(pause)
            pause = min(1.0, 2 * pause)

    def next_round(self, after: int, patience: float) -> Global | None:
        """Wait for a round later than ``after`` that collects; None if the run is done.

        ``patience`` is in seconds; ``GatewayError`` if it was not enough.
        """
        while True:
            text = f"no round after {after} began" if after else "no round was open"
            state = self._wait(patience, lambda state: _goes_on(state, after), text)
            if state["phase"] == "done":
                return None
            result = self.model()
            if result.phase == "train" and result.round > after:
                return result

    def settle(self, number: int) -> None:
        """Wait for the end of a round that may have all its updates now, but not for any more."""
        state = self._health() or {}
        full = state and state["answered"] >= state["slots"]
        until = time.monotonic() + (CLOSING if full else MAYBE_CLOSING)
        while time.monotonic() < until:
            state = self._health() or {}
            if state and _goes_on(state, number):
                return
            time.sleep(POLL)

    # ------------------------------------------------------------ how it is asked

    def _wait(
        self, patience: float, enough: Callable[[dict[str, Any]], bool], text: str
    ) -> dict[str, Any]:
        """Wait until the run stands where it should; returns where that is."""
        until, told = time.monotonic() + patience, time.monotonic() + HINT
        while True:
            state = self._health()
            if state and enough(state):
                return state
            now = time.monotonic()
            if now > until:
                raise GatewayError(f"{text} within {patience:g} s")
            if now > told:
                told = float("inf")
                self._hint(state)
            time.sleep(POLL)

    def _health(self) -> dict[str, Any] | None:
        """Say where the run stands; None while there is no broker or no run."""
        try:
            state: dict[str, Any] = self._ask("GET", "/healthz")
        except GatewayError as why:
            if why.reason in ("no_run", "no_broker"):
                return None
            raise
        if not isinstance(state, dict) or not state.keys() >= HEALTH:
            raise GatewayError(f"what answers at {self.address} is not a gateway")
        return state

    def _hint(self, state: dict[str, Any] | None) -> None:
        if state is None:
            print("waiting: the gateway has no run or no broker yet", flush=True)
        else:
            print(
                f"waiting: round {state['round']} is open, {state['answered']} of "
                f"{state['slots']} slots have answered; its threshold may be more",
                flush=True,
            )

    def _ask(self, method: str, path: str, content: bytes | None = None) -> Any:
        kind = {"Content-Type": "application/json"} if content is not None else {}
        try:
            answer = self._http.request(method, path, content=content, headers=kind)
        except (httpx.HTTPError, UnicodeError) as why:
            raise GatewayError(
                f"no gateway answers at {self.address}: {why}{_by_proxy(self.address)}"
            ) from why
        try:
            message = answer.json()
            if answer.is_success:
                return message
            reason, detail = str(message["error"]), str(message["detail"])
        except (ValueError, KeyError, TypeError) as why:
            raise GatewayError(
                f"what answers at {self.address} is not a gateway (status {answer.status_code})"
                f"{_by_proxy(self.address)}"
            ) from why
        raise GatewayError(f"{reason}: {detail}", reason)


def _goes_on(state: dict[str, Any], after: int) -> bool:
    """Say whether a later round collects, or the run is done."""
    phase, number = str(state["phase"]), int(state["round"])
    return phase == "done" or (phase == "train" and number > after)


def _training(said: dict[str, Any]) -> Training:
    """Return how to train; gateways of before name no optimizer, and mean SGD."""
    return Training(
        said["epochs"],
        said["batch_size"],
        said["learning_rate"],
        said["momentum"],
        said.get("optimizer", "sgd"),
        said.get("optimizer_options", {}),
    )


def _loss(said: dict[str, Any]) -> str:
    """Return the loss; empty for the usual one."""
    name = str(said.get("loss", ""))
    usual = name in ("", "cross_entropy") and not said.get("loss_options")
    return "" if usual else name or "cross_entropy"


# ---------------------------------------------------------------- proxies


def _client(address: str) -> httpx.Client:
    """Open a session; what the environment says of proxies is only for other machines.

    ``GatewayError`` if the address or a proxy's is none.
    """
    try:
        host = httpx.URL(address).host
    except (httpx.InvalidURL, ValueError) as why:
        raise GatewayError(f"{address} is no address: {why}") from why
    # Of a proxy that NO_PROXY leaves out, httpx would still want to know how to speak with it.
    proxies = not (_on_this_machine(host) or proxy_bypass(host))
    certificates = httpx.create_ssl_context()
    try:
        return httpx.Client(base_url=address, timeout=60.0, trust_env=proxies, verify=certificates)
    except (ImportError, httpx.InvalidURL, ValueError) as why:
        missing = "it is a SOCKS proxy, for which 'pip install socksio' is needed"
        text = missing if isinstance(why, ImportError) else str(why)
        raise GatewayError(f"cannot go through the proxy{_by_proxy(address)}: {text}") from why


def _on_this_machine(host: str) -> bool:
    """Say whether a host is this machine, as localhost and 127.0.0.1 are."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _by_proxy(address: str) -> str:
    """Say which proxy the environment names for an address, and how to go without; or nothing."""
    url = httpx.URL(address)
    result = getproxies()
    if _on_this_machine(url.host) or proxy_bypass(url.host):
        return ""
    for scheme in (url.scheme, "all"):
        if scheme in result:
            return f" (by {scheme.upper()}_PROXY; NO_PROXY={url.host} goes without)"
    return ""
