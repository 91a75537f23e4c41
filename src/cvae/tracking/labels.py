"""Find the class that a label means, as people write it: its name or a number."""

import math
from collections.abc import Sequence


def find_class(label: object, classes: Sequence[str]) -> int | None:
    """Return the position in `classes` of the one that `label` means, or None if it means none.

    That is the class of this name. A number, also as text, means the class whose name is this number: 7, 7.0 or "7"
    for "7". If no name is a number, it counts the classes from 0.
    """
    if str(label) in classes:
        return classes.index(str(label))
    if (number := _number(label)) is None:
        return None
    names = [_number(name) for name in classes]
    if any(name is not None for name in names):
        return names.index(number) if names.count(number) == 1 else None
    return int(number) if number.is_integer() and 0 <= number < len(classes) else None


def _number(value: object) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
