# SPDX-License-Identifier: Apache-2.0
"""Placeholders in texts that users write: ``{name}``, ``{name.entry}`` of a table, ``{name:s}`` as text. Pure.

A text that is one placeholder takes the value with its type; ``{score:s}``, or a placeholder inside a longer text, is
written as text. An entry that its table does not have is empty. With `doubled`, "{{" and "}}" stand for single braces;
bodies of requests, which often hold JSON, are filled without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint

_FIELD = r"\{(\w+)(?:\.([\w-]+))?(:s)?\}"
_PLAIN, _DOUBLED = re.compile(_FIELD), re.compile(r"\{\{|\}\}|" + _FIELD)


class Placeholder(NamedTuple):
    """One placeholder of a text."""

    name: str
    entry: str | None
    as_text: bool
    source: str  # as it is written, braces included


def as_text(value: Any) -> str:
    """A value inside a text: numbers with six digits, tables as JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def substitute(
    text: str, look: Callable[[Placeholder], Any], write: Callable[[Any], str] = as_text, doubled: bool = False
) -> Any:
    """The text with each placeholder replaced by what `look` returns for it."""
    pattern = _DOUBLED if doubled else _PLAIN
    whole = pattern.fullmatch(text)
    if whole and whole[1]:
        value = look(_placeholder(whole))
        return write(value) if whole[3] else value
    return pattern.sub(lambda m: write(look(_placeholder(m))) if m[1] else m[0][0], text)


def fill(template: Any, known: Mapping[str, Any]) -> Any:
    """Texts, lists and tables of texts with their placeholders filled. Raises KeyError for a name that is not known."""
    if isinstance(template, dict):
        return {key: fill(value, known) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, known) for value in template]
    return substitute(template, lambda p: look_up(p, known)) if isinstance(template, str) else template


def look_up(placeholder: Placeholder, known: Mapping[str, Any]) -> Any:
    """The value a placeholder stands for."""
    value = known[placeholder.name]
    return value if placeholder.entry is None else value.get(placeholder.entry, "")


def check(template: Any, allowed: Collection[str], where: str, tables: Collection[str] = ()) -> None:
    """Raise ConfigError for a placeholder whose name is not allowed, or whose entry is not of one of `tables`."""
    if isinstance(template, (dict, list)):
        for value in template.values() if isinstance(template, dict) else template:
            check(value, allowed, where, tables)
    elif isinstance(template, str):
        for match in _PLAIN.finditer(template):
            _check_one(_placeholder(match), template, allowed, where, tables)


def _check_one(
    placeholder: Placeholder, template: str, allowed: Collection[str], where: str, tables: Collection[str]
) -> None:
    name, entry = placeholder.name, placeholder.entry
    if name in allowed and (entry is None or name in tables):
        return
    got = f"{name}.{entry}" if entry else name
    near = hint(name, allowed, "{{{}}}")
    raise ConfigError(f"{where}: template {template!r} has the unknown field {{{got}}}; {near}")


def _placeholder(match: re.Match[str]) -> Placeholder:
    return Placeholder(match[1], match[2], bool(match[3]), match[0])
