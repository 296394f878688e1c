"""Acceptance on a GPU, in three calls that `benchmarks/gpu.sh` makes. Each result is one JSON line, written as soon as it is known, so a
call that is cut off loses only what it had not measured yet.

    python -m acceptance right     what the device computes, beside the CPU                     at most 3 minutes
    python -m acceptance fast      images/s beside the limits of the card and beside lightly    at most 7 minutes
    python -m acceptance learns    CIFAR-10: accuracy of the nearest neighbours, by the minute  at most 6 minutes

    __main__.py      the command line, and the measurements of each call in their order
    record.py        the file of results
    subjects.py      networks, methods, batches and feeds that are measured
    numbers.py       right: views, losses, gradients, look-up
    states.py        right: encoder, resume, a bad step, host waits
    machinery.py     right: out of memory, memory of the support set, processes
    timing.py        how long a step takes, once rounds agree
    speed.py         fast: ceiling, loop, views, feeding, compiling, profile
    surroundings.py  fast: the card itself, look-up, monitors, checkpoints
    beside.py        fast: lightly
    learning.py      learns
    cifar.py         the archive of CIFAR-10

Needed: torch 2.11 or newer, torchvision, timm, pandas, pyarrow, scikit-learn and what these need, and the packages in wheels.txt. lightly
is optional. `--tiny --device cpu` runs all of it in seconds, which tests the programs and says nothing about speed.
"""
