"""MedMNIST data sets: by name (`medmnist:pneumoniamnist`, `medmnist:pneumoniamnist:64`), or as an .npz file with the same array names,
which may hold a user's own data. Of volumes (`medmnist:organmnist3d`) the slices are the images.

Names, classes, checksums and download addresses are those of the medmnist package (Yang et al., MedMNIST v2, Sci Data 10:41, 2023).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import runpy
import socket
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
from pydantic import Field

from medssl.config import PluginConfig
from medssl.data.cache import cache_folder
from medssl.data.formats import npz_header
from medssl.data.frame_policy import FramePolicy, choose_frames
from medssl.errors import UserError, suggest
from medssl.types import SPLITS, Record, Source

_PREFIX = "medmnist:"
_CAVEATS = {  # published leaks between the official splits
    "dermamnist": "DermaMNIST has near duplicates across its splits (Abhishek et al., Sci Data 2025)",
    "octmnist": "OCTMNIST's source has patients in several splits (Tampu et al., Sci Data 2022)",
}


class Config(PluginConfig):
    name: str = "medmnist"
    slices: FramePolicy = Field(
        default="all", description="Which slices of a volume become images: all, first, middle or every_N, such as every_5."
    )
    max_label_bytes: int = Field(default=2**28, gt=0, description="The most bytes that the array of labels may have when it is unpacked.")


class Official(NamedTuple):
    """An official file of MedMNIST. `flag`: the data set's name in the medmnist package; `tag`: "" for 28 pixels, "_64" for 64 and so on;
    `info`: the data set's entry in the package's INFO."""

    flag: str
    tag: str
    info: Mapping[str, Any]

    @property
    def file(self) -> str:
        return f"{self.flag}{self.tag}.npz"

    @property
    def md5(self) -> str:
        return self.info[f"MD5{self.tag}"]

    @property
    def url(self) -> str:
        return self.info[f"url{self.tag}"]


def recognises(data: str) -> bool:
    """`medmnist:NAME[:SIZE]` or an .npz file."""
    file = Path(data).expanduser()
    return data.startswith(_PREFIX) or (file.suffix.lower() == ".npz" and file.is_file())


def build(config: Config, data: str) -> Source:
    """Lists the images of a MedMNIST file with their splits. Only headers and labels are read, and the file is downloaded where it is
    missing.

    The file holds `<split>_images` [n, H, W], [n, H, W, 3] or [n, D, H, W], with `<split>_labels` [n, k] for each of them or with no labels
    at all. Raises UserError for other arrays, an unknown name or size, a file that is not found and cannot be downloaded, and a checksum
    that is not the official one.
    """
    if data.startswith(_PREFIX):
        official = _parse_name(data)
        file = _find_file(official) or _fetch_file(official)
    else:
        file = Path(data).expanduser()
        if not file.is_file():
            raise UserError(f"The file {data} does not exist. Check --data; current folder: {Path.cwd()}.")
        official = _official_file(file.stem)
    if official:
        _check_md5(file, official)
    records, notes = [], []
    with npz_header.open_arrays(file) as arrays:
        for split in SPLITS if official else [split for split in SPLITS if f"{split}_images" in arrays.keys] or ["train"]:
            depth, labels = _read_split(arrays, split, config.max_label_bytes)
            columns = _label_columns(labels, official)
            images = [Record(f"{file.name}#{split}_images", "npz", row, labels=named, split=split) for row, named in enumerate(columns)]
            records += [part for image in images for part in _slice_records(image, depth, config.slices)] if depth else images
            counts = ", ".join(f"{label} {count}" for label, count in _count_labels(columns)) or "no labels"
            notes.append(f"{split} {len(columns)}{f' volumes of {depth} slices' if depth else ''}: {counts}")
    notes.append("no patient ids: whether a patient is in several splits cannot be checked")
    notes.append(f"official file, {official.info['license']}" if official else "not an official MedMNIST file, no checksum to compare with")
    if official and official.flag in _CAVEATS:
        notes.append(_CAVEATS[official.flag])
    return Source("medmnist", file.parent.resolve(), tuple(records), tuple(notes))


def ordinal(data: str) -> bool:
    """Whether the classes of that data set have an order, such as RetinaMNIST's grades."""
    official = None
    if recognises(data):
        official = _parse_name(data) if data.startswith(_PREFIX) else _official_file(Path(data).stem)
    return official is not None and official.info["task"] == "ordinal-regression"


@lru_cache(maxsize=1)
def _package_info() -> Mapping[str, Mapping[str, Any]]:
    """The INFO of the medmnist package: {name: entry}. The whole package takes seconds to import, so only its file info.py is run."""
    package = importlib.util.find_spec("medmnist")
    assert package and package.origin
    with warnings.catch_warnings(action="ignore"):  # info.py makes the folder ~/.medmnist and warns where this fails
        return runpy.run_path(str(Path(package.origin).with_name("info.py")))["INFO"]


def _parse_name(data: str) -> Official:
    """The official file that `medmnist:NAME[:SIZE]` names. Raises UserError for an unknown name or size."""
    flag, _, size = data.removeprefix(_PREFIX).lower().partition(":")
    if flag not in _package_info():
        raise UserError(f"medmnist has no data set {flag!r}. {suggest(flag, _package_info())}")
    official = Official(flag, f"_{size}" if size not in ("", "28") else "", _package_info()[flag])
    if f"MD5{official.tag}" not in official.info:
        sizes = ["28", *(key.removeprefix("MD5_") for key in official.info if key.startswith("MD5_"))]
        raise UserError(f"{flag} has no size {size!r}. Sizes: {', '.join(sizes)}, as in --data medmnist:{flag}:{sizes[1]}.")
    return official


def _official_file(stem: str) -> Official | None:
    """The official file whose name without .npz is `stem`, None where there is none."""
    flag, _, size = stem.partition("_")
    official = Official(flag, f"_{size}" if size else "", _package_info().get(flag, {}))
    return official if f"MD5{official.tag}" in official.info else None


def _search_folders() -> list[Path]:
    """The folders in which a MedMNIST file is searched."""
    root = os.environ.get("MEDMNIST_ROOT")
    return [*([Path(root).expanduser()] if root else []), Path("~/.medmnist").expanduser(), Path.cwd(), cache_folder() / "medmnist"]


def _find_file(official: Official) -> Path | None:
    return next((folder / official.file for folder in _search_folders() if (folder / official.file).is_file()), None)


def _fetch_file(official: Official) -> Path:
    """Downloads the file with medmnist's own code into $MEDMNIST_ROOT or the cache. The file gets its name once it is complete.

    Raises UserError where the download fails.
    """
    folder = _search_folders()[0 if os.environ.get("MEDMNIST_ROOT") else -1]
    try:
        _check_network(official.url)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            _download(official, unfinished)
            Path(unfinished, official.file).replace(folder / official.file)
    except (OSError, RuntimeError) as error:
        reason = f" ({error.strerror or error})" if isinstance(error, OSError) else ""
        raise UserError(
            f"{official.file} is not on this machine and could not be downloaded{reason}. Fetch it elsewhere from {official.url} "
            f"(MD5 {official.md5}) and copy it to {folder / official.file}; looked in {', '.join(map(str, _search_folders()))}."
        ) from None
    return folder / official.file


def _check_network(url: str) -> None:
    """Raises OSError where the host of `url` cannot be reached, without the download's libraries, which take seconds to import."""
    if not getproxies():
        socket.create_connection((urlsplit(url).hostname, 443), timeout=10).close()


def _download(official: Official, folder: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        import medmnist
    dataset_class = getattr(medmnist, official.info["python_class"])
    dataset = dataset_class.__new__(dataset_class)  # its __init__ would load the arrays
    dataset.flag, dataset.info, dataset.size_flag, dataset.root = official.flag, official.info, official.tag, folder
    dataset.download()


def _check_md5(file: Path, official: Official) -> None:
    with file.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != official.md5:
        raise UserError(
            f"{file} is not the official {official.file}: its MD5 is {found}, expected {official.md5}. "
            f"{_explain_difference(file, official)} The official file: {official.url}; if it is your own data, give it another name."
        )


def _explain_difference(file: Path, official: Official) -> str:
    """A sentence that says how a file with another checksum differs from the official one: damaged, of other image counts, or changed."""
    expected = {split: int(official.info["n_samples"][split]) for split in SPLITS}
    try:
        with npz_header.open_arrays(file) as arrays:
            found = {split: arrays.header(f"{split}_images").shape[0] for split in SPLITS if f"{split}_images" in arrays.keys}
    except UserError:
        return "It is damaged or was copied in part; fetch it again."
    if found == expected:
        return "It has the official number of images: it was saved again, has another size of images, or was changed."
    counts = ", ".join(f"{split} {found.get(split, 0)} of {number}" for split, number in expected.items())
    return f"It is another file, or a part: it has {counts} images."


def _slice_records(volume: Record, depth: int, policy: str) -> list[Record]:
    """One record for each slice that `policy` selects of a volume. The volume is the series and the patient of its slices, so they stay in
    one split. Slices are numbered one after another through all volumes."""
    name = f"{volume.split}_{volume.index}"
    return [
        replace(volume, index=volume.index * depth + at, series=name, patient=name, patient_from="itself")
        for at in choose_frames(policy, depth)
    ]


def _read_split(arrays: npz_header.Arrays, split: str, most: int) -> tuple[int, np.ndarray]:
    """The number of slices of each volume, 0 for images, and the labels [n, k] of a split."""
    images = arrays.header(f"{split}_images")
    if len(images.shape) not in (3, 4) or images.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{arrays.file}, {split}_images: expected uint8 or uint16 [n, H, W], [n, H, W, 3] or [n, D, H, W], "
            f"found {images.dtype} {images.shape}."
        )
    depth = images.shape[1] if len(images.shape) == 4 and images.shape[-1] not in (1, 3) else 0
    if not any(key.endswith("_labels") for key in arrays.keys):
        return depth, np.zeros((images.shape[0], 0), int)
    labels = arrays.header(f"{split}_labels")
    if len(labels.shape) not in (1, 2) or labels.dtype.kind not in "iub" or labels.shape[0] != images.shape[0]:
        raise UserError(
            f"{arrays.file}, {split}_labels: expected integers [{images.shape[0]}, k] beside {images.shape[0]} images, "
            f"found {labels.dtype} {labels.shape}."
        )
    return depth, arrays.read(f"{split}_labels", most).reshape(images.shape[0], -1)


def _label_columns(labels: np.ndarray, official: Official | None) -> Sequence[Mapping[str, str]]:
    """For each row of `labels` [n, k] its label columns: with k = 1 {"label": class name}, else {class name: "0" or "1"} for each."""
    names: Mapping[str, str] = official.info["label"] if official else {}
    if labels.shape[1] == 1:
        by_class = {int(value): {"label": names.get(str(value), str(value))} for value in np.unique(labels)}
        return [by_class[int(value)] for value in labels[:, 0]]
    columns = [names.get(str(k), f"label_{k}") for k in range(labels.shape[1])]
    return [dict(zip(columns, map(str, row), strict=True)) for row in labels.astype(int).tolist()]


def _count_labels(labels: Sequence[Mapping[str, str]]) -> list[tuple[str, int]]:
    """The number of rows of each class, by name; with several label columns, the rows that are not "0" in each."""
    if labels and "label" not in labels[0]:
        return sorted(Counter(name for row in labels for name, value in row.items() if value != "0").items())
    return sorted(Counter(row["label"] for row in labels if "label" in row).items())
