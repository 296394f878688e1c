"""`medssl embed`: a file with the encoder's features of images, which are prepared like the images of its pretraining."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl import __version__
from medssl.config import parse_overrides
from medssl.data.cache import cache_folder, private_folder
from medssl.data.store import Store, private_list
from medssl.data.volume_slices import whole_volumes
from medssl.embedding import Part, files_beside, image_groups, make_parts, volume_groups, volume_keys, write_features
from medssl.encoder import artefact
from medssl.errors import Interrupted, UserError, count_reasons
from medssl.runs.command_line import command_line
from medssl.runs.new_images import Trained, check_output, new_data_settings, prepare_new_images, report_new_images, write_key_list
from medssl.runs.resolve_config import list_source, warn_of_table
from medssl.runs.run_dir import RUNS, newest_encoder
from medssl.train.loop import choose_device
from medssl.types import Reporter, Source

_OF_THE_CARD = (
    *("backbone", "channels", "size", "intensity", "mean", "std"),
    *("preparation", "method", "provenance", "licence", "intended_use"),
)


def embed(
    reporter: Reporter,
    *,
    data: str,
    encoder: str | None = None,
    out: Path = Path("features.parquet"),
    pool: str = "none",
    dtype: str = "float32",
    device: str | None = None,
    overwrite: bool = False,
    sets: Sequence[str] = (),
) -> Path:
    """Write the features and return the path of their file. Default encoder: the newest finished pretraining in runs/. `pool`: "none", or
    "volume" for the mean of the slices of each volume.

    Stopped or killed, the same command goes on after the last finished part. Raises UserError for wrong input, Interrupted after Ctrl-C.
    """
    for option, value, known in (("--pool", pool, ("none", "volume")), ("--dtype", dtype, ("float32", "float16"))):
        if value not in known:
            raise UserError(f"{option} {value}: use {' or '.join(known)}.")
    check_output(out, data, overwrite, files_beside(out))
    origin = Path(encoder) if encoder else newest_encoder(RUNS)
    network, card = artefact.load(origin)
    chosen_device, trained = choose_device(device or "auto"), Trained.by(card)
    settings = new_data_settings(trained, data, parse_overrides(sets), "embed")
    source = list_source(settings)
    warn_of_table(reporter, source)
    reporter.say(f"encoder   {origin}: {card['num_features']} features {'a volume' if settings.volumetric else 'an image'}")
    given = {"data": data, "encoder": encoder, "out": out, "pool": pool, "dtype": dtype, "device": device}
    with _explain_stop(command_line("embed", given, sets) + (" --overwrite" if overwrite else "")):
        store = prepare_new_images(reporter, trained, settings, source)
        report_new_images(reporter, store, source)
        if pool == "volume" and whole_volumes(store):
            raise UserError(f"--pool volume joins slices, but these are whole volumes (data.volumes={settings.volumes}). Leave it out.")
        groups = volume_groups(store.table) if pool == "volume" else image_groups(store)
        parts, folder = make_parts(store, groups, card["weights_sha256"], chosen_device), out.with_name(f"{out.name}.parts")
        _compute_parts(reporter, parts, folder, lambda part, on_images: part.compute(network, store, chosen_device, on_images))
        table = _table(store, groups, pool)
        blocks = (part.load(folder) for part in parts)
        write_features(out, table, blocks, card["num_features"], dtype, _facts(card, store, pool))
    shutil.rmtree(folder, ignore_errors=True)
    _report(reporter, out, table, store, source, pool)
    return out


@contextmanager
def _explain_stop(command: str) -> Iterator[None]:
    """Turns Ctrl-C in the block into an Interrupted that says with which command to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped. What is finished is kept. Continue with: {command}", signal.SIGINT) from None


def _compute_parts(
    reporter: Reporter, parts: Sequence[Part], folder: Path, compute: Callable[[Part, Callable[[int], None]], np.ndarray]
) -> None:
    """Compute and save every part that is not saved yet."""
    private_folder(folder)
    missing = [part for part in parts if not part.is_saved(folder)]
    total, left = (sum(len(part.rows) for part in group) for group in (parts, missing))
    if left < total:
        reporter.say(f"resume    {total - left} of {total} were embedded before")
    begin, computed = time.monotonic(), 0

    def on_images(number: int) -> None:
        nonlocal computed
        computed += number
        reporter.progress("embed", total - left + computed, total, {"images_per_second": computed / (time.monotonic() - begin)})

    if missing:
        reporter.progress("embed", total - left, total)
    for part in missing:
        part.save(folder, compute(part, on_images))


def _table(store: Store, groups: np.ndarray, pool: str) -> pd.DataFrame:
    """One row for each group: its key, patient and labels. For volumes also the number of their images; the key is that of the series, and
    a label is empty where the slices have different ones."""
    labels = [name for name in store.table.columns if str(name).startswith("label:")]
    table = pd.DataFrame(store.table[["key", "patient", *labels]])
    if pool == "none":
        return table
    first = np.unique(groups, return_index=True)[1]
    table = table.iloc[first].reset_index(drop=True)
    table["key"] = volume_keys(store.table)[first]
    table.insert(2, "images", np.bincount(groups).astype(np.int32))
    for name in labels:
        alike = store.table.groupby(groups)[name].nunique().to_numpy() == 1
        table[name] = table[name].where(alike, "")
    return table


def _facts(card: Mapping[str, Any], store: Store, pool: str) -> dict[str, Any]:
    """The metadata of the file: the encoder's digest and what its card says, without any list of patients; and the images' fingerprint."""
    return {
        "encoder": {"weights_sha256": card["weights_sha256"], **{name: card[name] for name in _OF_THE_CARD if name in card}},
        "data": {name: store.card[name] for name in ("fingerprint", "content", "source", "counts")},
        "pool": pool,
        "medssl": __version__,
    }


def _report(reporter: Reporter, out: Path, table: pd.DataFrame, store: Store, source: Source, pool: str) -> None:
    skipped = store.card["counts"]["skipped"]
    if skipped:
        reasons = count_reasons(reason for reason, count in skipped.items() for _ in range(count))
        where = private_list(cache_folder(), store.card["fingerprint"])
        named = f"; they are named in {where}" if where.is_file() else ""
        reporter.warn(f"{sum(skipped.values())} could not be used and have no features ({reasons}){named}")
    reporter.say(
        f"embedded  {len(store.table)} {'volumes' if whole_volumes(store) else 'images'}"
        + (f" in {len(table)} volumes" if pool == "volume" else "")
    )
    reporter.say(f"features  {out}")
    if keys := write_key_list(store, source):
        reporter.say(f"keys      {keys} says which file has which key. It must not leave the site.")
    if out.suffix == ".parquet":
        reporter.say(f"next      {command_line('neighbours', {'in': out})} --query FILE")
    else:
        reporter.say(f"          {out.with_suffix('.csv')} has the keys, in the same order")
