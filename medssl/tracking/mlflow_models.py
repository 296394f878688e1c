"""Models in the format of MLflow, and the calls that log and register them. Like those of mlflow_client.py, they block, raise errors, and
may be repeated.

A model is a folder. `MLmodel` says what the model takes and gives, and how it is loaded; `data/model.pt2` is a program of torch.export,
which `mlflow.pytorch` loads without medssl. No file is a pickle, and none names a path, a computer or a user.
"""

import platform
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

DATA, PROGRAM = "data", "model.pt2"  # the name that mlflow.pytorch looks for
DIGEST = "weights_sha256"
ALIAS = "newest"  # "latest" is reserved by MLflow
TORCH_LOADER = "mlflow.pytorch"


@dataclass(frozen=True)
class TrackedModel:
    """A model of a run. `name`: "encoder" or "classifier"; `digest`: the SHA-256 of its weights. `write(folder)` writes it in the format of
    MLflow. `registered_name`: its name in the registry, "" if it is not registered."""

    name: str
    digest: str
    write: Callable[[Path], None]
    registered_name: str = ""


class ModelNotWritten(Exception):
    """The model could not be written, for a reason that has nothing to do with MLflow. Another try would fail, too."""


def write_mlmodel(
    folder: Path,
    image: tuple[int, ...],
    outputs: int | Mapping[str, str],
    *,
    loader: str = TORCH_LOADER,
    packages: Sequence[str] = ("mlflow", "torch", "numpy"),
    metadata: Mapping[str, str],
) -> None:
    """Write `MLmodel` and the lists of packages beside `data/`, which holds the program.

    `image`: [C, H, W] or [C, D, H, W] of the input, which is float32 of shape (-1, *image). `outputs`: the number of features, or the
    columns of a table with their types. `loader`: the module that loads the model for `mlflow.pyfunc`. Any other one than MLflow's own
    checks the input by itself: MLflow would refuse everything but arrays.
    """
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema

    signature = ModelSignature(Schema([_tensor("float32", (-1, *image))]), _output_schema(outputs))
    signature._is_signature_from_type_hint = loader != TORCH_LOADER  # how MLflow says that the model itself checks its input
    model = Model(signature=signature, metadata=dict(metadata))
    model.add_flavor("pytorch", model_data=DATA, pytorch_version=str(torch.__version__), code=None)
    config = {"config": {"device": "cpu"}} if loader == TORCH_LOADER else {}  # an exported program cannot change its device
    environment = {"python_version": platform.python_version(), "env": {"virtualenv": "python_env.yaml"}}
    model.add_flavor("python_function", loader_module=loader, data=DATA, **environment, **config)
    model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    model.save(str(folder / "MLmodel"))
    pinned = [f"{name}=={Version(version(name)).public}" for name in packages]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in pinned))
    (folder / "python_env.yaml").write_text(f"python: {platform.python_version()}\ndependencies:\n- -r requirements.txt\n")


def load_pyfunc(folder: Path) -> Any:
    """The model in a folder as `mlflow.pyfunc` loads it for its users."""
    import mlflow

    with warnings.catch_warnings(action="ignore"):  # of MLflow's own type hints, when it loads this part of itself
        return mlflow.pyfunc.load_model(str(folder))


def refuse_request(sentence: str) -> Exception:
    """The error by which a served model answers a request that it cannot use; the server passes on its text without a traceback."""
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value(sentence)


def send_model(client: Any, experiment: str, run_id: str, model: TrackedModel) -> bool:
    """Log a model of a run, and register it if it has a name for that, unless MLflow has it. Returns whether anything was sent.

    Raises ModelNotWritten. A model that was sent in part has the status PENDING, and is sent again under the same id.
    """
    query = f"source_run_id = '{run_id}' AND name = '{model.name}'"
    known = [found for found in client.search_logged_models([experiment], query) if found.tags.get(DIGEST) == model.digest]
    ready = [found for found in known if str(found.status) == "READY"]
    logged = ready[0] if ready else _log(client, experiment, run_id, model, known)
    registered = bool(model.registered_name) and _register(client, run_id, model, logged)
    return not ready or registered


def _log(client: Any, experiment: str, run_id: str, model: TrackedModel, known: Sequence[Any]) -> Any:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        try:
            model.write(folder)
        except Exception as error:
            raise ModelNotWritten(f"the model {model.name!r} cannot be written ({type(error).__name__}: {error})") from error
        logged = known[0] if known else client.create_logged_model(experiment, model.name, run_id, {DIGEST: model.digest})
        described = Model.load(str(folder / "MLmodel"))
        described.model_id, described.run_id = logged.model_id, run_id
        described.save(str(folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(folder))
    outputs = client.get_run(run_id).outputs
    if logged.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def _register(client: Any, run_id: str, model: TrackedModel, logged: Any) -> bool:
    """Make a version with the tag of the weights' digest, unless there is one; the highest version gets the alias. Returns whether a
    version was made."""
    from mlflow.exceptions import MlflowException

    name = model.registered_name
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{name}'")
    missing = all(found.tags.get(DIGEST) != model.digest for found in versions)
    if missing:
        origin = {"source": logged.artifact_location, "run_id": run_id, "model_id": logged.model_id}
        versions = [*versions, client.create_model_version(name, tags={DIGEST: model.digest}, await_creation_for=None, **origin)]
    client.set_registered_model_alias(name, ALIAS, str(max(int(found.version) for found in versions)))
    return missing


def _output_schema(outputs: int | Mapping[str, str]) -> Any:
    from mlflow.types.schema import ColSpec, Schema

    if isinstance(outputs, int):
        return Schema([_tensor("float32", (-1, outputs))])
    return Schema([ColSpec(kind, name, required=False) for name, kind in outputs.items()])


def _tensor(dtype: str, shape: tuple[int, ...]) -> Any:
    import numpy as np
    from mlflow.types.schema import TensorSpec

    return TensorSpec(np.dtype(dtype), shape)
