"""New images for a finished encoder or classifier, prepared exactly as the images of its training: what predict, embed and neighbours
share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.config import Data, merge, resolve_part
from medssl.data.cache import cache_folder, private_folder, site_key
from medssl.data.detect import detect
from medssl.data.prepare import prepare
from medssl.data.store import SETTINGS, Store, contract, csv_text, first_difference, list_named_images, write_private
from medssl.data.volume_slices import source_has_slices, store_has_slices, whole_volumes
from medssl.data.workers import end_workers
from medssl.errors import UserError
from medssl.types import Reporter, Source

# options of a source that apply to new data, too
_SELECTION_OPTIONS = ("frames", "slices", "volumes", "derived", "burned_in", "masks", "folders")


@dataclass(frozen=True)
class Trained:
    """How the images of a model were prepared. `model`: "encoder" or "classifier"; `data`: the settings of the data of its training;
    `contract`: what must be equal for new images, as `data.store.contract` has it; `takes_slices`: whether new images may be slices of
    volumes; `version`: of medssl."""

    model: str
    data: Mapping[str, Any]
    contract: Mapping[str, Any]
    takes_slices: bool
    version: str

    @classmethod
    def by(cls, card: Mapping[str, Any]) -> "Trained":
        """What the card of an encoder or of a classifier says. A classifier of images that were no slices takes no slices."""
        data, version = card["config"]["data"], card["provenance"]["medssl"]
        if "contract" in card:
            return cls("classifier", data, card["contract"], card["volumes"], version)
        prepared = card["preparation"]
        promised = contract({"settings": prepared["settings"], "preparation": prepared, "versions": {"readers": {}}})
        return cls("encoder", data, promised, True, version)

    def check(self, other: Mapping[str, Any], whose: str, remedy: str) -> None:
        """Raises UserError, which ends with the remedy, for the first value in which another contract differs."""
        if found := first_difference(self.contract, other):
            name, trained, new = found
            raise UserError(f"{name} is {new}{whose}, but the {self.model} was trained with {trained}. {remedy}")


def new_data_settings(trained: Trained, path: str, overrides: Mapping[str, Any], command: str) -> Data:
    """The settings of the training's data, with the new path and --set on top, and without label settings. Any number of unusable files is
    left out. Raises UserError if a setting differs from that of the training."""
    if others := sorted(overrides.keys() - {"data"}):
        raise UserError(f"{command} takes settings of the data only, --set data....; {others[0]} belongs to finetune.")
    kind, old = detect(path), trained.data
    selection = {key: value for key, value in old["source"].items() if key in _SELECTION_OPTIONS and kind == old["source"]["name"]}
    values = {**old, "path": path, "source": {"name": kind, **selection}, "label": "", "max_bad_fraction": 1}
    settings = resolve_part(Data, merge({"data": values}, overrides)["data"], "data")
    new_settings = settings.model_dump(mode="json")
    trained.check({f"data.{key}": new_settings[key] for key in SETTINGS}, "", "Leave it out of --set.")
    return settings


def prepare_new_images(reporter: Reporter, trained: Trained, settings: Data, source: Source) -> Store:
    """The source, prepared. Raises UserError if it is prepared in another way than the images of the training."""
    store = Store.open(source.root) if source.kind == "store" else None
    if not trained.takes_slices and (store_has_slices(store) if store else source_has_slices(source)):
        raise UserError(
            f"{settings.path} holds slices of volumes (volumes: True), but the {trained.model} was trained on images that are none "
            f"(volumes: False). Name images like those, or fine-tune a {trained.model} on slices."
        )
    if store is None:
        store = prepare(source, settings, cache_folder(), lambda done, total: reporter.progress("prepare", done, total))
        end_workers()
    remedy = f"Name the images instead of the store, and they are prepared as in the training of the {trained.model}"
    if source.kind != "store":
        remedy = f"Use medssl {trained.version}, which trained it"
    trained.check(contract(store.card), f" in {settings.path}", f"{remedy}, or train again.")
    return store


def report_new_images(reporter: Reporter, store: Store, source: Source) -> None:
    """Say how many images of how many patients there are, with the notes of the source."""
    table = store.table
    images = "volumes" if whole_volumes(store) else "images"
    reporter.say(f"data      {len(table)} {images} of {table['patient'].nunique()} patients ({source.kind})")
    for note in source.notes:
        reporter.say(f"          {note}")


def check_output(out: Path, data: str | None, overwrite: bool, also: Sequence[Path] = ()) -> None:
    """Raises UserError where `out`, or one of the files that are written beside it, exists and may not be replaced, where there is no
    folder for it, and where it is inside the data folder."""
    for file in (out, *also):
        if file.exists() and not (overwrite and file.is_file()):
            raise UserError(f"{file} exists. Name another file with --out, or add --overwrite to replace it.")
    if not out.absolute().parent.is_dir():
        raise UserError(f"There is no folder for {out}. Make it, or name another file with --out.")
    if data and Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{out} is inside the data folder, where it would count as a table of labels. Name a file elsewhere with --out.")


def write_key_list(store: Store, source: Source) -> Path | None:
    """Writes the key of each image beside the name of its file, for the operator, into <cache>/private, which must not leave the site.
    Returns the path of the list; None for a store, whose images have no names."""
    if source.kind == "store":
        return None
    cache = cache_folder()
    keys = store.table["key"].to_numpy(str)
    images = list_named_images(store, source, site_key(cache))
    rows = [(image.file, str(image.index), keys[image.row]) for image in images if image.row is not None]
    path = cache / "private" / f"{store.card['fingerprint']}-keys.csv"
    private_folder(path.parent)
    path.unlink(missing_ok=True)
    write_private(path, csv_text([("file", "index", "key"), *rows]))
    return path
