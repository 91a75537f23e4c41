"""Commands: their arguments and their ends, each mistake told in one line."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from cvae.support.errors import one_line
from cvae.support.faults import explained
from cvae.support.streams import open_streams


def run_command(name: str, main: Callable[[], None]) -> None:
    """Run `main`; what a person can put right ends it with one line, which `name` begins, and exit status 1."""
    open_streams()
    try:
        main()
        print(end="", flush=True)
    except Exception as error:
        if (told := explained(error)) is None:
            raise
        sys.exit(f"{name}: {one_line(told)}")


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage, and exits with status 2; `name` begins that line."""

    def __init__(self, name: str, **options):
        super().__init__(allow_abbrev=False, **options)
        self._name = name

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self._name}: {one_line(message)}\n")


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """For argparse: whole numbers from `low`, to `high` if that is given."""

    def parse(text: str) -> int:
        try:
            if text.isascii() and low <= int(text) and (high is None or int(text) <= high):
                return int(text)
        except ValueError:
            pass
        limit = "on" if high is None else f"to {high:,}"
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a whole number from {low} {limit}")

    return parse
