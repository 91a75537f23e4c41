"""Tables of results as CSV: how numbers are rounded and written."""

import csv
import io
from collections.abc import Mapping, Sequence


def rounded(row: dict[str, float]) -> dict[str, float]:
    """`row` with its fractions to eight significant digits: more than float32 sums hold, and short to read."""
    return {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in row.items()}


def csv_bytes(rows: Sequence[Mapping[str, object]]) -> bytes:
    """`rows` as a CSV file whose header is the keys of the first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
