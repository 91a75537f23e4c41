"""The gradient of the objective, batch by batch: derived by hand, or by autograd.

Both write the gradient of reconstruction + beta · KL, summed over a batch, into a `WeightVector`, and keep what
the four sums of `cvae.objective` need. With the derived one an epoch takes 0.8 s on two cores, with autograd 1.3 s;
a test compares the two in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvae.datasets import LABELS, PIXELS
from cvae.model import ACTIVATIONS, CVAE
from cvae.objective import kl, objective_sums
from cvae.weights import WeightVector

# with out=, which torch.nn.functional does not offer
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input

IN_PLACE = {  # an activation, and its backward: from the gradient d at y, which it made, to the one before it
    "relu": (torch.relu_, lambda d, y: _threshold_backward(d, y, 0, grad_input=d)),
    "sigmoid": (torch.sigmoid_, lambda d, y: _sigmoid_backward(d, y, grad_input=d)),
    "tanh": (torch.tanh_, lambda d, y: _tanh_backward(d, y, grad_input=d)),
}


def serves(device: torch.device, precision: str) -> bool:
    """Whether the derived gradients serve there; where not, autograd does.

    On CUDA, bfloat16 is autocast's, which leaves out products that write where they are told to. On MPS, the
    derived ones have never run.
    """
    return device.type == "cpu" or (device.type == "cuda" and precision != "bfloat16")


@dataclass(eq=False)
class _Gradients:
    """`inputs`: what `prepare` makes of all images; the first 784 columns of the first are their pixels. `order`:
    (n,) int64, which of them make up the batches, and `noise`: (n, latent_dims), each in parts, a part a batch.
    All may change in place between two passes.
    """

    model: CVAE
    weights: WeightVector
    beta: float
    inputs: tuple[Tensor, Tensor]
    order: Sequence[Tensor]
    noise: Sequence[Tensor]


@dataclass(eq=False)
class AutogradGradients(_Gradients):
    """Gradients of batches by autograd, on any device."""

    @staticmethod
    def prepare(model: CVAE, weights: WeightVector, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The `images` (N, 784) and `labels` (N,) as they are."""
        return images, labels

    def __post_init__(self):
        self._sums = self.weights.values.new_zeros(len(self.order), 4)

    @torch.enable_grad()
    def step(self, batch: int) -> None:
        """Write the gradient of batch number `batch`."""
        picked, (images, labels) = self.order[batch], self.inputs
        sums = objective_sums(self.model, images[picked], labels[picked], self.noise[batch])
        self.weights.gradient.zero_()
        (sums[0] + self.beta * kl(self.model, sums, len(picked))).backward()
        self._sums[batch] = sums.detach()

    def sums(self) -> Tensor:
        """The four sums over all batches of the pass, (4,) on the device."""
        return self._sums.sum(0)


@dataclass(eq=False)
class DerivedGradients(_Gradients):
    """Gradients of batches by the chain rule, written out: no allocation, and one kernel for each product.

    A layer's matrix has rows for its label and its bias, so its input has columns for these, and both are
    part of the one product.
    """

    @staticmethod
    def prepare(model: CVAE, weights: WeightVector, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of the encoder's first layer and of the decoder's, in which z is still zero, a row an image."""
        return tuple(
            _with_label_and_one(values, labels, len(weights.matrices[layer]))
            for values, layer in (
                (images, 0),
                (images.new_zeros(len(labels), model.latent_dims), _first_of_decoder(model)),
            )
        )

    def __post_init__(self):
        self._is_gaussian = self.model.likelihood == "gaussian"
        self._kl_weight = self.beta * self.model.prior_std**-2

        sizes = [len(picked) for picked in self.order]
        self._buffers = {size: _Buffers(self.model, self.weights, size) for size in set(sizes)}
        self._posterior = self.weights.values.new_empty(sum(sizes), 2 * self.model.latent_dims)
        self._posteriors = [(part, *part.chunk(2, dim=1)) for part in self._posterior.split(sizes)]
        self._errors = self.weights.values.new_zeros(len(sizes), 2)  # reconstruction and squared error of each batch
        self._squared_error = self._errors[:, 1].unbind()

    @torch.no_grad()
    def step(self, batch: int) -> None:
        """Write the gradient of batch number `batch`."""
        picked, noise = self.order[batch], self.noise[batch]
        posterior, mu, log_sigma = self._posteriors[batch]
        own = self._buffers[len(picked)]
        encoder, decoder, sigma, x_hat, error = own.encoder, own.decoder, own.sigma, own.x_hat, own.error

        for inputs, stack in zip(self.inputs, (encoder, decoder), strict=True):
            torch.index_select(inputs, 0, picked, out=stack.input)
        encoder.forward(out=posterior)
        torch.exp(log_sigma, out=sigma)
        torch.addcmul(mu, sigma, noise, out=own.z)
        decoder.forward(out=x_hat)

        if not self._is_gaussian:
            self._errors[batch, 0] = F.binary_cross_entropy_with_logits(x_hat, own.x, reduction="sum")
        torch.sigmoid(x_hat, out=x_hat)
        torch.sub(x_hat, own.x, out=error)
        torch.dot(own.flat_error, own.flat_error, out=self._squared_error[batch])
        if self._is_gaussian:  # d (x̂ - x)² / d logit = 2 (x̂ - x) x̂ (1 - x̂)
            _sigmoid_backward(error, x_hat, grad_input=error)
        decoder.backward(error, scale=2 if self._is_gaussian else 1)  # d cross-entropy / d logit = x̂ - x

        torch.mm(decoder.d_first, own.z_weights, out=own.d_z)
        torch.add(own.d_z, mu, alpha=self._kl_weight, out=own.d_mu)  # d KL / d μ = μ / s²
        torch.mul(own.d_z, noise, out=own.d_log_sigma)  # z = μ + σ · noise
        own.d_log_sigma.add_(sigma, alpha=self._kl_weight).mul_(sigma).sub_(self.beta)  # d KL / d ln σ = σ² / s² - 1
        encoder.backward(own.d_posterior)

    def sums(self) -> Tensor:
        """The four sums over all batches of the pass, (4,) on the device."""
        mu, log_sigma = self._posterior.chunk(2, dim=1)
        squares = (mu.square() + (2 * log_sigma).exp()).sum()
        reconstruction, squared_error = self._errors.sum(0)
        if self._is_gaussian:
            reconstruction = squared_error
        return torch.stack((reconstruction, squares, log_sigma.sum(), squared_error))


class _Stack:
    """Layers one after another for a batch of `n`: all but the last are followed by an activation.

    `widths`: the inputs of each layer. `activation` works in place, `activation_backward(d, y)` on d, the
    gradient at y, which the activation made.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        gradients: Sequence[Tensor],
        widths: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        activation_backward: Callable[[Tensor, Tensor], Tensor],
        n: int,
    ):
        self._matrices, self._gradients = matrices, gradients
        self._activation, self._activation_backward = activation, activation_backward
        inputs = [matrices[0].new_zeros(n, len(matrix)) for matrix in matrices]
        for layer, width in zip(inputs[1:], widths[1:], strict=True):
            layer[:, width] = 1  # for the bias
        self.input = inputs[0]
        self._inputs, self._transposed_inputs = inputs, [layer.t() for layer in inputs]
        self._hidden = [layer[:, :width] for layer, width in zip(inputs[1:], widths[1:], strict=True)]
        self._d_hidden = [matrices[0].new_empty(n, width) for width in widths[1:]]
        self._transposed_weights = [matrix[:width].t() for matrix, width in zip(matrices, widths, strict=True)]
        self.d_first = self._d_hidden[0]

    def forward(self, out: Tensor) -> None:
        """From `input`, which is to be filled before, to `out`: (n, out_features), before any activation."""
        for layer, matrix, hidden in zip(self._inputs, self._matrices, self._hidden, strict=False):
            torch.mm(layer, matrix, out=hidden)
            self._activation(hidden)
        torch.mm(self._inputs[-1], self._matrices[-1], out=out)

    def backward(self, d_out: Tensor, scale: float = 1) -> None:
        """From the gradient at `out`, which is `scale` · `d_out`, to those of all matrices, and `d_first`.

        `d_first`: the gradient at what the first layer hands to its activation, (n, its out_features).
        """
        for layer in range(len(self._hidden), 0, -1):
            gradient, d_hidden = self._gradients[layer], self._d_hidden[layer - 1]
            torch.addmm(gradient, self._transposed_inputs[layer], d_out, beta=0, alpha=scale, out=gradient)
            torch.addmm(d_hidden, d_out, self._transposed_weights[layer], beta=0, alpha=scale, out=d_hidden)
            self._activation_backward(d_hidden, self._hidden[layer - 1])
            d_out, scale = d_hidden, 1
        torch.mm(self._transposed_inputs[0], d_out, out=self._gradients[0])


class _Buffers:
    """Where a batch of `n` is worked on."""

    def __init__(self, model: CVAE, weights: WeightVector, n: int):
        matrices, gradients, latent_dims = weights.matrices, weights.gradients, model.latent_dims
        first = _first_of_decoder(model)
        encoder, decoder = slice(first), slice(first, None)
        encoder_way, decoder_way = (IN_PLACE[name] for name in ACTIVATIONS[model.activation])
        widths = model.hidden_dims
        self.encoder = _Stack(matrices[encoder], gradients[encoder], [PIXELS, *widths], *encoder_way, n)
        self.decoder = _Stack(matrices[decoder], gradients[decoder], [latent_dims, *widths[::-1]], *decoder_way, n)
        self.x, self.z = self.encoder.input[:, :PIXELS], self.decoder.input[:, :latent_dims]
        self.z_weights = matrices[first][:latent_dims].t()
        self.x_hat, self.error = weights.values.new_empty(2, n, PIXELS)
        self.flat_error = self.error.view(-1)
        self.sigma, self.d_z = weights.values.new_empty(2, n, latent_dims)
        self.d_posterior = weights.values.new_empty(n, 2 * latent_dims)
        self.d_mu, self.d_log_sigma = self.d_posterior.chunk(2, dim=1)


def _first_of_decoder(model: CVAE) -> int:
    """The number of the decoder's first layer, among all of the model's."""
    return len(model.encoder_layers())


def _with_label_and_one(values: Tensor, labels: Tensor, width: int) -> Tensor:
    """`values` (n, k) beside one-hot labels, a column of ones and columns of zeros: (n, width)."""
    count, columns = values.shape
    wide = values.new_zeros(count, width)
    wide[:, :columns] = values
    wide[:, columns : columns + LABELS] = F.one_hot(labels, LABELS)
    wide[:, columns + LABELS] = 1
    return wide
