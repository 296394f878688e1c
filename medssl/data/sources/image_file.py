"""One image file of any kind that medssl reads, found by its content: DICOM with any name, PNG, JPEG, TIFF, BMP, or NIfTI.

Every frame, page or slice of the file is an image.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from medssl.config import Limits, PluginConfig
from medssl.data.contents import kind_of_file
from medssl.data.dicom import series
from medssl.data.formats import nifti_header, picture_pages
from medssl.data.sources import nifti
from medssl.errors import ReadError, UserError
from medssl.types import Record, Source


class Config(PluginConfig):
    name: str = "image_file"
    limits: Limits = Field(default=Limits(), description="Limits above which the file is refused.")


def recognises(data: str) -> bool:
    """A file that begins like an image, whatever its name."""
    try:
        return kind_of_file(Path(data).expanduser()) != ""
    except (OSError, ValueError, RuntimeError):  # no such file, a name that is no path, "~name" where no user has this name
        return False


def build(config: Config, data: str) -> Source:
    """Lists the images of the file. Raises UserError where it has none that can be used."""
    file = Path(data).expanduser()
    if not file.is_file():
        raise UserError(f"The file {data} does not exist. Check --data; current folder: {Path.cwd()}.")
    try:
        records, notes = list_images(file, config.limits)
    except ReadError as error:
        raise UserError(f"{data} has no image that can be used ({error}). Name another file, or a folder of images.") from None
    return Source("image_file", file.parent.resolve(), records, notes)


def list_images(file: Path, limits: Limits) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """The images of the file, and notes on them for a person. Raises ReadError where it has none that can be used."""
    root, notes = file.parent.resolve(), ()
    match kind_of_file(file):
        case "dicom":
            found = series.list_frames(root, [file.name], limits)
            records, notes = found.records, found.notes
            if not records:
                raise ReadError("".join(f"{reason}: {detail}" for _, reason, detail in found.skipped))
        case "nifti":
            header = nifti_header.read(file, limits)
            records = tuple(nifti.slices(Record(file.name, "nifti"), header, header.volumes, "all"))
        case "raster":
            pages = picture_pages(file)
            named = file.name if len(pages) > 1 else None
            records = tuple(Record(file.name, "raster", page, series=named) for page in pages)
        case _:
            raise ReadError("not_an_image: its first bytes are not those of an image")
    return records, notes
