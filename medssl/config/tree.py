"""The tree of all settings of a run. What a field means stands in its description; a default stands here once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from medssl.config.base import BackboneChoice, Frozen, MethodChoice, RecipeChoice
from medssl.config.images import Data

MAX_SEED = 2**32 - 1  # the largest that scikit-learn takes
MAX_BOOTSTRAPS = 100_000  # resamples of a thousand patients: 200 MB


class Views(Frozen):
    """The random changes of the images of which a method learns."""

    recipe: RecipeChoice = Field(default="chest_xray", description="What is changed in a view of an image.")
    executor: Literal["auto", "albumentations", "torch"] = Field(
        default="auto",
        description="What makes the views: albumentations (of whole volumes OpenCV) in the loader's processes, or torch on the device; "
        "auto is torch on a GPU.",
    )


class Train(Frozen):
    """A training's length is `steps` if there is a number; otherwise the steps that `minutes` hold on this machine; otherwise `epochs`, but
    at least `min_steps`."""

    epochs: int = Field(default=100, ge=1, description="How many times all training images are seen.")
    min_steps: int = Field(default=0, ge=0, description="The least number of steps, whatever the epochs; small data needs it.")
    minutes: float | None = Field(default=None, gt=0, description="The length of the training in minutes, in place of epochs.")
    steps: int | None = Field(default=None, ge=1, description="The length of the training in steps, in place of epochs and minutes.")
    batch_size: int = Field(default=256, ge=2, description="The images of one step, on all devices together; pretrain takes auto, too.")
    micro_batch: int | None = Field(
        default=None,
        ge=2,
        description="How many images pass through the encoder at once, to save memory; the loss is still that of the whole batch.",
    )
    compile: bool = Field(default=False, description="Whether torch compiles the encoder, on one GPU the whole forward pass.")
    lr: float = Field(default=1e-3, gt=0, description="The highest learning rate; it is not scaled with the batch.")
    encoder_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="The learning rate of the encoder as a share of train.lr, which the heads have; a pretraining from weights (--init) "
        "has 0.1.",
    )
    optimiser: Literal["adamw", "sgd", "lars"] = Field(default="adamw", description="The optimiser.")
    warmup_epochs: float = Field(default=10, ge=0, description="The epochs in which the learning rate rises, as a share of train.epochs.")
    weight_decay: float = Field(default=0.05, ge=0, description="The weight decay.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="The precision of the arithmetic; auto is bf16 where the device is fast in it, but fp32 on CPUs for volumes and for "
        "images of at most 16 pixels; fp32 is not TF32.",
    )
    save_every_steps: int = Field(default=200, ge=1, description="The steps between two checkpoints.")
    keep_optimiser: bool = Field(
        default=False,
        description="Whether the checkpoint of a finished run keeps the optimiser's state, which is as large as two networks.",
    )
    workers: int = Field(
        default=-1, ge=-1, le=256, description="The processes that load images, at most one for each core; -1 chooses by the cores."
    )
    max_bad_steps: int = Field(
        default=10, ge=1, description="After so many steps in a row with a loss or gradient that is not finite, the training stops."
    )


class Monitor(Frozen):
    """What is measured during a pretraining besides the loss."""

    knn_every_epochs: int = Field(
        default=10, ge=1, description="The epochs between two measurements of kNN, linear probe and RankMe, and pictures of neighbours."
    )
    knn_neighbours: int = Field(default=20, ge=1, description="The number of neighbours of that kNN.")
    log_every_steps: int = Field(default=10, ge=1, description="The steps between two records of the health of the training.")
    collapse_std: float = Field(
        default=0.1, ge=0, description="A smaller spread of the embeddings counts as a collapse; 1 is a sphere, 0 a point."
    )
    collapse_steps: int = Field(default=100, ge=1, description="The number of steps in alarm after which on_collapse takes effect.")
    on_collapse: Literal["stop", "warn"] = Field(default="stop", description="Whether a collapse ends the training, or is a warning.")


def _join_labels(labels: Any) -> Any:
    """[1pct, 10pct] as "1pct,10pct", and the number 0.1 as text: YAML reads both so."""
    parts = labels if isinstance(labels, list | tuple) else [labels]
    return ",".join(str(part) for part in parts) if all(isinstance(part, str | int | float) for part in parts) else labels


Labels = Annotated[str, BeforeValidator(_join_labels)]


class Finetune(Frozen):
    """A fine-tuning: how many labels are used, and what is fitted to them."""

    labels: Labels = Field(
        default="10pct", description="How many labels are used (--labels): such as 10pct, 1pct,10pct,100pct, 50shot or all."
    )
    mode: Literal["linear", "knn", "full"] = Field(
        default="linear", description="What is fitted (--mode): a linear classifier on the features, a kNN, or the full network."
    )
    pooling: Literal["mean_max", "attention"] = Field(
        default="mean_max",
        description="How the features of a volume are made of those of its slices (mode linear): their mean and maximum, or a mean with "
        "weights that are learned with the classifier.",
    )
    draws: int = Field(default=5, ge=1, description="How many times the labelled patients are drawn.")
    versus: tuple[str, ...] = Field(
        default=(), description="Encoders to compare with: run folders, encoder files, or weights of other programs."
    )
    ordered: bool = Field(default=False, description="Whether the classes have an order, as grades have.")
    balance: bool = Field(default=False, description="Whether all classes have the same weight, however rare they are.")
    neighbours: int = Field(default=20, ge=1, description="The number of neighbours (mode knn).")
    steps: int = Field(default=300, ge=1, description="The steps of the training, the same at every label fraction (mode full).")
    batch_size: int = Field(default=32, ge=2, description="The images of one step (mode full).")
    lr: float = Field(default=5e-4, gt=0, description="The highest learning rate (mode full).")
    weight_decay: float = Field(default=0.05, ge=0, description="The weight decay (mode full).")
    layer_decay: float = Field(
        default=0.8, gt=0, le=1, description="The factor of the learning rate from each layer to the one before it (mode full)."
    )
    early_stopping: bool = Field(
        default=True,
        description="Whether a fifth of the drawn patients, where these are 400 or more, is kept apart to choose the best moment (mode "
        "full).",
    )
    bootstraps: int = Field(
        default=1000, ge=100, le=MAX_BOOTSTRAPS, description="The resamples of patients from which the intervals are computed."
    )

    @model_validator(mode="after")
    def _attention_is_fitted_to_features(self) -> Finetune:
        if self.pooling == "attention" and self.mode != "linear":
            raise ValueError(f"pooling: attention is learned on frozen features, with mode linear; in mode {self.mode} leave it out")
        return self


class Tracking(Frozen):
    """Where the numbers of a run go; metrics.jsonl in the run folder is always written."""

    mlflow: bool = Field(default=True, description="Whether the run is sent to MLflow.")
    experiment: str = Field(default="medssl", description="The name of the experiment in MLflow.")
    models: bool = Field(
        default=True, description="Whether encoder and classifier are logged as models of MLflow, which mlflow models serve can serve."
    )
    register_as: str = Field(
        default="",
        pattern=r"^[^/:]*$",
        description="The name under which MLflow registers them, with -encoder or -classifier behind it; empty: it registers none.",
    )


class Config(Frozen):
    """The whole configuration of a run."""

    data: Data = Field(default_factory=Data, description="The images.")
    views: Views = Field(default_factory=Views, description="The views of an image.")
    backbone: BackboneChoice = Field(default="timm", description="The family of the encoder's network.")
    method: MethodChoice = Field(default="pnnclr", description="The method of pretraining (--method).")
    train: Train = Field(default=Train(), description="The training.")
    monitor: Monitor = Field(default=Monitor(), description="What is watched during the training.")
    finetune: Finetune = Field(default=Finetune(), description="The fine-tuning.")
    tracking: Tracking = Field(default=Tracking(), description="Tracking in MLflow.")
    preset: str = Field(default="", description="The name of the preset that the settings come from (--preset).")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="The seed of all random choices but the split (--seed).")
    device: str = Field(default="auto", description="The device (--device): cpu, cuda or cuda:N; auto is CUDA where there is a GPU.")
