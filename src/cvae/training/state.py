"""Copy the state of a model and its optimiser, and restore it, so that interrupted training can resume."""

from collections import defaultdict

import torch
from torch import Tensor, nn


def state_of(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies, on the CPU, of the model's parameters and buffers and of the optimiser's state.

    They include the state of torch's own random generators, from which layers such as dropout sample.
    """
    state = {f"model {name}": tensor for name, tensor in _tensors(model).items()}
    for number, parts in optimiser.state_dict()["state"].items():
        state |= {f"optimiser {number} {part}": tensor for part, tensor in parts.items()}
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    device = next(model.parameters()).device
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return state | {"torch": torch.get_rng_state()} | cuda


@torch.no_grad()
def restore(model: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Restore, in place, what `state_of` returned for a model and an optimiser of the same kind."""
    for name, tensor in _tensors(model).items():
        tensor.copy_(state[f"model {name}"])
    moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        if name.startswith("optimiser "):
            _, number, part = name.split(" ", 2)
            moments[int(number)][part] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": dict(moments)})
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], next(model.parameters()).device)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
