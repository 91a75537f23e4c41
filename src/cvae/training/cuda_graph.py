"""CUDA graphs: many small kernels recorded once, then launched together."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor


def captured(function: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """`function` itself, or on a CUDA `device` the same as a graph of its kernels, launched at once.

    What `function` reads, writes and returns must lie in the same memory at each call, and it must not wait
    for the device; the result is overwritten by the next call. The first call runs as it is, which also makes
    libraries ready; the second records; it and all later ones replay. If recording fails, one line says why,
    and calls go on as the first did.
    """
    return _Captured(function) if device.type == "cuda" else function


class _Captured:
    def __init__(self, function: Callable[[], Tensor]):
        self._function = function
        self._stream = torch.cuda.Stream()
        self._is_warm = self._is_refused = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._is_warm and not self._graph:
            self._record()
        if self._graph and not self._is_refused:
            self._graph.replay()
            return self._result
        self._is_warm = True
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._function()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def _record(self) -> None:
        self._graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:  # thread_local: what other threads do, such as the one that logs, does not spoil it
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = self._function()
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a recording that breaks off leaves its own behind
            self._is_refused = True  # and its graph is kept: torch's allocator may still ask it
            reason = str(error.__context__ or error).strip().split("\n")[0]
            print(f"train: no CUDA graph could be made ({reason}); going on without, which is slower", file=sys.stderr)
