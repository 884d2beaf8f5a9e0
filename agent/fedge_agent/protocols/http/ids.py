# SPDX-License-Identifier: Apache-2.0
"""Tell an id from what systems put in its place when there is none. Pure."""

from __future__ import annotations

import re
from typing import Any

_NONE = re.compile(
    r"(?i)[\W_0]*|-\d+|\W*(null|nil|none|undefined|unknown|nan|n/?a|empty|missing|false|true|error|tbd|dbnull|nothing"
    r"|unassigned|leer|keine?)\W*"
)


def is_id(value: Any) -> bool:
    """Whether a value may be an id: neither 0, -1 nor empty, no word such as "null", no GUID of zeros."""
    if isinstance(value, str):
        return _NONE.fullmatch(value.strip()) is None
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
