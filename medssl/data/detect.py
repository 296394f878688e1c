"""Finding the source that reads the data that --data names."""

from pathlib import Path

from medssl import plugins
from medssl.data.walk import following_links
from medssl.errors import UserError

_FIRST, _LAST = ("phantom", "phantom_volumes", "medmnist", "manifest"), ("dicom", "folder", "image_file")  # "folder" recognises any folder


def detect(data: str) -> str:
    """The name of the first source that recognises `data`.

    Raises UserError where the path does not exist, and for a file that no source reads.
    """
    names = plugins.names("data.sources")
    others = [name for name in names if name not in (*_FIRST, *_LAST)]
    try:
        path: Path | None = Path(data).expanduser() if data else None
    except RuntimeError:  # "~name" where no user has this name
        path = None
    try:
        with following_links(True):  # only to see what kind of data it is
            for name in (*_FIRST, *others, *_LAST) if path else ():
                if plugins.find("data.sources", name).recognises(data):
                    return name
        exists = path is not None and path.exists()
    except OSError as error:
        raise UserError(f"The data {data} cannot be read: {error.strerror}. Check the rights of the folder and of those above.") from None
    if not exists:
        raise UserError(f"The data {data!r} does not exist. Check --data; current folder: {Path.cwd()}. Without data, try --data phantom.")
    raise UserError(
        f"The file {data} is neither an image nor a list of images. Name a folder of images, one image file (DICOM, NIfTI, PNG, JPEG, "
        "TIFF, BMP), a .csv or .parquet table, a MedMNIST .npz file, medmnist:NAME, or phantom."
    )
