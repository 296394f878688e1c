"""The graphs of torch.compile that three steps of a method make, beside the plain steps: `python tests/one_graph.py CASE ...`, a line each.

A program of its own, as the compiler cannot look into the checks of shapes that tests add to all functions. A case is a method, with
options as JSON after a colon: `moco:{"version": "v3"}`. A line is {"graphs": 1, "equal": true}: whether losses and state have the same
bits.
"""

import json
import sys

import torch
from small import shallow_encoder, small_method, train
from torch._dynamo.testing import CompileCounterWithBackend

from medssl.train.one_graph import compile_step


def compare(case: str) -> dict[str, int | bool]:
    """Fails where the step is more than one graph at a time."""
    name, _, options = case.partition(":")
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("eager")
    plain, compiled = (small_method(name, shallow_encoder(), **json.loads(options or "{}")) for _ in range(2))
    compile_step(compiled, fullgraph=True, backend=graphs)
    losses = train(compiled, 3)
    after = compiled.state_dict()
    equal = losses == train(plain, 3) and all(torch.equal(value, after[key]) for key, value in plain.state_dict().items())
    return {"graphs": graphs.frame_count, "equal": equal}


if __name__ == "__main__":
    for case in sys.argv[1:]:
        print(json.dumps(compare(case)), flush=True)
