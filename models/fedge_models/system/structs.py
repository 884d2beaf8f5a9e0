# SPDX-License-Identifier: Apache-2.0
"""Structs that threads decode, made known to msgspec where they are defined.

msgspec works out how to decode a Struct at its first use and publishes the result before it is complete: two threads
that decode a class for the first time together crash the interpreter (0.22; seen with two federations in one agent).
While a module is imported there is one thread, so a class that is `known` is complete before anyone can decode it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

KNOWN: set[type] = set()

S = TypeVar("S", bound=type[msgspec.Struct])


def known(struct: S) -> S:
    """Class decorator: what msgspec has to know of the struct, and of those in its fields, it learns now."""
    msgspec.json.Decoder(struct)
    KNOWN.add(struct)
    return struct
