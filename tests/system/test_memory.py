"""Too little memory: a real limit on what a process may take beyond its imports."""

import errno
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from cvae.artifacts import saved_model
from cvae.support.errors import UserError
from cvae.support.faults import explained, memory_shortage

# Run a stage with an address space that is limited to this number of bytes beyond what its imports took.
LIMITED = """
import resource, runpy, sys
import stages  # first: it puts src/ on sys.path
import torch, pandas, pyarrow.parquet, PIL.Image
import cvae.data.download, cvae.evaluation.evaluate, cvae.figures.rendering, cvae.training.loop, cvae.tracking.live
torch.set_num_threads(1)
stage, more = sys.argv[1], int(sys.argv[2])
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + more, taken + more))
sys.argv = [f"stages/{stage}.py"]
runpy.run_module(f"stages.{stage}", run_name="__main__")
"""
WIDE = 16_384  # a model of 105 MB
needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")


@pytest.fixture(scope="module")
def wide(repository, tmp_path_factory):
    """The repository with a wide model in place of the trained one."""
    from cvae.compute.seeding import generator
    from cvae.data.dataset import mnist_like
    from cvae.model import CVAE

    wide = repository.copy(tmp_path_factory.mktemp("wide") / "cvae", ".git", "cache")
    saved_model.save(CVAE(mnist_like(), hidden_dims=WIDE).initialise(generator(0, "weights")), wide.root / "data/model")
    wide.set(hidden_dims=WIDE)
    return wide


@needs_limits
@pytest.mark.parametrize(
    ("stage", "more", "keys"),  # MB: enough for the model but not its activations, or for neither
    [
        ("train", 300, f"hidden_dims (now {WIDE}) or batch_size (now 128) or latent_dims (now 2)"),
        ("embed", 300, f"hidden_dims (now {WIDE}) or latent_dims (now 2)"),
        pytest.param("evaluate", 150, f"hidden_dims (now {WIDE})", marks=pytest.mark.long),
        pytest.param(
            "render",
            150,
            f"hidden_dims (now {WIDE}) or latent_dims (now 2) or grid_size (now 20)",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_stage_without_memory_names_the_parameters_to_lower(wide, stage, more, keys):
    outputs = {file: file.read_bytes() for file in wide.root.glob("[dmp]*/**/*") if file.is_file()}
    done = wide.run(sys.executable, "-c", LIMITED, stage, str(more * 2**20), status=1)
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"{stage}: memory is too small")
    assert message.endswith(f"; in params.yaml, lower {keys}")
    assert "Traceback" not in done.stderr
    assert outputs == {file: file.read_bytes() for file in wide.root.glob("[dmp]*/**/*") if file.is_file()}


@pytest.mark.parametrize(
    ("take", "message"),
    {
        "torch": (lambda: torch.empty(2**50), "memory is too small (for 4,294,967,296 MiB more)"),
        "numpy": (lambda: np.empty(2**58, np.uint8), "memory is too small (for 256. PiB more)"),
        "pyarrow": (lambda: pa.allocate_buffer(2**60), "memory is too small"),
        "python": (lambda: bytes(2**60), "memory is too small"),
    }.values(),
)
def test_the_memory_errors_of_all_libraries_are_recognised(take, message):
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        take()
    assert memory_shortage(raised.value) == message


# The messages of torch on devices that this machine may not have
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …"),
            "the GPU's memory is too small (for 20.00 GiB more)",
        ),
        (
            RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, …). Tried to allocate 256 bytes on …"),
            "the GPU's memory is too small (for 1 MiB more)",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "the GPU's memory is too small",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:82] . DefaultCPUAllocator: not enough memory: you tried to …"),
            "memory is too small",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory is too small"),
    ],
)
def test_the_memory_errors_of_other_devices_are_recognised(error, message):
    assert memory_shortage(error) == explained(error) == message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError("no number"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        ValueError("out of memory"),
    ],
)
def test_bugs_and_network_errors_keep_their_traceback(error):
    assert explained(error) is None


def test_a_user_error_is_reported_unchanged():
    assert explained(UserError("data/raw: missing")) == "data/raw: missing"
