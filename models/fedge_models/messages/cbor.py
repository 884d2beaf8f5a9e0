# SPDX-License-Identifier: Apache-2.0
"""Decode bytes from outside into typed messages: a strict subset of CBOR (RFC 8949) and fixed schemas.

Decoding is bounded by the bytes received. No tag is interpreted (no dates, no big numbers, no shared references), so
nothing on the wire names a type. Whatever does not follow its schema exactly is a WireError. Signatures are checked in
`cose.py`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

import cbor2
import msgspec
import numpy as np
from msgspec import Meta

from ..errors import WireError
from ..system.structs import known
from .arrays import Decode, to_bytes

MAX_DEPTH = 4

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]  # of a node or a federation
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]  # SHA-256
Count = Annotated[int, Meta(ge=0, le=2**53)]
Figures = Annotated[dict[Annotated[str, Meta(max_length=32)], float], Meta(max_length=32)]

T = TypeVar("T")


@known
class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """A CBOR array of fixed length and order; the first field of every message is its schema number.

    Two messages are compared by their encoded bytes: `==` on a message that holds arrays has no single answer.
    """


def encode(message: Message) -> bytes:
    """Encode a message as CBOR, its arrays as byte strings."""
    fields = msgspec.structs.astuple(message)
    return cbor2.dumps([to_bytes(f) if isinstance(f, np.ndarray) else f for f in fields])


def decode(data: bytes, type_: type[T], what: str, arrays: Decode | None = None) -> T:
    """Parse `data` as exactly one `type_`; `arrays` decodes its array fields. Raises WireError."""
    try:
        return msgspec.convert(decode_cbor(data, what), type_, builtin_types=(bytes,), dec_hook=arrays)
    except msgspec.ValidationError as e:
        raise WireError(f"{what}: {e}") from e


def decode_cbor(data: bytes, what: str) -> Any:
    """Decode one shallow CBOR item without tags. Raises WireError, also for bytes after its end."""
    stream = io.BytesIO(data)
    try:
        item = cbor2.CBORDecoder(
            stream,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSE_TAGS,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except (cbor2.CBORError, ValueError, OverflowError, MemoryError) as e:
        raise WireError(f"{what}: not the expected CBOR: {e}") from e
    if stream.tell() != len(data):
        raise WireError(f"{what}: {len(data) - stream.tell()} bytes after the end of the message")
    return item


def check_finite(figures: Mapping[str, float], what: str) -> None:
    """Raise WireError when a figure, called `what` in the error, is NaN or infinite."""
    if not all(map(math.isfinite, figures.values())):
        raise WireError(f"{what} is not finite: {dict(figures)}")


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not allowed")


# Every tag that cbor2 would interpret by itself.
_REFUSE_TAGS = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag
)
