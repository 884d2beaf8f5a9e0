# SPDX-License-Identifier: Apache-2.0
"""The message from the aggregator to its nodes: a new version of the model's weights.

What is sent is a header and a vector. The header describes the version; its SHA-256 is the release's hash, and names
the version before. The vector is either all weights (float32) or the int8 difference from the version before.
Both forms of one version carry the same header, and the header carries the SHA-256 of the resulting weights: whichever
form a node receives, it holds the same bits afterwards. The aggregator's own weights follow the same differences.

`Header` and `Release` are the only two types the rest of the project uses. Whether a release is adopted is decided in
`trust_chain.py`.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import ReleaseError, WireError
from ..system.structs import known
from . import arrays, cose
from .cbor import Count, Digest, Figures, Message, Name, check_finite, decode, encode
from .quantize import Codes, Floats, dequantize, expand, inflate, pack, unpack

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = "fedge release 1"
DRIFT_SHARE = "drift_share"  # figure: the most of its own drift that a site may take back under the rule in force
GENESIS = bytes(32)  # `previous` of version 1


@known
class Header(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """Everything about a version except its weights."""

    schema: Literal[1] = 1
    federation: Name
    version: Annotated[int, Meta(ge=1, le=2**53)]  # strictly rising from 1
    previous: Digest  # hash of the version before, GENESIS for version 1
    graph: Digest  # SHA-256 of the ONNX file
    weights: Digest  # SHA-256 of the resulting weights, float32 little-endian
    created: Count  # Unix time, s
    expires: Count  # Unix time, s: not adopted from then on
    steps: Floats  # (T,) the grid for updates against this version
    rule: Annotated[str, Meta(max_length=200)]  # how the round was averaged, for people
    figures: Figures  # of the round: nodes, samples, weighted metrics

    def __str__(self) -> str:
        return f"release {self.version} of {self.federation}"


@dataclass(frozen=True, eq=False)
class Release:
    """A version of the model with all its weights, verified or made here."""

    header: Header
    hash: bytes  # SHA-256 of the header as it was received
    weights: Floats  # (P,)


@known
class SignedPart(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """The bytes that are signed and sent: a header, and the vector that leads to its weights."""

    schema: Literal[1] = 1
    header: bytes
    kind: Literal["full", "difference"]
    vector: bytes  # full: float32 (P,) as zlib data; difference: codes (P,)
    steps: bytes  # difference: (T,) float32, the grid of its codes; full: empty

    def weights(self, sizes: NDArray[np.int64], before: Floats | None, what: str) -> Floats:
        """Return the weights (P,) that this leads to, from those of the version before where it is a difference.

        Raises WireError for a vector that does not fit the model, ReleaseError for a difference without `before`.
        """
        if self.kind == "full":
            return arrays.to_floats(inflate(self.vector, 4 * int(sizes.sum()), what))
        codes = unpack(self.vector, int(sizes.sum()), what)
        steps = arrays.to_steps(self.steps, len(sizes), f"{what}: steps")
        if before is None:
            raise ReleaseError(f"{what}: is a difference from the version before, which is not held here")
        return apply_difference(before, codes, steps, sizes)


def weights_hash(weights: Floats) -> bytes:
    """SHA-256 of weights (P,) as float32 little-endian."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").data).digest()


def apply_difference(weights: Floats, codes: Codes, steps: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Weights of the next version. One multiplication and one addition per value: the same bits on every machine."""
    return np.add(weights, dequantize(codes, expand(steps, sizes)), dtype=np.float32)


def header_hash(header: Header) -> bytes:
    """The release's hash, which the next version and every update against this one name."""
    return hashlib.sha256(encode(header)).digest()


def encode_full(header: Header, weights: Floats, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign a release that carries all weights (P,)."""
    vector = zlib.compress(
        weights.astype("<f4").tobytes(), 0
    )  # uncompressed: saving 7 % would take longer than all the rest
    return _sign(SignedPart(header=encode(header), kind="full", vector=vector, steps=b""), key)


def encode_difference(header: Header, codes: Codes, steps: Floats, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign a release that carries the difference from the version before: codes (P,), steps (T,)."""
    grid = arrays.to_bytes(steps)
    return _sign(SignedPart(header=encode(header), kind="difference", vector=pack(codes), steps=grid), key)


def max_release_bytes(parameters: int, tensors: int) -> int:
    """The longest an honest release can be."""
    return 4 * parameters + parameters // 250 + 8 * tensors + 8192


def open_release(message: bytes, key: Ed25519PublicKey, sizes: NDArray[np.int64]) -> tuple[SignedPart, Header]:
    """Verify the signature of a release for a model whose tensors have `sizes` (T,), and parse its header.

    Raises SignatureError or WireError.
    """
    payload = cose.verify(message, key, PURPOSE, max_release_bytes(int(sizes.sum()), len(sizes)))
    part = decode(payload, SignedPart, "release")
    return part, decode_header(part.header, sizes)


def decode_release(
    message: bytes, key: Ed25519PublicKey, sizes: NDArray[np.int64], before: Release | None = None
) -> Release:
    """Verify the signature and return the release; `before`: the version that a difference starts from.

    Raises SignatureError, WireError or ReleaseError. Nothing else is checked: a node uses `verify_release`.
    """
    part, header = open_release(message, key, sizes)
    weights = part.weights(sizes, before.weights if before else None, str(header))
    return Release(header, hashlib.sha256(part.header).digest(), weights)


def decode_header(data: bytes, sizes: NDArray[np.int64]) -> Header:
    """Parse a header for a model whose tensors have `sizes` (T,). Raises WireError."""
    header = decode(data, Header, "release header", arrays.decoder(sizes, "release header", "grid"))
    if not (header.steps > 0).all():
        raise WireError(f"{header}: grid has a step of 0")
    check_finite(header.figures, f"{header}: a figure")
    return header


def _sign(part: SignedPart, key: Ed25519PrivateKey) -> bytes:
    return cose.sign(key, encode(part), PURPOSE)
