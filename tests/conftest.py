# SPDX-License-Identifier: Apache-2.0
"""Settings and fixtures of all tests: nothing outside of the test run is reached unless a test starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from support.at_end import AtEnd
from support.databases import Disk
from support.examples import ALL
from support.marks import marks_of

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any import of onnxruntime
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for name in ("CI", "BUILD_NUMBER"):  # with one of them pytest shows long differences whole: minutes
    os.environ.pop(name, None)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=ALL)
settings.register_profile("same", settings.get_profile("thorough"), max_examples=ALL // 4)
settings.load_profile("same")  # --hypothesis-profile=default looks elsewhere


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, and put whole programs first: of the pytest processes none should end with a long file."""
    for item in items:
        for mark in marks_of(item.path):
            item.add_marker(mark)
    items.sort(key=lambda item: (item.path.parent.name != "whole", len(item.path.parts)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that can be full, for databases that are opened from now on."""
    return Disk(monkeypatch)


@pytest.fixture
def at_end() -> Iterator[AtEnd]:
    """Closes what is handed to it when the test ends."""
    with ExitStack() as stack:
        yield AtEnd(stack)
