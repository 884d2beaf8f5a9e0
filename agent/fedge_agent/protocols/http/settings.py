# SPDX-License-Identifier: Apache-2.0
"""The configuration of a server that is called: its address, and who we are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from fedge_models.system.settings import Positive


class Hmac(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] hmac``: HMAC-SHA-256 (RFC 2104) over the exact bytes of the body."""

    key_file: Path
    header: str = "X-Signature-256"
    timestamp_header: str = "X-Signature-Timestamp"  # Unix s; signed as "<time stamp>.<body>"; empty: only the body is
    prefix: str = "sha256="
    encoding: Literal["hex", "base64"] = "hex"


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the server is, and who we are there."""

    url: str
    headers: dict[str, Any] = {}
    token_file: Path | None = None  # bearer token
    username: str = ""  # basic authentication, or the login of a session
    password_file: Path | None = None
    ca_file: Path | None = None  # the CA that issued the server's certificate; without: the system's
    certificate: Path | None = None  # ours, PEM; for servers that ask for one
    private_key: Path | None = None
    timeout: Positive = Positive(30)  # to connect, for TLS and for the answer, each: enough for a round trip of 10 s


class Target(Server, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server that receives events."""

    idempotency_header: str = "Idempotency-Key"  # carries the event's key; empty: not sent
    hmac: Hmac | None = None
