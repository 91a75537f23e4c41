"""An interrupted training goes on from its checkpoint, and nobody can tell that it was interrupted."""

import json
import os
import re
import signal
import sys
import time

import numpy as np
import pytest
import torch
from helpers.edited_models import Buffers
from helpers.repository import Repository, interrupt, write_checkpoints_after_every_epoch
from safetensors.torch import load, save

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.data import idx
from cvae.model import CVAE
from cvae.pipeline import checkpoint
from cvae.pipeline.checkpoint import Checkpoint, Progress, checkpoint_key
from cvae.training.loop import Training

SETTINGS = {"epochs": 5, "batch_size": 100, "learning_rate": 1e-3, "beta": 1.0, "seed": 3}
KINDS = {  # of training, each with a state of its own kind
    "default": (CVAE, {}, {}),
    "drawn anew": (CVAE, {"likelihood": "bernoulli"}, {"redraw": True, "schedule": "cosine"}),
    "deep": (CVAE, {"hidden_dims": (40, 30), "activation": "tanh", "latent_dims": 5}, {"beta": 2.0}),
    "edited": (Buffers, {}, {}),
}


def begin(splits, kind: str, weights_seed: int = 3) -> tuple[CVAE, Training]:
    model_kind, of_model, of_training = KINDS[kind]
    torch.manual_seed(weights_seed)
    model = model_kind(**{"hidden_dims": 32} | of_model).initialise(generator(weights_seed, "weights"))
    open_device("cpu", threads=1)
    return model, Training(model, *splits, **SETTINGS | of_training)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_goes_on_ends_as_one_never_interrupted_to_the_bit(kind, digits, tmp_path, monkeypatch):
    """Interrupted after each of its epochs in turn; it goes on from a file, in a model of other initial weights."""
    monkeypatch.chdir(tmp_path)
    whole, training = begin(digits, kind)
    rows, states = [], []
    for row in training:
        rows.append(row)
        states.append(training.state())
    assert len(rows) == SETTINGS["epochs"]

    for epoch, state in enumerate(states, start=1):
        model, resumed = begin(digits, kind, weights_seed=4)
        fresh = resumed.state()
        Checkpoint("key").write(Progress(state, rows[:epoch], 1.5))
        read = Checkpoint("key").load(fresh)
        assert (read.rows, read.seconds) == (rows[:epoch], 1.5)
        resumed.resume(read.state)
        assert [*read.rows, *resumed] == rows
        assert same(model.state_dict(), whole.state_dict())
        assert same(resumed.state(), states[-1]), "moments, steps and random streams too"


def test_what_is_written_when_the_next_epochs_numbers_are_drawn_ahead_is_the_state_after_the_last(digits):
    """A state taken while the training goes on does not change as it does."""
    _, training = begin(digits, "drawn anew")
    rows = iter(training)
    next(rows)
    kept = training.state()
    copies = {name: tensor.clone() for name, tensor in kept.items()}
    next(rows)
    assert same(kept, copies)
    assert not same(kept, training.state())


STATE = {"weights": torch.arange(6.0), "epoch": torch.tensor(2)}
ROWS = [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 1 / 3}]


@pytest.fixture
def written(tmp_path, monkeypatch) -> Checkpoint:
    monkeypatch.chdir(tmp_path)
    kept = Checkpoint("mine")
    kept.write(Progress(STATE, ROWS, 2.5))
    return kept


def with_digest(content: bytes) -> bytes:
    return checkpoint.hashlib.sha256(content).digest() + content


def of_key(key: str) -> bytes:
    return checkpoint._encode(key, Progress(STATE, ROWS, 2.5))


DAMAGES = {
    "empty": (lambda content: b"", "damaged"),
    "cut short": (lambda content: content[:-1], "damaged"),
    "one bit flipped": (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "damaged"),
    "of another training": (lambda content: of_key("another"), "of another training"),
    "of other shapes": (
        lambda content: checkpoint._encode("mine", Progress({"weights": torch.arange(7.0)}, ROWS, 1.0)),
        "of another training",
    ),
    "not a checkpoint": (lambda content: with_digest(b"a text"), "not a checkpoint"),
    "only weights": (lambda content: with_digest(save({"weights": torch.zeros(3)})), "not a checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_of_no_use_is_told_in_a_line_deleted_and_ignored(written, damage, capsys):
    change, told = DAMAGES[damage]
    written.path.write_bytes(change(written.path.read_bytes()))
    assert Checkpoint("mine").load(STATE) == Progress()
    error = capsys.readouterr().err
    assert (
        error == f"train: checkpoints/mine.safetensors: {told}; it is deleted, and training starts from the beginning\n"
    )
    assert not written.path.exists()


def test_a_checkpoint_is_read_as_it_was_written_and_gone_when_it_is_removed(written):
    read = Checkpoint("mine").load(STATE)
    assert same(read.state, STATE)
    assert read.rows == ROWS
    assert [type(value) for value in read.rows[0].values()] == [int, float]
    written.remove()
    assert not written.path.parent.exists()
    written.remove()


def test_a_checkpoint_is_no_pickle(written):
    tensors = load(written.path.read_bytes()[checkpoint.DIGEST :])
    assert json.loads(tensors["about"].numpy().tobytes())["key"] == "mine"


def test_other_trainings_checkpoints_stay_and_are_spoken_of(written, capsys):
    assert Checkpoint("other").load(STATE) == Progress()
    assert capsys.readouterr().out == (
        "checkpoints/ is of other parameters, code or data: training starts from the beginning\n"
    )
    assert written.path.exists()
    Checkpoint("other").remove()
    assert written.path.exists()


def test_what_a_killed_process_left_half_written_and_what_nobody_wants_is_deleted(written):
    folder = written.path.parent
    (folder / "mine.safetensors.part").write_bytes(b"half")
    (folder / "other.safetensors.part").write_bytes(b"being written")
    (folder / "old.safetensors").write_bytes(b"old")
    long_ago = time.time() - checkpoint.ABANDONED - 60
    os.utime(folder / "old.safetensors", (long_ago, long_ago))
    Checkpoint("mine").load(STATE)
    assert {file.name for file in folder.iterdir()} == {"mine.safetensors", "other.safetensors.part"}


def test_a_checkpoint_that_cannot_be_written_is_told_once_and_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").write_text("a file in the folder's place")
    monkeypatch.setattr(checkpoint, "FIRST_COST", 0)
    kept = Checkpoint("mine")
    assert kept.is_due()
    kept.write(Progress(STATE, ROWS, 2.5))
    assert not kept.is_due(), "it is not tried again"
    assert re.fullmatch(
        r"train: checkpoints: .+; training goes on without checkpoints\n",
        capsys.readouterr().err,
    )


def test_checkpoints_take_no_more_than_their_share_of_the_time(tmp_path, monkeypatch):
    """By a clock of the test: an epoch takes 1 s, a checkpoint what the disk needs, from 0.01 to 3 s."""
    monkeypatch.chdir(tmp_path)
    now = 0.0
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now)
    for cost in (0.01, 0.1, 0.5, 3.0):
        kept, started, count = Checkpoint("mine"), now, 0

        def write(_: dict, synced: bool, cost: float = cost) -> None:
            nonlocal now, count
            now, count = now + cost, count + 1

        monkeypatch.setattr(checkpoint, "write_whole", write)
        for _ in range(2000):
            now += 1
            if kept.is_due():
                kept.write(Progress(STATE, ROWS, 0.0))
        first = max(0, cost - checkpoint.FIRST_COST)  # a disk slower than it was taken to be is known after the first
        assert (count * cost - first) / (now - started) <= checkpoint.SHARE
        assert count >= 2000 * checkpoint.SHARE / max(cost, checkpoint.FIRST_COST) - 3, "and as many as that allows"


def test_a_key_is_of_parameters_code_data_and_device(repository, tmp_path, monkeypatch):
    clone = repository.copy(tmp_path / "cvae", ".dvc", ".git")
    monkeypatch.chdir(clone.root)
    params = dict.fromkeys(checkpoint.stage("train")["params"], 1)
    keys = {checkpoint_key(params, "CPU, 1 thread")}
    assert checkpoint_key(params | {"grid_size": 7}, "CPU, 1 thread") in keys, "which train does not read"
    keys.add(checkpoint_key(params | {"beta": 2}, "CPU, 1 thread"))
    keys.add(checkpoint_key(params, "CPU, 2 threads"))
    with open(clone.root / "src/cvae/training/loop.py", "a") as file:
        file.write("# edited\n")
    keys.add(checkpoint_key(params, "CPU, 1 thread"))
    images = clone.root / "data/raw/train-images-idx3-ubyte.gz"
    content = np.frombuffer(images.read_bytes(), np.uint8).copy()
    content[-1] ^= 1
    images.unlink()  # it may be a link into DVC's cache
    images.write_bytes(content.tobytes())
    keys.add(checkpoint_key(params, "CPU, 1 thread"))
    assert len(keys) == 5


OUTPUTS = ("data/model/model.safetensors", "data/model/config.json", "plots/training.csv", "metrics/train.json")


def outputs(clone: Repository) -> list[bytes]:
    return [(clone.root / name).read_bytes() for name in OUTPUTS]


@pytest.fixture(scope="module")
def frequent(repository, empty_database, tmp_path_factory) -> tuple[Repository, list[bytes]]:
    """A clone whose trainings write a checkpoint after every epoch, and what 40 epochs make that nobody interrupts."""
    clone = repository.copy(tmp_path_factory.mktemp("frequent") / "cvae")
    write_checkpoints_after_every_epoch(clone)
    clone.set(epochs=40, binarize="dynamic")
    for name in OUTPUTS[:2]:
        (clone.root / name).unlink()
    clone.run(sys.executable, "-m", "stages.train")
    for path in clone.root.glob("mlflow.db*"):
        path.unlink()
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    return clone, outputs(clone)


def test_a_killed_train_goes_on_in_its_run_and_its_outputs_are_the_same_to_the_byte(frequent):
    """By Ctrl-C, which closes the run, then by SIGKILL, which does not."""
    clone, expected = frequent
    first = interrupt(clone, signal.SIGINT)
    for name in OUTPUTS:
        (clone.root / name).unlink(missing_ok=True)  # as DVC does before the stage
    assert "Interrupted: the same training goes on from checkpoints/" in (clone.root / ".dvc/tmp/train.log").read_text()
    second = interrupt(clone, signal.SIGKILL)
    assert 4 <= first < second < 40
    printed = clone.run(sys.executable, "-m", "stages.train").stdout
    assert f"Resuming after epoch {second}, from checkpoints/" in printed
    assert outputs(clone) == expected
    assert not (clone.root / "checkpoints").exists()

    (run,) = clone.runs()
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    steps = [metric.step for metric in clone.client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == list(range(1, 41)), "each epoch once"


@pytest.mark.long
def test_two_processes_go_on_together(frequent):
    clone, _ = frequent
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    clone.run(*torchrun, "-m", "stages.train")
    expected = outputs(clone)
    interrupted = interrupt(clone, signal.SIGTERM, torchrun)
    done = clone.run(*torchrun, "-m", "stages.train")
    assert f"Resuming after epoch {interrupted}, from checkpoints/" in done.stdout
    assert outputs(clone) == expected


@pytest.mark.long
def test_checkpoints_take_two_percent_of_a_training_at_most(frequent, monkeypatch):
    """What writing takes is a share of the seconds between two checkpoints, by the clock, on this disk."""
    clone, _ = frequent
    monkeypatch.chdir(clone.root)
    model = CVAE().initialise(generator(0, "weights"))
    training = Training(model, *idx.load("data/raw"), **SETTINGS | {"epochs": 1_000_000, "batch_size": 8})
    kept, spent, count = Checkpoint("timed"), 0.0, 0
    kept.load(training.state())
    started = time.perf_counter()
    for _ in training:
        if kept.is_due():
            before = time.perf_counter()
            kept.write(Progress(training.state(), ROWS, 0.0))
            spent, count = spent + time.perf_counter() - before, count + 1
        if time.perf_counter() - started > 60:
            break
    kept.remove()
    share = spent / (time.perf_counter() - started)
    print(f"\n{count} checkpoints in 60 s took {share:.2%} of the time, {1000 * spent / count:.0f} ms each")
    assert count >= 3
    assert share <= checkpoint.SHARE
