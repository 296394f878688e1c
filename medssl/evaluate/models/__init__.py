"""The classifiers on an encoder: fitted, calibrated, kept, and written to a file."""
