"""Options that benchmarks have in common."""

import argparse
from pathlib import Path

import torch

from cvae.compute.devices import open_device
from cvae.support.errors import UserError


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (%(default)s)")
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32", help="(%(default)s)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=_file, metavar="FILE", help="write the figures to FILE too")


def _file(name: str) -> Path:
    path = Path(name)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def opened(parser: argparse.ArgumentParser, options: argparse.Namespace) -> torch.device:
    """The device of `add_device`'s options, ready; ends the benchmark with one line if there is no such."""
    if options.threads < 1:
        parser.error("--threads must be 1 or more")
    try:
        return open_device(options.device, options.threads, options.precision)
    except UserError as error:
        parser.error(str(error).removeprefix("params.yaml: "))
