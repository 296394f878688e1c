"""The run folder: create it, write its configuration and environment, and find the newest encoder or classifier."""

import json
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from medssl import __version__
from medssl.config import Config, resolve, to_yaml
from medssl.encoder.artefact import CARD, WEIGHTS
from medssl.errors import UserError
from medssl.evaluate import RESULTS
from medssl.evaluate.models import classifier_file
from medssl.files import cannot_write, write_atomically
from medssl.output import REASONS, reasons_kept_in
from medssl.plain_yaml import read_yaml
from medssl.runs.lock import LOCK, lock_run_dir

RUNS = Path("runs")
CONFIG, ENVIRONMENT, START = "config.yaml", "environment.json", "start"
_OF_A_START = ("views.png", START, REASONS, ENVIRONMENT, CONFIG)  # what a run has that has not trained yet, in the order of deletion
_PACKAGES = ("torch", "torchvision", "timm", "monai", "medmnist", "pydicom", "albumentations", "mlflow", "numpy", "scikit-learn", "pillow")


def now() -> str:
    """The time in UTC, to the second: "2026-11-24T03:36:00Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def open_run(
    out: Path | None,
    kind: str,
    name: str,
    overwrite: bool,
    warn: Callable[[str], None] = lambda _: None,
    may_continue: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Path]:
    """An empty run folder, locked for this process within the block: `out`, or `runs/<time>-<kind>-<name>`.

    `may_continue(folder)`: whether a folder with content may be used as it is. `overwrite`: replace the content of another run folder.
    New folders that the block leaves empty with an exception are deleted, also `runs`. Raises UserError for any other folder with content,
    for a folder in use by another process, and for one that cannot be written.
    """
    folder = out or _new_folder(f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{kind}-{name}")
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    if not new and not folder.is_dir():
        raise UserError(f"--out {folder} is a file. Name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{cannot_write(folder, error)} Name another folder with --out.") from None
    try:
        with lock_run_dir(folder, warn):
            if overwrite or not may_continue(folder):
                _empty_folder(folder, overwrite)
            with reasons_kept_in(folder):
                yield folder
    except BaseException:
        with suppress(OSError):  # one is not empty: the run has left something, or another run is in it
            for place in new:
                place.rmdir()
        raise


def check_new_run(out: Path | None, overwrite: bool) -> None:
    """Raises UserError where `open_run` would refuse the folder `out`: for the folder's content, or where it cannot be written. The folder
    is not made, and its content stays."""
    folder = out or RUNS
    if out is not None and out.exists():
        _replaceable_content(out, overwrite)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        TemporaryDirectory(prefix=".medssl-", dir=existing).cleanup()
    except OSError as error:
        raise UserError(f"{cannot_write(folder, error)} Name another folder with --out.") from None


def _replaceable_content(folder: Path, overwrite: bool) -> list[Path]:
    """The content of a folder. Raises UserError where there is some and may not be replaced."""
    if not folder.is_dir():
        raise UserError(f"--out {folder} is a file. Name a folder.")
    content = [path for path in folder.iterdir() if path.name != LOCK]
    if content and not overwrite:
        raise UserError(f"The run folder {folder} exists and is not empty. Name another --out, or add --overwrite to replace it.")
    if content and folder / CONFIG not in content:
        raise UserError(f"{folder} is no run folder (it has no {CONFIG}), so --overwrite leaves it alone. Name another --out.")
    return content


def _empty_folder(folder: Path, overwrite: bool) -> None:
    content = _replaceable_content(folder, overwrite)
    try:
        for path in sorted(content, key=_order_of_deletion):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise UserError(f"{cannot_write(folder, error)} Name another folder with --out.") from None


def _new_folder(name: str) -> Path:
    """A folder below `runs` that does not exist yet, as two runs may start in the same second."""
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(folder for folder in (RUNS / name for name in names) if not folder.exists())


def _order_of_deletion(path: Path) -> int:
    """The results first and config.yaml last: a half-deleted run then counts as a run that is not finished."""
    return {CARD: 0, classifier_file.CARD: 0, RESULTS: 0, CONFIG: 2}.get(path.name, 1)


def write_config(folder: Path, config: Config, kind: str) -> None:
    """Write config.yaml, complete and resolved."""
    write_atomically(folder / CONFIG, f"# medssl {kind}\n{to_yaml(config)}".encode())


def write_description(folder: Path, config: Config, kind: str) -> None:
    """Write config.yaml and environment.json."""
    write_config(folder, config, kind)
    environment = {
        "kind": kind,
        "started": now(),
        "medssl": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {package: metadata.version(package) for package in _PACKAGES},
    }
    write_atomically(folder / ENVIRONMENT, f"{json.dumps(environment, indent=1)}\n".encode())


@contextmanager
def describe_run(folder: Path, config: Config, kind: str) -> Iterator[None]:
    """Write the description of a run. If the block fails before anything but views.png and the weights of its start is written, these are
    deleted again, so that the next run can use the folder."""
    write_description(folder, config, kind)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if {path.name for path in folder.iterdir()} <= {*_OF_A_START, LOCK}:
                shutil.rmtree(folder / START, ignore_errors=True)
                for name in _OF_A_START:
                    (folder / name).unlink(missing_ok=True)
        raise


def load_config(folder: Path) -> Config:
    """The configuration of a run. Raises UserError if the folder has none."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no {CONFIG}. Name a folder that `medssl pretrain` made.")
    return resolve(read_yaml(path))


def is_finished(folder: Path) -> bool:
    """Whether the folder holds the encoder of a pretraining. Its card is written last."""
    return all((folder / name).is_file() for name in (CONFIG, WEIGHTS, CARD))


def newest_encoder(runs: Path) -> Path:
    """The pretraining run below `runs` that finished last. Raises UserError if there is none."""
    folders = [card.parent for card in runs.glob(f"*/{CARD}") if is_finished(card.parent)]
    if not folders:
        raise UserError(f"There is no finished pretraining in {runs}/. Run `medssl pretrain --data ...` first, or name one with --encoder.")
    return _newest_run(folders, CARD, "--encoder")


def newest_classifier(runs: Path) -> Path:
    """The fine-tuning run with a classifier below `runs` that finished last. Raises UserError if there is none."""
    needed = (classifier_file.WEIGHTS, RESULTS)
    folders = [card.parent for card in runs.glob(f"*/{classifier_file.CARD}") if all((card.parent / name).is_file() for name in needed)]
    if not folders:
        raise UserError(f"There is no finished fine-tuning in {runs}/. Run `medssl finetune ...` first, or name one with --model.")
    return _newest_run(folders, classifier_file.CARD, "--model")


def _newest_run(folders: Sequence[Path], card: str, flag: str) -> Path:
    return max(folders, key=lambda folder: (_finish_time(folder / card, flag), folder.name))


def _finish_time(card: Path, flag: str) -> str:
    try:
        return json.loads(card.read_text("utf-8"))["provenance"]["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card} is damaged ({type(error).__name__}). Delete that run, or name another one with {flag}.") from None
