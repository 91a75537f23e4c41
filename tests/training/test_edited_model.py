"""An edited model is trained, measured, saved, loaded, served and drawn as edited."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from helpers import edited_models
from helpers.edited_models import (
    BATCH,
    EPOCHS,
    RATE,
    Buffers,
    Convolution,
    Decoder,
    Frozen,
    TwoNames,
    install,
    make,
    train,
)
from helpers.models import MNIST
from helpers.processes import environment
from helpers.repository import PROJECT, Repository, interrupt
from torch import nn

from cvae import models
from cvae.artifacts import saved_model
from cvae.compute.seeding import generator
from cvae.data import dataset
from cvae.data.tensors import to_device
from cvae.evaluation.likelihood import importance_weighted_nll
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means, training_loss
from cvae.pipeline.checkpoint import checkpoint_key
from cvae.pipeline.parameters import read_parameters
from cvae.support.errors import UserError
from cvae.training import loop

EDITS = [
    kind
    for kind in vars(edited_models).values()
    if isinstance(kind, type) and kind.__module__ == edited_models.__name__
]

# A batch norm removes a shift in front of it. The shift's gradient is only rounding, which Adam turns into steps.
SHIFTED = ("encoder.weight", "encoder.label_weight", "encoder.bias", "norm.running_mean")


def plain_loop(model: nn.Module, splits) -> list[float]:
    """Train `model` with torch's own Adam and losses from torch.distributions; return the loss of each epoch."""
    from torch.distributions import Independent, Normal, kl_divergence

    images, labels = torch.tensor(splits[0].images) / 255, torch.tensor(splits[0].labels).long()
    shuffles, noises = generator(0, "shuffles"), generator(0, "noise")
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    losses = []
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels), generator=shuffles)
        noise = torch.randn(len(labels), model.latent_dims, generator=noises)
        total = 0.0
        for picked, sampled in zip(order.split(BATCH), noise.split(BATCH), strict=True):
            x, y = images[picked], labels[picked]
            mu, log_sigma = model.encode(x, y)
            posterior = Independent(Normal(mu, log_sigma.exp()), 1)
            prior = Independent(Normal(torch.zeros_like(mu), model.prior_std), 1)
            x_hat = model.decode(mu + log_sigma.exp() * sampled, y)
            if model.likelihood == "gaussian":
                reconstruction = ((x - x_hat) ** 2).sum()
            else:
                reconstruction = torch.nn.functional.binary_cross_entropy(x_hat, x, reduction="sum")
            loss = reconstruction + kl_divergence(posterior, prior).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        losses.append(total / len(labels))
    return losses


@pytest.mark.parametrize("kind", EDITS, ids=lambda kind: kind.__name__)
def test_an_edited_model_trains_as_in_a_plain_loop(kind, digits):
    """Losses and weights equal those of a plain loop, so no fast path for another network was used."""
    model, plain, before = make(kind), make(kind), make(kind)
    torch.manual_seed(5)  # for dropout
    rows = train(model, digits)
    torch.manual_seed(5)
    assert [row["train_loss"] for row in rows] == pytest.approx(plain_loop(plain, digits), rel=1e-5)
    for (name, own), expected, initial in zip(
        model.state_dict().items(), plain.state_dict().values(), before.state_dict().values(), strict=True
    ):
        if kind is not Buffers or name not in SHIFTED:
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=2e-4, msg=name)
        is_frozen = kind is Frozen and name.startswith("decoder.")
        assert torch.equal(own, initial) == is_frozen, f"{name} trains unless it is frozen"

    plain.eval()
    images, labels = to_device(digits[1], torch.device("cpu"))
    sums = held_out_sums(plain, images, labels, held_out_noise(plain, len(labels), 0)).detach()
    assert rows[-1]["test_loss"] == pytest.approx(means(plain, sums.double(), len(labels), 1.0)["loss"], rel=1e-4)


def clip(monkeypatch, bound: float) -> None:
    """Edit the training step to clip gradients to a norm of `bound`."""

    def step(self: loop.Steps, picked: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        loss, sums = training_loss(self.model, self.images[picked], self.labels[picked], noise, self.beta)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), bound)
        self.optimiser.step()
        return sums.detach()

    monkeypatch.setattr(loop.Steps, "step", step)


@pytest.mark.parametrize("bound", [1e9, 1.0], ids=["never reached", "reached at once"])
def test_an_edited_training_step_is_used(digits, monkeypatch, bound):
    unclipped = train(make(CVAE), digits)
    clip(monkeypatch, bound)
    clipped = train(make(CVAE), digits)
    assert (clipped[-1]["train_loss"] == pytest.approx(unclipped[-1]["train_loss"], rel=1e-5)) == (bound == 1e9)


def weight_decay(parameters, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=100.0)


def test_another_optimiser_is_used_and_resumes(digits, monkeypatch):
    plain = train(make(CVAE), digits)
    monkeypatch.setattr(loop, "Adam", weight_decay)
    rows = train(make(CVAE), digits)
    assert rows[-1]["train_loss"] > 1.2 * plain[-1]["train_loss"]

    settings = {"epochs": 3, "batch_size": BATCH, "learning_rate": RATE, "beta": 1.0, "seed": 0}
    interrupted, resumed = (loop.Training(make(CVAE), *digits, **settings) for _ in range(2))
    first = next(iter(interrupted))
    resumed.resume(interrupted.state())
    assert [first, *resumed] == rows


def test_another_optimiser_follows_the_schedule(digits, monkeypatch):
    monkeypatch.setattr(loop, "Adam", torch.optim.SGD)
    constant = train(make(CVAE), digits, learning_rate=1e-5)
    cosine = train(make(CVAE), digits, learning_rate=1e-5, schedule="cosine")
    assert cosine[0]["train_loss"] == constant[0]["train_loss"]
    assert cosine[-1]["train_loss"] > constant[-1]["train_loss"], "its last steps are smaller"


@pytest.mark.parametrize("kind", [Convolution, TwoNames, Buffers], ids=lambda kind: kind.__name__)
def test_an_edited_model_is_saved_and_loaded(kind, digits, tmp_path, monkeypatch):
    install(monkeypatch, kind)
    model = make(kind)
    train(model, digits, epochs=1)
    saved_model.save(model, tmp_path)
    loaded, state = saved_model.load(tmp_path), model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(loaded.state_dict()[name], state[name]) for name in state)


class Wider(CVAE):
    def __init__(self, schema, channels: int = 1, **settings):
        super().__init__(schema, **settings)
        self.channels, self.convolution = channels, nn.Conv2d(1, channels, 3)

    def configuration(self) -> dict:
        return {"channels": self.channels} | super().configuration()


def test_a_model_keeps_an_additional_argument(tmp_path, monkeypatch):
    name = install(monkeypatch, Wider)
    model = models.build(name, MNIST, {"channels": 3, "latent_dims": 5, "epochs": 7})
    saved_model.save(model.initialise(generator(0, "weights")), tmp_path)
    loaded = saved_model.load(tmp_path)
    assert (loaded.channels, loaded.latent_dims) == (3, 5)
    monkeypatch.setattr(Wider, "__init__", lambda self, schema, **settings: CVAE.__init__(self, schema, **settings))
    with pytest.raises(UserError, match=r"config\.json: 'channels' is not a parameter"):
        saved_model.load(tmp_path)


def test_a_gaussian_model_is_measured_by_its_decode(digits):
    """With only `decode` edited, the bound from one sample changes as the loss does; both are negative ELBOs."""
    images, labels = to_device(digits[1], torch.device("cpu"))
    nll, loss = {}, {}
    for kind in (CVAE, Decoder):
        model = make(kind).requires_grad_(False)
        nll[kind] = float(importance_weighted_nll(model, images, labels, 1, 0).mean())
        sums = held_out_sums(model, images, labels, held_out_noise(model, len(labels), 0))
        loss[kind] = means(model, sums.double(), len(labels), 1.0)["loss"]
    assert nll[Decoder] - nll[CVAE] == pytest.approx(loss[Decoder] - loss[CVAE], rel=0.02)
    assert abs(loss[Decoder] - loss[CVAE]) > 1


TOGETHER = """
import json, os, sys
import torch
from helpers.edited_models import Buffers, Convolution, make, train
from cvae.compute.processes import connected
from cvae.data.dataset import load

data = load(sys.argv[1])
with connected(torch.device("cpu")) as processes:
    for kind in (Convolution, Buffers):
        model = make(kind)
        rows = train(model, (data.train, data.test), processes=processes)
        weights = torch.cat([each.double().flatten() for each in model.state_dict().values()])
        path = f"{sys.argv[1]}/{kind.__name__}-{processes.rank}.json"
        json.dump([[row["train_loss"] for row in rows], weights.sum().item()], open(path, "w"))
"""


def test_an_edited_model_trains_in_two_processes_as_in_one(digits, tmp_path):
    """Batch norm sees only a share of each batch, so its losses differ; but both processes hold the same model."""
    dataset.save(dataset.Dataset(*digits, MNIST), tmp_path)
    (tmp_path / "together.py").write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    folders = os.pathsep.join([str(PROJECT / "src"), str(PROJECT / "tests"), str(PROJECT)])
    variables = environment(PYTHONPATH=folders, OMP_NUM_THREADS="1")
    subprocess.run([*launcher, tmp_path / "together.py", tmp_path], env=variables, check=True, timeout=120)

    for kind in (Convolution, Buffers):
        first, second = (json.loads((tmp_path / f"{kind.__name__}-{rank}.json").read_text()) for rank in (0, 1))
        assert first == second
    alone = [row["train_loss"] for row in train(make(Convolution), digits)]
    together, _ = json.loads((tmp_path / "Convolution-0.json").read_text())
    assert together == pytest.approx(alone, rel=1e-4)


SMOOTHING = "        self.smoothing = nn.Conv2d(1, 1, 3, padding=1)\n"


def edit(repository: Repository) -> None:
    """Add a convolution to src/cvae/model.py, as a user would."""
    path = repository.root / "src/cvae/model.py"
    text = path.read_text()
    for before, after in (
        (last := "        self.pixel_logits = Linear(widths[0], schema.image_dims)\n", f"{last}{SMOOTHING}"),
        ("self.encoder(x, y)", "self.encoder(self.smoothing(x.view(-1, 1, 28, 28)).flatten(1), y)"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    path.write_text(text)


def test_a_model_with_a_convolution_is_trained_resumed_saved_served_and_drawn(repository, empty_database, tmp_path):
    clone = repository.copy(tmp_path / "cvae")
    (clone.root / "mlflow.db").write_bytes(empty_database.read_bytes())
    edit(clone)
    clone.set(epochs=12)

    done = interrupt(clone, signal.SIGKILL)
    printed = clone.dvc("repro")
    assert f"after epoch {done}, from checkpoints/" in printed
    (run,) = clone.runs()
    assert run.info.status == "FINISHED"
    resumed = (clone.root / "data/model/model.safetensors").read_bytes()
    clone.dvc("repro", "--force", "--single-item", "train")
    assert (clone.root / "data/model/model.safetensors").read_bytes() == resumed, "the same as without an interruption"
    smoothing = torch.tensor(load_weights(resumed)["smoothing.weight"])
    assert not torch.equal(smoothing, initial_smoothing(clone)), "it was trained"

    clone.run(sys.executable, "-m", "cvae", "sample", "--run", run.info.run_id, PYTHONPATH="src")
    assert (clone.root / "samples.png").stat().st_size > 1000
    check = """
import json, sys
import mlflow, pandas as pd, torch
from cvae import models
from cvae.artifacts import saved_model
from cvae.data.dataset import load
mlflow.set_tracking_uri("sqlite:///mlflow.db")
(model,) = mlflow.get_run(sys.argv[1]).outputs.model_outputs
served = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
image = load("data/raw").test.images[0] / 255
row = served.predict(pd.DataFrame({"label": ["3"], "image": [image.tolist()]})).iloc[0]
own = saved_model.load("data/model")
mu, _ = own.encode(torch.tensor(image[None]).float(), torch.tensor([3]))
print(json.dumps([row["z"], mu[0].tolist()]))
"""
    printed = clone.run(sys.executable, "-c", check, run.info.run_id, PYTHONPATH="src").stdout
    served, own = json.loads(printed.splitlines()[-1])
    assert served == pytest.approx(own, abs=1e-6)


OWN = """
from cvae.model import VAE, ConditionalLinear


class Tiny(VAE):
    def __init__(self, schema, labels="given", latent_dims=2, likelihood="gaussian", prior_std=1.0):
        super().__init__(schema, labels, latent_dims, likelihood, prior_std)
        self.encoder = ConditionalLinear(schema.image_dims, self.label_count, 2 * latent_dims)
        self.decoder = ConditionalLinear(latent_dims, self.label_count, schema.image_dims)

    def encode(self, x, y):
        return self.encoder(x, y).chunk(2, dim=1)

    def logits(self, z, y):
        return self.decoder(z, y)
"""


def test_a_model_in_its_own_file_is_trained_without_labels_resumed_and_measured(repository, tmp_path):
    clone = repository.copy(tmp_path / "cvae")
    (clone.root / "src/cvae/models/tiny.py").write_text(OWN)
    clone.set(model="cvae.models.tiny:Tiny", labels="none", epochs=12)
    other = clone.copy(tmp_path / "other")

    done = interrupt(clone, signal.SIGKILL)
    printed = clone.run(sys.executable, "-m", "stages.train").stdout
    assert f"after epoch {done}, from checkpoints/" in printed
    assert "params.yaml: Tiny takes no activation, hidden_dims\n" in printed
    other.run(sys.executable, "-m", "stages.train")
    for name in ("data/model/model.safetensors", "data/model/config.json", "plots/training.csv"):
        assert (clone.root / name).read_bytes() == (other.root / name).read_bytes(), "as without an interruption"

    printed = clone.run(sys.executable, "-m", "stages.evaluate").stdout
    assert "label_accuracy" not in printed
    assert (clone.root / "plots/confusion.csv").read_text() == "actual,predicted\n"
    clone.run(sys.executable, "-m", "stages.embed")


@pytest.mark.parametrize(("key", "value"), [("labels", "none"), ("model", "cvae.models.tiny:Tiny")])
def test_a_checkpoint_belongs_to_a_model_and_its_use_of_labels(key, value):
    params = read_parameters(PROJECT / "params.yaml").model_dump()
    assert checkpoint_key(params, "CPU") != checkpoint_key(params | {key: value}, "CPU")


def load_weights(content: bytes) -> dict:
    from safetensors.numpy import load

    return load(content)


def initial_smoothing(clone: Repository) -> torch.Tensor:
    """Return the convolution's weights before the first training step."""
    code = (
        "import torch; from cvae.compute.seeding import generator; from cvae.data.dataset import mnist_like;"
        "from cvae.model import CVAE;"
        "torch.manual_seed(generator(0, 'torch').initial_seed()); print(CVAE(mnist_like()).smoothing.weight.tolist())"
    )
    return torch.tensor(json.loads(clone.run(sys.executable, "-c", code, PYTHONPATH="src").stdout))
