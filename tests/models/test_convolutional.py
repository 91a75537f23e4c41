import pytest
import torch
from helpers.models import MNIST, make_batch

from cvae.artifacts import saved_model
from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.data.dataset import Schema
from cvae.models.convolutional import ConvolutionalCVAE
from cvae.objective import training_loss
from cvae.training.loop import Training

SHAPES = [(16, 16, 1), (28, 28, 1), (31, 32, 3), (16, 40, 3), (64, 64, 3), (7, 5, 1), (1, 33, 3)]


def schema(shape: tuple[int, int, int], classes: int = 3) -> Schema:
    return Schema(shape, tuple(f"class {number}" for number in range(classes)))


def make(schema: Schema = MNIST, seed: int = 0, **settings) -> ConvolutionalCVAE:
    torch.manual_seed(seed)
    return ConvolutionalCVAE(schema, **({"width": 4} | settings)).initialise(generator(seed, "weights"))


def train(model, splits, epochs: int = 3, state: dict | None = None) -> tuple[list[dict], Training]:
    open_device("cpu", threads=1)
    settings = {"epochs": epochs, "batch_size": 100, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}
    training = Training(model, *splits, **settings)
    training.resume(state or {})
    return list(training), training


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("labels", ["given", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_goes_through_and_every_parameter_is_trained(shape, labels, likelihood):
    model = make(schema(shape), labels=labels, latent_dims=5, likelihood=likelihood)
    x, y, noise = make_batch(4, 5, model.schema)
    mu, log_sigma = model.encode(x, y)
    assert mu.shape == log_sigma.shape == (4, 5)
    assert model.logits(noise, y).shape == model.decode(noise, y).shape == x.shape
    training_loss(model, x, y, noise, beta=1.0)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("classes", [1, 200])
def test_any_number_of_classes_goes_through(classes):
    model = make(schema((28, 28, 1), classes))
    x, _, noise = make_batch(4, 2, model.schema)
    y = torch.full((4,), classes - 1)
    assert model.logits(noise, y).shape == model.decode(model.encode(x, y)[0], y).shape == x.shape


def test_the_values_of_an_image_are_in_the_order_height_width_channel():
    model = make(schema((16, 24, 3)))
    row, column, channel = 3, 20, 2
    place = (row * 24 + column) * 3 + channel
    seen = []
    model.down[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.zeros(1, model.schema.image_dims)
    x[0, place] = 1
    model.encode(x, torch.tensor([0]))
    assert seen[0].nonzero().tolist() == [[0, channel, row, column]]

    drawn = []
    model.up[-1].register_forward_hook(lambda *arguments: drawn.append(arguments[-1]))
    logits = model.logits(torch.zeros(1, 2), torch.tensor([0]))
    assert logits[0, place] == drawn[0][0, channel, row, column]


def test_the_label_counts_if_it_is_given_and_is_ignored_if_not():
    x, _, noise = make_batch(3, 2)
    first, second = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    for labels, is_same in (("given", False), ("none", True)):
        model = make(labels=labels)
        for each in (lambda y: model.encode(x, y)[0], lambda y: model.logits(noise, y)):  # noqa: B023
            assert torch.equal(each(first), each(second)) is is_same


def test_a_saved_model_is_loaded_with_its_width_and_shape(tmp_path):
    model = make(schema((20, 16, 3)), labels="none", latent_dims=3, likelihood="bernoulli", width=6)
    saved_model.save(model, tmp_path)
    loaded = saved_model.load(tmp_path)
    x, y, noise = make_batch(4, 3, model.schema)
    assert isinstance(loaded, ConvolutionalCVAE)
    assert loaded.configuration() == model.configuration()
    assert loaded.schema == model.schema
    assert torch.equal(loaded.logits(noise, y), model.logits(noise, y))
    assert torch.equal(loaded.encode(x, y)[1], model.encode(x, y)[1])


def test_training_reduces_the_loss_and_says_in_one_line_that_autograd_does_it(digits, capfd):
    rows, _ = train(make(), digits)
    assert rows[0]["test_loss"] > rows[1]["test_loss"] > rows[2]["test_loss"]
    line = "train: autograd trains this model; the faster derived gradients are for another network\n"
    assert capfd.readouterr().err == line


def test_a_training_repeats_and_resumes_to_the_bit(digits):
    model, again, resumed = make(), make(), make(seed=1)
    rows, _ = train(model, digits)
    assert train(again, digits)[0] == rows
    _, first_part = train(make(), digits, epochs=2)
    assert train(resumed, digits, state=first_part.state())[0] == rows[2:]
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
        assert torch.equal(resumed.state_dict()[name], weight), name
