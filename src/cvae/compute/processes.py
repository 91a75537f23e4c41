"""Train in several processes started by torchrun, each with a share of every batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from cvae.compute.threads import processes_of
from cvae.support.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process's number, `rank`, from 0, and how many processes train together, `count`."""

    rank: int = 0
    count: int = 1

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch. Parts differ in length by at most one, and may be empty."""
        return batch.tensor_split(self.count)[self.rank]

    def sum(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes.

        Raises:
            UserError: another process has ended. Only gloo reports this; NCCL waits until torchrun ends this process.
        """
        if self.count > 1:
            self._together(distributed.all_reduce, tensor)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace `tensor` by the first process's. Raises the same error as `sum`."""
        if self.count > 1:
            self._together(distributed.broadcast, tensor, 0)

    def from_first(self, value: object) -> object:
        """Return the first process's `value`. Raises the same error as `sum`."""
        values = [value]
        if self.count > 1:
            self._together(distributed.broadcast_object_list, values, 0)
        return values[0]

    def _together(self, operation: Callable, *arguments: object) -> None:
        try:
            operation(*arguments)
        except RuntimeError as error:  # from gloo or NCCL
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"process {self.rank} of {self.count} lost contact with the others ({reason})") from None


ONE_PROCESS = Processes()


@contextmanager
def connected(device: torch.device) -> Iterator[Processes]:
    """Connect the processes that torchrun started to train on `device`, and yield them; `ONE_PROCESS` without torchrun.

    Raises:
        UserError: the device cannot be shared, WORLD_SIZE is not a number, or the processes could not connect.
    """
    count = processes_of("WORLD_SIZE")
    if count == 1:
        yield ONE_PROCESS
        return
    if device.type == "mps":
        raise UserError(f"params.yaml: device is mps, which only one process can use, not {count}; try cpu")
    try:
        if device.type == "cuda":
            distributed.init_process_group("nccl", device_id=device)
        else:
            distributed.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[-1]  # NCCL puts the cause on the last line
        raise UserError(f"the {count} processes of the training could not connect ({reason})") from None
    done = False
    try:
        yield Processes(distributed.get_rank(), count)
        done = True
    finally:
        if done or device.type == "cpu":  # after an error, NCCL processes would wait for each other
            distributed.destroy_process_group()
