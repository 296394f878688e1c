"""AdrenalMNIST3D of 28 x 28 x 28 voxels from the file of 64: each voxel is the mean of the 64 / 28 voxels along each axis that it covers.

    python pipelines/adrenal_28.py adrenalmnist3d_64.npz adrenalmnist3d_28.npz

It is not the published file of 28. The masks of 64 have two values; a voxel of 28 at the surface of a gland has a value between them.
"""

import argparse
from pathlib import Path

import numpy as np

from medssl.data.image_hash import shrink_volume

EDGE = 28


def main() -> None:
    parser = argparse.ArgumentParser(description="AdrenalMNIST3D of 28 x 28 x 28 voxels from the file of 64.")
    parser.add_argument("source", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    with np.load(options.source, allow_pickle=False) as given:
        arrays = {name: given[name] for name in given.files}
    for name, volumes in arrays.items():
        if name.endswith("_images"):
            arrays[name] = np.stack([shrink_volume(volume[None], (EDGE, EDGE, EDGE)) for volume in volumes])
    np.savez_compressed(options.file, **arrays)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
