# SPDX-License-Identifier: Apache-2.0
"""What tests of models start from."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from support.graphs import RNG


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seed the shared generator for each test, whichever test ran before."""
    RNG.bit_generator.state = np.random.default_rng(zlib.crc32(request.node.name.encode())).bit_generator.state
