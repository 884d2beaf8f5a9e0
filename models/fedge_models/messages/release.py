"""The message from the aggregator to its nodes: a new version of the model's weights.

A release is a header that says everything about the version (and whose SHA-256 is the release's hash, chained to the
version before), and a body: full float32 weights, or the int8 difference from the version before. Both bodies of one
version carry the same header, and the header carries the SHA-256 of the resulting weights, so whichever way a node
comes, it ends with the same bits. The aggregator's own weights follow the same quantised chain.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import WireError
from ..system.structs import known
from . import cose
from .cbor import Count, Digest, Figures, Message, Name, decode, encode
from .quantize import Codes, Floats, dequantize, expand, inflate, pack, unpack
from .update import decode_steps

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = "fedge release 1"
GENESIS = bytes(32)  # `previous` of version 1


@dataclass(frozen=True)
class Header:
    """Everything about a version but the numbers themselves."""

    federation: str
    version: int  # strictly rising from 1
    previous: bytes  # hash of the version before, GENESIS for version 1
    graph: bytes  # SHA-256 of the ONNX file
    weights: bytes  # SHA-256 of the resulting weights, float32 little-endian
    created: int  # Unix time, s
    expires: int  # Unix time, s: not adopted after this
    steps: Floats  # (T,) the grid for updates against this version
    rule: str  # how the round was averaged, for people
    figures: dict[str, float]  # of the round: nodes, samples, weighted metrics


@dataclass(frozen=True)
class Release:
    """A release whose signature is verified and whose contents are not yet trusted."""

    header: Header
    hash: bytes
    weights: Floats | None  # (P,), or None for a difference
    codes: Codes | None  # (P,) difference from the version before
    steps: Floats | None  # (T,) grid of `codes`


@known
class _Header(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: Literal[1] = 1
    federation: Name
    version: Annotated[int, Meta(ge=1, le=2**53)]
    previous: Digest
    graph: Digest
    weights: Digest
    created: Count
    expires: Count
    steps: bytes
    rule: Annotated[str, Meta(max_length=200)]
    figures: Figures


@known
class _Body(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: Literal[1] = 1
    header: bytes
    kind: Literal["full", "difference"]
    vector: bytes
    steps: bytes


def weights_hash(weights: Floats) -> bytes:
    """SHA-256 of weights (P,) as float32 little-endian."""
    return hashlib.sha256(np.ascontiguousarray(weights, "<f4").data).digest()


def apply_difference(weights: Floats, codes: Codes, steps: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Weights of the next version. One multiplication and one addition per value: the same bits on every machine."""
    return np.add(weights, dequantize(codes, expand(steps, sizes)), dtype=np.float32)


def header_hash(header: Header) -> bytes:
    """The release's hash, which the next version and every update against this one name."""
    return hashlib.sha256(encode_header(header)).digest()


def encode_full(header: Header, weights: Floats, key: Ed25519PrivateKey) -> bytes:
    """The signed bytes of a release that carries all weights (P,)."""
    vector = zlib.compress(weights.astype("<f4").tobytes(), 0)  # stored: 7 % would take longer than all the rest
    return _sign(_Body(header=encode_header(header), kind="full", vector=vector, steps=b""), key)


def encode_difference(header: Header, codes: Codes, steps: Floats, key: Ed25519PrivateKey) -> bytes:
    """The signed bytes of a release that carries the difference from the version before: codes (P,), steps (T,)."""
    body = _Body(
        header=encode_header(header), kind="difference", vector=pack(codes), steps=steps.astype("<f4").tobytes()
    )
    return _sign(body, key)


def max_release_bytes(parameters: int, tensors: int) -> int:
    """No honest release is longer."""
    return 4 * parameters + parameters // 250 + 8 * tensors + 8192


def decode_release(body: bytes, key: Ed25519PublicKey, sizes: NDArray[np.int64]) -> Release:
    """Verify the signature and parse, for a model whose tensors have `sizes` (T,).

    Raises SignatureError or WireError. Whether it may be adopted is `trust_chain.verify_release`'s to say.
    """
    parameters = int(sizes.sum())
    payload = cose.verify(body, key, PURPOSE, max_release_bytes(parameters, len(sizes)))
    wire = decode(payload, _Body, "release")
    header = decode_header(wire.header, len(sizes))
    what = f"release {header.version} of {header.federation}"
    weights = codes = steps = None
    if wire.kind == "full":
        weights = np.frombuffer(inflate(wire.vector, 4 * parameters, what), "<f4").astype(np.float32)
    else:
        codes = unpack(wire.vector, parameters, what)
        steps = decode_steps(wire.steps, len(sizes), f"{what}: steps")
    return Release(header, hashlib.sha256(wire.header).digest(), weights, codes, steps)


def _sign(body: _Body, key: Ed25519PrivateKey) -> bytes:
    return cose.sign(key, encode(body), PURPOSE)


def encode_header(header: Header) -> bytes:
    """The header's bytes, whose SHA-256 is the release's hash."""
    return encode(
        _Header(
            federation=header.federation,
            version=header.version,
            previous=header.previous,
            graph=header.graph,
            weights=header.weights,
            created=header.created,
            expires=header.expires,
            steps=header.steps.astype("<f4").tobytes(),
            rule=header.rule,
            figures=header.figures,
        )
    )


def decode_header(data: bytes, tensors: int) -> Header:
    """Parse a header for a model of so many tensors. Raises WireError."""
    wire = decode(data, _Header, "release header")
    what = f"release {wire.version} of {wire.federation}"
    steps = decode_steps(wire.steps, tensors, f"{what}: grid")
    if not (steps > 0).all():
        raise WireError(f"{what}: grid has a step of 0")
    if not np.isfinite(list(wire.figures.values())).all():
        raise WireError(f"{what}: a figure is not finite")
    return Header(
        federation=wire.federation,
        version=wire.version,
        previous=wire.previous,
        graph=wire.graph,
        weights=wire.weights,
        created=wire.created,
        expires=wire.expires,
        steps=steps,
        rule=wire.rule,
        figures=wire.figures,
    )
