"""Optional speed: record the operations of a model as it runs, and undo the changes that running makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


@contextmanager
def undone(model: nn.Module) -> Iterator[None]:
    """Restore the model's tensors and plain attributes, and torch's random state, at the end."""
    tensors = [(tensor, tensor.detach().clone(), tensor.grad) for tensor in (*model.parameters(), *model.buffers())]
    attributes = plain_attributes(model)
    device = tensors[0][0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for tensor, value, gradient in tensors:
            tensor.copy_(value)
            tensor.grad = gradient
    for path, name in plain_attributes(model).keys() - attributes.keys():
        delattr(model.get_submodule(path), name)
    for (path, name), value in attributes.items():
        setattr(model.get_submodule(path), name, value)


def plain_attributes(model: nn.Module) -> dict[tuple[str, str], object]:
    """Return all modules' attributes that are numbers, strings or None: a network may count its steps in one."""
    kinds = (bool, int, float, str, type(None))
    return {
        (path, name): value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, kinds)
    }


class Operations(TorchDispatchMode):
    """Record the operations torch runs, each with the shapes of its tensors and its other arguments."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch's compiler, which takes a second

    def __init__(self):
        super().__init__()
        self._recorded: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace != "profiler":  # torch's optimisers mark their steps for its profiler
            self._recorded.append((str(function), repr(tree_map(_comparable, (args, kwargs)))))
        return function(*args, **(kwargs or {}))

    def difference(self, other: "Operations") -> str:
        """Return the first pair of operations that differ, by name; empty if none does."""
        for mine, theirs in zip_longest(self._recorded, other._recorded, fillvalue=("none",)):
            if mine != theirs:
                return f"{mine[0]}, not {theirs[0]}"
        return ""


def _comparable(argument: object) -> object:
    """Return the shape of a tensor, a setting as it is, and the type of any other object."""
    if isinstance(argument, Tensor):
        return argument.shape
    settings = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
    return argument if isinstance(argument, settings) else type(argument)
