# SPDX-License-Identifier: Apache-2.0
"""Find values in JSON answers by JSON pointers (RFC 6901). Pure."""

from __future__ import annotations

from typing import Any

from fedge_models.errors import ConfigError


def check(pointer: str, where: str) -> None:
    """Raise ConfigError for text that is no JSON pointer."""
    if pointer and not pointer.startswith("/"):
        raise ConfigError(f'{where}: {pointer!r} is no JSON pointer; expected "" (all of it) or "/name/0/name"')


def find(document: Any, pointer: str) -> Any:
    """The value that the pointer points at, or None."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document
