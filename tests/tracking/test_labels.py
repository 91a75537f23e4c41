"""Which class a label means."""

import pytest

from cvae.tracking.labels import find_class

FASHION = ("0 T-shirt", "1 trouser", "2 pullover")
BALANCED = (*map(str, range(10)), "A", "b")


@pytest.mark.parametrize(
    ("label", "classes", "name"),
    [
        ("guinea pig", ("cat", "guinea pig"), "guinea pig"),
        (7, BALANCED, "7"),
        (7.0, BALANCED, "7"),
        ("7", BALANCED, "7"),
        ("b", BALANCED, "b"),
        (10, BALANCED, None),  # the names that are numbers leave no room for positions
        (7, ("3", "7"), "7"),
        (0, ("3", "7"), None),
        (7, ("007", "008"), "007"),
        (7, ("7", "007"), "7"),
        (7.0, ("07", "007"), None),
        (1, FASHION, "1 trouser"),
        ("1", FASHION, "1 trouser"),
        (3, FASHION, None),
        (-1, FASHION, None),
        (0.5, FASHION, None),
        ("trouser", FASHION, None),
        (True, FASHION, None),
        ("True", ("False", "True"), "True"),
        ("nan", ("cat",), None),
        (10**400, FASHION, None),
        ([1], FASHION, None),
        (0, ("naïve", "Ünï"), "naïve"),
    ],
)
def test_a_label_is_a_name_or_a_number(label, classes, name):
    found = find_class(label, classes)
    assert (None if found is None else classes[found]) == name
