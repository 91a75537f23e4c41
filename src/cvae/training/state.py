"""Copy the state of a model and of its steps, and restore it, so that interrupted training can resume."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cvae.training.adam import set_learning_rate

if TYPE_CHECKING:
    from cvae.training.loop import Steps


def state_of(steps: "Steps") -> dict[str, Tensor]:
    """Return copies, on the CPU, of everything in `steps` that a step changes.

    These are the model's parameters and buffers, the state and the learning rates of each optimiser, the numbers among
    the attributes of `steps`, and torch's own random generators, from which layers such as dropout sample.
    """
    state = {f"model {name}": tensor for name, tensor in tensors_of(steps.model).items()}
    state |= {f"number {name}": torch.tensor(value) for name, value in vars(steps).items() if _is_number(value)}
    for name, optimiser in _optimisers(steps).items():
        for number, group in enumerate(optimiser.param_groups):
            state[f"rate {name} {number}"] = torch.tensor(float(group["lr"]), dtype=torch.float64)
        for number, parts in optimiser.state_dict()["state"].items():
            state |= {f"{name} {number} {part}": tensor for part, tensor in parts.items() if isinstance(tensor, Tensor)}
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
    device = steps.images.device
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return state | {"torch": torch.get_rng_state()} | cuda


@torch.no_grad()
def restore(steps: "Steps", state: dict[str, Tensor]) -> None:
    """Restore what `state_of` returned for steps of the same kind."""
    for name, tensor in tensors_of(steps.model).items():
        tensor.copy_(state[f"model {name}"])
    for key, tensor in state.items():
        if key.startswith("number "):
            setattr(steps, key.removeprefix("number "), tensor.item())
    for name, optimiser in _optimisers(steps).items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key.startswith(f"{name} "):
                _, number, part = key.split(" ", 2)
                moments.setdefault(int(number), {})[part] = tensor.clone()  # torch's optimisers keep it
        optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
        for number, group in enumerate(optimiser.param_groups):
            set_learning_rate(group, float(state[f"rate {name} {number}"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], steps.images.device)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's parameters and buffers by name."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _optimisers(steps: "Steps") -> dict[str, torch.optim.Optimizer]:
    return {name: value for name, value in vars(steps).items() if hasattr(value, "param_groups")}


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float)
