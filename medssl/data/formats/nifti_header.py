"""The header of a NIfTI-1 or NIfTI-2 file, checked before any voxels are unpacked: a file of 480 bytes can claim 4 GB.

The positions of the fields are those of nifti1.h and nifti2.h (https://nifti.nimh.nih.gov). Fields that may name a person (descrip,
db_name, aux_file) are not read. Voxels are brought into LPS order, as in DICOM's axial images: columns go from the patient's right to the
left, rows from anterior to posterior, slices from the feet to the head.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medssl.config import Limits
from medssl.data.formats.open_file import open_regular_file, raise_if_of_the_machine
from medssl.data.volume_axes import affine_in_lps, axis_codes
from medssl.errors import ReadError

Order = Literal["<", ">"]
Stream = BufferedReader | gzip.GzipFile
_GZIP = b"\x1f\x8b"
_MAX_INFLATION = 1032  # the most bytes that one compressed byte can become (RFC 1951)
# datatype -> NumPy's name of one sample; colours: datatype -> samples of a voxel
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8", 1536: "f16"}
_COLOURS = {128: 3, 2304: 4}
_COMPLEX = (32, 1792, 2048)
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # code of the unit (metres, micrometres) -> mm; every other code counts as mm
_MOST_MM = 100.0  # of a voxel in metres: a larger edge is one in mm, in a file with a wrong unit
_SAME_EDGE = 0.01  # of the edge
_SIZES = {1: 348, 2: 540}
# NIfTI version -> `struct` layout and position in bytes of each field
_FIELDS = {
    1: {"dim": ("8h", 40), "type": ("h", 70), "pixdim": ("8f", 76), "offset": ("f", 108), "scl": ("2f", 112), "units": ("B", 123)},
    2: {"dim": ("8q", 16), "type": ("h", 12), "pixdim": ("8d", 104), "offset": ("q", 168), "scl": ("2d", 176), "units": ("i", 500)},
}


@dataclass(frozen=True, slots=True)
class Header:
    """Everything that is needed to read the voxels. `data`: the file with the voxels; `offset`: its byte where they begin; `samples`: of a
    voxel, 1 or more for colours; `shape`: [x, y, z] as stored; `lps`: for each stored axis its LPS axis and 1 or -1 (flipped), as in
    nibabel.orientations; `affine`: from [x, y, z] as stored to the patient's mm in RAS; None where the file does not state it, and then the
    axes count as left, anterior and superior."""

    data: Path
    offset: int
    dtype: np.dtype
    samples: int
    shape: tuple[int, int, int]
    volumes: int
    slope: float
    intercept: float
    lps: np.ndarray
    affine: np.ndarray | None
    voxel_mm: tuple[float, float, float]

    @property
    def depth(self) -> int:
        """The number of axial slices."""
        return self.shape[self._stored_axis(2)]

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of an axial slice."""
        return self.shape[self._stored_axis(1)], self.shape[self._stored_axis(0)]

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """The distance in mm between rows and between columns; None where the file does not state it."""
        spacing = self.voxel_mm[self._stored_axis(1)], self.voxel_mm[self._stored_axis(0)]
        return spacing if min(spacing) > 0 else None

    @property
    def oriented(self) -> bool:
        """Whether the file states how its axes lie."""
        return self.affine is not None

    @property
    def to_lps(self) -> np.ndarray | None:
        """As in `types.VolumeFacts`."""
        return None if self.affine is None else affine_in_lps(np.diag([-1.0, -1, 1, 1]) @ self.affine, self.lps, self.shape)

    @property
    def orientation(self) -> str:
        """Where the axes of the stored array point to, such as "RAS"; "" where the file does not say it."""
        return axis_codes(self.lps) if self.oriented else ""

    @property
    def volume_mm(self) -> tuple[float, float, float] | None:
        """The distance in mm between axial slices, rows and columns; None where the file does not state it."""
        slices, rows, columns = (self.voxel_mm[self._stored_axis(axis)] for axis in (2, 1, 0))
        return (slices, rows, columns) if min(slices, rows, columns) > 0 else None

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume as stored."""
        return math.prod(self.shape) * self.samples * self.dtype.itemsize

    def _stored_axis(self, axis: int) -> int:
        return self.lps[:, 0].tolist().index(axis)


def is_gzip(path: Path) -> bool:
    """Whether the file is compressed with gzip, by its first two bytes."""
    with open_regular_file(path) as file:
        return file.read(2) == _GZIP


def version(first_bytes: bytes) -> tuple[int, Order] | None:
    """The NIfTI version and the byte order ("<" or ">") of a header that starts with these bytes; None for other formats, also Analyze."""
    orders: tuple[Order, ...] = "<", ">"
    for order in orders:
        size = struct.unpack_from(f"{order}i", first_bytes)[0] if len(first_bytes) >= 4 else 0
        if size == 348 and first_bytes[344:347] in (b"n+1", b"ni1"):
            return 1, order
        if size == 540 and first_bytes[4:7] in (b"n+2", b"ni2"):
            return 2, order
    return None


def inflated_head(first_bytes: bytes, size: int = 544) -> bytes:
    """The first `size` bytes of a file, inflated if the file is compressed with gzip; empty where they cannot be inflated."""
    if not first_bytes.startswith(_GZIP):
        return first_bytes[:size]
    try:
        return zlib.decompressobj(31).decompress(first_bytes, size)
    except zlib.error:
        return b""


def read(path: Path, limits: Limits) -> Header:
    """The header of a .nii, .nii.gz or .hdr file.

    Raises ReadError: what `open_regular_file` raises, not_nifti, not_an_image (complex numbers), missing_img, bad_header, too_big,
    header_bigger_than_file, too_many_frames, too_many_pixels.
    """
    with open_regular_file(path) as file:
        first_bytes = inflated_head(file.read(4096))
    number, order = version(first_bytes) or (0, "<")
    if not number or len(first_bytes) < _SIZES[number]:
        raise ReadError("not_nifti: no header of NIfTI-1 or NIfTI-2")
    fields = {name: struct.unpack_from(order + kind, first_bytes, at) for name, (kind, at) in _FIELDS[number].items()}
    sample, samples = _sample_type(*fields["type"])
    shape, volumes = _shape(fields["dim"])
    data, offset = (
        (_find_image_file(path), 0) if _is_paired(first_bytes) else (path, _SIZES[number] + 4)
    )  # the voxels come after the header and the 4 bytes of the extension flag
    if not (math.isfinite(*fields["offset"]) and 0 <= fields["offset"][0] < 2**40):
        raise ReadError("bad_header: the place of the voxels is no position in a file")
    offset, dtype = max(offset, int(*fields["offset"])), np.dtype(sample).newbyteorder(order)
    _check_size(data, offset, volumes, math.prod(shape) * samples * dtype.itemsize, limits)
    lps, affine = _orientation(first_bytes, number, order)
    x, y, z = _edges(fields["pixdim"][1:4], affine)
    unit_mm = _unit_mm(fields["units"][0], max(x, y, z))
    affine, voxel_mm = None if affine is None else np.diag([unit_mm] * 3 + [1]) @ affine, (x * unit_mm, y * unit_mm, z * unit_mm)
    header = Header(data, offset, dtype, samples, shape, volumes, *_scaling(*fields["scl"]), lps, affine, voxel_mm)
    if header.depth * volumes > limits.max_frames:
        raise ReadError(f"too_many_frames: {header.depth} slices in {volumes} volumes, the limit is {limits.max_frames}")
    if math.prod(header.plane) * samples > limits.max_pixels:
        raise ReadError(f"too_many_pixels: {header.plane[0]} x {header.plane[1]} x {samples}, the limit is {limits.max_pixels}")
    return header


def files(path: Path) -> tuple[Path, ...]:
    """The file of the header and, where the voxels are in a file of their own, that file. A file that cannot be read counts as one."""
    try:
        image = _find_image_file(path)
        with path.open("rb") as file:
            return (path, image) if _is_paired(inflated_head(file.read(4096))) else (path,)
    except (ReadError, OSError):
        return (path,)


def _is_paired(first_bytes: bytes) -> bool:
    """Whether a header states that the voxels are in a file of their own."""
    return b"ni" in (first_bytes[344:346], first_bytes[4:6])


def _scaling(slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where they are not finite or where the slope is 0, which means that the file has no scaling."""
    scaled = slope != 0 and math.isfinite(slope) and math.isfinite(intercept)
    return (slope, intercept) if scaled else (1.0, 0.0)


def _sample_type(code: int) -> tuple[str, int]:
    if code in _COMPLEX:
        raise ReadError("not_an_image: complex numbers")
    if code not in _TYPES and code not in _COLOURS:
        raise ReadError(f"bad_header: datatype {code} is none of NIfTI's")
    return _TYPES.get(code, "u1"), _COLOURS.get(code, 1)


def _shape(dim: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """The shape [x, y, z] of a volume and the number of volumes in the file."""
    axes = dim[0]
    if not 2 <= axes <= 7 or min(dim[1 : axes + 1]) < 1:
        raise ReadError(f"bad_header: {axes} axes of {list(dim[1 : max(0, axes) + 1])} voxels")
    x, y, z, *more = *dim[1 : axes + 1], *[1] * (3 - axes)
    return (x, y, z), math.prod(more)


def _edges(pixdim: tuple[float, ...], affine: np.ndarray | None) -> tuple[float, float, float]:
    """The edges of a voxel in the unit of the file, 0 where it does not state them. Where the affine has other edges than pixdim, those of
    the affine count: it says where voxels lie in the patient."""
    edges = [abs(edge) if math.isfinite(edge) else 0.0 for edge in pixdim]
    in_patient = edges if affine is None else np.linalg.norm(affine[:3, :3], axis=0).tolist()
    x, y, z = (edge if abs(edge - other) <= _SAME_EDGE * other else other for edge, other in zip(edges, in_patient, strict=True))
    return x, y, z


def _unit_mm(units: int, largest: float) -> float:
    """The unit of the file in mm. `largest`: the longest edge of a voxel in this unit."""
    unit_mm = _MM_PER_UNIT.get(units & 7, 1.0)
    return 1.0 if unit_mm > 1 and largest * unit_mm > _MOST_MM else unit_mm


def _find_image_file(path: Path) -> Path:
    """The .img file beside a .hdr file; either may be compressed. Raises ReadError missing_img."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    for suffix in (".img", ".img.gz", ".IMG"):
        if (image := path.with_name(stem + suffix)).is_file():
            return image
    raise ReadError("missing_img: the voxels' file is not next to its header")


def _orientation(first_bytes: bytes, number: int, order: Order) -> tuple[np.ndarray, np.ndarray | None]:
    """`lps` and `affine` of the Header: from the sform if its affine is usable, else from the qform, else nibabel's default, LAS."""
    from nibabel.nifti1 import Nifti1Header  # takes a second to import, and is not needed to search for files
    from nibabel.nifti2 import Nifti2Header
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    kind = Nifti1Header if number == 1 else Nifti2Header
    header = kind(first_bytes[: _SIZES[number]], endianness=order, check=False)
    qfac, *edges = header["pixdim"][:4]  # corrected as nibabel's own check does; that check would print log lines
    header["pixdim"][:4] = (-1 if qfac == -1 else 1, *np.abs(edges))
    affine = next((matrix for matrix in (_usable_affine(header.get_sform), _usable_affine(header.get_qform)) if matrix is not None), None)
    stored = axcodes2ornt("LAS") if affine is None else io_orientation(affine)
    return ornt_transform(stored, axcodes2ornt("LPS")).astype(int), affine


def _usable_affine(form: Any) -> np.ndarray | None:
    """The affine matrix of the sform or qform; None where the header states none, or where the matrix is not invertible."""
    with np.errstate(all="ignore"):
        try:
            affine, code = form(coded=True)
        except (ValueError, ArithmeticError):  # a quaternion that is no rotation
            return None
        if affine is None or code <= 0 or not np.isfinite(affine).all():
            return None
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        return affine if edges.min() > 0 and abs(np.linalg.det(affine[:3, :3] / edges)) > 1e-6 else None


def _check_size(data: Path, offset: int, volumes: int, volume_bytes: int, limits: Limits) -> None:
    """Raises ReadError header_bigger_than_file where the file cannot hold the voxels, too_big where they exceed the limits."""
    needed, present, compressed = offset + volumes * volume_bytes, data.stat().st_size, is_gzip(data)
    if needed > present * (_MAX_INFLATION if compressed else 1):
        raise ReadError(f"header_bigger_than_file: {needed} bytes are promised, the file has {present}{' (gzip)' if compressed else ''}")
    if (
        needed > limits.max_array_bytes or 3 * volume_bytes > limits.memory_bytes
    ):  # a volume needs its size three times: itself, a copy, and a copy for the percentiles
        raise ReadError(f"too_big: {needed} bytes, {volume_bytes} of them in one volume")


def voxels(header: Header, stream: Stream, volume: int) -> np.ndarray:
    """One volume [x, y, z] or [x, y, z, samples] of stored values in LPS order. Raises ReadError header_bigger_than_file."""
    from nibabel.orientations import apply_orientation

    stream.seek(header.offset + volume * header.volume_bytes)
    content = stream.read(header.volume_bytes)
    if len(content) < header.volume_bytes:
        raise ReadError(f"header_bigger_than_file: {len(content)} of a volume's {header.volume_bytes} bytes are there")
    stored = np.frombuffer(content, header.dtype).reshape((header.samples, *header.shape), order="F")
    oriented = apply_orientation(np.moveaxis(stored, 0, -1), header.lps)
    return oriented if header.samples > 1 else oriented[..., 0]


def check_gzip(path: Path, limits: Limits) -> None:
    """Inflates the whole file, keeping nothing, so that its checksum is compared. Without that a flipped bit would change voxels unnoticed.

    Raises ReadError crc, truncated, too_big.
    """
    unpacked, buffer = 0, bytearray(1 << 20)
    try:
        with gzip.open(path) as stream:
            while count := stream.readinto(buffer):
                unpacked += count
                if unpacked > limits.max_array_bytes:
                    raise ReadError(f"too_big: more than {limits.max_array_bytes} bytes when unpacked")
    except EOFError:
        raise ReadError("truncated: the compressed data ends too early") from None
    except (OSError, zlib.error) as error:
        raise_if_of_the_machine(error)
        raise ReadError("crc: the compressed data is damaged") from error
