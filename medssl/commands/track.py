"""`medssl track`: send to MLflow what it lacks of finished or stopped runs, for example after its server was down."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from medssl.config import Config
from medssl.encoder.artefact import CARD, WEIGHTS
from medssl.errors import UserError
from medssl.runs.lock import lock_run_dir
from medssl.runs.models_to_track import models_to_track
from medssl.runs.run_dir import CONFIG, is_finished, load_config
from medssl.tracking import jsonl, mlflow_json
from medssl.tracking.mlflow_client import Session, first_line
from medssl.tracking.mlflow_models import ModelNotWritten, TrackedModel
from medssl.tracking.tracker import make_session, read_environment
from medssl.types import Reporter

_RESULTS = "results.json"
_FILES = ("views.png", "neighbours.png", CARD, WEIGHTS, _RESULTS, "splits.json", "report.html", "figures")


def track(reporter: Reporter, *, runs: Sequence[Path]) -> None:
    """Send what MLflow lacks of run folders, or of all runs in a folder: metrics, parameters, tags, files, status, models.

    A second call sends nothing twice. Raises UserError for a folder without a run, if MLflow does not answer, and, after all others are
    sent, for runs that are still in use.
    """
    configs = {run: load_config(run) for folder in runs for run in _runs(folder)}
    busy = []
    for run in sorted(configs, key=_has_parent):  # a parent run must be sent before its children
        with ExitStack() as stack:
            try:
                stack.enter_context(lock_run_dir(run, reporter.warn))
            except UserError as error:
                busy.append(str(error))
                continue
            _send(reporter, run, configs[run])
    if busy:
        raise UserError("\n".join(busy))


def _runs(folder: Path) -> list[Path]:
    """`folder` itself if it is a run, else all runs in it."""
    below = sorted(rows.parent for rows in folder.glob("*/metrics.jsonl"))
    return below if below and not (folder / CONFIG).is_file() else [folder]


def _has_parent(run: Path) -> bool:
    known = mlflow_json.read(run)
    return known is not None and known.parent != ""


def _send(reporter: Reporter, run: Path, config: Config) -> None:
    known = mlflow_json.read(run) or _create_info(run, config)
    finished = is_finished(run) or (run / _RESULTS).is_file()
    status = known.status or ("FINISHED" if finished else "KILLED")  # a run without a status and without results was killed
    session = make_session(run, config)
    try:
        session.open()
        session.send_params()
        numbers = session.send_metrics()
        files = [name for name in _FILES if (run / name).exists() and session.log_artifact(run / name)]
        session.end(status, _ended(run))
        files += [f"the model {model.name}" for model in models_to_track(run, config) if _send_model(reporter, session, model)]
    except UserError:
        raise
    except Exception as error:  # MLflow and its stores raise errors of any type
        raise UserError(
            f"MLflow at {session.address} did not accept the records of {run}: {first_line(error)}. Run `medssl track` again later: it "
            "sends what is missing. MLFLOW_TRACKING_URI names another server."
        ) from error
    sent = [*([f"{numbers} numbers"] if numbers else []), *files]
    reporter.say(f"{run}  {status.lower()}, sent to {session.address}: {', '.join(sent) or 'nothing was missing'}")


def _send_model(reporter: Reporter, session: Session, model: TrackedModel) -> bool:
    """Whether anything was sent. Warns of a model that cannot be written, such as that of another version of medssl."""
    try:
        return session.log_model(model)
    except ModelNotWritten as error:
        reporter.warn(str(error))
        return False


def _create_info(run: Path, config: Config) -> mlflow_json.MlflowInfo:
    """Write mlflow.json for a run folder that has none yet."""
    kind = {"kind": str(found)} if (found := read_environment(run).get("kind")) else {}
    return mlflow_json.change(run, tags={**kind, "method": config.method.name, "preset": config.preset})


def _ended(run: Path) -> int | None:
    """The time of the last row in milliseconds since 1970, None without rows."""
    times = [row["time"] for row, _ in jsonl.rows_from(run / "metrics.jsonl", 0) if "time" in row]
    return round(times[-1] * 1000) if times else None
