"""GDCM, the only free decoder of lossless JPEG, behind a wall: one damaged file in thirty makes it abort or crash its process."""

import json
import os
import subprocess
import sys
import weakref
from io import BytesIO
from pathlib import Path

import numpy as np

from medssl.errors import ReadError

_SCRIPT = Path(__file__).with_name("gdcm_process.py")


class Gdcm:
    """Decodes frames in a process of its own, which is started when it is first needed, after a crash, and after a fork."""

    def __init__(self, script: Path = _SCRIPT) -> None:
        self._script = script
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def decode(self, path: Path, index: int) -> np.ndarray:
        """The stored values of a frame, as pydicom's `pixel_array` gives them. Raises ReadError undecodable."""
        process = self._process if self._process and self._owner == os.getpid() else self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"path": str(path), "index": index}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: there will be no answer
        head = process.stdout.read(8)
        answer = process.stdout.read(int.from_bytes(head, "big"))
        if len(head) < 8 or len(answer) < int.from_bytes(head, "big"):
            _end(process, self._owner)
            self._process = None
            raise ReadError("undecodable: the frame crashes GDCM")
        if not answer:
            raise ReadError("undecodable: GDCM cannot decode the frame")
        return np.load(BytesIO(answer), allow_pickle=False)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", str(self._script)]
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._owner = os.getpid()
        weakref.finalize(self, _end, self._process, self._owner)
        return self._process


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Ends the process and closes its pipes; a fork of its owner leaves it alone."""
    if owner == os.getpid():
        process.kill()
        process.communicate()
