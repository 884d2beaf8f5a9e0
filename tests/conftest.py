"""Shared by all tests: nothing of the outside world is reached unless a test starts it."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from support.databases import Disk

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any import of onnxruntime
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
settings.register_profile("same", derandomize=True, deadline=None)  # --hypothesis-profile=default looks elsewhere
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole programs first: of tests on two processes, none should have a long file left when the other is done."""
    items.sort(key=lambda item: (item.path.parent.name != "whole", len(item.path.parts)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that can be full, for databases that are opened from now on."""
    return Disk(monkeypatch)
