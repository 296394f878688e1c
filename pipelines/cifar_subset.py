"""A part of CIFAR-10 as a MedMNIST-like file, from an archive with train/CLASS/*.jpg and test/CLASS/*.jpg.

    python pipelines/cifar_subset.py cifar10_jpeg.tar.gz cifar5k.npz [--of-each-class 500]

Of each class the first training images in the order of their names are the training split, the next 50 the validation split, and the first
200 test images the test split.
"""

import argparse
import io
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description="A part of CIFAR-10 as a MedMNIST-like file.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--of-each-class", type=int, default=500, help="training images, at most 4950")
    options = parser.parse_args()
    number = options.of_each_class
    parts = {"train": ("train", 0, number), "val": ("train", number, number + 50), "test": ("test", 0, 200)}
    with tarfile.open(options.archive) as archive:
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in sorted(archive.getnames()):
            path = PurePosixPath(name)
            if path.suffix == ".jpg":
                members[path.parts[-3], path.parts[-2]].append(name)
        classes = sorted({name for _, name in members})
        wanted = {
            name: (part, label)
            for part, (folder, first, end) in parts.items()
            for label, kind in enumerate(classes)
            for name in members[folder, kind][first:end]
        }
        found: dict[str, tuple[list[np.ndarray], list[int]]] = {part: ([], []) for part in parts}
        for member in archive:  # in the order of the archive, which is read once
            if member.name in wanted:
                part, label = wanted[member.name]
                content = archive.extractfile(member)
                assert content is not None
                found[part][0].append(np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB")))
                found[part][1].append(label)
    arrays = {}
    for part, (images, labels) in found.items():
        arrays |= {f"{part}_images": np.stack(images), f"{part}_labels": np.array(labels)[:, None]}
    np.savez_compressed(options.file, **arrays)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
