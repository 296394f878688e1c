"""The environments that torchrun and SLURM's srun set, as they were on real ones (torch 2.10, SLURM 22.05), and such as are incomplete."""

import os
import re
import subprocess
import sys

import pytest

from medssl.errors import UserError
from medssl.train.launch import Launch, first_host, read_launch

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "gpu03",
    "MASTER_PORT": "29400",
}
BATCH = {  # what a batch script sees
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "gpu[03-04]",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SRUN = BATCH | {  # and a task of a step in it
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
}


def without(environment: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}


def test_without_a_launcher_a_process_is_alone():
    assert read_launch({"PATH": "/bin"}) == Launch(rank=0, size=1, local=0)


def test_torchrun_s_variables_say_rank_size_local_rank_and_where_to_meet():
    assert read_launch(TORCHRUN) == Launch(rank=3, size=4, local=1, gpu=1, address="gpu03", port=29400)


def test_srun_s_tasks_meet_at_the_first_machine_of_the_step():
    found = read_launch(SRUN)
    assert (found.rank, found.size, found.local, found.address) == (3, 4, 1, "gpu03")


def test_on_one_machine_srun_s_tasks_need_no_resolver():
    one = {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "a-name-that-nobody-knows", "SLURM_LOCALID": "3"}
    assert read_launch(SRUN | one).address == "127.0.0.1"


def test_a_batch_script_and_a_step_of_one_task_are_one_process():
    """SLURM_NTASKS is 4 in the script, too: who starts medssl there without srun has one process, not the first of four."""
    assert read_launch(BATCH).size == 1
    assert read_launch(SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).size == 1


def test_a_torchrun_that_srun_started_is_heard():
    assert read_launch(SRUN | TORCHRUN) == read_launch(TORCHRUN)


def test_two_jobs_and_two_steps_of_a_job_meet_at_different_ports():
    ports = [read_launch(SRUN | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": step}).port for job in ("4711", "4712") for step in ("0", "1", "2")]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 30_000 for port in ports)  # below Linux's ephemeral ports, which begin at 32768


def test_a_user_s_own_address_and_port_come_before_what_srun_says():
    found = read_launch(SRUN | {"MASTER_ADDR": "10.1.0.3", "MASTER_PORT": "4000"})
    assert (found.address, found.port) == ("10.1.0.3", 4000)


@pytest.mark.parametrize(
    ("seen", "gpus"),
    [  # what two tasks on a node saw, with two GPUs, and with one
        pytest.param([("0,1", "2"), ("0,1", "2")], [0, 1], id="--gpus-per-node=2"),
        pytest.param([("0", "2"), ("1", "2")], [0, 0], id="--gpus-per-task=1"),
        pytest.param([("0", "1"), ("0", "1")], [0, 1], id="--gpus-per-node=1, which leaves one process without"),
    ],
)
def test_each_task_takes_a_gpu_of_those_that_slurm_shows_it(seen, gpus):
    tasks = [
        SRUN | {"SLURM_LOCALID": str(local), "CUDA_VISIBLE_DEVICES": devices, "SLURM_GPUS_ON_NODE": on_node}
        for local, (devices, on_node) in enumerate(seen)
    ]
    assert [read_launch(task).gpu for task in tasks] == gpus


@pytest.mark.parametrize("name", ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"])
def test_a_variable_of_torchrun_that_is_missing_is_named(name):
    with pytest.raises(UserError, match=rf"do not say which one it is \('{name}'\)\. Start it with torchrun or srun, or unset"):
        read_launch(without(TORCHRUN, name))


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID"])
def test_a_variable_of_srun_that_is_missing_is_named(name):
    with pytest.raises(UserError, match=rf"^srun started this process, but .*{name}"):
        read_launch(without(SRUN, name))


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST"])
def test_a_step_that_does_not_say_where_to_meet_is_refused_unless_the_user_says(name):
    partial = without(SRUN, name)
    with pytest.raises(UserError, match="MASTER_ADDR"):
        read_launch(partial)
    assert read_launch(partial | {"MASTER_ADDR": "gpu03", "MASTER_PORT": "4000"}).rank == 3


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"RANK": "4"}, id="rank beyond the size"),
        pytest.param({"RANK": "-1"}, id="negative rank"),
        pytest.param({"LOCAL_RANK": "4"}, id="local rank beyond the size"),
        pytest.param({"MASTER_ADDR": ""}, id="no address"),
        pytest.param({"WORLD_SIZE": "four"}, id="no number"),
        pytest.param({"MASTER_PORT": ""}, id="no port"),
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match="torchrun"):
        read_launch(TORCHRUN | wrong)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [  # compressed by `scontrol show hostlist`, expanded by `scontrol show hostnames`; the last one expanded only
        ("gpu[03-05,09],login1", "gpu03"),
        ("a1x[1-2],a2x1", "a1x1"),
        ("node1-ib,node2-ib", "node1-ib"),
        ("n[9-11]", "n9"),
        ("rack1n[01-02],rack2n01", "rack1n01"),
        ("gpu-a-07", "gpu-a-07"),
        ("dgx[001-064]", "dgx001"),
        ("rack[1-2]n[01-04],x", "rack1n01"),
    ],
)
def test_the_first_machine_of_a_list_is_the_one_that_slurm_names_first(nodes, first):
    assert first_host(nodes) == first


def test_an_empty_list_has_no_first_machine():
    assert first_host("") == ""


@pytest.mark.slow
def test_the_variables_that_torchrun_really_sets_are_understood(tmp_path):
    say = tmp_path / "say.py"
    say.write_text("from medssl.train.launch import read_launch\nprint(read_launch(), flush=True)\n")
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", str(say)]
    said = subprocess.run(line, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True).stdout
    assert sorted(re.findall(r"rank=(\d), size=(\d), local=(\d)", said)) == [("0", "2", "0"), ("1", "2", "1")]
