"""Checkpoints: everything needed to go on, in one file that is either whole or not there.

A file is one line with the step and the SHA-256 of that line and the rest, then torch's archive of {step, method, optimiser, config}. The
one before stays as `previous.ckpt`, so that a disk's fault costs one interval. A new one has its own name, `next.ckpt`, until it is
on the disk: whatever ends the process or the machine, a whole one has a name. The newest is told by its step, as clocks may be set back.
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
_HEAD = re.compile(rb"(?P<words>medssl checkpoint (?P<format>\d+) step (?P<step>\d+) sha256 )(?P<digest>[0-9a-f]{64})\n")
_LONGEST_HEAD, _BLOCK = 200, 2**20
_AT_ONCE = 3  # next, last and previous
_MOST_FAILURES = 3


class CheckpointError(UserError):
    """A checkpoint could not be written; those before it are as they were."""


def save(folder: Path, state: dict[str, Any]) -> None:
    """Make `state` (its `step`, tensors, numbers, text) the newest checkpoint of the run folder. Raises CheckpointError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    try:
        with atomic_file(folder / NEXT) as file:
            file.write(_head(state["step"], body))
            file.write(body)
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)
        (folder / NEXT).replace(folder / LAST)
    except (UserError, OSError) as error:
        reason = cannot_write(folder / LAST, error) if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{reason} The checkpoint of step {state['step']} needs {len(body) / 1e6:.1f} MB; those before are kept."
        ) from None


def load(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest whole checkpoint of a run folder, and a note of those that are damaged ("" where none is).

    Raises UserError where there is none, or none that is whole.
    """
    usable: dict[int, Path] = {}
    faults: dict[Path, str] = {}
    for path in (folder / name for name in (NEXT, LAST, PREVIOUS)):
        try:
            usable[_verify(path)] = path
        except FileNotFoundError:
            continue
        except OSError as error:
            faults[path] = f"{path.name} cannot be read ({error.strerror})"
        except _DamagedError as error:
            faults[path] = f"{path.name} is damaged ({error})"
    if usable:
        step = max(usable)
        return _read_state(usable[step]), _describe_damage(step, usable[step], faults)
    if faults:
        raise UserError(f"No usable checkpoint in {folder}: {'; '.join(faults.values())}. Start the run again.")
    raise UserError(f"Nothing to resume in {folder}: there is no {LAST}. Name the run folder of an interrupted pretraining.")


def check_disk_space(folder: Path, method: nn.Module) -> None:
    """Raises UserError where the disk has no room for the three checkpoints that a run holds while it saves.

    The optimiser is taken to keep two numbers for each parameter, as AdamW does: it has none yet when a run starts.
    """
    parameters = sum(p.nbytes for p in method.parameters() if p.requires_grad)
    each = sum(tensor.nbytes for tensor in method.state_dict().values()) + 2 * parameters
    there = sum((folder / name).stat().st_size for name in (NEXT, LAST, PREVIOUS) if (folder / name).is_file())
    needed, free = _AT_ONCE * each - there, _free(folder)
    if needed > free:
        raise UserError(
            f"The checkpoints of this run need {needed / 1e6:.1f} MB more in {folder} ({_AT_ONCE} of {each / 1e6:.1f} MB each), and "
            f"{free / 1e6:.1f} MB are free. Make space, or name a folder on another disk with --out."
        )


@dataclass
class Saver:
    """Saves as the run goes on. A disk that is full for a while does not end the run: it is warned of, three times in a row at most."""

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
            if self.failures > _MOST_FAILURES:
                raise
            self.warn(f"{error} The run goes on ({self.failures} of {_MOST_FAILURES} failures in a row that it bears).")


class _DamagedError(Exception):
    """A file that is not what was written."""


def _head(step: int, body: memoryview) -> bytes:
    words = f"medssl checkpoint {FORMAT} step {step} sha256 ".encode()
    digest = hashlib.sha256(words)
    digest.update(body)
    return words + digest.hexdigest().encode() + b"\n"


def _parse_head(file: BinaryIO) -> re.Match[bytes] | None:
    """The first line, behind which the file then stands."""
    return _HEAD.fullmatch(file.readline(_LONGEST_HEAD))


def _verify(path: Path) -> int:
    """The step of a whole checkpoint. Raises OSError, _DamagedError, and UserError for another format."""
    with path.open("rb") as file:
        if (head := _parse_head(file)) is None:
            raise _DamagedError("it does not start like one" if path.stat().st_size else "it is empty")
        digest = hashlib.sha256(head["words"])
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest().encode() != head["digest"]:
        raise _DamagedError("its digest does not fit")
    if int(head["format"]) != FORMAT:
        raise UserError(f"{path} has format {int(head['format'])}; this medssl reads {FORMAT}. Use the release that wrote it.")
    return int(head["step"])


def _read_state(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        _parse_head(file)
        body = io.BytesIO(file.read())
    try:
        return torch.load(body, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it holds something else than tensors, numbers and text. Nothing of it was run.") from None


def _describe_damage(step: int, path: Path, faults: dict[Path, str]) -> str:
    """Which files are damaged, and how many steps that costs, as far as their first lines tell."""
    if not faults:
        return ""
    heads = []
    for fault in faults:
        with contextlib.suppress(OSError), fault.open("rb") as file:
            heads.append(_parse_head(file))
    lost = max((int(head["step"]) - step for head in heads if head), default=0)
    return f"{'; '.join(faults.values())}. Going on from step {step} ({path.name}){f', {lost} steps back' if lost > 0 else ''}."


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
