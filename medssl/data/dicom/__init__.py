"""DICOM: headers, series and the order of slices, which images are chosen, frames and their intensities."""

from medssl.data.dicom.modalities import SLICES, STACKS, WITHOUT_HU

__all__ = ["SLICES", "STACKS", "WITHOUT_HU"]
