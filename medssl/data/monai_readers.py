"""The readers as MONAI `ImageReader`s, for users of `monai.transforms.LoadImage`. Importing this module imports MONAI (seconds).

    LoadImage(reader=DicomReader(), image_only=True, ensure_channel_first=True)(path)   # [C, H, W], as our own reader gives it

MONAI tries its own readers next when `read` raises, and they turn pictures on their side and ignore MONOCHROME1; so `read` only
keeps the names, and a file that cannot be used raises its ReadError from `get_data`.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys
from monai.utils.misc import ensure_tuple

from medssl.data.decode import Reader
from medssl.data.readers import dicom, nifti, raster


class DicomReader(ImageReader):
    """One frame (`index`) of each DICOM file; several files are joined along the channels."""

    def __init__(self, window: str = "header", index: int = 0) -> None:
        self._reader = dicom.build(dicom.Config(window=window))
        self._index = index

    def verify_suffix(self, filename: Sequence[PathLike | str] | PathLike | str) -> bool:
        return _recognised(filename, dicom.recognises)

    def read(self, data: Sequence[PathLike | str] | PathLike | str, **_: Any) -> tuple[Path, ...]:
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        return _joined(self._reader, img, self._index)


class RasterReader(ImageReader):
    """One page (`index`) of each PNG, JPEG, TIFF or BMP file; several files are joined along the channels."""

    def __init__(self, index: int = 0) -> None:
        self._reader = raster.build(raster.Config())
        self._index = index

    def verify_suffix(self, filename: Sequence[PathLike | str] | PathLike | str) -> bool:
        return _recognised(filename, raster.recognises)

    def read(self, data: Sequence[PathLike | str] | PathLike | str, **_: Any) -> tuple[Path, ...]:
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        return _joined(self._reader, img, self._index)


class NiftiReader(ImageReader):
    """One axial slice (`index`, counted through the volumes) of each NIfTI file; several files are joined along the channels."""

    def __init__(self, window: str = "header", index: int = 0) -> None:
        self._reader = nifti.build(nifti.Config(window=window))
        self._index = index

    def verify_suffix(self, filename: Sequence[PathLike | str] | PathLike | str) -> bool:
        return _recognised(filename, nifti.recognises)

    def read(self, data: Sequence[PathLike | str] | PathLike | str, **_: Any) -> tuple[Path, ...]:
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        return _joined(self._reader, img, self._index)


def _recognised(names: Any, recognises: Any) -> bool:
    """By content, never by suffix."""
    for name in ensure_tuple(names):
        with Path(name).open("rb") as file:
            if not recognises(file.read(4096)):
                return False
    return True


def _joined(reader: Reader, paths: tuple[Path, ...], index: int) -> tuple[np.ndarray, dict[str, Any]]:
    pixels = np.concatenate([reader.read(path, index).pixels for path in paths])
    return pixels, {MetaKeys.ORIGINAL_CHANNEL_DIM: 0, MetaKeys.SPATIAL_SHAPE: np.asarray(pixels.shape[1:])}
