"""`medssl export`: an encoder in the form of another program, checked by loading it there."""

from pathlib import Path

from medssl.encoder import artefact
from medssl.encoder.export import Options, formats
from medssl.runs.run_dir import RUNS, newest_encoder
from medssl.types import Reporter


def export(
    reporter: Reporter,
    *,
    name: str,
    out: Path,
    encoder: str | None = None,
    with_preparation: bool = False,
    with_hashes: bool = False,
    licence: str | None = None,
    key: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the encoder in the format `name` to `out`, and say how far its features are from the original and how it is used.

    Default encoder: the newest finished pretraining in runs/. Raises UserError for wrong input, and where the check fails.
    """
    formats.find_format(name)
    origin = Path(encoder) if encoder else newest_encoder(RUNS)
    network, card = artefact.load(origin)
    options = Options(with_preparation=with_preparation, with_hashes=with_hashes, licence=licence, key=key)
    done = formats.export(network, card, name, out, options, overwrite=overwrite)
    reporter.say(f"encoder   {origin}")
    reporter.say(f"written   {' and '.join(map(str, done.files))}")
    reporter.say(f"checked   the largest difference is {done.difference:.1e} of the largest feature, {done.tolerance:g} is accepted")
    reporter.say(f"hashes    {'a Bloom filter of the training patients and images' if with_hashes else 'none; --with-hashes adds them'}")
    reporter.say("\n".join(["use", *done.usage.splitlines()]))
    return out
