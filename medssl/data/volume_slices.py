"""Which images are slices of volumes, and which are whole volumes."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from medssl.config import VOLUMETRIC
from medssl.data.dicom import STACKS
from medssl.data.store import Store
from medssl.types import Source

_OF_VOLUMES = frozenset({"nifti", "npz"})  # readers whose images are slices of volumes where they have a series


def whole_volumes(store: Store) -> bool:
    """Whether the images of the store are whole volumes (data.volumes=whole), and so no slices."""
    return store.images.ndim == 5


def slice_rows(store: Store) -> Bool[np.ndarray, " n"]:
    """For each image of the store whether it is a slice of a volume that is known: of a series of CT, MR or PET, or of a NIfTI or .npz
    file of volumes, which state no modality."""
    table = store.table
    in_series, read = table["series"].to_numpy(str) != "", store.card["versions"]["readers"]
    modality = table["extra:modality"].to_numpy(str) if "extra:modality" in table else np.zeros(len(table), str)
    states_none = (modality == "") & (not _OF_VOLUMES.isdisjoint(read))
    return in_series & (np.isin(modality, sorted(STACKS)) | states_none) & (not whole_volumes(store))


def samples_in_words(store: Store, rows: Int[np.ndarray, " m"]) -> str:
    """What these rows of the store are: "images", "volumes", or "slices of 24 volumes"."""
    if whole_volumes(store):
        return "volumes"
    return f"slices of {store.table['series'].iloc[rows].nunique():,} volumes" if slice_rows(store)[rows].all() else "images"


def samples_of(card: Mapping[str, Any]) -> str:
    """What an encoder was trained on, in these words, as its card says. Those of earlier versions do not say it of slices."""
    stated = card.get("data", {}).get("samples")
    return stated or ("volumes" if card.get("preparation", {}).get("settings", {}).get("volumes") in VOLUMETRIC else "images")


def store_has_slices(store: Store) -> bool:
    """Whether some of the store's images are slices of volumes."""
    modalities = set(store.table["extra:modality"]) if "extra:modality" in store.table.columns else set()
    return not whole_volumes(store) and _has_slices(store.card["versions"]["readers"], store.table["series"], modalities)


def source_has_slices(source: Source) -> bool:
    """Whether some of the source's images are slices of volumes. The source is no store, and no image is read."""
    records = source.records
    return not source.whole and _has_slices(
        {r.reader for r in records}, (r.series for r in records), {r.extra.get("modality", "") for r in records}
    )


def _has_slices(readers: Collection[str], series: Iterable[str | None], modalities: set[str]) -> bool:
    """Whether there are slices of volumes: NIfTI files hold volumes, in .npz files only volumes have a series, and DICOM files state their
    modality."""
    return "nifti" in readers or ("npz" in readers and any(series)) or not STACKS.isdisjoint(modalities)
