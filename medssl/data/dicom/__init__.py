"""DICOM: headers, series and the order of slices, which images are chosen, frames and their intensities."""
