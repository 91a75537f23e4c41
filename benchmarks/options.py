"""Options that several benchmarks share."""

import argparse
from pathlib import Path

import torch

from cvae.compute.devices import open_device
from cvae.support.errors import UserError


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="number of CPU threads (%(default)s)")
    precisions = ["float32", "tf32", "bfloat16"]
    parser.add_argument("--precision", choices=precisions, default="float32", help="of matrix products (%(default)s)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=_file, metavar="FILE", help="also write the results to FILE")


def _file(name: str) -> Path:
    path = Path(name)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    return path


def opened(parser: argparse.ArgumentParser, options: argparse.Namespace) -> torch.device:
    """Open and return the device that the options of `add_device` name, or end with one line if there is none."""
    if options.threads < 1:
        parser.error("--threads must be 1 or more")
    try:
        return open_device(options.device, options.threads, options.precision)
    except UserError as error:
        parser.error(str(error).removeprefix("params.yaml: "))
