"""Optional speed: all parameters of a model as one vector, which one call can update or sum over processes.

Within the vector, each linear layer is one matrix, on which the derived gradients build.
"""

from functools import partial

import torch
from torch import Tensor, nn

from cvae.model import ConditionalLinear

ALIGNMENT = 8  # sizes are multiples of this, since GPUs load several numbers at once from aligned addresses
GPU_PARTS = 36  # Adam's kernel spreads over more of a GPU's processors if its input comes in several parts


class WeightVector:
    """Hold all parameters of `model` in one vector, `values`, and their gradients in another, `gradient`.

    The parameters and their `.grad` become views of the two vectors, so the model works as before. A parameter used in
    several places is stored once. One that the loss does not depend on keeps a zero gradient.

    A linear layer becomes one matrix: a row for each input, a row for each label if it is conditional, a row for the
    bias, and rows of zeros up to a multiple of eight. `matrices` and `gradients` map each layer to its matrix. Any
    other parameter becomes a vector, padded likewise. All are in the order of the modules.
    """

    def __init__(self, model: nn.Module):
        first = next(model.parameters())

        placed: set[nn.Parameter] = set()
        layers, shapes, views = [], [], []  # a view: a function that pairs parameters with their parts of a matrix
        for module in model.modules():
            own = [parameter for parameter in module.parameters(recurse=False) if parameter not in placed]
            if _is_linear(module) and len(own) == len(_rows(module)):
                layers.append((module, len(shapes)))
                shapes.append((_aligned(sum(_rows(module))), len(module.weight)))
                views.append(partial(_parameters_of_linear, module))
            else:
                shapes += [(_aligned(parameter.numel()), 1) for parameter in own]
                views += [partial(_parameter_alone, parameter) for parameter in own]
            placed.update(own)

        sizes = [rows * columns for rows, columns in shapes]
        self.values = first.detach().new_zeros(sum(sizes))
        self.gradient = torch.zeros_like(self.values)
        matrices, gradients = (
            [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
            for vector in (self.values, self.gradient)
        )
        for view, matrix, gradient in zip(views, matrices, gradients, strict=True):
            for parameter, place in view(matrix):
                place.copy_(parameter.detach())
                parameter.data = place
            for parameter, place in view(gradient):
                parameter.grad = place
        self.matrices = {layer: matrices[number] for layer, number in layers}
        self.gradients = {layer: gradients[number] for layer, number in layers}

    def parts(self) -> list[Tensor]:
        """Return the vector for `Adam`, on a GPU in several parts, each with its part of the gradient as `.grad`."""
        count = GPU_PARTS if self.values.is_cuda else 1
        size = -(-len(self.values) // (count * ALIGNMENT)) * ALIGNMENT
        parts = list(self.values.split(size))
        for part, gradient in zip(parts, self.gradient.split(size), strict=True):
            part.grad = gradient
        return parts


def _is_linear(module: nn.Module) -> bool:
    """Return whether `module` is a linear layer with a bias, and neither it nor the weight is parametrized."""
    names = {name for name, _ in module.named_parameters(recurse=False)}
    if isinstance(module, ConditionalLinear):
        return names - {"label_weight"} == {"weight", "bias"}
    return isinstance(module, nn.Linear) and names == {"weight", "bias"}


def _rows(layer: ConditionalLinear | nn.Linear) -> list[int]:
    """Return the number of rows for the layer's inputs, its labels if it is conditional, and its bias."""
    return [layer.weight.shape[1], *filter(None, [label_count(layer)]), 1]


def label_count(layer: ConditionalLinear | nn.Linear) -> int:
    """Return how many labels `layer` has a row of weights for, 0 if it is not conditional."""
    table = getattr(layer, "label_weight", None)
    return 0 if table is None else len(table)


def _parameters_of_linear(layer: ConditionalLinear | nn.Linear, matrix: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Return each of the layer's parameters with its view of `matrix`."""
    inputs, *labels, bias = matrix[: sum(_rows(layer))].split(_rows(layer))
    pairs = [(layer.weight, inputs.t()), (layer.bias, bias[0])]
    return [*pairs, (layer.label_weight, labels[0])] if labels else pairs


def _parameter_alone(parameter: nn.Parameter, column: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    return [(parameter, column[: parameter.numel()].view(parameter.shape))]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
