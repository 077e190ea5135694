"""The agent in Node.js: its modules called from here, and its processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from support.network import RUN
from support.npm_packages import node_for

from fedjury.learning import datasets
from fedjury.learning.weights import flatten, tensors
from fedjury.protocol.messages import Manifest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NAME = "node-1"
SAMPLES = 60
LOOK_BACK = 7


def found_node():
    """Find Node.js 20, and install the packages of examples/ unless they are there."""
    return node_for(EXAMPLES)


def small_digits():
    """Return the small digits as the agent's CSV file gives them: whole numbers up to 255."""
    data = datasets.load("digits", ROOT / "data", test=500)
    pixels = np.rint(data.x_train[:SAMPLES] * 255).astype(int)
    x = torch.from_numpy((pixels / 255).astype(np.float32))
    return pixels.reshape(SAMPLES, -1), x, torch.from_numpy(data.y_train[:SAMPLES])


def written_csv(folder, digits):
    """Write such data to a file."""
    pixels, _, y = digits
    file = folder / "my.csv"
    rows = (
        ",".join(map(str, [label, *row])) for label, row in zip(y.tolist(), pixels, strict=True)
    )
    file.write_text("\n".join(["label," + "," * (pixels.shape[1] - 1), *rows]) + "\n")
    return file


def manifest_of(network, judge="lof", history_codec="float32"):
    """Write a manifest for a network on the small digits."""
    weights = flatten(network)
    return Manifest(
        model="mlp",
        tensors=tuple(tensors(network)),
        parameters=len(weights),
        classes=10,
        input_shape=(1, 8, 8),
        epochs=2,
        batch_size=10,
        learning_rate=0.1,
        momentum=0.0,
        codec="float32",
        history_codec=history_codec,
        max_bytes=32_000_000,
        judge=judge,
        judge_options={},
        look_back=LOOK_BACK,
        minimum_history=LOOK_BACK + 1,
    )


def javascript(node, code, given):
    """Run a module that knows ``given`` and prints its answer as JSON; returns the answer."""
    head = "".join(
        f"import * as {name} from {json.dumps((EXAMPLES / f'{name}.mjs').as_uri())};\n"
        for name in ("network", "training", "member", "data", "judge", "secure", "wire")
    )
    head += "import { readFileSync } from 'node:fs';\n"
    head += "const given = JSON.parse(readFileSync(0, 'utf8'));\n"
    head += "const end = (s) => { for (;;) { const r = s.next(); if (r.done) return r.value; } };\n"
    done = subprocess.run(
        [node, "--input-type=module", "-e", head + code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Agents:
    """The agent's processes, and what they say; none outlives the test."""

    def __init__(self, node, folder, csv):
        self._node, self._folder, self._csv = node, folder, csv
        self._children = []

    def start(self, address, *more, name=NAME):
        """Start an agent and return its process; ``said()`` is what it has printed."""
        file = self._folder / f"agent-{len(self._children)}.log"
        command = [self._node, str(EXAMPLES / "agent.mjs"), "--run", RUN, "--name", name]
        where = ["--broker", f"{address.host}:{address.port}", "--data", str(self._csv)]
        with file.open("wb") as output:
            child = subprocess.Popen([*command, *where, *more], stdout=output, stderr=output)
        child.said = file.read_text
        self._children.append(child)
        return child

    def kill(self):
        """End what still runs."""
        for child in self._children:
            child.kill()
            child.wait()
