"""Adam on one vector of weights. `loop` needs it; writing our own instead of `torch.optim.Adam` is for speed only."""

import torch

from cvae.training.weights import ALIGNMENT, WeightVector

GPU_PARTS = 36  # the most that one kernel launch takes


class Adam:
    """Adam (Kingma and Ba 2015) with torch's fused kernel and default settings: β 0.9 and 0.999, ε 1e-8.

    `torch.optim.Adam(fused=True)` runs the same kernel with the same result, but its Python code at each step took a
    tenth of the training time. All state is on the device, so that a CUDA graph can hold a step.
    """

    def __init__(self, weights: WeightVector, learning_rate: float):
        self.mean = torch.zeros_like(weights.values)  # decaying mean of the gradient
        self.mean_square = torch.zeros_like(weights.values)
        self.steps = weights.values.new_zeros((), dtype=torch.float32)
        # On CUDA, a tensor on the device, which a graph reads at each replay; elsewhere, in full double precision.
        on_gpu = weights.values.is_cuda
        self.learning_rate = torch.tensor(
            learning_rate,
            dtype=torch.float32 if on_gpu else torch.float64,
            device=weights.values.device if on_gpu else "cpu",
        )
        # On a GPU, a block of threads handles up to 65,536 numbers of one vector: shorter vectors use more blocks.
        parts = GPU_PARTS if on_gpu else 1
        size = -(-len(weights.values) // (parts * ALIGNMENT)) * ALIGNMENT
        vectors = (weights.values, weights.gradient, self.mean, self.mean_square)
        self._values, self._gradient, self._mean, self._mean_square = (list(v.split(size)) for v in vectors)
        self._steps = [self.steps] * len(self._values)

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights from their gradient."""
        self.steps.add_(1)
        torch._fused_adam_(
            self._values,
            self._gradient,
            self._mean,
            self._mean_square,
            [],
            self._steps,
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
