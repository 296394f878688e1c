"""The readers as MONAI `ImageReader`s, for users of `monai.transforms.LoadImage`. Importing this module imports MONAI (seconds).

    LoadImage(reader=DicomReader(), image_only=True, ensure_channel_first=True)(path)   # [C, H, W], as our own reader gives it

MONAI tries its own readers next when `read` raises, and they turn pictures on their side and ignore MONOCHROME1. So `read` only keeps the
paths, and a file that cannot be used raises its ReadError from `get_data`. A damaged file that crashes GDCM ends the process, as with
MONAI's own readers: only the workers of `medssl prepare` survive that.
"""

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys
from monai.utils.misc import ensure_tuple

from medssl import plugins


class FileReader(ImageReader):
    """One image (`index`) of each file, by the reader of that name with the given options; several files are joined along the channels.

    `index`: the frame of a DICOM file, the page of a picture, the axial slice of a NIfTI file, counted through its volumes.
    """

    def __init__(self, reader: str, index: int = 0, **options: Any) -> None:
        module = plugins.find("data.readers", reader)
        self._recognises = module.recognises
        self._reader = module.build(module.Config(**options))
        self._index = index

    def verify_suffix(self, filename: Sequence[PathLike | str] | PathLike | str) -> bool:
        """Whether the reader can read all of these files: by their content, never by their suffix."""
        return all(self._recognises(_head(Path(name))) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike | str] | PathLike | str, **_: Any) -> tuple[Path, ...]:
        """The paths."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """The pixels [C, H, W] and what MONAI wants to know of them. Raises ReadError."""
        pixels = np.concatenate([self._reader.read(path, self._index).pixels for path in img])
        return pixels, {MetaKeys.ORIGINAL_CHANNEL_DIM: 0, MetaKeys.SPATIAL_SHAPE: np.asarray(pixels.shape[1:])}


DicomReader = partial(FileReader, "dicom")
RasterReader = partial(FileReader, "raster")
NiftiReader = partial(FileReader, "nifti")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
