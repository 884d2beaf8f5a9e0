# SPDX-License-Identifier: Apache-2.0
"""Parse tags, which name a node and perhaps a value inside it. Pure.

``ns=2;s=Pump1.Current``, ``nsu=urn:plc;i=7``: a node id. ``/Objects/2:Pump1/2:Current``: a browse path from the root in
OPC UA's own notation (Part 4, A.2), where a name without a prefix is of namespace 0. ``Pump1/Current``: a path from
Objects, where a name without a prefix is of any namespace and may hold ``*``, ``?`` and ``[…]``. ``&`` escapes the
next character of a path. Behind the last ``#``: a field of a structure or an element of an array, as
in ``#Axis.Rms``, ``#[3]``, ``#Peaks[0].Height``; a node id that contains a ``#`` needs another at its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fedge_models.errors import ConfigError

_NODE = re.compile(r"(ns=\d+;|nsu=[^;]*;)?[isgb]=")
_SPACE = re.compile(r"(\d+):(.+)", re.S)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"(?:[^.\[\]]+|\[\d+\])(?:\.[^.\[\]]+|\[\d+\])*")
_WILD = re.compile(r"(?<!&)[*?\[]")
_SLASH = re.compile(r"(?<!&)/")
EXPECTED = '"ns=2;s=Pump1.Current", "/Objects/2:Pump1/2:Current" or "Pump1/Current"'


class Element(NamedTuple):
    """One name of a path."""

    space: int | None  # None: any namespace
    name: str
    wild: bool = False

    def fits(self, space: int, name: str) -> bool:
        """Whether the element matches a browse name."""
        if self.space is not None and space != self.space:
            return False
        return fnmatchcase(name, self.name) if self.wild else name == self.name


class Tag(NamedTuple):
    """A parsed tag: `node` or `path`, and the `field` inside the value."""

    text: str
    node: str = ""
    path: tuple[Element, ...] = ()
    exact: bool = False  # the path is from the root, each name with its namespace
    field: tuple[str | int, ...] = ()


def parse(text: str) -> Tag:
    """Parse a tag. Raises ConfigError for text that is neither a node id nor a path."""
    where, mark, inside = text.rpartition("#")
    where, field = (where, _field(text, inside)) if mark else (text, ())
    if _NODE.match(where):
        return Tag(text, node=where, field=field)
    exact = where.startswith("/")
    names = _split(where[1:] if exact else where)
    if not where or "" in names or "=" in names[0]:
        raise ConfigError(f"tag {text!r} is neither a node id nor a browse path; expected e.g. {EXPECTED}")
    if exact and any(_WILD.search(n) for n in names):
        raise ConfigError(
            f'tag {text!r}: a pattern must not begin with "/"; it begins below Objects, as in "Pump*/Current"'
        )
    return Tag(text, path=tuple(_element(n, exact) for n in names), exact=exact, field=field)


def dig(value: Any, field: Sequence[str | int]) -> Any:
    """Find a value inside a structure or array. Raises LookupError that lists what there is instead."""
    for step in field:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                count = f"has {len(value)} elements" if isinstance(value, list) else "is not an array"
                raise LookupError(f"no element [{step}]: it {count}")
            value = value[step]
        elif not hasattr(value, step):
            has = [name for name in getattr(value, "__dataclass_fields__", {}) if name != "Encoding"]
            raise LookupError(f"no field {step!r}: it has {', '.join(has) or 'no fields'}")
        else:
            value = getattr(value, step)
    return value


def path_text(elements: Sequence[tuple[int, str]]) -> str:
    """Write a path from the root, of (namespace, name), as `parse` reads it."""
    return "".join(f"/{space}:{_escape(name)}" if space else f"/{_escape(name)}" for space, name in elements)


def _field(text: str, inside: str) -> tuple[str | int, ...]:
    if inside and not _FIELD.fullmatch(inside):
        raise ConfigError(f"tag {text!r}: {inside!r} behind the # is not a field; expected e.g. #Axis.Rms or #[3]")
    return tuple(int(index) if index else name for name, index in _STEP.findall(inside))


def _split(path: str) -> list[str]:
    """Split a path at each "/" without "&" before it."""
    return _SLASH.split(path)


def _element(text: str, exact: bool) -> Element:
    match = _SPACE.fullmatch(text)
    space, name = (int(match[1]), match[2]) if match else (0 if exact else None, text)
    if not exact and _WILD.search(name):
        return Element(space, re.sub(r"&(.)", r"[\1]", name), wild=True)  # fnmatch's own way to escape
    return Element(space, re.sub(r"&(.)", r"\1", name))


def _escape(name: str) -> str:
    return re.sub(r"([&/.<>:#!])", r"&\1", name)
