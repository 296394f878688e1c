"""classifier.json as a model: what a fine-tuning writes, and what `medssl predict` reads."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medssl.evaluate.models.pooling import Pooling
from medssl.evaluate.schema import Counts, EncoderFacts, Score
from medssl.evaluate.task import Counted, Kind
from medssl.types import Size

FORMAT = 2


class TestedOn(Counts):
    """The test images, and the AUROC on them, a mean over the draws."""

    auroc: Score


class TrainingFacts(Counts):
    """What the classifier was fitted on. `labels`: the amount of labels, as "10pct", and `draw`: which draw of them."""

    labels: str
    fraction: float
    mode: str
    init: str
    draw: int
    test: TestedOn


class ProbeOutput(BaseModel):
    """What the probe image gives: features [d] and probabilities [k]."""

    model_config = ConfigDict(frozen=True)

    features: tuple[float, ...]
    probabilities: tuple[float, ...]


class ClassifierCard(BaseModel):
    """`classes`: the names of the k outputs. `mean`, `std`, `backbone`, `channels`, `size` and `intensity`: of the encoder, as its own card
    has them. `contract`: how images must have been prepared. `volumes`: whether the training images were slices of volumes.
    `pooling`: how the features of a volume are made of those of its slices; "none" where each image, or each whole volume, has a prediction
    of its own. `size`: three numbers for whole volumes.

    `encoder`: where the fine-tuning started from. `config`: the run's settings "data", "finetune" and "seed". What belongs to the file of
    weights, `format`, `weights_sha256` and `probe`, is set when that is written.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal[2] = FORMAT
    kind: Kind
    classes: tuple[str, ...] = Field(min_length=1)
    temperature: float = Field(gt=0)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    backbone: dict[str, Any]
    channels: int
    size: Size
    intensity: str
    contract: dict[str, Any]
    volumes: bool
    pooling: Pooling = "none"
    data: dict[str, Any]
    config: dict[str, Any]
    training: TrainingFacts
    encoder: EncoderFacts
    provenance: dict[str, str]
    licence: str
    intended_use: str
    weights_sha256: str = ""
    probe: ProbeOutput = ProbeOutput(features=(), probabilities=())

    @property
    def counted(self) -> Counted:
        """What has a label and a prediction."""
        if not isinstance(self.size, int):
            return "whole volumes"
        return "images" if self.pooling == "none" else "volumes"
