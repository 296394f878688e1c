"""Whether images are slices of volumes, as a store or a source shows it."""

from collections.abc import Collection, Iterable

from medssl.data.dicom import STACKS
from medssl.data.store import Store
from medssl.types import Source


def store_has_slices(store: Store) -> bool:
    """Whether some of the store's images are slices of volumes."""
    modalities = set(store.table["extra:modality"]) if "extra:modality" in store.table.columns else set()
    return _has_slices(store.card["versions"]["readers"], store.table["series"], modalities)


def source_has_slices(source: Source) -> bool:
    """The same of a source that is no store, before anything is read."""
    records = source.records
    return _has_slices({r.reader for r in records}, (r.series for r in records), {r.extra.get("modality", "") for r in records})


def _has_slices(readers: Collection[str], series: Iterable[str | None], modalities: set[str]) -> bool:
    """NIfTI files are volumes, in an .npz file only volumes have series, and DICOM files state their modality."""
    return "nifti" in readers or ("npz" in readers and any(series)) or not STACKS.isdisjoint(modalities)
