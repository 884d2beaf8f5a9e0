"""Shared by all tests: nothing of the outside world is reached unless a test starts it."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any import of onnxruntime
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
