"""A signed card loads, a changed one does not; and a key that is none is refused."""

import json
import subprocess

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from small import BACKBONE

from medssl.encoder import artefact, signature
from medssl.errors import UserError


@pytest.fixture
def key_file(tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tmp_path / "key.pem"


@pytest.fixture
def signed(tmp_path, key_file):
    encoder = artefact.build_encoder(BACKBONE, 1, 16, torch.tensor([0.4]), torch.tensor([0.2]), seed=3)
    artefact.save(encoder, tmp_path, backbone=BACKBONE, channels=1, size=16, card={"licence": "CC-BY-4.0", "facts": {"loss": 1e-7}})
    _, card = artefact.load(tmp_path)
    (tmp_path / artefact.CARD).write_bytes(artefact.as_json(signature.sign(card, key_file)))
    return tmp_path


def test_a_signed_encoder_loads_and_names_its_public_key(signed):
    _, card = artefact.load(signed)
    assert card["signature"]["algorithm"] == "Ed25519"
    assert len(card["signature"]["public_key"]) == 44, "32 bytes in base64"


@pytest.mark.parametrize(
    "change", [{"licence": "none"}, {"facts": {"loss": 2e-7}}, {"signature": {}}, {"signature": "x"}, {"added": 1}], ids=str
)
def test_a_changed_word_of_a_signed_card_is_noticed(signed, change):
    card = json.loads((signed / artefact.CARD).read_text())
    (signed / artefact.CARD).write_text(json.dumps({**card, **change}))
    with pytest.raises(UserError, match="changed after it was signed"):
        artefact.load(signed)


def test_the_signature_of_another_key_does_not_fit(signed, key_file):
    card = json.loads((signed / artefact.CARD).read_text())
    key_file.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    other = signature.sign(card, key_file)["signature"]
    (signed / artefact.CARD).write_text(json.dumps({**card, "signature": {**card["signature"], "public_key": other["public_key"]}}))
    with pytest.raises(UserError, match="changed after it was signed"):
        artefact.load(signed)


def test_a_key_that_is_none_or_of_another_kind_is_refused_with_the_command_that_makes_one(tmp_path):
    (tmp_path / "text.pem").write_text("no key")
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other.pem").write_bytes(other)
    for name in ("text.pem", "other.pem", "missing.pem"):
        with pytest.raises(UserError, match=rf"{name} .*openssl genpkey -algorithm ed25519 -out key.pem"):
            signature.sign({}, tmp_path / name)


def test_the_key_that_the_message_advises_signs(tmp_path):
    try:
        command = "openssl genpkey -algorithm ed25519 -out key.pem"
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs openssl")
    signature.check(signature.sign({"weights_sha256": "0"}, tmp_path / "key.pem"))
