"""The HTTP endpoints. Nothing here blocks: JSON of a model is read and written in threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

import anyio
import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from fedjury.gateway import schemas, state
from fedjury.gateway.broker_session import BrokerWorker
from fedjury.gateway.metrics import TAKEN, GatewayCollector, Tally
from fedjury.gateway.page import ModelPage, Sliced, where
from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.gateway.request_body import RequestBodyReader, limit_of
from fedjury.gateway.schemas import Failure, GlobalModel, Health, Receipt, StateDict
from fedjury.protocol.messages import Reason, Update

ABOUT = """The global model of a federation, and a way into it.

An update that is posted enters the federation as that of an ordinary agent on the broker: the
aggregator's rule, its validators and its checks treat it as they treat any other."""

STATUS: dict[Reason | InvalidReason, int] = {
    Reason.MALFORMED: 400,
    InvalidReason.BAD_REQUEST: 400,
    InvalidReason.NOT_FOUND: 404,
    InvalidReason.METHOD_NOT_ALLOWED: 405,
    InvalidReason.TOO_SLOW: 408,
    Reason.WRONG_PHASE: 409,
    Reason.WRONG_VERSION: 409,
    Reason.NOT_SELECTED: 409,
    Reason.DUPLICATE: 409,
    Reason.TOO_LARGE: 413,
    InvalidReason.UNSUPPORTED_TYPE: 415,
    Reason.MISSING_KEY: 422,
    Reason.WRONG_TYPE: 422,
    Reason.OUT_OF_RANGE: 422,
    Reason.WRONG_LENGTH: 422,
    InvalidReason.NO_SLOT: 429,
    InvalidReason.INTERNAL: 500,
    InvalidReason.NO_RUN: 503,
    InvalidReason.NO_BROKER: 503,
    InvalidReason.TOO_BUSY: 503,
}

RETRY = {429: "5", 503: "1"}
"""Seconds after which to try again."""

HANGS_UP = {Reason.TOO_LARGE, InvalidReason.TOO_SLOW, InvalidReason.TOO_BUSY}
"""Refusals before the body has been read: what is left of it is not waited for."""

TEXTS = {
    400: "not JSON",
    408: "the body arrived too slowly",
    409: "not now: another version, not selected, already answered, or no round is collecting",
    413: "too large: more than 64 bytes per parameter",
    415: "not application/json",
    422: "JSON, but not an update of this model; or 'full' is neither true nor false",
    429: "no slot is free; Retry-After says seconds",
    503: "no broker, no run, or too busy; Retry-After says seconds",
}

Responses = dict[int | str, dict[str, Any]]

Full = Annotated[bool, Query(description="true: with the round and the version that it belongs to")]


class Parts(NamedTuple):
    """What the endpoints share."""

    session: BrokerWorker
    run: str
    tally: Tally
    page: ModelPage
    body_reader: RequestBodyReader
    readers: anyio.CapacityLimiter


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build(
    session: BrokerWorker, run: str, lifespan: Lifespan | None = None, seconds: float = 30.0
) -> FastAPI:
    """Build the application; ``seconds``: how long a body may take."""
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="fedjury gateway",
        version="1",
        description=ABOUT,
        lifespan=lifespan or _nothing,
        redirect_slashes=False,
    )
    parts = Parts(
        session, run, Tally(), ModelPage(run), RequestBodyReader(seconds), anyio.CapacityLimiter(2)
    )
    _add_reading(app, parts)
    _add_posting(app, parts)
    _add_watching(app, parts)
    app.add_exception_handler(InvalidRequest, _refused)
    app.add_exception_handler(HTTPException, _refused_by_starlette)
    app.add_exception_handler(RequestValidationError, _refused_by_fastapi)
    app.add_exception_handler(Exception, _failed)
    schemas.describe(app.openapi())  # which it keeps
    return app


@asynccontextmanager
async def _nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


def failures(*statuses: int) -> Responses:
    """Describe the refusals of an endpoint."""
    return {status: {"model": Failure, "description": TEXTS[status]} for status in statuses}


# ------------------------------------------------- the model, its updates and its accuracy


def _add_reading(app: FastAPI, parts: Parts) -> None:
    @app.get("/model", include_in_schema=False)
    @app.get("/model/", responses=failures(422, 503), response_model=StateDict | GlobalModel)
    async def get_model(full: Full = False) -> Response:
        """Return the global model as a state dict; with ``full`` as a ``GlobalModel``."""
        state = parts.session.state
        if state.model is None or state.manifest is None:
            raise InvalidRequest(
                InvalidReason.NO_RUN, "no aggregator has published this run's model yet"
            )
        content = await parts.page.of(state, full=full)
        parts.tally.of(state).bytes["out"] += len(content)
        return Sliced(content, media_type="application/json")

    @app.get("/model/accuracy/", include_in_schema=False)
    @app.get("/model/accuracy", response_model=list[float | None])
    async def get_accuracy() -> Response:
        """Return the accuracy after each round, the first before any; null where unknown."""
        return _json(orjson.dumps(parts.session.state.history))


def _add_posting(app: FastAPI, parts: Parts) -> None:
    forms = [{"$ref": f"#/components/schemas/{name}"} for name in ("StateDict", "ClientUpdate")]
    content = {"application/json": {"schema": {"anyOf": forms}}}
    body = {"content": content, "required": True}

    @app.post("/model", include_in_schema=False)
    @app.post(
        "/model/",
        status_code=202,
        response_model=Receipt,
        openapi_extra={"requestBody": body},
        responses=failures(400, 408, 409, 413, 415, 422, 429, 503),
    )
    async def post_model(request: Request, full: Full = False) -> Response:
        """Take an update into the round that is open: a state dict of what the weights moved by.

        With ``full`` a ``ClientUpdate``: it says from which version it was trained, and by whom.
        """
        try:
            update = await _take(request, parts, full=full)
        except InvalidRequest as why:
            parts.tally.of(parts.session.state).posts[why.reason.value] += 1
            raise
        parts.tally.of(parts.session.state).posts[TAKEN] += 1
        content = {"agent": update.agent, "round": update.round, "version": update.version}
        return _json(orjson.dumps(content), 202)


async def _take(request: Request, parts: Parts, *, full: bool) -> Update:
    """Read an update, check it, and send it."""
    view = parts.session.state
    known = view.manifest if view.model is not None else None
    limit = limit_of(known.parameters if known else None)
    with parts.body_reader.room(request, limit):
        data = await parts.body_reader.read(request, limit)
        parts.tally.of(view).bytes["in"] += len(data)
        _check_type(request)
        if why := state.lacking(view):
            raise why
        assert known is not None
        read = partial(schemas.read_update, data, known.tensors, full=full)
        posted = await anyio.to_thread.run_sync(read, limiter=parts.readers)
        return await parts.session.post(posted)


def _check_type(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidRequest(InvalidReason.UNSUPPORTED_TYPE, "send Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise InvalidRequest(InvalidReason.UNSUPPORTED_TYPE, "send it without Content-Encoding")


# ---------------------------------------------------------------- for those who watch


def _add_watching(app: FastAPI, parts: Parts) -> None:
    collector = GatewayCollector(lambda: parts.session.state, parts.tally)

    @app.get("/healthz", response_model=Health, responses=failures(503))
    async def get_health() -> Response:
        """Say where the run stands; 503 if there is no broker or no run."""
        view = parts.session.state
        if why := state.lacking(view):
            raise why
        assert view.model is not None
        number, phase = where(view)
        return _json(
            orjson.dumps(
                {
                    "run": parts.run,
                    "round": number,
                    "phase": phase,
                    "version": view.model.version,
                    "slots": len(view.slots),
                    "clients": len(view.bound),
                    "answered": len(view.sent),
                    "connections": view.connections,
                }
            )
        )

    text: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses=text)
    async def get_metrics() -> Response:
        """Return what Prometheus reads."""
        return Response(generate_latest(collector), media_type=CONTENT_TYPE_LATEST)


# ---------------------------------------------------------------- refusals


def _failure(reason: Reason | InvalidReason, detail: str, status: int) -> Response:
    content = orjson.dumps({"error": reason.value, "detail": detail})
    response = _json(content, status)
    if status in RETRY:
        response.headers["Retry-After"] = RETRY[status]
    if reason in HANGS_UP:
        response.headers["Connection"] = "close"
    return response


def _refused(_: Request, why: Exception) -> Response:
    assert isinstance(why, InvalidRequest)
    return _failure(why.reason, why.detail, STATUS[why.reason])


def _refused_by_starlette(request: Request, why: Exception) -> Response:
    """Give what the framework refuses our shape: a path or a method that there is not."""
    assert isinstance(why, HTTPException)
    reasons = {404: InvalidReason.NOT_FOUND, 405: InvalidReason.METHOD_NOT_ALLOWED}
    reason = reasons.get(why.status_code, InvalidReason.BAD_REQUEST)
    response = _failure(reason, reason.value.replace("_", " "), why.status_code)
    response.headers.update(why.headers or {})
    if why.status_code == 405 and request.url.path in ("/model", "/model/"):
        response.headers["Allow"] = "GET, POST"  # Starlette names the first of two routes alone
    return response


def _refused_by_fastapi(_: Request, why: Exception) -> Response:
    """Give a parameter that cannot be read our shape, without saying what it was."""
    assert isinstance(why, RequestValidationError)
    places = sorted({str(error["loc"][-1]) for error in why.errors()})
    return _failure(Reason.OUT_OF_RANGE, f"{', '.join(places)} must be true or false", 422)


def _failed(_: Request, __: Exception) -> Response:
    return _failure(InvalidReason.INTERNAL, "an error of the gateway; see its log", 500)
