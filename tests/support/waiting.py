# SPDX-License-Identifier: Apache-2.0
"""Wait for what happens, not for seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

# Far more than anything takes, because a machine may be busy. With a mutant, what tests wait for may never come.
LONGEST_S = float(os.environ.get("FEDGE_TEST_WAIT_S", "120"))
STEP_S, LONGEST_STEP_S = 0.01, 0.05  # between two looks: a look costs the program that is looked at, too
PATIENCE = 0.05  # of the time waited so far is the next step

T = TypeVar("T")


def until(happened: Callable[[], T], what: object = "", longest_s: float = LONGEST_S) -> T:
    """Look again and again until `happened()` is true, and return it.

    Raises AssertionError with `what` (if it can be called: with what it returns then) after `longest_s`.
    """
    began = time.monotonic()
    while not (found := happened()):
        waited = time.monotonic() - began
        assert waited < longest_s, f"did not happen: {what() if callable(what) else what}"
        time.sleep(min(LONGEST_STEP_S, max(STEP_S, PATIENCE * waited)))
    return found
