"""Headers of image files, checked before any pixels are unpacked."""

from medssl.data.formats.channels import channels_first
from medssl.data.formats.last_opened import LastOpened
from medssl.data.formats.open_file import open_regular_file, raise_if_of_the_machine, size_and_time
from medssl.data.formats.raster_files import picture_pages, raster_size

__all__ = ["LastOpened", "channels_first", "open_regular_file", "picture_pages", "raise_if_of_the_machine", "raster_size", "size_and_time"]
