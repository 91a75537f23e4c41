"""Round numbers and write tables of results as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Return `row` with its floats rounded to eight significant digits, more than sums in float32 have."""
    return {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in row.items()}


def csv_bytes(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return `rows` as the content of a CSV file, with the keys of the first row as its header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
