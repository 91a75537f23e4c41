import math

import pytest
import torch
from torch import nn

from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.support.errors import UserError
from cvae.training.checks import refuse_non_finite, require_one_decoder, require_weights

ROW = {"epoch": 7, "train_reconstruction": 1.0, "train_kl": 1.0, "test_reconstruction": 1.0, "test_kl": 1.0}


def test_weights_of_another_type_or_without_a_shape_are_refused_by_name():
    require_weights(CVAE(hidden_dims=4))
    with pytest.raises(UserError, match=r"^the model's 0\.weight is torch\.float64, but training needs torch\.float32"):
        require_weights(nn.Sequential(nn.Linear(2, 2).double()))
    with pytest.raises(UserError, match=r"^the model's 0\.weight has no shape yet; give the layer its input size$"):
        require_weights(nn.Sequential(nn.LazyLinear(2)))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_only_a_bernoulli_needs_one_decoder_for_training_and_pictures(likelihood, monkeypatch):
    model = CVAE(hidden_dims=4, likelihood=likelihood).initialise(generator(0, "weights"))
    z, y = torch.ones(3, model.latent_dims), torch.tensor([0, 1, 2])
    require_one_decoder(model, z, y)
    monkeypatch.setattr(model, "decode", lambda z, y: torch.sigmoid(2 * model.logits(z, y)))
    if likelihood == "gaussian":
        require_one_decoder(model, z, y)
    else:
        with pytest.raises(UserError, match="decode is not the sigmoid of its logits"):
            require_one_decoder(model, z, y)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", [name for name in ROW if name != "epoch"])
def test_any_part_of_the_loss_that_is_not_finite_is_named_with_its_epoch(part, value):
    refuse_non_finite(ROW, 0.5)
    message = rf"^training diverged in epoch 7: {part} is {value}; a lower learning_rate \(now 0\.5\) is"
    with pytest.raises(UserError, match=message):
        refuse_non_finite(ROW | {part: value}, 0.5)
