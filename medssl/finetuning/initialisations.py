"""What a fine-tuning starts from: the encoder in question, the same network at random, and any other encoder to stand beside them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medssl.config import Config
from medssl.data.split import unsearchable
from medssl.data.store import changed_setting
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate import refuse_leak
from medssl.nn import Encoder
from medssl.runs.run_dir import START
from medssl.runs.start import is_foreign

_RANDOM = 1000  # sets the seed of the random encoder apart from the one that pretraining started from
_TAKEN = ("pretrained", "random", "pixels", START)


def load_initialisations(
    config: Config,
    encoder: Encoder,
    card: Mapping[str, Any],
    test: pd.DataFrame,
    start: Encoder | None = None,
    say: Callable[[str], None] = lambda _: None,
    site: str = "",
) -> dict[str, Encoder]:
    """{name: encoder}, the one in question first; then the weights that its pretraining started from, where it has a `start`; then those of
    `finetune.versus` by the name of their folder or file. `say`: is told what was found in files of other programs, and which encoder
    cannot be searched for `test` images. `site`: the name of the key with which the store of the test images was made.

    Raises UserError where another encoder expects other images, was pretrained on the `test` images, or is none.
    """
    found = {"pretrained": encoder} | ({START: start} if start is not None else {})
    for text in config.finetune.versus:
        path = Path(text).absolute()  # "." has a name, too
        name = path.name if path.is_dir() or path.name != artefact.WEIGHTS else path.parent.name
        if name in found or name in _TAKEN:
            raise UserError(f"finetune.versus: {text}: there is another start of the name {name!r}. Rename the folder or the file.")
        found[name] = _other(path, config, card, test, say, site)
    return found


def check_same_preparation(card: Mapping[str, Any], config: Config, whose: str = "the encoder") -> None:
    """Raise UserError where an encoder was pretrained with other preparation settings."""
    if changed := changed_setting(card["config"]["data"], config.data):
        name, old, new = changed
        raise UserError(f"data.{name} is {new}, but {whose} was pretrained with {old}. Do not change this setting.")


def random_initialisation(card: Mapping[str, Any], seed: int, draw: int) -> Encoder:
    """The architecture and intensity standardisation of the encoder of that card with weights that were never trained: a function of the
    seed and of the draw's number. With residual branches that are not zero, whatever the encoder started from: a network whose branches
    are zero is nearly linear, and to have learned more than that says little."""
    mean, std = torch.tensor(card["mean"]), torch.tensor(card["std"])
    own = int(np.random.SeedSequence((seed, _RANDOM, draw)).generate_state(1)[0])
    backbone = {name: value for name, value in card["backbone"].items() if name != "zero_init_last"}
    return artefact.build_encoder(backbone, card["channels"], card["size"], mean, std, own).eval()


def load_start(origin: Path, card: Mapping[str, Any], warn: Callable[[str], None]) -> Encoder | None:
    """The encoder that the pretraining of the encoder at `origin` started from; None where it started from random numbers, and with a
    warning where the run keeps it no longer."""
    if START not in card or is_foreign(card):
        return None
    folder = (origin if origin.is_dir() else origin.parent) / START
    if not folder.is_dir():
        warn(
            f"the encoder was pretrained from the weights {card[START]['file']}, but the folder {START}/ with them is not beside it: the "
            "encoder is not compared with its start. Copy the whole run folder."
        )
        return None
    return artefact.load(folder)[0]


def _other(path: Path, config: Config, card: Mapping[str, Any], test: pd.DataFrame, say: Callable[[str], None], site: str) -> Encoder:
    if artefact.is_artefact(path):
        encoder, its = artefact.load(path)
        check_same_preparation(its, config, f"the encoder {path.name}")
        if refuse_leak(its, test, site, allowed=config.data.leaks == "allow") is None:
            say(f"versus    {path.name}: {unsearchable(its, test, site)}: whether it has seen test images cannot be told")
        return encoder
    from medssl.encoder.foreign import load_foreign  # seconds, and it needs a folder for temporary files

    loaded = load_foreign(path, card["channels"], card["size"])
    for line in loaded.lines():
        say(line)
    return loaded.encoder
