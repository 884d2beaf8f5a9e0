# SPDX-License-Identifier: Apache-2.0
"""Quote a value from outside in a message: short, on one line, whatever it is."""

from __future__ import annotations

import reprlib

SHOWN = 60  # characters

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxtuple = 3, 8, 8, 8
_short.maxstring = _short.maxother = _short.maxlong = 2 * SHOWN


def quote(value: object, shown: int = SHOWN) -> str:
    """The beginning of a value as Python writes it. Costs no more than that, however deep or long the value is."""
    try:
        text = repr(value[: 2 * shown]) if isinstance(value, (bytes, str)) else _short.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= shown else f"{text[:shown]}…"
