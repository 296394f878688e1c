"""An encoder's features of many images: computed in parts, kept in a file, searched for the most similar images."""

from medssl.embedding.feature_file import FeatureFile, files_beside, open_features, write_features
from medssl.embedding.parts import Part, image_groups, make_parts, volume_groups, volume_keys

__all__ = [
    "FeatureFile",
    "Part",
    "files_beside",
    "image_groups",
    "make_parts",
    "open_features",
    "volume_groups",
    "volume_keys",
    "write_features",
]
