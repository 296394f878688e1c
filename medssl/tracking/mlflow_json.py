"""mlflow.json in a run folder: the key by which any MLflow server knows the run, so that a run can be sent in parts and repeatedly."""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.files import write_atomically

_FILE = "mlflow.json"
_LOCK = threading.Lock()  # the main thread and the forwarder's thread both write the file


@dataclass(frozen=True)
class MlflowInfo:
    """The content of mlflow.json. `key`: identifies the run; MLflow keeps it as a tag. `parent`: the key of the parent run. `status`: how
    the run ended, "" while it runs and after a kill. `run_id`: MLflow's id of the run on the last server."""

    key: str
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    status: str = ""
    run_id: str = ""


def read(folder: Path) -> MlflowInfo | None:
    """The content of mlflow.json in a run folder; None if it does not exist or cannot be read."""
    try:
        return MlflowInfo(**json.loads((folder / _FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def change(folder: Path, **changes: Any) -> MlflowInfo:
    """Change these fields of mlflow.json; the first call creates the file and the key of the run. Raises UserError."""
    with _LOCK:
        info = replace(read(folder) or MlflowInfo(uuid.uuid4().hex), **changes)
        write_atomically(folder / _FILE, json.dumps(asdict(info), ensure_ascii=False).encode())
    return info
