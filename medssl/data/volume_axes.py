"""The canonical axes of volumes: slices from the feet to the head, rows from anterior to posterior, columns from the patient's right to the
left. That is the array [k, j, i] of an image in LPS order, as DICOM's axial pictures are."""

import numpy as np
from jaxtyping import Float, Int, Shaped

_ENDS = (("R", "L"), ("A", "P"), ("I", "S"))  # of each LPS axis


def axis_codes(lps: Int[np.ndarray, "3 2"]) -> str:
    """Where the axes of an array point to, such as "RAS". `lps`: for each axis its LPS axis and 1 or -1 (reversed), as in
    nibabel.orientations."""
    return "".join(_ENDS[int(axis)][int(direction > 0)] for axis, direction in lps)


def in_lps(volume: Shaped[np.ndarray, "d h w"], lps: Int[np.ndarray, "3 2"]) -> Shaped[np.ndarray, "new_d new_h new_w"]:
    """The volume [slice, row, column] in canonical axes. `lps`: as above, of the array [column, row, slice]. Nothing is copied: it is
    another view of the same memory."""
    from nibabel.orientations import apply_orientation

    return apply_orientation(volume.transpose(2, 1, 0), lps).transpose(2, 1, 0)


def affine_in_lps(affine: Float[np.ndarray, "4 4"], lps: Int[np.ndarray, "3 2"], shape: tuple[int, int, int]) -> Float[np.ndarray, "4 4"]:
    """From (slice, row, column) of the volume that `in_lps` returns to mm. `affine`: from (column, row, slice) of the array as it was,
    whose axes have the lengths `shape`."""
    from nibabel.orientations import inv_ornt_aff

    return (affine @ inv_ornt_aff(lps, shape))[:, [2, 1, 0, 3]]
