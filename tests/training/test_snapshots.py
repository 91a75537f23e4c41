"""What a training keeps of the images that the model draws on the way."""

import numpy as np
import pytest
import torch
from helpers.models import MNIST, make_model

from cvae.artifacts.snapshots import read_snapshots, write_snapshots
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema
from cvae.support.errors import UserError
from cvae.training.loop import Training
from cvae.training.snapshots import MOST_VALUES, Snapshots, snapshot_epochs

SHAPES = {  # classes, labels: rows and columns
    (1, "given"): (5, 10),
    (2, "given"): (10, 2),
    (5, "given"): (5, 5),
    (10, "given"): (5, 10),
    (26, "given"): (2, 26),
    (47, "given"): (2, 30),
    (200, "given"): (2, 30),
    (10, "none"): (5, 10),
}


def test_snapshots_are_closest_at_the_start_and_include_the_first_and_last_epoch():
    assert snapshot_epochs(1) == [1]
    assert snapshot_epochs(2) == [1, 2]
    assert snapshot_epochs(100) == [1, 2, 4, 5, 8, 12, 19, 28, 43, 66, 100]
    assert all(len(snapshot_epochs(epochs)) <= 12 for epochs in range(1, 300))


@pytest.mark.parametrize(("classes", "labels"), SHAPES)
def test_a_snapshot_has_each_z_with_every_label(classes, labels):
    schema = Schema((8, 6, 3), tuple(map(str, range(classes))))
    model = make_model(schema, labels=labels, latent_dims=3).eval()
    snapshots = Snapshots(model, 1, seed=0)
    snapshots.take(1)
    (images,) = snapshots.images
    rows, columns = SHAPES[classes, labels]
    assert (images.shape, images.dtype) == ((rows, columns, 8, 6, 3), torch.uint8)
    different = len({image.numpy().tobytes() for row in images for image in row})
    assert different == rows * columns


def test_a_row_is_one_z(monkeypatch):
    model, seen = make_model().eval(), []
    monkeypatch.setattr(model, "decode", lambda z, y: seen.append((z, y)) or torch.zeros(len(z), 784))
    Snapshots(model, 1, seed=0).take(1)
    z, y = (part.view(5, 10, -1) for part in seen[0])
    assert torch.equal(z, z[:, :1].expand_as(z))
    assert len(z[:, 0].unique(dim=0)) == 5
    assert torch.equal(y[..., 0], torch.arange(10).expand(5, 10))


def test_snapshots_of_large_images_stay_small():
    model = make_model(Schema((256, 256, 3), tuple("0123456789")), hidden_dims=1)
    snapshots = Snapshots(model, 1, seed=0)
    snapshots.take(1)
    assert snapshots.images.numel() <= MOST_VALUES


def test_an_interrupted_training_has_the_snapshots_of_an_uninterrupted_one(digits):
    def begin(taken=None) -> tuple[Training, Snapshots]:
        model = make_model(hidden_dims=16)
        training = Training(model, *digits, epochs=6, batch_size=100, learning_rate=1e-3, beta=1.0, seed=3)
        return training, Snapshots(model, 6, 3, taken)

    training, whole = begin()
    for row in training:
        whole.take(row["epoch"])
        if row["epoch"] == 3:
            state, taken = training.state(), whole.images
    training, resumed = begin(taken)
    training.resume(state)
    for row in training:
        resumed.take(row["epoch"])
    assert len(whole.images) == len(whole.epochs)
    assert torch.equal(whole.images, resumed.images)
    assert len({image.numpy().tobytes() for image in whole.images}) == len(whole.epochs), "they differ"


def test_the_last_snapshot_is_of_the_epoch_whose_weights_the_model_has():
    model = make_model(hidden_dims=16)
    snapshots = Snapshots(model, 6, seed=3)
    for epoch in snapshots.epochs[:-1]:
        model.initialise(generator(epoch, "weights"))
        snapshots.take(epoch)
    planned, taken = snapshots.epochs, snapshots.images
    model.initialise(generator(3, "weights"))
    snapshots.end_with(3)
    assert planned == [1, 2, 3, 4, 5, 6]
    assert snapshots.epochs == [1, 2, 3]
    assert torch.equal(snapshots.images, taken[:3])


def test_ending_a_training_that_was_not_stopped_changes_no_snapshot():
    model = make_model(hidden_dims=16)
    snapshots = Snapshots(model, 6, seed=3)
    for epoch in range(1, 7):
        snapshots.take(epoch)
    before = snapshots.epochs, snapshots.images
    snapshots.end_with(6)
    assert snapshots.epochs == before[0]
    assert torch.equal(snapshots.images, before[1])


def test_taking_snapshots_changes_nothing_in_the_training(digits):
    rows = []
    for is_watched in (True, False):
        model = make_model(hidden_dims=16)
        training = Training(model, *digits, epochs=3, batch_size=100, learning_rate=1e-3, beta=1.0, seed=3)
        snapshots = Snapshots(model, 3, 3)
        rows.append([])
        for row in training:
            rows[-1].append(row)
            if is_watched:
                snapshots.take(row["epoch"])
    assert rows[0] == rows[1]


def test_snapshots_are_read_back_and_repeat_to_the_byte(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 10, 28, 28), np.uint8)
    for name in ("a.npz", "b.npz"):
        write_snapshots(images, [1, 2], tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read, epochs = read_snapshots(tmp_path / "a.npz", MNIST.picture_shape)
    np.testing.assert_array_equal(read, images)
    assert epochs == [1, 2]


DAMAGES = {
    "missing": None,
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-100],
    "another file": lambda content: b"a text",
    "flipped bits": lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_snapshots_are_reported_with_their_remedy(tmp_path, damage):
    path = tmp_path / "snapshots.npz"
    write_snapshots(np.zeros((1, 5, 10, 28, 28), np.uint8), [1], path)
    path.unlink() if damage == "missing" else path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match=r"snapshots\.npz: (missing; `dvc repro train`|damaged \(.+\); `dvc repro -sf)"):
        read_snapshots(path, MNIST.picture_shape)


def test_snapshots_of_images_of_another_shape_are_reported(tmp_path):
    write_snapshots(np.zeros((1, 5, 10, 8, 8), np.uint8), [1], tmp_path / "snapshots.npz")
    with pytest.raises(UserError, match="its images are not of this model"):
        read_snapshots(tmp_path / "snapshots.npz", MNIST.picture_shape)
