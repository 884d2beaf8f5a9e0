"""Who we are at a server: bearer token, basic, HMAC over the body.

Secrets are read from their files at each use, so that one can be renewed without a restart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from fedge_models.errors import UnreachableError

from .settings import Hmac, Server


def secret(path: Path) -> str:
    """A file's text without the line's end. Raises UnreachableError: it may be put in place."""
    try:
        return path.read_text().strip()
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


def signed(config: Hmac, body: bytes, now: float) -> dict[str, str]:
    """The signature's headers. `now`: Unix time, s."""
    stamp = str(int(now))
    message = f"{stamp}.".encode() + body if config.timestamp_header else body
    digest = hmac.new(secret(config.key_file).encode(), message, hashlib.sha256).digest()
    text = digest.hex() if config.encoding == "hex" else base64.b64encode(digest).decode()
    return {config.header: config.prefix + text} | ({config.timestamp_header: stamp} if config.timestamp_header else {})
