"""A gateway in one process with a federation: real aggregator and agents, HTTP without sockets."""

from __future__ import annotations

import asyncio
import json

import httpx
from support.federation import Federation

from fedjury.gateway import app
from fedjury.gateway.broker_session import BrokerSession
from fedjury.gateway.state import GatewayState, names_of
from fedjury.protocol.messages import Phase
from fedjury.protocol.transport.memory_transport import MemoryTransport

DAY = 86_400.0


class Direct:
    """A desk that answers at once, on the thread of whoever posts, and lets the others work."""

    def __init__(self, run: Federation, slots: int, prefix: str = "http") -> None:
        self.run = run
        self._hub = MemoryTransport(run.broker, run.settings.run.name)
        self._hub.connections = slots + 1
        state = GatewayState(names_of(prefix, slots))
        self.desk = BrokerSession(self._hub, state, prefix, settle=0.0)
        self.desk.turn()

    def connected(self, *, up: bool) -> None:
        """Let all connections to the broker be there, or none."""
        self._hub.connections = (len(self.state.slots) + 1) * up

    @property
    def state(self):
        """Return what the desk knows."""
        return self.desk.state

    async def post(self, posted):
        """Send it, and give everybody time."""
        update = self.desk.take(posted)
        self.work()
        return update

    def work(self, turns: int = 30) -> None:
        """Let aggregator, agents and desk do what is to be done."""
        for _ in range(turns):
            if self.run.state.phase is not Phase.DONE:
                self.run.turn()
            self.desk.turn()


class Gateway:
    """A federation with some agents on the broker, and some slots for HTTP."""

    def __init__(self, folder, slots: int = 3, agents: int = 0, **changes) -> None:
        changes = {"collect__seconds": DAY, "limits__finite": True} | changes
        self.run = Federation(
            folder,
            fleets=1 if agents else 0,
            agents__n=max(agents, 1),
            collect__agents=slots + agents,
            **changes,
        )
        self.desk = Direct(self.run, slots)
        self._runner = asyncio.Runner()
        self.app = app.build(self.desk, "lab", seconds=0.3)
        transport = httpx.ASGITransport(self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def begin(self):
        """Start the aggregator; returns itself."""
        self.run.begin()
        self.desk.work()
        return self

    def ask(self, method, path, **more):
        """Send a request; returns the answer."""
        return self._runner.run(self.http.request(method, path, **more))

    def get(self, path):
        """Return the JSON behind a path."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return strict(answer.content)

    def update(self, step=0.0, **more):
        """Make an update for the round that is open: every parameter moves by ``step``."""
        state = self.get("/model/?full=true")
        moved = {name: filled(tensor, step) for name, tensor in state["state"].items()}
        return {"version": state["version"], "update": moved, **more}

    def post(self, content=None, **more):
        """Post an update in its full form, by default one of zeros."""
        content = self.update(**more) if content is None else content
        return self.ask("POST", "/model/?full=true", json=content)

    def close(self):
        """End the client and its loop."""
        self._runner.run(self.http.aclose())
        self._runner.close()


def filled(tensor, value):
    """Return nested lists of the same shape that hold one value."""
    return [filled(item, value) for item in tensor] if isinstance(tensor, list) else value


def strict(content):
    """Read JSON as a strict reader does: NaN and Infinity are no JSON."""
    return json.loads(content, parse_constant=lambda name: 1 / 0)


def refused(answer, status, reason):
    """Check that a request was refused, in the one shape that there is."""
    assert answer.status_code == status, answer.text
    said = strict(answer.content)
    assert said.keys() == {"error", "detail"}
    assert said["error"] == reason, said
    assert said["detail"].isascii()
    assert len(said["detail"]) < 300
