"""Whether a release may become the head of this node's chain: signature, federation, graph, version, expiry, weights.

Pure: no I/O, the clock is passed in. The order of the checks is the order above, each with its own words. Persisting
the new head and serving it are the updater's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ReleaseError
from .quantize import Floats
from .release import GENESIS, Header, Release, apply_difference, decode_release, weights_hash

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Head:
    """The newest release this node trusts."""

    header: Header
    hash: bytes
    weights: Floats  # (P,)


@dataclass(frozen=True)
class Anchor:
    """What the node knows for certain: pinned when it joined, or read from the model file it verified."""

    key: Ed25519PublicKey  # of the aggregator's releases
    federation: str
    graph: bytes  # SHA-256 of the ONNX file
    sizes: NDArray[np.int64]  # (T,)


def verify_release(body: bytes, anchor: Anchor, head: Head | None, now: float) -> Head:
    """The new head, or ReleaseError, SignatureError, WireError; `now` is Unix time in seconds."""
    release = decode_release(body, anchor.key, anchor.sizes)
    _check_header(release, anchor, head, now)
    weights = _weights(release, anchor, head)
    what = _name(release.header)
    if weights_hash(weights) != release.header.weights:
        raise ReleaseError(f"{what}: weights do not have the SHA-256 that its header states")
    if not np.isfinite(weights).all():
        raise ReleaseError(f"{what}: a weight is not finite")
    return Head(release.header, release.hash, weights)


def _check_header(release: Release, anchor: Anchor, head: Head | None, now: float) -> None:
    header, what = release.header, _name(release.header)
    have = head.header.version if head else 0
    if header.federation != anchor.federation:
        raise ReleaseError(f"{what}: expected federation {anchor.federation!r}")
    if header.graph != anchor.graph:
        raise ReleaseError(f"{what}: is for model {header.graph.hex()[:12]}…, this node has {anchor.graph.hex()[:12]}…")
    if header.version <= have:
        raise ReleaseError(f"{what}: this node already has version {have}; versions only rise")
    if header.version == have + 1 and header.previous != (head.hash if head else GENESIS):
        raise ReleaseError(f"{what}: does not continue the version {have} that this node holds")
    if now >= header.expires:
        raise ReleaseError(f"{what}: expired {now - header.expires:.0f} s ago; check this machine's clock")


def _weights(release: Release, anchor: Anchor, head: Head | None) -> Floats:
    if release.weights is not None:
        return release.weights
    if head is None or release.header.version != head.header.version + 1:
        have = head.header.version if head else 0
        raise ReleaseError(f"{_name(release.header)}: is a difference from the version before, this node has {have}")
    assert release.codes is not None and release.steps is not None
    return apply_difference(head.weights, release.codes, release.steps, anchor.sizes)


def _name(header: Header) -> str:
    return f"release {header.version} of {header.federation}"
