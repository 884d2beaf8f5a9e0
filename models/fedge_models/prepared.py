"""Message types, prepared for threads while their module is imported.

msgspec works out what a Struct holds when it first meets it, and two threads that meet one at the same moment crash the
process (0.22: a segmentation fault in 8 of 60 tries). Every type that a thread may be the first to decode is prepared.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def prepared(type_: type[T]) -> type[T]:
    """Class decorator of a Struct that is decoded."""
    msgspec.json.Decoder(type_)
    return type_
