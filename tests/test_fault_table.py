"""The fault table in tests/README.md: each row names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NAMED = re.compile(r"`([\w/]*test_\w+\.py)::(test_\w+)`( \(long\))?")


def rows() -> list[str]:
    _, _, text = (TESTS / "README.md").read_text().partition("## Faults")
    text, _, _ = text.partition("\n## ")
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]


def named_in(module: Path) -> dict[str, bool]:
    """Return the tests in a module, and whether each is marked long, itself or with its module."""
    statements = ast.parse(module.read_text()).body
    is_long = any(ast.unparse(each) == "pytestmark = pytest.mark.long" for each in statements)
    return {
        each.name: is_long or any(ast.unparse(mark) == "pytest.mark.long" for mark in each.decorator_list)
        for each in statements
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }


@pytest.mark.parametrize("row", rows())
def test_a_row_names_tests_that_exist(row):
    named = NAMED.findall(row)
    assert named, "name the tests of a row as `room/test_module.py::test_name`"
    assert len(row.strip("| ").split(" | ")) == 4
    for module, name, long in named:
        assert named_in(TESTS / module).get(name) is bool(long), f"{module}::{name}{long}"


def test_every_long_test_is_in_the_table():
    """Long tests run only on request, so they are easily forgotten."""
    text = (TESTS / "README.md").read_text()
    for module in sorted(TESTS.rglob("test_*.py")):
        for name, is_long in named_in(module).items():
            assert not is_long or f"{module.relative_to(TESTS)}::{name}` (long)" in text
