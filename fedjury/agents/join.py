"""One real device without a line of code: its data in a file, a model by name.

fedjury join --broker mqtt://broker:1883 --data mine.csv --target price
"""

from __future__ import annotations

import re
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedjury.agents.device import Device, address_with, show
from fedjury.config import flags
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError
from fedjury.learning.datasets.own_file import SUFFIXES, OwnFile, Samples, is_own, samples
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.runs import await_newest
from fedjury.protocol.topics import ROOT
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_probe import probe
from fedjury.protocol.transport.waiting import patiently

if TYPE_CHECKING:
    from fedjury.agents.torch_trainer import TorchTrainer

EXAMPLES = """examples:
  %(prog)s --data mine.csv --target price
  %(prog)s --broker mqtts://fl.example.com --secrets /etc/fedjury --run pumps \\
      --name site-a --data pumps.csv --target wear --inputs pressure,flow
  %(prog)s --data words.npz --model acme.net:Reader --optimizer adamw --learning-rate 0.001
  %(prog)s --data scans.npz --raw --model acme.net:Sensor --loss huber --epochs 2 --once
  %(prog)s --data scans.npz --model acme.net:Pretrained --trainable 'head.*'"""

EXPECTED = (SettingsError, TransportError)
"""Errors that are one sentence to people."""

Flag = tuple[str, Callable[[str], object], object, str, str]

DATA: tuple[Flag, ...] = (
    ("--data", Path, None, "FILE", f"its own samples: {', '.join(SUFFIXES)} (required)"),
    ("--target", str, "", "COLUMN", "of a table: the column to be learnt"),
    ("--inputs", str, "", "COLUMNS", "of a table: the columns to learn from (default: all others)"),
    ("--learn", str, "auto", "WHAT", "what targets are: auto, classes, numbers (default: auto)"),
    ("--validation", float, 0.2, "X", "share that is measured with, not trained on (default: 0.2)"),
)

MODEL = (
    "{model}, or package.module:name, which is called with the shape of an input and the number of "
    "outputs, or with nothing (default: the run's, if it is of these)"
)

TRAINABLE = (
    "parameters that are trained and sent, such as head.*,norm.*, as the run's model.trainable has "
    "them; the others stay as they are (default: as the model has it)"
)

TRAINING: tuple[Flag, ...] = (
    ("--model", str, None, "NAME", MODEL),
    ("--trainable", str, "", "NAMES", TRAINABLE),
    ("--loss", str, None, "NAME", "{loss}, or package.module:name (default: the run's)"),
    ("--optimizer", str, None, "NAME", "{optimizer}, or package.module:name (default: the run's)"),
    ("--epochs", int, None, "N", "passes over its samples in a round (default: the run's)"),
    ("--batch-size", int, None, "N", "samples a step (default: the run's)"),
    ("--learning-rate", float, None, "X", "of the optimizer (default: the run's)"),
    ("--device", str, "cpu", "NAME", "where it trains: cpu, cuda or auto (default: cpu)"),
)

NETWORK: tuple[Flag, ...] = (
    ("--broker", str, "127.0.0.1:1883", "URL", "mqtt://HOST:PORT, or with TLS mqtts://HOST:PORT"),
    ("--run", str, "", "NAME", "the run (default: the newest at the broker)"),
    ("--name", str, "", "NAME", "the device's name (default: this machine's)"),
    ("--root", str, ROOT, "TOPIC", "topic below which all runs are (default: %(default)s)"),
    ("--secrets", Path, None, "DIR", "what fedjury enroll made, or this device's part of it"),
    ("--state", Path, None, "DIR", "remembers in which sums it was, under secure aggregation"),
)


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    made = ArgumentParser(
        prog=prog,
        description="Take part in a run as one device with data of its own, until it is stopped.",
        epilog=EXAMPLES,
        formatter_class=flags.Help,
        allow_abbrev=False,
    )
    for title, group in (("network", NETWORK), ("data", DATA), ("training", TRAINING)):
        place = made.add_argument_group(title)
        for name, kind, default, metavar, text in group:
            place.add_argument(name, type=kind, default=default, metavar=metavar, help=text)
        if title == "data":
            place.add_argument(
                "--raw",
                action="store_true",
                help="of .npz: inputs are no images, whatever their shape",
            )
    made.add_argument("--once", action="store_true", help="end when one run is done")
    return made


def work(chosen: Namespace, _: Output) -> int:
    """Be that device."""
    try:
        name, held = chosen.name or own_name(), held_by(chosen)
        trainer = trainer_of(chosen, held)
        run = chosen.run or newest(chosen, name)
        device = Device(
            name,
            chosen.broker,
            run=run,
            trainer=trainer,
            secrets=chosen.secrets or "",
            state=chosen.state or "",
            root=chosen.root,
            say=show,
        )
    except ValueError as why:
        raise SettingsError(str(why)) from why
    for note in held.notes:
        show(note)
    count = f"{len(held.y):,}" if len(held.y) else "no"
    note = "" if len(held.y) else ", and sits the rounds out"
    show(f"{name} joins run {run!r} at {chosen.broker} with {count} samples{note}")
    device.run(once=chosen.once)
    return 0


def held_by(chosen: Namespace) -> Samples:
    """Read what the device holds; ``ValueError`` says what is wrong with it."""
    if chosen.data is None:
        raise ValueError("which samples does this device hold? give its file: --data mine.csv")
    if not is_own(str(chosen.data)):
        raise ValueError(f"--data {chosen.data} must end in {', '.join(SUFFIXES)}")
    if chosen.learn not in ("auto", "classes", "numbers"):
        raise ValueError(f"--learn {chosen.learn} must be auto, classes or numbers")
    own = OwnFile(chosen.target, listed(chosen.inputs), chosen.learn, chosen.raw)
    return samples(chosen.data, own)


def listed(names: str) -> tuple[str, ...]:
    """Return the names between commas."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def trainer_of(chosen: Namespace, held: Samples) -> TorchTrainer:
    """Return what trains as the flags say; ``ValueError`` says what cannot be."""
    from fedjury.agents.torch_trainer import TorchTrainer  # noqa: PLC0415 - help needs no PyTorch

    return TorchTrainer(
        chosen.model,
        (held.x, held.y),
        loss=chosen.loss,
        optimizer=chosen.optimizer,
        learning_rate=chosen.learning_rate,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        device=chosen.device,
        validation=chosen.validation,
        trainable=listed(chosen.trainable),
    )


def newest(chosen: Namespace, name: str) -> str:
    """Wait for a run that can be joined and return its name."""
    address = address_with(chosen.broker, chosen.secrets or "", chosen.root)
    if not isinstance(address, BrokerAddress):
        raise ValueError(f"--broker {chosen.broker} is in no other process's reach")  # noqa: TRY004
    patiently(lambda: probe(address, name), show)
    return await_newest(address, name, show)


def own_name() -> str:
    """Return this machine's name, as far as a topic takes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "device"


main = Program("fedjury join", parser_of, work, results=False)


if __name__ == "__main__":
    run_main(main, EXPECTED)
