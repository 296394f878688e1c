"""The tree of all settings of a run. What a field means stands in its description; a default stands here once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from medssl.config.base import BackboneChoice, Frozen, MethodChoice, RecipeChoice, SourceChoice
from medssl.config.windows import Window

MAX_SEED = 2**32 - 1  # the largest that scikit-learn takes
MAX_BOOTSTRAPS = 100_000  # resamples of a thousand patients: 200 MB


class Limits(Frozen):
    """Limits above which a file is refused, as it may be hostile or broken."""

    max_pixels: int = Field(default=64_000_000, gt=0, description="The most pixels that one image may have.")
    max_frames: int = Field(
        default=200_000, gt=0, description="The most frames or slices that one DICOM or NIfTI file may have, as its header states them."
    )
    max_array_bytes: int = Field(
        default=32 * 2**30, gt=0, description="The most bytes that an array of an .npz archive may have when it is unpacked."
    )
    memory_bytes: int = Field(default=4 * 2**30, gt=0, description="The most bytes of memory that decoding one image may take.")
    seconds: float = Field(default=30, gt=0, description="The most seconds that decoding one image may take.")


class Transform(Frozen):
    """A step of the preparation by its dotted name and its arguments: `{name: monai.transforms.AdjustContrast, gamma: 0.8}`.
    `medssl.data.preparation` has the list of allowed names."""

    model_config = ConfigDict(frozen=True, extra="allow", validate_default=True, allow_inf_nan=False)

    name: str = Field(description="The dotted name of a transform of MONAI; its arguments are written next to the name.")


class Data(Frozen):
    """The images: where they are, how they are prepared, and how patients are divided."""

    path: str = Field(default="", description="The images, as --data names them.")
    source: SourceChoice = Field(default="folder", description="How the images are found; --data chooses this by itself.")
    follow_links: bool = Field(
        default=False,
        description="Whether links that lead out of the data folder are followed, as in the caches of model hubs, in DVC and on clusters.",
    )
    size: int = Field(default=224, ge=16, le=1024, description="The edge of the prepared square images in pixels.")
    modality: str = Field(
        default="all",
        description="Which DICOM images are used, by the modality in their header: all, or codes with commas between, such as CT or CR,DX.",
    )
    channels: int = Field(default=1, ge=1, le=4, description="The channels of the prepared images: 1 for grey, 3 for colour.")
    spacing_mm: float | None = Field(
        default=None, gt=0, description="The edge of a prepared pixel in mm, the same for all images; without it each image is fitted."
    )
    window: Window = Field(
        default="header",
        description="How grey values are scaled: header (the file's own window), percentile, none (the stored range), or for CT one or "
        "several windows in HU (lung, soft_tissue, bone, brain, or centre/width), one for each channel.",
    )
    non_finite: Literal["skip", "zero"] = Field(
        default="skip", description="An image with NaN or infinite values is left out, or these values become 0."
    )
    used_bits: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="The bits that the images really use, where their files state more, as in 12 bits in files of 16: they are scaled by "
        "these bits. Without a number medssl looks at some images; 16 scales images of 16 bits by all bits.",
    )
    missing_decoder: Literal["stop", "skip"] = Field(
        default="stop", description="Files that no installed decoder reads end the preparation, or are left out."
    )
    transforms: tuple[Transform, ...] = Field(
        default=(), description="Transforms of MONAI for every image, in their order, before the image is fitted to its size."
    )
    label: str = Field(
        default="",
        description="The column with the labels, or several with commas between; empty for the only label column (--label of finetune).",
    )
    leaks: Literal["refuse", "drop", "allow"] = Field(
        default="refuse",
        description="Training images of a test patient, or with the pixels of a test image, in a split that comes with the data: refuse "
        "the data, drop these images from training, or allow them.",
    )
    split_seed: int = Field(
        default=0, ge=0, description="The seed of the split into training and test patients, which pretraining and fine-tuning share."
    )
    test_fraction: float = Field(default=0.2, ge=0, lt=1, description="The share of patients for the test, if the data has no split.")
    holdout_fraction: float = Field(
        default=0.1, ge=0, lt=0.5, description="The share of training patients whom pretraining leaves out, to watch its progress on them."
    )
    max_bad_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="The share of images that may be unusable before the preparation is refused. One is allowed in fewer than a hundred.",
    )
    max_suspect_fraction: float = Field(
        default=0,
        ge=0,
        le=1,
        description="The share of images with signs of damage that are used all the same: their decoder noticed a fault in the compressed "
        "data. Where more have such signs, all of these are left out.",
    )
    limits: Limits = Field(default=Limits(), description="Limits above which a file is refused.")


class Views(Frozen):
    """The random changes of the images of which a method learns."""

    recipe: RecipeChoice = Field(default="chest_xray", description="What is changed in a view of an image.")
    executor: Literal["auto", "albumentations", "torch"] = Field(
        default="auto",
        description="What makes the views: albumentations in the loader's processes, or torch on the device; auto is torch on a GPU.",
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
    compile: bool = Field(default=False, description="Whether torch compiles the encoder.")
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
        default="auto", description="The precision of the arithmetic; auto is bf16 where the device is fast in it, and fp32 is not TF32."
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
        default=True, description="Whether a fifth of the drawn patients is kept apart to choose the best moment (mode full)."
    )
    bootstraps: int = Field(
        default=1000, ge=100, le=MAX_BOOTSTRAPS, description="The resamples of patients from which the intervals are computed."
    )


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
