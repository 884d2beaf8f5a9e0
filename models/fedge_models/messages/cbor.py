"""Bytes from outside to typed messages: a strict subset of CBOR (RFC 8949) and fixed schemas.

Promises that decoding is bounded by the bytes received, that no tag is interpreted (no dates, no bignums, no shared
references: nothing on the wire names a type), and that whatever does not follow the schema to the letter is a
WireError. Leaves signatures to `cose.py`.
"""

from __future__ import annotations

import io
from typing import Annotated, Any, NoReturn, TypeVar

import cbor2
import msgspec
from msgspec import Meta

from ..errors import WireError
from ..system.structs import known

MAX_DEPTH = 4

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]  # of a node or a federation
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]  # SHA-256
Count = Annotated[int, Meta(ge=0, le=2**53)]
Figures = Annotated[dict[Annotated[str, Meta(max_length=32)], float], Meta(max_length=32)]

T = TypeVar("T")


@known
class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A CBOR array of fixed length and order; the first field of every message is its schema number."""


def encode(message: Message) -> bytes:
    """The message as CBOR."""
    return cbor2.dumps(list(msgspec.structs.astuple(message)))


def decode(data: bytes, type_: type[T], what: str) -> T:
    """Parse `data` as exactly one `type_`. Raises WireError saying what was wrong."""
    try:
        return msgspec.convert(decode_cbor(data, what), type_, builtin_types=(bytes,))
    except msgspec.ValidationError as e:
        raise WireError(f"{what}: {e}") from e


def decode_cbor(data: bytes, what: str) -> Any:
    """One CBOR item, shallow and without tags; trailing bytes are refused. Raises WireError."""
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


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not allowed")


# Every tag that cbor2 would interpret by itself.
_REFUSE_TAGS = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag
)
