"""Restoring a saved state; tests/pipeline/test_checkpoint.py resumes complete trainings from it."""

import torch
from torch import nn

from cvae.training.adam import Adam
from cvae.training.state import restore, state_of


def make() -> tuple[nn.Module, Adam]:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return model, Adam(model.parameters(), 0.1)


def step(model: nn.Module, optimiser: Adam) -> None:
    """Take one step whose loss depends on a buffer and on torch's random numbers."""
    optimiser.zero_grad()
    model(torch.arange(6.0).view(2, 3)).square().sum().backward()
    optimiser.step()


def test_a_restored_model_takes_the_same_steps():
    model, optimiser = make()
    for _ in range(3):
        step(model, optimiser)
    state = state_of(model, optimiser)
    step(model, optimiser)

    other, its_optimiser = make()
    step(other, its_optimiser)  # random numbers, weights and moments of its own
    restore(other, its_optimiser, state)
    step(other, its_optimiser)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_a_saved_state_does_not_change_with_the_model():
    model, optimiser = make()
    step(model, optimiser)
    state = state_of(model, optimiser)
    before = {name: tensor.clone() for name, tensor in state.items()}
    step(model, optimiser)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
