"""Signed cards: Ed25519 (RFC 8032) over the whole card, which has the SHA-256 of the weights in it.

`card["signature"]` has the algorithm, the public key and the signature, the last two in base64. A signature that does not fit says that the
card was changed. Who signed is known only from the public key, which the reader must compare with the one that the signer has published.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.errors import UserError

ALGORITHM = "Ed25519"


def sign(card: Mapping[str, Any], key_file: Path) -> dict[str, Any]:
    """The card with the entry `signature`. `key_file`: an Ed25519 private key in PEM without a password, as
    `openssl genpkey -algorithm ed25519` writes it. Raises UserError where the file is no such key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{key_file} cannot be read as a private key ({type(error).__name__}). {_MAKE_ONE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{key_file} has a key of another kind than Ed25519. {_MAKE_ONE}")
    public, value = key.public_key().public_bytes_raw(), key.sign(_message(card))
    return {**card, "signature": {"algorithm": ALGORITHM, "public_key": _text(public), "value": _text(value)}}


def check(card: Mapping[str, Any]) -> None:
    """Raises UserError where the card has a signature that is not of this card. A card without a signature is as good as its source."""
    signature = card.get("signature")
    if signature is None:
        return
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"]))
        key.verify(base64.b64decode(signature["value"]), _message(card))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        raise UserError(
            "The signature does not fit the card: the card was changed after it was signed. Ask for the encoder again."
        ) from None


_MAKE_ONE = "Make one with: openssl genpkey -algorithm ed25519 -out key.pem"


def _message(card: Mapping[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in card.items() if name != "signature"}, sort_keys=True, separators=(",", ":")).encode()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
