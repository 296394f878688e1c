"""Weights that other programs have written, as an encoder of medssl: from ImageNet, or from another self-supervised method."""

from medssl.encoder.foreign.loading import ForeignEncoder, digest, load_foreign

__all__ = ["ForeignEncoder", "digest", "load_foreign"]
