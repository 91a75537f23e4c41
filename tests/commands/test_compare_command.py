"""`cvae compare` as a command, on real experiments."""

import csv
import hashlib
import json
import os
import sys

import pytest
from helpers.repository import Repository
from helpers.results import result, table

from cvae.commands.compare import command, experiments
from cvae.commands.compare.results import FIGURES
from cvae.commands.compare.tables import format_means, format_table
from cvae.commands.program import invoke

MADE, VALIDATED = b'{"kl": 3.0}', b'{"kl": 4.0}'
DIGEST, OTHER_DIGEST = (hashlib.md5(content).hexdigest() for content in (MADE, VALIDATED))
LOCKED = f"""\
stages:
  train:
    params: {{params.yaml: {{seed: 0, learning_rate: 0.00001, threads: 2}}}}
    outs: [{{path: data/model, md5: aaaa.dir}}]
  evaluate:
    deps: [{{path: data/model, md5: aaaa.dir}}]
    params: {{params.yaml: {{nll_samples: 50}}}}
    outs:
    - {{path: metrics/test.json, md5: {DIGEST}}}
    - {{path: metrics/validation.json, md5: {OTHER_DIGEST}}}
  render:
    deps: [{{path: data/model, md5: bbbb.dir}}]
    params: {{params.yaml: {{grid_size: 20}}}}
"""
PARAMS = "seed: 0\nlearning_rate: 1e-05\nnll_samples: 50\ngrid_size: 20\nthreads: 2\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("params.yaml", "", "", True),  # with a small number as DVC writes it, which is text in YAML 1.1
        ("params.yaml", "grid_size: 20", "grid_size: 9", True),  # changes pictures only
        ("params.yaml", "threads: 2", "threads: 1", True),
        ("params.yaml", "seed: 0", "seed: 1", False),
        ("params.yaml", "learning_rate: 1e-05\n", "", False),
        ("params.yaml", "nll_samples: 50", "nll_samples: 500", False),
        ("dvc.lock", "outs: [{path: data/model, md5: aaaa", "outs: [{path: data/model, md5: cccc", False),
        ("dvc.lock", f"md5: {DIGEST}", "md5: dddd", False),
        ("dvc.lock", "stages:", "stages", False),
        ("dvc.lock", LOCKED, "", False),
        ("metrics/test.json", "3.0", "2.0", False),
        ("metrics/validation.json", "4.0", "2.0", False),
    ],
    ids=[
        "as measured",
        "picture",
        "threads",
        "edited",
        "missing",
        "another measure",
        "trained again, not yet evaluated",
        "another evaluation",
        "no YAML",
        "no lock",
        "edited figures",
        "edited validation figures",
    ],
)
def test_figures_count_only_with_the_parameters_and_files_that_dvc_locked(file, old, new, expected):
    files = {"params.yaml": PARAMS.encode(), "dvc.lock": LOCKED.encode(), "metrics/test.json": MADE}
    files["metrics/validation.json"] = VALIDATED
    assert old.encode() in files[file]
    assert experiments.is_current(files | {file: files[file].replace(old.encode(), new.encode())}) == expected


def run_command(repository, *arguments: str, status: int = 0):
    command = (sys.executable, "-m", "cvae", "compare", *arguments)
    return repository.run(*command, status=status, PYTHONPATH="src")


@pytest.fixture(scope="module")
def clone(compared, tmp_path_factory) -> Repository:
    """A clone with a result of two latents, and experiment `wide` of four. Tests restore what they edit."""
    return compared.copy(tmp_path_factory.mktemp("clone") / "cvae")


@pytest.fixture(scope="module")
def branch(clone) -> str:
    return clone.git("branch", "--show-current").strip()


def test_a_single_result_is_reported_with_the_command_that_makes_more(repository, tmp_path):
    alone = run_command(repository.copy(tmp_path / "cvae", "cache"), status=1)
    assert alone.stderr.startswith("compare: there is one result")
    assert "dvc exp run --queue" in alone.stderr
    assert alone.stderr.count("\n") == 1


def test_the_command_compares_real_experiments(clone, branch):
    wide = clone.git("for-each-ref", "--format=%(refname)", "refs/exps/**/wide").strip()
    figures = [json.loads(clone.git("show", f"{commit}:metrics/test.json")) for commit in (branch, wide)]
    clone.dvc("exp", "run", "--queue", "--set-param", "latent_dims=1")
    output = run_command(clone).stdout
    assert "Left out: 1 queued;" in output
    assert "digits, gaussian likelihood, grey pixels" in output

    with open(clone.root / "plots/rate_distortion.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["experiment"], row["latent_dims"]) for row in rows] == [(branch, "2"), ("wide", "4")]
    for row, expected in zip(rows, figures, strict=True):
        shown = [key for key in FIGURES if key in expected]
        assert {key: float(row[key]) for key in shown} == {key: expected[key] for key in shown}
        assert float(row["negative_elbo"]) == pytest.approx(expected["loss"], abs=2e-6)  # beta is 1
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.parametrize("other", [{"seed": 1}, {"latent_dims": 4}], ids=["seeds", "no seeds"])
def test_means_are_printed_below_the_table_if_there_are_seeds(monkeypatch, tmp_path, capsys, other):
    results = table(result("a"), result("b", kl=4.0, **other))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setattr(command, "find_results", lambda *_: (results, []))
    invoke("compare", ["compare"])
    shown, *means, _ = capsys.readouterr().out.strip().split("\n\n")
    assert shown.endswith(format_table(results))
    assert means == ([format_means(results)] if "seed" in other else [])


def test_the_picture_leaves_out_tasks_with_one_result_unless_all_are(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    drawn = []
    monkeypatch.setattr(command, "write_picture", drawn.extend)
    one, two, other = result("one"), result("two", latent_dims=4), result("other", dataset="kmnist")
    for results, names, text in (
        ([one, two, other], [["one", "two"]], "shows the tasks with several results"),
        ([one, other], [["other"], ["one"]], "shows these results"),
    ):
        monkeypatch.setattr(command, "find_results", lambda *_, found=results: (table(*found), []))
        invoke("compare", ["compare"])
        assert [group["experiment"].tolist() for group in drawn] == names
        assert text in capsys.readouterr().out
        drawn.clear()


def test_widths_of_several_layers_are_shown_as_a_list(clone):
    clone.set(hidden_dims="[64, 32]")
    receipt = clone.root / "data/tracked.json"
    receipt.write_text("{}")  # DVC saves no experiment that lacks an output
    try:
        clone.dvc("exp", "save", "--name", "deep")
        output = run_command(clone, "deep", "wide").stdout
        clone.dvc("exp", "remove", "deep")
    finally:
        receipt.unlink()
        clone.git("checkout", "params.yaml")
    (line,) = (line for line in output.splitlines() if line.startswith("deep"))
    assert "  [64, 32]  " in line


def test_a_workspace_edited_since_it_was_measured_is_left_out_without_importing_torch_or_mlflow(clone, branch):
    check = (
        "import sys; from cvae.commands.program import invoke; invoke('compare', ['compare', *sys.argv[1:]]); "
        "assert not {'torch', 'mlflow'} & set(sys.modules)"
    )
    clone.set(latent_dims=7)
    try:
        command = (sys.executable, "-c", check, branch, "wide", "workspace")
        output = clone.run(*command, PYTHONPATH="src").stdout
    finally:
        clone.git("checkout", "params.yaml")
    assert "Left out, edited or damaged since the figures were measured: workspace." in output
    assert [line.split()[0] for line in output.splitlines() if line.startswith((branch, "wide"))] == [branch, "wide"]


def test_a_commit_edited_since_it_was_measured_is_left_out(clone, branch):
    assert "Left out" not in run_command(clone, branch, "wide").stdout
    clone.set(latent_dims=7)
    clone.git("commit", "--quiet", "--message", "Edit, and run nothing", "params.yaml")
    try:
        output = run_command(clone, "--num", "2").stdout
    finally:
        clone.git("reset", "--quiet", "--hard", "HEAD~1")
    assert f"Left out, edited or damaged since the figures were measured: {branch}, workspace." in output
    assert not [line for line in output.splitlines() if line.split()[1:2] == ["7"]]


def test_a_project_in_a_subdirectory_of_a_git_repository_reads_its_own_parameters(repository, tmp_path):
    """Paths in a commit count from git's root, which is not the project's in a monorepo."""
    project = Repository(tmp_path / "monorepo/projects/cvae")
    repository.copy(project.root, ".git", "cache")
    (project.root / "../../params.yaml").resolve().write_text("latent_dims: 2\n")  # another project's
    project.git("-C", str(tmp_path / "monorepo"), "init", "--quiet")
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "Run")
    project.set(latent_dims=9)
    project.git("commit", "--quiet", "--all", "--message", "Edit, and run nothing")
    done = run_command(project, "--num", "2", status=1)
    branch = project.git("branch", "--show-current").strip()
    assert done.stdout == f"Left out, edited or damaged since the figures were measured: {branch}, workspace.\n"
    assert done.stderr.startswith("compare: there is one result")


def test_a_repository_of_another_user_is_reported_with_the_advice_of_git(repository, tmp_path):
    clone = repository.copy(tmp_path / "cvae", "cache")
    os.chown(clone.root, 4321, 4321)
    os.chown(clone.root / ".git", 4321, 4321)
    done = run_command(clone, status=1)
    advice = f"`git config --global --add safe.directory {clone.root}` lets you use it"
    assert done.stderr == f"compare: git: the repository belongs to another user; {advice}\n"
