"""`cvae explore`: which page it opens, and what it says if there is none."""

import sys

import pytest
from helpers.repository import Repository

CVAE = (sys.executable, "-m", "cvae", "explore")


@pytest.fixture
def explore(compared, tmp_path):
    """Call the command in a copy of `compared`, with its store; return the output and the address that it opened."""
    copy = compared.copy(tmp_path / "cvae", "cache")
    started, browser = tmp_path / "started", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{started}"\n')
    browser.chmod(0o755)
    variables = {"PYTHONPATH": str(copy.root / "src"), "BROWSER": str(browser)}
    variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{compared.root}/mlflow.db"

    def explore(*arguments: str, **more) -> tuple[Repository, str, str]:
        done = copy.run(*CVAE, *arguments, **(variables | more))
        return copy, done.stdout + done.stderr, started.read_text().strip() if started.exists() else ""

    return explore


def test_the_current_results_page_is_opened_and_its_address_is_printed(explore):
    copy, output, address = explore()
    assert address == (copy.root / "plots/explorer.html").as_uri()
    assert output == f"plots/explorer.html: {address}\n"


def test_the_page_of_another_run_is_fetched_and_opened(explore):
    copy, _, address = explore("--run", "wide")
    fetched = copy.root / "explorer.html"
    assert address == fetched.as_uri()
    assert '"latents":4,' in fetched.read_text()
    assert copy.git("status", "--porcelain", "explorer.html") == ""


def test_without_a_browser_the_page_is_only_named(explore):
    _, output, address = explore(BROWSER="", DISPLAY="", PATH="/nonexistent")
    assert address == ""
    assert output.splitlines()[-1] == "No browser can be started from here; open this file in one."


def test_a_missing_page_is_reported_in_one_line(explore):
    copy, _, _ = explore()
    (copy.root / "plots/explorer.html").unlink()
    _, output, _ = explore(status=1)
    advice = "`dvc repro render` brings it back"
    assert output == f"explore: plots/explorer.html: missing; {advice}\n"


def test_an_unknown_run_is_reported_in_one_line(explore):
    _, output, _ = explore("--run", "nowhere", status=1)
    assert output.startswith("explore: no MLflow run has the name or id 'nowhere'")
    assert output.count("\n") == 1
