"""The process in which GDCM decodes; `gdcm` starts it and speaks with it. It imports nothing of medssl, so that it starts quickly.

A line of JSON on standard input, {"path": ..., "index": ...}, is answered on standard output by a length (8 bytes, big endian)
and an .npy file of that many bytes; length 0: it cannot be decoded.
"""

import json
import os
import sys
import warnings
from io import BytesIO

import numpy as np
from pydicom.pixels.utils import pixel_array


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever the library prints must not come among the answers
    for line in sys.stdin:
        request = json.loads(line)
        answer = BytesIO()
        try:
            np.save(answer, pixel_array(request["path"], index=request["index"], decoding_plugin="gdcm"), allow_pickle=False)
        except Exception:  # the reason is of no use to anyone: the file is damaged
            answer = BytesIO()
        answers.write(len(answer.getvalue()).to_bytes(8, "big"))
        answers.write(answer.getvalue())
        answers.flush()


if __name__ == "__main__":
    main()
