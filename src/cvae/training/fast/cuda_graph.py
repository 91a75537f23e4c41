"""Optional speed: CUDA graphs, which record many small kernels once and then launch them together."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor


def replayed(function: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Return `function` unchanged or, on a CUDA `device`, a version that replays its kernels as one graph.

    `function` must read, write and return the same memory at each call, and must not wait for the device. Each call
    overwrites the previous result. The first call runs `function` directly, which also initialises CUDA's libraries.
    The second records the graph and replays it, as do all later ones. If recording fails, one line says why, and
    `function` keeps running directly.
    """
    return _Replayed(function) if device.type == "cuda" else function


class _Replayed:
    def __init__(self, function: Callable[[], Tensor]):
        self._function = function
        self._stream = torch.cuda.Stream()
        self._is_warm = self._has_failed = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._is_warm and not self._graph:
            self._record()
        if self._graph and not self._has_failed:
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
        try:  # thread_local: CUDA calls in other threads, such as the one that logs, do not break the recording
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = self._function()
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a failed recording leaves its own stream as the current one
            self._has_failed = True  # the graph is kept, since torch's allocator may still refer to it
            reason = str(error.__context__ or error).strip().split("\n")[0]
            print(f"train: no CUDA graph could be made ({reason}); training goes on, more slowly", file=sys.stderr)
