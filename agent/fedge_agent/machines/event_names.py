# SPDX-License-Identifier: Apache-2.0
"""The last part of an event's key. Pure, but for the random letters of a start.

Readings of a stored past can be read twice: after a restored backup, a lost position, a file that was copied again. So
the key of such an event follows from what was read: the source time of the first window above the limit, and a digest
of its values. The same rows give the same key, and other rows another one, also where the times begin anew each day.
Readings of now are read once: their events are counted, beside letters that each start of the agent has of its own.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timezone

import numpy as np

from ..types import AlertState, Window

LETTERS = "bcdfghjkmnpqrstvwxz23456789"  # none that looks like another, and no words
LENGTH = 5
_FOLLOWS = re.compile(rf"\d{{8}}T\d{{6}}(?:\.\d+)?Z-[{LETTERS}]{{{LENGTH}}}$")
DATED_NS = 946_684_800 * 10**9  # the year 2000; a clock that shows less was never set, and shows the same time again


def new_run() -> str:
    """Five random letters and digits. Each start of an agent has others, because a count alone repeats when the state
    folder was lost, restored from a backup or copied; the MES would take a new event for one that it knows."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def of_window(window: Window) -> str:
    """The name of an event that begins with this window; empty where reading it again need not give it again.

    Of a clock that was never set, the file must have a name that tells it from those of other days.
    """
    if window.origin is None or (window.end_ns < DATED_NS and not window.origin):
        return ""
    found = hashlib.sha256(f"{window.origin}\0{window.end_ns}\0".encode())
    kind = np.float32 if window.values.dtype == np.float64 else window.values.dtype  # as names were always made
    found.update(np.ascontiguousarray(window.values, kind).tobytes())
    number, letters = int.from_bytes(found.digest()[:8], "big"), ""
    for _ in range(LENGTH):
        number, letter = divmod(number, len(LETTERS))
        letters += LETTERS[letter]
    return f"{_time(window.end_ns)}-{letters}"


def follows_from_rows(name: str) -> bool:
    """Whether it is a name of `of_window`, and no count."""
    return _FOLLOWS.match(name) is not None


def of_state(state: AlertState) -> str:
    """The name of the last event; one that a version up to 0.1 opened has no run."""
    return state.name or (f"{state.run}-{state.number}" if state.run else str(state.number))


def _time(time_ns: int) -> str:
    """A time as short as it can be without losing a nanosecond."""
    seconds, rest = divmod(time_ns, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y%m%dT%H%M%S}{fraction}Z"
