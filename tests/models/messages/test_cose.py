# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1: a published vector, then everything that must not verify."""

from __future__ import annotations

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fedge_models.errors import SignatureError, WireError
from fedge_models.messages import cose
from hypothesis import given
from hypothesis import strategies as st

# RFC 8032 section 7.1 test 1 key; the signature is the COSE working group's example eddsa-sig-01.
KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
)
EXAMPLE_PAYLOAD = b"This is the content."
EXAMPLE_SIGNATURE = bytes.fromhex(
    "7142fd2ff96d56db85bee905a76ba1d0b7321a95c8c4d3607c5781932b7afb87"
    "11497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d"
)


def test_published_vector() -> None:
    protected = bytes.fromhex("a201270300")  # {alg: EdDSA, content type: 0}
    assert KEY.sign(cose.to_be_signed(protected, EXAMPLE_PAYLOAD, b"")) == EXAMPLE_SIGNATURE


def test_headers_that_are_not_ours_are_refused() -> None:
    message = b"\xd2" + cbor2.dumps([bytes.fromhex("a201270300"), {4: b"11"}, EXAMPLE_PAYLOAD, EXAMPLE_SIGNATURE])
    with pytest.raises(WireError, match="headers"):
        cose.verify(message, KEY.public_key(), "", 1000)


def test_purpose_is_signed() -> None:
    with pytest.raises(SignatureError):
        cose.verify(cose.sign(KEY, b"x", "fedge update 1"), KEY.public_key(), "fedge release 1", 1000)


def test_another_key_is_refused() -> None:
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(SignatureError):
        cose.verify(cose.sign(KEY, b"x", "p"), other, "p", 1000)


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    message = bytearray(cose.sign(KEY, b"some payload", "p"))
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((SignatureError, WireError)):
        cose.verify(bytes(message), KEY.public_key(), "p", 1000)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for message in (noise, b"\xd2" + noise, b"\xd2\x84\x43\xa1\x01\x27" + noise):
        with pytest.raises((SignatureError, WireError)):
            cose.verify(message, KEY.public_key(), "p", 1000)


@pytest.mark.parametrize(
    "parts",
    [
        [b"\xa1\x01\x26", {}, b"x", bytes(64)],  # alg ES256
        [b"", {1: -8}, b"x", bytes(64)],  # alg only in the unprotected header
        [b"\xa1\x01\x27", {}, None, bytes(64)],  # detached payload
        [b"\xa1\x01\x27", {}, b"x"],
        [b"\xa1\x01\x27", {}, b"x", "text"],
    ],
)
def test_other_shapes_are_refused(parts: list[object]) -> None:
    with pytest.raises(WireError):
        cose.verify(b"\xd2" + cbor2.dumps(parts), KEY.public_key(), "p", 1000)


def test_longer_than_the_cap_is_refused_before_it_is_parsed() -> None:
    message = cose.sign(KEY, bytes(1000), "p")
    with pytest.raises(WireError, match="at most 999"):
        cose.verify(message, KEY.public_key(), "p", 999)


def test_a_signature_adds_at_most_96_bytes() -> None:
    public: Ed25519PublicKey = KEY.public_key()
    for size in (0, 100, 70_000):
        message = cose.sign(KEY, bytes(size), "p")
        assert cose.verify(message, public, "p", size + 96) == bytes(size)
