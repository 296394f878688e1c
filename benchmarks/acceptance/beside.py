"""fast: lightly's NNCLR on the same card, with the same network and heads, as a careful user runs it: autocast, channels_last, and its
loader on all cores."""

import os
import tempfile
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from PIL import Image

from acceptance.record import Row
from acceptance.speed import Training, budget_of
from acceptance.subjects import Network, Setting
from acceptance.timing import per_step
from medssl.data.loader import workers_here

_FILES, _NAMES = 512, 4096  # that many pictures, under so many names, so that an epoch is not over after one batch


def beside_lightly(network: Network, setting: Setting) -> Row:
    """Images/s of both, whole and on views that lie on the device already, and medssl's as a multiple of lightly's."""
    import peer  # needs lightly

    heads = {"method": "nnclr", "hidden": peer.HIDDEN, "width": peer.WIDTH, "support_size": peer.SUPPORT}
    own = Training(network, replace(setting, tiny=False), **heads)  # lightly's has no narrow form
    theirs = peer.Peer(network.channels, network.size <= 32, setting.device.type, setting.precision, channels_last=True)
    parameters = {sum(p.numel() for p in backbone.parameters()) for backbone in (own.method.encoder.backbone, theirs.backbone)}
    assert len(parameters) == 1, "the same network"
    budget, batch = budget_of(setting), network.batch
    with tempfile.TemporaryDirectory() as place:
        views_bytes = 2 * batch * network.channels * network.size**2 * 4
        workers = 0 if setting.tiny else workers_here(os.cpu_count() or 1, views_bytes)[0]  # as many as shared memory has room for
        names = 2 * batch if setting.tiny else max(_NAMES, 4 * batch)
        folder = _pictures(Path(place) / "pictures", names, max(64, 8 * network.size // 7))
        source = peer.batches(folder, network.size, network.channels, batch, workers)
        ready = tuple(view.to(setting.device) for view in next(source))

        def whole(steps: int) -> None:
            for views in islice(source, steps):
                theirs.step(views)

        def ceiling(steps: int) -> None:
            for views in repeat(ready, steps):
                theirs.step(views)

        rates = {
            "medssl": (batch / per_step(own.whole, setting, budget).seconds, batch / per_step(own.ceiling, setting, budget).seconds),
            "lightly": (batch / per_step(whole, setting, 2 * budget).seconds, batch / per_step(ceiling, setting, budget).seconds),
        }
    row: Row = {f"{name}_{part}": rate for name, pair in rates.items() for part, rate in zip(("whole", "ceiling"), pair, strict=True)}
    times = {f"times_{part}": row[f"medssl_{part}"] / row[f"lightly_{part}"] for part in ("whole", "ceiling")}
    return {"batch": batch, "precision": str(setting.precision), "workers_of_lightly": workers, **row, **times}


def _pictures(folder: Path, names: int, edge: int) -> Path:
    """A folder of JPEG files of smooth noise, which compress about as photographs do."""
    folder.mkdir()
    random, files = np.random.default_rng(0), min(_FILES, names)
    for number in range(names):
        file = folder / f"{number}.jpg"
        if number < files:
            coarse = random.integers(0, 256, (edge // 8, edge // 8, 3), np.uint8)
            Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC).save(file)
        else:
            os.link(folder / f"{number % files}.jpg", file)
    return folder
