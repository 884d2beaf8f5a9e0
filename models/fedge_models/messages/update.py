# SPDX-License-Identifier: Apache-2.0
"""The message from a node to the aggregator: what local training changed, in int8 on the release's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..system.structs import known
from . import arrays, cose
from .cbor import Count, Digest, Figures, Message, Name, check_finite, decode, encode
from .quantize import Codes, Floats

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = "fedge update 1"


@known
class Update(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """A difference from the base release that local training led to; never absolute weights."""

    schema: Literal[1] = 1
    federation: Name
    node: Name
    base_version: Count
    base_hash: Digest  # of the base release's header
    sequence: Count  # strictly rising per node and federation, so that no update counts twice
    samples: Annotated[int, Meta(ge=1, le=2**31)]  # trained on; a claim, which the aggregator caps
    metrics: Figures  # on held-back local data
    codes: Codes  # (P,) in steps of the base release's grid
    spread: Floats  # (T,) what 127 steps of each tensor should have spanned


def max_update_bytes(parameters: int, tensors: int) -> int:
    """The longest an honest update can be: codes that do not compress, and the rest."""
    return parameters + parameters // 1000 + 4 * tensors + 4096


def encode_update(update: Update, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign an update."""
    return cose.sign(key, encode(update), PURPOSE)


def decode_update(body: bytes, key: Ed25519PublicKey, sizes: NDArray[np.int64]) -> Update:
    """Verify and parse an update for a model whose tensors have `sizes` (T,).

    Raises SignatureError, or WireError for a wrong length, a value that is not finite or anything off the schema.
    """
    payload = cose.verify(body, key, PURPOSE, max_update_bytes(int(sizes.sum()), len(sizes)))
    update = decode(payload, Update, "update", arrays.decoder(sizes, "update", "spread"))
    check_finite(update.metrics, f"update of {update.node}: a metric")
    return update


def renumber_update(body: bytes, sequence: int, key: Ed25519PrivateKey, sizes: NDArray[np.int64]) -> bytes:
    """The same update under another sequence number, signed again with the key that signed it. Raises like decoding."""
    update = decode_update(body, key.public_key(), sizes)
    return encode_update(msgspec.structs.replace(update, sequence=sequence), key)
