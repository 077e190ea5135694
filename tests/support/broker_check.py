"""What tests of fedjury broker check share: Mosquitto as it comes, and the check itself."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest
from support.listening import until

from fedjury import cli, processes
from fedjury.broker.local import HOST
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.config.program import run_main


@contextlib.contextmanager
def configured(folder, text="", ports=1):
    """Run Mosquitto as it comes, but for what the text says; yields the URLs of its listeners."""
    some = [processes.free_port(HOST) for _ in range(ports)]
    listeners = "".join(f"listener {port} {HOST}\n" for port in some)
    file = folder / f"{some[0]}.conf"
    file.write_text(f"{listeners}allow_anonymous true\nuser root\n{text}\n", encoding="utf-8")
    with (folder / "mosquitto.log").open("ab") as log:
        child = subprocess.Popen([find_mosquitto(), "-c", file], stdout=log, stderr=log)
        try:
            until(lambda: all(answers(HOST, port) for port in some))
            yield [f"mqtt://{HOST}:{port}" for port in some]
        finally:
            child.kill()
            child.wait()


def checked(capsys, *arguments):
    """Check a broker; returns the exit code, and what was found by each probe."""
    with pytest.raises(SystemExit) as ended:
        run_main(cli.main, (), ["broker", "check", *arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["will_do"] == (ended.value.code == 0)
    return ended.value.code, {one["name"]: one for one in found["findings"]}


def only(*probes):
    """Return the flags that try these probes alone."""
    return [word for probe in probes for word in ("--only", probe)]


def verdicts(found):
    """Return the names of the probes that did not pass, by verdict."""
    return {
        verdict: [name for name, one in found.items() if one["verdict"] == verdict]
        for verdict in ("warning", "failed")
    }
