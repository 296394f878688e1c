"""Checkpoints: everything needed to go on, in one file that is either whole or not there.

A file is one line of magic with the SHA-256 of the rest, then torch's archive of {format, step, method, optimiser, config}. Written to
a temporary file beside its place, synced, and renamed; the one before stays as `previous.ckpt`, so that a disk's fault costs one interval.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from medssl.errors import UserError

FORMAT = 1
_MAGIC = b"medssl checkpoint 1 sha256 "
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` (tensors, numbers, text) the newest checkpoint of the run folder."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    body = buffer.getbuffer()
    temporary = folder / f"{LAST}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n")
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        temporary.replace(folder / LAST)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"Cannot save the checkpoint in {folder}: {error.strerror}. It needs {len(body) / 1e6:.0f} MB.") from None
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def load(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest whole checkpoint of a run folder, and a note where that is not the last one ("" otherwise).

    Raises UserError where there is none, or none whose digest fits.
    """
    problems = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        with path.open("rb") as file:
            line, body = file.readline(), file.read()
        digest = line.removeprefix(_MAGIC).strip().decode("ascii", "replace")
        if line.startswith(_MAGIC) and hashlib.sha256(body).hexdigest() == digest:
            state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            if state["format"] != FORMAT:
                raise UserError(f"{path} has format {state['format']}; this medssl reads {FORMAT}. Use the release that wrote it.")
            return state, f"went back to step {state['step']}: {'; '.join(problems)}" if problems else ""
        problems.append(f"{name} is damaged (its digest does not fit)")
    if problems:
        raise UserError(f"No usable checkpoint in {folder}: {'; '.join(problems)}. Start the run again.")
    raise UserError(f"Nothing to resume in {folder}: there is no {LAST}. Name the run folder of an interrupted pretraining.")
