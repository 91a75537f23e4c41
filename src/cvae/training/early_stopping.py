"""Early stopping: end the training once the held-out loss no longer falls, and keep the best epoch's weights."""

import math

import torch
from torch import Tensor, nn

from cvae.training.state import tensors_of


class EarlyStopping:
    """Keep a copy of `model` at the epoch with the lowest held-out loss; of equal ones, at the first.

    The training is over `patience` epochs after it (Prechelt 1998, "Early stopping, but when?", in the simplest form).
    With a `patience` of 0 it is never over, no copy is kept, and `best_epoch` stays 0.
    """

    def __init__(self, model: nn.Module, patience: int):
        self.best_epoch = 0
        self._model, self._patience = model, patience
        self._lowest, self._best = math.inf, {}

    def is_over(self, epoch: int) -> bool:
        """Return whether the training should end after `epoch`."""
        return 0 < self._patience <= epoch - self.best_epoch

    def update(self, epoch: int, loss: float) -> None:
        """Copy the model if `loss`, at the end of `epoch`, is the lowest so far."""
        if self._patience and loss < self._lowest:
            self.best_epoch, self._lowest = epoch, loss
            self._best = {name: tensor.detach().clone() for name, tensor in tensors_of(self._model).items()}

    @torch.no_grad()
    def restore_best(self) -> None:
        """Give the model its parameters and buffers of the best epoch, if a copy was kept."""
        for name, tensor in self._best.items():
            tensors_of(self._model)[name].copy_(tensor)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all that `resume` needs, on the CPU."""
        if not self._best:
            return {}
        best = {f"best {name}": tensor.to("cpu", copy=True) for name, tensor in self._best.items()}
        lowest = torch.tensor(self._lowest, dtype=torch.float64)
        return best | {"best_epoch": torch.tensor(self.best_epoch), "lowest_loss": lowest}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned; other entries are ignored."""
        if "best_epoch" not in state:
            return
        self.best_epoch, self._lowest = int(state["best_epoch"]), float(state["lowest_loss"])
        own = tensors_of(self._model)
        self._best = {name: state[f"best {name}"].to(tensor.device, copy=True) for name, tensor in own.items()}
