"""A function run in two processes that speak gloo over the loopback: what each of them returned."""

import importlib.util
import tempfile
import time
from datetime import timedelta
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

WORLD = 2
set_forkserver_preload(["torch"])  # imported once, by the process that the others are forked from: it takes seconds


def _process(rank: int, file: str, function: str, arguments: tuple[Any, ...], folder: str, seconds: float) -> None:
    """`function` of the test's `file`, which no import finds by its name."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("test", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=WORLD, timeout=timedelta(seconds=seconds))
    torch.save(getattr(module, function)(rank, *arguments), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def returned(file: str, function: str, *arguments: Any, seconds: float = 60) -> list[Any]:
    """What `function(rank, *arguments)` of a file returned in each process, tensors in dictionaries and lists. No process outlives this."""
    with tempfile.TemporaryDirectory() as folder:
        started = start_processes(_process, (file, function, arguments, folder, seconds), WORLD, join=False, start_method="forkserver")
        assert started is not None
        try:
            ends = time.monotonic() + seconds
            while not started.join(timeout=1):
                assert time.monotonic() < ends, "two processes do not come to an end"
        finally:
            for process in started.processes:  # typed as None there
                process.kill()  # pyright: ignore[reportAttributeAccessIssue]
                process.join()  # pyright: ignore[reportAttributeAccessIssue]
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
