"""Optional speed: the gradient of `cvae.model`'s loss, derived by hand.

`agreement` decides whether it may train a model. An epoch of the default run then takes 1.0 s on two cores, not 1.4 s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvae.model import ACTIVATIONS, CVAE, ConditionalLinear
from cvae.training.fast.weights import WeightVector, label_count

# These accept an output buffer, which torch.nn.functional does not offer.
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input

IN_PLACE = {  # an activation, and its backward, which turns d, the gradient at its output y, into that at its input
    "relu": (torch.relu_, lambda d, y: _threshold_backward(d, y, 0, grad_input=d)),
    "sigmoid": (torch.sigmoid_, lambda d, y: _sigmoid_backward(d, y, grad_input=d)),
    "tanh": (torch.tanh_, lambda d, y: _tanh_backward(d, y, grad_input=d)),
}


@dataclass(eq=False)
class DerivedGradients:
    """Compute the gradient of one batch at a time by the chain rule, without allocating memory.

    A layer's matrix has rows for its labels, if it has any, and its bias, and its input has columns for them, so that
    one matrix product computes the layer.

    `inputs`: the result of `prepare` for all images; the first columns of its first tensor are the pixels.
    `order`: for each batch, the numbers of its images, (n,) int64. `noise`: for each batch, (n, latent_dims).
    All may change in place between two passes.
    """

    model: CVAE
    weights: WeightVector
    beta: float
    inputs: tuple[Tensor, Tensor]
    order: Sequence[Tensor]
    noise: Sequence[Tensor]

    @staticmethod
    def prepare(model: CVAE, weights: WeightVector, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the encoder's and the decoder's first layer, a row per image; z is still zero."""
        (encoder, *_), (decoder, *_) = stacks(model)
        z = images.new_zeros(len(labels), model.latent_dims)
        return tuple(
            _with_label_and_one(values, labels, label_count(layer), len(weights.matrices[layer]))
            for values, layer in ((images, encoder), (z, decoder))
        )

    def __post_init__(self):
        self._is_gaussian = self.model.likelihood == "gaussian"
        self._kl_weight = self.beta * self.model.prior_std**-2

        sizes = [len(picked) for picked in self.order]
        self._buffers = {size: _Buffers(self.model, self.weights, size) for size in set(sizes)}
        self._posterior = self.weights.values.new_empty(sum(sizes), 2 * self.model.latent_dims)
        self._posteriors = [(part, *part.chunk(2, dim=1)) for part in self._posterior.split(sizes)]
        self._errors = self.weights.values.new_zeros(len(sizes), 2)  # per batch: reconstruction and squared error
        self._squared_error = self._errors[:, 1].unbind()

    @torch.no_grad()
    def step(self, batch: int) -> None:
        """Compute the gradient of batch number `batch`."""
        picked, noise = self.order[batch], self.noise[batch]
        posterior, mu, log_sigma = self._posteriors[batch]
        buf = self._buffers[len(picked)]
        encoder, decoder, sigma, x_hat, error = buf.encoder, buf.decoder, buf.sigma, buf.x_hat, buf.error

        for inputs, stack in zip(self.inputs, (encoder, decoder), strict=True):
            torch.index_select(inputs, 0, picked, out=stack.input)
        encoder.forward(out=posterior)
        torch.exp(log_sigma, out=sigma)
        torch.addcmul(mu, sigma, noise, out=buf.z)
        decoder.forward(out=x_hat)

        if not self._is_gaussian:
            self._errors[batch, 0] = F.binary_cross_entropy_with_logits(x_hat, buf.x, reduction="sum")
        torch.sigmoid(x_hat, out=x_hat)
        torch.sub(x_hat, buf.x, out=error)
        torch.dot(buf.flat_error, buf.flat_error, out=self._squared_error[batch])
        if self._is_gaussian:  # d (x̂ - x)² / d logit = 2 (x̂ - x) x̂ (1 - x̂)
            _sigmoid_backward(error, x_hat, grad_input=error)
        decoder.backward(error, scale=2 if self._is_gaussian else 1)  # d cross-entropy / d logit = x̂ - x

        torch.mm(decoder.d_first, buf.z_weights, out=buf.d_z)
        torch.add(buf.d_z, mu, alpha=self._kl_weight, out=buf.d_mu)  # d KL / d μ = μ / s²
        torch.mul(buf.d_z, noise, out=buf.d_log_sigma)  # z = μ + σ · noise
        buf.d_log_sigma.add_(sigma, alpha=self._kl_weight).mul_(sigma).sub_(self.beta)  # d KL / d ln σ = σ² / s² - 1
        encoder.backward(buf.d_posterior)

    def sums(self) -> Tensor:
        """Return the four sums over all batches of the pass, (4,) on the device."""
        mu, log_sigma = self._posterior.chunk(2, dim=1)
        squares = (mu.square() + (2 * log_sigma).exp()).sum()
        reconstruction, squared_error = self._errors.sum(0)
        if self._is_gaussian:
            reconstruction = squared_error
        return torch.stack((reconstruction, squares, log_sigma.sum(), squared_error))


class _Stack:
    """The layers of the encoder or of the decoder for a batch of `n`, with an activation after all but the last.

    `widths`: the number of inputs of each layer. `activation` works in place. `activation_backward(d, y)` turns d,
    the gradient at the activation's output y, into that at its input, also in place.
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
        """Compute `out`, (n, out_features), from `input`, which the caller has filled. No activation at the end."""
        for layer, matrix, hidden in zip(self._inputs, self._matrices, self._hidden, strict=False):
            torch.mm(layer, matrix, out=hidden)
            self._activation(hidden)
        torch.mm(self._inputs[-1], self._matrices[-1], out=out)

    def backward(self, d_out: Tensor, scale: float = 1) -> None:
        """Compute the gradients of all matrices, and `d_first`, from the gradient at `out`, `scale` · `d_out`.

        `d_first`: the gradient at the first layer's output before its activation, (n, its out_features).
        """
        for layer in range(len(self._hidden), 0, -1):
            gradient, d_hidden = self._gradients[layer], self._d_hidden[layer - 1]
            torch.addmm(gradient, self._transposed_inputs[layer], d_out, beta=0, alpha=scale, out=gradient)
            torch.addmm(d_hidden, d_out, self._transposed_weights[layer], beta=0, alpha=scale, out=d_hidden)
            self._activation_backward(d_hidden, self._hidden[layer - 1])
            d_out, scale = d_hidden, 1
        torch.mm(self._transposed_inputs[0], d_out, out=self._gradients[0])


class _Buffers:
    """The memory that a batch of `n` images is computed in."""

    def __init__(self, model: CVAE, weights: WeightVector, n: int):
        encoder, decoder = stacks(model)
        functions = (IN_PLACE[name] for name in ACTIVATIONS[model.activation])
        self.encoder, self.decoder = (
            _Stack(
                [weights.matrices[layer] for layer in layers],
                [weights.gradients[layer] for layer in layers],
                [layer.weight.shape[1] for layer in layers],
                *in_place,
                n,
            )
            for layers, in_place in zip((encoder, decoder), functions, strict=True)
        )
        image_dims, latent_dims = model.schema.image_dims, model.latent_dims
        self.x, self.z = self.encoder.input[:, :image_dims], self.decoder.input[:, :latent_dims]
        self.z_weights = weights.matrices[model.decoder][:latent_dims].t()
        self.x_hat, self.error = weights.values.new_empty(2, n, image_dims)
        self.flat_error = self.error.view(-1)
        self.sigma, self.d_z = weights.values.new_empty(2, n, latent_dims)
        self.d_posterior = weights.values.new_empty(n, 2 * latent_dims)
        self.d_mu, self.d_log_sigma = self.d_posterior.chunk(2, dim=1)


def stacks(model: CVAE) -> tuple[list[ConditionalLinear | nn.Linear], list[ConditionalLinear | nn.Linear]]:
    """Return the layers of the encoder and those of the decoder, each in the order that data flows through them."""
    encoder = [model.encoder, *model.encoder_hidden, model.posterior]
    return encoder, [model.decoder, *model.decoder_hidden, model.pixel_logits]


def _with_label_and_one(values: Tensor, labels: Tensor, classes: int, width: int) -> Tensor:
    """Return `values` (n, k) followed by one-hot labels, a column of ones and columns of zeros: (n, width)."""
    count, columns = values.shape
    wide = values.new_zeros(count, width)
    wide[:, :columns] = values
    if classes:
        wide[:, columns : columns + classes] = F.one_hot(labels, classes)
    wide[:, columns + classes] = 1
    return wide
