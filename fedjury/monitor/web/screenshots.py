"""Take the pictures of the live page in docs/: a run under attack, light, dark, on a phone."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from fedjury.config import flags
from fedjury.monitor.web.browser import launched

ROOT = Path(__file__).resolve().parents[3]

RUN = [
    "run.py",
    "--config",
    "config/demo.toml",
    "--config",
    "config/jury.toml",
    "--config",
    "config/detect.toml",
    "--set",
    "detection.quarantine=false",
    "--rounds",
    "1000",
    "--run",
    "under-attack",
]
"""A thousand agents, 200 of them fake, who strike from round 12 on and are voted down."""

SCREENS: dict[str, dict[str, Any]] = {
    "page-light": {"viewport": {"width": 1240, "height": 1080}},
    "page-dark": {"viewport": {"width": 1240, "height": 1080}, "color_scheme": "dark"},
    "page-phone": {
        "viewport": {"width": 390, "height": 1500},
        "device_scale_factor": 1.5,
        "is_mobile": True,
    },
}

AT_WORK = 90_000
"""Milliseconds until the run must be where we want it."""


def main(arguments: Sequence[str]) -> int:
    """Run a federation, look at it, and write the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m fedjury.monitor.web.screenshots",
        description="Run a federation under attack and take pictures of the live page.",
        epilog="example:\n  python -m fedjury.monitor.web.screenshots --folder docs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="default: docs")
    parser.add_argument("--round", type=int, default=19, help="when (default: round %(default)s)")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser, federation() as url:
        pages = {name: opened(browser, url, **screen) for name, screen in SCREENS.items()}
        for name, page in pages.items():
            wanted = page.locator(f"#rows li[data-round='{chosen.round}']")
            wanted.wait_for(state="attached", timeout=AT_WORK)
            file = chosen.folder / f"{name}.png"
            page.screenshot(path=file)
            print(file, flush=True)
    return 0


@contextlib.contextmanager
def federation() -> Iterator[str]:
    """Run a federation for as long as the with-block lasts; yields where its page is."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, *RUN, "--monitor", "0", "--set", f"run.directory={runs}"]
        screenless = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
        with subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=screenless,
            stdin=subprocess.DEVNULL,
        ) as child:
            try:
                yield address_in(child)
            finally:
                child.send_signal(signal.SIGINT)
                child.communicate()


def address_in(child: subprocess.Popen[str]) -> str:
    """Read where the page is from what run.py says; raises RuntimeError if it does not."""
    assert child.stdout is not None
    text = ""
    for line in child.stdout:
        text += line
        if match := re.search(r"http://\S+", line):
            return match[0]
    raise RuntimeError(f"run.py did not say where its page is:\n{text}")


def opened(browser: Browser, url: str, **screen: Any) -> Page:
    """Open the page on a screen."""
    page = browser.new_context(**screen).new_page()
    page.goto(url)
    return page


if __name__ == "__main__":
    flags.run_main(main, (FileNotFoundError, RuntimeError))
