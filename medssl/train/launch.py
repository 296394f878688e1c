"""The rank of this process and the number of processes, from the variables of torchrun or SLURM's srun.

Imports no torch, as the command line uses this module, too.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from medssl.errors import UserError

_FIRST_HOST = re.compile(r"(?:[^,\[]|\[[^]]*\])*")  # up to the first comma outside of brackets
_NUMBERS = re.compile(r"\[(\d+)[^]]*\]")
_FIRST_PORT_AND_COUNT = 20_000, 10_000  # SLURM names no port: the numbers of job and step give one


@dataclass(frozen=True)
class Launch:
    """Process `rank` of `size`. `local`: its number on its machine. `gpu`: the number of its GPU among the visible ones. All processes
    meet at `address`:`port`."""

    rank: int = 0
    size: int = 1
    local: int = 0
    gpu: int = 0
    address: str = "127.0.0.1"
    port: int = 0


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that the environment describes. A job step of one task, and a shell in a job, are one process.

    Raises UserError if the launcher's variables are incomplete.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _parse_launch(environment, "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":  # set by srun only; batch scripts have SLURM_NTASKS
        return _parse_launch(
            {**_meeting_place(environment), **environment}, "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"
        )
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _parse_launch(environment, "A launcher", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    return Launch()


def first_host(nodes: str) -> str:
    """The first machine of SLURM's list: "gpu03" of "gpu[03-05,9],login1"."""
    found = _FIRST_HOST.match(nodes)
    return _NUMBERS.sub(r"\1", found[0]) if found else ""


def _meeting_place(environment: Mapping[str, str]) -> dict[str, str]:
    """Address and port for the tasks of a step; the user's own values come first. On one machine the address is local, as the machine
    may not be able to resolve its own name."""
    one_machine = environment.get("SLURM_STEP_NUM_NODES") == "1"
    job, step = (environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    first, count = _FIRST_PORT_AND_COUNT
    return {
        "MASTER_ADDR": "127.0.0.1" if one_machine else first_host(environment.get("SLURM_STEP_NODELIST", "")),
        "MASTER_PORT": str(first + (31 * int(job) + int(step)) % count) if job.isdecimal() and step.isdecimal() else "",
    }


def _parse_launch(environment: Mapping[str, str], launcher: str, *names: str) -> Launch:
    """`names`: the names of the variables for rank, size and local rank."""
    try:
        rank, size, local, port = (int(environment[name]) for name in (*names, "MASTER_PORT"))
        found = Launch(rank, size, local, _gpu_index(environment, local), environment["MASTER_ADDR"], port)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{launcher} started this process, but {', '.join(names)}, MASTER_ADDR and MASTER_PORT do not say which one it is ({error}). "
            "Start it with torchrun or srun, or unset these variables."
        ) from None
    if not (0 <= rank < size and 0 <= local < size and found.address):
        raise UserError(
            f"{launcher} says that this is process {rank} of {size}, {local} on its machine, at {found.address or 'no address'}. "
            "Start it with torchrun or srun, or set MASTER_ADDR to a name of the first machine."
        )
    return found


def _gpu_index(environment: Mapping[str, str], local: int) -> int:
    """With srun --gpus-per-task=1 each process sees only its own GPU, while the job has several on the machine."""
    gpus_of_job = environment.get("SLURM_GPUS_ON_NODE", "0")
    sees_one_gpu = environment.get("CUDA_VISIBLE_DEVICES", ",").count(",") == 0
    return 0 if sees_one_gpu and gpus_of_job.isdecimal() and int(gpus_of_job) > local else local
