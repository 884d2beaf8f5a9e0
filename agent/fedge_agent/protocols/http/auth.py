# SPDX-License-Identifier: Apache-2.0
"""Headers that prove who we are: bearer token, basic authentication, HMAC over the body.

Secrets are read from their files at each use, so that one can be renewed without a restart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

from fedge_models.errors import UnreachableError
from fedge_models.system.secret_file import read_secret, read_token

from . import headers
from .settings import Hmac, Server, Target


def secret(path: Path, read: Callable[[Path], str] = read_secret) -> str:
    """The text of a file without its line end. Raises UnreachableError: the file may be put in place later."""
    try:
        return read(path)
    except OSError as e:
        raise UnreachableError(f"{path}: cannot be read: {e.strerror}") from e


def static(target: Server) -> dict[str, str]:
    """The header of a bearer token or of basic authentication (RFC 6750, RFC 7617)."""
    if target.token_file:
        return {"Authorization": f"Bearer {secret(target.token_file, read_token)}"}
    if target.username and target.password_file:
        pair = f"{target.username}:{secret(target.password_file)}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def try_secrets(target: Target) -> None:
    """Read every secret of a target once. Raises UnreachableError for one that cannot be used."""
    if target.token_file:
        secret(target.token_file, read_token)
    for path in (target.password_file, target.hmac.key_file if target.hmac else None):
        if path is not None:
            secret(path)


def check_headers(target: Target, where: str) -> None:
    """Raise ConfigError for headers that cannot be sent as they are written."""
    headers.check(target.headers, f"{where}.headers")
    names = {"idempotency_header": target.idempotency_header}
    if target.hmac:
        names |= {"hmac.header": target.hmac.header, "hmac.timestamp_header": target.hmac.timestamp_header}
        headers.check({target.hmac.header: target.hmac.prefix}, f"{where}.hmac.prefix")
    for key, name in names.items():
        headers.check({name: ""} if name else {}, f"{where}.{key}")


def signed(config: Hmac, body: bytes, now: float) -> dict[str, str]:
    """The headers that carry the signature of a body. `now`: Unix time, s."""
    stamp = str(int(now))
    message = f"{stamp}.".encode() + body if config.timestamp_header else body
    digest = hmac.new(secret(config.key_file).encode(), message, hashlib.sha256).digest()
    text = digest.hex() if config.encoding == "hex" else base64.b64encode(digest).decode()
    own = {config.header: config.prefix + text}
    return own | ({config.timestamp_header: stamp} if config.timestamp_header else {})
