import torch
from helpers.models import MNIST

from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.training.adam import Adam


def test_adam_equals_torchs_to_the_bit():
    ours, theirs = (CVAE(MNIST, hidden_dims=12).initialise(generator(0, "weights")) for _ in range(2))
    own, optimiser = Adam(ours.parameters(), 1e-2), torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True)
    numbers = torch.Generator().manual_seed(0)
    for _ in range(20):
        own.zero_grad()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.grad = torch.randn(other.shape, generator=numbers)
            mine.grad = other.grad.clone()
        own.step()
        optimiser.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_parameter_without_a_gradient_stays_as_it_is():
    moving, still = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimiser = Adam([moving, still], 0.1)
    moving.sum().backward()
    optimiser.step()
    assert torch.equal(still, torch.ones(3))
    torch.testing.assert_close(moving.detach(), torch.full((3,), 0.9))


def test_a_loaded_state_continues_to_the_bit():
    parameter = torch.ones(3, requires_grad=True)
    first = Adam([parameter], 0.1)
    for _ in range(3):
        first.zero_grad()
        parameter.square().sum().backward()
        first.step()
    copy = parameter.detach().clone().requires_grad_()
    second = Adam([copy], 0.1)
    second.load_state_dict(first.state_dict())
    for optimiser, values in ((first, parameter), (second, copy)):
        optimiser.zero_grad()
        values.square().sum().backward()
        optimiser.step()
    assert torch.equal(parameter, copy)
