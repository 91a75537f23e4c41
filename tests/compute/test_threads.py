"""Work that torch's threads share out, an item each."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from cvae.compute.threads import in_parallel


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Forgetful(nn.Linear):
    """A layer that keeps its input on the way, and returns the wrong result if another thread has replaced it."""

    def forward(self, item):
        self.kept = item
        time.sleep(0.001)
        return super().forward(self.kept)


def test_results_are_those_of_one_thread_in_the_order_of_the_items(threads):
    model = Forgetful(300, 300)
    items = [torch.randn(100, 300) for _ in range(40)]
    results = list(in_parallel(model, lambda own, item: own(item), items))
    torch.set_num_threads(1)
    assert all(torch.equal(result, model(item)) for item, result in zip(items, results, strict=True))
    assert not any(result.requires_grad for result in results)


def test_each_thread_computes_alone_and_shares_the_weights(threads):
    model, here = nn.Linear(2, 2), threading.get_ident()

    def look(own: nn.Module, _: int) -> tuple[bool, int, bool]:
        return threading.get_ident() == here, torch.get_num_threads(), own.weight is model.weight

    assert set(in_parallel(model, look, range(50))) == {(threads == 1, 1, True)}
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == threads


def test_an_error_ends_the_work_at_once(threads):
    done = []

    def fail(_: nn.Module, number: int) -> None:
        if number == 3:
            raise MemoryError(number)
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(MemoryError):
        list(in_parallel(nn.Linear(1, 1), fail, range(1000)))
    assert len(done) < 20
