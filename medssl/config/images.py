"""The settings of the images: where they are, how they are read and prepared, and how patients are divided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from medssl.config.base import Frozen, SourceChoice
from medssl.config.windows import Window, windows_hu

_Voxels = Annotated[int, Field(ge=8, le=1024)]
_Millimetres = Annotated[float, Field(gt=0)]
Volume = tuple[_Voxels, _Voxels, _Voxels]
Size = Annotated[int, Field(ge=16, le=1024)] | Volume
Spacing = _Millimetres | tuple[_Millimetres, _Millimetres, _Millimetres]
VOLUMETRIC = ("whole", "patches")  # values of data.volumes with which samples have three axes
_VOLUME_SIZE = 64


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
    max_voxels: int = Field(
        default=2**28, gt=0, description="The most voxels that one prepared volume may have where patches of it are read."
    )
    seconds: float = Field(
        default=30, gt=0, description="The most seconds that decoding one image may take; a whole volume may take ten times as long."
    )


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
    volumes: Literal["slices", "whole", "patches"] = Field(
        default="slices",
        description="Whether each slice of a CT or MR volume is an image (slices), the volume is one sample with three axes (whole), or "
        "networks see patches of it at full resolution (patches).",
    )
    size: Size = Field(
        default=224,
        description="The edge of the prepared square images in pixels. Of whole volumes: the edge of a cube in voxels, or three numbers: "
        "slices, rows, columns; 64 if neither the preset nor the command gives a size. Of patches: the edges of a patch.",
    )
    modality: str = Field(
        default="all",
        description="Which DICOM images are used, by the modality in their header: all, or codes with commas between, such as CT or CR,DX.",
    )
    channels: int = Field(default=1, ge=1, le=4, description="The channels of the prepared images: 1 for grey, 3 for colour.")
    spacing_mm: Spacing | Literal["median", "none"] | None = Field(
        default=None,
        description="The edge of a prepared pixel in mm, the same for all images; without it each image is fitted. Of whole volumes: the "
        "edge of a voxel, or three numbers: between slices, rows, columns; or median, which becomes the three medians of the volumes. "
        "Patches need it; with none volumes keep their own spacing.",
    )
    sequences: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        max_length=4,
        description="The sequences of an examination that are the channels of a whole volume, as in [T1, T2, FLAIR]; data.channels "
        "follows. Examinations without one of them are left out.",
    )
    min_slices: int = Field(
        default=8, ge=2, description="A whole volume with fewer voxels than this along one of its three axes is left out."
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

    @model_validator(mode="before")
    @classmethod
    def _size_of_volumes(cls, values: Any) -> Any:
        """A volume or a patch has three edges: one number is a cube. Only patches differ between no spacing and the word none."""
        if not isinstance(values, Mapping):
            return values
        if values.get("spacing_mm") == "none" and values.get("volumes") != "patches":
            values = {**values, "spacing_mm": None}
        if values.get("volumes") not in VOLUMETRIC:
            return values
        size, spacing = values.get("size", _VOLUME_SIZE), values.get("spacing_mm")
        sequences = values.get("sequences")
        return {
            **values,
            **({"channels": len(sequences)} if isinstance(sequences, list | tuple) and sequences else {}),
            "size": (size, size, size) if isinstance(size, int) else size,
            "spacing_mm": (spacing, spacing, spacing) if isinstance(spacing, int | float) else spacing,
        }

    @model_validator(mode="after")
    def _size_of_images(self) -> Data:
        if self.volumes == "slices" and not isinstance(self.size, int):
            raise ValueError("size: three numbers are the size of whole volumes; add data.volumes=whole")
        if self.volumes == "slices" and isinstance(self.spacing_mm, tuple):
            raise ValueError("spacing_mm: three numbers are the spacing of whole volumes; add data.volumes=whole")
        if self.volumes == "slices" and self.spacing_mm == "median":
            raise ValueError("spacing_mm: median is the spacing of whole volumes; write a number of mm, or add data.volumes=whole")
        if self.volumes == "patches" and self.spacing_mm is None:
            raise ValueError(
                "spacing_mm: patches need the edge of a voxel in mm, as data.spacing_mm=1.5 or [3, 1, 1], so that they all have one scale; "
                "data.spacing_mm=median takes that of the volumes, and data.spacing_mm=none leaves each volume as it is"
            )
        return self

    @model_validator(mode="after")
    def _sequences(self) -> Data:
        if self.sequences and not self.volumetric:
            raise ValueError("sequences: they are the channels of whole volumes; add data.volumes=whole")
        if len({name.casefold() for name in self.sequences}) < len(self.sequences):
            raise ValueError(f"sequences: {', '.join(self.sequences)} names one of them twice")
        if self.sequences and len(windows_hu(self.window)) > 1:
            raise ValueError("sequences: several windows in HU would be channels, too; name one window or none")
        return self

    @property
    def volumetric(self) -> bool:
        """Whether a sample has three axes: a whole volume, or a patch of one."""
        return self.volumes in VOLUMETRIC

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a prepared image: (channels, rows, columns), or (channels, slices, rows, columns) of a whole volume or of a patch."""
        return (self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size))
