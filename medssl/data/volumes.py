"""Whether images are slices of volumes, as the store or the source that has them can tell."""

from collections.abc import Collection, Iterable

from medssl.data.store.store import Store
from medssl.types import Source

_MODALITIES = {"CT", "MR", "PT"}


def in_store(store: Store) -> bool:
    """Whether some of the store's images are slices of volumes."""
    modalities = set(store.table["extra:modality"]) if "extra:modality" in store.table.columns else set()
    return _sliced(store.card["versions"]["readers"], store.table["series"], modalities)


def in_source(source: Source) -> bool:
    """The same of a source that is no store, before anything is read."""
    records = source.records
    return _sliced({r.reader for r in records}, (r.series for r in records), {r.extra.get("modality", "") for r in records})


def _sliced(readers: Collection[str], series: Iterable[str | None], modalities: set[str]) -> bool:
    """NIfTI files are volumes, in an .npz file only volumes have series, and DICOM says what took the picture."""
    return "nifti" in readers or ("npz" in readers and any(series)) or not _MODALITIES.isdisjoint(modalities)
