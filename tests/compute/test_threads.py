"""Work that torch's threads share out, an item each."""

import threading
import time

import pytest
import torch

from cvae.compute.threads import in_parallel

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_those_of_one_thread_in_the_order_of_the_items(threads):
    weights = torch.randn(300, 300, requires_grad=True)
    items = [torch.randn(100, 300) for _ in range(20)]
    results = list(in_parallel(lambda item: (item @ weights).sigmoid(), items, CPU))
    torch.set_num_threads(1)
    assert all(torch.equal(result, (item @ weights).sigmoid()) for item, result in zip(items, results, strict=True))
    assert not any(result.requires_grad for result in results)


def test_each_thread_computes_alone_and_the_caller_keeps_its_threads(threads):
    here = threading.get_ident()
    seen = list(in_parallel(lambda _: (threading.get_ident(), torch.get_num_threads()), range(50), CPU))
    assert {count for _, count in seen} == {1}
    assert {thread == here for thread, _ in seen} == {threads == 1}
    assert torch.get_num_threads() == threads


def test_an_error_ends_the_work_at_once(threads):
    done = []

    def fail(number: int) -> None:
        if number == 3:
            raise MemoryError(number)
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(MemoryError):
        list(in_parallel(fail, range(1000), CPU))
    assert len(done) < 20
