"""Early stopping: when the training ends, and which weights the model then has."""

import pytest
import torch
from helpers.edited_models import Buffers
from helpers.models import MNIST, with_pale_test

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.training.early_stopping import EarlyStopping
from cvae.training.loop import Training

SETTINGS = {"epochs": 12, "batch_size": 50, "learning_rate": 0.01, "beta": 1.0, "seed": 3}
BEST = 4  # the epoch with the lowest held-out loss; the second is better than the third


def train(splits, kind=CVAE, **settings):
    """Return the trained model, its training and all rows, and the weights after each epoch."""
    torch.manual_seed(3)
    open_device("cpu", threads=1)
    model = kind(MNIST, hidden_dims=32).initialise(generator(3, "weights"))
    training, rows, weights = Training(model, *with_pale_test(*splits), **SETTINGS | settings), [], []
    for row in training:
        rows.append(row)
        weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return model, training, rows, weights


@pytest.mark.parametrize("kind", [CVAE, Buffers])
def test_training_ends_after_its_patience_with_the_weights_of_the_best_epoch(digits, kind):
    _, _, full, weights = train(digits, kind)
    model, training, rows, _ = train(digits, kind, patience=3)
    assert rows == full[: BEST + 3], "the same as without stopping, but shorter"
    assert training.best_epoch == BEST
    assert rows[BEST - 1]["test_loss"] == min(row["test_loss"] for row in full)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[BEST - 1][name]), name


def test_the_best_weights_are_kept_even_if_all_epochs_are_trained(digits):
    model, training, rows, weights = train(digits, patience=100)
    assert (training.best_epoch, len(rows)) == (BEST, SETTINGS["epochs"])
    name = "pixel_logits.weight"
    assert torch.equal(model.state_dict()[name], weights[BEST - 1][name])


def test_without_patience_the_last_weights_are_kept(digits):
    model, training, rows, weights = train(digits)
    assert (training.best_epoch, len(rows)) == (0, SETTINGS["epochs"])
    assert torch.equal(model.state_dict()["pixel_logits.weight"], weights[-1]["pixel_logits.weight"])


def test_of_equal_losses_the_first_is_the_best():
    model = torch.nn.Linear(1, 1)
    stopping = EarlyStopping(model, patience=2)
    for epoch, loss in enumerate((3.0, 2.0, 2.0, 2.5), start=1):
        assert not stopping.is_over(epoch - 1)
        torch.nn.init.constant_(model.weight, epoch)
        stopping.update(epoch, loss)
    assert stopping.is_over(4)
    stopping.restore_best()
    assert (stopping.best_epoch, model.weight.item()) == (2, 2.0)


def test_the_split_names_its_figures(digits):
    _, _, (row, *_), _ = train(digits, epochs=1, held_out_name="validation")
    assert [name for name in row if name.startswith("validation_")] == [
        "validation_loss",
        "validation_reconstruction",
        "validation_kl",
    ]
    assert not any(name.startswith("test_") for name in row)
