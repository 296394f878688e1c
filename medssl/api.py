"""The Python interface: what `import medssl` offers. `medssl/__init__.py` imports this file when one of its names is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medssl.config import Data, resolve_part
from medssl.data.contents import kind_of_file
from medssl.data.decode import Reader, build_preparation, build_reader, preparation_version
from medssl.data.store import SETTINGS, cut_windows
from medssl.data.volume_channels import join_channels
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate.models import Classifier, classifier_file
from medssl.nn import Encoder
from medssl.runs.new_images import Trained
from medssl.types import Decoded, edges

__all__ = ["LoadedClassifier", "LoadedEncoder", "load_classifier", "load_encoder", "prepare", "read"]


class LoadedEncoder(nn.Module):
    """An encoder with the preparation of its images. `card`: what is known of it, the content of card.json.

    Called with images [N, C, H, W], uint8 or floating point in [0, 1], it gives their features [N, D]; mean and standard deviation are part
    of it.
    """

    def __init__(self, encoder: Encoder, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder, self.card = encoder, dict(card)

    @property
    def backbone(self) -> nn.Module:
        """The network, for standardised images."""
        return self.encoder.backbone

    @property
    def num_features(self) -> int:
        """D, the width of the features."""
        return self.encoder.num_features

    def forward(self, images: Tensor) -> Tensor:
        """The features. Raises UserError for images with another number of channels, which would otherwise be repeated silently."""
        _check_channels(images, self.card["channels"])
        return self.encoder(images)

    def read(self, path: str | Path, index: int = 0) -> Decoded:
        """As `medssl.read`, with the window and the other settings of the encoder's training."""
        return _decode(path, index, _settings(self.card))

    def prepare(self, path: str | Path | Sequence[str | Path], index: int = 0) -> Tensor:
        """As `medssl.prepare`, for this encoder."""
        return prepare(path, self.card, index)


class LoadedClassifier(nn.Module):
    """A fine-tuned classifier with the preparation of its images. `card`: what is known of it, the content of classifier.json; `classes`:
    their names, in the order of the probabilities.

    Called with images [N, C, H, W] or whole volumes [N, C, D, H, W], uint8 or floating point in [0, 1], it gives calibrated probabilities
    [N, K] in float64. A classifier of volumes of slices, or of patches, takes the slices or windows of one volume and gives its
    probabilities, [1, K].
    """

    def __init__(self, classifier: Classifier, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.classifier, self.card = classifier, dict(card)
        self.classes: tuple[str, ...] = tuple(card["classes"])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """The probabilities, without gradient. Raises UserError for images with another number of channels."""
        _check_channels(images, self.card["channels"])
        features = self.classifier.encoder(images).float()
        if self.classifier.pooling != "none":
            features = torch.from_numpy(self.classifier.pool(features.cpu().numpy(), np.array([0]))).to(features.device)
        return self.classifier.probabilities(features)

    def predict(self, image: str | Path | Sequence[str | Path] | Tensor, index: int = 0) -> dict[str, float]:
        """{class: its probability}, as `medssl predict` writes them. `image`: what `prepare` takes, or a prepared
        image [C, H, W] or [1, C, H, W], or a whole volume [C, D, H, W]; for a classifier of volumes of slices the prepared slices
        [N, C, H, W] of one volume, for one of patches the windows of one.

        Raises UserError for a file that is no image, for several images at once, and for a file where slices of a volume are expected;
        ReadError for an image that cannot be used.
        """
        of_volumes = self.classifier.pooling != "none"
        if of_volumes and isinstance(self.card["size"], int) and not isinstance(image, Tensor):
            raise UserError(
                "This classifier predicts volumes. Name the prepared slices of one volume, [N, C, H, W], or use medssl predict."
            )
        prepared = image if isinstance(image, Tensor) else self.prepare(image, index)
        prepared = prepared[None] if prepared.ndim == 1 + len(edges(self.card["size"])) else prepared
        if len(prepared) != 1 and not of_volumes:
            raise UserError(f"predict takes one image, not {len(prepared)}. For several, call the classifier itself.")
        device = next(self.parameters()).device
        return dict(zip(self.classes, self(prepared.to(device))[0].tolist(), strict=True))

    def read(self, path: str | Path, index: int = 0) -> Decoded:
        """As `medssl.read`, with the window and the other settings of the classifier's training."""
        return _decode(path, index, _settings(self.card))

    def prepare(self, path: str | Path | Sequence[str | Path], index: int = 0) -> Tensor:
        """As `medssl.prepare`, for this classifier."""
        return prepare(path, self.card, index)


def load_encoder(path: str | Path) -> LoadedEncoder:
    """The encoder of a finished pretraining, in evaluation mode on the CPU. `path`: a run folder or its `encoder.safetensors`.

    Loading is strict: raises UserError where there is no encoder, or where weights and card do not belong together.
    """
    encoder, card = artefact.load(Path(path))
    return LoadedEncoder(encoder, card).eval()


def load_classifier(path: str | Path) -> LoadedClassifier:
    """The classifier of a finished fine-tuning, in evaluation mode on the CPU. `path`: a run folder or its `classifier.safetensors`.

    Loading is strict: raises UserError where there is no classifier, or where weights and card do not belong together.
    """
    classifier, _, card = classifier_file.load(Path(path))
    return LoadedClassifier(classifier, card.model_dump(mode="json")).eval()


def read(path: str | Path, index: int = 0, window: str = "header") -> Decoded:
    """One image of a DICOM, NIfTI or picture file, whatever its name: `pixels` float32 [C, H, W] in [0, 1], `bits`, `spacing_mm`,
    `modality`. `index`: the frame of a DICOM file, the page of a picture, the axial slice of a NIfTI file; `window`: as data.window.

    Raises UserError for a file that is no image, ReadError (medssl.errors) for an image that cannot be used.
    """
    return _decode(path, index, resolve_part(Data, {"window": window}, "data"))


def prepare(path: str | Path | Sequence[str | Path], card: Mapping[str, Any], index: int = 0) -> Tensor:
    """The image as the model of that card expects it: float32 [1, C, size, size] in [0, 1], or a whole volume [1, C, D, H, W], equal to
    what the commands of medssl compute with; for a model of patches all windows of the volume, [N, C, D, H, W]. `path`: a file; for a model
    of data.sequences the file of each, in their order. `card`: of an encoder or a classifier; `index`: as in `medssl.read`.

    Raises UserError for a file that is no image, another number of files, and a card whose preparation this version does not have;
    ReadError for an image that cannot be used.
    """
    data, files = _settings(card), [path] if isinstance(path, str | Path) else list(path)
    if len(files) != max(1, len(data.sequences)):
        expected = f"a file for each of {', '.join(data.sequences)}, in this order" if data.sequences else "one file"
        raise UserError(f"This model takes {expected}; {len(files)} were named.")
    decoded = [_decode(file, index, data, card) for file in files]
    image = build_preparation(data)(join_channels(decoded) if data.sequences else decoded[0])
    images = image[None] if data.volumes != "patches" else cut_windows(image, cast("tuple[int, int, int]", data.size))
    return torch.from_numpy(images.astype(np.float32)) / float(np.iinfo(image.dtype).max)


def _decode(path: str | Path, index: int, data: Data, card: Mapping[str, Any] | None = None) -> Decoded:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"The file {file} does not exist. Current folder: {Path.cwd()}.")
    if not (kind := kind_of_file(file)):
        raise UserError(f"{file} is no image that medssl reads: DICOM, NIfTI, PNG, JPEG, TIFF or BMP.")
    reader = build_reader(kind, data)
    if card is not None:
        _check_version(card, kind, reader, data)
    return reader.read(file, index)


def _settings(card: Mapping[str, Any]) -> Data:
    """The settings that decide the images, as the training of the card's model had them."""
    try:
        trained = Trained.by(card).data
    except (KeyError, TypeError):
        raise UserError("This is no card of an encoder or a classifier. Use that of load_encoder(...).card.") from None
    return resolve_part(Data, {name: trained[name] for name in (*SETTINGS, "limits") if name in trained}, "data")


def _check_version(card: Mapping[str, Any], kind: str, reader: Reader, data: Data) -> None:
    trained = Trained.by(card)
    here = {"the preparation's version": preparation_version(data), f"the {kind} reader's version": reader.version}
    trained.check(here, " in this version of medssl", f"Use medssl {trained.version}, or train again.")


def _check_channels(images: Tensor, channels: int) -> None:
    if images.ndim not in (4, 5) or images.shape[1] != channels:
        raise UserError(f"Images of shape [N, {channels}, H, W] are expected, not {list(images.shape)}. `prepare` makes them of a file.")
