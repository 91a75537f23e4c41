"""Full and read-only disks, mounted in a mount namespace that ends with the command."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from helpers.processes import environment
from helpers.repository import PROJECT, Repository

from cvae.support.errors import UserError
from cvae.support.faults import explained
from cvae.support.files import ensure_writable

STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
# Copy $SOURCE to a new disk with $FREE kB left and run the command there; then free space and run $AGAIN.
# The files, without git's and DVC's stores, are copied to $BACK before and after, since the disk then vanishes.
ON_A_DISK = """
set -e
report() { mkdir "$BACK/$1"; tar -c --exclude=.git --exclude=.dvc --exclude=filler . | tar -x -C "$BACK/$1"; }
try() {
  when=$1; shift
  "$@" > "$BACK/$when.out" 2> "$BACK/$when.err" && status=0 || status=$?
  echo $status > "$BACK/$when.status"
}
mount -t tmpfs -o size=64m disk "$PLACE"
cp -a "$SOURCE/." "$PLACE"
cd "$PLACE"
eval "$BEFORE"
report before
head -c $(($(df -k --output=avail . | tail -1) - FREE))k /dev/zero > filler
try full "$@"
report full
rm filler
[ -z "$CACHE" ] || cp -a .dvc/cache "$BACK/cache"
[ -z "$AGAIN" ] || { try again $AGAIN; report again; }
"""
READ_ONLY = """
set -e
cd "$SOURCE"
mount --bind "$PLACE" "$PLACE"
mount -o remount,bind,ro "$PLACE"
exec "$@"
"""
# Train with MLflow's database $DATABASE on a disk with little space left, then track with more space.
FILLS_UP = """
set -e
cd "$SOURCE"
mount -t tmpfs -o size=1100k disk "$PLACE"
cp "$DATABASE" "$PLACE/mlflow.db"
python -m stages.train
mount -t tmpfs -o remount,size=16m disk "$PLACE"  # device named, or mount adds a uid that a user namespace lacks
python -c "$RECORD"
cp "$PLACE/mlflow.db" .
"""
# What track does, for results that are not in dvc.lock
RECORD = """
import stages
from cvae.pipeline.parameters import read_parameters
from cvae.tracking.record import record
record(read_parameters().model_dump())
"""


def module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def outs_of(stage: str) -> list[str]:
    groups = (STAGES[stage].get(group, []) for group in ("outs", "metrics", "plots"))
    return [out if isinstance(out, str) else next(iter(out)) for group in groups for out in group]


def results(folder: Path) -> dict[str, bytes]:
    """Return the content of all result files and of dvc.lock."""
    files = [file for place in ("data", "metrics", "plots") for file in (folder / place).rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in (*files, folder / "dvc.lock")}


@pytest.fixture(scope="session")
def namespace() -> list[str]:
    """The command that runs another one with the right to mount disks."""
    trial = [*NAMESPACE, "sh", "-c", "mount -t tmpfs disk /mnt"]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode:
        outcome = pytest.fail if os.environ.get("NO_SKIPS") else pytest.skip
        outcome("cannot mount a disk here, not even in a namespace")
    return NAMESPACE


@pytest.fixture(scope="module")
def clone(repository, tmp_path_factory) -> Repository:
    """The repository without MLflow's store; do not change it."""
    return repository.copy(tmp_path_factory.mktemp("clone") / "cvae", "__pycache__")


@pytest.fixture(scope="module")
def made(repository, empty_database, tmp_path_factory) -> Repository:
    """The repository with an empty MLflow store, without git's and DVC's; do not change it."""
    made = repository.copy(tmp_path_factory.mktemp("made") / "cvae", ".git", "cache", "__pycache__")
    shutil.copy(empty_database, made.root / "mlflow.db")
    return made


@dataclass(frozen=True)
class Outcome:
    """What a command did on a full disk, and what the next one did with space."""

    back: Path

    def status(self, when: str) -> int:
        return int((self.back / f"{when}.status").read_text())

    def lines(self, when: str) -> list[str]:
        return (self.back / f"{when}.err").read_text().splitlines()

    def results(self, when: str) -> dict[str, bytes]:
        return results(self.back / when)


@pytest.fixture
def on_a_disk(namespace, tmp_path):
    """Run `command` in a copy of a repository on a disk with `free` kB left, then `again` with more space.

    `before`: shell code to run there first. `cache`: also return DVC's cache as the full disk left it.
    """

    def run(
        repository: Repository, free: int, *command: str, before: str = "", again: tuple = (), cache: bool = False
    ) -> Outcome:
        back, place = tmp_path / "back", tmp_path / "disk"
        back.mkdir()
        place.mkdir()
        variables = environment(
            SOURCE=str(repository.root),
            PLACE=str(place),
            BACK=str(back),
            FREE=str(free),
            BEFORE=before,
            AGAIN=" ".join(again),
            CACHE="yes" if cache else "",
            PYTHONDONTWRITEBYTECODE="1",
            PYTHONPATH="src",  # of the copy, not the installed one
        )
        done = subprocess.run(
            [*namespace, "sh", "-c", ON_A_DISK, "sh", *command], env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return Outcome(back)

    return run


# The space left, in kB, and the start of the first file that does not fit; files are written beside the old ones first.
@pytest.mark.parametrize(
    ("stage", "free", "file"),
    [
        ("download", 0, "data/raw/"),
        ("evaluate", 12, "metrics/per_latent.csv"),
        pytest.param("download", 300, "data/raw/t", marks=pytest.mark.long),
        pytest.param("train", 300, "data/model/model.safetensors", marks=pytest.mark.long),
        pytest.param("evaluate", 0, "metrics/test.json", marks=pytest.mark.long),
        pytest.param("embed", 0, "data/latents.parquet", marks=pytest.mark.long),
        pytest.param("embed", 40, "data/latents.parquet", marks=pytest.mark.long),
        pytest.param("render", 0, "plots/latents.png", marks=pytest.mark.long),
        pytest.param("render", 60, "plots/", marks=pytest.mark.long),
    ],
)
def test_a_stage_on_a_full_disk_reports_it_and_changes_no_file(made, on_a_disk, stage, free, file):
    done = on_a_disk(made, free, *module(f"stages.{stage}"))
    assert done.status("full") == 1
    *before, line = done.lines("full")
    assert len(before) <= (stage == "train"), "its live run may report the full disk first"
    assert all("training goes on" in line for line in before)
    assert line.startswith(f"{stage}: {file}")
    assert line.endswith(": No space left on device; free some space, then run it again")
    assert done.results("full") == done.results("before")


def test_training_does_not_start_if_its_results_cannot_be_written(made, on_a_disk):
    done = on_a_disk(made, 0, *module("stages.train"))
    assert done.status("full") == 1
    line = "train: data/model/model.safetensors: No space left on device; free some space, then run it again"
    assert done.lines("full") == [line]
    assert (done.back / "full.out").read_text() == ""
    assert done.results("full") == done.results("before")


def test_a_stage_makes_the_same_bytes_once_there_is_space(made, on_a_disk):
    done = on_a_disk(made, 40, *module("stages.embed"), before="rm data/latents.parquet", again=module("stages.embed"))
    line = "embed: data/latents.parquet: No space left on device; free some space, then run it again"
    assert done.lines("full") == [line]
    assert (done.status("full"), done.status("again")) == (1, 0)
    assert not [name for name in done.results("full") if "latents.parquet" in name], "nor a part of it"
    assert done.results("again") == results(made.root)


def test_a_picture_that_does_not_fit_is_reported_and_leaves_no_part(made, on_a_disk):
    done = on_a_disk(made, 0, *module("cvae"), "sample", "--label", "7", "--out", "plots/sevens.png")
    assert done.status("full") == 1
    line = "sample: plots/sevens.png: No space left on device; free some space, then run it again"
    assert done.lines("full") == [line]
    assert done.results("full") == done.results("before")


@pytest.mark.long
def test_a_comparison_that_does_not_fit_is_reported_and_leaves_no_part(compared, on_a_disk):
    done = on_a_disk(compared, 60, *module("cvae"), "compare")  # git and DVC themselves need that much
    assert done.status("full") == 1
    line = "compare: plots/rate_distortion.png: No space left on device; free some space, then run it again"
    assert done.lines("full") == [line]
    assert done.results("full").keys() - done.results("before").keys() == {"plots/rate_distortion.csv"}


def test_full_artifacts_of_mlflow_fail_track_in_one_line(made, on_a_disk):
    done = on_a_disk(made, 400, *module("stages.track"))
    assert done.status("full") == 1
    line = "track: MLflow at mlflow.db: mlartifacts: No space left on device; run `dvc repro` again when it can be used"
    assert done.lines("full") == [line]
    assert done.results("full") == done.results("before"), "no receipt"


def statuses(root: Path) -> list[str]:
    return [run.info.status for run in Repository(root).runs()]


@pytest.mark.long
@pytest.mark.parametrize("free", [0, 16, 60, 400])
def test_a_full_mlflow_store_fails_track_in_one_line_and_works_once_there_is_space(made, on_a_disk, free):
    done = on_a_disk(made, free, *module("stages.track"), again=module("stages.track"))
    assert done.status("full") == 1
    (line,) = done.lines("full")
    assert line.startswith("track: MLflow at mlflow.db: ")
    assert "disk is full" in line or "No space left" in line
    assert "SQL" not in line
    assert done.status("again") == 0
    assert statuses(done.back / "again") == ["FINISHED"]


@pytest.mark.long
@pytest.mark.parametrize("free", [0, 100, 500, 850])
def test_a_database_that_a_full_disk_cut_short_is_created_again(made, on_a_disk, free):
    """MLflow creates its tables one by one, and cannot continue with only some of them."""
    done = on_a_disk(made, free, *module("stages.track"), before="rm mlflow.db", again=module("stages.track"))
    assert done.status("full") == 1
    assert len(done.lines("full")) == 1
    assert done.status("again") == 0, done.lines("again")
    assert statuses(done.back / "again") == ["FINISHED"]


@pytest.mark.long
def test_training_continues_when_mlflows_disk_fills_up_and_track_logs_everything(
    made, namespace, empty_database, tmp_path
):
    copy = made.copy(tmp_path / "cvae")
    copy.set(epochs=120)
    place = tmp_path / "disk"
    place.mkdir()
    store = f"sqlite:///{place}/mlflow.db"
    variables = {"SOURCE": str(copy.root), "PLACE": str(place), "DATABASE": str(empty_database), "RECORD": RECORD}
    done = copy.run(*namespace, "sh", "-c", FILLS_UP, MLFLOW_TRACKING_URI=store, **variables)
    assert done.stderr.count("disk is full") == 1
    assert done.stderr.endswith("; training goes on, and track will log it\n")
    (run,) = [run for run in copy.runs() if "pipeline.key" in run.data.tags]
    assert len(copy.client.get_metric_history(run.info.run_id, "train/loss")) == 120


@pytest.mark.long
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "track"])
def test_repro_makes_the_same_bytes_once_there_is_space(clone, on_a_disk, stage):
    """DVC deletes the outputs before a stage and records them after it, so it never records a partial file."""
    repro = [*module("dvc"), "repro"]
    without = f"rm -r {' '.join(outs_of(stage))}"
    done = on_a_disk(clone, 12, *repro, "--force", "--single-item", stage, before=without, again=repro)
    assert done.status("full") != 0
    printed = "\n".join(done.lines("full"))
    assert f"{stage}: " in printed
    assert "free some space, then run it again" in printed
    assert "Traceback" not in printed
    assert done.results("full")["dvc.lock"] == done.results("before")["dvc.lock"]
    assert done.status("again") == 0, done.lines("again")
    assert done.results("again") | {"data/tracked.json": b""} == results(clone.root) | {"data/tracked.json": b""}


@pytest.mark.long
def test_a_full_dvc_cache_holds_no_partial_file(clone, on_a_disk):
    repro = [*module("dvc"), "repro"]
    seed = "sed -i 's/^seed: .*/seed: 5/' params.yaml"  # a result that the cache does not have
    done = on_a_disk(clone, 60, *repro, "--single-item", "embed", before=seed, again=repro, cache=True)
    assert done.status("full") != 0
    printed = "\n".join(done.lines("full"))
    assert "No space left on device" in printed
    assert "Traceback" not in printed
    cached = list((done.back / "cache/files/md5").glob("??/[0-9a-f]*"))
    assert len(cached) > 20
    for file in cached:
        assert hashlib.md5(file.read_bytes()).hexdigest() == file.parent.name + file.name.removesuffix(".dir")
    assert done.status("again") == 0, done.lines("again")


@pytest.mark.parametrize(
    ("stage", "folder", "file"),
    [
        ("embed", "data", "data/latents.parquet"),
        pytest.param("download", "data", "data/raw/train-images-idx3-ubyte.gz", marks=pytest.mark.long),
        pytest.param("train", "data", "data/model/model.safetensors", marks=pytest.mark.long),
        pytest.param("train", "plots", "plots/training.csv", marks=pytest.mark.long),
        pytest.param("evaluate", "metrics", "metrics/test.json", marks=pytest.mark.long),
        pytest.param("evaluate", "plots", "plots/confusion.csv", marks=pytest.mark.long),
        pytest.param("render", "plots", "plots/latents.png", marks=pytest.mark.long),
        pytest.param("track", "data", "data/tracked.json", marks=pytest.mark.long),
        pytest.param("track", "mlartifacts", "MLflow at mlflow.db: mlartifacts", marks=pytest.mark.long),
        pytest.param("track", ".dvc", "MLflow at mlflow.db: .dvc/tmp/mlflow.lock", marks=pytest.mark.long),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_in_one_line(made, namespace, tmp_path, stage, folder, file):
    copy = made.copy(tmp_path / "cvae")
    shutil.copy(made.root / "mlflow.db", copy.root)
    (copy.root / "mlartifacts").mkdir()
    before = results(copy.root)
    command = [*namespace, "sh", "-c", READ_ONLY, "sh", *module(f"stages.{stage}")]
    done = copy.run(*command, status=1, SOURCE=str(copy.root), PLACE=folder)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{stage}: {file}")
    assert ": Read-only file system; " in line
    assert line.endswith((", then run it again", "run `dvc repro` again when it can be used"))
    assert results(copy.root) == before


def test_a_broken_link_in_place_of_a_folder_is_reported_before_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plots").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"^plots/training.csv: No such file or directory; bring it back"):
        ensure_writable("plots/training.csv")


@pytest.mark.parametrize(
    ("access", "line"),
    [
        (lambda: Path("nowhere/x").touch(), "nowhere/x: No such file or directory; bring it back"),
        (lambda: Path("folder").absolute().read_bytes(), "folder: Is a directory; move it away"),
        (lambda: Path("/dev/full").write_bytes(b"x"), "No space left on device; free some space"),
        (lambda: os.replace("folder", "file"), "file: Not a directory; move away what is in its place"),
    ],
)
def test_file_errors_are_reported_with_the_file_the_reason_and_a_remedy(tmp_path, monkeypatch, access, line):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(OSError) as raised:  # noqa: PT011  the line is checked below
        access()
    assert explained(raised.value).startswith(line)
    assert explained(raised.value).endswith(", then run it again")
