"""Restoring a saved state; tests/pipeline/test_checkpoint.py resumes complete trainings from it."""

from types import SimpleNamespace

import torch
from torch import nn

from cvae.training.adam import Adam, set_learning_rate
from cvae.training.state import restore, state_of


def make() -> SimpleNamespace:
    """Return steps with all that an edited `Steps` may have: two optimisers of different kinds and a counter."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    first, second = Adam(model[0].parameters(), 0.1), torch.optim.AdamW(model[1].parameters(), 0.1)
    return SimpleNamespace(model=model, images=torch.zeros(1), first=first, second=second)


def step(steps: SimpleNamespace) -> None:
    """Take one step whose loss depends on a buffer and on torch's random numbers; its rates fall with the count."""
    steps.count = getattr(steps, "count", 0) + 1
    for optimiser in (steps.first, steps.second):
        set_learning_rate(optimiser.param_groups[0], 0.9 * float(optimiser.param_groups[0]["lr"]))
        optimiser.zero_grad()
    (steps.model(torch.arange(6.0).view(2, 3)).square().sum() / steps.count).backward()
    steps.first.step()
    steps.second.step()


def test_restored_steps_continue_to_the_bit():
    steps = make()
    for _ in range(3):
        step(steps)
    state = state_of(steps)
    step(steps)

    for others_steps in (0, 1):
        other = make()
        for _ in range(others_steps):
            step(other)
        restore(other, state)
        step(other)
        assert other.count == steps.count == 4
        for name, tensor in steps.model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], tensor), name


def test_a_saved_state_does_not_change_with_the_model():
    steps = make()
    step(steps)
    state = state_of(steps)
    before = {name: tensor.clone() for name, tensor in state.items()}
    step(steps)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
