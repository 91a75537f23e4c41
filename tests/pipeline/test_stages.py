"""dvc.yaml and the stages, as DVC runs them in a real repository."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.pages import PICTURES, THUMBNAILS
from helpers.processes import environment
from helpers.repository import PROJECT, Repository, stages_run

from cvae.models import arguments
from cvae.pipeline.dvc_yaml import NAMED
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import UserError
from cvae.tracking.run_keys import recorded

STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
CURVES = [f"{split}_{part}" for split in ("train", "test") for part in ("loss", "reconstruction", "kl")]


# dvc.yaml


def test_each_stage_runs_the_module_of_its_name():
    modules = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"}
    assert set(STAGES) == modules
    assert {name: stage["cmd"] for name, stage in STAGES.items()} == {
        name: f"{'${launcher}' if name == 'train' else 'python'} -m stages.{name}" for name in modules
    }


def module_file(name: str) -> str | None:
    """Return the file of module `name`, relative to the project; None if it is not ours."""
    top = {"stages": "", "cvae": "src/"}.get(name.partition(".")[0])
    if top is None:
        return None
    path = top + name.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if (PROJECT / file).is_file()), None)


def imported_by(file: str) -> set[str]:
    """Return the names that `file` imports, at its top or in a function; some of them are not modules."""
    names = set()
    for node in ast.walk(ast.parse((PROJECT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed here"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def code_of(stage: str) -> set[str]:
    """Return the files of our modules that the stage may import, except tracking, which train imports only to log.

    Whoever imports `cvae.models` may import each model in it, by the name in params.yaml.
    """
    files, waiting = set(), [f"stages.{stage}"]
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if file is None or file in files or (stage == "train" and f"{name}.".startswith("cvae.tracking.")):
            continue
        files.add(file)
        package = name.rpartition(".")[0]
        waiting += [*imported_by(file), *([package] if package else [])]
        if name == "cvae.models":
            waiting += MODELS
    return files


MODELS = [
    ".".join(file.relative_to(PROJECT / "src").with_suffix("").parts)
    for file in sorted((PROJECT / "src/cvae/models").rglob("*.py"))
    if file.name != "__init__.py"
]


def room_of(file: str) -> str:
    """Return what a stage lists for `file`: its own module, a module directly in src/cvae, or a folder there."""
    return file if file.startswith("stages/") else "/".join(file.split("/")[:3])


# What stages import without listing it. It does not decide what they write, so that, for example, rewording a message
# re-runs nothing.
NOT_LISTED = {
    "stages/__init__.py": STAGES,
    "src/cvae/__init__.py": STAGES,
    "src/cvae/support": STAGES,
    "src/cvae/commands": STAGES,
    "src/cvae/pipeline": STAGES.keys() - {"track"},
    "src/cvae/tracking": {"train"},
    "src/cvae/model.py": {"track"},  # its input is the saved model
    "src/cvae/models": {"track"},
    "src/cvae/compute": {"track"},
    "src/cvae/data": {"track"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_rooms_that_it_imports(stage):
    rooms = {room_of(file) for file in code_of(stage)}
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))}
    assert listed == {room for room in rooms if stage not in NOT_LISTED.get(room, ())}


def read_by_models() -> set[str]:
    """Return the parameters that models take as arguments."""
    classes = [
        f"{module}:{node.name}"
        for module in ("cvae.model", *MODELS)
        for node in ast.parse((PROJECT / module_file(module)).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    return {name for model in classes if is_model(model) for name in arguments(model)} & Parameters.model_fields.keys()


def is_model(name: str) -> bool:
    try:
        return bool(arguments(name))
    except UserError:  # another class
        return False


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_parameters_that_it_reads(stage):
    tree = ast.parse((PROJECT / f"stages/{stage}.py").read_text())
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    if stage == "track":
        assert "model_dump" in read
        assert STAGES[stage]["params"] == [{"params.yaml": None}], "track logs every parameter"
    else:
        # train passes model_dump() to the model, and to its live run, which logs the parameters of the list
        expected = read - {"model_dump"} | (read_by_models() if stage == "train" else set())
        assert set(STAGES[stage]["params"]) | named_in(STAGES[stage]["deps"]) == expected


def named_in(templates: object) -> set[str]:
    """Return the parameters that `templates` name: `images` in "${images}"."""
    return set(NAMED.findall(str(templates)))


def test_every_parameter_decides_what_a_stage_does():
    listed = {name for stage in STAGES.values() for name in stage["params"] if isinstance(name, str)}
    in_track = {"registered_model"}
    assert listed | named_in(STAGES) | in_track == Parameters.model_fields.keys()


def test_a_stage_depends_only_on_data_that_another_stage_makes_or_that_params_yaml_names():
    outs = {path for stage in STAGES for path in outs_of(stage)}
    for stage, declared in STAGES.items():
        data = {dep for dep in declared["deps"] if not dep.startswith(("src/", "stages/", "${"))}
        assert data <= outs, stage


def outs_of(stage: str) -> set[str]:
    groups = (STAGES[stage].get(group, []) for group in ("outs", "metrics", "plots"))
    return {out if isinstance(out, str) else next(iter(out)) for group in groups for out in group}


# Which stages run again after a change to the code


def changed_by_editing(edited: Repository, room: str) -> set[str]:
    """Return the stages that DVC calls changed after an edit to a file of `room`, a folder or a file."""
    path = edited.root / "src/cvae" / room
    path = next(path.glob("[!_]*.py")) if path.is_dir() else path
    text = path.read_text()
    path.write_text(text + "# edited\n")
    try:
        return set(json.loads(edited.dvc("status", "--json")))
    finally:
        path.write_text(text)


@pytest.mark.parametrize("room", ["support", "commands", "commands/sample", "tracking", "pipeline"])
def test_editing_messages_commands_and_tags_retrains_nothing(edited, room):
    assert changed_by_editing(edited, room) <= {"track"}


@pytest.mark.parametrize(
    ("room", "changed"),
    [
        ("training/loop.py", {"train"}),
        ("model.py", {"train", "evaluate", "embed", "render"}),
        ("models/__init__.py", {"train", "evaluate", "embed", "render"}),
        ("evaluation", {"evaluate"}),
        ("figures", {"render"}),
        ("explorer", {"render"}),
    ],
)
def test_editing_code_that_decides_results_re_runs_its_stages(edited, room, changed):
    assert changed_by_editing(edited, room) - {"track"} == changed  # track runs after all of them


# Repeated runs


def test_repro_makes_all_results(repository):
    data = ["data/raw/train-images-idx3-ubyte.gz", "data/model/model.safetensors", "data/latents.parquet"]
    data += ["data/snapshots.npz", *(f"plots/thumbnails/{name}" for name in THUMBNAILS)]
    metrics = [
        f"metrics/{name}" for name in ("train.json", "test.json", "validation.json", "per_class.csv", "per_latent.csv")
    ]
    tables = [*metrics, "plots/training.csv", "plots/latents.csv", "plots/confusion.csv"]
    made = [*data, *tables, "plots/explorer.html", *(f"plots/{p}" for p in PICTURES)]
    assert [path for path in made if not (repository.root / path).is_file()] == []
    assert repository.git("status", "--porcelain") == ""
    (run,) = repository.runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "digits epochs=2 threads=1 nll_samples=50"


def test_a_second_repro_runs_nothing(repository):
    lock = (repository.root / "dvc.lock").read_bytes()
    output = repository.dvc("repro")
    assert stages_run(output) == []
    assert "up to date" in output
    assert (repository.root / "dvc.lock").read_bytes() == lock


@pytest.fixture(scope="module")
def edited(repository, tmp_path_factory) -> Repository:
    """A clone for tests that edit it and undo their edits."""
    return repository.copy(tmp_path_factory.mktemp("edited") / "cvae")


def changed_by(edited: Repository, **parameters) -> set[str]:
    """Return the stages that run again after `parameters` are set: those that DVC calls changed, and all after them."""
    edited.set(**parameters)
    changed = set(json.loads(edited.dvc("status", "--json")))
    edited.git("checkout", "params.yaml")
    for stage, declared in STAGES.items():  # in the order that they run
        if any(outs_of(earlier) & set(declared["deps"]) for earlier in changed):
            changed.add(stage)
    return changed


def test_grid_size_affects_only_render_and_track(edited):
    assert changed_by(edited, grid_size=5) == {"render", "track"}


def test_nll_samples_affects_only_evaluate_and_track(edited):
    assert changed_by(edited, nll_samples=7) == {"evaluate", "track"}


def test_epochs_affects_train_and_all_stages_after_it(edited):
    assert changed_by(edited, epochs=3) == {"train", "evaluate", "embed", "render", "track"}


def test_metrics_show_has_both_files(repository):
    shown = json.loads(repository.dvc("metrics", "show", "--json"))[""]["data"]
    for name in ("train", "test"):
        assert shown[f"metrics/{name}.json"]["data"] == json.loads(
            (repository.root / f"metrics/{name}.json").read_text()
        )


def test_plots_show_has_all_curves_and_pictures(repository, tmp_path):
    repository.dvc("plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()

    drawn = set()
    for match in re.finditer(r"var spec = ", page):
        chart, _ = json.JSONDecoder().raw_decode(page, match.end())
        single = re.search(r'"y": {"field": "(\w+)"', json.dumps(chart))[1]  # unless rows name their curve
        curve = re.search(r"^datum\['(\w+)'\]$", chart.get("transform", [{}])[0].get("calculate", ""))
        for row in chart["data"]["values"]:
            names = {curve[1], curve[1].replace("train", "test")} if curve else {row.get("field") or single}
            drawn |= {(name, row.get("epoch")) for name in names if name in row or not curve}
    curves = {(name, epoch) for name in [*CURVES, "article_loss"] for epoch in ("1", "2")}
    tables = {"axis_2", "row", "nll", "prior_distance", "label_accuracy", "label_accuracy_iw", "sample_accuracy"}
    assert drawn == {*curves, *((name, None) for name in tables)}  # figures measured once have no epoch; rows: classes

    shown = re.findall(r'<img src="(static/[^"]+)"', page)
    assert sorted(shown) == sorted(f"static/workspace_plots_{name.replace('/', '_')}" for name in PICTURES)
    assert all((tmp_path / path).stat().st_size for path in shown)


# A clone, with DVC's cache and a new MLflow store


@pytest.fixture(scope="module")
def clone(repository, empty_database, tmp_path_factory) -> Repository:
    clone = repository.copy(tmp_path_factory.mktemp("clone") / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    assert stages_run(clone.dvc("repro")) == ["track"]
    return clone


def test_a_clone_records_its_own_run_without_training(clone, repository):
    (run,), (original,) = clone.runs(), repository.runs()
    assert run.info.status == "FINISHED"
    assert run.data.params == original.data.params
    assert run.data.metrics == original.data.metrics
    assert run.data.tags["pipeline.key"] == original.data.tags["pipeline.key"]


def test_a_forced_repro_makes_the_same_bytes_and_adds_no_run(clone):
    lock = (clone.root / "dvc.lock").read_bytes()
    before = clone.runs()
    assert stages_run(clone.dvc("repro", "--force")) == list(STAGES)
    assert (clone.root / "dvc.lock").read_bytes() == lock
    assert clone.git("status", "--porcelain") == ""
    assert [run.info.run_id for run in clone.runs()] == [run.info.run_id for run in before]
    assert clone.runs()[0].info.end_time == before[0].info.end_time, "a reused run keeps its end time"


@pytest.fixture(scope="module")
def experiment(compared):
    """The output of `dvc exp run -n wide -S latent_dims=4`, and the runs that it added."""
    return compared.root.with_name("experiment.log").read_text(), compared.runs()[1:]


def test_an_experiment_runs_train_and_all_stages_after_it(experiment):
    output, _ = experiment
    assert stages_run(output) == ["train", "evaluate", "embed", "render", "track"]


def test_an_experiment_adds_one_finished_run_with_its_name(experiment):
    _, (run,) = experiment
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "wide"
    assert run.data.tags["dvc.experiment"] == "wide"
    assert run.data.tags["dvc.experiments"] == "wide"


def test_an_experiments_run_has_every_parameter_that_changes_results(compared, experiment):
    _, (run,) = experiment
    params = recorded(yaml.safe_load((compared.root / "params.yaml").read_text())) | {"latent_dims": 4}
    assert run.data.params == {name: str(value) for name, value in params.items()}


def test_an_experiments_run_has_one_step_of_each_curve_per_epoch(compared, experiment):
    _, (run,) = experiment
    for name in [*(curve.replace("_", "/", 1) for curve in CURVES), "train/article_loss"]:
        history = compared.client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2], name
    figures = json.loads((compared.root / "metrics/test.json").read_text())
    assert {f"final_test/{name}" for name in figures} - run.data.metrics.keys() == {
        "final_test/likelihood",
        "final_test/pixels",
    }


def test_an_experiments_run_has_each_picture_as_artifact_and_thumbnails_as_images(compared, experiment):
    _, (run,) = experiment
    files = Path(run.info.artifact_uri)
    assert files.is_relative_to(compared.root)
    tables = {"confusion.csv", "latents.csv", "per_class.csv", "per_latent.csv", "training.csv"}
    top = {"explorer.html", "images", "params.yaml", "test.json", "train.json", "validation.json", *tables}
    named = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()}
    images = {name for name in named if name.startswith("images/")}
    assert named - images == {*PICTURES, *(top - {"images"})}
    # MLflow writes image `latents/3` as images/latents~3+step+0+….png
    logged = [name.removeprefix("images/").split("+")[:3:2] for name in images if name.endswith(".png")]
    expected = [(name.removesuffix(".png").replace("/", "~"), "0") for name in THUMBNAILS if "learning" not in name]
    assert sorted(map(tuple, logged)) == sorted([*expected, ("learning", "1"), ("learning", "2")])


def test_an_experiments_run_has_its_data_model_and_origin(compared, experiment):
    _, (run,) = experiment
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["digits"]
    assert len(run.outputs.model_outputs) == 1
    lock = yaml.safe_load((compared.root / "dvc.lock").read_text())["stages"]
    assert run.data.tags["dvc.data.raw"] == lock["download"]["outs"][0]["md5"]
    assert run.data.tags["dvc.data.model"] != lock["train"]["outs"][0]["md5"], "the clone has latent_dims 2 again"
    assert run.data.tags["git.commit"] == compared.git("rev-parse", "HEAD").strip()
    assert {"device", "torch.version", "train.seconds", "train.images_per_second"} <= run.data.tags.keys()


@pytest.mark.long
def test_an_experiment_in_a_temporary_folder_is_in_the_repositorys_store(clone):
    before = {run.info.run_id for run in clone.runs()}
    clone.dvc("exp", "run", "--temp", "--name", "aside", "--set-param", "latent_dims=3", "--set-param", "epochs=3")
    (run,) = [run for run in clone.runs() if run.info.run_id not in before]
    assert (run.info.run_name, run.info.status, run.data.params["latent_dims"]) == ("aside", "FINISHED", "3")
    assert len(clone.client.get_metric_history(run.info.run_id, "train/loss")) == 3
    files = Path(run.info.artifact_uri)
    assert {path.relative_to(files).as_posix() for path in files.rglob("*.png")} >= set(PICTURES)


@pytest.mark.parametrize("stage", [*STAGES, "download --check"])
def test_a_stage_refuses_unknown_arguments(tmp_path, stage):
    """Run it in an empty folder, where a stage that started would miss params.yaml."""
    name, *options = stage.split()

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"stages.{name}", *options, *arguments]
        variables = environment(PYTHONPATH=str(PROJECT))
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    refused = run("--epochs", "3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"{name}: unknown argument --epochs; ")
    assert refused.stderr.count("\n") == 1
    helped = run("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"usage: python -m stages.{name}")
    assert not list(tmp_path.iterdir())


def test_a_clone_with_windows_line_endings_has_the_same_bytes(repository, tmp_path):
    """Git for Windows asks for these by default. DVC would retrain if the code had other bytes."""
    repository.git("clone", "--quiet", "--config", "core.autocrlf=true", str(repository.root), str(tmp_path / "clone"))
    files = [name for name in repository.git("ls-files", "-z").split("\0") if name]
    assert {"dvc.lock", "src/cvae/model.py", "plots/manifolds.png"} <= set(files)
    differing = (
        name for name in files if (tmp_path / "clone" / name).read_bytes() != (repository.root / name).read_bytes()
    )
    assert list(differing) == []
