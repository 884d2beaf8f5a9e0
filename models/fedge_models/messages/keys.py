# SPDX-License-Identifier: Apache-2.0
"""Ed25519 private keys in files of mode 0600: made where they are used, never sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IdentityError
from ..system import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def private_key(path: Path, remedy: str) -> Ed25519PrivateKey:
    """Read the key in `path`, made at first use. Raises IdentityError ending in `remedy` when the file is damaged."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files.write(path, made, mode=0o600)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, OSError) as e:
        raise IdentityError(f"{path}: cannot be read as a private key: {e}; {remedy}") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: expected an Ed25519 private key; {remedy}")
    return key
