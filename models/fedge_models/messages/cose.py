# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1 (RFC 9052 section 4.2) with Ed25519 (EdDSA, RFC 9053 section 2.2) over exact bytes.

A purpose string goes into the external additional data, so that a signature made for one kind of message never
verifies as another. Verification works on the bytes received; nothing is serialised again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cbor2

from ..errors import SignatureError, WireError
from .cbor import decode_cbor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_TAG_SIGN1 = b"\xd2"  # CBOR tag 18, COSE_Sign1
_PROTECTED = bytes.fromhex("a10127")  # {1: -8}: alg EdDSA


def sign(key: Ed25519PrivateKey, payload: bytes, purpose: str) -> bytes:
    """Sign `payload` for `purpose`; return a tagged COSE_Sign1 message that carries it."""
    signature = key.sign(to_be_signed(_PROTECTED, payload, purpose.encode()))
    return _TAG_SIGN1 + cbor2.dumps([_PROTECTED, {}, payload, signature])


def verify(message: bytes, key: Ed25519PublicKey, purpose: str, max_bytes: int) -> bytes:
    """Return the payload of a message that `key` signed for `purpose`.

    Raises WireError when the message is too long or no COSE_Sign1 with Ed25519, SignatureError when the signature is
    wrong.
    """
    from cryptography.exceptions import InvalidSignature

    payload, signature = _open(message, purpose, max_bytes)
    try:
        key.verify(signature, to_be_signed(_PROTECTED, payload, purpose.encode()))
    except InvalidSignature as e:
        raise SignatureError(f"{purpose}: signature does not verify with the expected key") from e
    return payload


def _open(message: bytes, what: str, max_bytes: int) -> tuple[bytes, bytes]:
    if len(message) > max_bytes:
        raise WireError(f"{what}: {len(message)} bytes, expected at most {max_bytes}")
    if message[:1] != _TAG_SIGN1:
        raise WireError(f"{what}: not a tagged COSE_Sign1 message")
    parts = decode_cbor(message[1:], what)
    if not isinstance(parts, list) or len(parts) != 4:
        raise WireError(f"{what}: COSE_Sign1 is an array of four")
    protected, unprotected, payload, signature = parts
    if protected != _PROTECTED or unprotected != {}:
        raise WireError(f"{what}: headers are not exactly {{alg: EdDSA}} and {{}}")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise WireError(f"{what}: payload and signature are byte strings")
    return payload, signature


def to_be_signed(protected: bytes, payload: bytes, purpose: bytes) -> bytes:
    """Encode the Sig_structure of RFC 9052 section 4.4 over an encoded protected header."""
    return cbor2.dumps(["Signature1", protected, purpose, payload])
