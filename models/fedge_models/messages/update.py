"""The message from a node to the aggregator: what local training changed, in int8 on the release's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import WireError
from ..system.structs import known
from . import cose
from .cbor import Count, Digest, Figures, Message, Name, decode, encode
from .quantize import Codes, Floats, pack, unpack

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = "fedge update 1"


@dataclass(frozen=True)
class Update:
    """A local difference against the base release, never absolute weights."""

    federation: str
    node: str
    base_version: int
    base_hash: bytes  # of the base release's header
    sequence: int  # strictly rising per node and federation: replay ends here
    samples: int  # trained on; a claim, capped by the aggregator
    metrics: dict[str, float]  # on held-back local data
    codes: Codes  # (P,)
    spread: Floats  # (T,) what 127 steps of each tensor should have spanned


@known
class _Wire(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: Literal[1] = 1
    federation: Name
    node: Name
    base_version: Count
    base_hash: Digest
    sequence: Count
    samples: Annotated[int, Meta(ge=1, le=2**31)]
    metrics: Figures
    vector: bytes
    spread: bytes


def max_update_bytes(parameters: int, tensors: int) -> int:
    """No honest update is longer (int8 that does not compress, plus the rest)."""
    return parameters + parameters // 1000 + 4 * tensors + 4096


def encode_update(update: Update, key: Ed25519PrivateKey) -> bytes:
    """The signed bytes of an update."""
    wire = _Wire(
        federation=update.federation,
        node=update.node,
        base_version=update.base_version,
        base_hash=update.base_hash,
        sequence=update.sequence,
        samples=update.samples,
        metrics=update.metrics,
        vector=pack(update.codes),
        spread=update.spread.astype("<f4").tobytes(),
    )
    return cose.sign(key, encode(wire), PURPOSE)


def decode_update(body: bytes, key: Ed25519PublicKey, sizes: NDArray[np.int64]) -> Update:
    """Verify and parse an update for a model whose tensors have `sizes` (T,).

    Raises SignatureError, or WireError for a wrong length, a value that is not finite or anything off the schema.
    """
    parameters = int(sizes.sum())
    payload = cose.verify(body, key, PURPOSE, max_update_bytes(parameters, len(sizes)))
    wire = decode(payload, _Wire, "update")
    if not np.isfinite(list(wire.metrics.values())).all():
        raise WireError(f"update of {wire.node}: a metric is not finite: {wire.metrics}")
    return Update(
        federation=wire.federation,
        node=wire.node,
        base_version=wire.base_version,
        base_hash=wire.base_hash,
        sequence=wire.sequence,
        samples=wire.samples,
        metrics=wire.metrics,
        codes=unpack(wire.vector, parameters, f"update of {wire.node}"),
        spread=decode_steps(wire.spread, len(sizes), f"update of {wire.node}: spread"),
    )


def decode_steps(data: bytes, count: int, what: str) -> Floats:
    """`count` finite numbers ≥ 0 (steps or spreads), float32 little-endian. Raises WireError."""
    if len(data) != 4 * count:
        raise WireError(f"{what}: {len(data)} bytes, expected {4 * count} ({count} tensors)")
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(values).all() or (values < 0).any():
        raise WireError(f"{what}: expected finite values of 0 or more")
    return values
