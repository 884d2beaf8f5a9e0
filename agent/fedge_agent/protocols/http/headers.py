# SPDX-License-Identifier: Apache-2.0
"""What a header may hold: checked in a configuration, and written as bytes for the wire. Pure.

A header is one line of Latin-1 (RFC 9110, 5.5). Python's client refuses any other with an exception that quotes the
value, which may be a key; so no such value gets there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fedge_models.errors import ConfigError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def check(headers: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError, without the value, for a header that cannot be sent as it is written."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r} is no name of a header; expected letters, digits and hyphens")
        if isinstance(value, str) and _CONTROL.search(value):
            raise ConfigError(f"{where}.{name}: its value has a line end or another control character; write one line")
        if isinstance(value, str) and not _is_latin(value):
            raise ConfigError(
                f"{where}.{name}: its value has letters that a header cannot hold; use those of Latin-1 (ISO 8859-1)"
            )


def on_one_line(text: str) -> str:
    """A filled value; a text of an event may hold line ends."""
    return _CONTROL.sub(" ", text)


def on_the_wire(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Headers as bytes: what Latin-1 cannot hold, such as the name of an asset, is sent as UTF-8."""
    return {name: value.encode("latin-1" if _is_latin(value) else "utf-8") for name, value in headers.items()}


def _is_latin(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
