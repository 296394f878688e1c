"""`medssl neighbours`: a picture and a table of the images that are most similar to one image, as an encoder sees them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medssl.config import parse_overrides
from medssl.data.cache import cache_folder
from medssl.data.patients import PatientOrigin
from medssl.data.store import Store
from medssl.data.volume_slices import whole_volumes
from medssl.embedding import FeatureFile, image_groups, make_parts, open_features, volume_keys
from medssl.embedding.nearest import Neighbour, cosines, nearest
from medssl.embedding.neighbours_figure import Shown, neighbours_png
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate.models import extract
from medssl.files import write_atomically
from medssl.planes import Planes
from medssl.runs.dataset import open_store_of_run
from medssl.runs.new_images import Trained, check_output, new_data_settings, prepare_new_images, report_new_images
from medssl.runs.resolve_config import list_source, warn_of_table
from medssl.runs.run_dir import RUNS, is_finished, newest_encoder
from medssl.train.loop import choose_device
from medssl.types import Reporter

_SHORT = 12  # letters of a key or digest that are shown
_TILE = 320  # pixels of the planes of a volume


@dataclass(frozen=True)
class _Query:
    """The query's file, prepared. `row`: the image that is shown, and that is compared unless whole volumes are (`whole`)."""

    store: Store
    row: int
    whole: bool

    def __str__(self) -> str:
        total = len(self.store.images)
        if total == 1:
            return "the only image of its file"
        return f"all {total} images of its file" if self.whole else f"image {self.row} of {total} in its file, counted from 0"


@dataclass(frozen=True)
class _Searched:
    """The images or volumes that are searched, in the order of their features. `groups`: for each row of the store the number of its image
    or volume, -1 for none; `rows`: for each image or volume the row of the store that is shown, of a volume the middle slice."""

    store: Store
    groups: np.ndarray
    rows: np.ndarray
    volumes: bool

    @cached_property
    def patients(self) -> np.ndarray:
        """The patient's key of each image or volume."""
        return self.store.table["patient"].to_numpy(str)[self.rows]

    def label(self, row: int) -> str:
        """The labels of a row of the store: the only one; of several columns those that are not 0, by the names of their columns."""
        found = {str(name).removeprefix("label:"): self.store.table[name].iat[row] for name in self.store.table.filter(like="label:")}
        if len(found) == 1:
            return next(iter(found.values()))
        return ", ".join(name if value == "1" else f"{name} {value}" for name, value in found.items() if value not in ("", "0"))

    def own(self, query: _Query) -> np.ndarray:
        """The rows of the store that are images of the query's file: those with the same pixels."""
        return np.flatnonzero(self.store.table["pixel_hash"].isin(query.store.table["pixel_hash"]))


def neighbours(
    reporter: Reporter,
    *,
    query: Path,
    k: int = 8,
    index: int | None = None,
    encoder: str | None = None,
    features: Path | None = None,
    data: str | None = None,
    out: Path = Path("neighbours.png"),
    device: str | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
) -> list[Neighbour]:
    """Draw and print the `k` most similar images, one of each patient and none of the query's own file. `index`: which frame, page or slice
    of the query, by default the middle one. `features`: a file of `medssl embed`; `data`: images; without both, the images of the encoder's
    pretraining are searched.

    Raises UserError for wrong input, as for the features of another encoder.
    """
    if out.suffix != ".png":
        raise UserError(f"--out {out}: the name must end with .png.")
    if not query.is_file():
        raise UserError(f"--query {query} is no file. Name one image file.")
    check_output(out, data, overwrite)
    origin = Path(encoder) if encoder else newest_encoder(RUNS)
    network, card = artefact.load(origin)
    chosen_device, trained, overrides = choose_device(device or "auto"), Trained.by(card), parse_overrides(sets)
    file = _open_features(features, card, origin) if features else None
    reporter.say(f"encoder   {origin}")
    store = _prepare(reporter, trained, data, overrides) if data else _find_store(card, origin, file)
    searched = _searched(store, file)
    asked = _prepare_query(reporter, trained, query, index, overrides, searched.volumes)
    groups = image_groups(asked.store)
    rows = np.arange(len(groups)) if asked.whole else np.flatnonzero(groups == asked.row)
    vector = extract(network, asked.store.inputs, rows, chosen_device).mean(axis=0)
    parts = [] if file else make_parts(store, image_groups(store), card["weights_sha256"], chosen_device)
    on_images = _progress(reporter, len(store.inputs))
    computed = (part.compute(network, store, chosen_device, on_images) for part in parts)
    left_out = np.isin(np.arange(len(searched.rows)), searched.groups[searched.own(asked)])
    found = nearest(cosines(vector, file.blocks() if file else computed), searched.patients, left_out, k)
    if not found:
        raise UserError("There is no image but those of the query's own file. Name more images with --data or --in.")
    _show(reporter, out, asked, searched, found, card["weights_sha256"])
    return found


def _open_features(path: Path, card: Mapping[str, Any], origin: Path) -> FeatureFile:
    """The file. Raises UserError where another encoder has made it."""
    file = open_features(path)
    made_by = file.facts["encoder"]["weights_sha256"]
    if made_by != card["weights_sha256"]:
        raise UserError(
            f"{path} has the features of another encoder ({made_by[:_SHORT]}) than {origin} ({card['weights_sha256'][:_SHORT]}), so they "
            "cannot be compared with the query. Name the encoder that made them with --encoder, or write them again with `medssl embed`."
        )
    return file


def _prepare(reporter: Reporter, trained: Trained, data: str, overrides: Mapping[str, Any]) -> Store:
    settings = new_data_settings(trained, data, overrides, "neighbours")
    source = list_source(settings)
    warn_of_table(reporter, source)
    store = prepare_new_images(reporter, trained, settings, source)
    report_new_images(reporter, store, source)
    return store


def _find_store(card: Mapping[str, Any], origin: Path, file: FeatureFile | None) -> Store:
    """The prepared images that the features were computed from; without a file those of the pretraining. Raises UserError where they are
    not there."""
    if file:
        path = cache_folder() / "stores" / file.facts["data"]["fingerprint"]
        if path.is_dir():
            return Store.open(path)
        raise UserError(f"The prepared images of {file.path} are not in the cache ({path}). Name the images, too: --data PATH.")
    run = origin if origin.is_dir() else origin.parent
    if not is_finished(run):
        raise UserError(f"{origin} does not name its images. Name images with --data, or a file of `medssl embed` with --in.")
    return open_store_of_run(run, card["data"]["fingerprint"])


def _searched(store: Store, file: FeatureFile | None) -> _Searched:
    """Raises UserError where the file has features of other images than the store."""
    volumes = file is not None and file.facts["pool"] == "volume"
    table = store.table
    if file is None:
        return _Searched(store, np.arange(len(table)), np.arange(len(table)), volumes)
    keys = volume_keys(table) if volumes else table["key"].to_numpy(str)
    number_of = {key: number for number, key in enumerate(file.table["key"])}
    groups = np.array([number_of.get(key, -1) for key in keys])
    known = np.flatnonzero(groups >= 0)
    order = known[np.argsort(groups[known], kind="stable")]
    counts = np.bincount(groups[known], minlength=len(number_of))
    if not counts.all():
        raise UserError(f"{file.path} has features of images that are not in {store.path}. Write them again with `medssl embed`.")
    return _Searched(store, groups, order[counts.cumsum() - counts + counts // 2], volumes)


def _prepare_query(
    reporter: Reporter, trained: Trained, query: Path, index: int | None, overrides: Mapping[str, Any], whole: bool
) -> _Query:
    """Raises UserError for a file that cannot be used, and for an image that it does not have."""
    of_data = {name: value for name, value in overrides.get("data", {}).items() if name != "source"}  # those are options of --data
    settings = new_data_settings(trained, str(query), {"data": of_data}, "neighbours")
    store = prepare_new_images(reporter, trained, settings, list_source(settings))
    total = len(store.images)
    row = total // 2 if index is None else index
    if row >= total:
        raise UserError(f"--index {row}: {query} has {total} images that can be used. Use a number from 0 to {total - 1}.")
    return _Query(store, row, whole)


def _progress(reporter: Reporter, total: int) -> Callable[[int], None]:
    """What is told how many more images were compared."""
    done = 0

    def on_images(number: int) -> None:
        nonlocal done
        done += number
        reporter.progress("compare", done, total)

    return on_images


def _show(reporter: Reporter, out: Path, query: _Query, searched: _Searched, found: Sequence[Neighbour], digest: str) -> None:
    """Print the table and write the picture."""
    own = searched.own(query)
    same = {*query.store.table["patient"], *searched.store.table["patient"].iloc[own]}
    origin = PatientOrigin.by(searched.store.card)
    kind = "volumes" if searched.volumes or whole_volumes(searched.store) else "images"
    planes = Planes.of(searched.store.card, searched.store.table)
    people = f"{len(searched.rows):,} {kind} of {origin.people(len(set(searched.patients)))}"
    reporter.say(f"query     {query}; searched are {people}")
    reporter.say(f"  {'rank':>4}  {'cosine':>6}  {'patient':{_SHORT}}  {'key':{_SHORT}}  label")
    shown = []
    for rank, (number, cosine) in enumerate(found, 1):
        row, patient = int(searched.rows[number]), str(searched.patients[number])
        label, mark = searched.label(row), "the query's patient" if patient in same else ""
        key = searched.store.table["key"].iat[row][:_SHORT]
        reporter.say(f"  {rank:>4}  {cosine:>6.3f}  {patient[:_SHORT]}  {key}  {label}{f'  ({mark})' if mark else ''}".rstrip())
        lines = [label, "" if origin.all_unknown else f"patient {patient[:_SHORT]}"]
        shown.append(
            Shown(planes.picture(searched.store.images[row], edge=_TILE), f"{rank}   cosine {cosine:.3f}", tuple(filter(None, lines)), mark)
        )
    known = searched.label(int(own[0])) if len(own) else ""
    of_query = Shown(planes.picture(query.store.images[query.row], edge=_TILE), known or "not among the images searched", (str(query),))
    foot = f"Cosine of the features of encoder {digest[:_SHORT]}; searched are {people}. Research software, not a medical device."
    title = f"Most similar {kind}" + ("" if origin.all_unknown else ", one of each patient")
    write_atomically(out, neighbours_png(of_query, shown, title, foot))
    reporter.say(f"picture   {out}")
