"""Training on a GPU; every test here needs one."""

import sys

import pytest
import torch
from helpers.models import MNIST

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.support.faults import memory_shortage
from cvae.training.loop import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def fit(
    digits, device: str, likelihood: str = "gaussian", hidden_dims=256, **settings
) -> tuple[torch.Tensor, list[dict]]:
    """Return the weights and the rows of a few epochs, enough to record and replay a graph."""
    settings = {"epochs": 6, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0} | settings
    opened = open_device(device, threads=1, precision=settings.get("precision", "float32"))
    model = CVAE(MNIST, hidden_dims=hidden_dims, likelihood=likelihood).initialise(generator(0, "weights")).to(opened)
    rows = list(Training(model, *digits, **settings))
    return torch.cat([weight.detach().cpu().flatten() for weight in model.parameters()]), rows


@pytest.mark.parametrize("derived", [True, False])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_cuda_trains_as_the_cpu_does(digits, likelihood, derived, monkeypatch):
    _, others = fit(digits, "cpu", likelihood)
    if not derived:
        monkeypatch.setitem(sys.modules, "cvae.training.fast.steps", None)
    _, rows = fit(digits, "cuda", likelihood)
    for name in ("train_loss", "test_loss", "article_loss"):
        assert [row[name] for row in rows] == pytest.approx([row[name] for row in others], rel=1e-4), name


def test_cuda_repeats_to_the_bit(digits):
    (first, rows), (second, others) = fit(digits, "cuda"), fit(digits, "cuda")
    assert torch.equal(first, second)
    assert rows == others


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_reduced_precision_trains_nearly_as_well(digits, precision):
    _, rows = fit(digits, "cuda", precision=precision)
    _, others = fit(digits, "cuda")
    assert rows[-1]["train_loss"] == pytest.approx(others[-1]["train_loss"], rel=0.02)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_an_epoch_of_several_graphs_trains_as_the_cpu_does(digits, batch_size):
    _, rows = fit(digits, "cuda", batch_size=batch_size, epochs=4)
    _, others = fit(digits, "cpu", batch_size=batch_size, epochs=4)
    assert rows[-1]["train_loss"] == pytest.approx(others[-1]["train_loss"], rel=1e-3)


def test_the_opened_device_is_the_current_one():
    last = torch.cuda.device_count() - 1
    opened = open_device(f"cuda:{last}", threads=1)
    assert torch.cuda.current_device() == opened.index == last


def test_a_gpu_with_too_little_memory_is_reported_as_such(digits):
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2**30 / total))
    try:
        with pytest.raises(torch.OutOfMemoryError) as raised:
            fit(digits, "cuda", batch_size=len(digits[0]), hidden_dims=65536)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert memory_shortage(raised.value).startswith("the GPU's memory is too small (for ")
