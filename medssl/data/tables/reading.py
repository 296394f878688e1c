"""Reading tables as columns of text: CSV and TSV (also packed with gzip), and Parquet. The patient 00123 stays 00123."""

from __future__ import annotations

import csv
import gzip
import io
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow
from pyarrow import parquet

from medssl.data.formats.parquet_images import read_columns
from medssl.data.names import readable
from medssl.data.tables.columns import knows_name
from medssl.errors import UserError

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_SEPARATORS = ",;\t|"
_SAMPLE = 20  # rows that are compared to find the separator
_IMAGE = re.compile(r"\.(png|jpe?g|tiff?|bmp|dcm|dicom|nii|nii\.gz|hdr|img|ima)$", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")
_MAX_BYTES = 2**31  # of the text, also when it is unpacked


class Table(NamedTuple):
    """A table as columns of text, without spaces around the cells. `name`: in messages; `header`: the names of the columns; `rows`: the
    number of each row as in a spreadsheet, where the first line is row 1; `headed`: False where the first line is data, and the columns
    are called "column 1", "column 2"; `starts`: where several files are read as one table, the position of each one's first row."""

    name: str
    file: Path
    header: list[str]
    columns: list[Sequence[str]]
    rows: Sequence[int]
    headed: bool = True
    starts: Sequence[int] = (0,)

    def column(self, name: str) -> Sequence[str]:
        """The cells of the column."""
        return self.columns[self.header.index(name)]


def is_table(name: str) -> bool:
    """Whether a file with this name is a table, by its suffix."""
    return name.lower().endswith(SUFFIXES)


def read_table(file: Path, name: str, names_image: Callable[[str], bool]) -> Table:
    """The table in a file. `name`: the table in messages; `names_image`: whether a cell names one of the images, by which a table
    without a header is recognised. Messages name rows, and never repeat a cell.

    Raises UserError, with the row, for what cannot be read with certainty: another encoding, rows of another length, two columns of one
    name; and for a table without rows.
    """
    try:
        _check_file(file, name)
        lines = _read_parquet(file, name) if file.suffix.lower() == ".parquet" else _read_text(file, name)
        first = next(lines, (1, []))[1]
        headed = file.suffix.lower() == ".parquet" or not first or _is_header(first, names_image)
        header = first if headed else [f"column {n + 1}" for n in range(len(first))]
        _check_header(header, name)
        body = list(lines) if headed else [(1, first), *lines]
    except pyarrow.ArrowException as error:
        raise UserError(f"{name} cannot be read ({type(error).__name__}). Is it a CSV (UTF-8) or Parquet file?") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "damaged"
        raise UserError(f"{name} cannot be read: {reason}. Is it a CSV (UTF-8) or Parquet file?") from None
    if header and not body:
        raise UserError(f"{name} has a header but no rows. List one image a row.")
    columns = list(zip(*(cells for _, cells in body), strict=True)) if body else [() for _ in header]
    return Table(name, file, list(header), [*columns], [number for number, _ in body], headed)


def refuse_images_in_tables(root: Path, tables: Sequence[str]) -> None:
    """Raises UserError where one of the Parquet files holds images."""
    for table in tables:
        if table.lower().endswith(".parquet"):
            try:
                _text_columns(root / table, "A Parquet file in the folder")
            except (pyarrow.ArrowException, OSError):
                continue


def public_header(table: Table) -> str:
    """The names of the columns for a message; not told where no name is known, as the first line may then be data."""
    if not table.header:
        return "it has none"
    if not table.headed or not any(knows_name(name) for name in table.header):
        return f"none of its {len(table.header)} columns has a name that medssl knows"
    return "it has " + ", ".join(map(repr, table.header))


def refuse_control_characters(table: Table, cells: Sequence[str], what: str) -> None:
    """Raises UserError, with the row, for a cell that holds a line break or another control character. `what`: what the cells are."""
    for cell in set(cells):
        if any(ord(character) < 32 for character in cell):
            row = table.rows[cells.index(cell)]
            raise UserError(f"{table.name}, row {row}: the {what} contains a line break or control character. Remove it.")


def format_rows(numbers: Sequence[int]) -> str:
    """The first 20 of the row numbers as text, and how many more there are.

    >>> format_rows([3, 4])
    'row 3, row 4'
    """
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    return ", ".join(f"row {number}" for number in numbers[:20]) + more


def _is_header(cells: Sequence[str], names_image: Callable[[str], bool]) -> bool:
    if any(_IMAGE.search(cell) or ("/" in cell and names_image(cell)) for cell in cells):
        return False
    if any(knows_name(cell) for cell in cells):
        return True
    return not any(cell and (names_image(cell) or _NUMBER.fullmatch(cell)) for cell in cells)


def _check_header(header: Sequence[str], name: str) -> None:
    twice = [column for column, count in Counter(header).items() if column and count > 1]
    if twice:
        which = f"the column {twice[0]!r}" if any(map(knows_name, header)) else "one name of a column"
        raise UserError(f"{name}, row 1: {which} occurs twice. Keep one, or give them different names.")


def _check_file(file: Path, name: str) -> None:
    """Raises UserError where the table is no regular file (opening a pipe would block for ever) or too large for the memory."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{name} is a folder, a pipe, a socket or a device. Name a CSV or Parquet file.")
    if found.st_size > _MAX_BYTES:
        raise UserError(f"{name} has more than {_MAX_BYTES / 2**30:g} GiB. Keep the rows of the images and the columns that are needed.")


def _read_text(file: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    text = _decode(_unpack(file, name), name)
    separator = _find_separator(text)
    width, number = 0, 0
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator), 1):
            width = width or len(cells)
            if cells and len(cells) != width:
                raise UserError(f"{name}, row {number}: {len(cells)} cells under {width} columns. Quote cells that contain commas.")
            if cells:
                yield number, [readable(cell.strip()) for cell in cells]
    except csv.Error as error:
        raise UserError(f"{name}, row {number + 1}: {error}. Save it as CSV with commas and double quotes.") from None


def _unpack(file: Path, name: str) -> bytes:
    if file.suffix.lower() != ".gz":
        return file.read_bytes()
    with gzip.open(file) as stream:
        raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise UserError(f"{name} unpacks to more than {_MAX_BYTES / 2**30:g} GiB. Keep the columns that are needed, or save it as Parquet.")
    return raw


def _decode(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    if (position := raw.find(b"\0")) >= 0:
        raise UserError(f"{name}, byte {position}: a NUL character. Is it a CSV file? Save it as CSV in UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, row {row}, byte {error.start}: not UTF-8 text (Latin-1?). Save it as CSV in UTF-8.") from None


def _find_separator(text: str) -> str:
    """The separator with which the first rows have the most columns, and all as many; the comma where none has two."""
    widths = {}
    for separator in _SEPARATORS:
        rows = islice(csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=separator), _SAMPLE)
        try:
            found = [len(row) for row in rows if row]
        except csv.Error:
            continue
        if found and min(found) == found[0] == max(found) and found[0] > 1:
            widths[separator] = found[0]
    if widths:
        return max(widths, key=lambda separator: widths[separator])
    first = text.partition("\n")[0]
    return max(_SEPARATORS, key=first.count)


def _read_parquet(file: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows as text. Columns that cannot become text, such as lists of numbers, are empty; lists of words are written as lists."""
    table = read_columns(file, name, _text_columns(file, name), _MAX_BYTES)
    columns = []
    for column in table.columns:
        if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
            columns.append([_list_in_words(value) for value in column.to_pylist()])
            continue
        try:
            columns.append([readable((value or "").strip()) for value in column.cast(pyarrow.string()).to_pylist()])
        except pyarrow.ArrowNotImplementedError:
            columns.append([""] * table.num_rows)
    yield 1, table.column_names
    yield from ((number, list(values)) for number, values in enumerate(zip(*columns, strict=True), 2))


def _list_in_words(value: Sequence[object] | None) -> str:
    return str(value) if value is not None and all(isinstance(part, str) for part in value) else ""


def _text_columns(file: Path, name: str) -> list[str]:
    """The names of the columns. Raises UserError where the images themselves are in the table."""
    schema = parquet.read_schema(file)
    for field in schema:
        packed = pyarrow.types.is_struct(field.type)
        kinds = [field.type.field(n).type for n in range(field.type.num_fields)] if packed else [field.type]
        if any(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) for kind in kinds):
            raise UserError(
                f"{name} holds the images themselves (column {field.name!r}), so it describes no other images. "
                "Name the file itself with --data; or write each image as a file, and a table with the paths and labels beside "
                "them; with the Python package of Hugging Face: for n, row in enumerate(dataset): row['image'].save(f'{n}.png')"
            )
    return schema.names
