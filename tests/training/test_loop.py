import sys

import numpy as np
import pytest
import torch
from helpers.models import MNIST

from cvae.artifacts import saved_model
from cvae.compute.devices import open_device, precisions
from cvae.compute.seeding import generator
from cvae.data.binarisation import sample_thresholds, threshold_generator
from cvae.data.dataset import Split
from cvae.data.tensors import to_device
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means
from cvae.support.errors import UserError
from cvae.training.loop import Training

SETTINGS = {"epochs": 3, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}


def fit(splits, model_settings=None, **settings) -> tuple[CVAE, list[dict]]:
    settings = SETTINGS | settings
    device = open_device("cpu", threads=1)
    model = CVAE(MNIST, **(model_settings or {})).initialise(generator(settings["seed"], "weights")).to(device)
    return model, list(Training(model, *splits, **settings))


def measure(model: CVAE, split, beta: float = 1.0) -> dict[str, float]:
    images, labels = to_device(split, torch.device("cpu"))
    sums = held_out_sums(model, images, labels, held_out_noise(model, len(split), 0))
    return means(model, sums.double(), len(split), beta)


def weights(model: CVAE) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_training_repeats_to_the_bit(digits):
    (first, first_rows), (second, second_rows) = fit(digits), fit(digits)
    assert first_rows == second_rows
    assert torch.equal(weights(first), weights(second))


def test_another_seed_gives_another_model(digits):
    assert not torch.equal(weights(fit(digits)[0]), weights(fit(digits, seed=1)[0]))


def test_training_equals_a_plain_loop_with_the_articles_loss(digits):
    """The plain loop uses the article's own loss and torch's default Adam."""
    compare_with_plain_loop(digits)


def test_binary_images_are_sampled_again_in_each_epoch(digits):
    grey, numbers = digits[0].images, threshold_generator(0)
    binary = [torch.tensor(grey > sample_thresholds(numbers, grey.shape)).float() for _ in range(3)]
    assert not torch.equal(binary[0], binary[1])
    compare_with_plain_loop(digits, lambda _, epoch: binary[epoch], resample_pixels=True)


def test_the_learning_rate_falls_along_half_a_cosine_wave(digits):
    rates = [1e-3, 0.75e-3, 0.25e-3]
    compare_with_plain_loop(digits, rates=rates, schedule="cosine")


def compare_with_plain_loop(digits, images_of=lambda grey, epoch: grey, rates=(1e-3,) * 3, **settings) -> None:
    """Compare three epochs of `fit` with `settings` with a plain loop on the images and at the rate of each epoch."""
    model, rows = fit(digits, **settings)

    plain = CVAE(MNIST).initialise(generator(0, "weights"))
    grey, labels = torch.tensor(digits[0].images) / 255, torch.tensor(digits[0].labels).long()
    shuffles, noises = generator(0, "shuffles"), generator(0, "noise")
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-3)
    count, totals = len(labels), []
    for epoch in range(3):
        images = images_of(grey, epoch)
        optimiser.param_groups[0]["lr"] = rates[epoch]
        order, noise = torch.randperm(count, generator=shuffles), torch.randn(count, 2, generator=noises)
        total = 0.0
        for start in range(0, count, 128):
            picked = order[start : start + 128]
            x, y = images[picked], labels[picked]
            mu, log_sigma = plain.encode(x, y)
            sigma = log_sigma.exp()
            x_hat = plain.decode(mu + sigma * noise[start : start + 128], y)
            loss = ((x - x_hat) ** 2).sum() + (sigma**2 + mu**2 - log_sigma - 0.5).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        totals.append(total)

    assert [row["article_loss"] for row in rows] == pytest.approx(totals, rel=1e-5)
    torch.testing.assert_close(weights(model), weights(plain), rtol=0, atol=1e-4)


@pytest.mark.parametrize("labels", ["given", "none"])
def test_a_resumed_training_ends_with_the_same_bytes(digits, tmp_path, labels):
    model, rows = fit(digits, {"labels": labels, "hidden_dims": 8})
    started, resumed = (
        Training(CVAE(MNIST, labels, hidden_dims=8).initialise(generator(0, "weights")), *digits, **SETTINGS)
        for _ in range(2)
    )
    first = next(iter(started))
    resumed.resume(started.state())
    assert [first, *resumed] == rows
    for name, trained in (("whole", model), ("resumed", resumed.model)):
        saved_model.save(trained, tmp_path / name)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_without_labels_training_does_not_depend_on_them(digits):
    model, rows = fit(digits, {"labels": "none"})
    others = [Split(split.images, np.zeros_like(split.labels)) for split in digits]
    same, other_rows = fit(others, {"labels": "none"})
    assert rows == other_rows
    assert torch.equal(weights(model), weights(same))


def test_training_gives_the_same_result_without_the_fast_steps(digits, monkeypatch):
    derived, rows = fit(digits)
    monkeypatch.setitem(sys.modules, "cvae.training.fast.steps", None)  # as if the folder were deleted
    autograd, others = fit(digits)
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in others], rel=1e-5)
    torch.testing.assert_close(weights(derived), weights(autograd), rtol=0, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_reduced_precision_trains_nearly_as_well_or_is_refused(digits, likelihood):
    precise, rows = fit(digits, {"likelihood": likelihood}, epochs=5)
    if "bfloat16" in precisions(torch.device("cpu")):
        reduced, others = fit(digits, {"likelihood": likelihood}, epochs=5, precision="bfloat16")
        assert not torch.equal(weights(precise), weights(reduced))
        assert others[-1]["train_loss"] == pytest.approx(rows[-1]["train_loss"], rel=0.01)
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee"), "later measurements are in float32"
    else:
        with pytest.raises(UserError, match="precision is 'bfloat16', but CPU, 1 thread supports only float32"):
            open_device("cpu", threads=1, precision="bfloat16")


def test_each_epoch_uses_every_image_once_also_in_a_short_last_batch(digits):
    """With a learning rate too small to change a weight, the figures are those of the untrained model."""
    model, [row] = fit(digits, epochs=1, learning_rate=1e-30, batch_size=1000)
    assert row["train_reconstruction"] == pytest.approx(measure(model, digits[0])["reconstruction"], rel=1e-3)


def test_loss_falls_and_the_figures_of_a_row_are_consistent(digits):
    model, rows = fit(digits, epochs=5, beta=2.0)
    assert rows[-1]["test_loss"] < 0.9 * rows[0]["test_loss"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        for split in ("train", "test"):
            assert row[f"{split}_loss"] == pytest.approx(row[f"{split}_reconstruction"] + 2 * row[f"{split}_kl"])
    assert measure(model, digits[1], beta=2.0)["loss"] == rows[-1]["test_loss"]


def test_article_loss_is_the_sum_over_the_training_images(digits):
    _, [row] = fit(digits, epochs=1)
    count = len(digits[0])
    constant = count * 2 * 0.5 * np.log(2)
    assert row["article_loss"] == pytest.approx(count * row["train_loss"] + constant, rel=1e-6)


def test_a_batch_larger_than_the_data_set_is_the_data_set(digits):
    _, rows = fit(digits, epochs=1, batch_size=10 * len(digits[0]))
    _, expected = fit(digits, epochs=1, batch_size=len(digits[0]))
    assert rows == expected


def test_a_loss_that_is_not_finite_ends_training_and_names_epoch_and_cause(digits):
    with pytest.raises(
        UserError, match=r"diverged in epoch \d+: (train|test)_\w+ is (nan|inf).*learning_rate"
    ) as caught:
        fit(digits, epochs=50, learning_rate=10.0, model_settings={"prior_std": 1e-3})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("latent_dims", [1, 4])
def test_models_with_other_settings_learn_too(digits, likelihood, latent_dims):
    _, rows = fit(digits, {"likelihood": likelihood, "latent_dims": latent_dims, "hidden_dims": 32}, epochs=10)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
