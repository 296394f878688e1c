"""A classifier as a model of MLflow: a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take.

    data/model.pt2                  images -> {"probabilities": [N, k] float64, "features": [N, d]}
    data/classifier.json            the card
    data/statistics.safetensors     how far the training images lie from their middle

The model takes prepared images [N, C, H, W] in [0, 1], or files in a column `image`: DICOM files or pictures in base64, which are read and
prepared as by `medssl predict`, in worker processes with limits of time and memory. It answers with the columns of `medssl predict`. Files
need medssl where the model runs; MLflow finds this module by its name, so the name must stay.
"""

import base64
import binascii
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import nn

from medssl import plugins
from medssl.config import Data, resolve_part
from medssl.data.contents import kind_of_file
from medssl.data.decode import ImagePreparer, PreparedImage
from medssl.data.modality import keep_modality
from medssl.data.preparation import VERSION
from medssl.data.sources import image_file
from medssl.data.store import first_difference
from medssl.data.volume_slices import source_has_slices
from medssl.data.workers import run_in_workers
from medssl.encoder.artefact import probe_image
from medssl.encoder.export.program_file import load_program, save_program
from medssl.errors import ReadError, UserError
from medssl.evaluate.models.classifier import Classifier
from medssl.evaluate.models.classifier_card import ClassifierCard
from medssl.evaluate.models.ood import FeaturesWithThumbnail, Statistics
from medssl.evaluate.prediction_table import decide
from medssl.tracking.mlflow_models import DATA, DIGEST, PROGRAM, refuse_request, write_mlmodel
from medssl.types import Record, Source, edges

CARD, STATISTICS = "classifier.json", "statistics.safetensors"
_FILES = ("dicom", "raster")  # kinds of files; a NIfTI file holds many images, and its header may name another file
_TOLERANCE = 1e-3
_BATCH_SIZE = 256
Image = Float[np.ndarray, "c h w"]


class _Program(nn.Module):
    """Probabilities and features of images. The file that holds it needs torch alone."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.classifier.encoder(images)
        return {"probabilities": self.classifier.probabilities(features), "features": features}


def write(classifier: Classifier, statistics: Statistics, card: ClassifierCard, path: Path) -> None:
    """Write the classifier (on the CPU, in evaluation mode) into the new folder `path`."""
    data = path / DATA
    data.mkdir(parents=True)
    save_program(_Program(classifier).eval(), card.channels, card.size, data / PROGRAM)
    (data / CARD).write_text(card.model_dump_json(indent=1), "utf-8")
    save_file({name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in vars(statistics).items()}, data / STATISTICS)
    types = {name: "string" if name.startswith(("prediction", "left_out")) else "double" for name in _columns(card)}
    metadata = {DIGEST: card.weights_sha256, "intensity": card.intensity, "licence": card.licence, "intended_use": card.intended_use}
    packages = ("mlflow", "torch", "numpy", "medssl")
    write_mlmodel(path, (card.channels, *edges(card.size)), types, loader=__name__, packages=packages, metadata=metadata)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> "ServedClassifier":  # noqa: ARG001 - as MLflow calls it
    """The model in the folder `path`, which is `data/`; MLflow calls this."""
    return ServedClassifier(Path(path))


class ServedClassifier:
    """The model in a folder `data/`. Raises UserError where program and card do not belong together, or where this version of medssl
    prepares images in another way than that of the training."""

    def __init__(self, folder: Path) -> None:
        self._card = ClassifierCard.model_validate_json((folder / CARD).read_bytes())
        _check_preparation(self._card)
        self._program: Callable[..., dict[str, torch.Tensor]] = load_program(folder / PROGRAM)
        self._statistics = Statistics(**{name: part.numpy() for name, part in load_file(folder / STATISTICS).items()})
        self._lock = threading.Lock()  # a server calls `predict` from several threads
        probe, expected = probe_image(self._card.channels, self._card.size), np.asarray(self._card.probe.probabilities)
        if not np.abs(self._program(probe)["probabilities"].numpy()[0] - expected).max() <= _TOLERANCE:  # NaN is no small number
            raise UserError(f"The probe image gives other probabilities than {CARD} says. Program and card do not belong together.")

    def predict(self, data: Any) -> pd.DataFrame:
        """A row for each image: probabilities, decisions, `out_of_distribution`, and `left_out` with the reason where an image has none.

        `data`: images [N, C, H, W] in [0, 1] as an array or as nested lists; or a table, a mapping or a list of mappings with `image`,
        which is a file in base64 or its bytes. Raises MLflow's error for any other request.
        """
        files = _files(data)
        with self._lock:
            images = self._check(data) if files is None else self._prepare(files)
            return self._table(images)

    def _check(self, data: Any) -> list[Image | ReadError]:
        shape = (self._card.channels, *edges(self._card.size))
        try:
            images = np.asarray(data, np.float32)
        except (ValueError, TypeError, OverflowError):
            images = np.zeros(0, np.float32)
        if images.shape[1:] != shape or not len(images):
            wanted = ", ".join(map(str, shape))
            raise refuse_request(f"Images are numbers of shape [N, {wanted}], or files in base64 in a column 'image'.")
        if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise refuse_request("The numbers of prepared images are from 0 to 1. Divide those of 8 bits by 255, and those of 16 by 65535.")
        return [images[row] for row in range(len(images))]

    def _prepare(self, files: Sequence[Any]) -> list[Image | ReadError]:
        """The files, prepared. They lie in a folder that only this user can read, and are deleted again."""
        settings = {**self._card.config["data"], "path": "", "source": {"name": "image_file"}, "label": ""}
        data = resolve_part(Data, settings, "data")
        with tempfile.TemporaryDirectory(prefix="medssl-") as place:
            root, outcomes = Path(place).resolve(), list[Record | ReadError]()
            for number, content in enumerate(files):
                try:
                    (root / str(number)).write_bytes(_bytes(content))
                    outcomes.append(_only_image(root / str(number), data, self._card.volumes))
                except ReadError as error:
                    outcomes.append(error)
            records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
            prepared = run_in_workers(ImagePreparer, (root, data), records, data.limits)
            results = [next(prepared) if isinstance(outcome, Record) else outcome for outcome in outcomes]
            prepared.close()
        return [_to_unit_range(result) if isinstance(result, PreparedImage) else result for result in results]

    def _table(self, images: Sequence[Image | ReadError]) -> pd.DataFrame:
        usable = [image for image in images if not isinstance(image, ReadError)]
        rows = iter([row for start in range(0, len(usable), _BATCH_SIZE) for row in self._rows(usable[start : start + _BATCH_SIZE])])
        columns = _columns(self._card)
        empty = [None] * (len(columns) - 1)
        cells = [[*empty, image.reason] if isinstance(image, ReadError) else [*next(rows), ""] for image in images]
        return pd.DataFrame(cells, columns=pd.Index(columns), dtype=object)

    @torch.no_grad()
    def _rows(self, images: Sequence[Image]) -> list[list[Any]]:
        batch = torch.from_numpy(np.stack(images))
        output = self._program(batch)
        prob, features = output["probabilities"].numpy(), torch.cat([output["features"], FeaturesWithThumbnail()(batch)], dim=1).numpy()
        if not np.isfinite(features).all():
            raise refuse_request("The features of some images are not finite.")
        rows = []
        for each, far in zip(prob, self._statistics.shares(features), strict=True):
            decisions = [cell for decision in decide(self._card.kind, self._card.classes, each) for cell in decision]
            rows.append([*each.tolist(), *decisions, float(far)])
        return rows


def _columns(card: ClassifierCard) -> list[str]:
    ends = [f"_{name}" for name in card.classes] if card.kind == "multilabel" else [""]
    decisions = [f"{column}{end}" for end in ends for column in ("prediction", "confidence")]
    return [*(f"prob_{name}" for name in card.classes), *decisions, "out_of_distribution", "left_out"]


def _check_preparation(card: ClassifierCard) -> None:
    readers = {f"the {name} reader's version": plugins.find("data.readers", name).Reader.version for name in _FILES}
    if found := first_difference(card.contract, {"the preparation's version": VERSION, **readers}):
        name, trained, new = found
        raise UserError(f"{name} is {new}, but the classifier was trained with {trained}. Use medssl {card.provenance['medssl']}.")


def _files(data: Any) -> list[Any] | None:
    """The cells of the column `image`; None where the request has no such column."""
    if isinstance(data, pd.DataFrame):
        return data["image"].tolist() if "image" in data.columns else None
    if isinstance(data, Mapping):
        found = data.get("image")
        return [found] if isinstance(found, str | bytes) else list(found) if found is not None else None
    if isinstance(data, list) and data and all(isinstance(row, Mapping) and "image" in row for row in data):
        return [row["image"] for row in data]
    return None


def _bytes(content: Any) -> bytes:
    """The bytes of a file in base64. Raises ReadError; a text is never taken for a path."""
    if isinstance(content, bytes):
        return content
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise ReadError("not_base64: the column holds no file in base64") from None


def _only_image(file: Path, data: Data, slices: bool) -> Record:
    """The only image of a file. Raises ReadError for a file with none or several, and for one that `medssl predict` would not take."""
    if kind_of_file(file) not in _FILES:
        raise ReadError("not_an_image: neither a DICOM file nor a picture")
    records, _ = image_file.list_images(file, data.limits)
    if len(records) > 1:
        raise ReadError("several_images: send each frame or page as a file of its own")
    source = Source("image_file", file.parent, records)
    if not slices and source_has_slices(source):
        raise ReadError("slice_of_a_volume: the classifier was trained on images that are none")
    try:
        return keep_modality(source, data.modality).records[0]
    except UserError:
        raise ReadError("other_modality: the classifier was trained on images of other modalities") from None


def _to_unit_range(prepared: PreparedImage) -> Image:
    return prepared.image.astype(np.float32) / float(np.iinfo(prepared.image.dtype).max)
