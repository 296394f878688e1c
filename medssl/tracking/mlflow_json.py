"""mlflow.json in a run folder: how MLflow knows the run again, on whatever server, so that its records can be sent in parts and twice."""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.files import write_atomically

_FILE = "mlflow.json"
_LOCK = threading.Lock()  # the run's thread and the one that speaks to MLflow both write notes


@dataclass(frozen=True)
class MlflowInfo:
    """`key`: the run's own name, which MLflow keeps as a tag. `parent`: the key of the run to nest it under. `status`: how it ended, ""
    while it goes on and after a kill. `run_id`: MLflow's name of the run, on the server that heard of it last."""

    key: str
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    status: str = ""
    run_id: str = ""


def read(folder: Path) -> MlflowInfo | None:
    """The note of a run folder; None where there is none that can be read."""
    try:
        return MlflowInfo(**json.loads((folder / _FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def change(folder: Path, **changes: Any) -> MlflowInfo:
    """Writes the note with these fields changed, and makes the run's key with the first. Raises UserError."""
    with _LOCK:
        note = replace(read(folder) or MlflowInfo(uuid.uuid4().hex), **changes)
        write_atomically(folder / _FILE, json.dumps(asdict(note), ensure_ascii=False).encode())
    return note
