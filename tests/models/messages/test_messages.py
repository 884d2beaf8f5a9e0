# SPDX-License-Identifier: Apache-2.0
"""Update, release, chain of trust, invitation: what is accepted, and each way of being wrong by its name."""

from __future__ import annotations

import tracemalloc
import zlib

import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_models.errors import IdentityError, ReleaseError, SignatureError, WireError
from fedge_models.messages import cbor, cose, quantize
from fedge_models.messages import release as releases
from fedge_models.messages import update as updates
from fedge_models.messages.invitation import Invitation, decode_invitation, encode_invitation
from fedge_models.messages.release import GENESIS, Header, Release
from fedge_models.messages.trust_chain import Anchor, verify_release
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIZES = np.array([6, 2], np.int64)
STEPS = np.array([0.01, 0.02], np.float32)
UPDATE = updates.Update(
    federation="pumps",
    node="gw-1",
    base_version=3,
    base_hash=bytes(32),
    sequence=17,
    samples=400,
    metrics={"loss": 0.25},
    codes=np.array([1, -2, 3, 0, 127, -127, 5, 6], np.int8),
    spread=np.array([0.5, 0.25], np.float32),
)


# --- update -----------------------------------------------------------------------------------------------------


def test_update_round_trip() -> None:
    got = updates.decode_update(updates.encode_update(UPDATE, KEY), KEY.public_key(), SIZES)
    assert (got.codes == UPDATE.codes).all() and (got.spread == UPDATE.spread).all()
    assert cbor.encode(got) == cbor.encode(UPDATE)


def _signed(**changes: object) -> bytes:
    """An update, properly signed by a hostile node, with some fields as it pleases."""
    fields: dict[str, object] = {
        "schema": 1,
        "federation": "pumps",
        "node": "gw-1",
        "base_version": 3,
        "base_hash": bytes(32),
        "sequence": 17,
        "samples": 400,
        "metrics": {"loss": 0.25},
        "vector": quantize.pack(UPDATE.codes),
        "spread": UPDATE.spread.tobytes(),
    }
    return cose.sign(KEY, cbor2.dumps(list({**fields, **changes}.values())), updates.PURPOSE)


def test_the_hostile_builder_builds_a_valid_update_by_default() -> None:
    assert updates.decode_update(_signed(), KEY.public_key(), SIZES).sequence == 17


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"federation": "../etc"},
        {"node": "x" * 65},
        {"base_hash": bytes(31)},
        {"sequence": -1},
        {"sequence": 2**60},
        {"samples": 0},
        {"samples": 2**40},
        {"samples": True},
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"loss": float("inf")}},
        {"metrics": {f"m{i}": 0.0 for i in range(100)}},
        {"metrics": {"n" * 100: 0.0}},
        {"metrics": {"loss": "0.1"}},
        {"vector": quantize.pack(UPDATE.codes[:-1])},
        {"vector": zlib.compress(bytes(9))},
        {"vector": zlib.compress(np.full(8, -128, np.int8).tobytes())},
        {"vector": zlib.compress(bytes(8)) + b"more"},
        {"vector": b"not zlib"},
        {"vector": "text"},
        {"spread": np.array([np.nan, 1], np.float32).tobytes()},
        {"spread": np.array([np.inf, 1], np.float32).tobytes()},
        {"spread": np.array([-1, 1], np.float32).tobytes()},
        {"spread": bytes(4)},
        {"extra": 1},
    ],
    ids=str,
)
def test_update_off_the_schema_is_refused_even_when_signed(changes: dict[str, object]) -> None:
    with pytest.raises(WireError):
        updates.decode_update(_signed(**changes), KEY.public_key(), SIZES)


def test_zip_bomb_is_refused_within_its_cap() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)[: updates.max_update_bytes(8, 2) - 400]  # of 3 MB
    body = _signed(vector=bomb)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="exactly 8 bytes"):
            updates.decode_update(body, KEY.public_key(), SIZES)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_incompressible_update_fits_under_the_cap() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, 100_000).astype(np.int8)
    body = updates.encode_update(replace(UPDATE, codes=codes, spread=np.ones(1, np.float32)), KEY)
    got = updates.decode_update(body, KEY.public_key(), np.array([100_000]))
    assert (got.codes == codes).all()


# --- wire -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0\x74" + b"2013-03-21T20:04:00Z",  # tag 0: date
        b"\xc2\x41\x01",  # tag 2: bignum
        b"\xd8\x23\x62.*",  # tag 35: regular expression
        b"\xd8\x1c\x81\xd8\x1d\x00",  # tags 28, 29: an array that contains itself
        b"\x81" * 100 + b"\x00",  # deep
        b"\x9f\x00\xff",  # indefinite length
        b"\xa2\x00\x00\x00\x01",  # duplicate key
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # claims 2^64 items
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # claims 2^63 bytes
        b"\x00\x00",  # two items
    ],
    ids=lambda d: d[:8].hex(),
)
def test_cbor_outside_the_subset_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        cbor.decode_cbor(data, "test")


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        cbor.decode_cbor(data, "test")
    except WireError:
        return
    assert data


# --- quantize ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-3, 3, width=32), min_size=8, max_size=8))
def test_codes_are_within_half_a_step_or_saturated(values: list[float]) -> None:
    x, steps = np.array(values, np.float32), quantize.expand(STEPS, SIZES)
    back = quantize.dequantize(quantize.quantize(x, steps), steps)
    clipped = np.clip(x, -127 * steps, 127 * steps)
    assert (np.abs(back - clipped) <= 0.5001 * steps).all()


def test_error_feedback_loses_nothing_over_time() -> None:
    rng, steps = np.random.default_rng(1), quantize.expand(STEPS, SIZES)
    residual, sent, meant = np.zeros(8, np.float32), np.zeros(8), np.zeros(8)
    for _ in range(200):
        delta = rng.normal(0, 0.004, 8).astype(np.float32)  # less than half a step: rounding alone would send nothing
        meant += delta
        values = delta + residual
        codes = quantize.quantize(values, steps)
        residual = values - quantize.dequantize(codes, steps)
        sent += quantize.dequantize(codes, steps)
    assert (np.abs(sent - meant) <= 0.51 * steps).all()


def test_spread_is_per_tensor() -> None:
    got = quantize.spread(np.array([1, -2, 3, -4, 5, -6, 0.1, -0.2], np.float32), SIZES, 1.0)
    assert got.tolist() == pytest.approx([6, 0.2])


@pytest.mark.parametrize("n", [1, 2, 6399, 6400, 50_000])
@pytest.mark.parametrize("kind", ["noise", "rising", "few values", "largest between the samples"])
def test_spread_of_many_is_their_quantile(n: int, kind: str) -> None:
    values = np.random.default_rng(n).normal(size=n).astype(np.float32)
    if kind == "rising":
        values.sort()
    if kind == "few values":
        values = np.rint(values)
    if kind == "largest between the samples":
        values[np.arange(n) % quantize.SAMPLED_EVERY != 0] *= 100
    for q in (0.0, 0.5, 0.999, 1.0):
        exact = np.quantile(np.abs(values).astype(np.float64), q)
        np.testing.assert_allclose(quantize.spread(values, np.array([n]), q), [exact], rtol=3e-7)


# --- release and chain of trust ---------------------------------------------------------------------------------

WEIGHTS = np.linspace(-1, 1, 8, dtype=np.float32)
ANCHOR = Anchor(KEY.public_key(), "pumps", bytes(range(32)), SIZES)


def header(version: int, continues: bytes, values: np.ndarray, **changes: object) -> Header:
    made = Header(
        federation="pumps",
        version=version,
        previous=continues,
        graph=ANCHOR.graph,
        weights=releases.weights_hash(values),
        created=1000,
        expires=2000,
        steps=STEPS,
        rule="fedavg",
        figures={"nodes": 3.0},
    )
    return replace(made, **changes)


def first() -> Release:
    return verify_release(releases.encode_full(header(1, GENESIS, WEIGHTS), WEIGHTS, KEY), ANCHOR, None, 1500)


CODES = np.array([1, 2, 3, 4, 5, 6, -7, -8], np.int8)


def difference(head: Release, **changes: object) -> bytes:
    weights = releases.apply_difference(head.weights, CODES, STEPS, SIZES)
    made = header(head.header.version + 1, head.hash, weights, **changes)
    return releases.encode_difference(made, CODES, STEPS, KEY)


def test_full_and_difference_give_the_same_bits_and_the_same_hash() -> None:
    head = first()
    by_difference = verify_release(difference(head), ANCHOR, head, 1500)
    weights = releases.apply_difference(WEIGHTS, CODES, STEPS, SIZES)
    full = releases.encode_full(header(2, head.hash, weights), weights, KEY)
    by_full = verify_release(full, ANCHOR, head, 1500)
    assert by_difference.weights.tobytes() == by_full.weights.tobytes()
    assert by_difference.hash == by_full.hash == releases.header_hash(by_full.header)


def test_newer_full_release_skips_versions() -> None:
    body = releases.encode_full(header(9, bytes(32), WEIGHTS), WEIGHTS, KEY)
    assert verify_release(body, ANCHOR, first(), 1500).header.version == 9


def test_rollback_to_an_old_version_is_refused() -> None:
    head = verify_release(difference(first()), ANCHOR, first(), 1500)
    body = releases.encode_full(header(1, GENESIS, WEIGHTS), WEIGHTS, KEY)
    with pytest.raises(ReleaseError, match="already has version 2"):
        verify_release(body, ANCHOR, head, 1500)


def test_fork_of_the_chain_is_refused() -> None:
    with pytest.raises(ReleaseError, match="does not continue"):
        verify_release(difference(first(), previous=bytes(32)), ANCHOR, first(), 1500)


def test_freeze_on_an_expired_release_is_refused() -> None:
    with pytest.raises(ReleaseError, match="expired"):
        verify_release(difference(first()), ANCHOR, first(), 2000)


def test_mix_of_federations_is_refused() -> None:
    with pytest.raises(ReleaseError, match="expected federation"):
        verify_release(difference(first(), federation="fans"), ANCHOR, first(), 1500)


def test_weights_for_another_graph_are_refused() -> None:
    with pytest.raises(ReleaseError, match="is for model"):
        verify_release(difference(first(), graph=bytes(32)), ANCHOR, first(), 1500)


def test_weights_that_do_not_match_their_hash_are_refused() -> None:
    with pytest.raises(ReleaseError, match="SHA-256"):
        verify_release(difference(first(), weights=bytes(32)), ANCHOR, first(), 1500)


def test_difference_against_a_version_that_is_not_held_is_refused() -> None:
    second = verify_release(difference(first()), ANCHOR, first(), 1500)
    with pytest.raises(ReleaseError, match="difference from the version before"):
        verify_release(difference(second), ANCHOR, first(), 1500)


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = WEIGHTS.copy()
    weights[3] = np.nan
    with pytest.raises(ReleaseError, match="not finite"):
        verify_release(releases.encode_full(header(1, GENESIS, weights), weights, KEY), ANCHOR, None, 1500)


def test_update_presented_as_a_release_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify_release(updates.encode_update(UPDATE, KEY), ANCHOR, None, 1500)


def test_grid_with_a_zero_step_is_refused() -> None:
    body = releases.encode_full(header(1, GENESIS, WEIGHTS, steps=np.array([0, 1], np.float32)), WEIGHTS, KEY)
    with pytest.raises(WireError, match="step of 0"):
        verify_release(body, ANCHOR, None, 1500)


# --- invitation -------------------------------------------------------------------------------------------------

INVITATION = Invitation("https://agg.plant.example:8443", bytes(range(32)), bytes(range(16)), 1_800_000_000, "gw-1")


def test_invitation_round_trip_survives_a_broken_line() -> None:
    text = encode_invitation(INVITATION)
    assert decode_invitation(f"  {text[:40]}\n {text[40:]}\n") == INVITATION


def test_invitation_does_not_show_its_secret() -> None:
    assert INVITATION.secret.hex() not in repr(INVITATION) and str(INVITATION.secret) not in str(INVITATION)


@pytest.mark.parametrize("text", ["", "hello", "fedge-invite:", "fedge-invite:!!!!", "fedge-invite:AAAA"])
def test_damaged_invitation_says_what_to_do(text: str) -> None:
    with pytest.raises(IdentityError, match=r"invite|new one"):
        decode_invitation(text)


def test_invitation_cut_while_copying_is_damaged() -> None:
    with pytest.raises(IdentityError, match="copy the whole line"):
        decode_invitation(encode_invitation(INVITATION)[:-5])


def test_invitation_to_plain_http_is_refused() -> None:
    text = encode_invitation(Invitation("http://agg.example", bytes(32), bytes(16), 1, "n"))
    with pytest.raises(IdentityError):
        decode_invitation(text)
