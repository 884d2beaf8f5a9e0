# SPDX-License-Identifier: Apache-2.0
"""What a cell says of the quality of a value: words of the configuration, or status codes of OPC UA. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...types import Quality
from .form import Form

_HEX = re.compile(r"0x[0-9a-f]{8}")
_CODES = 1 << 30, 1 << 32  # decimal codes of OPC UA that are not good
_SEVERITY = (Quality.GOOD, Quality.UNCERTAIN)  # by the two highest bits; the others are bad


def code(cell: str) -> Quality | None:
    """The quality of a status code of OPC UA (0x80000000, 2147483648); None: it is none. 0 alone says nothing."""
    text = cell.strip().casefold()
    if _HEX.fullmatch(text):
        number = int(text, 16)
    elif text.isascii() and text.isdigit() and len(text) <= 10 and _CODES[0] <= int(text) < _CODES[1]:
        number = int(text)
    else:
        return None
    severity = number >> 30
    return _SEVERITY[severity] if severity < len(_SEVERITY) else Quality.BAD


def reader(form: Form) -> Callable[[str], Quality | None]:
    """Reads a cell; None: its word is neither good nor uncertain."""
    words = dict.fromkeys((q.strip().casefold() for q in form.uncertain), Quality.UNCERTAIN)
    words |= dict.fromkeys((q.strip().casefold() for q in form.good), Quality.GOOD)

    def read(cell: str) -> Quality | None:
        found = words.get(cell.casefold())
        return code(cell) if found is None else found

    return read
