"""docs/your-own.md, run as a reader would: its blocks in their order, in a repository that is already set up."""

import csv
import json
import re
import sys

from helpers.repository import PROJECT, Repository, stages_run

QUICK = {"epochs": 2, "nll_samples": 10, "threads": 1, "grid_size": 4}
AFTER_DOWNLOAD = ["train", "evaluate", "embed", "render", "track"]
PICTURES = ("latents", "manifolds", "reconstructions", "styles", "training")


def blocks() -> list[tuple[str, str]]:
    """Return the blocks of the page that a test can run: (language, content)."""
    text = (PROJECT / "docs/your-own.md").read_text()
    found = re.findall(r"^( *)```(sh|python|yaml)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [(language, re.sub(f"^{indent}", "", content, flags=re.MULTILINE)) for indent, language, content in found]


class Reader:
    """Follow the page in `repository`: edit files and run commands."""

    def __init__(self, repository: Repository):
        self.repository, self.root, self.rest = repository, repository.root, blocks()

    def follow(self, language: str, start: str, until: str = "") -> str:
        """Follow the next block, which has to begin with `start`, and return what it printed.

        `until`: the stage with which `dvc repro`, the block's last command, ends here.
        """
        (found, content), *self.rest = self.rest
        assert (found, content[: len(start)]) == (language, start)
        if language == "sh":
            return self.run("bash", "-e", "-c", f"{content.rstrip()} {until}" if until else content)
        first, _, content = content.partition("\n")
        path, _, place = first.removeprefix("# ").partition(", ")
        if not first.startswith("# "):
            return self.run(sys.executable, "-c", f"{first}\n{content}")
        if path == "params.yaml" and not place:
            self.repository.set(**dict(re.findall(r"^(\w+): *(.*)$", content, re.MULTILINE)))
        elif not place:
            (self.root / path).write_text(content)
        else:
            self.insert(path, content)
        return ""

    def run(self, *command: str) -> str:
        """Run `command` as if the package of this repository were installed, not that of the tests."""
        return self.repository.run(*command, PYTHONPATH=str(self.root / "src")).stdout

    def insert(self, path: str, content: str) -> None:
        """Put `content` below the line of hidden_dims, or within its line in the list of dvc.yaml."""
        text = (self.root / path).read_text()
        if path == "dvc.yaml":
            text, found = re.subn(r"(hidden_dims,)", rf"\1 {content.strip()}", text)
        else:
            place = r"^hidden_dims:(?:.*\n)(?:[- ].*\n)*" if path == "params.yaml" else r"^    activation:"
            after = path == "params.yaml"
            text, found = re.subn(
                place, lambda match: match[0] + content if after else content + match[0], text, flags=re.MULTILINE
            )
        assert found == 1, path
        (self.root / path).write_text(text)


def test_a_reader_gets_from_a_clone_to_results_of_their_own(repository, tmp_path):
    reader = Reader(repository.copy(tmp_path / "cvae"))
    reader.repository.set(**QUICK)
    run_the_pipeline(reader)
    edit(reader)
    run_an_experiment(reader)
    add_a_parameter(reader)
    bring_arrays(reader)
    assert not reader.rest


def run_the_pipeline(reader: Reader) -> None:
    root = reader.root
    reader.follow("sh", "python - <<")
    reader.follow("python", "# src/cvae/models/mine.py\n")
    reader.follow("yaml", "# params.yaml\n")
    printed = reader.follow("sh", "dvc repro")
    assert stages_run(printed) == ["download", *AFTER_DOWNLOAD]
    assert re.search(r"^box +\d+ +\d+ ", printed, re.MULTILINE)

    described = json.loads((root / "data/model/config.json").read_text())
    assert (described["model"], described["width"]) == ("cvae.models.mine:Mine", 16)
    assert described["schema"]["classes"] == ["box", "disc"]
    assert described["schema"]["shape"] == [32, 32, 3]
    assert json.loads((root / "metrics/test.json").read_text())["nll"] > 0
    with (root / "metrics/per_class.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} >= {"disc", "box"}
    for name in PICTURES:
        assert (root / f"plots/{name}.png").stat().st_size > 0
    for number in range(2):
        assert (root / f"plots/manifolds/{number}.png").stat().st_size > 0

    (run,) = reader.repository.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "cvae.models.mine:Mine"
    assert run.data.metrics["final_test/nll"] > 0
    assert {f"{name}.png" for name in PICTURES} <= {
        artifact.path for artifact in reader.repository.client.list_artifacts(run.info.run_id)
    }

    reader.follow("sh", "cvae sample")
    assert (root / "samples.png").stat().st_size > 0


def edit(reader: Reader) -> None:
    """Only what depends on an edit runs again."""
    edited = {  # what begins to run again, if anything
        "README.md": [],
        "src/cvae/models/mine.py": ["train"],
        "data/own/disc/one more.png": ["download"],
    }
    for path, first in edited.items():
        file = reader.root / path
        before = file.read_bytes() if file.exists() else None
        file.write_bytes((before or (reader.root / "data/own/box/0.png").read_bytes()) + b"\n")
        assert stages_run(reader.repository.dvc("repro", "--dry"))[:1] == first, path
        file.write_bytes(before) if before else file.unlink()


def run_an_experiment(reader: Reader) -> None:
    """Its copy of the repository has the images and the model."""
    before = {run.info.run_id for run in reader.repository.runs()}
    reader.follow("sh", "git add src/cvae/models/mine.py")
    (run,) = [run for run in reader.repository.runs() if run.info.run_id not in before]
    assert run.info.status == "FINISHED"
    assert (run.data.params["latent_dims"], run.data.params["model"]) == ("8", "cvae.models.mine:Mine")


def add_a_parameter(reader: Reader) -> None:
    reader.follow("yaml", "# params.yaml, ")
    reader.follow("python", "# src/cvae/pipeline/parameters.py, ")
    reader.follow("yaml", "# dvc.yaml, ")
    assert stages_run(reader.follow("sh", "dvc repro", until="train")) == ["train"]
    assert json.loads((reader.root / "data/model/config.json").read_text())["width"] == 8
    assert {run.data.params.get("width") for run in reader.repository.runs()} >= {"8"}


def bring_arrays(reader: Reader) -> None:
    reader.follow("python", "import numpy")
    reader.repository.set(images="data/arrays")
    reader.repository.dvc("repro", "download")
    schema = json.loads((reader.root / "data/raw/schema.json").read_text())
    assert (schema["shape"], schema["classes"]) == ([20, 24, 3], ["cat", "black dog"])
