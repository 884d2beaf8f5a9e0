# SPDX-License-Identifier: Apache-2.0
"""What a test opens is closed when the test ends, the newest first, also when it fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TypeVar

T = TypeVar("T")
ENDINGS = ("close", "stop", "end")


class AtEnd:
    """Called with what was opened; returns it, and closes, stops or ends it when the test is over."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, opened: T) -> T:
        self._stack.callback(next(getattr(opened, name) for name in ENDINGS if hasattr(opened, name)))
        return opened
