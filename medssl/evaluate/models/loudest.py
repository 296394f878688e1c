"""Which slice of a volume spoke loudest: the one without which the prediction of the volume would be least sure."""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from scipy.special import logsumexp

from medssl.data.store import Windows
from medssl.data.volumes import Volumes
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.features import Images, extract


def loudest_slices(classifier: Classifier, features: Float[np.ndarray, "s d"]) -> Int[np.ndarray, " decisions"]:
    """The place of that slice among the slices of one volume, whose `features` these are: for the predicted class, or of several labels
    for each label, present or absent.

    Compared are log-odds, not probabilities: these round to 1 where the classifier is sure.
    """
    whole = _logits(classifier, classifier.pool(features, np.array([0])))[0]
    decisions = len(whole) if classifier.multilabel else 1
    if len(features) == 1:
        return np.zeros(decisions, np.int64)
    without = _logits(classifier, classifier.pool_without_each(features))
    if classifier.multilabel:
        return np.where(whole >= 0, without, -without).argmin(axis=0)
    predicted = whole.argmax()
    log_odds = without[:, predicted] - logsumexp(np.delete(without, predicted, axis=1), axis=1)
    return np.array([log_odds.argmin()])


def _logits(classifier: Classifier, pooled: np.ndarray) -> np.ndarray:
    return classifier.logits(torch.from_numpy(pooled).to(classifier.head.weight.device)).cpu().numpy()


class LoudestSlices:
    """Pictures of volumes: item v is the slice or window of volume v that speaks loudest, of several labels for the most probable one.
    `images`: the inputs of the store, whose type of numbers the pictures have. `part`: "slice" or "window"."""

    def __init__(self, classifier: Classifier, images: Images, volumes: Volumes, device: torch.device) -> None:
        self._classifier, self._images, self._volumes, self._device = classifier, images, volumes, device
        self._places: dict[int, int] = {}
        self.dtype, self.part = images.dtype, "window" if volumes.windowed else "slice"

    def __getitem__(self, volume: int) -> Shaped[np.ndarray, "c ..."]:
        return self._images[self._rows(volume)[self._place(volume)]]

    def where(self, volume: int) -> str:
        """Where that part lies in the volume, as "slice 5 of 40"; of a window, where its middle lies."""
        rows, place = self._rows(volume), self._place(volume)
        if not isinstance(self._images, Windows):
            return f"slice {place + 1} of {len(rows)}"
        middle, shape = self._images.centre(int(rows[place])), self._images.volumes.shapes[volume]
        axes = zip(("slice", "row", "column"), middle, shape, strict=True)
        return "window around " + ", ".join(f"{axis} {at + 1} of {length}" for axis, at, length in axes)

    def _rows(self, volume: int) -> Int[np.ndarray, " s"]:
        """The rows of the slices, or the numbers of the windows, of a volume."""
        return self._volumes.slices(np.array([volume])).rows

    def _place(self, volume: int) -> int:
        """The place of the loudest one among them, which is looked for once."""
        if volume not in self._places:
            features = extract(self._classifier.encoder, self._images, self._rows(volume), self._device)
            places = loudest_slices(self._classifier, features)
            probable = _logits(self._classifier, self._classifier.pool(features, np.array([0])))[0].argmax()
            self._places[volume] = int(places[probable if self._classifier.multilabel else 0])
        return self._places[volume]
