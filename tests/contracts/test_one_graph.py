"""Every method's forward pass and loss is one graph for torch.compile, which the next steps use again, with the bits of the plain step."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import shallow_encoder, small_method

from medssl import plugins
from medssl.train.one_graph import compile_method

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
OPTIONS = [
    'nnclr:{"clusters": 3, "neighbours": "other_patients", "cancel": 2, "mask_same_patient": true}',
    'pnnclr:{"top_k": 4, "terms": 4, "stop_gradient": true, "momentum": 0}',
    'pnnclr_paper:{"clusters": 3}',
    'moco:{"version": "v3"}',
    'moco:{"symmetric": true, "mask_same_patient": true}',
    'dcl:{"weighted": true, "mask_same_patient": true}',
]


def compared(*cases: str) -> list[dict[str, int | bool]]:
    script = Path(__file__).parent.parent / "one_graph.py"
    run = subprocess.run([sys.executable, str(script), *cases], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_steps_of_every_method_and_its_options_are_one_graph_and_give_the_same_bits():
    cases = [*plugins.names("methods"), *OPTIONS]
    found = dict(zip(cases, compared(*cases), strict=True))
    assert found == {case: {"graphs": 1, "equal": True} for case in cases}


@pytest.mark.parametrize(
    ("device", "processes", "micro_batch", "whole"),
    [(CUDA, 1, None, True), (CPU, 1, None, False), (CUDA, 2, None, False), (CUDA, 1, 4, False)],
)
def test_the_step_is_compiled_on_one_gpu_and_the_encoders_elsewhere(device, processes, micro_batch, whole):
    method = small_method("byol", shallow_encoder())
    method.encoder.micro_batch = micro_batch
    compile_method(method, device, processes)
    assert ("forward" in vars(method)) == whole
    assert [part.backbone._compiled_call_impl is None for part in (method.encoder, method.target_encoder)] == [whole] * 2
