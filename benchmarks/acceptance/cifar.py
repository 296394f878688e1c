"""The archive of CIFAR-10: that of its authors, with batches pickled by Python 2, or one of pictures in train/CLASS/ and test/CLASS/."""

import io
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

_ARRAYS = {("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
_PICTURES = {".jpg", ".jpeg", ".png"}


class Cifar(NamedTuple):
    """`images`: uint8 [n, 3, 32, 32]; `labels`: int64 [n]; `train`, `test`: the rows of both parts."""

    images: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray


class _ArraysOnly(pickle.Unpickler):
    """Reads dictionaries, lists, text and arrays of numpy; a file that names anything else is refused, as it could run programs."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The parts of numpy that its arrays are made of."""
        module_name = module_name.replace("numpy.core.", "numpy._core.")  # its name in numpy 1
        if (module_name, global_name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is no part of an array")
        return super().find_class(module_name, global_name)


def read(archive: Path, limit: int | None = None) -> Cifar:
    """The images and labels of the archive. `limit`: at most so many images of each class and part. Raises ValueError where the archive has
    no batches and no pictures."""
    images: list[np.ndarray] = []
    labels: list[Any] = []
    parts: list[str] = []
    seen: Counter[tuple[str, Any]] = Counter()
    with tarfile.open(archive) as members:
        for member in members:
            file = members.extractfile(member)
            if file is None:
                continue
            for part, label, image in _of_member(PurePosixPath(member.name), file.read()):
                seen[part, label] += 1
                if limit is None or seen[part, label] <= limit:
                    images.append(image())
                    labels.append(label)
                    parts.append(part)
    if not images:
        raise ValueError(f"{archive.name} has neither data_batch files nor pictures in train/ and test/")
    classes, of_train = sorted(set(labels)), np.array(parts) == "train"
    numbers = np.array([classes.index(label) for label in labels])
    return Cifar(np.stack(images), numbers, np.flatnonzero(of_train), np.flatnonzero(~of_train))


def _of_member(name: PurePosixPath, content: bytes) -> Iterator[tuple[str, Any, Callable[[], np.ndarray]]]:
    """Part, label and image [3, 32, 32] of each picture in a file of the archive. The images are decoded when they are asked for."""
    if name.name.startswith(("data_batch", "test_batch")):
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        part = "test" if name.name.startswith("test") else "train"
        for label, pixels in zip(batch[b"labels"], batch[b"data"], strict=True):
            yield part, label, partial(pixels.reshape, 3, 32, 32)
    elif name.suffix.lower() in _PICTURES and len(name.parts) >= 3 and name.parts[-3] in ("train", "test"):
        yield name.parts[-3], name.parts[-2], partial(_decode, content)


def _decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
