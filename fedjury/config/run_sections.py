"""The sections that say what is run and where: run, broker, model, data, wire."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedjury.config.section import Flag, Names, Section, SettingsError, Text, must


class Run(Section):
    """The run as a whole."""

    name: Annotated[Text, Flag("--run", "NAME")] = Field(
        "fedjury",
        description="name of the run at the broker and of its folder: 1 to 64 of A-Z a-z 0-9 _ -. "
        "Unless given, an aggregator resumes the unfinished run or begins fedjury-2, -3, ..., and "
        "agents join the newest",
    )
    seed: Annotated[int, Flag("--seed")] = Field(
        0, ge=0, le=2**63 - 1, description="all randomness comes from (seed, round, agent)"
    )
    rounds: Annotated[int, Flag("--rounds")] = Field(
        30, ge=1, le=10**9, description="rounds to run, rejected ones included"
    )
    directory: Annotated[Text, Flag("--runs", "DIR")] = Field(
        "runs", description="folder with one folder per run"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Flag("--device")] = Field(
        "cpu",
        description="where models are trained and evaluated: cpu, cuda, or auto (cuda where "
        "PyTorch finds it). Not on every device do the same settings give the same bits",
    )

    @field_validator("name")
    @classmethod
    def _fits_a_topic(cls, name: str) -> str:
        fits = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        must(fits, "run.name", name, "1 to 64 of A-Z a-z 0-9 _ -")
        return name


PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Scheme of a broker's URL -> the port where none is said."""


ROOTS = (
    "1 to 100 printable characters without blanks, quotes, + # % and \\, none of its levels empty, "
    "and not begin with $"
)
"""What a root of topics can be, for people."""


def is_root(text: str) -> bool:
    """Return whether topics can begin so: nothing in it is special to a broker or its rules."""
    return (
        len(text) <= 100
        and text.isprintable()
        and not set(text) & set("+#%'\"\\ ")
        and all(text.split("/"))
        and not text.startswith("$")
    )


class Cells(Section):
    """Brokers with agents of their own, beside which updates are kept."""

    count: Annotated[int, Flag("--cells", "N")] = Field(
        0,
        ge=0,
        le=10_000,
        description="cells that keep their updates, each with an ingest worker (fedjury ingest) "
        "beside its broker, numbered from 1; 0: updates come up to the aggregator",
    )
    engine: Literal["none", "ray"] = Field(
        "none",
        description="what connects the ingest workers: none: they send sums, and the rule must be "
        "one of those; ray: any rule works on the updates where they are (fedjury cluster)",
    )
    address: Text = Field(
        "", description="HOST:PORT of Ray's head, where engine is ray; fedjury cluster up knows it"
    )
    seconds: float = Field(
        30.0,
        ge=0.1,
        description="longest time for a cell to add up its updates, or to be collected again after "
        "its worker was lost; then the round does without it",
    )

    @model_validator(mode="after")
    def _an_engine_has_cells(self) -> Self:
        must(self.count or self.engine == "none", "cells.engine", self.engine, "none without cells")
        return self


class Broker(Section):
    """Where the broker is, and how to log in."""

    host: Text = Field("127.0.0.1", description="where the MQTT broker listens")
    port: int = Field(1883, ge=1, le=65535, description="its TCP port")
    username: Annotated[Text, Flag("--username", "NAME")] = Field(
        "", description="login at the broker; empty: none"
    )
    password: Annotated[Text, Flag("--password", "SECRET")] = Field(
        "",
        repr=False,
        description="of the login; better given in the environment, as FEDJURY_PASSWORD",
    )
    secrets: Annotated[Text, Flag("--secrets", "DIR")] = Field(
        "",
        description="folder made by fedjury enroll, with a login for each program and agent",
    )
    ca: Annotated[Text, Flag("--ca", "FILE")] = Field(
        "",
        description="TLS: PEM file of the certificate authority, or system; empty: the one in "
        "secrets, if any",
    )
    tls: bool = Field(
        False,
        description="encrypt the connection (--broker mqtts://...) also without ca: the "
        "authorities that "
        "this machine trusts are used",
    )
    keepalive: int = Field(
        60,
        ge=2,
        le=3600,
        description="seconds of silence after which a connection is tested; after twice that it is "
        "closed",
    )
    root: Annotated[Text, Flag("--root", "TOPIC")] = Field(
        "fl/v2",
        description="topic below which the runs are, like acme/plant-7/fl/v2; the same for all "
        "programs of a run",
    )
    forget: Annotated[bool, Flag("--forget")] = Field(
        False, description="at the end remove the run's retained messages from the broker"
    )

    @field_validator("root")
    @classmethod
    def _is_a_root(cls, root: str) -> str:
        must(is_root(root), "broker.root", root, ROOTS)
        return root

    @classmethod
    def at(cls, url: str) -> Broker:
        """Return the settings of HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT.

        Raises
        ------
        SettingsError
            If it is none of these.
        """
        match = re.fullmatch(
            r"(?:(mqtts?)://)?(?:\[(.+)\]|([^:/@\[\]]+))(?::([0-9]{1,5}))?/?", url, re.IGNORECASE
        )
        scheme = (match[1] or "mqtt").lower() if match else "mqtt"
        port = int(match[4] or PORTS[scheme]) if match else 0
        if not match or not 1 <= port <= 65535:
            shown = re.sub("//.*@", "//...@", url)  # there may be a password in it
            raise SettingsError(
                f"{shown} must be HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT (TLS); the port "
                "is from 1 to 65535, an IPv6 address goes in brackets, like [::1]:1883, and a "
                "login into --username and FEDJURY_PASSWORD"
            )
        there = cls(host=match[2] or match[3], port=port)
        return there.replaced(tls=True) if scheme == "mqtts" else there


class Model(Section):
    """The network and its first weights."""

    name: Annotated[Text, Flag("--model", "NAME")] = Field(
        "mlp",
        description="the network: {model}",
    )
    init: Annotated[Text, Flag("--init", "FILE")] = Field(
        "",
        description="weights to start from: a state dict like classifier.pth, safetensors, "
        "models/000030.safetensors of a run; empty: drawn from the seed",
    )
    trainable: Names = Field(
        [],
        description="parameters that are trained, by name, also with * and ?; the others are "
        "frozen and do not travel; empty: all",
        examples=['["fc3.*"]'],
    )


class Data(Section):
    """The data set."""

    name: Annotated[Text, Flag("--data", "NAME")] = Field(
        "mnist5k",
        description="the data set: {dataset}; or FILE.npz, FILE.csv, FILE.parquet",
    )
    root: Annotated[Text, Flag("--data-root", "DIR")] = Field(
        "data", description="folder for downloads"
    )
    target: Annotated[Text, Flag("--target", "COLUMN")] = Field(
        "", description="of a table (.csv, .parquet): the column to be learnt"
    )
    inputs: Names = Field(
        [],
        description="of a table: the columns to learn from; empty: all but the target",
        examples=['["pressure", "flow"]'],
    )
    learn: Literal["auto", "classes", "numbers"] = Field(
        "auto",
        description="of a file: what its targets are; auto: classes if they are whole numbers, "
        "numbers if they have a decimal point",
    )
    raw: bool = Field(
        False,
        description="of an .npz file: inputs are taken as they are, and are no images whatever "
        "their shape",
    )
    test: int = Field(
        1000,
        ge=1,
        description="samples held out for testing (of mnist5k, digits, tables and files without a "
        "test part; others have their own)",
    )
    server: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share of the training set that the aggregator keeps, to judge with and, for "
        "fltrust, to train on",
    )


class Wire(Section):
    """How vectors travel."""

    codec: Annotated[Text, Flag("--codec", "NAME")] = Field(
        "float32",
        description="of updates: {codec}, each also with +zstd; models are float32",
    )
    history: Text = Field(
        "int7+zstd",
        description="of candidates and past models: {codec}, each also with +zstd",
    )
