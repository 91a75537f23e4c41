import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cvae import objective
from cvae.compute.devices import open_device, precisions
from cvae.compute.seeding import generator
from cvae.data.binarisation import sample_thresholds, threshold_generator
from cvae.data.tensors import to_device
from cvae.evaluation import latents, likelihood
from cvae.model import CVAE
from cvae.objective import article_loss, held_out_noise, held_out_sums, means
from cvae.support.errors import UserError
from cvae.training.loop import Training

SETTINGS = {"epochs": 3, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}


def fit(splits, model_settings=None, **settings) -> tuple[CVAE, list[dict]]:
    settings = SETTINGS | settings
    device = open_device("cpu", threads=1)
    model = CVAE(**(model_settings or {})).initialise(generator(settings["seed"], "weights")).to(device)
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
    """The article's way of training: its own loss, torch's default Adam, batches picked one after another."""
    compare_with_plain_loop(digits)


def test_binary_images_are_drawn_anew_in_each_epoch(digits):
    grey, stream = digits[0].images, threshold_generator(0)
    drawn = [torch.tensor(grey > sample_thresholds(stream, grey.shape)).float() for _ in range(3)]
    assert not torch.equal(drawn[0], drawn[1])
    compare_with_plain_loop(digits, lambda _, epoch: drawn[epoch], redraw=True)


def test_the_learning_rate_falls_along_half_a_wave(digits):
    rates = [1e-3, 0.75e-3, 0.25e-3]
    compare_with_plain_loop(digits, rates=rates, schedule="cosine")


def compare_with_plain_loop(digits, images_of=lambda grey, epoch: grey, rates=(1e-3,) * 3, **settings) -> None:
    """Three epochs, on `images_of` and at the rate of each, by `train` with `settings` and by a plain loop."""
    model, rows = fit(digits, **settings)

    plain = CVAE().initialise(generator(0, "weights"))
    grey, labels = torch.tensor(digits[0].images) / 255, torch.tensor(digits[0].labels).long()
    shuffles, noises = generator(0, "shuffles"), generator(0, "noise")
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-3)
    totals = []
    for epoch in range(3):
        images = images_of(grey, epoch)
        optimiser.param_groups[0]["lr"] = rates[epoch]
        order, noise = torch.randperm(1500, generator=shuffles), torch.randn(1500, 2, generator=noises)
        total = 0.0
        for start in range(0, 1500, 128):
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


def test_training_works_as_well_without_the_fast_steps(digits, monkeypatch):
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
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee"), "what is measured later is in float32"
    else:
        with pytest.raises(UserError, match="precision is 'bfloat16', but CPU, 1 thread has float32 only"):
            open_device("cpu", threads=1, precision="bfloat16")


def test_a_precision_that_the_device_lacks_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(
            UserError, match=f"precision is '{precision}', but CPU, 1 thread has float32 only"
        ) as caught:
            open_device("cpu", threads=1, precision=precision)
        assert "\n" not in str(caught.value)


def test_every_image_is_seen_once_an_epoch_and_the_short_last_batch_counts(digits):
    """With a step too small to move a weight, the figures of an epoch are those of the untrained model."""
    model, [row] = fit(digits, epochs=1, learning_rate=1e-30, batch_size=1000)
    assert row["train_reconstruction"] == pytest.approx(measure(model, digits[0])["reconstruction"], rel=1e-3)


def test_loss_falls_and_rows_hold_together(digits):
    model, rows = fit(digits, epochs=5, beta=2.0)
    assert rows[-1]["test_loss"] < 0.9 * rows[0]["test_loss"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        for split in ("train", "test"):
            assert row[f"{split}_loss"] == pytest.approx(row[f"{split}_reconstruction"] + 2 * row[f"{split}_kl"])
    assert measure(model, digits[1], beta=2.0)["loss"] == rows[-1]["test_loss"]


def test_article_loss_is_of_the_training_images(digits):
    _, [row] = fit(digits, epochs=1)
    constant = 1500 * 2 * 0.5 * np.log(2)
    assert row["article_loss"] == pytest.approx(1500 * row["train_loss"] + constant, rel=1e-6)


def test_a_batch_larger_than_the_data_set_is_one_batch(digits):
    _, rows = fit(digits, epochs=1, batch_size=60_000)
    assert np.isfinite(rows[0]["train_loss"])


def test_a_loss_that_is_not_finite_ends_training_with_epoch_and_cause(digits):
    with pytest.raises(
        UserError, match=r"diverged in epoch \d+: (train|test)_\w+ is (nan|inf).*learning_rate"
    ) as caught:
        fit(digits, epochs=50, learning_rate=10.0, model_settings={"prior_std": 1e-3})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("latent_dims", [1, 4])
def test_other_models_learn_too(digits, likelihood, latent_dims):
    _, rows = fit(digits, {"likelihood": likelihood, "latent_dims": latent_dims, "hidden_dims": 32}, epochs=10)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_an_opened_device_repeats_to_the_bit_and_has_no_denormal_numbers():
    open_device("cpu", threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert (torch.tensor(1e-38) * 0.1).item() == 0


def test_figures_are_moved_to_the_cpu_before_they_become_float64():
    """Apple's MPS has no float64, and no machine that runs these tests has an MPS."""
    for module in (likelihood, latents, objective):
        assert not re.search(r"\.double\(\)(\.\w+\([^()]*\))*\.cpu\(\)", Path(module.__file__).read_text())


def test_an_absent_device_is_told_in_one_line():
    absent = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UserError, match=f"device is '{absent}'") as caught:
        open_device(absent, threads=1)
    assert "\n" not in str(caught.value)


def test_article_loss_formula_is_linear_in_its_sums():
    model = CVAE()
    assert float(article_loss(model, torch.tensor([0.0, 3.0, 1.0, 10.0]), 2)) == 10 + 3 - 1 - 2
