"""Parquet files with the images inside, as the Hugging Face Hub stores data sets: one file, or a folder of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow
from pyarrow import parquet

from medssl.data import contents, walk
from medssl.data.formats.parquet_images import class_names, image_column
from medssl.data.tables.columns import TableConfig, find_columns, normalise_name, parse_split
from medssl.errors import UserError
from medssl.types import Record, Source

_SUFFIX = ".parquet"
_SAMPLE = 4


class Config(TableConfig):
    name: str = "parquet_images"


def recognises(data: str) -> bool:
    """A Parquet file with a column of images; or a folder with such files and without image files."""
    path = Path(data).expanduser()
    if path.is_file():
        return path.suffix.lower() == _SUFFIX and image_column(path) != ""
    if not path.is_dir():
        return False
    files = [path / found.locator for found in walk.list_files(path) if not found.reason and found.locator.lower().endswith(_SUFFIX)]
    return any(map(image_column, files[:_SAMPLE])) and not contents.kind_of_folder(path)


def build(config: Config, data: str) -> Source:
    """One record for each row, with the labels, patients and splits of the other columns. Numbers of classes become the names that the
    Hub's metadata state. Without a column for it, the split is that of the file's name or folder. Raises UserError where there is no
    image."""
    path = Path(data).expanduser()
    root = path.parent.resolve() if path.is_file() else walk.resolve_folder(data)
    names = [path.name] if path.is_file() else [found.locator for found in walk.list_files(root) if not found.reason]
    columns = {name: column for name in names if name.lower().endswith(_SUFFIX) and (column := image_column(root / name))}
    if not columns:
        raise UserError(f"There is no Parquet file with a column of images below {data}. Check --data.")
    records = tuple(record for name, column in columns.items() for record in _records(root, name, column, config))
    if not records:
        raise UserError(f"The Parquet files below {data} have no rows. Check --data.")
    notes = [f"{len(records)} images inside {len(columns)} Parquet files"]
    if any(record.split for record in records):
        splits = Counter(record.split or "no split" for record in records)
        notes.append("splits: " + ", ".join(f"{split} {number}" for split, number in splits.items()))
    return Source("parquet_images", root, records, tuple(notes))


def _records(root: Path, name: str, column: str, config: Config) -> Iterator[Record]:
    """A record for each row of a file."""
    file = root / name
    header = [other for other in parquet.read_schema(file).names if other != column]
    found, classes = find_columns(header, config, "The Parquet file"), class_names(file)
    positions = {**found.roles, **found.labels}
    wanted = {header[at] for at in positions.values()} | (classes.keys() & set(header))
    rows = parquet.ParquetFile(file).metadata.num_rows
    table = parquet.read_table(file, columns=sorted(wanted)) if wanted else None
    cells = {each: _as_text(table, each, classes.get(each, [])) for each in wanted} if table else {}
    labels = {each: each for each in (*(header[at] for at in found.labels.values()), *classes) if each in cells}
    roles = {role: header[at] for role, at in found.roles.items() if header[at] in cells}
    if "label" in roles:
        labels = {other: each for other, each in labels.items() if each != roles["label"]} | {"label": roles["label"]}
    split_of_file = _split_of_file(name)
    for row in range(rows):
        known = {role: cells[of][row] for role, of in roles.items()}
        yield Record(
            f"{name}#{column}",
            "parquet",
            row,
            labels={label: value for label, of in labels.items() if (value := cells[of][row])},
            patient=known.get("patient") or None,
            study=known.get("study") or None,
            site=known.get("site") or None,
            split=parse_split(known.get("split", "")) or split_of_file,
            extra={extra: known[extra] for extra in ("sex", "age", "view", "scanner") if known.get(extra)},
        )


def _as_text(table: pyarrow.Table, column: str, classes: list[str]) -> list[str]:
    """The cells as text, "" where they are empty or of a type that is no text; numbers of classes as their names."""
    try:
        values = table[column].cast(pyarrow.string()).to_pylist()
    except pyarrow.ArrowNotImplementedError:
        return [""] * table.num_rows
    return [classes[int(value)] if classes and (value or "").isdecimal() and int(value) < len(classes) else value or "" for value in values]


def _split_of_file(name: str) -> str | None:
    """The split that the name of a shard states, as in data/train-00000-of-00001.parquet or test/0.parquet."""
    parts = [*Path(name).parts[:-1], Path(name).name.split(".")[0].split("-")[0]]
    return next((split for part in reversed(parts) if (split := parse_split(normalise_name(part)))), None)
