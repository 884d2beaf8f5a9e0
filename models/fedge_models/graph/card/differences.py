# SPDX-License-Identifier: Apache-2.0
"""What differs between the card of a file and another that is given for it, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...system.quoting import quote
from .spec import Card

NAMED = 6  # keys that are listed
SHOWN = 60  # characters of a value
MADE = ("constants", "inputs", "output")  # intake writes them on the card of a file


def differences(before: Card, after: Card) -> str:
    """The keys that differ, with both values: "derive.p was 'a * b', is 'a + b'"; empty where none does.

    What intake wrote on the file's card, and the other leaves open, is no difference.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    if after.scaling is None:
        old.pop("scaling"), new.pop("scaling")
    keys = [key for key in (*old, *(k for k in new if k not in old)) if old.get(key) != new.get(key)]
    text = [f"{key} was {_shown(old, key)}, is {_shown(new, key)}" for key in keys[:NAMED]]
    return "; ".join([*text, *([f"and {len(keys) - NAMED} more keys"] if len(keys) > NAMED else [])])


def _shown(values: dict[str, Any], key: str) -> str:
    return quote(values[key], SHOWN) if key in values else "absent"


def _leaves(card: Card) -> Iterator[tuple[str, Any]]:
    """Each key with its value; those of channels and targets by name."""
    for key, value in msgspec.to_builtins(card).items():
        if key in ("channels", "targets"):
            yield key, tuple(of["name"] for of in value)
            yield from _inner(key, {of["name"]: of for of in value})
        elif key == "derive":
            yield from _inner(
                key, {n: {"formula": of, "input": True} if isinstance(of, str) else of for n, of in value.items()}
            )
        elif key not in MADE:
            yield from _inner(key, value)


def _inner(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield key, value
        return
    for name, of in value.items():
        if of not in (None, ""):
            yield from _inner(f"{key}.{name}", of)
