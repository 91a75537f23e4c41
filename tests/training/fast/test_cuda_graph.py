"""When a function is recorded, replayed or called. Stand-ins replace CUDA's streams and graphs, which need a GPU."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from helpers.edited_models import make

from cvae.model import CVAE
from cvae.training.fast.cuda_graph import replayed
from cvae.training.loop import Training

CUDA = torch.device("cuda", 0)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        pass


class FakeCuda:
    """Stand-ins for torch.cuda that log each recording, replay and call; with `error`, recording fails."""

    def __init__(self, monkeypatch, error: str | None = None):
        self.log = []
        fake = self

        class Graph:
            def replay(self) -> None:
                fake.log.append("replay")

        @contextmanager
        def graph(_graph, stream, capture_error_mode):
            fake.log.append("record")
            yield
            if error:
                raise RuntimeError(error)

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "set_stream", lambda _: fake.log.append("back to the caller's stream"))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", graph)

    def function(self) -> torch.Tensor:
        self.log.append("call")
        return torch.tensor(len(self.log))


def test_on_a_cpu_the_function_is_returned_unchanged():
    def function() -> torch.Tensor:
        return torch.zeros(1)

    assert replayed(function, torch.device("cpu")) is function


def test_the_first_call_runs_the_second_records_and_all_later_ones_replay(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    function = replayed(cuda.function, CUDA)
    first, second, third = function(), function(), function()
    assert cuda.log == ["call", "record", "call", "replay", "replay"]
    assert (first, second) == (1, 3)
    assert third is second, "a replay writes its result to the same memory"


def test_if_recording_fails_calls_still_run_and_one_line_says_why(monkeypatch, capsys):
    cuda = FakeCuda(monkeypatch, error="operation not permitted when stream is capturing\nmore about it")
    function = replayed(cuda.function, CUDA)
    for _ in range(3):
        function()
    assert cuda.log == ["call", "record", "call", "back to the caller's stream", "call", "call"]
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "no CUDA graph could be made (operation not permitted when stream is capturing)" in message


@needs_gpu
def test_training_is_recorded_as_a_graph(digits, capsys):
    settings = {"epochs": 3, "batch_size": 128, "learning_rate": 1e-3, "beta": 1.0, "seed": 0}
    list(Training(make(CVAE).to(CUDA), *digits, **settings))
    assert "no CUDA graph" not in capsys.readouterr().err


@needs_gpu
def test_a_graph_computes_what_the_function_does():
    x = torch.zeros(1000, device="cuda")

    def function() -> torch.Tensor:
        x.add_(1)
        return x.sum()

    graph = replayed(function, torch.device("cuda"))
    assert [int(graph()) for _ in range(4)] == [1000, 2000, 3000, 4000]


@needs_gpu
def test_if_recording_fails_the_function_still_runs_and_the_callers_stream_is_current(capsys):
    x = torch.zeros(1000, device="cuda")

    def function() -> torch.Tensor:
        x.add_(1)
        x.sum().item()  # waits for the device, which a graph cannot do
        return x.sum()

    graph = replayed(function, torch.device("cuda"))
    assert [int(graph()) for _ in range(3)] == [1000, 2000, 3000]
    assert capsys.readouterr().err.count("no CUDA graph could be made") == 1
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
