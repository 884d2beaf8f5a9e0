# SPDX-License-Identifier: Apache-2.0
"""The reservoirs of one model's machines as bytes, for a restart. What is not as expected is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cbor2
import numpy as np
from fedge_models.errors import WireError
from fedge_models.messages.cbor import decode_cbor

from .reservoir import VALUES, WINDOWS, Held


def encode(machines: Mapping[str, Held]) -> bytes:
    """Encode what reservoirs hold."""
    return cbor2.dumps(
        {name: [list(h.names), h.seen, _bytes(h.values), _bytes(h.scores)] for name, h in machines.items()}
    )


def decode(data: bytes) -> dict[str, Held]:
    """What reservoirs held; without those that cannot be read."""
    try:
        table = decode_cbor(data, "statistics")
    except WireError:
        return {}
    if not isinstance(table, dict):
        return {}
    found = {str(name): _held(entry) for name, entry in table.items()}
    return {name: held for name, held in found.items() if held is not None}


def _held(entry: Any) -> Held | None:
    try:
        names, seen, values, scores = entry
        held = Held(
            tuple(map(str, names)),
            int(seen),
            np.frombuffer(values, "<f4").astype(np.float32).reshape(-1, len(names), VALUES),
            np.frombuffer(scores, "<f4").astype(np.float32),
        )
    except (ValueError, TypeError, OverflowError):
        return None
    fits = len(held.values) == len(held.scores) == min(held.seen, WINDOWS)
    return held if fits and not (np.isinf(held.values).any() or np.isinf(held.scores).any()) else None


def _bytes(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    return values.astype("<f4").tobytes()
