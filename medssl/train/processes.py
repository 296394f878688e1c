"""Several processes of one training: they connect, agree after each step whether to stop, and wait for one another.

Each process makes its share of every batch; the method gathers the embeddings (`nn/gather.py`), so the results are those of one process.
Only the first process prints, writes files and evaluates.
"""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medssl.errors import LostProcess, UserError
from medssl.train.launch import Launch, read_launch

_STEP_TIMEOUT = timedelta(minutes=10)  # after a longer wait in a step, a process counts as lost
_WAIT_TIMEOUT = timedelta(days=7)  # the others wait while one process prepares data or evaluates
_LOST_SIGNS = ("closed by peer", "reset by peer", "Broken pipe", "NCCL", "Timed out", "timed out", "Connection", "gloo", "Socket")
T = TypeVar("T")


class Team:
    """This process and the others of its training. A single process is a team of size 1, without any communication."""

    def __init__(self, launch: Launch) -> None:
        self.rank, self.size, self.local = launch.rank, launch.size, launch.local
        group = dist.new_group(backend="gloo", timeout=_WAIT_TIMEOUT) if self.size > 1 else None
        assert not isinstance(group, int), "every process is a member"
        self._long_timeout_group = group
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def latest_maximum(self, number: int) -> int:
        """The largest number of all processes; to be called once in every step. With several processes, the result is that of the step
        before, so that no process waits for it."""
        if self.size == 1:
            return number
        value = torch.tensor(number)
        work = dist.all_reduce(value, dist.ReduceOp.MAX, group=self._long_timeout_group, async_op=True)
        assert work is not None
        previous, self._pending = self._pending, (work, value)
        if previous is None:
            return 0
        previous[0].wait()
        return int(previous[1])

    def minimum(self, number: int) -> int:
        """The smallest number of all processes."""
        value = torch.tensor(number)
        if self.size > 1:
            dist.all_reduce(value, dist.ReduceOp.MIN, group=self._long_timeout_group)
        return int(value)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier(group=self._long_timeout_group)

    def broadcast_from_first(self, value: T) -> T:
        """The value of the first process, in every process."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, group=self._long_timeout_group)
        return values[0]

    @contextmanager
    def local_first(self) -> Iterator[None]:
        """One process of each machine runs the block first, then the others, which find the result of the first."""
        if self.local:
            self.wait()
        yield
        if not self.local:
            self.wait()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """Connect the processes that the launcher started. Raises UserError if they cannot connect, LostProcess if one ends later."""
    launch = read_launch()
    if launch.size == 1:
        yield Team(launch)
        return
    os.environ |= {"MASTER_ADDR": launch.address, "MASTER_PORT": str(launch.port)}
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _check_host_name(launch.address)
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", rank=launch.rank, world_size=launch.size, timeout=_STEP_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The {launch.size} processes did not meet at {launch.address}:{launch.port}: {_first_line(error)}.") from None
    try:
        yield Team(launch)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST_SIGNS):
            raise
        raise LostProcess(f"Another process of this training has ended ({_first_line(error)}); its own message says why.") from error
    finally:
        dist.destroy_process_group()


def wrap_distributed(method: nn.Module) -> nn.Module:
    """The method in DistributedDataParallel, which sums gradients during the backward pass. Buffers need no exchange, as they are equal
    on all devices (`nn/sync_norm.py`, `nn/gather.py`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has another name for broadcast_buffers, which 2.10 does not know
        return DistributedDataParallel(method, broadcast_buffers=False, gradient_as_bucket_view=True)


def device_of_process(device: torch.device) -> torch.device:
    """The GPU of this process; every process has its own. Raises UserError if a machine has fewer GPUs than processes."""
    launch = read_launch()
    if device.type != "cuda" or launch.size == 1:
        return device
    if launch.gpu >= torch.cuda.device_count():
        raise UserError(
            f"Process {launch.local} of this machine has no GPU: torch sees {torch.cuda.device_count()}. Start as many processes as GPUs."
        )
    return torch.device("cuda", launch.gpu)


def tell_idle_gpus(team: Team, device: torch.device) -> str:
    """A note where one process has several GPUs, of which it uses one; "" elsewhere."""
    visible = torch.cuda.device_count() if device.type == "cuda" and team.size == 1 else 1
    if visible == 1:
        return ""
    return (
        f"{visible} GPUs are visible, and this process uses one of them ({device}). To train on all of them: torchrun --nproc-per-node "
        f"{visible} -m medssl pretrain ..."
    )


def _check_host_name(address: str) -> None:
    """Raises UserError for an unknown host name: torch would try to resolve the name for more than ten minutes, without a message."""
    try:
        socket.getaddrinfo(address, None)
    except socket.gaierror as error:
        raise UserError(
            f"{address} is no name that this machine knows ({error.strerror}), and the processes are to meet there. Set MASTER_ADDR to a "
            "name or number of the first machine that all machines know."
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
