"""What leaves with an encoder: no list of patients, no path, no machine, nothing of the training's course; and a signed card on request."""

import getpass
import hashlib
import json
import socket
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from exporting import PATIENT, SECRETS

from medssl.encoder import artefact, signature
from medssl.encoder.export import FORMATS, Options, export
from medssl.encoder.export.private_text import find_private_text
from medssl.errors import UserError

FAULTS = {
    "the whole configuration": (
        "encoder/export/public.py",
        'if name != "versus"}',
        'if name}, "train": config.get("train")',
    ),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("hashes", [False, True])
@pytest.mark.parametrize("name", ["timm", "medssl"])
def test_nothing_of_patients_paths_and_training_is_in_an_export(tiny, tmp_path, name, hashes):
    export(tiny[0], tiny[1], name, tmp_path / "out", Options(with_hashes=hashes))
    files = contents(tmp_path / "out")
    assert len(files) >= 3
    assert not [(file, secret) for file, content in files.items() for secret in SECRETS if secret.encode() in content]
    card = json.loads(files["card.json"])
    assert card["pretraining"]["patients"]["count"] == 1
    assert ("filter" in card["pretraining"]["patients"]) == hashes
    assert not {"train", "tracking", "monitor", "device", "preset"} & card["config"].keys()


def test_the_secrets_are_in_the_card_before_the_export(tiny):
    text = json.dumps(tiny[1])
    assert all(secret in text for secret in SECRETS), "else the test above could not fail"


@pytest.mark.parametrize(
    "text",
    [
        f"x {Path.cwd()} y",
        f"x {Path.home()}/images y",
        'File "/home/somebody/medssl/nn/encoder.py", line 43',
        "built in /srv/medssl/source.py",
        *([socket.gethostname()] if len(socket.gethostname()) > 4 else []),
        *([getpass.getuser()] if len(getpass.getuser()) > 4 else []),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "archive"])
def test_a_path_in_a_file_is_found(tmp_path, text, kind):
    file = tmp_path / "export" / "inner" / "file.bin"
    file.parent.mkdir(parents=True)
    if kind == "archive":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("models/model.json", f"{{'stack_trace': '{text}'}}")
    else:
        file.write_bytes(b"\x00\xff" + text.encode() + b"\x00")
    found = find_private_text(tmp_path / "export" if kind != "file" else file)
    assert found is not None and "file.bin" in found
    assert text not in found


@pytest.mark.parametrize("name", ["medssl", "features"])
def test_a_user_or_a_folder_with_the_name_of_something_in_every_export_is_no_obstacle(tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert not find_private_text(export(tiny[0], tiny[1], "timm", tmp_path / "out", Options()).files[0], Path("/models"))
    (tmp_path / "out" / "config.json").write_text("made by jane-doe")
    monkeypatch.setattr(getpass, "getuser", lambda: "jane-doe")
    assert find_private_text(tmp_path / "out")


def test_a_path_that_a_format_writes_ends_the_export_and_leaves_nothing(tiny, tmp_path, monkeypatch):
    module = FORMATS["timm"]
    write = module.write

    def careless(encoder, card, path, options):
        write(encoder, card, path, options)
        (path / "log.txt").write_text(f"written by {Path.cwd()}/x.py")

    monkeypatch.setattr(module, "write", careless)
    with pytest.raises(UserError, match=r"log\.txt has a path of this machine.* Nothing was written"):
        export(tiny[0], tiny[1], "timm", tmp_path / "out", Options())
    assert list(tmp_path.iterdir()) == []


def test_a_signed_export_has_the_digests_of_its_files_under_the_signature(tiny, tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for name, weights in (("medssl", artefact.WEIGHTS), ("timm", "model.safetensors")):
        export(tiny[0], tiny[1], name, tmp_path / name, Options(key=tmp_path / "key.pem", licence="CC-BY-4.0"))
        card = json.loads((tmp_path / name / artefact.CARD).read_text())
        signature.check(card)
        assert card["licence"] == "CC-BY-4.0"
        assert card["export"]["sha256"][weights] == hashlib.sha256((tmp_path / name / weights).read_bytes()).hexdigest()
        with pytest.raises(UserError, match="changed after it was signed"):
            signature.check({**card, "export": {**card["export"], "sha256": {weights: "0" * 64}}})
    artefact.load(tmp_path / "medssl")
    assert PATIENT not in (tmp_path / "medssl" / artefact.CARD).read_text()
