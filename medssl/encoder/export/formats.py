"""The list of formats, and the export: written to a draft, loaded and compared with the encoder, searched for private text, and then moved
to its place. What fails leaves nothing."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from medssl.encoder import artefact, model_card, signature
from medssl.encoder.export import bundle, medssl_folder, mlflow, monai, nnunet, onnx, timm_folder, torch_export, torchvision
from medssl.encoder.export.options import Exported, Options
from medssl.encoder.export.private_text import find_private_text
from medssl.encoder.export.public import public_card
from medssl.errors import UserError, suggest
from medssl.files import cannot_write
from medssl.nn import Encoder

FORMATS: dict[str, ModuleType] = {
    "timm": timm_folder,
    "hf": timm_folder,
    "torchvision": torchvision,
    "monai": monai,
    "bundle": bundle,
    "nnunet": nnunet,
    "onnx": onnx,
    "torch-export": torch_export,
    "mlflow": mlflow,
    "medssl": medssl_folder,
}


def export(encoder: Encoder, card: Mapping[str, Any], name: str, out: Path, options: Options, *, overwrite: bool = False) -> Exported:
    """Write the encoder with the card of `artefact.load` in the format `name` to the file or folder `out`.

    Raises UserError for an unknown format, one that cannot hold the encoder, a missing package, a place that cannot be used, and where the
    exported encoder gives other features than the encoder or has private text in it: then nothing is left.
    """
    module = find_format(name)
    shared = public_card(card, options.licence, options.with_hashes)
    _refuse_unsuitable(name, module, encoder, shared, options)
    described = _description(module, out)
    _refuse_place(name, module, out, described, overwrite)
    try:
        with TemporaryDirectory(prefix=f".{out.name}-", suffix=".medssl-draft", dir=out.absolute().parent) as place:
            draft = Path(place) / out.name
            usage = module.usage(out, shared, encoder.backbone, options)
            difference = _write_and_check(name, module, encoder, shared, draft, options)
            if found := find_private_text(Path(place), out.absolute().parent):
                raise UserError(f"{found}. Nothing was written. Report this, with the format {name} and the version of torch.")
            _move(draft, out)
            if described != out:
                _move(_description(module, draft), described)
    except OSError as error:
        raise UserError(cannot_write(out, error)) from None
    return Exported((out, described) if described != out else (out,), difference, module.TOLERANCE, usage)


def find_format(name: str) -> ModuleType:
    """The module of a format. Raises UserError for an unknown name."""
    if name not in FORMATS:
        raise UserError(f"--format {name}: there is no such format. {suggest(name, FORMATS)}")
    return FORMATS[name]


def _refuse_unsuitable(name: str, module: ModuleType, encoder: Encoder, card: Mapping[str, Any], options: Options) -> None:
    if reason := module.refusal(encoder, card):
        possible = [other for other, module in FORMATS.items() if module.refusal(encoder, card) is None]
        raise UserError(f"The format {name} cannot hold this encoder: {reason}. These formats can: {', '.join(possible)}.")
    if options.with_preparation and module is not onnx:
        raise UserError(f"--with-preparation belongs to the format onnx; {name} has no place for it.")
    if missing := [package for package in module.PACKAGES if find_spec(package) is None]:
        raise UserError(f'The format {name} needs {" and ".join(missing)}. Install with: pip install "medssl[onnx]"')


def _description(module: ModuleType, out: Path) -> Path:
    """Where the model card is: beside a file, or in the folder, which is `out` itself."""
    return out.with_name(f"{out.name}.md") if module.SUFFIX else out


def _refuse_place(name: str, module: ModuleType, out: Path, described: Path, overwrite: bool) -> None:
    if module.SUFFIX and out.suffix != module.SUFFIX:
        raise UserError(f"--out {out}: the format {name} is a file that ends with {module.SUFFIX}. Name it {out.name}{module.SUFFIX}.")
    if not out.absolute().parent.is_dir():
        raise UserError(f"There is no folder {out.absolute().parent} to write {out.name} into. Make it, or name another --out.")
    for place in dict.fromkeys((out, described)):
        if not place.exists() and not place.is_symlink():
            continue
        if not overwrite:
            raise UserError(f"{place} exists. Name another --out, or add --overwrite to replace it.")
        if place.is_dir() and (module.SUFFIX or not _is_export(place)):
            raise UserError(
                f"{place} is a folder that `medssl export` has not written, so --overwrite leaves it alone. Name another --out."
            )
        if not place.is_dir() and not module.SUFFIX:
            raise UserError(f"{place} is a file, and the format {name} is a folder. Name another --out.")


def _is_export(folder: Path) -> bool:
    try:
        return "export" in json.loads((folder / artefact.CARD).read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write_and_check(name: str, module: ModuleType, encoder: Encoder, card: dict[str, Any], draft: Path, options: Options) -> float:
    """Writes everything beside and into `draft`, and returns the largest difference. Raises UserError where it is too large."""
    final = _signed({**card, "export": {"format": name}}, options) if module.SUFFIX else card
    try:
        module.write(encoder, final, draft, options)
    except Exception:  # on a full disk, libraries in other languages raise errors of their own
        _check_room(draft.parent, encoder)
        raise
    place = Path("PATH").with_suffix(module.SUFFIX) if module.SUFFIX else Path("PATH")
    text = model_card.render(final, module.usage(place, final, encoder.backbone, options)).encode()
    if module.SUFFIX:
        _description(module, draft).write_bytes(text)
    else:
        digests = {_name(file, draft): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(draft.rglob("*")) if file.is_file()}
        final = _signed({**card, "export": {"format": name, "sha256": digests}}, options)
        (draft / getattr(module, "MODEL_CARD", model_card.NAME)).write_bytes(text)
        (draft / artefact.CARD).write_bytes(artefact.as_json(final))
    difference = module.check(draft, encoder, card, options)
    if not difference <= module.TOLERANCE:  # NaN is no number that is small enough
        raise UserError(
            f"The encoder in the format {name} gives other features: the largest difference is {difference:.2g} of the largest feature, "
            f"{module.TOLERANCE:g} is accepted. Nothing was written."
        )
    return difference


def _check_room(folder: Path, encoder: Encoder) -> None:
    """Raises OSError where the folder, which will be deleted, cannot hold the weights once more."""
    with (folder / "room").open("wb") as file:
        file.write(bytes(sum(tensor.nbytes for tensor in encoder.state_dict().values())))


def _signed(card: dict[str, Any], options: Options) -> dict[str, Any]:
    return signature.sign(card, options.key) if options.key else card


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _move(draft: Path, out: Path) -> None:
    """Moves a draft to its place; what is there goes into the draft's folder, which is deleted."""
    if out.is_dir() and not out.is_symlink():
        shutil.move(out, draft.parent / "replaced")
    draft.replace(out)
