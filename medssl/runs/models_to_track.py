"""The encoder or the classifier of a run folder as a model that is sent to MLflow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from medssl.config import Config
from medssl.encoder import artefact
from medssl.tracking.mlflow_models import DIGEST, TrackedModel

_CLASSIFIER_CARD = "classifier.json"  # its module loads scikit-learn, which a run without a classifier does not need


def models_to_track(folder: Path, config: Config) -> Iterator[TrackedModel]:
    """The models that a finished run holds, unless `tracking.models` is off. Nothing is loaded before a model is written. A classifier of
    volumes is none of them, be they joined of slices or whole: a server gets single images."""
    writers: dict[str, tuple[str, Callable[[Path], None]]] = {
        "encoder": (artefact.CARD, lambda path: _write_encoder(folder, path)),
        "classifier": (_CLASSIFIER_CARD, lambda path: _write_classifier(folder, path)),
    }
    for name, (card, write) in writers.items() if config.tracking.models else ():
        if (folder / card).is_file():
            values = json.loads((folder / card).read_text("utf-8"))
            if name == "classifier" and (values.get("pooling", "none") != "none" or not isinstance(values["size"], int)):
                continue
            digest = str(values.get(DIGEST, ""))
            registered = config.tracking.register_as
            yield TrackedModel(name, digest, write, f"{registered}-{name}" if registered else "")


def _write_encoder(run: Path, path: Path) -> None:
    from medssl.encoder.export import mlflow

    mlflow.write(*artefact.load(run), path)


def _write_classifier(run: Path, path: Path) -> None:
    from medssl.evaluate.models import classifier_file, served

    served.write(*classifier_file.load(run), path)
