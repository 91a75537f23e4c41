"""What a trained model is worth on images that it has not seen."""

import torch

from cvae.datasets import Split
from cvae.devices import to_device
from cvae.model import CVAE
from cvae.objective import held_out_noise, held_out_sums, means

ACTIVE_VARIANCE = 0.01


def evaluate(model: CVAE, split: Split, *, beta: float, seed: int) -> dict[str, float]:
    """The figures of metrics/test.json.

    `loss` (reconstruction + beta · kl), `reconstruction` and `kl`: means in nats per image; one draw of z per
    image, the same as in the curves of training. `active_units`: of the latent dimensions.
    """
    images, labels = to_device(split, next(model.parameters()).device)
    noise = held_out_noise(model, len(split), seed).to(images.device)
    sums = held_out_sums(model, images, labels, noise).cpu().double()
    return {**means(model, sums, len(split), beta), "active_units": active_units(model, images, labels)}


@torch.no_grad()
def active_units(model: CVAE, images: torch.Tensor, labels: torch.Tensor) -> int:
    """How many latent dimensions have a posterior mean whose variance over the images is above 0.01.

    Source: Burda, Grosse and Salakhutdinov 2016, section 2.4 (A_u > 10⁻²).
    """
    mu = torch.cat([model.encode(x, y)[0] for x, y in zip(images.split(1000), labels.split(1000), strict=True)])
    return int((mu.cpu().double().var(0, correction=0) > ACTIVE_VARIANCE).sum())
