"""An encoder written in the form of another program, and checked there: `export` in formats.py does the work, `FORMATS` lists the forms.

A format is one file in this package with these names, and one line in `FORMATS`:

    SUFFIX       of the file that is written, such as ".onnx"; "" for a folder
    TOLERANCE    the largest difference that is accepted, as a share of the largest feature
    PACKAGES     the packages that it needs beside those of medssl, which the extra `medssl[onnx]` installs
    refusal(encoder, card) -> str | None
                 a sentence that says why the format cannot hold this encoder; None where it can. It needs little time and writes nothing.
    write(encoder, card, path, options) -> None
                 writes the file or the folder `path`, which does not exist. The folder of a format gets card.json and the model card from
                 `export`; a file has the card inside.
    check(path, encoder, card, options) -> float
                 loads `path` as a user of the other program does, and returns the largest difference of the features of the probe
                 images from those of `encoder`, as a share of the largest feature (`comparison.largest_difference`); NaN is a failure.
    usage(path, card, backbone, options) -> str
                 the Python lines with which the result is used, from `images` to `features`. Tests run them.

`encoder` is in evaluation mode on the CPU. `card` is `public.public_card`: it names no person, path or machine. `path` is a draft, which
`export` moves to its place after the check. What `write` writes must not depend on the name of `path`.
"""

from medssl.encoder.export.formats import FORMATS, export
from medssl.encoder.export.options import Exported, Options

__all__ = ["FORMATS", "Exported", "Options", "export"]
