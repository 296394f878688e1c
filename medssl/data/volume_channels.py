"""The volumes of one examination as channels on one grid, which is that of the first volume: `data.sequences`.

Where the others lie on another grid, they are sampled at the places of its voxels in the patient, by linear interpolation; what they do not
show is 0. Patients move between two sequences: volumes are not registered.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from jaxtyping import Float32

from medssl.errors import ReadError
from medssl.types import Decoded, VolumeFacts

_SAME_GRID = 0.1  # of a voxel, at the corners
_LEAST_SHOWN = 0.25  # of the first volume, by each other one


def join_channels(volumes: Sequence[Decoded]) -> Decoded:
    """One volume [C, D, H, W] with the spacing and the foreground of the first one. Each has its own grey scale.

    Raises ReadError colour, other_grid (other edges, and a file does not say where it lies), apart (a volume shows less than a quarter of
    the first one).
    """
    if any(len(volume.pixels) != 1 for volume in volumes):
        raise ReadError("colour: data.sequences takes grey volumes")
    first, facts = volumes[0], [volume.volume or VolumeFacts() for volume in volumes]
    pixels = np.concatenate([_on_grid(volume, first) for volume in volumes])
    filled, tilt = max(each.filled for each in facts), max(each.tilt_degrees for each in facts)
    return replace(
        first,
        pixels=pixels,
        bits=max(volume.bits for volume in volumes),
        suspect=next((volume.suspect for volume in volumes if volume.suspect), ""),
        volume=replace(facts[0], filled=filled, tilt_degrees=tilt),
    )


def _on_grid(volume: Decoded, first: Decoded) -> Float32[np.ndarray, "1 d h w"]:
    """The pixels of `volume` at the voxels of `first`."""
    from scipy import ndimage

    own, wanted = (each.volume.to_lps if each.volume else None for each in (volume, first))
    shape, same_shape = first.pixels.shape[1:], volume.pixels.shape == first.pixels.shape
    if own is None or wanted is None:
        if not same_shape:
            raise ReadError("other_grid: the sequences have different edges, and a file does not say where it lies in the patient")
        return volume.pixels
    to_own = np.linalg.inv(own) @ wanted
    corners = np.array([(*corner, 1) for corner in product(*((0, length - 1) for length in shape))], float)
    if same_shape and np.abs(corners @ (to_own - np.eye(4)).T).max() < _SAME_GRID:
        return volume.pixels
    to_own[:3, 3] += 1  # a rim of one voxel: a voxel shows what lies up to its edge, and the numbers of headers are rounded
    rimmed = np.pad(volume.pixels[0], 1, "edge")
    moved = ndimage.affine_transform(rimmed, to_own, 0, shape, np.float32, order=1, mode="constant", cval=np.nan)
    unknown = np.isnan(moved)
    if (shown := 1 - unknown.mean()) < _LEAST_SHOWN:
        raise ReadError(f"apart: a sequence shows {shown:.0%} of the first one")
    moved[unknown] = 0
    return moved[None]
