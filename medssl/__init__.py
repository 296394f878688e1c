"""Self-supervised pretraining on medical images: pNNCLR, label-fraction fine-tuning, offline.

Importing the package sets what its libraries read from the environment before they are imported: no look-up of a newer
albumentations on import, no MLflow telemetry (its `DO_NOT_TRACK` must read "true", "1" does nothing), a tracking client
that gives up after seconds instead of minutes, and threads that sleep while they wait for each other: spinning, the default,
makes a training four times slower where the cores are shared (docs/decisions.md). Values that the user has set stay. A user
without a name, as containers have them, gets one: MONAI cannot be imported without.
"""

import getpass
import os

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
except (KeyError, OSError):  # the latter since Python 3.13
    os.environ["LOGNAME"] = "nobody"
