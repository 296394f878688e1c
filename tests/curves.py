"""Golden loss curves: 20 steps of each method in float64 on noise. `make methods` writes those of new methods (`python tests/curves.py`),
`python tests/curves.py NAME...` those of methods that were changed on purpose.

A curve says that a method still computes what it did when its loss was checked against its reference; it is no reference itself.
"""

import sys
from pathlib import Path

from small import shallow_encoder, small_method, train

from medssl import plugins

FOLDER = Path(__file__).parent / "golden" / "curves"
STEPS, SAMPLES = 20, 8


def curve(name: str) -> list[float]:
    """The losses of 20 steps of gradient descent."""
    return train(small_method(name, shallow_encoder()).double(), STEPS, lr=0.05, size=SAMPLES)


def on_record() -> set[str]:
    """The methods that have one."""
    return {file.stem for file in FOLDER.glob("*.txt")}


def read(name: str) -> list[float]:
    return [float(line) for line in (FOLDER / f"{name}.txt").read_text("utf-8").split()]


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted({*plugins.names("methods")} - on_record()):
        (FOLDER / f"{name}.txt").write_text("".join(f"{loss:.12g}\n" for loss in curve(name)), "utf-8")
