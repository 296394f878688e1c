"""Self-supervised pretraining on medical images: pNNCLR, label-fraction fine-tuning, offline.

Importing the package sets environment variables that its libraries read at import. albumentations does not look for a newer version.
MLflow sends no telemetry (`DO_NOT_TRACK` must be "true"; "1" has no effect there), and its client gives up after seconds instead of
minutes. Threads sleep while they wait for each other: the default, a busy loop, makes a training four times slower on shared cores
(docs/decisions.md). Values that the user has set stay. A user without a name, as in containers, gets a name, as MONAI needs one.

The functions of the Python interface (medssl/api.py, docs/reference/python.md) are imported when they are first used: they bring torch.
"""

import getpass
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medssl.api import load_classifier, load_encoder, prepare, read

__all__ = ["__version__", "load_classifier", "load_encoder", "prepare", "read"]
__version__ = "0.1.0"

ENVIRONMENT = {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

try:
    getpass.getuser()
except (KeyError, OSError):  # OSError since Python 3.13
    os.environ["LOGNAME"] = "nobody"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'medssl' has no attribute {name!r}")
    return getattr(import_module("medssl.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
