"""Check the model before training, and its losses after each epoch."""

import copy

import torch
from torch import Tensor, nn

from cvae.model import VAE
from cvae.support.errors import UserError


def require_weights(model: nn.Module) -> None:
    """Refuse weights that are not float32, as the images are, or that get their shape only from the first batch."""
    if not list(model.parameters()):
        raise UserError("the model has no weights to train")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UserError(f"the model's {name} has no shape yet; give the layer its input size")
        if parameter.dtype != torch.float32:
            raise UserError(f"the model's {name} is {parameter.dtype}, but training needs torch.float32")


@torch.no_grad()
def require_interface(model: VAE, x: Tensor, y: Tensor) -> None:
    """Refuse a model whose methods do not return what `VAE` says: torch would broadcast some wrong shapes, and train.

    `x`: (n, image_dims), `y`: (n,).
    """
    model = copy.deepcopy(model).eval()  # a network may count its steps
    posterior, z = model.encode(x, y), x.new_zeros(len(x), model.latent_dims)
    if not (isinstance(posterior, tuple | list) and len(posterior) == 2):
        raise UserError(f"the model's encode returns a {type(posterior).__name__}, not two tensors, μ and log σ")
    logits = model.logits(z, y)
    decoded = model.decode(z, y) if isinstance(logits, Tensor) else None
    returned = (*(("encode", z, each) for each in posterior), ("logits", x, logits), ("decode", x, decoded))
    for method, like, tensor in returned:
        if not isinstance(tensor, Tensor):
            raise UserError(f"the model's {method} returns a {type(tensor).__name__}, not a tensor")
        if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            found, wanted = (f"{each.dtype} {list(each.shape)}".removeprefix("torch.") for each in (tensor, like))
            raise UserError(f"the model's {method} returns {found} for {len(x)} images, not {wanted}")
        if not tensor.isfinite().all():
            raise UserError(f"the model's {method} returns values that are not finite, before any training")


@torch.no_grad()
def require_one_decoder(model: VAE, z: Tensor, y: Tensor) -> None:
    """Refuse a model that trains one decoder (`logits`) and draws pictures with another (`decode`).

    Only the Bernoulli likelihood uses both. `z`: (n, latent_dims), `y`: (n,).
    """
    if model.likelihood == "bernoulli":
        model.eval()
        if not torch.allclose(model.decode(z, y), torch.sigmoid(model.logits(z, y)), atol=1e-4):
            raise UserError("the model's decode is not the sigmoid of its logits, as the bernoulli likelihood requires")


def refuse_non_finite(row: dict[str, float], learning_rate: float) -> None:
    """Stop the training if a loss is infinite or NaN; `row` holds the figures of an epoch."""
    for part, value in row.items():
        if part.endswith(("_reconstruction", "_kl")) and not abs(value) < float("inf"):
            raise UserError(
                f"training diverged in epoch {row['epoch']}: {part} is {value}; "
                f"a lower learning_rate (now {learning_rate:g}) is the usual cure"
            )
