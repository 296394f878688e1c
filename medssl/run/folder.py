"""The run folder: one folder that explains itself. Its making, its config and environment, and finding the newest encoder."""

import json
import platform
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from medssl import __version__
from medssl.config import Config, dumped, read_yaml, resolve
from medssl.encoder.artefact import CARD, WEIGHTS
from medssl.errors import UserError

RUNS = Path("runs")
_PACKAGES = ("torch", "torchvision", "timm", "monai", "medmnist", "pydicom", "albumentations", "mlflow", "numpy", "scikit-learn", "pillow")


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def create(out: Path | None, kind: str, name: str, overwrite: bool) -> Path:
    """A new, empty run folder, `runs/<time>-<kind>-<name>` unless `out` says where. Raises UserError for one that exists."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = out or RUNS / f"{stamp}-{kind}-{name}"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file. Name a folder.")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(f"The output folder {folder} exists and is not empty. Name another --out, or add --overwrite to replace it.")
        if not (folder / "config.yaml").is_file():
            raise UserError(f"{folder} is no run folder (it has no config.yaml), so --overwrite leaves it alone. Name another --out.")
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the output folder {folder}: {error.strerror}. Name another one with --out.") from None
    return folder


def describe(folder: Path, config: Config, kind: str) -> None:
    """Write config.yaml, complete and resolved, and environment.json."""
    (folder / "config.yaml").write_text(f"# medssl {kind}\n{dumped(config)}", "utf-8")
    environment = {
        "kind": kind,
        "started": now(),
        "medssl": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {package: metadata.version(package) for package in _PACKAGES},
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=1) + "\n", "utf-8")


def config_of(folder: Path) -> Config:
    """The configuration of a run. Raises UserError where the folder holds none."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml. Name a folder that `medssl pretrain` made.")
    return resolve(read_yaml(path))


def newest_encoder(runs: Path) -> Path:
    """The pretraining run below `runs` that finished last. Raises UserError where there is none."""
    finished = {}
    for card in runs.glob(f"*/{CARD}"):
        if (card.parent / WEIGHTS).is_file() and (card.parent / "config.yaml").is_file():
            finished[card.parent] = json.loads(card.read_text("utf-8"))["provenance"]["finished"]
    if not finished:
        raise UserError(f"There is no finished pretraining in {runs}/. Run `medssl pretrain --data ...` first, or name one with --encoder.")
    return max(finished, key=lambda folder: (finished[folder], folder.name))
