# SPDX-License-Identifier: Apache-2.0
"""A test that fails says so at once, in CI too."""

from __future__ import annotations

import time

import pytest


def numbers(step: int) -> list[str]:
    return [f"{i * step:09d}" for i in range(2000)]


@pytest.mark.parametrize("text", [False, True])
def test_long_values_that_differ_are_shown_within_seconds(text: bool) -> None:
    left, right = ("\n".join(numbers(step)) if text else numbers(step) for step in (7_919, 104_729))
    began = time.process_time()
    with pytest.raises(AssertionError) as failed:
        assert left == right
    assert time.process_time() - began < 5 and len(str(failed.value)) < 10_000
