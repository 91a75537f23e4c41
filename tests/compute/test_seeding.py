import numpy as np
import pytest
import torch

from cvae.compute.seeding import generator, numpy_generator, pack, unpack


def numbers_of_torch(seed: int, purpose: str) -> list[float]:
    return torch.rand(5, generator=generator(seed, purpose)).tolist()


def numbers_of_numpy(seed: int, purpose: str) -> list[float]:
    return numpy_generator(seed, purpose).rand(5).tolist()


@pytest.mark.parametrize("sample", [numbers_of_torch, numbers_of_numpy])
def test_numbers_depend_on_the_seed_and_the_purpose(sample):
    assert sample(0, "weights") == sample(0, "weights")
    assert len({tuple(sample(seed, purpose)) for seed in (0, 1) for purpose in ("weights", "noise")}) == 4


def test_a_packed_state_continues_with_the_same_numbers():
    numbers, other = numpy_generator(0, "test"), numpy_generator(1, "test")
    numbers.randint(0, 255, 1000, np.uint8)
    unpack(other, pack(numbers))
    assert np.array_equal(other.randint(0, 255, 1000, np.uint8), numbers.randint(0, 255, 1000, np.uint8))
