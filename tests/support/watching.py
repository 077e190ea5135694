"""What tests of those who watch share: records by hand, hostile messages, and a real run."""

from __future__ import annotations

import json
import re

from fedjury.monitor import run_view
from fedjury.monitor.runs import Snapshot, State
from fedjury.protocol.messages import Manifest
from fedjury.protocol.topics import USUAL

RUN = "lab"
WHERE = "127.0.0.1:1883"
COLUMNS = [
    "round",
    "attempt",
    "accepted",
    "accuracy",
    "candidate_accuracy",
    "backdoor",
    "poisoned",
    "clean",
    "silent",
    "selected",
    "updates",
]

MANIFEST = {
    "protocol": 1,
    "model": "mlp",
    "tensors": [["0.weight", [32, 64]]],
    "parameters": 2410,
    "classes": 10,
    "input_shape": [1, 8, 8],
    "epochs": 1,
    "batch_size": 10,
    "learning_rate": 0.1,
    "momentum": 0.0,
    "codec": "float32",
    "history_codec": "int7+zstd",
    "max_bytes": 1000000,
    "judge": "lof",
    "judge_options": {},
    "look_back": 3,
    "minimum_history": 3,
}


def opened(number, phase="train", **more):
    """Make what is said on ``round``."""
    return {
        "round": number,
        "attempt": 1,
        "phase": phase,
        "version": number - 1,
        "contributors": "all",
        "validators": [],
        "seconds": 60.0,
    } | more


def record(number, **more):
    """Make the record of an ordinary round; its numbers tell rounds apart."""
    return {
        "round": number,
        "attempt": 1,
        "version": number,
        "accepted": True,
        "why": "",
        "selected": 10,
        "updates": 10,
        "missing": 0,
        "absent": [],
        "votes": {"poisoned": 1, "clean": 3, "silent": 1},
        "voters": {},
        "judged": number,
        "invalid_messages": {},
        "accuracy": 0.5 + number / 10_000,
        "candidate_accuracy": 0.5 + number / 10_000,
        "backdoor": None,
        "candidate_backdoor": None,
        "seconds": 0.5,
        "updates_per_second": 20.0,
        "bytes_in": 1000,
        "bytes_out": 100,
        "dropped": 0,
    } | more


def past_of(records, refused=None):
    """Make what is said on ``log/history`` of these records."""
    rows = [[{**r, **r["votes"]}.get(column) for column in COLUMNS] for r in records]
    if refused is None:
        refused = {}
        for said in records:
            for reason, times in said["invalid_messages"].items():
                refused[reason] = refused.get(reason, 0) + times
    return {"columns": COLUMNS, "rows": rows, "invalid_messages": refused}


def topic(part, run=RUN):
    """Return a topic of a run."""
    return f"fl/v2/{run}/{part}"


def say(part, said, run=RUN):
    """Make a message."""
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    return topic(part, run), payload


def after(*messages, state=None, now=100.0):
    """Return the state after these messages, and the run."""
    for message in messages:
        state = run_view.on_message(state or State(), *message, now)
    return state.runs[RUN]


def sight_of(state, **more):
    """Make what there is to see of a state, with the broker there."""
    return Snapshot(**{"state": state, "connected": True, "now": 100.0, "since": 50.0} | more)


MANIFEST_TOPIC = USUAL.where(RUN, Manifest)

BAD_TEXT = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\n\u202ebidi\u0000<script>" + "x" * 100_000
"""What would clear a terminal, rename its window, colour it, and much more of it."""

HARMLESS = re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]*")
"""What may reach a terminal."""

BAD_VALUES = [
    None,
    True,
    -1,
    0,
    2**31,
    10**400,
    1e308,
    -0.5,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "7",
    BAD_TEXT,
    [],
    [[]],
    {},
    {"a": {}},
    [None] * 1000,
    {BAD_TEXT: BAD_TEXT},
]
"""What a number, a text, a list and a map are not."""

BAD_PAYLOADS = [
    b"",
    b"\x00",
    b"null",
    b"7",
    b"[]",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"round": ' + b"9" * 10_000 + b"}",
    b'{"round": NaN}',
    b'{"round": 1, "round": {}}',
    b'{"round": 3}',
    b'{"round": 3, "votes": [1]}',
    json.dumps({"round": BAD_TEXT}).encode(),
]
"""What is no message, or hardly one."""


def group(members, poisoned=0, clean=5, why=""):
    """Make what a record says of a group."""
    return {"members": members, "poisoned": poisoned, "clean": clean, "silent": 0, "why": why}


GROUPED = {
    "groups": {
        "0": group(["a", "b"]),
        "1": group(["c", "d"], 4, 1, "voted down"),
        "2": group(["e", "f", "g"]),
    },
    "group_voters": {
        "a": {"judged": 3, "poisoned": [1], "size": 3000, "cpu": 2000},
        "b": {"judged": 3, "poisoned": [1], "size": 3000, "cpu": 9000},
        "c": {"judged": 3, "poisoned": [], "size": 3500, "cpu": 4000},
    },
    "group_quorum": 3,
}
"""What a record says of three groups, the second of which is left out, and of three votes."""
