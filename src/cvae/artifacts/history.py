"""Write and read the training history: one row of figures per epoch."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cvae.artifacts.tables import csv_bytes
from cvae.support.errors import UserError, one_line
from cvae.support.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("loss", "reconstruction", "kl")

SUMMARY = {
    "article_loss": "article_loss",
    "train_loss": "loss",
    "train_reconstruction": "reconstruction",
    "train_kl": "kl",
}


def write_history(rows: list[dict[str, float]], table: str | Path, summary: str | Path, best_epoch: int = 0) -> None:
    """Write `rows` to the CSV file `table`, and training figures to the JSON file `summary`.

    They are those of the last epoch, or of `best_epoch`, from 1, if the model has its weights.
    """
    figures = {"best_epoch": best_epoch} if best_epoch else {}
    figures |= {name: rows[best_epoch - 1][column] for column, name in SUMMARY.items()}
    write_whole({table: csv_bytes(rows), summary: (json.dumps(figures, indent=2) + "\n").encode()})


def held_out_split(history: "pd.DataFrame") -> str:
    """Return the split of the held-out curves in `history`: "validation" or "test"."""
    return "validation" if "validation_loss" in history else "test"


def read_history(table: str | Path) -> "pd.DataFrame":
    """Return the rows that `write_history` wrote, with numbers in all columns.

    Raises:
        UserError: the file is missing or damaged.
    """
    import numpy as np
    import pandas as pd

    remedy = "`dvc repro -sf train` makes it again"
    try:
        text = Path(table).read_text(encoding="utf-8")
        rows = pd.read_csv(io.StringIO(text))
    except FileNotFoundError:
        raise UserError(f"{table}: missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # includes pandas' own errors
        raise UserError(f"{table}: damaged ({one_line(error)[:200]}); {remedy}") from None
    curves = {f"{split}_{part}" for split in ("train", held_out_split(rows)) for part in PARTS}
    if missing := {"epoch", *curves} - set(rows):
        raise UserError(f"{table}: damaged (no column {min(missing)}); {remedy}")
    for name, column in rows.items():
        if column.dtype.kind not in "if" or not np.isfinite(column).all():
            raise UserError(f"{table}: damaged ({name} is not a number in every row); {remedy}")
    if not text.endswith("\n") or rows.empty or (rows["epoch"] != np.arange(1, len(rows) + 1)).any():
        raise UserError(f"{table}: damaged (not a whole row for every epoch from 1 on); {remedy}")
    return rows
