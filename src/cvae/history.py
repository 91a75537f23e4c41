"""The rows that training yields: shown as they come, and written when all are there."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from cvae.outputs import csv_bytes, write_whole

SUMMARY = {
    "article_loss": "article_loss",
    "train_loss": "loss",
    "train_reconstruction": "reconstruction",
    "train_kl": "kl",
}


def show_progress(rows: Iterable[dict[str, float]], epochs: int, done: int = 0) -> Iterator[dict[str, float]]:
    """Pass `rows` on, one an epoch, with a bar on a terminal and a plain line an epoch elsewhere.

    Of `epochs`, `done` are over already.
    """
    with tqdm(total=epochs, initial=done, unit="epoch", disable=None) as bar:
        for row in rows:
            parts = {part: f"{row[f'train_{part}']:.2f}" for part in ("loss", "reconstruction", "kl")}
            if bar.disable:
                figures = ", ".join(f"{part} {value}" for part, value in parts.items())
                print(f"epoch {row['epoch']}/{epochs}: {figures} nats per image", flush=True)
            else:
                bar.set_postfix(parts, refresh=False)
                bar.update()
            yield row


def rounded(row: dict[str, float]) -> dict[str, float]:
    """`row` with its fractions to eight significant digits: more than float32 sums hold, and short to read."""
    return {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in row.items()}


def write_history(rows: list[dict[str, float]], table: str | Path, summary: str | Path) -> None:
    """Write `rows` as the CSV file `table`, and the last one's training figures as the JSON file `summary`."""
    figures = {name: rows[-1][column] for column, name in SUMMARY.items()}
    write_whole({table: csv_bytes(rows), summary: (json.dumps(figures, indent=2) + "\n").encode()})
