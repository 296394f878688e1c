"""One classifier of a label-fraction study, scored once: what results, intervals and subgroups are made of."""

from dataclasses import dataclass

import numpy as np

Group = tuple[float, str, str, str]  # fraction, its name, mode, initialisation


@dataclass(frozen=True)
class Cell:
    """`labels`: the fraction's name, "10pct"; `draw`: the number of its label draw; `prob`: float64 [test images, classes], before
    `temperature`."""

    fraction: float
    labels: str
    draw: int
    mode: str
    init: str
    n_labels: int
    n_patients: int
    prob: np.ndarray
    temperature: float = 1.0

    @property
    def group(self) -> Group:
        """What all draws of an amount of labels, mode and initialisation share."""
        return self.fraction, self.labels, self.mode, self.init
