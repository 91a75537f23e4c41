"""Show the progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from tqdm import tqdm

LONG = 10  # seconds; shorter work prints no plain lines
FIRST = 2  # seconds of work before the first estimate
PARTS = ("loss", "reconstruction", "kl")


@contextmanager
def epoch_progress(epochs: int, done: int = 0) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield a function that shows the figures of an epoch. `done` of the `epochs` are already complete.

    On a terminal, anything printed meanwhile appears above the bar. Elsewhere, an estimate of the time left follows the
    second epoch and each quarter.
    """
    form = "{n_fmt}/{total_fmt}|{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=epochs, initial=done, disable=None, dynamic_ncols=True, bar_format=form) as bar, _lines_above(bar):
        first_end = 0.0  # when the first epoch ended, which is slower than the others

        def show(row: dict[str, float]) -> None:
            nonlocal first_end
            figures = [row[f"train_{part}"] for part in PARTS]
            if bar.disable:
                shown = ", ".join(f"{part} {figure:.2f}" for part, figure in zip(PARTS, figures, strict=True))
                print(f"epoch {row['epoch']}/{epochs}: {shown} nats per image", flush=True)
                now, epoch = time.perf_counter(), int(row["epoch"])
                if epoch == done + 1:
                    first_end = now
                elif epoch == done + 2 or 4 * epoch // epochs > 4 * (epoch - 1) // epochs:
                    left = (epochs - epoch) * (now - first_end) / (epoch - done - 1)
                    if left >= LONG / 2:
                        print(f"about {duration(left)} left", flush=True)
            else:
                bar.set_postfix_str("loss {:.4g}, rec {:.4g}, kl {:.4g}".format(*figures), refresh=False)
                bar.update()

        yield show


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of steps just done, out of `total`.

    Without a terminal, long work prints a line after two seconds and after each quarter.
    """
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    bar = tqdm(desc=what, total=total, disable=None, leave=False, dynamic_ncols=True, bar_format=form)
    with bar, _lines_above(bar):
        yield _quarters(what, total) if bar.disable else bar.update


@contextmanager
def count_progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows, on a terminal, how many of `total` steps are done now, and a remark.

    `done`: the steps that were done before, which say nothing about the time left.
    """
    form = "{desc}: {n_fmt}/{total_fmt}|{bar}| {elapsed}<{remaining}{postfix}"
    bar = tqdm(desc=what, total=total, initial=done, disable=None, leave=False, dynamic_ncols=True, bar_format=form)

    def show(count: int, remark: str) -> None:
        if not bar.disable:
            bar.n = count
            bar.set_postfix_str(remark)

    with bar, _lines_above(bar):
        yield show


def duration(seconds: float) -> str:
    """Return `seconds`, rounded, in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _quarters(what: str, total: int) -> Callable[[int], None]:
    started, done, shown = time.perf_counter(), 0, -1

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        seconds, quarter = time.perf_counter() - started, 4 * done // total
        left = seconds * (total - done) / done
        if quarter > shown and done < total and seconds >= FIRST and seconds + left >= LONG:
            shown = quarter
            print(f"{what}: {100 * done // total} %, about {duration(left)} left", flush=True)

    return advance


@contextmanager
def _lines_above(bar: tqdm) -> Iterator[None]:
    """Show everything printed, by any thread to stdout or stderr, on separate lines above `bar`."""
    if bar.disable:
        yield
        return
    out, err = _LinesAbove(sys.stdout, bar), _LinesAbove(sys.stderr, bar)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.end()
            err.end()


class _LinesAbove:
    """Write to `stream` line by line, and hide the bar meanwhile.

    tqdm's own DummyTqdmFile does not hide a bar on stderr while it writes to stdout.
    """

    def __init__(self, stream: TextIO, bar: tqdm):
        self._stream = stream
        self._bar = bar
        self._pending = ""

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        lines, newline, rest = (self._pending + text).rpartition("\n")
        self._pending = rest
        if newline:
            self._print(lines + newline)
        return len(text)

    def end(self) -> None:
        """Print an unfinished last line."""
        if self._pending:
            self._print(self._pending + "\n")
            self._pending = ""

    def _print(self, text: str) -> None:
        with tqdm.external_write_mode(file=self._bar.fp):
            self._stream.write(text)
            self._stream.flush()
