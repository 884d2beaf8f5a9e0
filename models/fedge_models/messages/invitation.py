# SPDX-License-Identifier: Apache-2.0
"""The invitation: one line to copy from the aggregator's terminal to the gateway's, valid once for one node."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import cbor2
import msgspec
from msgspec import Meta

from ..errors import IdentityError, WireError
from ..system.structs import known
from .cbor import Count, Digest, Name, decode_cbor

PREFIX = "fedge-invite:"
SECRET_BYTES = 16
MAX_CHARS = 1000


@known
class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address, pinned CA, one-time secret, expiry and name of the node that may join."""

    url: Annotated[str, Meta(pattern=r"^https://[^\s/?#@]+$", max_length=300)] = msgspec.field(name="1")
    ca: Digest = msgspec.field(name="2")  # SHA-256 of the CA certificate's DER
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)] = msgspec.field(name="3")
    expires: Count = msgspec.field(name="4")  # Unix time, s
    node: Name = msgspec.field(name="5")

    def __repr__(self) -> str:
        return f"Invitation(url={self.url!r}, node={self.node!r}, expires={self.expires})"  # never the secret


def encode_invitation(invitation: Invitation) -> str:
    """Encode an invitation as one line of text."""
    values = dict(enumerate(msgspec.structs.astuple(invitation), 1))
    return PREFIX + base64.urlsafe_b64encode(cbor2.dumps(values)).decode().rstrip("=")


def decode_invitation(text: str) -> Invitation:
    """Decode an invitation as it was pasted. Raises IdentityError that says what to do."""
    text = "".join(text.split())  # terminals and mails break long lines
    if not text.startswith(PREFIX) or len(text) > MAX_CHARS:
        raise IdentityError(f"not an invitation: expected the line starting with {PREFIX!r} that `invite` printed")
    data = text[len(PREFIX) :]
    try:
        raw = base64.b64decode(data + "=" * (-len(data) % 4), altchars=b"-_", validate=True)
        values = decode_cbor(raw, "invitation")
        table = {str(k): v for k, v in values.items()} if isinstance(values, dict) else values
        return msgspec.convert(table, Invitation, builtin_types=(bytes,))
    except (binascii.Error, WireError, msgspec.ValidationError) as e:
        raise IdentityError(f"this invitation is damaged ({e}): copy the whole line again, or ask for a new one") from e
