"""What goes over HTTP, for the OpenAPI pages and for checking the outer keys of a post."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from fedjury.gateway.json_tensors import Layout, quote, strict_json, vector_of
from fedjury.gateway.refusal import InvalidRequest
from fedjury.gateway.state import ReceivedUpdate
from fedjury.protocol.messages import MAX_COUNT, Reason, Vector

PhaseName = Literal["waiting", "train", "validate", "validate_groups", "judge_and_train", "done"]
"""What a round waits for, or that there is none yet."""

CLIENT = r"^[A-Za-z0-9_-]{1,64}$"

TENSOR: dict[str, Any] = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "enum": ["Infinity", "-Infinity", "NaN"]},
        {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
    ],
    "description": "A tensor: numbers in lists, nested as its shape says. What is not finite is "
    "one of the strings Infinity, -Infinity and NaN. A number beyond float32 is infinite.",
}
TENSORS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"$ref": "#/components/schemas/Tensor"},
    "description": "Every tensor of the model, by name.",
}

Tensors = dict[str, Any]
"""Described by ``TENSORS``; pydantic would look at every number."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Training(BaseModel):
    """How clients should train on their own samples; who cannot had better not post."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    loss: str = Field(
        description="by name; empty: cross-entropy, or the squared error where classes is 0"
    )
    loss_options: dict[str, Any]
    optimizer: str
    optimizer_options: dict[str, Any]


class GlobalModel(BaseModel):
    """The global model, and where the round stands."""

    run: str
    model: str
    round: int
    phase: PhaseName
    version: int
    classes: int
    input_shape: list[int]
    training: Training
    state: Tensors


class StateDict(RootModel[Tensors]):
    """A PyTorch state dict: the global model, or what a client learnt (weights after - before)."""


class ClientUpdate(BaseModel):
    """What a client learnt: its weights after training minus those it started from."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Count = Field(description="of the global model it was trained from")
    update: Tensors
    samples: Count = Field(default=1, description="trained on; the aggregator caps it")
    client: Annotated[str, Field(pattern=CLIENT)] | None = Field(
        default=None, description="a name: all posts under it come from the same agent"
    )


class Receipt(BaseModel):
    """Passed on to the aggregator, whose own checks come next."""

    agent: str
    round: int
    version: int


class Health(BaseModel):
    """Where the gateway and its run stand."""

    run: str
    round: int
    phase: PhaseName
    version: int
    slots: int
    clients: int
    answered: int
    connections: int


class Failure(BaseModel):
    """Why a request was refused."""

    error: str
    detail: str


def describe(openapi: dict[str, Any]) -> None:
    """Put into an OpenAPI document what a post holds, and what tensors are."""
    parts = openapi["components"]["schemas"]
    parts["Tensor"] = TENSOR
    parts["ClientUpdate"] = ClientUpdate.model_json_schema()
    parts["ClientUpdate"]["properties"]["update"] = TENSORS
    parts["GlobalModel"]["properties"]["state"] = TENSORS
    parts["StateDict"] |= TENSORS


def read_update(data: bytes, layout: Layout, *, full: bool) -> ReceivedUpdate:
    """Read the body of a post strictly: a state dict, or if ``full`` a ``ClientUpdate``.

    Raises
    ------
    Refused
        If it is anything but an update of this model.
    """
    content = strict_json(data)
    if type(content) is not dict:
        raise InvalidRequest(Reason.WRONG_TYPE, "not an object")
    if not full:
        return ReceivedUpdate("", None, 1, _bare(content, layout))
    try:
        message = ClientUpdate.model_validate(content)
    except ValidationError as why:
        raise _refusal(why) from None
    return ReceivedUpdate(
        message.client or "", message.version, message.samples, vector_of(message.update, layout)
    )


def _bare(content: Tensors, layout: Layout) -> Vector:
    """Read a state dict (d,); whoever has wrapped it hears how that is posted."""
    if {"version", "update"} <= content.keys():
        raise InvalidRequest(
            Reason.MISSING_KEY,
            "a state dict is expected; 'version' and 'update' go to /model/?full=true",
        )
    return vector_of(content, layout)


def _refusal(why: ValidationError) -> InvalidRequest:
    """Turn the first of what pydantic found into one of our reasons."""
    first = why.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, place = first["type"], quote(".".join(map(str, first["loc"])))
    if kind in ("missing", "extra_forbidden"):
        text = "is missing" if kind == "missing" else "is unknown"
        return InvalidRequest(Reason.MISSING_KEY, f"{place} {text}")
    if kind.endswith("_type"):
        return InvalidRequest(Reason.WRONG_TYPE, f"{place}: {first['msg']}")
    return InvalidRequest(Reason.OUT_OF_RANGE, f"{place}: {first['msg']}")
