"""learns: CIFAR-10 without labels, and after each part of the time the accuracy of the 20 nearest neighbours."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch

from acceptance.cifar import Cifar
from acceptance.record import Record, Row
from acceptance.subjects import CLASSES, Network, Setting, views_maker
from acceptance.timing import spent
from medssl import methods, plugins
from medssl.data.loader import Batches, Loader
from medssl.evaluate.models import extract
from medssl.nn import vote
from medssl.train import optimisers
from medssl.train.bad_steps import Applied
from medssl.train.feed import Feed, copy_to_gpu
from medssl.train.loop import Plan, fit
from medssl.types import Step

_NEIGHBOURS, _EVALUATIONS, _TINY_EVALUATIONS = 20, 6, 2
_LR, _BATCH, _WARM_UP = 2e-3, 512, 0.05


class Learner:
    """A method that trains on the pictures for about `seconds`: the number of its steps follows from the speed of some trial steps."""

    def __init__(self, name: str, data: Cifar, seconds: float, setting: Setting) -> None:
        self._name, self._data, self._setting = name, data, setting
        self._there = copy_to_gpu(data.images, setting.device)
        self._batch = min(_BATCH, len(data.train) // 4)
        self._make_views = views_maker("natural", 32)
        trial, optimiser = self._build(4000)
        batches, plan = iter(self._feed(10**6)), Plan(10**6, _LR, 0, setting.device, setting.precision)
        train = lambda steps: fit(trial, islice(batches, steps), optimiser, plan)  # noqa: E731
        train(1 if setting.tiny else 20)
        self._evaluations = _TINY_EVALUATIONS if setting.tiny else _EVALUATIONS
        self.steps = max(self._evaluations, int(seconds / spent(train, 1 if setting.tiny else 60, setting)))

    def _build(self, steps: int) -> tuple[Any, torch.optim.Optimizer]:
        config = plugins.find("methods", self._name).Config
        heads = {"hidden": 256, "width": 64} if self._setting.tiny else {}
        chosen = methods.fit_to(config(**heads), len(self._data.train), steps)
        encoder = Network("resnet18", 32).encoder(self._setting.tiny)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            method = methods.build(chosen, encoder, CLASSES).to(self._setting.device)
        return method, optimisers.make("adamw", method, _LR, 0.05)

    def _feed(self, steps: int) -> Feed:
        images = None if self._there is not None else self._data.images
        batches = Batches(images, self._data.train, None, 0, self._batch, labels=self._data.labels)
        loader = Loader(batches, steps, pin=self._setting.device.type == "cuda")
        return Feed(loader, self._setting.device, self._make_views, self._there)

    def train(self, note: Callable[[Row], None]) -> Row:
        """`note` is called with the accuracy after each part of the training; the clock stands still meanwhile. Returns the last row."""
        method, optimiser = self._build(self.steps)
        setting, every = self._setting, max(1, self.steps // self._evaluations)
        row: Row = {"method": self._name, "total_steps": self.steps, "batch": self._batch}
        begin, paused = time.perf_counter(), 0.0

        def on_step(done: int, step: Step, lr: float, applied: Applied) -> bool:  # noqa: ARG001 - the loop's call
            nonlocal paused
            if done % every == 0 or done == self.steps:
                setting.wait()
                asked = time.perf_counter()
                trained = asked - begin - paused
                row.update(step=done, epochs=done * self._batch / len(self._data.train), training_minutes=trained / 60)
                row.update(images_per_s=done * self._batch / trained, loss=float(step.loss.detach()), knn_top1=self._accuracy(method))
                note(row)
                paused += time.perf_counter() - asked
            return False

        plan = Plan(self.steps, _LR, int(_WARM_UP * self.steps), setting.device, setting.precision)
        fit(method, self._feed(self.steps), optimiser, plan, on_step=on_step)
        return row

    def _accuracy(self, method: Any) -> float:
        """The share of test pictures whose class is that of most of their neighbours among the training pictures."""
        data, device = self._data, self._setting.device
        train, test = (torch.from_numpy(extract(method.encoder, data.images, rows, device, 1024)) for rows in (data.train, data.test))
        classes = torch.eye(CLASSES, dtype=torch.float64)[torch.from_numpy(data.labels[data.train])]
        votes = vote(train.to(device), classes.to(device), test.to(device), _NEIGHBOURS)
        return float(np.mean(votes.argmax(1).cpu().numpy() == data.labels[data.test]))


def learn(name: str, data: Cifar, seconds: float, setting: Setting, record: Record) -> Row:
    """Trains the method; each accuracy is a line of the record on its own, and the last one is returned."""
    chance = 1 / CLASSES
    row = Learner(name, data, seconds, setting).train(lambda found: record.write(f"accuracy {name}", found))
    return {**row, "ok": bool(np.isfinite(row["loss"])) and (setting.tiny or row["knn_top1"] > 3 * chance)}
