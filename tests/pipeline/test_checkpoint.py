"""An interrupted training resumes from its checkpoint, and its result is the same as without the interruption."""

import os
import re
import signal
import sys
import time

import numpy as np
import pytest
import torch
from helpers.edited_models import Buffers
from helpers.models import MNIST, with_pale_test
from helpers.repository import Repository, interrupt
from safetensors.torch import load

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.pipeline.checkpoint import ABANDONED, DIGEST, INTERVAL, Checkpoint, Progress, checkpoint_key
from cvae.pipeline.dvc_yaml import stage
from cvae.support.errors import UserError
from cvae.training.loop import Training

SETTINGS = {"epochs": 5, "batch_size": 100, "learning_rate": 1e-3, "beta": 1.0, "seed": 3}
KINDS = {  # each kind of training has its own kind of state
    "default": (CVAE, {}, {}),
    "dynamic": (CVAE, {"likelihood": "bernoulli"}, {"resample_pixels": True, "schedule": "cosine"}),
    "deep": (CVAE, {"hidden_dims": (40, 30), "activation": "tanh", "latent_dims": 5}, {"beta": 2.0}),
    "edited": (Buffers, {}, {}),
    "stopping": (Buffers, {}, {"batch_size": 50, "learning_rate": 0.01, "patience": 1}),
}


def begin(splits, kind: str, weights_seed: int = 3) -> tuple[CVAE, Training]:
    model_kind, of_model, of_training = KINDS[kind]
    torch.manual_seed(weights_seed)
    model = model_kind(MNIST, **{"hidden_dims": 32} | of_model).initialise(generator(weights_seed, "weights"))
    open_device("cpu", threads=1)
    splits = with_pale_test(*splits) if kind == "stopping" else splits
    return model, Training(model, *splits, **SETTINGS | of_training)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(kind, digits, tmp_path, monkeypatch):
    """Interrupt it after each epoch in turn, and resume from a file in a model with other initial weights."""
    monkeypatch.chdir(tmp_path)
    uninterrupted, training = begin(digits, kind)
    rows, states = [], []
    for row in training:
        rows.append(row)
        states.append(training.state())
    final = training.state()  # early stopping has restored the best weights
    assert len(rows) == (3 if kind == "stopping" else SETTINGS["epochs"])

    for epoch, state in enumerate(states, start=1):
        model, resumed = begin(digits, kind, weights_seed=4)
        Checkpoint("key").write(Progress(state, rows[:epoch], 1.5))
        read = Checkpoint("key").load()
        assert (read.rows, read.seconds) == (rows[:epoch], 1.5)
        resumed.resume(read.state)
        assert [*read.rows, *resumed] == rows
        assert same(model.state_dict(), uninterrupted.state_dict())
        assert same(resumed.state(), final), "moments, steps and random generators too"


def test_a_saved_state_does_not_change_while_training_continues(digits):
    """Training may sample the random numbers of the next epoch ahead; the state is that after the last epoch."""
    _, training = begin(digits, "dynamic")
    rows = iter(training)
    next(rows)
    kept = training.state()
    copies = {name: tensor.clone() for name, tensor in kept.items()}
    next(rows)
    assert same(kept, copies)
    assert not same(kept, training.state())


STATE = {"weights": torch.arange(6.0), "epoch": torch.tensor(2)}
SNAPSHOTS = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
ROWS = [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 1 / 3}]


@pytest.fixture
def written(tmp_path, monkeypatch) -> Checkpoint:
    monkeypatch.chdir(tmp_path)
    kept = Checkpoint("mine")
    kept.write(Progress(STATE, ROWS, 2.5, SNAPSHOTS))
    return kept


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-1],
    "one bit flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "not a checkpoint": lambda content: b"a text that is longer than a checksum",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_in_one_line_and_deleted(written, damage, capsys):
    written.path.write_bytes(DAMAGES[damage](written.path.read_bytes()))
    assert Checkpoint("mine").load() == Progress()
    error = capsys.readouterr().err
    assert error == "train: checkpoints/mine.safetensors: damaged; deleted it, starting from the beginning\n"
    assert not written.path.exists()


def test_a_checkpoint_is_read_back_and_removed(written):
    read = Checkpoint("mine").load()
    assert same(read.state, STATE)
    assert read.rows == ROWS
    assert torch.equal(read.snapshots, SNAPSHOTS)
    assert [type(value) for value in read.rows[0].values()] == [int, float]
    written.remove()
    assert not written.path.parent.exists()
    written.remove()


def test_a_checkpoint_is_a_safetensors_file_behind_its_checksum(written):
    """Reading one never runs code."""
    assert torch.equal(load(written.path.read_bytes()[DIGEST:])["state/weights"], STATE["weights"])


def test_other_trainings_checkpoints_stay_and_are_mentioned(written, capsys):
    assert Checkpoint("other").load() == Progress()
    printed = capsys.readouterr().out
    assert printed == "checkpoints/ has none of these parameters, code and data; starting from the beginning\n"
    assert written.path.exists()
    Checkpoint("other").remove()
    assert written.path.exists()


def test_half_written_and_abandoned_checkpoints_are_deleted(written):
    folder = written.path.parent
    (folder / "mine.safetensors.part").write_bytes(b"half")
    (folder / "other.safetensors.part").write_bytes(b"being written")
    (folder / "old.safetensors").write_bytes(b"old")
    long_ago = time.time() - ABANDONED - 60
    os.utime(folder / "old.safetensors", (long_ago, long_ago))
    assert Checkpoint("mine").load().rows == ROWS, "the complete one counts"
    assert not (folder / "old.safetensors").exists()
    Checkpoint("mine").remove()
    assert [file.name for file in folder.iterdir()] == ["other.safetensors.part"]


def test_a_checkpoint_that_cannot_be_written_is_reported_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECKPOINT_SECONDS", "0")
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    kept = Checkpoint("mine")
    assert kept.is_due()
    kept.write(Progress(STATE, ROWS, 2.5))
    assert not kept.is_due(), "it is not tried again"
    assert re.fullmatch(
        r"train: checkpoints: .+; training goes on without checkpoints\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(("variable", "seconds"), [("", INTERVAL), ("0.5", 0.5)])
def test_a_checkpoint_is_due_after_an_interval(tmp_path, monkeypatch, variable, seconds):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECKPOINT_SECONDS", variable)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = Checkpoint("mine")
    for _ in range(2):
        assert not kept.is_due()
        now += seconds - 0.25
        assert not kept.is_due()
        now += 0.25
        assert kept.is_due()
        kept.write(Progress(STATE, ROWS, 0.0))


def test_an_interval_that_is_not_a_number_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECKPOINT_SECONDS", "1 minute")
    with pytest.raises(UserError, match=r"^CHECKPOINT_SECONDS=1 minute is not a number; correct or unset it$"):
        Checkpoint("mine")


def test_the_key_depends_on_parameters_code_data_and_device(repository, tmp_path, monkeypatch):
    clone = repository.copy(tmp_path / "cvae", ".dvc", ".git")
    monkeypatch.chdir(clone.root)
    params = dict.fromkeys(stage("train")["params"], 1)
    keys = {checkpoint_key(params, "CPU, 1 thread")}
    assert checkpoint_key(params | {"grid_size": 7}, "CPU, 1 thread") in keys, "train does not read grid_size"
    keys.add(checkpoint_key(params | {"beta": 2}, "CPU, 1 thread"))
    keys.add(checkpoint_key(params, "CPU, 2 threads"))
    for code in ("training/loop.py", "models/__init__.py"):
        with open(clone.root / "src/cvae" / code, "a") as file:
            file.write("# edited\n")
        keys.add(checkpoint_key(params, "CPU, 1 thread"))
    images = clone.root / "data/raw/train-images-idx3-ubyte.gz"
    content = np.frombuffer(images.read_bytes(), np.uint8).copy()
    content[-1] ^= 1
    images.unlink()  # it may be a link into DVC's cache
    images.write_bytes(content.tobytes())
    keys.add(checkpoint_key(params, "CPU, 1 thread"))
    assert len(keys) == 6


OUTPUTS = ("data/model/model.safetensors", "data/model/config.json", "data/snapshots.npz")
OUTPUTS += ("plots/training.csv", "metrics/train.json")


def outputs(clone: Repository) -> list[bytes]:
    return [(clone.root / name).read_bytes() for name in OUTPUTS]


WHOLE = {"epochs": 40, "binarize": "dynamic"}
STOPPED = {"epochs": 1000, "validation_images": 300, "patience": 3, "learning_rate": 0.02}


@pytest.fixture(scope="module", params=[WHOLE, STOPPED], ids=["whole", "stopped early"])
def trained(request, repository, empty_database, tmp_path_factory) -> tuple[Repository, list[bytes]]:
    """A clone, and the outputs of a training in it that was not interrupted."""
    clone = repository.copy(tmp_path_factory.mktemp("trained") / "cvae")
    clone.set(**request.param)
    for name in OUTPUTS[:2]:
        (clone.root / name).unlink()
    clone.run(sys.executable, "-m", "stages.train")
    for path in clone.root.glob("mlflow.db*"):
        path.unlink()
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    return clone, outputs(clone)


def test_a_killed_train_resumes_in_its_run_and_its_outputs_are_the_same_to_the_byte(trained):
    """Ctrl-C closes the run; SIGKILL does not."""
    clone, expected = trained
    first = interrupt(clone, signal.SIGINT)
    for name in OUTPUTS:
        (clone.root / name).unlink(missing_ok=True)  # as DVC does before the stage
    assert (
        "Interrupted; the same training will resume from checkpoints/"
        in (clone.root / ".dvc/tmp/train.log").read_text()
    )
    second = interrupt(clone, signal.SIGKILL)
    epochs = expected[OUTPUTS.index("plots/training.csv")].count(b"\n") - 1
    assert 4 <= first < second < epochs < 1000
    printed = clone.run(sys.executable, "-m", "stages.train").stdout
    assert f"after epoch {second}, from checkpoints/" in printed
    assert outputs(clone) == expected
    assert not (clone.root / "checkpoints").exists()

    (run,) = clone.runs()
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    steps = [metric.step for metric in clone.client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == list(range(1, epochs + 1)), "each epoch once"


@pytest.mark.long
def test_two_processes_resume_together(trained):
    clone, _ = trained
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    clone.run(*torchrun, "-m", "stages.train")
    expected = outputs(clone)
    interrupted = interrupt(clone, signal.SIGTERM, torchrun)
    done = clone.run(*torchrun, "-m", "stages.train")
    assert f"after epoch {interrupted}, from checkpoints/" in done.stdout
    assert outputs(clone) == expected
