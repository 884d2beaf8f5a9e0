"""Deciding: an ONNX Runtime session with the weights it was made with, never changed afterwards.

A new release makes a new `Serving` while the old one serves; swapping is one assignment. Weights go in as initializers
of the new session (`SessionOptions.add_initializer` on the unchanged model bytes); the OrtValues live as long as it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from fedge_models.card import Card
from fedge_models.errors import ModelError
from fedge_models.losses import row_errors

from .standardise import Scale
from .types import Array


class Serving:
    """Everything that decides: session, standardisation, threshold. Immutable; safe to read from any thread."""

    def __init__(self, session: Session, card: Card, release: int, scale: Scale, threshold: float) -> None:
        self.session, self.card, self.release, self.scale, self.threshold = session, card, release, scale, threshold
        self._normal = card.normal_index

    def decide(self, features: Array) -> tuple[float, str]:
        """(score, label) of one feature vector or raw window, not standardised."""
        x = self.scale(features)[None]
        y = self.session.run(x)
        if self.card.task == "anomaly":
            score = float(row_errors(y, x)[0])
            return score, "anomaly" if score > self.threshold else "normal"
        logits = y[0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return 1.0 - float(p[self._normal]), self.card.labels[int(p.argmax())]


class Session:
    """An ONNX Runtime session of the model file with given weights."""

    def __init__(self, model: bytes, weights: dict[str, Array]) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on it would phone home
        import onnxruntime as ort  # noqa: PLC0415

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # faster up to about a million parameters
        options.log_severity_level = 3
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in weights.items()}
        for name, value in self._values.items():
            options.add_initializer(name, value)
        wanted = [p for p in ("CUDAExecutionProvider",) if p in ort.get_available_providers()]
        try:
            self._session = ort.InferenceSession(model, options, providers=[*wanted, "CPUExecutionProvider"])
        except Exception as e:  # onnxruntime's own exceptions have no common base
            raise ModelError(f"the model cannot be served: {str(e).splitlines()[0]}") from e
        self._input = self._session.get_inputs()[0]
        self.provider: str = self._session.get_providers()[0]  # what it really runs on

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self._input.shape[1:])

    def run(self, x: Array) -> Array:
        """Output for x (batch, *input_shape)."""
        y: Any = self._session.run(None, {self._input.name: x})
        return y[0]
