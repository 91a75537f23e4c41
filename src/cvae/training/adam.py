"""Adam, in one call of torch's fused kernel.

`torch.optim.Adam(fused=True)` gives the same result to the bit. But making one imports torch's compiler, which takes
seconds, and its Python code took a tenth of the training time.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Adam:
    """Adam (Kingma and Ba 2015) with torch's default settings: β 0.9 and 0.999, ε 1e-8.

    Parameters without a gradient stay as they are. `learning_rate` becomes a scalar tensor; change it in place. On a
    GPU it is there, like all other state, so that a CUDA graph can hold a step.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float):
        self._parameters = list(parameters)
        first = self._parameters[0]
        # A CUDA graph reads it on the GPU at each replay. On other devices it stays on the CPU, in double precision.
        self.learning_rate = torch.tensor(learning_rate, dtype=torch.float64)
        if first.is_cuda:
            self.learning_rate = self.learning_rate.to(first.device, torch.float32)
        self.param_groups = [{"lr": self.learning_rate}]  # where torch's optimisers have it
        self._steps = first.new_zeros((), dtype=torch.float32, requires_grad=False)
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]  # running means of the gradient
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]  # and of its square

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients."""
        self._steps.add_(1)
        moments = zip(self._parameters, self._means, self._squares, strict=True)
        moving = [(p, p.grad, mean, square) for p, mean, square in moments if p.grad is not None]
        parameters, gradients, means, squares = (list(column) for column in zip(*moving, strict=True))
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [self._steps] * len(parameters),
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict:
        """Return the number of steps and the two means of each parameter, in the form of `torch.optim.Adam`'s."""
        moments = enumerate(zip(self._means, self._squares, strict=True))
        return {"state": {n: {"step": self._steps, "exp_avg": m, "exp_avg_sq": s} for n, (m, s) in moments}}

    def load_state_dict(self, state: dict) -> None:
        """Load a state that `state_dict` returned."""
        for number, own in self.state_dict()["state"].items():
            for name, tensor in own.items():
                tensor.copy_(state["state"][number][name])


def set_learning_rate(group: dict, rate: float) -> None:
    """Set the learning rate of a group of parameters, in place if it is a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
