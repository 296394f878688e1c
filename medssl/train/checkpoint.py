"""Checkpoints: the whole state of a training in one file, which is either complete or absent.

The first line of a file has the step and a SHA-256 digest of the line and of the rest of the file. The rest is torch's archive of {step,
method, optimiser, config}. The checkpoint before the last stays as `previous.ckpt`, so damage to the last one costs one interval. A new
checkpoint is called `next.ckpt` until it is on the disk, so at every moment one complete checkpoint exists, even if the machine stops. The
newest checkpoint is the one with the highest step, as clocks may be set back.
"""

import contextlib
import hashlib
import io
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from medssl.errors import UserError
from medssl.files import atomic_file, cannot_write

FORMAT = 2
NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
_HEADER = re.compile(rb"(?P<words>medssl checkpoint (?P<format>\d+) step (?P<step>\d+) sha256 )(?P<digest>[0-9a-f]{64})\n")
_MAX_HEADER_BYTES, _BLOCK_BYTES = 200, 2**20
_FILES_AT_ONCE = 3  # next, last and previous
_MAX_FAILURES = 3


class CheckpointError(UserError):
    """A checkpoint could not be written. The earlier checkpoints are unchanged."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` ("step", tensors, numbers, text) as the newest checkpoint of the run folder. Raises CheckpointError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    try:
        with atomic_file(folder / NEXT) as file:
            file.write(_make_header(state["step"], body))
            file.write(body)
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / NEXT).replace(folder / LAST)
    except (UserError, OSError) as error:
        reason = cannot_write(folder / LAST, error) if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{reason} The checkpoint of step {state['step']} needs {len(body) / 1e6:.1f} MB; the earlier ones are kept."
        ) from None


def save_alone(folder: Path, state: dict[str, Any], warn: Callable[[str], None]) -> None:
    """Write `state` as the only checkpoint of a finished run. Where it cannot be written, this warns, and the earlier ones stay."""
    try:
        save(folder, state)
        (folder / PREVIOUS).unlink(missing_ok=True)
    except (CheckpointError, OSError) as error:
        warn(f"{error} The run is finished; its checkpoints keep the state of the optimiser.")


def load(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest complete checkpoint of a run folder, and a note on damaged checkpoints ("" if none is damaged).

    Raises UserError if the folder has no checkpoint, or no complete one.
    """
    usable: dict[int, Path] = {}
    damage: dict[Path, str] = {}
    for path in (folder / name for name in (NEXT, LAST, PREVIOUS)):
        try:
            usable[_verify(path)] = path
        except FileNotFoundError:
            continue
        except OSError as error:
            damage[path] = f"{path.name} cannot be read ({error.strerror})"
        except _DamagedError as error:
            damage[path] = f"{path.name} is damaged ({error})"
    if usable:
        step = max(usable)
        return _read_state(usable[step]), _describe_damage(step, usable[step], damage)
    if damage:
        raise UserError(f"No usable checkpoint in {folder}: {'; '.join(damage.values())}. Start the run again.")
    raise UserError(f"Nothing to resume in {folder}: there is no {LAST}. Name the run folder of an interrupted pretraining.")


def check_disk_space(folder: Path, method: nn.Module) -> None:
    """Raises UserError if the disk has no room for the three checkpoints that exist while a run saves.

    The optimiser has no state yet when a run starts; the estimate is two numbers for each parameter, as AdamW keeps.
    """
    parameters = sum(p.nbytes for p in method.parameters() if p.requires_grad)
    file_bytes = sum(tensor.nbytes for tensor in method.state_dict().values()) + 2 * parameters
    existing = sum((folder / name).stat().st_size for name in (NEXT, LAST, PREVIOUS) if (folder / name).is_file())
    needed, free = _FILES_AT_ONCE * file_bytes - existing, _free_bytes(folder)
    if needed > free:
        raise UserError(
            f"The checkpoints of this run need {needed / 1e6:.1f} MB more in {folder} "
            f"({_FILES_AT_ONCE} of {file_bytes / 1e6:.1f} MB each), and {free / 1e6:.1f} MB are free. Make space, or name a folder on "
            "another disk with --out."
        )


@dataclass
class Saver:
    """Saves checkpoints during a run. A failure (for example a full disk) is a warning; the fourth failure in a row ends the run."""

    folder: Path
    warn: Callable[[str], None]
    failures: int = 0

    def __call__(self, state: dict[str, Any]) -> None:
        """Raises CheckpointError at the fourth failure in a row."""
        try:
            save(self.folder, state)
            self.failures = 0
        except CheckpointError as error:
            self.failures += 1
            if self.failures > _MAX_FAILURES:
                raise
            self.warn(f"{error} The run continues (failure {self.failures} in a row; {_MAX_FAILURES} are allowed).")


class _DamagedError(Exception):
    """The content of a checkpoint file is not what was written."""


def _make_header(step: int, body: memoryview) -> bytes:
    words = f"medssl checkpoint {FORMAT} step {step} sha256 ".encode()
    digest = hashlib.sha256(words)
    digest.update(body)
    return words + digest.hexdigest().encode() + b"\n"


def _read_header(file: BinaryIO) -> re.Match[bytes] | None:
    """The first line, None if the line is no header. The file's position is then after that line."""
    return _HEADER.fullmatch(file.readline(_MAX_HEADER_BYTES))


def _verify(path: Path) -> int:
    """The step of a complete checkpoint. Raises OSError, _DamagedError, and UserError for another format."""
    with path.open("rb") as file:
        if (header := _read_header(file)) is None:
            raise _DamagedError("it does not start like a checkpoint" if path.stat().st_size else "it is empty")
        digest = hashlib.sha256(header["words"])
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest().encode() != header["digest"]:
        raise _DamagedError("its digest does not fit")
    if int(header["format"]) != FORMAT:
        raise UserError(f"{path} has format {int(header['format'])}; this medssl reads {FORMAT}. Use the release that wrote it.")
    return int(header["step"])


def _read_state(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        _read_header(file)
        body = io.BytesIO(file.read())
    try:
        state = torch.load(body, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it contains something other than tensors, numbers and text. No code in it was run.") from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is no checkpoint of medssl ({type(error).__name__}). Delete it: an earlier one may be beside it."
        ) from None
    if not isinstance(state, dict):
        raise UserError(f"{path} is no checkpoint of medssl. Delete it: an earlier one may be beside it.")
    return state


def check_whole(folder: Path, state: dict[str, Any]) -> None:
    """Raises UserError where the state of a pretraining lacks one of its parts."""
    if missing := [name for name in ("step", "data", "method", "config") if name not in state]:
        raise UserError(f"The checkpoint in {folder} is only a part of one: {', '.join(missing)} is missing. Start a new run.")


def _describe_damage(step: int, path: Path, damage: dict[Path, str]) -> str:
    """Which files are damaged, and how many steps are lost, if the headers of the damaged files say so."""
    if not damage:
        return ""
    headers = []
    for damaged in damage:
        with contextlib.suppress(OSError), damaged.open("rb") as file:
            headers.append(_read_header(file))
    lost = max((int(header["step"]) - step for header in headers if header), default=0)
    return f"{'; '.join(damage.values())}. Going on from step {step} ({path.name}){f', {lost} steps back' if lost > 0 else ''}."


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
