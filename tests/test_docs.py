"""README is short, and in all docs links resolve, commands exist, and code and figures are the project's own."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from helpers.repository import PROJECT

from cvae.commands.program import COMMANDS
from cvae.evaluation.evaluate import MEANINGS
from cvae.pipeline.parameters import Parameters

TOUR = PROJECT / "docs/tour.ipynb"
NAMES = ("*.md", "docs/*", "benchmarks/*", "data/own/*", "src/cvae/*", "tests/*")
PAGES = sorted(page for name in NAMES for page in PROJECT.glob(name) if page.suffix in (".md", ".ipynb"))
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """Return a page's Markdown, without the outputs and code of a notebook."""
    text = page.read_text()
    if page.suffix == ".md":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def commands(page: Path) -> list[str]:
    """Return the lines of a page's blocks of commands."""
    blocks = [content for language, content in FENCED.findall(text_of(page)) if language in ("", "sh")]
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


@cache
def files() -> set[Path]:
    """Return the files that git has, or would have after `git add --all`."""
    listed = ["git", "ls-files", "-zco", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {PROJECT / name for name in names if name}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list:
    found = []
    for page in PAGES:
        text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text_of(page)))
        targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
        name = page.relative_to(PROJECT)
        found += [pytest.param(page, target, id=f"{name}: {target}") for target in targets if "://" not in target]
    return found


@pytest.mark.parametrize(("page", "target"), links())
def test_a_link_leads_to_a_file_in_git_and_a_heading_in_it(page, target):
    path, _, anchor = target.partition("#")
    file = Path(os.path.normpath(page.parent / path)) if path else page
    assert file in files()
    assert not anchor or anchor in anchors(file)


def test_readme_fits_on_two_screens():
    lines = (PROJECT / "README.md").read_text().splitlines()
    assert len(lines) <= 110
    for _, block in FENCED.findall("\n".join(lines)):
        for line in block.splitlines():
            assert len(line) <= 80, line


def test_readme_activates_the_environment_before_other_commands():
    programs = [line.split()[0] for line in commands(PROJECT / "README.md") if line]
    assert {"git", "make", "source", "dvc", "cvae"} <= set(programs)
    assert not {"dvc", "cvae", "python", "mlflow"} & set(programs[: programs.index("source")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_in_the_docs_exist(page):
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    text = "\n".join([*commands(page), *re.findall(r"`([^`\n]+)`", text_of(page))])
    assert set(re.findall(r"^make ([a-z][a-z-]*)", text, re.MULTILINE)) <= set(targets)
    assert set(re.findall(r"^cvae ([a-z]+)", text, re.MULTILINE)) <= COMMANDS.keys()
    options = set(re.findall(r"-S '?(\w+)=", text))
    assert options - {"width"} <= Parameters.model_fields.keys()


def test_every_metric_is_explained():
    text = (PROJECT / "docs/metrics.md").read_text()
    assert [name for name in MEANINGS if f"`{name}`" not in text] == []


def test_every_stage_is_explained():
    rows = re.findall(r"^\| (\w+) \|", (PROJECT / "docs/how-it-works.md").read_text(), re.MULTILINE)
    assert yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].keys() <= set(rows)


def excerpts() -> list:
    """Return the pieces of code in docs/how-it-works.md, with the files that they name; `...` separates pieces."""
    found = []
    for language, block in FENCED.findall((PROJECT / "docs/how-it-works.md").read_text()):
        if language == "python":
            source, _, code = block.partition("\n")
            found += [(source.removeprefix("# "), piece.strip()) for piece in code.split("\n...\n")]
    assert found
    return found


@pytest.mark.parametrize(("source", "piece"), excerpts())
def test_code_that_the_docs_explain_is_the_code_that_runs(source, piece):
    """Lines may be broken elsewhere, so that the page shows all of them."""
    there, here = (" ".join(text.replace("\\\n", " ").split()) for text in ((PROJECT / source).read_text(), piece))
    assert f" {here} " in f" {there} "


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_line_of_code_is_cut_off_at_the_edge_of_a_page(page):
    lines = [line for _, block in FENCED.findall(text_of(page)) for line in block.splitlines()]
    assert [line for line in lines if len(line) > 88] == []


@pytest.mark.skipif("AS_PUBLISHED" not in os.environ, reason="the results are yours to change")
def test_published_figures_are_those_of_the_committed_result():
    measured = json.loads((PROJECT / "metrics/test.json").read_text())
    page = (PROJECT / "docs/results.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) > 5
    for name, value in rows:
        half_a_digit = 0.5 * 10 ** -len(value.partition(".")[2])
        assert float(value) == pytest.approx(measured[name], abs=half_a_digit + 1e-9), name
    loss = json.loads((PROJECT / "metrics/train.json").read_text())["article_loss"]
    assert re.search(r"^\| 100 \| 1.8178 \| (.*) \|$", page, re.MULTILINE)[1] == f"{loss / 1e6:.4f}"
    assert f"{loss / 1e6:.4f}·10⁶" in (PROJECT / "README.md").read_text()


def test_the_tour_runs_from_its_first_cell_to_its_last(compared):
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    code += "\nprint('\\nfound', len(plt.get_fignums()), *sorted(compared['latent_dims']))\n"
    variables = {"PYTHONPATH": str(compared.root / "src"), "MPLBACKEND": "agg"}
    script = f"import os; os.chdir('stages')\n{code}"  # a notebook starts in its own folder
    printed = compared.run(sys.executable, "-W", "error::RuntimeWarning", "-c", script, **variables).stdout
    assert printed.splitlines()[-1] == "found 6 2 4"
