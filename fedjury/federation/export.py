"""The model of a run as a file for others: fedjury export runs/fedjury --to onnx."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjury.aggregator.durable_files import StoreError
from fedjury.config.program import Output, Program, run_main
from fedjury.config.settings import SettingsError

if TYPE_CHECKING:
    from fedjury.federation.exported import Kept

EXAMPLES = """examples:
  %(prog)s runs/fedjury
  %(prog)s runs/pumps --best --to torch --out pumps.pth
  %(prog)s runs/pumps --to onnx --model acme.net:Sensor --input 1,24"""

EXPECTED = (StoreError, SettingsError)
"""Errors that are one sentence to people."""

ENDINGS = {"safetensors": ".safetensors", "torch": ".pth", "onnx": ".onnx"}
"""Format -> how its files end."""


def parser_of(prog: str) -> ArgumentParser:
    """Return the parser of its flags."""
    parser = ArgumentParser(
        prog=prog,
        description="Write the model of a run as a file that other programs read.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="RUNFOLDER", help="the run's folder")
    parser.add_argument(
        "--to",
        choices=ENDINGS,
        default="safetensors",
        help="safetensors: tensors by name; torch: a state dict, as torch.save writes it; onnx: "
        "the network too (default: safetensors)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: the run's name)")
    parser.add_argument(
        "--best", action="store_true", help="the best model by evaluation.best, not the last one"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="of torch and onnx: the network, package.module:name (default: the run's)",
    )
    parser.add_argument(
        "--input",
        metavar="SHAPE",
        help="of onnx: the shape of one input, like 1,28,28 (default: the run's)",
    )
    return parser


def work(chosen: Namespace, output: Output) -> int:
    """Write the file, and say where it is."""
    from fedjury.federation import exported  # noqa: PLC0415 - imports torch, which help does without

    kept = exported.kept_in(chosen.folder, best=chosen.best)
    shape = exported.shape_of(chosen.input, kept)
    file: Path = chosen.out or Path(f"{kept.run}{ENDINGS[chosen.to]}")
    writers: Mapping[str, Callable[[Kept, Path, str | None, Any], None]] = {
        "safetensors": exported.to_safetensors,
        "torch": exported.to_torch,
        "onnx": exported.to_onnx,
    }
    writers[chosen.to](kept, file, chosen.model, shape)
    size = file.stat().st_size
    line = f"{file}: version {kept.version} of run {kept.run!r}, {size:,} bytes"
    output.result(
        lambda: print(line, flush=True),
        {"file": str(file), "run": kept.run, "version": kept.version, "bytes": size},
    )
    return 0


main = Program("fedjury export", parser_of, work)


if __name__ == "__main__":
    run_main(main, EXPECTED)
