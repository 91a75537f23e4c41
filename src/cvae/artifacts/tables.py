"""Round numbers and write tables of results as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Return `row` with its floats rounded to eight significant digits, more than sums in float32 have."""
    return {name: float(f"{value:.8g}") if isinstance(value, float) else value for name, value in row.items()}


def csv_bytes(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> bytes:
    """Return `rows` as the content of a CSV file with these columns, or with all that occur in a row.

    A cell that a row lacks stays empty.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, columns or list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
