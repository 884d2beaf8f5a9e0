# SPDX-License-Identifier: Apache-2.0
"""Decide whether a release may be adopted: signature, federation, graph, version, expiry, weights, in this order.

Pure: no I/O, and the clock is passed in. Storing the release and serving it are the gateway's part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ReleaseError
from .release import GENESIS, Header, Release, SignedPart, open_release, weights_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Anchor:
    """What the node knows for certain: pinned when it joined, or read from the model file it verified."""

    key: Ed25519PublicKey  # of the aggregator's releases
    federation: str
    graph: bytes  # SHA-256 of the ONNX file
    sizes: NDArray[np.int64]  # (T,)


def verify_release(message: bytes, anchor: Anchor, held: Release | None, now: float) -> Release:
    """Return the release that follows `held`, the newest one this node trusts; `now` is Unix time in seconds.

    Raises ReleaseError, SignatureError or WireError.
    """
    part, header = open_release(message, anchor.key, anchor.sizes)
    _check_header(header, anchor, held, now)
    weights = part.weights(anchor.sizes, _start(part, header, held), str(header))
    if weights_hash(weights) != header.weights:
        raise ReleaseError(f"{header}: weights do not have the SHA-256 that its header states")
    if not np.isfinite(weights).all():
        raise ReleaseError(f"{header}: a weight is not finite")
    return Release(header, hashlib.sha256(part.header).digest(), weights)


def _check_header(header: Header, anchor: Anchor, held: Release | None, now: float) -> None:
    have = held.header.version if held else 0
    if header.federation != anchor.federation:
        raise ReleaseError(f"{header}: expected federation {anchor.federation!r}")
    if header.graph != anchor.graph:
        raise ReleaseError(
            f"{header}: is for model {header.graph.hex()[:12]}…, this node has {anchor.graph.hex()[:12]}…"
        )
    if header.version <= have:
        raise ReleaseError(f"{header}: this node already has version {have}; versions only rise")
    if header.version == have + 1 and header.previous != (held.hash if held else GENESIS):
        raise ReleaseError(f"{header}: does not continue the version {have} that this node holds")
    if now >= header.expires:
        raise ReleaseError(f"{header}: expired {now - header.expires:.0f} s ago; check this machine's clock")


def _start(part: SignedPart, header: Header, held: Release | None) -> NDArray[np.float32] | None:
    """The weights that a difference starts from. Raises ReleaseError when this node does not hold them."""
    if part.kind == "full":
        return None
    if held is None or header.version != held.header.version + 1:
        have = held.header.version if held else 0
        raise ReleaseError(f"{header}: is a difference from the version before, this node has {have}")
    return held.weights
