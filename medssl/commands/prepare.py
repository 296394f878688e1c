"""`medssl prepare`: read all images once, say what was found and what was left out, and write the store."""

import json
from collections.abc import Sequence
from pathlib import Path

from medssl.data.audit import audit_lines
from medssl.data.cache import cache_folder
from medssl.data.prepare import Shard, prepare_shard
from medssl.data.prepare import prepare as prepare_store
from medssl.data.store import Store, StoredVolumes, private_list
from medssl.errors import Interrupted, UserError
from medssl.runs.command_line import command_line, pretrain_after_prepare
from medssl.runs.resolve_config import flags_and_sets, resolve_data_config
from medssl.types import Reporter, edges


def prepare(
    reporter: Reporter,
    *,
    data: str | None = None,
    preset: str | None = None,
    out: Path | None = None,
    shard: str | None = None,
    sets: Sequence[str] = (),
) -> Path | None:
    """The folder of the store; None if only a shard was prepared.

    Raises UserError for wrong input, Interrupted after Ctrl-C: finished chunks are kept, and the same command continues.
    """
    share = Shard.parse(shard) if shard else None
    settings, source = resolve_data_config(reporter, data, preset, flags_and_sets(None, None, None, sets))
    if source.kind == "store":
        raise UserError(f"{data} is prepared already. Next: {pretrain_after_prepare(data or '', preset, None, sets)}")
    progress = lambda done, total: reporter.progress("prepare", done, total)  # noqa: E731
    try:
        if share:
            records = prepare_shard(source, settings, cache_folder(), share, progress, out)
            again = command_line("prepare", {"data": data, "preset": preset, "out": out}, sets)
            reporter.say(f"shard     {shard}: {records} images; when all shards are done, the next command joins them")
            reporter.say(f"next      {again}")
            return None
        store = prepare_store(source, settings, cache_folder(), progress, out, on_wait=reporter.say)
    except KeyboardInterrupt:
        raise Interrupted("Stopped. The prepared images are kept, and the same command continues with the others.") from None
    report_audit(store, reporter)
    reporter.say(f"next      {pretrain_after_prepare(data or '', preset, out, sets)}")
    return store.path


def report_audit(store: Store, reporter: Reporter) -> None:
    """Say the audit of a store, and where the store and its files are."""
    found = json.loads((store.path / "audit.json").read_text("utf-8"))
    for heading, sentence in audit_lines(found):
        say = reporter.warn if heading in ("leak", "look", "damage") else reporter.say
        say(f"{heading:9} {sentence}")
    if found["images"]["skipped"] or found["images"].get("suspect"):
        reporter.say(f"left out  named in {private_list(cache_folder(), store.card['fingerprint'])}, which must not leave the site")
    if "negatives" in found:
        list_of_files = private_list(cache_folder(), store.card["fingerprint"], "negatives")
        reporter.say(f"negatives named in {list_of_files}, which must not leave the site")
    settings = store.card["settings"]
    colours = {1: "grey", 3: "colour"}.get(settings["channels"], f"{settings['channels']} channels")
    colours = f"channels {', '.join(names)}" if (names := settings.get("sequences")) else colours
    size = " x ".join(map(str, edges(store.card["size"] if store.images.ndim == 4 else tuple(store.card["size"]))))
    unit = "pixels" if store.images.ndim == 4 else "voxels (slices, rows, columns)"
    stored = "stored in full, for patches of" if isinstance(store.images, StoredVolumes) else "stored as"
    reporter.say(f"{stored} {size} {unit}, {colours}, window {settings['window']}")
    reporter.say(f"store     {store.path} (audit.json, contact_sheet.png)")
