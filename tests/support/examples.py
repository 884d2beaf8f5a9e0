# SPDX-License-Identifier: Apache-2.0
"""How many examples a property is tried with: all in `make test-slow` and for mutants, a quarter in quick tests."""

from __future__ import annotations

from hypothesis import settings

ALL = 100  # of a property that states no number, under the profile `thorough` (tests/conftest.py)
LEAST = 10


def examples(number: int) -> int:
    """The number to try now, where a thorough run tries `number`."""
    return min(number, max(LEAST, number * settings().max_examples // ALL))
