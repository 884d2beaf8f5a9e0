# SPDX-License-Identifier: Apache-2.0
"""Headers that prove who we are: bearer token, basic authentication, HMAC over the body.

Secrets are read from their files at each use, so that one can be renewed without a restart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from fedge_models.errors import UnreachableError
from fedge_models.system.plain_file import read_secret

from .settings import Hmac, Server, Target


def secret(path: Path) -> str:
    """The text of a file without its line end. Raises UnreachableError: the file may be put in place later."""
    try:
        return read_secret(path)
    except (OSError, UnicodeDecodeError) as e:
        raise UnreachableError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from e


def static(target: Server) -> dict[str, str]:
    """The header of a bearer token or of basic authentication (RFC 6750, RFC 7617)."""
    if target.token_file:
        return {"Authorization": f"Bearer {secret(target.token_file)}"}
    if target.username and target.password_file:
        pair = f"{target.username}:{secret(target.password_file)}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def try_secrets(target: Target) -> None:
    """Read every secret of a target once. Raises UnreachableError for one that cannot be used."""
    files = (target.token_file, target.password_file, target.hmac.key_file if target.hmac else None)
    for path in files:
        if path is not None:
            secret(path)


def signed(config: Hmac, body: bytes, now: float) -> dict[str, str]:
    """The headers that carry the signature of a body. `now`: Unix time, s."""
    stamp = str(int(now))
    message = f"{stamp}.".encode() + body if config.timestamp_header else body
    digest = hmac.new(secret(config.key_file).encode(), message, hashlib.sha256).digest()
    text = digest.hex() if config.encoding == "hex" else base64.b64encode(digest).decode()
    headers = {config.header: config.prefix + text}
    return headers | ({config.timestamp_header: stamp} if config.timestamp_header else {})
