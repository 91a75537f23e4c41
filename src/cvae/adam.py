"""Adam for one vector of weights."""

import torch

from cvae.weights import WeightVector


class Adam:
    """Adam (Kingma and Ba 2015) with torch's fused kernel and defaults: β 0.9 and 0.999, ε 1e-8.

    `torch.optim.Adam(fused=True)` makes the same numbers from the same kernel; what it does in Python at each
    step took a tenth of the time of training. The state lies on the device, so that a CUDA graph can hold a step.
    """

    def __init__(self, weights: WeightVector, learning_rate: float):
        self._weights, self._learning_rate = weights, learning_rate
        self.mean = torch.zeros_like(weights.values)  # of the gradient, decaying
        self.mean_square = torch.zeros_like(weights.values)
        self.steps = weights.values.new_zeros((), dtype=torch.float32)

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights by their gradient."""
        self.steps.add_(1)
        torch._fused_adam_(
            [self._weights.values],
            [self._weights.gradient],
            [self.mean],
            [self.mean_square],
            [],
            [self.steps],
            lr=self._learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
