"""Whether the images of a store or a source are slices of volumes."""

from collections.abc import Collection, Iterable

from medssl.data.dicom import STACKS
from medssl.data.store import Store
from medssl.types import Source


def store_has_slices(store: Store) -> bool:
    """Whether some of the store's images are slices of volumes."""
    modalities = set(store.table["extra:modality"]) if "extra:modality" in store.table.columns else set()
    return _has_slices(store.card["versions"]["readers"], store.table["series"], modalities)


def source_has_slices(source: Source) -> bool:
    """Whether some of the source's images are slices of volumes. The source is no store, and no image is read."""
    records = source.records
    return _has_slices({r.reader for r in records}, (r.series for r in records), {r.extra.get("modality", "") for r in records})


def _has_slices(readers: Collection[str], series: Iterable[str | None], modalities: set[str]) -> bool:
    """Whether there are slices of volumes: NIfTI files hold volumes, in .npz files only volumes have a series, and DICOM files state their
    modality."""
    return "nifti" in readers or ("npz" in readers and any(series)) or not STACKS.isdisjoint(modalities)
