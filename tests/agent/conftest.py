# SPDX-License-Identifier: Apache-2.0
"""What tests of the agent start from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.at_end import AtEnd


@pytest.fixture
def at_end() -> Iterator[AtEnd]:
    """Closes what is handed to it when the test ends."""
    with ExitStack() as stack:
        yield AtEnd(stack)
