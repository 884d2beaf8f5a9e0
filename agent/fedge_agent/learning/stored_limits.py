# SPDX-License-Identifier: Apache-2.0
"""The limits of machines as they were made for one model, so that lost samples do not end their alarms. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import numpy as np
from fedge_models.errors import WireError
from fedge_models.messages.cbor import decode_cbor
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from .anchor import Anchor
from .limits import Limit


def made_for(model: Sequence[NDArray[Any]], scale: Scale, recipe: bytes = b"") -> bytes:
    """What a limit depends on besides the samples: a digest of what decides (`model`), of the standardisation
    and of how samples are made (`recipe`)."""
    found = hashlib.sha256()
    for part in (*model, scale.mean, scale.scale, *(scale.conditions or ()), *(scale.bounds or ())):
        found.update(np.ascontiguousarray(part).data.cast("B"))
    found.update(recipe)
    return found.digest()


def encode(made: bytes, limits: Mapping[str, Limit]) -> bytes:
    """The bytes to store; a provisional limit is not worth it."""
    rows = {
        asset: [
            limit.score,
            b"" if limit.usual is None else limit.usual.astype("<f4").tobytes(),
            limit.middle,
            limit.independent,
            limit.runs,
            limit.lifted,
            _row(limit.anchor),
            limit.until_ns,
        ]
        for asset, limit in limits.items()
        if not limit.provisional
    }
    return cbor2.dumps([made, rows])


def decode(data: bytes | None, made: bytes) -> dict[str, Limit]:
    """The stored limits; none when they were made for another model, or cannot be read."""
    try:
        stored, rows = decode_cbor(data or b"\x80", "limits")
        found = {str(asset): _limit(*row) for asset, row in rows.items()}
    except (WireError, ValueError, TypeError, AttributeError):
        return {}
    return found if stored == made else {}


def anchors(data: bytes | None) -> dict[str, Anchor]:
    """The anchors of stored limits, whatever model they were made for."""
    try:
        _, rows = decode_cbor(data or b"\x80", "limits")
        found = {str(asset): _limit(*row).anchor for asset, row in rows.items()}
    except (WireError, ValueError, TypeError, AttributeError):
        return {}
    return {asset: anchor for asset, anchor in found.items() if anchor is not None}


def _row(anchor: Anchor | None) -> list[Any] | None:
    if anchor is None:
        return None
    times, scores = np.array(anchor.times, "<i8").tobytes(), np.array(anchor.scores, "<f4").tobytes()
    return [anchor.score, anchor.since_ns, times, scores]


def _anchor(score: float, since_ns: int, times: bytes, scores: bytes) -> Anchor:
    found = Anchor(
        float(score), int(since_ns), tuple(np.frombuffer(times, "<i8").tolist()),
        tuple(np.frombuffer(scores, "<f4").tolist()),
    )  # fmt: skip
    if not np.isfinite((found.score, *found.scores)).all() or len(found.times) != len(found.scores):
        raise ValueError("an anchor that is not finite")
    return found


def _limit(
    score: float,
    usual: bytes,
    middle: float = 0.0,
    independent: float = 0.0,
    runs: int = 0,
    lifted: float = 1.0,
    anchor: list[Any] | None = None,
    until_ns: int = 0,
) -> Limit:
    """A stored limit; earlier versions stored less of what it comes from."""
    values = np.frombuffer(usual, "<f4").astype(np.float32) if usual else None
    found = Limit(float(score), values, False, float(middle), float(independent), int(runs), max(1.0, float(lifted)))
    found = found._replace(anchor=None if anchor is None else _anchor(*anchor), until_ns=int(until_ns))
    if not np.isfinite((found.score, found.middle, found.independent, found.lifted)).all():
        raise ValueError("a limit that is not finite")
    if found.usual is not None and not np.isfinite(found.usual).all():
        raise ValueError("a usual score that is not finite")
    return found
