import pytest
import torch

from cvae.compute.devices import describe, open_device
from cvae.support.errors import UserError


def test_an_opened_device_repeats_to_the_bit_and_has_no_denormal_numbers():
    open_device("cpu", threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert (torch.tensor(1e-38) * 0.1).item() == 0


def test_an_absent_device_is_reported_in_one_line():
    absent = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UserError, match=rf"^params\.yaml: device is '{absent}', which torch cannot use here[^\n]*$"):
        open_device(absent, threads=1)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_an_unsupported_precision_is_reported_in_one_line(precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    message = rf"^params\.yaml: precision is '{precision}', but CPU, 1 thread supports only float32$"
    with pytest.raises(UserError, match=message):
        open_device("cpu", threads=1, precision=precision)


def test_a_device_is_described_with_its_threads_and_processes():
    device = open_device("cpu", threads=2)
    assert describe(device) == "CPU, 2 threads"
    open_device("cpu", threads=1)
    assert describe(device, processes=2) == "2 × CPU, 1 thread"
