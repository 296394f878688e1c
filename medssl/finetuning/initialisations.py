"""What a fine-tuning starts from: the encoder in question, the same network at random, and any other encoder to stand beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medssl.config import Config
from medssl.data.store import changed_setting
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.evaluate import refuse_leak
from medssl.nn import Encoder

_RANDOM = 1000  # sets the seed of the random encoder apart from the one that pretraining started from
_TAKEN = ("pretrained", "random", "pixels")


def load_initialisations(config: Config, encoder: Encoder, card: Mapping[str, Any], test: pd.DataFrame) -> dict[str, Encoder]:
    """{name: encoder}, the one in question first; those of `finetune.versus` by the name of their folder or file.

    Raises UserError where another encoder expects other images, was pretrained on the `test` images, or is none.
    """
    found = {"pretrained": encoder}
    for text in config.finetune.versus:
        path = Path(text).absolute()  # "." has a name, too
        name = path.name if path.is_dir() or path.name != artefact.WEIGHTS else path.parent.name
        if name in found or name in _TAKEN:
            raise UserError(f"finetune.versus: {text}: there is another start of the name {name!r}. Rename the folder or the file.")
        found[name] = _other(path, config, card, test)
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


def _other(path: Path, config: Config, card: Mapping[str, Any], test: pd.DataFrame) -> Encoder:
    if (path / artefact.WEIGHTS).is_file() or path.name == artefact.WEIGHTS:
        encoder, its = artefact.load(path)
        check_same_preparation(its, config, f"the encoder {path.name}")
        refuse_leak(its, test, allowed=config.data.leaks == "allow")
        return encoder
    from medssl.encoder.timm_weights import load_timm  # seconds, and it needs a folder for temporary files

    return load_timm(path, card["channels"], card["size"])
