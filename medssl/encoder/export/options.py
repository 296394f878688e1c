"""What a user can choose about an export, and what is known of a finished one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`with_preparation`: the network takes 8-bit images of any size (format onnx). `with_hashes`: the card has a Bloom filter of the
    training patients and images. `licence`: the licence of the exported weights, None for that of the card. `key`: the private key that
    signs the card."""

    with_preparation: bool = False
    with_hashes: bool = False
    licence: str | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Exported:
    """`files`: what was written, the encoder first. `difference`: the largest one of the check, as a share of the largest feature, and
    `tolerance`: the accepted one. `usage`: the Python lines with which the encoder is used."""

    files: tuple[Path, ...]
    difference: float
    tolerance: float
    usage: str
