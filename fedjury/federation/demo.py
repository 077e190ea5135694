"""The demo: the same attack four times, against no defence and three, and the four compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedjury import reports
from fedjury.aggregator.durable_files import explained
from fedjury.aggregator.naming import ENDED
from fedjury.aggregator.store import read_records
from fedjury.config import flags
from fedjury.config.settings import Settings, SettingsError, keys_of, load
from fedjury.federation.description import told
from fedjury.federation.result import Result, finish
from fedjury.federation.run import federation, say
from fedjury.protocol.record import to_json
from fedjury.shipped import shipped

CASES = {
    "undefended FedAvg": "undefended",
    "norm clipping": "robust",
    "detection": "detect",
    "validators' vote": "jury",
}
"""The demo: what people read -> the settings file that makes it."""

TITLE = "One attack, three defences"


def demo(settings: Settings) -> Result:
    """Run the same attack four times and set the four beside each other."""
    whole = Path(settings.run.directory) / settings.run.name
    cases: list[tuple[str, Settings, reports.Records]] = []
    manifests: dict[str, Any] = {}
    lines: list[str] = []
    for number, (title, file) in enumerate(CASES.items(), start=1):
        say(f"\n{number}/{len(CASES)}  {title}: fakes attack from round {settings.agents.start} on")
        case = layered(settings, file)
        folder = whole / file
        if (folder / ENDED).exists():  # it is the demo's second time, which was stopped after this
            say("it is done already")
        elif code := federation(case, folder, telling=number == 1):
            return Result(folder, code)
        cases.append((title, case, read_records(folder)))
        lines += [json.dumps(to_json(replace(r, run=title))) for r in read_records(folder)]
        manifests[title] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with explained(whole):
        (whole / "manifest.json").write_text(json.dumps(manifests, indent=2), encoding="utf-8")
        (whole / "rounds.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return finish(whole, told(TITLE, settings, cases))


def layered(settings: Settings, name: str) -> Settings:
    """Put a scenario on top of settings, and its name behind the run's."""
    folder = Path(settings.run.directory) / settings.run.name
    named = {"run.name": name, "run.directory": str(folder)}
    return load([], named, base=settings, scenarios=[shipped("config") / f"{name}.toml"])


def check_demo(settings: Settings) -> None:
    """Refuse what somebody gave and the demo's cases set themselves."""
    own = {key for file in CASES.values() for key in keys_of(shipped("config") / f"{file}.toml")}
    names = {setting: flag for flag, setting in flags.AGGREGATOR_FLAGS.items()}
    if odd := ", ".join(names.get(key, key) for key in sorted(own & settings.given)):
        raise SettingsError(
            f"--demo sets up {len(CASES)} runs of its own and accepts no {odd}; leave it out, or "
            "run one federation: python run.py --config config/demo.toml and what you want to set"
        )
