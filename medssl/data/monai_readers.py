"""The readers as MONAI `ImageReader`s, for users of `monai.transforms.LoadImage`. Importing this module imports MONAI, which takes seconds.

    LoadImage(reader=DicomReader(), image_only=True, ensure_channel_first=True)(path)   # [C, H, W], equal to our reader's pixels

If `read` raised an error, MONAI would try its own readers, which transpose images and ignore MONOCHROME1. So `read` only returns the paths,
and `get_data` raises the ReadError of an unusable file. A damaged file that crashes GDCM ends the process, as with MONAI's own readers;
only the workers of `medssl prepare` survive that.
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
    """Reads image `index` of each file with the named reader and its options. Several files are joined along the channels.

    `index`: the frame of a DICOM file, the page of a picture, the axial slice of a NIfTI file, counted through its volumes.
    """

    def __init__(self, reader: str, index: int = 0, **options: Any) -> None:
        module = plugins.find("data.readers", reader)
        self._recognises = module.recognises
        self._reader = module.build(module.Config(**options))
        self._index = index

    def verify_suffix(self, filename: Sequence[PathLike | str] | PathLike | str) -> bool:
        """Whether the reader recognises the content of all these files. Suffixes are ignored."""
        return all(self._recognises(_head(Path(name))) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike | str] | PathLike | str, **_: Any) -> tuple[Path, ...]:
        """The paths."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """The pixels, float32 [C, H, W] in [0, 1], and MONAI's metadata. Raises ReadError."""
        pixels = np.concatenate([self._reader.read(path, self._index).pixels for path in img])
        return pixels, {MetaKeys.ORIGINAL_CHANNEL_DIM: 0, MetaKeys.SPATIAL_SHAPE: np.asarray(pixels.shape[1:])}


DicomReader = partial(FileReader, "dicom")
RasterReader = partial(FileReader, "raster")
NiftiReader = partial(FileReader, "nifti")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
