"""All weights of a model as one vector."""

import torch
from torch import Tensor, nn

from cvae.model import CVAE, ConditionalLinear

ALIGNMENT = 8  # rows of a matrix come in eights: GPUs load several numbers at once, from addresses so divisible


class WeightVector:
    """The weights of `model` in one vector, `values`, and their gradient in another, `gradient`.

    Each layer is a stretch of both, and one matrix: a row for each input, one for each label if the layer is
    conditional, one for its bias, and rows of zeros up to a multiple of eight. The model's parameters and
    their `.grad` become views of these, so that the model goes on as before, while one call updates all of
    it, or sums it over processes.
    """

    def __init__(self, model: CVAE):
        layers = model.layers()
        shapes = [(-(-sum(_rows(layer)) // ALIGNMENT) * ALIGNMENT, layer.weight.shape[0]) for layer in layers]
        sizes = [rows * columns for rows, columns in shapes]
        self.values = layers[0].weight.detach().new_zeros(sum(sizes))
        self.gradient = torch.zeros_like(self.values)
        self.matrices = [part.view(shape) for part, shape in zip(self.values.split(sizes), shapes, strict=True)]
        self.gradients = [part.view(shape) for part, shape in zip(self.gradient.split(sizes), shapes, strict=True)]
        for layer, matrix, gradient in zip(layers, self.matrices, self.gradients, strict=True):
            for parameter, view in _parameters(layer, matrix):
                view.copy_(parameter.detach())
                parameter.data = view
            for parameter, view in _parameters(layer, gradient):
                parameter.grad = view


def _rows(layer: ConditionalLinear | nn.Linear) -> list[int]:
    """How many rows of the layer's matrix are for its inputs, its labels and its bias."""
    labels = len(layer.label_weight) if isinstance(layer, ConditionalLinear) else 0
    return [layer.weight.shape[1], labels, 1]


def _parameters(layer: ConditionalLinear | nn.Linear, matrix: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """The layer's parameters, each with its view of the layer's matrix."""
    inputs, labels, bias = matrix[: sum(_rows(layer))].split(_rows(layer))
    pairs = [(layer.weight, inputs.t()), (layer.bias, bias[0])]
    return [*pairs, (layer.label_weight, labels)] if isinstance(layer, ConditionalLinear) else pairs
